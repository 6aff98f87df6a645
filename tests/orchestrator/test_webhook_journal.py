"""What a webhook told is kept: it outlives the process, or is to come again."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jarai_async import (
    Event,
    JaraiClient,
    Orchestrator,
    RateLimit,
    Status,
)
from jarai_async._journal.journal import Journal
from jarai_async.receiver import Receiver
from jarai_async.simulator import Simulator
from tests.support.deliveries import SECRET, body, deliver
from tests.support.scenarios import request_for, requests_for
from tests.support.webhook_scenarios import RARELY, stages, with_webhooks


async def test_what_was_told_outlives_the_process(tmp_path: Path) -> None:
    """The journal has it before the webhook is answered, and the next process asks for that one first."""
    path = tmp_path / "journal"
    async with Simulator(durations=stages, failure_rate=0, approval="auto") as simulator:
        client = JaraiClient(simulator.api_key, base_url=simulator.base_url)
        async with client, Receiver(SECRET) as receiver:
            orchestrator = Orchestrator(client, webhooks=receiver, journal=path)
            async with orchestrator:
                run = orchestrator.run(requests_for(simulator, 40))
                for _ in range(80):  # submitted, and producing
                    await anext(run)
                simulator.faults.add("unavailable", on="fetch", times=None)
                wanted = list(simulator.productions)[25]
                content = body(productionId=wanted, accountId=simulator.account_id)
                assert await deliver(receiver, content) == 204
            later = body(sequenceNumber=18)
            assert await deliver(receiver, later) == 503  # nobody listens any more
        journal = await Journal.open(path)
        hinted = [one.production for one in await journal.intents() if one.webhook_pending]
        await journal.close()
        assert [one and one.id for one in hinted] == [wanted]
        simulator.faults.clear()
        before = len(simulator.requests)
        budget = RateLimit(per_minute=3)
        async with (
            JaraiClient(simulator.api_key, base_url=simulator.base_url, rate_limit=budget) as client,
            Orchestrator(client, journal=path) as orchestrator,
        ):
            run = orchestrator.run(requests_for(simulator, 40))
            await asyncio.sleep(100)
            await run.aclose()
        asked = [one.target for one in simulator.requests[before:] if one.route == "fetch"]
        assert any(target.endswith(wanted) for target in asked[:3])


async def test_what_happened_while_nobody_listened_says_nothing_of_webhooks(tmp_path: Path) -> None:
    """The next process relies on them as soon as any other would."""
    path = tmp_path / "journal"
    async with with_webhooks() as (simulator, client, receiver):
        async with Orchestrator(client, webhooks=receiver, journal=path) as orchestrator:
            run = orchestrator.run(requests_for(simulator, 40))
            for _ in range(80):  # submitted, and producing
                await anext(run)
        await asyncio.sleep(1_000)
        async with Orchestrator(client, webhooks=receiver, journal=path) as orchestrator:
            asking = asyncio.create_task(drained(orchestrator.run(requests_for(simulator, 40))))
            await asyncio.sleep(200)
            reliability = orchestrator.context.router.coverage(simulator.account_id)
            assert reliability is not None
            assert reliability.miss_probability(Status.PRODUCING, asyncio.get_running_loop().time()) < 0.1
            await asking


async def drained(run: AsyncIterator[Event]) -> None:
    async for _ in run:
        pass


async def test_a_webhook_that_the_journal_cannot_take_is_to_come_again(tmp_path: Path) -> None:
    """503, and once there is room the same delivery is accepted."""
    async with (
        Simulator(durations=stages, failure_rate=0, approval="auto") as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Receiver(SECRET) as receiver,
        Orchestrator(client, webhooks=receiver, journal=tmp_path / "journal", polling=RARELY) as orchestrator,
    ):
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(200)
        journal = orchestrator.context.journal
        database = journal._database
        assert database is not None
        await journal._run(lambda: database.execute("PRAGMA query_only = ON"))
        content = body(productionId=ticket.production_id, accountId=simulator.account_id)
        for _ in range(2):
            assert await deliver(receiver, content) == 503
        await journal._run(lambda: database.execute("PRAGMA query_only = OFF"))
        assert await deliver(receiver, content) == 204


async def test_an_early_event_that_the_journal_cannot_take_ends_nothing(tmp_path: Path) -> None:
    """It was answered long ago, and the production is accepted and paid for."""
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
        journal = orchestrator.context.journal
        database = journal._database
        assert database is not None
        await journal._run(lambda: database.execute("PRAGMA query_only = ON"))
        assert (await ticket).ok


async def test_a_webhook_whose_answer_was_cancelled_is_handed_on_when_it_comes_again(tmp_path: Path) -> None:
    """A framework may cancel its handler, when the other side has gone, say."""
    seen: list[int] = []
    async with (
        Simulator(durations=stages, failure_rate=0, approval="auto") as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Receiver(SECRET, lambda event: seen.append(event.sequence_number)) as receiver,
        Orchestrator(client, webhooks=receiver, journal=tmp_path / "journal") as orchestrator,
    ):
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(200)
        content = body(productionId=ticket.production_id, accountId=simulator.account_id)
        request = asyncio.create_task(deliver(receiver, content))
        await asyncio.sleep(0)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert await deliver(receiver, content) == 204
        await asyncio.sleep(1)
    assert seen == [17]
