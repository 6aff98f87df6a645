"""What a report shows of one request, taken from its entry in the journal. Pure. Times are Unix seconds."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final

from attrs import evolve, frozen

from jarai_async._api.models import Production, Status
from jarai_async._errors import JaraiError
from jarai_async._events import (
    Downloaded,
    Event,
    Finished,
    Outcome,
    OutcomeState,
    StatusChanged,
    Submitted,
)
from jarai_async._journal.reader import JournalEntry
from jarai_async._urls import without_queries

NOT_SUBMITTED: Final = "not_submitted"
FILES_MISSING: Final = "files_missing"
COLLECTING: Final = "collecting"  # in place of Published, from then until the files are there
_WITHOUT_PHASE: Final = (
    OutcomeState.FAILED,
    OutcomeState.CANCELLED,
)  # nothing happens between status and end


@frozen
class Phase:
    """The time in one status, or COLLECTING; `end` is None where the journal does not know one."""

    status: str
    start: float
    end: float | None


@frozen
class Change:
    """A change of status, which happened after `after` and was seen at `seen`."""

    after: float
    seen: float


@frozen
class End:
    """An end of a request, which may have several: one that was retried ends again.

    `requests` counts those that were sent for it, by the program that saw the end, and by later ones that
    only downloaded its files again.
    """

    at: float
    state: str
    requests: int


@frozen
class SavedPath:
    """A downloaded file; `size` is in bytes."""

    path: Path
    type: str
    size: int


@frozen(kw_only=True)
class Row:
    """One request.

    - `state`: as `state_of` returns it. `outcome`: the state of its outcome, if it has one.
    - `submitted_at`, `ended_at`: of its present production.
    - `production_ids`: all productions that are known to have been created for it, the oldest first.
    - `start`: the first time that is known of it, also of an earlier production.
    - `requests`: None if no end of it is known.
    - `is_final`: whether the next run returns its outcome, and sends nothing.
    """

    reference: str
    topic: str
    account_id: str
    project_type: str | None
    production_id: str | None
    production_ids: tuple[str, ...]
    status: str | None
    state: str
    outcome: OutcomeState | None
    is_final: bool
    sent_at: float | None
    submitted_at: float | None
    ended_at: float | None
    phases: tuple[Phase, ...]
    changes: tuple[Change, ...]
    ends: tuple[End, ...]
    files: tuple[SavedPath, ...]
    error: JaraiError | None

    @property
    def start(self) -> float | None:
        return min(self.times(), default=None)

    @property
    def duration(self) -> float | None:
        """Seconds from the acceptance of its present production to its end."""
        if self.submitted_at is None or self.ended_at is None:
            return None
        return max(0.0, self.ended_at - self.submitted_at)

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def requests(self) -> int | None:
        return sum(end.requests for end in self.ends) if self.ends else None

    @property
    def reason(self) -> str:
        """The message of its error, without signatures in URLs and its ID; "" without an error."""
        message = "" if self.error is None else without_queries(self.error.message)
        return message.removeprefix(f"production {self.production_id} failed: ")

    @property
    def code(self) -> str:
        """JARAI's code of its error, or else the name of the error's class; "" without an error."""
        return "" if self.error is None else self.error.code or type(self.error).__name__

    @property
    def correlation_id(self) -> str:
        """What to quote to JARAI support; "" where it is not known."""
        return "" if self.error is None else self.error.correlation_id or ""

    def times(self) -> list[float]:
        """Return the times of all that is known of it."""
        times = [time for time in (self.sent_at, self.submitted_at, self.ended_at) if time is not None]
        times += [end.at for end in self.ends] + [phase.start for phase in self.phases]
        return times + [change.seen for change in self.changes]


def row_of(entry: JournalEntry) -> Row:
    """Return what a report shows of an entry. Raises JournalError if an event cannot be decoded."""
    events = entry.events
    outcomes = [event.outcome for event in events if isinstance(event, Finished)]
    production = entry.production
    return Row(
        reference=entry.reference,
        topic=entry.request.topic,
        account_id=entry.request.account_id,
        project_type=entry.request.project_type,
        production_id=None if production is None else production.id,
        production_ids=entry.production_ids,
        status=None if production is None else str(production.status),
        state=state_of(entry),
        outcome=entry.state,
        is_final=entry.is_final,
        sent_at=_seconds(entry.sent_at),
        submitted_at=_seconds(entry.submitted_at),
        ended_at=_ended_at(entry, outcomes),
        phases=tuple(_phases(events)),
        changes=tuple(_changes(events)),
        ends=tuple(_ends(outcomes)),
        files=_files(events, None if production is None else production.id),
        error=entry.error,
    )


def state_of(entry: JournalEntry) -> str:
    """Return where a request stands: its outcome, or else the status of its production, or what comes before.

    One that was published is FILES_MISSING while it is not final.
    """
    if entry.state is not None:
        is_missing = entry.state is OutcomeState.PUBLISHED and not entry.is_final
        return FILES_MISSING if is_missing else str(entry.state)
    if entry.stage == "planned":
        return NOT_SUBMITTED
    return entry.stage if entry.production is None else str(entry.production.status)


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()


def _ended_at(entry: JournalEntry, outcomes: Iterable[Outcome]) -> float | None:
    """Return when its present production ended first."""
    for outcome in outcomes:
        if entry.production and outcome.is_final and _production_id(outcome) == entry.production.id:
            return outcome.finished_at.timestamp()
    return _seconds(entry.ended_at)


def _phases(events: Iterable[Event]) -> Iterable[Phase]:
    """A change of status is assumed in the middle of the interval in which it happened."""
    status, since, end = "", None, None
    for event in events:
        end = None
        match event:
            case Submitted():
                status, since = _phase_name(event.production), event.observed_at.timestamp()
            case StatusChanged():
                changed = (event.changed_after.timestamp() + event.observed_at.timestamp()) / 2
                if since is not None:
                    changed = max(since, changed)
                    yield Phase(status, since, changed)
                status, since = _phase_name(event.production), changed
            case Finished(outcome=outcome):
                end = outcome.finished_at.timestamp()
                if outcome.state in _WITHOUT_PHASE:
                    since = None
                elif since is not None and outcome.is_final:
                    yield Phase(status, since, max(since, end))
                    since = None
    if since is not None:
        yield Phase(status, since, None if end is None else max(since, end))


def _phase_name(production: Production) -> str:
    return COLLECTING if production.status == Status.PUBLISHED else str(production.status)


def _changes(events: Iterable[Event]) -> Iterable[Change]:
    for event in events:
        if isinstance(event, StatusChanged):
            yield Change(event.changed_after.timestamp(), event.observed_at.timestamp())


def _ends(outcomes: Iterable[Outcome]) -> Iterable[End]:
    """After the final outcome of a production, a later one is no further end, but its requests count."""
    ends, final = list[End](), dict[str, int]()  # by production: the index of its final end
    for outcome in outcomes:
        id_ = _production_id(outcome)
        if id_ in final:
            end = ends[final[id_]]
            ends[final[id_]] = evolve(end, requests=end.requests + outcome.request_count)
            continue
        if id_ is not None and outcome.is_final:
            final[id_] = len(ends)
        ends.append(End(outcome.finished_at.timestamp(), str(outcome.state), outcome.request_count))
    return ends


def _production_id(outcome: Outcome) -> str | None:
    return None if outcome.production is None else outcome.production.id


def _files(events: Iterable[Event], production_id: str | None) -> tuple[SavedPath, ...]:
    """Return the files of one production: another one may have been made for the same request."""
    saved = {
        event.path: SavedPath(event.path, event.deliverable.type, event.saved.size)
        for event in events
        if isinstance(event, Downloaded) and event.production.id == production_id
    }
    return tuple(saved.values())
