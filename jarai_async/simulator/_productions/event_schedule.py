"""The webhook events of a production and their times: like its status, a function of its timeline.

Documented: the event types, the envelope, the sequence number per production, the data of
`production.queued`, and that `truncated` is true only with more than 100 deliverables. Inferred: the data of
the other types; that `deliverable.ready` is sent when deliverables first exist; that a cancelled production
has no further events.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from attrs import frozen

from jarai_async.simulator._common import iso
from jarai_async.simulator._productions.state import WITH_DELIVERABLES, SimulatedProduction
from jarai_async.simulator._productions.timelines import EXPIRY_SECONDS

_ROUNDING_SECONDS = 1e-6  # the last step ends with Producing, despite rounding errors


@frozen
class ScheduledEvent:
    """An event to be sent; its position among the events of its production is its sequence number."""

    occurs_at: float
    event_type: str
    data: dict[str, Any]


def scheduled_events(production: SimulatedProduction) -> list[ScheduledEvent]:
    """Return all past and future events in order; a person's decision changes only the future ones."""
    return [event for event in _events(production) if math.isfinite(event.occurs_at)]


def _events(production: SimulatedProduction) -> Iterator[ScheduledEvent]:
    expires_at = iso(production.submitted_wall + EXPIRY_SECONDS)
    yield ScheduledEvent(
        production.submitted_at, "production.queued", {"status": "Queued", "expiresAt": expires_at}
    )
    produced = ready = False
    for (time, status), (_, seconds) in zip(production.timeline, production.stages, strict=True):
        if status == "Producing" and not produced:
            produced = True
            yield from _step_events(time, seconds, production.step_ends)
        if status in WITH_DELIVERABLES and not ready:
            ready = True
            yield ScheduledEvent(time, "deliverable.ready", {})
        if status == "Published":
            yield ScheduledEvent(time, "production.published", {"status": status})
        if status == "Failed":
            code, message = production.error_at(time) or ("", "")
            yield ScheduledEvent(time, "production.failed", {"errorCode": code, "errorMessage": message})


def _step_events(start: float, seconds: float, step_ends: Sequence[float]) -> Iterator[ScheduledEvent]:
    """Yield an event for each step that is complete after so long in Producing, except those of no length."""
    for step, (begin, end) in enumerate(pairwise((0.0, *step_ends)), start=1):
        if begin < end <= seconds + _ROUNDING_SECONDS:
            yield ScheduledEvent(start + end, "production.step.complete", {"step": step})
