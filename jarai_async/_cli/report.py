"""The progress and results of a batch: for the progress line, the summary and the exit code."""

from collections import Counter
from collections.abc import Collection
from typing import Final

from jarai_async._api.models import Production, Status
from jarai_async._events import Event, Finished, OutcomeState

_STATUSES: Final[tuple[str, ...]] = (  # in the order of the progress line
    Status.QUEUED,
    Status.PRODUCING,
    Status.AWAITING_APPROVAL,
    Status.DISTRIBUTING,
    Status.PUBLISHED,
)
_ALWAYS_SHOWN: Final = (OutcomeState.PUBLISHED, OutcomeState.FAILED, OutcomeState.REJECTED)


class BatchReport:
    """Counts the events of a batch of `total` requests. `problems` has a line for each that went wrong."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.problems: list[str] = []
        self._outcomes: Counter[OutcomeState] = Counter()
        self._running: dict[str, Production] = {}  # by reference
        self._with_missing_files = 0
        self._not_sent = 0  # requests that ended before they were sent
        self._submitted: set[str] = set()  # references, of this process or an earlier one
        self._production_ids: set[str] = set()

    def add(self, event: Event) -> None:
        """Count one event."""
        if event.production is not None:
            self._production_ids.add(event.production.id)
            self._running[event.reference] = event.production
            self._submitted.add(event.reference)
        if isinstance(event, Finished):
            outcome = event.outcome
            self._running.pop(event.reference, None)
            if outcome.state is OutcomeState.REJECTED and not outcome.request_count:
                self._not_sent += 1
            else:
                self._outcomes[outcome.state] += 1
                if outcome.state in (OutcomeState.REJECTED, OutcomeState.UNCERTAIN):
                    self._submitted.add(event.reference)
            if not outcome.ok:
                self._with_missing_files += outcome.state is OutcomeState.PUBLISHED
                self.problems.append(str(outcome))

    @property
    def finished(self) -> int:
        """The number of requests that have an outcome."""
        return self._outcomes.total() + self._not_sent

    @property
    def ok(self) -> bool:
        """Whether every production was published and all its files were downloaded."""
        return self._outcomes[OutcomeState.PUBLISHED] == self.total and not self._with_missing_files

    def progress(self) -> str:
        """Summarise in one line how many are not submitted yet, the others by status, and how many failed."""
        statuses: Counter[str] = Counter(production.status for production in self._running.values())
        counts = {"to submit": self.total - len(self._submitted) - self._not_sent}
        counts |= {status: statuses.pop(status, 0) for status in _STATUSES} | dict(statuses)
        counts["not published"] = len(self.problems) - self._with_missing_files
        counts["with files missing"] = self._with_missing_files
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count > 0)

    def summary(self, *, interrupted: bool, created: Collection[str] = ()) -> str:
        """Summarise in one line how the batch ended.

        "Lost" counts accepted productions that have no outcome although the batch has ended. It also counts
        those of `created`, the IDs of all productions on a simulator, that no event has mentioned.
        """
        lost = len(set(created) - self._production_ids) + (0 if interrupted else len(self._running))
        others = [state for state in OutcomeState if state not in _ALWAYS_SHOWN and self._outcomes[state]]
        counts = [f"{self._outcomes[state]} {state.replace('_', ' ')}" for state in (*_ALWAYS_SHOWN, *others)]
        if self._with_missing_files:
            counts.append(f"{self._with_missing_files} with files missing")
        submitted = len(self._submitted)
        if interrupted:
            counts.append(f"{len(self._running)} still running")
        if interrupted or self._not_sent:
            counts.append(f"{self.total - submitted} not submitted")
        return f"{submitted} submitted, {self.finished} finished: {', '.join(counts)}, {lost} lost"
