"""The figures at the head of a report. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from attrs import frozen

from jarai_async._api.models import Status
from jarai_async._events import OutcomeState
from jarai_async._report.rows import COLLECTING, FILES_MISSING, NOT_SUBMITTED, Row

STATES: Final = (  # of states; statuses that are not listed come behind those of Producing
    OutcomeState.PUBLISHED,
    FILES_MISSING,
    NOT_SUBMITTED,
    "sending",
    Status.QUEUED,
    Status.PRODUCING,
    Status.AWAITING_APPROVAL,
    Status.DISTRIBUTING,
    COLLECTING,
    OutcomeState.FAILED,
    OutcomeState.REJECTED,
    OutcomeState.UNCERTAIN,
    OutcomeState.CANCELLED,
    OutcomeState.TIMED_OUT,
    OutcomeState.NOT_FOUND,
    OutcomeState.INACCESSIBLE,
)
WENT_WRONG: Final = (  # states that are listed with a reason and a command
    OutcomeState.UNCERTAIN,
    OutcomeState.FAILED,
    OutcomeState.REJECTED,
    FILES_MISSING,
    OutcomeState.TIMED_OUT,
    OutcomeState.NOT_FOUND,
    OutcomeState.INACCESSIBLE,
)


@frozen(kw_only=True)
class Totals:
    """What all requests have in common; times are Unix seconds.

    - `states`: how many requests are in each state.
    - `productions`: how many are known to have been created.
    - `requests`: API requests of the ends that the journal knows; `unknown_requests` counts the others.
    - `day`, `sent_on_day`: the UTC day of the last checkpoint, and the requests that it counted on that day;
      None without one.
    """

    states: Mapping[str, int]
    productions: int
    files: int
    bytes: int
    requests: int
    unknown_requests: int
    first: float | None
    last: float | None
    day: float | None
    sent_on_day: int | None


def totals_of(rows: Sequence[Row], spent: Any) -> Totals:
    """Return the totals; `spent` is the journal's checkpoint of the rate limit, if it has one."""
    times = [time for row in rows for time in row.times()]
    day = sent = None
    if (
        isinstance(spent, dict)
        and isinstance(spent.get("day"), int)
        and isinstance(spent.get("requests"), int)
    ):
        day, sent = spent["day"] * 86_400.0, spent["requests"]
    return Totals(
        states=in_order(Counter(row.state for row in rows)),
        productions=len({id_ for row in rows for id_ in row.production_ids}),
        files=sum(len(row.files) for row in rows),
        bytes=sum(row.bytes for row in rows),
        requests=sum(row.requests or 0 for row in rows),
        unknown_requests=sum(row.requests is None for row in rows),
        first=min(times, default=None),
        last=max(times, default=None),
        day=day,
        sent_on_day=sent,
    )


def in_order(counts: Mapping[str, int]) -> dict[str, int]:
    """Return counts by state or status in the order in which a report shows them."""
    return {state: counts[state] for state in sorted(counts, key=_place)}


def _place(state: str) -> tuple[int, str]:
    unknown = STATES.index(Status.PRODUCING)
    return (STATES.index(state) if state in STATES else unknown), state


# --- Durations -----------------------------------------------------------------------------------


@frozen
class Spread:
    """The median and the 90th percentile of `count` durations, in seconds."""

    count: int
    median: float
    high: float


@frozen
class TypeDurations:
    """How long the published productions of one type took, from acceptance to end, and by status."""

    project_type: str
    total: Spread
    statuses: Mapping[str, Spread]


def durations_of(rows: Iterable[Row]) -> list[TypeDurations]:
    """Return the durations of each project type, the most frequent one first."""
    by_type: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.state == "published" and row.duration is not None:
            by_type[row.project_type or "account's default"].append(row)
    ordered = sorted(by_type.items(), key=lambda item: -len(item[1]))
    return [TypeDurations(name, _totals(of_type), _by_status(of_type)) for name, of_type in ordered]


def _totals(rows: Iterable[Row]) -> Spread:
    return spread([row.duration or 0.0 for row in rows])


def _by_status(rows: Iterable[Row]) -> dict[str, Spread]:
    lengths: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for phase in row.phases:
            if phase.end is not None:
                lengths[phase.status].append(phase.end - phase.start)
    return {status: spread(values) for status, values in lengths.items()}


def spread(values: Iterable[float]) -> Spread:
    """Summarise values, of which there is one at least."""
    ordered = sorted(values)
    count = len(ordered)
    return Spread(count, ordered[count // 2], ordered[count * 9 // 10])


# --- What went wrong -----------------------------------------------------------------------------


@frozen
class Problem:
    """Requests that went wrong in the same way; `code` is that of their errors."""

    state: str
    code: str
    rows: Sequence[Row]

    @property
    def count(self) -> int:
        return len(self.rows)

    @property
    def has_ids(self) -> bool:
        return any(row.correlation_id for row in self.rows)


def problems_of(rows: Iterable[Row]) -> list[Problem]:
    """Return what went wrong: uncertain submits first, then by state, the most frequent code first."""
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row.state in WENT_WRONG:
            found[row.state, row.code].append(row)
    problems = [Problem(state, code, of_code) for (state, code), of_code in found.items()]
    return sorted(problems, key=lambda problem: (WENT_WRONG.index(problem.state), -problem.count))
