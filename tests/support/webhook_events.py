"""Webhook events as values, for tests that need no receiver."""

from datetime import UTC, datetime
from typing import Any

from jarai_async._api.models import parse_id
from jarai_async.webhooks import WebhookEvent
from tests.support.strategies import ID, OTHER


def webhook_event(kind: type[WebhookEvent], production_id: str = ID, **fields: Any) -> WebhookEvent:
    return kind(
        event_id=parse_id(ID),
        event_type="",
        production_id=parse_id(production_id),
        account_id=parse_id(OTHER),
        sequence_number=1,
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        **fields,
    )
