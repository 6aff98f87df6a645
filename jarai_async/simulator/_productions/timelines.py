"""Draw a production's timeline: its statuses, how long each lasts, and how the production ends.

Documented: the statuses, 15 steps in five phases with approximate minutes, 15-30 minutes for a short video
and 1-3 hours for long form, 10 minutes until a production that stays in the queue expires. Inferred: the
distributions around these numbers, and that the steps of a phase take equally long.
"""

import math
import random
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Literal

from attrs import field, frozen
from attrs.validators import ge, le

Stage = tuple[str, float]  # a status, and the seconds that a production stays in it
Durations = Callable[[random.Random, str], Iterable[tuple[str, float | Sequence[float]]]]
"""Returns the stages of a production; the seconds of Producing may be those of each step."""
Approval = Literal["auto", "mixed", "person"]

EXPIRY_SECONDS = 600.0  # documented default of `expiresAt`
TERMINAL = frozenset({"Published", "Failed", "Cancelled"})

# Minutes of each phase (documented, the middle of each range) divided by the number of its steps.
_STEP_MINUTES = [1.5 / 4] * 4 + [4.0 / 3] * 3 + [7.5 / 5] * 5 + [1.5 / 3] * 3
_LONG_FORM = ("long", "book", "podcast")


def usual_durations(rng: random.Random, project_type: str) -> list[Stage]:
    """Return the seconds in each status but AwaitingApproval; long form takes about six times as long."""
    minutes = 105.0 if any(word in project_type for word in _LONG_FORM) else 18.0
    return [
        ("Queued", rng.lognormvariate(math.log(30.0), 0.6)),
        ("Producing", rng.lognormvariate(math.log(60.0 * minutes), 0.22)),
        ("Distributing", rng.lognormvariate(math.log(90.0), 0.4)),
    ]


@frozen
class TimelineOptions:
    """How timelines are drawn; each rate is a probability."""

    durations: Durations = usual_durations
    failure_rate: float = field(default=0.04, validator=(ge(0), le(1)))
    expiry_rate: float = field(default=0.0, validator=(ge(0), le(1)))
    approval: Approval = "mixed"


@frozen
class Timeline:
    """The stages of a production, the last one endless.

    `step_ends` are the seconds of Producing after which each step is complete, without a failure. `error` is
    the code and message of a failure that a test has asked for.
    """

    stages: tuple[Stage, ...]
    step_ends: tuple[float, ...]
    error: tuple[str, str] | None = None


def draw_timeline(rng: random.Random, project_type: str, options: TimelineOptions) -> Timeline:
    """Draw everything that will happen to a production unless a person intervenes.

    Raises ValueError for stages from `options.durations` that are impossible.
    """
    # Always the same draws in the same order, so that an option changes only what it is about.
    expires, fails, share_done = (rng.random() for _ in range(3))
    approval_seconds = _draw_approval_seconds(rng, options.approval)
    drawn = list(options.durations(rng, project_type))
    stages = _with_approval(_checked((status, _sum(seconds)) for status, seconds in drawn), approval_seconds)
    producing = next((seconds for status, seconds in drawn if status == "Producing"), ())
    if expires < options.expiry_rate or _expires_in_queue(stages):
        stages = [("Queued", EXPIRY_SECONDS), ("Failed", math.inf)]
    elif stages[-1][0] in TERMINAL:
        stages[-1] = (stages[-1][0], math.inf)
    elif fails < options.failure_rate:
        stages = _with_failure(stages, share_done)
    else:
        stages.append(("Published", math.inf))
    return Timeline(tuple(stages), tuple(accumulate(_steps(producing))))


def _sum(seconds: float | Sequence[float]) -> float:
    return sum(seconds) if isinstance(seconds, Sequence) else seconds


def _steps(seconds: float | Sequence[float]) -> Sequence[float]:
    """Return the seconds of each step; without them, steps take the documented shares."""
    if isinstance(seconds, Sequence):
        return seconds
    whole = sum(_STEP_MINUTES)
    return [seconds * minutes / whole for minutes in _STEP_MINUTES]


def _draw_approval_seconds(rng: random.Random, approval: Approval) -> float:
    automatic, is_automatic, person = rng.uniform(2.0, 15.0), rng.random() < 0.7, rng.random()
    if approval == "person":
        return math.inf
    if approval == "auto" or is_automatic:
        return automatic
    return -math.log(1.0 - person) * 20 * 60.0  # exponential, mean 20 minutes


def _checked(stages: Iterable[Stage]) -> list[Stage]:
    stages = list(stages)
    if not stages:
        raise ValueError("durations returned no stages")
    for number, (status, seconds) in enumerate(stages, start=1):
        if not seconds >= 0:
            raise ValueError(f"{status} cannot last {seconds!r} seconds")
        if status in TERMINAL and number != len(stages):
            raise ValueError(f"{status} is terminal: no stage can follow it")
    return stages


def _with_approval(stages: list[Stage], seconds: float) -> list[Stage]:
    """Insert AwaitingApproval before Distributing, or at the end if there is no Distributing.

    Stages that already have it, or that end with Failed or Cancelled, stay as they are.
    """
    statuses = [status for status, _ in stages]
    if "AwaitingApproval" in statuses or statuses[-1] in ("Failed", "Cancelled"):
        return stages
    index = len(stages) - (statuses[-1] in TERMINAL)
    if "Distributing" in statuses:
        index = statuses.index("Distributing")
    return [*stages[:index], ("AwaitingApproval", seconds), *stages[index:]]


def _expires_in_queue(stages: Sequence[Stage]) -> bool:
    status, seconds = stages[0]
    return status == "Queued" and seconds > EXPIRY_SECONDS


def _with_failure(stages: list[Stage], share_done: float) -> list[Stage]:
    """End the stages with Failed, in the middle of Producing if there is such a stage."""
    for index, (status, seconds) in enumerate(stages):
        if status == "Producing":
            return [*stages[:index], (status, seconds * share_done), ("Failed", math.inf)]
    return [*stages, ("Failed", math.inf)]
