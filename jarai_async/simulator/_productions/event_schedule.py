"""What JARAI has to tell of a production, and when: a function of its fate, like its status.

Documented: the types, the envelope, the counter of each production, what `production.queued` says, and that
`truncated` is true only of more than 100 deliverables. Inferred: what the other types say; that
`deliverable.ready` comes when deliverables first exist; that a cancelled production tells nothing.
"""

import math
from collections.abc import Iterator
from typing import Any

from attrs import frozen

from jarai_async.simulator._productions.json_bodies import iso
from jarai_async.simulator._productions.state import STEP_ENDS, WITH_DELIVERABLES, SimulatedProduction
from jarai_async.simulator._productions.timelines import EXPIRY_SECONDS

_AT_ONCE = 1e-6  # seconds: a step that ends with its stage ends in it


@frozen
class ScheduledEvent:
    """One thing to tell; its place among those of its production is its sequence number."""

    moment: float
    event_type: str
    data: dict[str, Any]


def scheduled_events(production: SimulatedProduction) -> list[ScheduledEvent]:
    """All that will be told unless a person intervenes, in order; what is past stays as it is."""
    return [one for one in _each(production) if math.isfinite(one.moment)]


def _each(production: SimulatedProduction) -> Iterator[ScheduledEvent]:
    produced = ready = False
    stages = zip(production.timeline, production.drawn.stages, strict=True)
    for place, ((moment, status), (_, seconds)) in enumerate(stages):
        if place == 0:
            expires_at = iso(production.submitted_wall + EXPIRY_SECONDS)
            yield ScheduledEvent(moment, "production.queued", {"status": "Queued", "expiresAt": expires_at})
        if status == "Producing" and not produced:
            produced = True
            yield from _steps(moment, seconds, production.drawn.producing_seconds)
        if status in WITH_DELIVERABLES and not ready:
            ready = True
            yield ScheduledEvent(moment, "deliverable.ready", {})
        if status == "Published":
            yield ScheduledEvent(moment, "production.published", {"status": status})
        if status == "Failed":
            code, message = production.error_at(moment) or ("", "")
            yield ScheduledEvent(moment, "production.failed", {"errorCode": code, "errorMessage": message})


def _steps(start: float, seconds: float, whole: float) -> Iterator[ScheduledEvent]:
    for step, share in enumerate(STEP_ENDS, start=1):
        if share * whole <= seconds + _AT_ONCE:
            yield ScheduledEvent(start + share * whole, "production.step.complete", {"step": step})
