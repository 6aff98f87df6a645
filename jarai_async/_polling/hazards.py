"""Hazards by age: the prior of each status, and the posterior that follows from counts.

The hazard is the probability per second of leaving a status now, given the age in it. It is taken to be
constant within age bins, each edge 25 % above the one before.

The prior is a table that follows the documented phase times: a production is picked up within seconds to
minutes, produced in 15 to 30 minutes (long form in 1 to 3 hours), and published in a minute or two. Approval
takes seconds in autonomous mode, and hours if a person decides. An unknown status is expected to last ten
minutes, so that it is polled often. A step of `Producing` has a status of its own here, for `steps`.

With a Gamma prior that has the weight of `_WEIGHT` transitions, the posterior mean of a bin is

    hazard = (weight + transitions) / (weight / prior + seconds)

Here the prior of a bin is the table's hazard, multiplied by how much more often the neighbouring bins (two
on either side) were left than the table predicts. So the table's shape holds where there is no data, and
durations that are all four times shorter are learned from the first few productions.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping
from functools import cache
from itertools import accumulate, pairwise
from typing import Final

from jarai_async._api.models import Status

_Steps = tuple[tuple[float, float], ...]  # (age in seconds from which the hazard holds, hazard)


def _hazards_of_step(seconds: float) -> _Steps:
    """Return hazards that rise until a step has taken so long, its mean."""
    shape = ((0.0, 0.2), (0.4, 1.0), (1.0, 1.5), (3.0, 0.5))
    return tuple((age * seconds, hazard / seconds) for age, hazard in shape)


_STEP_SECONDS: Final = (*[22.5] * 4, *[80.0] * 3, *[90.0] * 5, *[30.0] * 3)  # documented, by phases
STEPS: Final = tuple(Status(f"Producing, step {n}") for n in range(1, len(_STEP_SECONDS) + 1))
_HAZARDS: Final[Mapping[str, _Steps]] = {
    "Queued": ((0, 1 / 40), (120, 1 / 120), (600, 1 / 300)),
    "Producing": (
        (0, 1 / 20_000),  # almost only failures
        (300, 1 / 5_000),
        (600, 1 / 1_200),
        (900, 1 / 500),
        (1_800, 1 / 900),
        (3_600, 1 / 2_400),
    ),
    "AwaitingApproval": ((0, 1 / 15), (30, 1 / 300), (120, 1 / 1_200), (3_600, 1 / 7_200)),
    "Distributing": ((0, 1 / 200), (30, 1 / 90), (300, 1 / 300)),
    **{step: _hazards_of_step(seconds) for step, seconds in zip(STEPS, _STEP_SECONDS, strict=True)},
}
_UNKNOWN: Final = ((0.0, 1 / 600),)
_WEIGHT: Final = 1.0  # of the prior of a bin, in transitions
_REACH: Final = 2  # bins on either side that count as neighbours
AGE_BINS: Final = tuple(5 * 1.25**n for n in range(45))  # seconds: 5 s to 25 h
EDGES: Final = (0.0, *AGE_BINS, math.inf)
BINS: Final = len(EDGES) - 1


def age_bin(age: float) -> int:
    """Return the index of the bin of an age; a negative age counts as 0."""
    return bisect_right(AGE_BINS, age)


def split_by_bin(age: float, until: float) -> list[tuple[int, float, float]]:
    """Split a span of ages at the bin edges: return bins, starts and ends. Negative ages are left out."""
    start = max(age, 0.0)
    at = bisect_right(AGE_BINS, start)
    if start < until <= EDGES[at + 1]:  # as a rule
        return [(at, start, until)]
    spans = []
    while start < until:
        end = min(until, EDGES[at + 1])
        spans.append((at, start, end))
        start, at = end, at + 1
    return spans


def posterior(prior: list[float], transitions: list[float], seconds: list[float]) -> list[float]:
    """Return the posterior hazards; the prior of each bin is first scaled by what its neighbours did."""
    expected = [hazard * spent for hazard, spent in zip(prior, seconds, strict=True)]
    columns = zip(prior, transitions, seconds, _near(transitions), _near(expected), strict=True)
    return [
        (_WEIGHT + left) / (_WEIGHT / (hazard * (_WEIGHT + near_left) / (_WEIGHT + near_expected)) + spent)
        for hazard, left, spent, near_left, near_expected in columns
    ]


def _near(amounts: list[float]) -> list[float]:
    """Return for each bin the sum over its neighbours."""
    sums = [*[0.0] * (_REACH + 1), *accumulate(amounts)]
    sums += [sums[-1]] * _REACH
    spans = zip(sums, sums[2 * _REACH + 1 :], amounts, strict=False)
    return [near if (near := until - before - own) > 0.0 else 0.0 for before, until, own in spans]


def less(totals: list[float], own: list[float]) -> list[float]:
    """Return the totals without what is one's own."""
    return [rest if (rest := total - mine) > 0.0 else 0.0 for total, mine in zip(totals, own, strict=True)]


def prior(status: str) -> list[float]:
    """Return the mean hazard of the table in each age bin."""
    return _binned(_HAZARDS.get(status, _UNKNOWN))


@cache
def _binned(steps: _Steps) -> list[float]:
    return [_mean(steps, start, end) for start, end in pairwise(EDGES)]


def _mean(steps: _Steps, start: float, end: float) -> float:
    if end == math.inf:
        return steps[-1][1]
    ends = [*(age for age, _ in steps[1:]), math.inf]
    spans = [max(0.0, min(end, to) - max(start, since)) for (since, _), to in zip(steps, ends, strict=True)]
    return sum(span * hazard for span, (_, hazard) in zip(spans, steps, strict=True)) / (end - start)
