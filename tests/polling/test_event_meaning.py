"""What a webhook event says about a production that was last seen in a given status. Pure."""

from itertools import pairwise

import pytest

from jarai_async import Status
from jarai_async._polling.event_meaning import classify
from jarai_async.webhooks import (
    DeliverableReady,
    ProductionFailed,
    ProductionPublished,
    ProductionQueued,
    StepCompleted,
    WebhookEvent,
)
from tests.support.webhook_events import webhook_event

QUEUED, PRODUCING, AWAITING_APPROVAL, DISTRIBUTING, UNKNOWN = (
    Status.QUEUED,
    Status.PRODUCING,
    Status.AWAITING_APPROVAL,
    Status.DISTRIBUTING,
    Status("Rendering"),
)
OPEN = [QUEUED, PRODUCING, AWAITING_APPROVAL, DISTRIBUTING, UNKNOWN]
ENDED = [Status.PUBLISHED, Status.FAILED, Status.CANCELLED]

PRODUCTION_QUEUED = webhook_event(ProductionQueued)
STEP_WITHOUT_NUMBER = webhook_event(StepCompleted)
STEP_1 = webhook_event(StepCompleted, step=1)
STEP_3 = webhook_event(StepCompleted, step=3)
LAST_STEP = webhook_event(StepCompleted, step=15)
DELIVERABLE_READY = webhook_event(DeliverableReady)
PUBLISHED = webhook_event(ProductionPublished)
FAILED = webhook_event(ProductionFailed)
UNKNOWN_EVENT = webhook_event(WebhookEvent)


@pytest.mark.parametrize(
    ("event", "statuses"),
    [
        (PRODUCTION_QUEUED, []),
        (STEP_3, [QUEUED]),
        (STEP_WITHOUT_NUMBER, [QUEUED]),
        (LAST_STEP, [QUEUED, PRODUCING]),
        (DELIVERABLE_READY, [QUEUED, PRODUCING]),
        (PUBLISHED, OPEN),
        (FAILED, OPEN),
        (UNKNOWN_EVENT, OPEN),
    ],
)
def test_statuses_that_have_ended_when_an_event_arrives(event: WebhookEvent, statuses: list[Status]) -> None:
    """A late, repeated or reordered event is not about the status that was last seen."""
    assert [status for status in [*OPEN, *ENDED] if classify(event, status).status_ended] == statuses


@pytest.mark.parametrize(
    ("event", "statuses"),
    [
        (PRODUCTION_QUEUED, []),
        (STEP_3, []),
        (LAST_STEP, [QUEUED, PRODUCING]),
        (DELIVERABLE_READY, [QUEUED, PRODUCING]),
        (PUBLISHED, [AWAITING_APPROVAL, DISTRIBUTING, UNKNOWN]),
        (FAILED, OPEN),
        (UNKNOWN_EVENT, []),
    ],
)
def test_statuses_whose_end_an_event_announces(event: WebhookEvent, statuses: list[Status]) -> None:
    """Only the event for a change shows that webhooks announce such changes, not one of a later change."""
    assert [status for status in OPEN if classify(event, status).announces_change] == statuses


def test_progress_orders_events() -> None:
    """An event that shows more progress has a greater `progress`."""
    for event, later in pairwise([UNKNOWN_EVENT, STEP_WITHOUT_NUMBER, DELIVERABLE_READY, FAILED]):
        assert classify(later, PRODUCING).progress > classify(event, PRODUCING).progress


def test_step_confirms_that_a_production_is_producing() -> None:
    """No other event says that a status still lasts."""
    assert classify(STEP_3, PRODUCING).status_confirmed
    assert not classify(STEP_3, DISTRIBUTING).status_confirmed
    assert not classify(PRODUCTION_QUEUED, QUEUED).status_confirmed


def test_only_the_event_of_a_change_dates_it() -> None:
    """A completed step, for example, only says that Queued ended earlier."""
    assert classify(DELIVERABLE_READY, PRODUCING).dates_change
    assert classify(PUBLISHED, DISTRIBUTING).dates_change
    assert classify(FAILED, PRODUCING).dates_change
    assert not classify(STEP_1, QUEUED).dates_change
    assert not classify(PUBLISHED, AWAITING_APPROVAL).dates_change
    assert not classify(PUBLISHED, PRODUCING).dates_change
    assert not classify(UNKNOWN_EVENT, DISTRIBUTING).dates_change
