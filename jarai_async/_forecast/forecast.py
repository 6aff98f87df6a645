"""How long productions will still take: the mean for one, a simulation for a batch.

A production is expected to pass through `LIFECYCLE`, and to stay in each status for as long as `Sojourns`
has learned. (A failed one ends sooner. From any other status, it is expected to continue with
`AwaitingApproval`.)

For a batch the mean is misleading. The batch ends with its last production, and where people approve, the
last of 200 can end an hour after the mean. So the batch is simulated several times. A production in flight
stays in its status for a time sampled for its age. A pending one starts when a slot is free, and holds the
slot until it waits for approval.

The result is the median of the time at which the last of n productions ends. If a share s of all simulated
productions ends later than t, the last of n ends before t with probability (1 - s)^n. That is 1/2 if
s = 1 - 2^(-1/n), so the median is the quantile of all simulated ends that this share exceeds.

The samples are not random: they come from a Kronecker sequence, whose points fill the unit cube evenly. So
few simulations are enough, and the same input always gives the same forecast.

Pure. All times are seconds from now.
"""

import heapq
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import count
from operator import attrgetter
from typing import Final

from attrs import frozen

from jarai_async._api.models import Status
from jarai_async._polling.outlook import Outlook
from jarai_async._polling.sojourn import Sampler, Sojourns

LIFECYCLE: Final = (Status.QUEUED, Status.PRODUCING, Status.AWAITING_APPROVAL, Status.DISTRIBUTING)
SLOT_STATUS_COUNT: Final = 2  # a production holds its slot in the first two: until it waits for approval
_LATER: Final[Mapping[Status, tuple[Status, ...]]] = {
    status: LIFECYCLE[n:] for n, status in enumerate(LIFECYCLE, start=1)
}
_ROOT: Final = 1.1673039782614187  # of x^5 = x + 1: the points are most even in four dimensions
_STEPS: Final = tuple(_ROOT**-n for n in (1, 2, 3, 4))
_WORK: Final = 2_000  # productions simulated for one forecast: about 15 ms
_MIN_RUNS: Final = 3


@frozen
class InFlightProduction:
    """A production that JARAI has accepted.

    `age` is the seconds it has been in its status, or those since `outlook`, if its steps are known.
    """

    project_type: str | None
    status: Status
    age: float
    holds_slot: bool
    outlook: Outlook | None = None


@frozen
class PendingProduction:
    """A production that starts as soon as a slot is free, but not before `not_before`."""

    project_type: str | None
    not_before: float = 0.0


def mean_time_to_finish(sojourns: Sojourns, production: InFlightProduction) -> float:
    """Return the mean seconds until a production ends."""
    project_type, status, outlook = production.project_type, production.status, production.outlook
    if status.is_terminal:
        return 0.0
    if outlook is None:
        left = sojourns.mean_remaining(project_type, status, production.age)
    else:
        left = outlook.mean_remaining(sojourns, project_type, production.age)
    return left + sum(sojourns.mean_remaining(project_type, later, 0.0) for later in _later(status))


def mean_duration(sojourns: Sojourns, project_type: str | None) -> float:
    """Return the mean seconds from the acceptance of a production to its end."""
    accepted = InFlightProduction(project_type, Status.QUEUED, 0.0, holds_slot=True)
    return mean_time_to_finish(sojourns, accepted)


def mean_hold(sojourns: Sojourns, project_type: str | None) -> float:
    """Return the mean seconds for which a production holds its slot."""
    return sum(sojourns.mean_remaining(project_type, status, 0.0) for status in LIFECYCLE[:SLOT_STATUS_COUNT])


def median_time_to_finish(
    sojourns: Sojourns,
    in_flight: Sequence[InFlightProduction],
    pending: Sequence[PendingProduction],
    *,
    concurrency: int,
    lag: float = 0.0,
    before: Mapping[str | None, int] | None = None,
) -> float:
    """Return the median seconds until the last production is known to have ended.

    `lag` is how late a change is noticed; a slot is only released then. `before`: so many more productions of
    each type start before the `pending` ones. They are too many to simulate, so they hold all slots for as
    long as they do on average.
    """
    size = len(in_flight) + len(pending)
    if not size:
        return 0.0
    held = sum(count * (mean_hold(sojourns, kind) + lag) for kind, count in (before or {}).items())
    in_order = sorted(pending, key=attrgetter("not_before"))
    samples, ends = _exponential_samples(), list[float]()
    stay_sampler = cache(sojourns.stay_sampler)
    for _ in range(max(_MIN_RUNS, _WORK // size)):
        slots = []  # the times at which they become free
        for production in in_flight:
            durations = _durations(sojourns, production, next(samples), stay_sampler)
            ends.append(sum(durations))
            if production.holds_slot:
                slots.append(sum(durations[: SLOT_STATUS_COUNT - len(LIFECYCLE)]) + lag)
        slots += [0.0] * min(concurrency - len(slots), len(pending))
        slots = [free_at + held / concurrency for free_at in slots]
        simulated = simulate(sojourns, in_order, slots, samples, lag)
        ends += [start + sum(durations) for start, durations in simulated]
    exceeding = int(len(ends) * -math.expm1(-math.log(2) / size))
    return heapq.nlargest(exceeding + 1, ends)[-1] + lag


def simulate_batch(
    sojourns: Sojourns, pending: Sequence[PendingProduction], *, concurrency: int, lag: float
) -> list[tuple[float, list[float]]]:
    """Simulate a batch once; return the start of each production and its seconds in each status.

    `pending` must be sorted by `not_before`.
    """
    slots = [0.0] * min(concurrency, len(pending))
    return list(simulate(sojourns, pending, slots, _exponential_samples(), lag))


def simulate(
    sojourns: Sojourns,
    pending: Sequence[PendingProduction],
    slots: list[float],
    samples: Iterator[tuple[float, ...]],
    lag: float,
) -> Iterator[tuple[float, list[float]]]:
    """Start each production when a slot is free; `slots` are the times at which they become free."""
    heapq.heapify(slots)
    kinds = {production.project_type for production in pending}
    sample = {kind: sojourns.stay_sampler(kind, LIFECYCLE) for kind in kinds}
    for production in pending:
        start = max(slots[0], production.not_before)
        durations = sample[production.project_type](next(samples))
        heapq.heapreplace(slots, start + sum(durations[:SLOT_STATUS_COUNT]) + lag)
        yield start, durations


def _exponential_samples() -> Iterator[tuple[float, ...]]:
    """Yield four samples of an exponential distribution with mean 1, one for each status."""
    first, second, third, fourth = _STEPS
    log1p = math.log1p
    for n in count(1):  # written out, because a forecast needs thousands
        yield (
            -log1p(-(n * first % 1.0)),
            -log1p(-(n * second % 1.0)),
            -log1p(-(n * third % 1.0)),
            -log1p(-(n * fourth % 1.0)),
        )


def _durations(
    sojourns: Sojourns,
    production: InFlightProduction,
    sample: tuple[float, ...],
    stay_sampler: Callable[..., Sampler],
) -> list[float]:
    """Return the seconds that a production will spend in its status and in each later one."""
    project_type, status, outlook = production.project_type, production.status, production.outlook
    if status.is_terminal:
        return [0.0]
    if outlook is None:
        first = sojourns.sample_remaining(project_type, status, production.age, sample[0])
    else:
        first = outlook.sample_remaining(sojourns, project_type, production.age, sample[0])
    return [first, *stay_sampler(project_type, _later(status))(sample[1:])]


def _later(status: Status) -> tuple[Status, ...]:
    return _LATER.get(status, LIFECYCLE[SLOT_STATUS_COUNT:])
