"""What users decide and read through a `Queue`, while a worker elsewhere does the work."""

import asyncio
from datetime import timedelta

import pytest

from jarai_async import InvalidRequestError, JaraiClient, JournalError, OutcomeState
from jarai_async._postgres.database import Database
from jarai_async.simulator import Simulator
from jarai_async.workers import Queue, Worker
from tests.support.postgres import working
from tests.support.scenarios import request_for


async def test_cancel_before_a_worker_takes_the_request_sends_nothing(
    postgres_url: str, client: JaraiClient, simulator: Simulator
) -> None:
    async with Queue(postgres_url) as queue:
        ticket = await queue.submit(request_for(simulator, reference="tides"))
        cancel = asyncio.create_task(ticket.cancel())
        await asyncio.sleep(5)
        assert not cancel.done()
        async with Worker(client, postgres_url, lease=60.0):  # it takes none from the queue
            await cancel
        assert (await ticket).state is OutcomeState.CANCELLED
    assert simulator.count("submit") == 0


async def test_cancel_of_an_accepted_request_is_carried_out_by_its_worker(
    postgres_url: str, client: JaraiClient, simulator: Simulator
) -> None:
    simulator.when().takes(queued=300)
    async with Queue(postgres_url) as queue, working(client, postgres_url):
        ticket = await queue.submit(request_for(simulator, reference="tides"))
        await asyncio.sleep(60)
        await ticket.cancel()
        assert (await ticket).state is OutcomeState.CANCELLED
    assert simulator.count("cancel") == 1


async def test_retry_submits_a_failed_request_again_and_refuses_a_published_one(
    postgres_url: str, client: JaraiClient, simulator: Simulator
) -> None:
    simulator.when(1).fails(step=3)
    async with Queue(postgres_url) as queue, working(client, postgres_url):
        ticket = await queue.submit(request_for(simulator, reference="tides"))
        assert (await ticket).state is OutcomeState.FAILED
        again = await queue.retry("tides")
        assert (await again).state is OutcomeState.PUBLISHED
        with pytest.raises(InvalidRequestError):
            await queue.retry("tides")
        with pytest.raises(InvalidRequestError, match="no request with the reference 'waves'"):
            await queue.retry("waves")
    assert simulator.count("submit") == 2


async def test_uncertain_request_stays_so_until_a_user_names_its_production(
    postgres_url: str, client: JaraiClient, simulator: Simulator
) -> None:
    simulator.when(1).loses_response()
    async with Queue(postgres_url) as queue, working(client, postgres_url):
        ticket = await queue.submit(request_for(simulator, reference="tides"))
        assert (await ticket).state is OutcomeState.UNCERTAIN
        await asyncio.sleep(600)
        assert simulator.count("submit") == 1
        (production_id,) = simulator.productions
        resolved = await queue.resolve("tides", production_id=production_id)
        assert (await resolved).state is OutcomeState.PUBLISHED
    assert simulator.count("submit") == 1


async def test_events_continue_behind_a_cursor_in_another_connection(
    postgres_url: str, client: JaraiClient, simulator: Simulator
) -> None:
    async with Queue(postgres_url) as queue, working(client, postgres_url):
        await (await queue.submit(request_for(simulator, reference="tides")))
        await (await queue.submit(request_for(simulator, reference="waves")))
        last = await queue.cursor()
    read: list[int] = []
    while not read or read[-1] < last:
        async with Queue(postgres_url) as queue:
            async for event in queue.events(after=read[-1] if read else 0):
                read.append(event.cursor)
                if len(read) % 3 == 0 or event.cursor == last:
                    break
    assert read == list(range(1, last + 1))


async def test_ended_requests_are_forgotten_with_their_events_and_others_are_not(
    postgres_url: str, client: JaraiClient, simulator: Simulator, database: Database
) -> None:
    async with Queue(postgres_url) as queue, working(client, postgres_url):
        ended = await queue.submit(request_for(simulator, reference="tides"))
        await ended
        await queue.submit(request_for(simulator, reference="waves"))
        await asyncio.sleep(60)
        with pytest.raises(InvalidRequestError, match="waves"):
            await queue.forget("tides", "waves")
        assert await queue.forget("tides") == ["tides"]
        assert await queue.ticket("tides") is None
        assert await queue.forget(older_than=timedelta(days=1)) == []
    assert await database.read(
        "SELECT count(*) FROM jarai.events JOIN jarai.requests ON requests.id = events.request "
        "WHERE reference = 'tides'"
    ) == [(0,)]


async def test_deadline_of_a_request_ends_the_wait(
    postgres_url: str, client: JaraiClient, simulator: Simulator
) -> None:
    async with Queue(postgres_url) as queue, working(client, postgres_url):
        ticket = await queue.submit(request_for(simulator, reference="tides"), deadline=60)
        assert (await ticket).state is OutcomeState.TIMED_OUT


async def test_database_of_another_server_is_refused(
    postgres_url: str, client: JaraiClient, simulator: Simulator
) -> None:
    async with Worker(client, postgres_url, lease=60.0):
        pass
    async with (
        Simulator(seed=1) as other,
        JaraiClient(other.api_key, base_url=other.base_url) as client_of_other,
    ):
        with pytest.raises(JournalError, match="was made for"):
            async with Worker(client_of_other, postgres_url, lease=60.0):
                pass
    assert simulator.count("submit") == 0
