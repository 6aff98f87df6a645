"""Changes of a timeline that a test asks for. Pure: each function returns a new timeline.

Inferred: the code of a production that a person refuses, and that it is then Failed.
"""

import math
from collections.abc import Callable, Mapping

from attrs import evolve

from jarai_async.simulator._productions.timelines import EXPIRY_SECONDS, TERMINAL, Stage, Timeline

Change = Callable[[Timeline], Timeline]


def fail(timeline: Timeline, step: int | None, code: str, message: str | None) -> Timeline:
    """Let it fail in the middle of a step, or of Producing; without Producing, at its end."""
    if message is None:
        message = "The pipeline failed." if step is None else f"Step {step} of 15 could not be completed."
    stages = _unfinished(timeline)
    index = _index(stages, "Producing")
    if index is not None:
        seconds = stages[index][1] / 2 if step is None else _seconds_until(timeline.step_ends, step)
        stages = [*stages[:index], ("Producing", seconds)]
    return _ended(timeline, stages, "Failed", (code, message))


def expire(timeline: Timeline) -> Timeline:
    """Let it expire in the queue."""
    return _ended(timeline, [("Queued", EXPIRY_SECONDS)], "Failed", None)


def cancel(timeline: Timeline, after: float) -> Timeline:
    """Let it be cancelled so many seconds after its submission, unless it has ended by then."""
    stages: list[Stage] = []
    for status, seconds in timeline.stages:
        if status in TERMINAL:
            return timeline
        stages.append((status, min(seconds, after)))
        after -= seconds
        if after <= 0:
            break
    return _ended(timeline, stages, "Cancelled", None)


def decide(timeline: Timeline, seconds: float, error: tuple[str, str] | None) -> Timeline:
    """Let a person decide after so many seconds of AwaitingApproval; with an error, the person refuses."""
    index = _index(timeline.stages, "AwaitingApproval")
    if index is None:
        return timeline
    before, after = timeline.stages[:index], timeline.stages[index + 1 :]
    stages = [*before, ("AwaitingApproval", seconds)]
    if error is not None:
        return _ended(timeline, stages, "Failed", error)
    return evolve(timeline, stages=(*stages, *after))


def take(timeline: Timeline, seconds: Mapping[str, float]) -> Timeline:
    """Let it stay in some statuses for other times; steps keep their shares of Producing."""
    stages = tuple((status, seconds.get(status, usual)) for status, usual in timeline.stages)
    if stages[0][0] == "Queued" and stages[0][1] > EXPIRY_SECONDS:
        return expire(timeline)
    ends = timeline.step_ends
    if "Producing" in seconds and ends and ends[-1] > 0:
        ends = tuple(end * seconds["Producing"] / ends[-1] for end in ends)
    return evolve(timeline, stages=stages, step_ends=ends)


def _unfinished(timeline: Timeline) -> list[Stage]:
    return [stage for stage in timeline.stages if stage[0] not in TERMINAL]


def _index(stages: tuple[Stage, ...] | list[Stage], status: str) -> int | None:
    return next((index for index, (each, _) in enumerate(stages) if each == status), None)


def _seconds_until(step_ends: tuple[float, ...], step: int) -> float:
    """Return the seconds of Producing until the middle of a step, or of the last one if there are fewer."""
    ends = (0.0, *step_ends)
    number = min(step, len(step_ends))
    return (ends[number - 1] + ends[number]) / 2


def _ended(timeline: Timeline, stages: list[Stage], status: str, error: tuple[str, str] | None) -> Timeline:
    return evolve(timeline, stages=(*stages, (status, math.inf)), error=error)
