"""What a webhook event says about a production that was last seen in a given status. Pure.

Events are late, repeated and out of order, so an event is never taken as a status. It only says whether the
status that was last seen is out of date, and whether the event is the one that announces that change.
"""

from typing import Final

from attrs import frozen

from jarai_async._api.models import Status
from jarai_async._api.webhook_models import (
    DeliverableReady,
    ProductionFailed,
    ProductionPublished,
    ProductionQueued,
    StepCompleted,
    WebhookEvent,
)

SUBMITTED: Final = Status("")  # of a production whose `production.queued` has not arrived
ANNOUNCED_WITH: Final = {Status.QUEUED: Status.PRODUCING, Status.AWAITING_APPROVAL: Status.DISTRIBUTING}
"""Statuses whose end has no event, and the status whose end announces that they have ended, too."""
_LAST_STEP: Final = 15  # documented: there are 15 steps
_BY_PROGRESS: Final = (StepCompleted, DeliverableReady, ProductionPublished | ProductionFailed)


@frozen
class EventMeaning:
    """What an event says about a production and the status in which it was last seen.

    - `status_ended`: the production has left that status.
    - `status_confirmed`: it still had that status at the time of the event.
    - `announces_change`: this is the event for the end of that status. (The end of a production has an event
      whether or not `deliverable.ready` arrived before; what an unknown type announces is not known.)
    - `dates_change`: the time of the event is the time of that change.
    - `progress`: orders events by how far the production has come.
    """

    status_ended: bool
    status_confirmed: bool
    announces_change: bool
    dates_change: bool
    progress: int


def classify(event: WebhookEvent, status: Status) -> EventMeaning:
    """Return what an event says about a production that was last seen in this status."""
    ended = _has_ended(event, status)
    announces = _announces_change(event, status)
    return EventMeaning(
        status_ended=ended,
        status_confirmed=isinstance(event, StepCompleted) and status == Status.PRODUCING and not ended,
        announces_change=announces,
        dates_change=announces and status in (Status.PRODUCING, Status.DISTRIBUTING),
        progress=next((n for n, kind in enumerate(_BY_PROGRESS, start=1) if isinstance(event, kind)), 0),
    )


def _has_ended(event: WebhookEvent, status: Status) -> bool:
    match event:
        case ProductionQueued():
            return status == SUBMITTED
        case StepCompleted(step=step):
            is_last = step is not None and step >= _LAST_STEP
            return status == Status.QUEUED or (is_last and status == Status.PRODUCING)
        case DeliverableReady():
            return status in (Status.QUEUED, Status.PRODUCING)
        case _:  # the end of the production, or a type that this version does not know
            return not status.is_terminal and status != SUBMITTED


def _announces_change(event: WebhookEvent, status: Status) -> bool:
    announced = ANNOUNCED_WITH.get(status, status)
    if type(event) is WebhookEvent or (
        isinstance(event, ProductionPublished) and announced == Status.PRODUCING
    ):
        return False
    return _has_ended(event, announced)
