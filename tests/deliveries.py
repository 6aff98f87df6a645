"""What JARAI would send by webhook, and one way to spoil it."""

import json
from typing import Any

from strategies import ID, OTHER

SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"  # noqa: S105  # of the tests
SECOND_SECRET = "IB8eHRwbGhkYFxYVFBMSERAPDg0MCwoJCAcGBQQDAgE="  # noqa: S105  # padded: as good


def envelope(event_type: str = "production.published", /, **fields: Any) -> dict[str, Any]:
    """An event as it is documented, but for what is given."""
    return {
        "eventId": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
        "eventType": event_type,
        "productionId": ID,
        "accountId": OTHER,
        "timestamp": "2026-01-01T09:00:00.000Z",
        "sequenceNumber": 17,
        "correlationId": "c-1",
        "truncated": False,
        "data": {},
    } | fields


def body(event_type: str = "production.published", /, **fields: Any) -> bytes:
    """The bytes of an event."""
    return json.dumps(envelope(event_type, **fields)).encode()
