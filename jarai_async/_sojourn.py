"""How long a production stays in a status: the hazard, its chance a second of leaving now, as it is learned.

The hazard is taken to be constant within bins of age whose edges are a quarter apart. Then all that has to
be remembered of a bin is how many productions left their status in it, and how many seconds they all spent
in it. With a Gamma prior worth so many transitions the mean of the posterior is

    hazard = (weight + transitions) / (weight / prior + seconds)

- One that still waits has spent its seconds, too, and they count as they pass. (To learn from finished ones
  alone would make everything look quick while the first batch is under way.)
- That one has left is only known to be between two polls: the transition is spread evenly over the ages
  between, and the seconds that it spent there are the mean of that.
- What is first seen at some age counts from there on. What it did before is not known.

The prior of a project type is what the other project types did, and theirs is a table made from the
documented phase times: a production is picked up within seconds to minutes, made in 15 to 30 minutes (long
form in 1 to 3 hours), published in a minute or two. Approval takes seconds in autonomous mode, and hours
where a person decides. An unknown status begins with a hazard that keeps it in view.

Pure, and a function of the counts alone: whoever imports what was exported decides the same.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Any, Final, Self

from attrs import define

from jarai_async._models import Status

_Steps = tuple[tuple[float, float], ...]  # (age in seconds from which it holds, transitions a second)
_HAZARDS: Final[Mapping[str, _Steps]] = {
    Status.QUEUED: ((0, 1 / 40), (120, 1 / 120), (600, 1 / 300)),
    Status.PRODUCING: (
        (0, 1 / 20_000),  # a failure on the way, hardly anything else
        (300, 1 / 5_000),
        (600, 1 / 1_200),
        (900, 1 / 500),
        (1_800, 1 / 900),
        (3_600, 1 / 2_400),
    ),
    Status.AWAITING_APPROVAL: ((0, 1 / 15), (30, 1 / 300), (120, 1 / 1_200), (3_600, 1 / 7_200)),
    Status.DISTRIBUTING: ((0, 1 / 200), (30, 1 / 90), (300, 1 / 300)),
}
_UNKNOWN: Final = ((0.0, 1 / 600),)
_WEIGHT: Final = 0.5  # transitions in each bin that a prior is worth: the least regret over six families
AGE_BINS: Final = tuple(5 * 1.25**n for n in range(45))  # seconds: 5 s to 25 h
_EDGES: Final = (0.0, *AGE_BINS, math.inf)
_BINS: Final = len(_EDGES) - 1


def age_bin(age: float) -> int:
    """Give the bin of an age: productions in one bin have much the same hazard."""
    return bisect_right(AGE_BINS, age)


@define
class _Counts:
    """What one project type did in one status, by age bin, and the hazards that follow."""

    transitions: list[float]
    seconds: list[float]
    hazards: list[float]


class Sojourns:
    """What was learned of how long productions stay in each status, by project type."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str | None, str], _Counts] = {}
        self._kin: dict[str, list[_Counts]] = {}  # by status: all project types

    def hazard(self, project_type: str | None, status: Status, age: float) -> float:
        """Transitions a second out of a status, at this many seconds in it. Never zero."""
        return self._of(project_type, status).hazards[age_bin(age)]

    def expected_unseen(self, project_type: str | None, status: Status, age: float, gap: float) -> float:
        """Seconds for which a transition is expected to have gone unseen, `gap` after this age.

        The integral over the gap of the chance to have left by then, with the hazard of each age: exact, so
        it grows with the gap. (With one hazard for the whole gap it would fall where the next bin is quiet.)
        """
        hazards = self._of(project_type, status).hazards
        at = bisect_right(AGE_BINS, age)
        unseen, stays = 0.0, 1.0
        while gap > 0:
            hazard = hazards[at]
            at += 1
            seconds = min(gap, _EDGES[at] - age)
            leaves = -math.expm1(-hazard * seconds)
            unseen += seconds - stays * leaves / hazard
            stays *= 1 - leaves
            gap -= seconds
            age += seconds
        return unseen

    def gap_until(
        self, project_type: str | None, status: Status, age: float, unseen: float, most: float
    ) -> float:
        """Seconds after this age at which so much is expected to have gone unseen, `most` at most.

        To second order in the chance to have left, which is small where `unseen` is.
        """
        hazards = self._of(project_type, status).hazards
        at = bisect_right(AGE_BINS, age)
        gap, left = 0.0, 0.0  # `left`: the chance to have left by then
        while gap < most:
            rate = (1 - left) * hazards[at]
            at += 1
            seconds = min(most - gap, _EDGES[at] - age)
            gained = seconds * (left + rate * seconds / 2)
            if gained >= unseen:
                return gap + 2 * unseen / (left + math.sqrt(left * left + 2 * rate * unseen))
            unseen -= gained
            left = min(left + rate * seconds, 1.0)
            gap += seconds
            age += seconds
        return most

    def stayed(self, project_type: str | None, status: Status, age: float, until: float) -> None:
        """Learn that a production was in its status from one age to another, and is in it still."""
        counts = self._of(project_type, status)
        bins = []
        for at, begin, end in _split(age, until):
            counts.seconds[at] += end - begin
            bins.append(at)
        self._renew(status, bins)

    def left(self, project_type: str | None, status: Status, age: float, until: float) -> None:
        """Learn that a production left its status between two ages."""
        counts = self._of(project_type, status)
        age = max(age, 0.0)
        until = max(until, age + 1e-3)  # an answer takes longer than that
        bins = []
        for at, begin, end in _split(age, until):
            share = (end - begin) / (until - age)
            counts.transitions[at] += share
            counts.seconds[at] += share * (until - (begin + end) / 2)
            bins.append(at)
        self._renew(status, bins)

    def _of(self, project_type: str | None, status: str) -> _Counts:
        counts = self._counts.get((project_type, status))
        if counts is None:
            counts = _Counts([0.0] * _BINS, [0.0] * _BINS, [0.0] * _BINS)
            self._counts[project_type, status] = counts
            self._kin.setdefault(status, []).append(counts)
            self._renew(status, range(_BINS))
        return counts

    def _renew(self, status: str, bins: Iterable[int]) -> None:
        """Work out the hazards in these bins: of all project types, as each is a prior for the others.

        `fsum` rounds once, so it does not matter in which order the project types were first seen.
        """
        kin, prior = self._kin[status], _prior(_HAZARDS.get(status, _UNKNOWN))
        for at in bins:
            transitions = math.fsum(counts.transitions[at] for counts in kin)
            seconds = math.fsum(counts.seconds[at] for counts in kin)
            for counts in kin:
                own_transitions, own_seconds = counts.transitions[at], counts.seconds[at]
                others = _posterior(prior[at], transitions - own_transitions, seconds - own_seconds)
                counts.hazards[at] = _posterior(others, own_transitions, own_seconds)

    def export(self) -> dict[str, Any]:
        """Give all that was learned as plain data that JSON can hold, for `restored`."""
        return {
            "ages": list(AGE_BINS),
            "counts": [
                {
                    "project_type": project_type,
                    "status": str(status),
                    "transitions": list(counts.transitions),
                    "seconds": list(counts.seconds),
                }
                for (project_type, status), counts in self._counts.items()
                if any(counts.seconds)
            ],
        }

    @classmethod
    def restored(cls, exported: Mapping[str, Any]) -> Self:
        """Begin with what was exported. Raises ValueError where it is nothing that this version exports."""
        sojourns = cls()
        try:
            if tuple(exported["ages"]) != AGE_BINS:
                raise ValueError("it was learned in other age bins")
            for one in exported["counts"]:
                counts = sojourns._of(_text(one["project_type"], or_none=True), _text(one["status"]))
                counts.transitions[:] = _amounts(one["transitions"])
                counts.seconds[:] = _amounts(one["seconds"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"not what was exported: {error!r}") from None
        for status in sojourns._kin:
            sojourns._renew(status, range(_BINS))
        return sojourns


def _split(age: float, until: float) -> Iterator[tuple[int, float, float]]:
    """Cut a span of ages at the edges of the bins; negative ages do not count."""
    begin = max(age, 0.0)
    at = age_bin(begin)
    while begin < until:
        end = min(until, _EDGES[at + 1])
        yield at, begin, end
        begin, at = end, at + 1


def _posterior(prior: float, transitions: float, seconds: float) -> float:
    return (_WEIGHT + max(transitions, 0.0)) / (_WEIGHT / prior + max(seconds, 0.0))


@cache
def _prior(steps: _Steps) -> list[float]:
    """The table's mean hazard in each age bin."""
    return [_mean(steps, begin, end) for begin, end in pairwise(_EDGES)]


def _mean(steps: _Steps, begin: float, end: float) -> float:
    if end == math.inf:
        return steps[-1][1]
    ends = [*(age for age, _ in steps[1:]), math.inf]
    spans = [max(0.0, min(end, to) - max(begin, start)) for (start, _), to in zip(steps, ends, strict=True)]
    return sum(span * hazard for span, (_, hazard) in zip(spans, steps, strict=True)) / (end - begin)


def _text(value: object, *, or_none: bool = False) -> Any:
    if isinstance(value, str) or (value is None and or_none):
        return value
    raise TypeError(f"not text: {value!r}")


def _amounts(values: object) -> list[float]:
    if not isinstance(values, list) or len(values) != _BINS:
        raise TypeError(f"not a list of {_BINS} amounts")
    amounts = [float(value) for value in values]
    if not all(0 <= amount < math.inf for amount in amounts):
        raise TypeError("an amount is negative, or not finite")
    return amounts
