"""How long a production stays in a status: the hazard, its chance a second of leaving now, as it is learned.

All that has to be remembered is how many productions left their status at which age, and how many seconds
they all spent at it, in the bins of `_hazards`, where the rest of the theory is.

- One that still waits has spent its seconds, too, and they count as they pass. (To learn from finished ones
  alone would make everything look quick while the first batch is under way.)
- That one has left is only known to be between two polls: the transition is spread evenly over the ages
  between, and the seconds that it spent there are the mean of that.
- What is first seen at some age counts from there on. What it did before is not known.

The prior of a project type is what the others did, and theirs is a table from the documentation.

Hazards are asked for at every poll, so they are worked out when there is news of this project type: two per
cent more transitions, or seconds. What the others learn meanwhile it hears of then, too. With the mean time
left at each edge, any age and gap take three exponentials, however many bins lie between.

Pure, and whoever imports what was exported decides the same as whoever exported it, from then on.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Final, Self

from attrs import define, field

from jarai_async._api.models import Status
from jarai_async._polling.hazards import AGE_BINS, BINS, EDGES, age_bin, posterior, prior, split

_NEWS: Final = 0.02  # of what was known, after which hazards are worked out anew


def _nothing() -> list[float]:
    return [0.0] * BINS


@define
class _Counts:
    """What one project type did in one status, by age bin, and what follows from it."""

    transitions: list[float] = field(factory=_nothing)
    seconds: list[float] = field(factory=_nothing)
    hazards: list[float] = field(factory=_nothing)
    left_at: list[float] = field(factory=_nothing)
    """The cumulative hazard at the beginning of each bin."""
    remaining: list[float] = field(factory=_nothing)
    """The mean time left to one that has come to the beginning of each bin."""
    more_transitions: float = 0.0
    """Until there is news."""
    more_seconds: float = 0.0


class Sojourns:
    """What was learned of how long productions stay in each status, by project type."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str | None, str], _Counts] = {}
        self._kin: dict[str, list[_Counts]] = {}  # all project types in one status

    def hazard(self, project_type: str | None, status: Status, age: float) -> float:
        """Transitions a second out of a status, at this many seconds in it. Never zero."""
        return self._of(project_type, status).hazards[age_bin(age)]

    def mean_left(self, project_type: str | None, status: Status, age: float) -> float:
        """Seconds for which one of this age will stay in its status yet, on average."""
        counts, at = self._of(project_type, status), age_bin(age)
        hazard = counts.hazards[at]
        if at + 1 == BINS:
            return 1 / hazard
        stays = math.exp(-hazard * (EDGES[at + 1] - age))
        return (1 - stays) / hazard + stays * counts.remaining[at + 1]

    def stay(self, project_type: str | None, status: Status, age: float, passed: float) -> float:
        """Seconds from this age until so much hazard has passed: a draw, where `passed` is exponential."""
        counts, at = self._of(project_type, status), age_bin(age)
        passed += counts.left_at[at] + counts.hazards[at] * (age - EDGES[at])
        at = bisect_right(counts.left_at, passed) - 1
        return EDGES[at] + (passed - counts.left_at[at]) / counts.hazards[at] - age

    def profile(self, project_type: str | None, status: Status) -> list[tuple[float, float]]:
        """Give for each bin of age the mean seconds that a production spends in it, and the hazard there."""
        counts = self._of(project_type, status)
        stays = [*(math.exp(-passed) for passed in counts.left_at), 0.0]
        return [
            ((now - then) / hazard, hazard)
            for now, then, hazard in zip(stays, stays[1:], counts.hazards, strict=False)
        ]

    def expected_unseen(self, project_type: str | None, status: Status, age: float, gap: float) -> float:
        """Seconds for which a transition is expected to have gone unseen, `gap` after this age.

        The integral over the gap of the chance to have left by then, with the hazard of each age: exact, so
        it grows with the gap. (With one hazard for the whole gap it would fall where the next bin is quiet.)
        """
        counts = self._of(project_type, status)
        first, until = bisect_right(AGE_BINS, age), age + gap
        hazard, edge = counts.hazards[first], EDGES[first + 1]
        if until <= edge:
            return max(0.0, gap + math.expm1(-hazard * gap) / hazard)
        last = bisect_right(AGE_BINS, until)
        so_far = hazard * (edge - age)
        stays = math.exp(-so_far)
        mean_time = (1 - stays) / hazard + stays * counts.remaining[first + 1]
        mean_time -= stays * self._after(counts, first + 1, last, until)
        return max(0.0, gap - mean_time)

    @staticmethod
    def _after(counts: _Counts, first: int, last: int, until: float) -> float:
        """Mean time spent beyond an age in the last bin, by one that has come to the edge of the first."""
        hazard, edge = counts.hazards[last], EDGES[last + 1]
        passed = counts.left_at[last] - counts.left_at[first] + hazard * (until - EDGES[last])
        if last + 1 == BINS:
            return math.exp(-passed) / hazard
        stays = math.exp(-hazard * (edge - until))
        return math.exp(-passed) * ((1 - stays) / hazard + stays * counts.remaining[last + 1])

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
            seconds = min(most - gap, EDGES[at] - age)
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
        for at, begin, end in split(age, until):
            counts.seconds[at] += end - begin
        counts.more_seconds -= until - max(age, 0.0)

    def left(self, project_type: str | None, status: Status, age: float, until: float) -> None:
        """Learn that a production left its status between two ages."""
        counts = self._of(project_type, status)
        age = max(age, 0.0)
        until = max(until, age + 1e-3)  # an answer takes longer than that
        for at, begin, end in split(age, until):
            share = (end - begin) / (until - age)
            counts.transitions[at] += share
            counts.seconds[at] += share * (until - (begin + end) / 2)
        counts.more_transitions -= 1
        counts.more_seconds -= (until - age) / 2

    def _of(self, project_type: str | None, status: str) -> _Counts:
        counts = self._counts.get((project_type, status))
        if counts is None:
            counts = _Counts()
            self._counts[project_type, status] = counts
            self._kin.setdefault(status, []).append(counts)
            self._renew(counts, status)
        elif counts.more_transitions < 0 or counts.more_seconds < 0:
            self._renew(counts, status)
        return counts

    def _renew(self, counts: _Counts, status: str) -> None:
        """Work out the hazards of a project type, whose prior is what the others did.

        `fsum` rounds once, so it does not matter in which order the project types were first seen.
        """
        transitions = self._others(status, counts.transitions, attrgetter("transitions"))
        seconds = self._others(status, counts.seconds, attrgetter("seconds"))
        others = posterior(prior(status), transitions, seconds)
        counts.hazards[:] = posterior(others, counts.transitions, counts.seconds)
        _look_ahead(counts)
        counts.more_transitions = _NEWS * math.fsum(counts.transitions)
        counts.more_seconds = _NEWS * math.fsum(counts.seconds)

    def _others(self, status: str, own: list[float], get: Callable[[_Counts], list[float]]) -> list[float]:
        totals = map(math.fsum, zip(*map(get, self._kin[status]), strict=True))
        return [max(total - mine, 0.0) for total, mine in zip(totals, own, strict=True)]

    def _renew_all(self) -> None:
        for (_, status), counts in self._counts.items():
            self._renew(counts, status)

    def export_state(self) -> dict[str, Any]:
        """Give all that was learned as plain data that JSON can hold, for `restored`."""
        self._renew_all()  # whoever restores it begins with all of it reckoned with
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
    def restore_state(cls, exported: Mapping[str, Any]) -> Self:
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
        sojourns._renew_all()
        return sojourns


def _look_ahead(counts: _Counts) -> None:
    """Sum up the hazards to the beginning of each bin, and the time that is left from there."""
    passed = 0.0
    for at in range(BINS):
        counts.left_at[at] = passed
        passed += counts.hazards[at] * (EDGES[at + 1] - EDGES[at])
    remaining = 0.0
    for at in reversed(range(BINS)):
        stays = math.exp(-counts.hazards[at] * (EDGES[at + 1] - EDGES[at]))
        remaining = (1 - stays) / counts.hazards[at] + stays * remaining
        counts.remaining[at] = remaining


def _text(value: object, *, or_none: bool = False) -> Any:
    if isinstance(value, str) or (value is None and or_none):
        return value
    raise TypeError(f"not text: {value!r}")


def _amounts(values: object) -> list[float]:
    if not isinstance(values, list) or len(values) != BINS:
        raise TypeError(f"not a list of {BINS} amounts")
    amounts = [float(value) for value in values]
    if not all(0 <= amount < math.inf for amount in amounts):
        raise TypeError("an amount is negative, or not finite")
    return amounts
