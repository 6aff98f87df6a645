"""How long productions will still take: one by its mean, a batch by playing it through.

A production is expected to go the usual way, `Queued`, `Producing`, `AwaitingApproval`, `Distributing`,
and to stay in each status for as long as `Sojourns` has learned. (One that fails ends sooner, and what leaves
the usual way is taken to go on with an approval.)

The mean is of little use for a batch: it is over with its last production, and where people approve, the last
of 200 comes an hour after the mean. So a batch is played through some times: those under way stay for as
long as one of their age may; those to come begin as places are given back, which is when a production first
waits for approval. The forecast is the end of the last one that half of all such batches stay below, by the
ends of all productions in all of these plays.

The dice are no dice but points that fill the space of all possible lives evenly (a Kronecker sequence), so
a forecast needs fewer plays, and is the same whenever all that is known is the same.

Pure; all times are seconds from now.
"""

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Final

from attrs import frozen

from jarai_async._api.models import Status
from jarai_async._polling.sojourn import Sojourns

CHAIN: Final = (Status.QUEUED, Status.PRODUCING, Status.AWAITING_APPROVAL, Status.DISTRIBUTING)
WITH_A_PLACE: Final = 2  # of these, from the first: until it waits for approval
_AFTER: Final[Mapping[Status, tuple[Status, ...]]] = {
    status: CHAIN[at:] for at, status in enumerate(CHAIN, start=1)
}
_STEPS: Final = tuple(1.1673039782614187**-n for n in (1, 2, 3, 4))  # the root of x^5 = x + 1: most even
_WORK: Final = 2_000  # productions played through for one forecast: some 15 ms
_FEWEST: Final = 5  # plays


@frozen
class UnderWay:
    """A production in flight, `age` seconds in its status; `has_place` as long as it keeps others waiting."""

    project_type: str | None
    status: Status
    age: float
    has_place: bool


@frozen
class ToCome:
    """A production that begins as soon as there is a place, but not before so many seconds."""

    project_type: str | None
    after: float = 0.0


def mean_left(sojourns: Sojourns, project_type: str | None, status: Status, age: float) -> float:
    """Seconds until a production ends, on average."""
    if status.is_terminal:
        return 0.0
    later = sum(sojourns.mean_left(project_type, after, 0.0) for after in _after(status))
    return sojourns.mean_left(project_type, status, age) + later


def finish(
    sojourns: Sojourns,
    under_way: Sequence[UnderWay],
    to_come: Sequence[ToCome],
    *,
    concurrency: int,
    lag: float = 0.0,
) -> float:
    """Seconds until the last of them is known to have ended; half of such batches end sooner.

    `lag` is how late a change is seen, which is when a place is given back.
    """
    number = len(under_way) + len(to_come)
    if not number:
        return 0.0
    in_order = sorted(to_come, key=lambda one: one.after)
    lives, ends = _lives(), list[float]()
    for _ in range(max(_FEWEST, _WORK // number)):
        places = []  # the moments at which they are free
        for one in under_way:
            stays = _stays(sojourns, one.project_type, one.status, one.age, next(lives))
            ends.append(sum(stays))
            if one.has_place:
                places.append(sum(stays[: WITH_A_PLACE - len(CHAIN)]) + lag)
        places += [0.0] * min(concurrency - len(places), len(to_come))
        ends += [begin + sum(stays) for begin, stays in _begun(sojourns, in_order, places, lives, lag)]
    # Half of the batches have none beyond it: (1 - share) ** number is a half.
    beyond = int(len(ends) * -math.expm1(-math.log(2) / number))
    return heapq.nlargest(beyond + 1, ends)[-1] + lag


def play(
    sojourns: Sojourns, to_come: Sequence[ToCome], *, concurrency: int, lag: float
) -> list[tuple[float, list[float]]]:
    """Play a batch through once: the moment at which each begins, and its seconds in each status.

    In the order of `after`, which `to_come` must have.
    """
    places = [0.0] * min(concurrency, len(to_come))
    return list(_begun(sojourns, to_come, places, _lives(), lag))


def _lives() -> Iterator[tuple[float, ...]]:
    """Give the hazard that each of four stays lasts for, exponential with mean 1."""
    for n in count(1):
        yield tuple([-math.log1p(-(n * step % 1.0)) for step in _STEPS])


def _begun(
    sojourns: Sojourns,
    to_come: Sequence[ToCome],
    places: list[float],
    lives: Iterator[tuple[float, ...]],
    lag: float,
) -> Iterator[tuple[float, list[float]]]:
    """Begin each when there is a place for it."""
    heapq.heapify(places)
    for one in to_come:
        begin = max(places[0], one.after)
        stays = _stays(sojourns, one.project_type, Status.QUEUED, 0.0, next(lives))
        heapq.heapreplace(places, begin + sum(stays[:WITH_A_PLACE]) + lag)
        yield begin, stays


def _stays(
    sojourns: Sojourns, project_type: str | None, status: Status, age: float, life: tuple[float, ...]
) -> list[float]:
    """Give the seconds that a production will be in its status, and in each after it."""
    if status.is_terminal:
        return [0.0]
    stages = (status, *_after(status))
    ages = (age, *(0.0 for _ in stages[1:]))
    return [
        sojourns.stay(project_type, stage, begun, passed)
        for stage, begun, passed in zip(stages, ages, life, strict=False)
    ]


def _after(status: Status) -> tuple[Status, ...]:
    return _AFTER.get(status, CHAIN[WITH_A_PLACE:])
