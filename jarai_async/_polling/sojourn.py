"""Sojourn times: how long productions stay in each status, learned from polls.

For each project type and status, and each age bin of `hazards`, two numbers are stored: how many productions
left the status at that age, and how many seconds productions spent in it at that age.

- The seconds of a production that is still in its status are counted as they pass. Learning from completed
  stays alone would underestimate durations while the first batch is running.
- A transition is only known to lie between two polls. It is spread evenly over the ages between them, and
  the seconds before it are counted by their mean.
- A production that is first seen at some age counts from that age on: what it did before is unknown.

The prior of a project type is what all other types did, and the prior of that is the table in `hazards`.

A hazard is needed for every poll, so the hazards of a project type are only recomputed when its transitions
or its seconds have grown by `_NEW_DATA_SHARE`; that also takes in what the other types have learned since.
With the cumulative hazard and the mean remaining time stored for each bin edge, any age and gap need three
exponentials, however many bins lie between.

Pure. After `restore_state` the same polls lead to the same numbers as in the instance that was exported.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Self

from attrs import define, field

from jarai_async._api.models import Status
from jarai_async._polling.hazards import AGE_BINS, BINS, EDGES, age_bin, less, posterior, prior, split_by_bin

_NEW_DATA_SHARE: Final = 0.02  # growth of the data after which hazards are recomputed
Sampler = Callable[[Iterable[float]], list[float]]
_Totals = tuple[list[float], list[float]]  # transitions and seconds, by age bin


def _zeros() -> list[float]:
    return [0.0] * BINS


@define
class _Counts:
    """The data of one project type in one status, by age bin, and what is computed from it."""

    transitions: list[float] = field(factory=_zeros)
    seconds: list[float] = field(factory=_zeros)
    hazards: list[float] = field(factory=_zeros)
    cumulative: list[float] = field(factory=_zeros)
    """The cumulative hazard at the lower edge of each bin."""
    remaining: list[float] = field(factory=_zeros)
    """The mean remaining time at the lower edge of each bin."""
    squares: list[float] = field(factory=_zeros)
    """The mean square of the remaining time there."""
    transitions_to_recompute: float = 0.0
    """How many more transitions make the hazards outdated."""
    seconds_to_recompute: float = 0.0


class Sojourns:
    """How long productions stay in each status, by project type."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str | None, str], _Counts] = {}
        self._by_status: dict[str, list[_Counts]] = {}  # the same counts

    def hazard(self, project_type: str | None, status: Status, age: float) -> float:
        """Return the transitions per second out of a status after `age` seconds in it. Never zero."""
        return self._current(project_type, status).hazards[age_bin(age)]

    def mean_remaining(self, project_type: str | None, status: Status, age: float) -> float:
        """Return the mean seconds that a production of this age will still stay in its status."""
        return self.moments(project_type, status, age)[0]

    def moments(self, project_type: str | None, status: Status, age: float) -> tuple[float, float]:
        """Return the mean and the variance of the seconds that a production of this age will still stay."""
        counts, at = self._current(project_type, status), age_bin(age)
        mean, square = _moments(counts, at, EDGES[at + 1] - age)
        return mean, max(0.0, square - mean * mean)

    def left_by(self, project_type: str | None, status: Status, age: float, gap: float) -> float:
        """Return the probability that a production of this age leaves its status within `gap` seconds."""
        counts = self._current(project_type, status)
        return -math.expm1(_cumulative(counts, age) - _cumulative(counts, age + gap))

    def sample_remaining(
        self, project_type: str | None, status: Status, age: float, exponential: float
    ) -> float:
        """Return the seconds in which the cumulative hazard grows by `exponential`.

        That is a sample of the remaining time if `exponential` is one of the exponential distribution with
        mean 1.
        """
        counts = self._current(project_type, status)
        cumulative = exponential + _cumulative(counts, age)
        at = bisect_right(counts.cumulative, cumulative) - 1
        return EDGES[at] + (cumulative - counts.cumulative[at]) / counts.hazards[at] - age

    def stay_sampler(self, project_type: str | None, statuses: Iterable[Status]) -> Sampler:
        """Return a function that samples complete stays in these statuses, as `sample_remaining` at age 0."""
        current = [self._current(project_type, status) for status in statuses]

        def sample(exponentials: Iterable[float]) -> list[float]:
            stays = []
            for counts, exponential in zip(current, exponentials, strict=False):
                at = bisect_right(counts.cumulative, exponential) - 1
                stays.append(EDGES[at] + (exponential - counts.cumulative[at]) / counts.hazards[at])
            return stays

        return sample

    def time_per_bin(self, project_type: str | None, status: Status) -> list[tuple[float, float]]:
        """Return for each age bin the mean seconds that a production spends in it, and its hazard."""
        counts = self._current(project_type, status)
        survival = [*(math.exp(-cumulative) for cumulative in counts.cumulative), 0.0]
        return [
            ((start - end) / hazard, hazard)
            for start, end, hazard in zip(survival, survival[1:], counts.hazards, strict=False)
        ]

    def expected_delay(self, project_type: str | None, status: Status, age: float, gap: float) -> float:
        """Return the expected seconds since the transition, `gap` seconds after a poll at this age.

        It is the integral of the probability of having left by then over the gap, with the hazard of each
        age: exact, so it grows with the gap. (With a single hazard for the whole gap it could decrease where
        the hazard of the next bin is lower.)
        """
        counts = self._current(project_type, status)
        first, until = bisect_right(AGE_BINS, age), age + gap
        hazard, edge = counts.hazards[first], EDGES[first + 1]
        if until <= edge:
            return max(0.0, gap + math.expm1(-hazard * gap) / hazard)
        last = bisect_right(AGE_BINS, until)
        survival = math.exp(-hazard * (edge - age))
        mean_time = (1 - survival) / hazard + survival * counts.remaining[first + 1]
        mean_time -= survival * self._mean_time_beyond(counts, first + 1, last, until)
        return max(0.0, gap - mean_time)

    @staticmethod
    def _mean_time_beyond(counts: _Counts, first: int, last: int, until: float) -> float:
        """Mean time spent beyond age `until`, in bin `last`, by a production at the lower edge of `first`."""
        hazard, edge = counts.hazards[last], EDGES[last + 1]
        cumulative = counts.cumulative[last] - counts.cumulative[first] + hazard * (until - EDGES[last])
        if last + 1 == BINS:
            return math.exp(-cumulative) / hazard
        survival = math.exp(-hazard * (edge - until))
        return math.exp(-cumulative) * ((1 - survival) / hazard + survival * counts.remaining[last + 1])

    def gap_for_delay(
        self, project_type: str | None, status: Status, age: float, delay: float, max_gap: float
    ) -> float:
        """Return the gap after this age at which the expected delay reaches `delay`; at most `max_gap`.

        The inverse of `expected_delay`, to second order in the probability of having left, which is small if
        `delay` is.
        """
        hazards = self._current(project_type, status).hazards
        at = bisect_right(AGE_BINS, age)
        gap, left = 0.0, 0.0  # `left`: the probability of having left by then
        while gap < max_gap:
            rate = (1 - left) * hazards[at]
            at += 1
            seconds = min(max_gap - gap, EDGES[at] - age)
            gained = seconds * (left + rate * seconds / 2)
            if gained >= delay:
                return gap + 2 * delay / (left + math.sqrt(left * left + 2 * rate * delay))
            delay -= gained
            left = min(left + rate * seconds, 1.0)
            gap += seconds
            age += seconds
        return max_gap

    def record_stay(self, project_type: str | None, status: Status, age: float, until: float) -> None:
        """Record that a production stayed in its status from one age to another, and is still in it."""
        counts = self._current(project_type, status)
        for at, start, end in split_by_bin(age, until):
            counts.seconds[at] += end - start
        counts.seconds_to_recompute -= until - max(age, 0.0)

    def record_transition(self, project_type: str | None, status: Status, age: float, until: float) -> None:
        """Record that a production left its status between two ages."""
        counts = self._current(project_type, status)
        age = max(age, 0.0)
        until = max(until, age + 1e-3)  # no request is faster than that
        for at, start, end in split_by_bin(age, until):
            share = (end - start) / (until - age)
            counts.transitions[at] += share
            counts.seconds[at] += share * (until - (start + end) / 2)
        counts.transitions_to_recompute -= 1
        counts.seconds_to_recompute -= (until - age) / 2

    def _current(self, project_type: str | None, status: str) -> _Counts:
        """Return the counts of a project type in a status, with hazards that are recent enough."""
        counts = self._counts.get((project_type, status))
        if counts is None:
            counts = _Counts()
            self._counts[project_type, status] = counts
            self._by_status.setdefault(status, []).append(counts)
            self._recompute(counts, status, self._totals(status))
        elif counts.transitions_to_recompute < 0 or counts.seconds_to_recompute < 0:
            self._recompute(counts, status, self._totals(status))
        return counts

    def _recompute(self, counts: _Counts, status: str, totals: _Totals) -> None:
        """Compute the hazards of a project type, with the data of the other types as the prior."""
        transitions, seconds = totals
        others = posterior(
            prior(status), less(transitions, counts.transitions), less(seconds, counts.seconds)
        )
        counts.hazards[:] = posterior(others, counts.transitions, counts.seconds)
        _integrate(counts)
        counts.transitions_to_recompute = _NEW_DATA_SHARE * math.fsum(counts.transitions)
        counts.seconds_to_recompute = _NEW_DATA_SHARE * math.fsum(counts.seconds)

    def _totals(self, status: str) -> _Totals:
        """Return the transitions and the seconds of all project types.

        `fsum` rounds once, so the order in which the types were first seen does not matter.
        """
        every = self._by_status[status]
        transitions = zip(*[counts.transitions for counts in every], strict=True)
        seconds = zip(*[counts.seconds for counts in every], strict=True)
        return [*map(math.fsum, transitions)], [*map(math.fsum, seconds)]

    def _recompute_all(self) -> None:
        for status, every in self._by_status.items():
            totals = self._totals(status)
            for counts in every:
                self._recompute(counts, status, totals)

    def export_state(self) -> dict[str, Any]:
        """Return the data in a form that JSON can hold, for `restore_state`."""
        self._recompute_all()  # as `restore_state` does, so that both have the same hazards
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
        """Create an instance from exported data. Raises ValueError if this version did not export it."""
        sojourns = cls()
        sojourns.use(exported)
        return sojourns

    def use(self, exported: Mapping[str, Any]) -> None:
        """Use exported data from now on. Raises ValueError, and changes nothing, as `restore_state`."""
        try:
            if tuple(exported["ages"]) != AGE_BINS:
                raise ValueError("the data is for other age bins")
            items = [
                (
                    (_text(item["project_type"], or_none=True), _text(item["status"])),
                    _amounts(item["transitions"]),
                    _amounts(item["seconds"]),
                )
                for item in exported["counts"]
            ]
        except (KeyError, TypeError) as error:
            raise ValueError(f"not data that was exported: {error!r}") from None
        for name, transitions, seconds in items:
            counts = self._current(*name)
            counts.transitions[:], counts.seconds[:] = transitions, seconds
        self._recompute_all()


def _integrate(counts: _Counts) -> None:
    """Compute the cumulative hazard and the mean remaining time at the lower edge of each bin."""
    cumulative = 0.0
    for at in range(BINS):
        counts.cumulative[at] = cumulative
        cumulative += counts.hazards[at] * (EDGES[at + 1] - EDGES[at])
    for at in reversed(range(BINS)):
        width = EDGES[at + 1] - EDGES[at]
        counts.remaining[at], counts.squares[at] = _moments(counts, at, width)


def _cumulative(counts: _Counts, age: float) -> float:
    """Return the cumulative hazard at an age."""
    at = age_bin(age)
    return counts.cumulative[at] + counts.hazards[at] * (age - EDGES[at])


def _moments(counts: _Counts, at: int, seconds: float) -> tuple[float, float]:
    """Return the mean and the mean square of the time left, `seconds` before the upper edge of a bin."""
    hazard = counts.hazards[at]
    if at + 1 == BINS:
        return 1 / hazard, 2 / (hazard * hazard)
    survival, next_mean = math.exp(-hazard * seconds), counts.remaining[at + 1]
    mean = (1 - survival) / hazard + survival * next_mean
    within = 2 * (1 - survival * (1 + hazard * seconds)) / (hazard * hazard)
    return mean, within + survival * (2 * seconds * next_mean + counts.squares[at + 1])


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
