"""Draw a production's fate: which statuses it will pass, for how long, and how it ends.

Where the numbers come from. Documented: the statuses, 15 steps in five phases with their rough minutes,
15-30 minutes for a short video and 1-3 hours for long form, 10 minutes until a production that nobody
picked up expires. Inferred: the shapes of the distributions around these.
"""

import math
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from attrs import field, frozen
from attrs.validators import ge, le

Stage = tuple[str, float]  # a status and how many seconds a production stays in it
Durations = Callable[[random.Random, str], Iterable[Stage]]
Approval = Literal["auto", "mixed", "person"]

EXPIRY_SECONDS = 600.0  # documented default of `expiresAt`
TERMINAL = frozenset({"Published", "Failed", "Cancelled"})

_LONG_FORM = ("long", "book", "podcast")


def usual_durations(rng: random.Random, project_type: str) -> list[Stage]:
    """Seconds in each status but AwaitingApproval; long form takes about six times as long."""
    minutes = 105.0 if any(word in project_type for word in _LONG_FORM) else 18.0
    return [
        ("Queued", rng.lognormvariate(math.log(30.0), 0.6)),
        ("Producing", rng.lognormvariate(math.log(60.0 * minutes), 0.22)),
        ("Distributing", rng.lognormvariate(math.log(90.0), 0.4)),
    ]


@frozen
class TimelineOptions:
    """How fates are drawn; each rate is a probability."""

    durations: Durations = usual_durations
    failure_rate: float = field(default=0.04, validator=(ge(0), le(1)))
    expiry_rate: float = field(default=0.0, validator=(ge(0), le(1)))
    approval: Approval = "mixed"


@frozen
class Timeline:
    """Stages to come, the last one terminal or endless, and the full length of Producing."""

    stages: tuple[Stage, ...]
    producing_seconds: float


def draw_timeline(rng: random.Random, project_type: str, options: TimelineOptions) -> Timeline:
    """Decide everything that will happen to a production unless a person intervenes."""
    # The same dice in the same order, whatever they decide: options change fates, not the dice.
    expires, fails, share_done = (rng.random() for _ in range(3))
    approval = _approval_seconds(rng, options.approval)
    stages = _with_approval(_checked(options.durations(rng, project_type)), approval)
    producing = sum(seconds for status, seconds in stages if status == "Producing")
    if expires < options.expiry_rate or _queued_too_long(stages):
        stages = [("Queued", EXPIRY_SECONDS), ("Failed", math.inf)]
    elif stages[-1][0] in TERMINAL:
        stages[-1] = (stages[-1][0], math.inf)
    elif fails < options.failure_rate:
        stages = _failing(stages, share_done)
    else:
        stages.append(("Published", math.inf))
    return Timeline(tuple(stages), producing)


def _approval_seconds(rng: random.Random, approval: Approval) -> float:
    by_itself, autonomous, person = rng.uniform(2.0, 15.0), rng.random() < 0.7, rng.random()
    if approval == "person":
        return math.inf
    if approval == "auto" or autonomous:
        return by_itself
    return -math.log(1.0 - person) * 20 * 60.0  # exponential, mean 20 minutes


def _checked(stages: Iterable[Stage]) -> list[Stage]:
    stages = list(stages)
    if not stages:
        raise ValueError("durations gave no stage at all")
    for place, (status, seconds) in enumerate(stages, start=1):
        if not seconds >= 0:
            raise ValueError(f"{status} cannot last {seconds!r} seconds")
        if status in TERMINAL and place != len(stages):
            raise ValueError(f"{status} is terminal: nothing can follow it")
    return stages


def _with_approval(stages: list[Stage], seconds: float) -> list[Stage]:
    """Put the wait for a release where it belongs, unless the stages already have their own."""
    statuses = [status for status, _ in stages]
    if "AwaitingApproval" in statuses or statuses[-1] in ("Failed", "Cancelled"):
        return stages
    place = len(stages) - (statuses[-1] in TERMINAL)
    if "Distributing" in statuses:
        place = statuses.index("Distributing")
    return [*stages[:place], ("AwaitingApproval", seconds), *stages[place:]]


def _queued_too_long(stages: Sequence[Stage]) -> bool:
    status, seconds = stages[0]
    return status == "Queued" and seconds > EXPIRY_SECONDS


def _failing(stages: list[Stage], share_done: float) -> list[Stage]:
    """Break off in the middle of Producing, or at the end where there is no such stage."""
    for place, (status, seconds) in enumerate(stages):
        if status == "Producing":
            return [*stages[:place], (status, seconds * share_done), ("Failed", math.inf)]
    return [*stages, ("Failed", math.inf)]
