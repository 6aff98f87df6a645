"""Steps: how long a production stays in `Producing`, by the step that JARAI reports.

`Producing` consists of up to 15 steps (documented), and where the status or a webhook names the current one
(inferred), the time that is left is known far better than by the age alone. A step is a stay, as a status is:
`Sojourns` learns how long each one lasts, for each project type, from the same polls and with the same care
for what is only known to lie between two of them. Steps that were passed between two polls share that time
evenly; so a step that a type skips is learned to last almost nothing.

The time that is left is that of the current step, given its age, plus the means of all later steps. The
production's own speed counts as well: the time that its earlier steps took, divided by their means, is drawn
towards 1 by as much as the steps of one production have been unlike each other so far. The sum has a mean and
a variance, and is taken to have a log-normal distribution. (A normal one does worse where it reaches below
zero: it expects productions to have ended that were polled a moment ago.) The time left in a last step has
the learned distribution itself. Failures come at any time, with a hazard of their own.

A server may report steps that mean nothing. So both forecasts are tested: each poll adds the logarithm of how
much more probable its result was by the steps than by the age alone. Where the sum for a project type falls
too low, its productions are polled by their age until it has recovered.

Pure: times are monotonic seconds, and `now` is an argument.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from attrs import define, field

from jarai_async._api.models import Status
from jarai_async._polling.hazards import STEPS
from jarai_async._polling.outlook import LEAST_PROBABILITY, Evidence, Outlook
from jarai_async._polling.sojourn import Sojourns

_LAST: Final = len(STEPS)
_EXACT_SHARE: Final = 0.02  # of the time left that later steps have at most in a last one
_REFRESH_SHARE: Final = 0.05  # growth of the passed steps after which the means of later ones are computed
_SLOWEST, _FASTEST = 4.0, 0.25


@define
class _Kind:
    """What is known of one project type, beyond the length of its steps.

    - `failures` in `seconds` of Producing.
    - `weight`, `together`, `squares`: of the deviations of steps from their means, the weight of all pairs of
      earlier steps and a next one, and the sums of the products and of the squares.
    - `evidence`: for the steps, rather than the age.
    - `means`, `variances`: sums for the steps after each one, computed when `passed` steps had grown enough.
    """

    failures: float = 1.0
    seconds: float = 20_000.0
    weight: float = 5.0
    together: float = 0.1
    squares: float = 0.9
    evidence: Evidence = field(factory=Evidence)
    passed: float = 0.0
    refresh_at: float = 0.0
    means: list[float] = field(factory=lambda: [0.0] * (_LAST + 1))
    variances: list[float] = field(factory=lambda: [0.0] * (_LAST + 1))


@define
class Progress:
    """How far one production has come: its step, since when, and since when its steps have been timed.

    `expected` is the sum of the means of the steps that it has completed since then, and `squares` that of
    their squares.
    """

    step: int
    since: float
    seen: float
    is_timed: bool
    first: float = field(init=False)
    expected: float = field(init=False, default=0.0)
    squares: float = field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        self.first = self.since


_EXPORTED = ("failures", "seconds", "weight", "together", "squares", "passed")


class Steps:
    """What was learned of the steps; their lengths are in `sojourns`."""

    def __init__(self, sojourns: Sojourns) -> None:
        self.sojourns = sojourns
        """How long each step lasts, and each status."""
        self._kinds: dict[str | None, _Kind] = {}

    def observe(
        self,
        project_type: str | None,
        progress: Progress | None,
        step: int | None,
        earliest: float,
        latest: float,
        *,
        age_known: bool,
    ) -> Progress | None:
        """Use that a production in `Producing` has this step, which began between these times.

        It began earlier if it is the same step as before. `age_known`: `Producing` began at `earliest`, if
        this is the first step that was seen. Without a step, nothing is known.
        """
        if step is None or not 1 <= step <= _LAST:
            return progress
        if progress is None or step < progress.step:
            is_timed = step == 1 and progress is None and age_known
            since = earliest if is_timed else latest - self._mean(project_type, step) / 2
            return Progress(step, max(since, earliest), latest, is_timed)
        if step > progress.step:
            self._pass(project_type, progress, step, max(earliest, progress.seen), latest)
        elif progress.is_timed:
            since = progress.since
            self.sojourns.record_stay(project_type, STEPS[step - 1], progress.seen - since, latest - since)
        progress.seen = latest
        return progress

    def left(self, project_type: str | None, progress: Progress, earliest: float, latest: float) -> None:
        """Use that a production left `Producing`, other than by a failure, between these times."""
        self._pass(project_type, progress, _LAST + 1, max(earliest, progress.seen), latest)

    def count(self, project_type: str | None, seconds: float, *, failed: bool) -> None:
        """Count seconds in `Producing` that ended with a failure, or with another status or none."""
        kind = self._kind(project_type)
        kind.seconds += seconds
        kind.failures += failed

    def compare(
        self, project_type: str | None, outlook: Outlook, age: float, now: float, *, has_left: bool
    ) -> None:
        """Compare a poll's result with both forecasts; `age` is that in `Producing` at `outlook.at`."""
        gap = now - outlook.at
        by_steps = outlook.left_by(self.sojourns, project_type, gap)
        by_age = self.sojourns.left_by(project_type, Status.PRODUCING, age, gap)
        if not has_left:
            by_steps, by_age = 1 - by_steps, 1 - by_age
        outlook.evidence.add(math.log(max(by_steps, LEAST_PROBABILITY) / max(by_age, LEAST_PROBABILITY)))

    def outlook(self, project_type: str | None, progress: Progress, now: float) -> Outlook:
        """Return the time left of a production that had this step at `now`."""
        kind = self._kind(project_type)
        if kind.passed >= kind.refresh_at:
            self._refresh(project_type, kind)
        variance_of_speed = max(0.0, kind.together / kind.weight)
        variance_of_steps = max(1e-3, kind.squares / kind.weight - variance_of_speed)
        speed, unknown = 1.0, variance_of_speed  # relative time: 2 is twice as slow; what is not known of it
        if progress.expected:
            noise = variance_of_steps * progress.squares / progress.expected**2
            share = variance_of_speed / (variance_of_speed + noise)
            speed += share * ((progress.since - progress.first) / progress.expected - 1)
            speed = min(_SLOWEST, max(_FASTEST, speed))
            unknown *= 1 - share
        age, step = max(0.0, now - progress.since), progress.step
        mean, variance = self.sojourns.moments(project_type, STEPS[step - 1], age / speed)
        later = kind.means[step]
        left = mean + later
        own = variance_of_steps / (variance_of_steps + variance_of_speed)
        variance = (variance + kind.variances[step]) * own + left * left * unknown
        is_last = later <= _EXACT_SHARE * left
        return Outlook(
            at=now,
            mean=speed * left,
            sigma=math.sqrt(math.log1p(max(1e-6, variance / (left * left)))),
            failing=kind.failures / kind.seconds,
            last=STEPS[step - 1] if is_last else None,
            age=age,
            evidence=kind.evidence,
        )

    def _pass(
        self, project_type: str | None, progress: Progress, step: int, earliest: float, latest: float
    ) -> None:
        """Learn from a change to a later step, which is one beyond the last at the end of `Producing`."""
        count = step - progress.step
        share = (latest - earliest) / (count + 1)
        since = (earliest + latest) / 2 if count == 1 else latest - share
        if progress.is_timed:
            begin, left = progress.since, STEPS[progress.step - 1]
            until = latest if count == 1 else earliest + 2 * share
            self.sojourns.record_stay(project_type, left, progress.seen - begin, earliest - begin)
            self.sojourns.record_transition(project_type, left, earliest - begin, until - begin)
            for passed in STEPS[progress.step : step - 1]:
                self.sojourns.record_transition(project_type, passed, share / 2, share * 1.5)
            self._learn_speed(project_type, progress, step, since)
        else:
            progress.first, progress.is_timed = since, True
        progress.step, progress.since = step, since

    def _learn_speed(self, project_type: str | None, progress: Progress, step: int, since: float) -> None:
        """Compare the steps that were passed just now with the earlier ones of the same production."""
        kind = self._kind(project_type)
        kind.passed += step - progress.step
        means = [self._mean(project_type, passed) for passed in range(progress.step, step)]
        expected, squares = math.fsum(means), math.fsum(mean * mean for mean in means)
        if progress.expected:
            before = min(1.0, (progress.since - progress.first) / progress.expected - 1)
            after = min(1.0, (since - progress.since) / expected - 1)
            timed = progress.expected**2 / progress.squares  # as many equal steps
            weight = timed / (timed + 3)
            kind.weight += weight
            kind.together += weight * before * after
            kind.squares += weight * after * after * expected**2 / squares
        progress.expected += expected
        progress.squares += squares

    def _mean(self, project_type: str | None, step: int) -> float:
        return self.sojourns.mean_remaining(project_type, STEPS[step - 1], 0.0)

    def _refresh(self, project_type: str | None, kind: _Kind) -> None:
        """Add up the means and variances of the steps after each one."""
        kind.refresh_at = kind.passed * (1 + _REFRESH_SHARE) + 1
        for step in reversed(range(1, _LAST)):
            mean, variance = self.sojourns.moments(project_type, STEPS[step], 0.0)
            kind.means[step] = kind.means[step + 1] + mean
            kind.variances[step] = kind.variances[step + 1] + variance

    def _kind(self, project_type: str | None) -> _Kind:
        kind = self._kinds.get(project_type)
        if kind is None:
            kind = self._kinds[project_type] = _Kind()
        return kind

    def export_state(self) -> list[dict[str, Any]]:
        """Return what was learned in a form that JSON can hold, for `restore_state`."""
        for kind in self._kinds.values():
            kind.refresh_at = 0.0  # as in an instance that is restored
        return [
            {name: getattr(kind, name) for name in _EXPORTED}
            | {"project_type": project_type, "evidence": kind.evidence.sum}
            for project_type, kind in self._kinds.items()
        ]

    def restore_state(self, exported: Any) -> None:
        """Use exported data. Raises ValueError if this version did not export it."""
        try:
            self._kinds = {_text_or_none(item["project_type"]): _restored(item) for item in exported}
        except (KeyError, TypeError) as error:
            raise ValueError(f"not what was learned of steps: {error!r}") from None


def _restored(item: Mapping[str, Any]) -> _Kind:
    kind = _Kind()
    for name in _EXPORTED:
        setattr(kind, name, float(item[name]))
    kind.evidence.add(float(item["evidence"]))
    amounts = [kind.evidence.sum, *(getattr(kind, name) for name in _EXPORTED)]
    if not all(map(math.isfinite, amounts)) or min(kind.failures, kind.seconds, kind.weight) <= 0:
        raise ValueError(f"not amounts that were learned of steps: {amounts}")
    return kind


def _text_or_none(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"not text: {value!r}")
