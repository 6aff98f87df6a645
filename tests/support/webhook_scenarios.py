"""Productions whose webhooks come to a receiver."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from jarai_async import (
    Event,
    JaraiClient,
    Orchestrator,
    Polling,
    Status,
    StatusChanged,
)
from jarai_async.receiver import Receiver
from jarai_async.simulator import Deliverability, Simulator
from tests.support.deliveries import SECRET
from tests.support.scenarios import requests_for

RARELY = Polling(min_interval=5, max_interval=5_000)


def stages(random: Random, _: str) -> list[tuple[str, float]]:
    producing = random.uniform(900, 1_200)
    return [("Queued", 30), ("Producing", producing), ("AwaitingApproval", 60), ("Distributing", 90)]


@asynccontextmanager
async def told(
    deliverability: Deliverability | None = None, accounts: int = 1
) -> AsyncIterator[tuple[Simulator, JaraiClient, Receiver]]:
    """A simulator whose webhooks come to a receiver."""
    how = deliverability or Deliverability()
    async with (
        Simulator(durations=stages, failure_rate=0, deliverability=how, accounts=accounts) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        webhook = await client.create_webhook("http://127.0.0.1:1/")
        async with Receiver(webhook.signing_secret) as receiver, receiver.serve() as url:
            await client.update_webhook(webhook.id, endpoint_url=url)
            yield simulator, client, receiver


@asynccontextmanager
async def by_hand(polling: Polling = RARELY) -> AsyncIterator[tuple[Simulator, Receiver, Orchestrator]]:
    """A simulator without webhooks: what the receiver is told is for the test to say."""
    async with (
        Simulator(durations=stages, failure_rate=0, approval="auto") as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Receiver(SECRET) as receiver,
        Orchestrator(client, webhooks=receiver, polling=polling) as orchestrator,
    ):
        yield simulator, receiver, orchestrator


async def followed(orchestrator: Orchestrator, simulator: Simulator, count: int) -> list[Event]:
    async with orchestrator:
        return [event async for event in orchestrator.run(requests_for(simulator, count))]


def lags(simulator: Simulator, events: list[Event], *statuses: Status) -> list[float]:
    """Seconds by which the changes to these statuses were noticed late."""
    late = []
    for event in events:
        if isinstance(event, StatusChanged) and event.status in statuses and event.production is not None:
            truth = simulator.productions[event.production.id]
            moment = next(at for at, status in truth.timeline if status == event.status)
            late.append(event.observed_at.timestamp() - truth.wall(moment))
    return late
