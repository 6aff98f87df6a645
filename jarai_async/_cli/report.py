"""The progress and results of a batch: for the progress bar, the summary and the exit code."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from jarai_async._api.models import Production, Status
from jarai_async._cli.durations import describe_duration
from jarai_async._events import Event, Finished, Outcome, OutcomeState
from jarai_async._journal.entries import Intent
from jarai_async._printable import printable

_STATUSES: Final[Mapping[str, str]] = {  # in the order of the progress bar, each with its short name there
    Status.QUEUED: "queued",
    Status.PRODUCING: "producing",
    Status.AWAITING_APPROVAL: "to approve",
    Status.DISTRIBUTING: "distributing",
    Status.PUBLISHED: "downloading",
}
_ALWAYS_SHOWN: Final = (OutcomeState.PUBLISHED, OutcomeState.FAILED, OutcomeState.REJECTED)
_MAX_KINDS: Final = 20  # in the summary
_MAX_REFERENCES: Final = 3  # of one kind


class BatchReport:
    """Counts the events of a batch of `total` requests.

    `begun` has the journal's entries of those that were submitted before. Each counts as it stands there
    until its first event.
    """

    def __init__(self, total: int, begun: Iterable[Intent] = ()) -> None:
        self.total = total
        self._ended_before: dict[str, OutcomeState] = {}  # by reference
        self._outcomes: Counter[OutcomeState] = Counter()
        self._kinds: dict[
            tuple[str, str], list[tuple[str, str]]
        ] = {}  # reference and reason, by state and code
        self._running: dict[str, Production] = {}  # by reference
        self._with_missing_files = 0
        self._not_sent = 0  # requests that ended before they were sent
        self._submitted: set[str] = set()  # references, of this process or an earlier one
        self._submitted_before = 0
        self._production_ids: set[str] = set()
        for intent in begun:
            self._add_begun(intent)
        self._submitted_before = self.submitted

    def _add_begun(self, intent: Intent) -> None:
        if intent.outcome_state is not None:
            state = self._ended_before[intent.reference] = OutcomeState(intent.outcome_state)
            self._outcomes[state] += 1
            return
        self._submitted.add(intent.reference)
        if intent.production is not None:
            self._running[intent.reference] = intent.production

    def add(self, event: Event) -> None:
        """Count one event."""
        if (before := self._ended_before.pop(event.reference, None)) is not None:
            self._outcomes[before] -= 1
        if event.production is not None:
            self._production_ids.add(event.production.id)
            self._running[event.reference] = event.production
            self._submitted.add(event.reference)
        if isinstance(event, Finished):
            outcome = event.outcome
            self._running.pop(event.reference, None)
            reason = _reason(outcome)
            code = (outcome.error.code if outcome.error else None) or reason
            self._kinds.setdefault((_words(outcome.state), code), []).append((event.reference, reason))
            if outcome.state is OutcomeState.REJECTED and not outcome.request_count:
                self._not_sent += 1
            else:
                self._outcomes[outcome.state] += 1
                if outcome.state in (OutcomeState.REJECTED, OutcomeState.UNCERTAIN):
                    self._submitted.add(event.reference)
            self._with_missing_files += outcome.state is OutcomeState.PUBLISHED and not outcome.ok

    @property
    def finished(self) -> int:
        """The number of requests that have an outcome."""
        return self._outcomes.total() + self._not_sent

    @property
    def ok(self) -> bool:
        """Whether every production was published and all its files were downloaded."""
        published = self._outcomes[OutcomeState.PUBLISHED]
        return published == self.total and not (self._with_missing_files or self._ended_before)

    @property
    def may_retry(self) -> bool:
        """Whether some failed or were rejected: `jarai retry` lets them be submitted again."""
        return bool(self._outcomes[OutcomeState.FAILED] or self._outcomes[OutcomeState.REJECTED])

    @property
    def submitted(self) -> int:
        """The number of requests that were submitted, by this process or an earlier one."""
        return len(self._submitted) + len(self._ended_before)

    @property
    def to_submit(self) -> int:
        """The number of requests that were not submitted yet, and have not ended without that."""
        return self.total - self.submitted - self._not_sent

    @property
    def outcomes(self) -> dict[str, int]:
        """The number of requests in each state."""
        return {str(state): self._outcomes[state] for state in OutcomeState if self._outcomes[state]}

    def progress(self) -> str:
        """Summarise in a few words how many are not submitted yet, the others by status, and what failed."""
        statuses: Counter[str] = Counter(production.status for production in self._running.values())
        counts = {"to submit": self.to_submit}
        counts |= {name: statuses.pop(status, 0) for status, name in _STATUSES.items()} | dict(statuses)
        counts |= {
            _words(state): self._outcomes[state]
            for state in OutcomeState
            if state is not OutcomeState.PUBLISHED
        }
        counts["not sent"] = self._not_sent
        counts["with files missing"] = self._with_missing_files
        return printable(", ".join(f"{count} {what}" for what, count in counts.items() if count > 0))

    def kinds(self) -> Iterator[str]:
        """Summarise in one line for each state and reason how many ended so, and name the first of them."""
        by_count = sorted(self._kinds.items(), key=lambda kind: -len(kind[1]))
        for (state, code), ended in by_count[:_MAX_KINDS]:
            line = f"{len(ended):>6} {state}"
            if code:
                (_, reason), reasons = ended[0], {reason for _, reason in ended}
                example = reason.removesuffix(f" ({code})")
                line += f": {reason if len(reasons) == 1 else f'{code}, such as {example}'}"
                names, more = [name for name, _ in ended[:_MAX_REFERENCES]], len(ended) - _MAX_REFERENCES
                line += f": {', '.join(names)}{f' and {more} more' if more > 0 else ''}"
            yield line
        if others := by_count[_MAX_KINDS:]:
            yield f"{sum(len(ended) for _, ended in others):>6} ended in other ways"

    def summary(self, *, interrupted: bool, created: Collection[str] = ()) -> str:
        """Summarise in one line how the batch ended.

        "Lost" counts accepted productions that have no outcome although the batch has ended. It also counts
        those of `created`, the IDs of all productions on a simulator, that no event has mentioned.
        """
        lost = len(set(created) - self._production_ids) + (0 if interrupted else len(self._running))
        others = [state for state in OutcomeState if state not in _ALWAYS_SHOWN and self._outcomes[state]]
        counts = [f"{self._outcomes[state]} {_words(state)}" for state in (*_ALWAYS_SHOWN, *others)]
        if self._with_missing_files:
            counts.append(f"{self._with_missing_files} with files missing")
        if interrupted:
            counts.append(f"{len(self._running)} still running")
        if interrupted or self._not_sent:
            counts.append(f"{self.total - self.submitted} not submitted")
        before, now = self._submitted_before, self.submitted - self._submitted_before
        submitted = f"{self.submitted} submitted{f' ({now} of them now)' if before else ''}"
        return f"{submitted}, {self.finished} finished: {', '.join(counts)}, {lost} lost"


def describe_cost(seconds: float, requests: Mapping[str, int]) -> str:
    """Say how long a batch took, and how many API requests of each kind."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in requests.items() if count)
    return (
        f"took {describe_duration(seconds)} and {sum(requests.values()):,} API requests ({kinds or 'none'})"
    )


def failure(outcome: Outcome) -> str:
    """Return a line about a request that did not end well."""
    if outcome.state is OutcomeState.FAILED:  # without the ID of the production, which would fill the line
        return printable(f"{outcome.reference} failed: {_reason(outcome)}")
    return str(outcome)


def _reason(outcome: Outcome) -> str:
    """Return the reason, without what differs between requests that ended in the same way."""
    error = outcome.error
    if outcome.state is OutcomeState.UNCERTAIN:  # the error names the request, its time and the commands
        return "the response to the submit was lost, see `jarai resolve`"
    if error is None:
        return ""
    reason, production_id = error.message.rstrip("."), outcome.production.id if outcome.production else ""
    reason = reason.removeprefix(f"production {production_id} failed: ")
    for name in filter(None, (production_id, repr(outcome.reference))):
        reason = reason.replace(name, "...")
    return f"{reason} ({error.code})" if error.code else reason


def _words(state: OutcomeState) -> str:
    return state.replace("_", " ")
