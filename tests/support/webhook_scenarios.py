"""Simulators whose webhooks are delivered to a receiver, by the simulator or by the test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from jarai_async import Event, JaraiClient, Orchestrator, Polling, Status, StatusChanged
from jarai_async.receiver import Receiver
from jarai_async.simulator import Deliverability, Durations, Simulator, Stage
from tests.support.deliveries import SECRET
from tests.support.scenarios import requests_for

RARELY = Polling(min_interval=5, max_interval=5_000)


def stages(random: Random, _: str) -> list[Stage]:
    producing = random.uniform(300, 400)
    return [("Queued", 30), ("Producing", producing), ("AwaitingApproval", 60), ("Distributing", 90)]


def long_stages(random: Random, _: str) -> list[Stage]:
    producing = random.uniform(900, 1_200)
    return [("Queued", 30), ("Producing", producing), ("AwaitingApproval", 60), ("Distributing", 90)]


@asynccontextmanager
async def with_webhooks(
    deliverability: Deliverability | None = None, accounts: int = 1, durations: Durations = stages
) -> AsyncIterator[tuple[Simulator, JaraiClient, Receiver]]:
    """Start a simulator that sends its webhooks to a receiver."""
    async with (
        Simulator(
            durations=durations,
            failure_rate=0,
            deliverability=deliverability or Deliverability(),
            accounts=accounts,
        ) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        webhook = await client.create_webhook("http://127.0.0.1:1/")
        async with Receiver(webhook.signing_secret) as receiver, receiver.serve() as url:
            await client.update_webhook(webhook.id, endpoint_url=url)
            yield simulator, client, receiver


@asynccontextmanager
async def with_manual_webhooks(
    polling: Polling = RARELY,
) -> AsyncIterator[tuple[Simulator, Receiver, Orchestrator]]:
    """Start a simulator that sends no webhooks: the test delivers them to the receiver."""
    async with (
        Simulator(durations=stages, failure_rate=0, approval="auto") as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Receiver(SECRET) as receiver,
        Orchestrator(client, webhooks=receiver, polling=polling) as orchestrator,
    ):
        yield simulator, receiver, orchestrator


async def run_batch(orchestrator: Orchestrator, simulator: Simulator, count: int) -> list[Event]:
    """Run a batch to its end; return all events."""
    async with orchestrator:
        return [event async for event in orchestrator.run(requests_for(simulator, count))]


def lags(simulator: Simulator, events: list[Event], *statuses: Status) -> list[float]:
    """Return how many seconds late each change to one of these statuses was noticed."""
    late = []
    for event in events:
        if isinstance(event, StatusChanged) and event.status in statuses and event.production is not None:
            production = simulator.productions[event.production.id]
            changed_at = next(time for time, status in production.timeline if status == event.status)
            late.append(event.observed_at.timestamp() - production.wall(changed_at))
    return late
