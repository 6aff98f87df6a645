"""Workers and queues on a real PostgreSQL server, with the simulator in the same event loop."""

import asyncio
from uuid import uuid4

import psycopg
import pytest

from jarai_async import Finished, InvalidRequestError, JaraiClient, OutcomeState
from jarai_async._api.models import parse_id
from jarai_async._postgres import webhook_events
from jarai_async._postgres.database import Database
from jarai_async.simulator import Simulator
from jarai_async.webhooks import ProductionFailed, WebhookEvent
from jarai_async.workers import Queue
from tests.support.postgres import working
from tests.support.scenarios import request_for


async def test_request_is_produced_by_a_worker(
    postgres_url: str, client: JaraiClient, simulator: Simulator
) -> None:
    async with Queue(postgres_url) as queue, working(client, postgres_url):
        ticket = await queue.submit(request_for(simulator, reference="tides"))
        outcome = await ticket
        assert outcome.state is OutcomeState.PUBLISHED
        events = [event async for event in ticket.events()]
        assert isinstance(events[-1], Finished)
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        again = await queue.submit(request_for(simulator, reference="tides"))
        assert (await again).production == outcome.production
    assert simulator.count("submit") == 1


@pytest.mark.parametrize("reference", ["nul \0", "half \ud83d"])
async def test_reference_that_postgresql_cannot_store_is_refused(
    postgres_url: str, simulator: Simulator, reference: str
) -> None:
    async with Queue(postgres_url) as queue:
        with pytest.raises(InvalidRequestError, match=r"cannot be stored|is no Unicode text"):
            await queue.submit(request_for(simulator, reference=reference))
        assert await queue.ticket(reference) is None
        with pytest.raises(InvalidRequestError, match="no request"):
            await queue.retry(reference)


async def test_character_zero_of_the_server_is_stored(database: Database) -> None:
    """In the text of a webhook; the type jsonb refuses it."""
    event = ProductionFailed(
        production_id=parse_id(str(uuid4())), error_message="zero \0", event_type="production.failed"
    )
    await webhook_events.record(database, event)
    (read,) = await webhook_events.WebhookReader(database).read()
    assert isinstance(read, ProductionFailed)
    assert read.error_message == "zero \0"


async def test_statistics_are_those_of_all_workers_and_requests(
    postgres_url: str, client: JaraiClient, simulator: Simulator
) -> None:
    async with Queue(postgres_url) as queue:
        for number in range(3):
            await queue.submit(request_for(simulator, reference=str(number)))
        before = await queue.statistics()
        assert (before.waiting, before.finished) == (3, 0)
        async with working(client, postgres_url):
            for ticket in await queue.tickets():
                await ticket
            await asyncio.sleep(20)  # until the worker renews its lease
            after = await queue.statistics()
        assert (after.waiting, after.in_flight, after.finished, after.requests["submit"]) == (0, 0, 3, 3)
        assert after.per_minute == 300


async def test_webhook_events_are_read_once_also_where_they_are_committed_late(
    database: Database, postgres_url: str
) -> None:
    """Such a row has a lower number than one that was read before. After an hour they are deleted."""
    reader = webhook_events.WebhookReader(database)

    async def read() -> list[int]:
        return [event.sequence_number for event in await reader.read()]

    insert = b"INSERT INTO jarai.webhooks (received_at, event) SELECT received_at, event FROM jarai.webhooks"
    await webhook_events.record(database, WebhookEvent(sequence_number=1))
    async with await psycopg.AsyncConnection.connect(postgres_url) as late:
        await late.execute(insert)
        await webhook_events.record(database, WebhookEvent(sequence_number=2))
        assert await read() == [1, 2]
        await late.commit()
    assert await read() == [1]
    assert await read() == []
    await database.read("UPDATE jarai.webhooks SET received_at = received_at - 3601")
    await webhook_events.record(database, WebhookEvent(sequence_number=3))
    assert await read() == [3]
    assert await database.read("SELECT count(*) FROM jarai.webhooks") == [(1,)]
