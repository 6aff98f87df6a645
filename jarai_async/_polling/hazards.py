"""Hazards by age: what is expected of a status before anything is counted, and what follows from counts.

A hazard is the chance a second of leaving a status now. It is taken to be constant within bins of age whose
edges are a quarter apart. The table comes from the documented phase times: a production is picked up within
seconds to minutes, made in 15 to 30 minutes (long form in 1 to 3 hours), published in a minute or two.
Approval takes seconds in autonomous mode, and hours where a person decides. An unknown status keeps in view.

With a Gamma prior that is worth so many transitions, the mean of the posterior of a bin is

    hazard = (weight + transitions) / (weight / prior + seconds)

The prior of a bin is what its neighbours did, two on either side: the table's own hazard, times how much
more often than by the table they were left. So the table's shape holds where nothing is known, and a family
that is four times as fast is understood from its first few. Measured over six families of durations (the
three of `benchmarks/polling.py`; four times as fast; exponential; slow but sharp), the mean lag that the
square-root rule would have, over that with 6,000 true timelines known, and the mean of the six:

    productions taught                       5      20     100     400
    each bin by itself, weight 0.5        1.65    1.32    1.13    1.06
    with neighbours, weight 1             1.46    1.19    1.09    1.05
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import accumulate, pairwise
from typing import Final

_Steps = tuple[tuple[float, float], ...]  # (age in seconds from which it holds, transitions a second)
_HAZARDS: Final[Mapping[str, _Steps]] = {
    "Queued": ((0, 1 / 40), (120, 1 / 120), (600, 1 / 300)),
    "Producing": (
        (0, 1 / 20_000),  # a failure on the way, hardly anything else
        (300, 1 / 5_000),
        (600, 1 / 1_200),
        (900, 1 / 500),
        (1_800, 1 / 900),
        (3_600, 1 / 2_400),
    ),
    "AwaitingApproval": ((0, 1 / 15), (30, 1 / 300), (120, 1 / 1_200), (3_600, 1 / 7_200)),
    "Distributing": ((0, 1 / 200), (30, 1 / 90), (300, 1 / 300)),
}
_UNKNOWN: Final = ((0.0, 1 / 600),)
_WEIGHT: Final = 1.0  # transitions in each bin that a prior is worth: the least regret over six families
_REACH: Final = 2  # bins on either side that count as neighbours
AGE_BINS: Final = tuple(5 * 1.25**n for n in range(45))  # seconds: 5 s to 25 h
EDGES: Final = (0.0, *AGE_BINS, math.inf)
BINS: Final = len(EDGES) - 1


def age_bin(age: float) -> int:
    """Give the bin of an age."""
    return bisect_right(AGE_BINS, age)


def split(age: float, until: float) -> Iterator[tuple[int, float, float]]:
    """Cut a span of ages at the edges of the bins; negative ages do not count."""
    begin = max(age, 0.0)
    at = age_bin(begin)
    while begin < until:
        end = min(until, EDGES[at + 1])
        yield at, begin, end
        begin, at = end, at + 1


def posterior(prior: list[float], transitions: list[float], seconds: list[float]) -> list[float]:
    """Give the hazards that follow: the prior of each bin is corrected by what its neighbours did."""
    expected = [hazard * spent for hazard, spent in zip(prior, seconds, strict=True)]
    columns = zip(prior, transitions, seconds, _near(transitions), _near(expected), strict=True)
    return [
        (_WEIGHT + left) / (_WEIGHT / (hazard * (_WEIGHT + seen) / (_WEIGHT + foreseen)) + spent)
        for hazard, left, spent, seen, foreseen in columns
    ]


def _near(amounts: list[float]) -> list[float]:
    """Sum up each bin's neighbours."""
    sums = [*[0.0] * (_REACH + 1), *accumulate(amounts)]
    sums += [sums[-1]] * _REACH
    spans = zip(sums, sums[2 * _REACH + 1 :], amounts, strict=False)
    return [max(until - before - own, 0.0) for before, until, own in spans]


def prior(status: str) -> list[float]:
    """Give the table's mean hazard in each age bin."""
    return _binned(_HAZARDS.get(status, _UNKNOWN))


@cache
def _binned(steps: _Steps) -> list[float]:
    return [_mean(steps, begin, end) for begin, end in pairwise(EDGES)]


def _mean(steps: _Steps, begin: float, end: float) -> float:
    if end == math.inf:
        return steps[-1][1]
    ends = [*(age for age, _ in steps[1:]), math.inf]
    spans = [max(0.0, min(end, to) - max(begin, start)) for (start, _), to in zip(steps, ends, strict=True)]
    return sum(span * hazard for span, (_, hazard) in zip(spans, steps, strict=True)) / (end - begin)
