"""Webhook events as JARAI sends them, and a receiver to deliver them to."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from jarai_async.receiver import Receiver
from jarai_async.webhooks import WebhookEvent, sign
from tests.support.strategies import ID, OTHER

SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"  # noqa: S105  # a test value
SECOND_SECRET = "IB8eHRwbGhkYFxYVFBMSERAPDg0MCwoJCAcGBQQDAgE="  # noqa: S105  # with padding, which is optional


def envelope(event_type: str = "production.published", /, **fields: Any) -> dict[str, Any]:
    """An event in the documented format, with these fields replaced."""
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
    """The body of a delivery, with these fields replaced."""
    return json.dumps(envelope(event_type, **fields)).encode()


def numbered(number: int, event_type: str = "production.published", **fields: Any) -> bytes:
    """The body of a delivery with this sequence number."""
    return body(event_type, sequenceNumber=number, **fields)


async def deliver(receiver: Receiver, content: bytes, secret: str = SECRET) -> int:
    """Deliver a signed body, and return the status of the response."""
    return await receiver.receive(content, sign(content, secret))


async def run_pending_tasks() -> None:
    """Let all tasks run that do not wait for time to pass."""
    await asyncio.sleep(0.001)


@asynccontextmanager
async def running_receiver(
    on_event: Callable[[WebhookEvent], Awaitable[None] | None] = lambda _: None, path: str = "/"
) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """A receiver that is served over HTTP: its URL, and a session to send requests with."""
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        Receiver(SECRET, on_event) as receiver,
        receiver.serve(path=path) as url,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        yield url, session
