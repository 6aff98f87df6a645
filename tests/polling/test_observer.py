"""What polls and webhooks show about the time of a change."""

import math
from datetime import UTC, datetime

import pytest
from attrs import evolve

from jarai_async._polling.observer import Observer
from jarai_async._polling.sojourn import Sojourns
from jarai_async.webhooks import ProductionPublished
from tests.support.webhook_events import webhook_event


@pytest.mark.parametrize(("sent_at", "time"), [(990, 40), (1_000, 50), (1_010, 50), (None, -math.inf)])
def test_time_of_an_event_is_that_of_the_servers_clock(sent_at: int | None, time: float) -> None:
    """But never later than now: the server's clock is 1,000 when the client's is 50."""
    timestamp = None if sent_at is None else datetime.fromtimestamp(sent_at, UTC)
    event = evolve(webhook_event(ProductionPublished), timestamp=timestamp)
    assert Observer(Sojourns(), lambda: 1_000.0).time_of(event, 50.0) == time
