"""A webhook is in the journal before it is accepted; if the journal cannot be written, it gets a 503."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jarai_async import Event, JaraiClient, JournalError, Orchestrator, RateLimit, Status
from jarai_async._journal.journal import SqliteJournal
from jarai_async.receiver import Receiver
from jarai_async.simulator import Simulator
from tests.support.deliveries import SECRET, body, deliver
from tests.support.journals import opened_connections
from tests.support.scenarios import request_for, requests_for
from tests.support.webhook_scenarios import RARELY, stages, with_webhooks


async def test_pending_event_survives_a_restart(tmp_path: Path) -> None:
    """An event is in the journal before its 204, and the next process polls its production first."""
    path = tmp_path / "journal"
    async with Simulator(durations=stages, failure_rate=0, approval="auto") as simulator:
        client = JaraiClient(simulator.api_key, base_url=simulator.base_url)
        async with client, Receiver(SECRET) as receiver:
            async with Orchestrator(client, webhooks=receiver, journal=path) as orchestrator:
                run = orchestrator.run(requests_for(simulator, 20))
                for _ in range(40):  # each is submitted and in Producing
                    await anext(run)
                simulator.faults.add("unavailable", on="fetch", times=None)
                announced = list(simulator.productions)[12]
                content = body(productionId=announced, accountId=simulator.account_id)
                assert await deliver(receiver, content) == 204
            assert await deliver(receiver, body(sequenceNumber=18)) == 503  # no orchestrator listens any more
        journal = await SqliteJournal.open(path)
        pending = [intent.production for intent in await journal.intents() if intent.webhook_pending]
        await journal.close()
        assert [production and production.id for production in pending] == [announced]
        simulator.faults.clear()
        before = len(simulator.requests)
        rate_limit = RateLimit(per_minute=3)
        async with (
            JaraiClient(simulator.api_key, base_url=simulator.base_url, rate_limit=rate_limit) as client,
            Orchestrator(client, journal=path) as orchestrator,
        ):
            run = orchestrator.run(requests_for(simulator, 20))
            await asyncio.sleep(100)
            await run.aclose()
        polled = [request.target for request in simulator.requests[before:] if request.route == "fetch"]
        assert any(target.endswith(announced) for target in polled[:3])


async def test_changes_between_two_processes_are_not_counted_as_missed(tmp_path: Path) -> None:
    """Webhooks that no process could receive do not make the next process distrust webhooks."""
    path = tmp_path / "journal"
    async with with_webhooks() as (simulator, client, receiver):
        async with Orchestrator(client, webhooks=receiver, journal=path) as orchestrator:
            run = orchestrator.run(requests_for(simulator, 20))
            for _ in range(40):  # each is submitted and in Producing
                await anext(run)
        await asyncio.sleep(350)
        async with Orchestrator(client, webhooks=receiver, journal=path) as orchestrator:
            reading = asyncio.create_task(read_all(orchestrator.run(requests_for(simulator, 20))))
            await asyncio.sleep(100)
            coverage = orchestrator.context.router.coverage(simulator.account_id)
            assert coverage is not None
            assert coverage.miss_probability(Status.PRODUCING, asyncio.get_running_loop().time()) < 0.1
            reading.cancel()
            await asyncio.wait([reading])


async def read_all(run: AsyncIterator[Event]) -> None:
    async for _ in run:
        pass


async def test_webhook_that_the_journal_cannot_store_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets a 503, and is accepted when it is delivered again and the journal can be written."""
    databases = opened_connections(monkeypatch)
    async with (
        Simulator(durations=stages, failure_rate=0, approval="auto") as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Receiver(SECRET) as receiver,
        Orchestrator(client, webhooks=receiver, journal=tmp_path / "journal", polling=RARELY) as orchestrator,
    ):
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(200)
        (database,) = databases
        database.execute("PRAGMA query_only = ON")
        content = body(productionId=ticket.production_id, accountId=simulator.account_id)
        for _ in range(2):
            assert await deliver(receiver, content) == 503
        database.execute("PRAGMA query_only = OFF")
        assert await deliver(receiver, content) == 204


async def test_early_event_that_the_journal_cannot_store_fails_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event was accepted before the job subscribed, and the production is paid for."""
    databases = opened_connections(monkeypatch)
    with pytest.raises(JournalError):
        await _publish_without_space(tmp_path, databases)


async def _publish_without_space(tmp_path: Path, databases: list[sqlite3.Connection]) -> None:
    async with (
        Simulator(durations=stages, failure_rate=0, approval="auto") as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Receiver(SECRET) as receiver,
        Orchestrator(client, webhooks=receiver, journal=tmp_path / "journal") as orchestrator,
    ):
        simulator.faults.add("slow", seconds=8)
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(1)
        (production_id,) = simulator.productions
        content = body("deliverable.ready", productionId=production_id, accountId=simulator.account_id)
        assert await deliver(receiver, content) == 204
        (database,) = databases
        database.execute("PRAGMA query_only = ON")
        assert (await ticket).ok


async def test_cancelled_delivery_is_accepted_when_it_is_repeated(tmp_path: Path) -> None:
    """A web framework may cancel its handler; the event then reaches `on_event` once, when it is repeated."""
    received: list[int] = []
    async with (
        Simulator(durations=stages, failure_rate=0, approval="auto") as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Receiver(SECRET, lambda event: received.append(event.sequence_number)) as receiver,
        Orchestrator(client, webhooks=receiver, journal=tmp_path / "journal") as orchestrator,
    ):
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(200)
        content = body(productionId=ticket.production_id, accountId=simulator.account_id)
        delivery = asyncio.create_task(deliver(receiver, content))
        await asyncio.sleep(0)
        delivery.cancel()
        with pytest.raises(asyncio.CancelledError):
            await delivery
        assert await deliver(receiver, content) == 204
        await asyncio.sleep(1)
    assert received == [17]
