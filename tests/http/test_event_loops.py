"""A client belongs to one event loop."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from jarai_async import (
    ConfigurationError,
    Deliverable,
    JaraiClient,
    NotSentError,
    Orchestrator,
    ProductionRequest,
)
from jarai_async.receiver import Receiver
from jarai_async.simulator import run
from tests.support.deliveries import SECRET, deliver, numbered
from tests.support.strategies import ID

REQUEST = ProductionRequest(topic="Tides", account_id=ID, language_id=ID, country_id=ID, avatar_id=ID)


async def used_client() -> JaraiClient:
    """Return a client that was used in this loop, with nothing to close."""
    async with aiohttp.ClientSession() as session:
        client = JaraiClient("jarai_test_x", base_url="http://127.0.0.1:9", session=session)
        with pytest.raises(NotSentError):
            await client.accounts()
    return client


async def enter_orchestrator(client: JaraiClient) -> None:
    async with Orchestrator(client):
        pass


async def enter(client: JaraiClient) -> None:
    async with client:
        pass


USES: dict[str, Callable[[JaraiClient], Awaitable[Any]]] = {
    "submit": lambda client: client.submit(REQUEST),
    "fetch": lambda client: client.fetch(ID),
    "wait": lambda client: client.wait(ID),
    "cancel": lambda client: client.cancel(ID),
    "deliverables": lambda client: client.deliverables(ID),
    "download": lambda client: client.download(Deliverable("Video", "https://files.invalid/a"), Path()),
    "webhooks": lambda client: client.webhooks(),
    "orchestrator": enter_orchestrator,
    "async with": enter,
    "close": lambda client: client.close(),
}


@pytest.mark.parametrize("use", USES)
def test_client_in_a_second_event_loop_is_a_configuration_error(use: str) -> None:
    """At once: not "no connection", and nothing is sent or retried."""
    client = run(used_client())

    async def use_again() -> None:
        with pytest.raises(ConfigurationError, match="event loop"):
            await USES[use](client)

    run(use_again())


async def test_receiver_in_another_event_loop_than_its_orchestrator_is_a_configuration_error() -> None:
    """Its events would reach the orchestrator from another thread."""
    async with (
        Receiver(SECRET) as receiver,
        JaraiClient("jarai_test_x", base_url="http://127.0.0.1:9") as client,
        Orchestrator(client, webhooks=receiver),
    ):
        with pytest.raises(ConfigurationError, match="event loop"):
            await asyncio.to_thread(run, deliver(receiver, numbered(1)))
        assert await deliver(receiver, numbered(1)) == 204


def test_client_may_be_created_outside_of_its_event_loop() -> None:
    """The loop of its first use counts."""
    client = JaraiClient("jarai_test_x", base_url="http://127.0.0.1:9")
    run(enter(client))
