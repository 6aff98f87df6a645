"""What JARAI would send by webhook, and who receives it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from jarai_async.receiver import Receiver
from jarai_async.webhooks import WebhookEvent, sign
from tests.support.strategies import ID, OTHER

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


def numbered(number: int, event_type: str = "production.published", **fields: Any) -> bytes:
    return body(event_type, sequenceNumber=number, **fields)


async def give(one: Receiver, content: bytes, secret: str = SECRET) -> int:
    """Deliver it, signed, and give the answer."""
    return await one.receive(content, sign(content, secret))


async def settled() -> None:
    """Let everything happen that can happen without time."""
    await asyncio.sleep(0.001)


@asynccontextmanager
async def served(
    on_event: Callable[[WebhookEvent], Awaitable[None] | None] = lambda _: None, path: str = "/"
) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        Receiver(SECRET, on_event) as one,
        one.serve(path=path) as url,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        yield url, session
