"""How long a production is still in `Producing`, as forecast from the step that it was last seen in. Pure.

The forecast is a log-normal distribution with a given mean, or what was learned of the last step alone, and
failures come at any time with a hazard of their own. From it follow the expected delay that a poll saves, and
the time that is expected to be left.
"""

import math
from statistics import NormalDist
from typing import Final

from attrs import define, field, frozen

from jarai_async._api.models import Status
from jarai_async._polling.hazards import AGE_BINS, age_bin
from jarai_async._polling.sojourn import Sojourns

_NORMAL: Final = NormalDist()
_ROOT: Final = math.sqrt(0.5)
_GROUPS: Final = len(AGE_BINS) + 1
LEAST_PROBABILITY: Final = 1e-4  # that a logarithm or a quotient is taken of
_LEAST_EVIDENCE: Final = -3.0
_MOST_EVIDENCE: Final = 10.0  # in either direction, so that a change of the server is noticed


@define
class Evidence:
    """How much more probable the results of polls were by the steps than by the age (logarithm)."""

    sum: float = 0.0

    @property
    def is_enough(self) -> bool:
        """Whether the steps have forecast as well as the age alone."""
        return self.sum >= _LEAST_EVIDENCE

    def add(self, gained: float) -> None:
        """Count one more poll."""
        self.sum = min(_MOST_EVIDENCE, max(-_MOST_EVIDENCE, self.sum + gained))


@frozen
class Outlook:
    """The time left in `Producing` from `at` on, when the production was last seen.

    - `mean`, `sigma`: of the log-normal distribution, the mean in seconds and the standard deviation of the
      logarithm.
    - `last`: the step, if no other is expected to follow; then `age` is the time in it, and decides instead.
    - `failing`: the hazard of a failure. `evidence`: whether steps of its type mean anything.
    """

    at: float
    mean: float
    sigma: float
    failing: float
    last: Status | None
    age: float
    evidence: Evidence = field(eq=False, repr=False)

    @property
    def group(self) -> int:
        """A number that outlooks have in common which are nearly the same, but for `at`."""
        if self.last is not None:
            return age_bin(self.age)
        return -1 - age_bin(self.mean) - _GROUPS * round(4 * math.log2(1 + 8 * self.sigma))

    def expected_delay(self, sojourns: Sojourns, project_type: str | None, gap: float) -> float:
        """Return the expected seconds since the end of `Producing`, `gap` seconds after `at`."""
        failed = self.failing * gap * gap / 2
        if self.last is not None:
            return failed + sojourns.expected_delay(project_type, self.last, self.age, gap)
        if gap <= 0:
            return 0.0
        distance = math.log(gap / self.mean) / self.sigma + self.sigma / 2
        ended = gap * math.erfc(-distance * _ROOT) - self.mean * math.erfc((self.sigma - distance) * _ROOT)
        return ended / 2 + failed if ended > 0 else failed

    def gap_for_delay(
        self, sojourns: Sojourns, project_type: str | None, delay: float, max_gap: float
    ) -> float:
        """Return the gap after `at` at which the expected delay reaches `delay`; at most `max_gap`."""
        gap = min(max_gap, math.sqrt(2 * delay / self.failing))
        if self.last is not None:
            return sojourns.gap_for_delay(project_type, self.last, self.age, delay, gap)
        # The expected delay is convex, and at this gap too great: Newton's method descends to the solution.
        gap = min(gap, self.mean + delay)
        for _ in range(20):
            excess = self.expected_delay(sojourns, project_type, gap) - delay
            if excess <= 0.01 * delay:
                break
            gap -= excess / (_below(self._distance(gap)) + self.failing * gap)
        return gap

    def left_by(self, sojourns: Sojourns, project_type: str | None, gap: float) -> float:
        """Return the probability that `Producing` has ended after `gap`, perhaps by a failure."""
        if self.last is not None:
            done = sojourns.left_by(project_type, self.last, self.age, gap)
        else:
            done = _below(self._distance(gap)) if gap > 0 else 0.0
        return 1 - (1 - done) * math.exp(-self.failing * gap)

    def mean_delay(self, sojourns: Sojourns, project_type: str | None, now: float) -> float:
        """Return the expected seconds since the end of `Producing`, if it has ended."""
        gap = now - self.at
        ended = max(LEAST_PROBABILITY, self.left_by(sojourns, project_type, gap))
        return min(gap, self.expected_delay(sojourns, project_type, gap) / ended)

    def mean_remaining(self, sojourns: Sojourns, project_type: str | None, gap: float) -> float:
        """Return the mean seconds that are left `gap` seconds after `at`, if it has not ended by then."""
        if self.last is not None:
            return sojourns.mean_remaining(project_type, self.last, self.age + gap)
        if gap <= 0:
            return self.mean
        distance = self._distance(gap)
        beyond = _below(-distance)
        if beyond < LEAST_PROBABILITY:  # longer than it can be, by all that is known
            return gap * self.sigma
        return max(0.0, self.mean * _below(self.sigma - distance) / beyond - gap)

    def sample_remaining(
        self, sojourns: Sojourns, project_type: str | None, gap: float, exponential: float
    ) -> float:
        """Return the seconds left after `gap` in which the cumulative hazard grows by `exponential`."""
        if self.last is not None:
            return sojourns.sample_remaining(project_type, self.last, self.age + gap, exponential)
        beyond = _below(-self._distance(gap)) if gap > 0 else 1.0
        share = min(max(beyond * math.exp(-exponential), 1e-12), 1 - 1e-12)
        end = self.mean * math.exp(-self.sigma * _NORMAL.inv_cdf(share) - self.sigma * self.sigma / 2)
        return max(0.0, end - gap)

    def _distance(self, gap: float) -> float:
        """Return how many standard deviations the logarithm of a gap is above its mean."""
        return math.log(gap / self.mean) / self.sigma + self.sigma / 2


def _below(distance: float) -> float:
    """Return the probability that a normal variable is at most so many standard deviations above its mean."""
    return 0.5 * math.erfc(-distance * _ROOT)
