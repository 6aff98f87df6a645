"""What becomes of the requests of a worker that leaves, and of those that were lost track of."""

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from jarai_async import JaraiClient, JournalError
from jarai_async.simulator import Simulator
from jarai_async.workers import Queue, Worker
from tests.support.postgres import working
from tests.support.scenarios import request_for


async def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    """Return the rows of a statement."""
    async with await psycopg.AsyncConnection.connect(
        url, autocommit=True, options="-c search_path=jarai"
    ) as connection:
        cursor = await connection.execute(query.encode())
        return await cursor.fetchall() if cursor.description else []


async def test_worker_that_leaves_hands_its_requests_over_at_once(
    simulated_url: str, client: JaraiClient, simulator: Simulator
) -> None:
    """The other one does not wait for the end of a lease."""
    async with (
        Queue(simulated_url) as queue,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as other_client,
    ):
        async with working(client, simulated_url, lease=3600.0):
            ticket = await queue.submit(request_for(simulator, reference="tides"))
            async for _ in ticket.events():
                break
        assert await rows(simulated_url, "SELECT worker FROM jarai.requests") == [(None,)]
        async with working(other_client, simulated_url, lease=3600.0):
            assert (await ticket).ok
    assert simulator.count("submit") == 1


async def test_request_that_the_queue_has_lost_is_found_again(
    simulated_url: str, client: JaraiClient, simulator: Simulator
) -> None:
    """As after a crash of the database while procrastinate records the end of a job."""
    async with Queue(simulated_url) as queue:
        ticket = await queue.submit(request_for(simulator))
        await rows(simulated_url, "DELETE FROM jarai.procrastinate_jobs")
        async with asyncio.timeout(3600), working(client, simulated_url):
            assert (await ticket).ok


async def test_request_that_has_ended_is_given_up_by_a_worker_that_does_not_know_that_it_owns_it(
    simulated_url: str, client: JaraiClient, simulator: Simulator
) -> None:
    """After an outage of the database, it stayed owned, and could not be forgotten until the worker left."""
    async with Queue(simulated_url) as queue, working(client, simulated_url):
        assert (await (await queue.submit(request_for(simulator, reference="tides")))).ok
        await asyncio.sleep(60)
        owned = "UPDATE jarai.requests SET worker = (SELECT id FROM jarai.workers) RETURNING reference"
        assert await rows(simulated_url, owned) == [("tides",)]
        await asyncio.sleep(60)
        assert await rows(simulated_url, "SELECT worker FROM jarai.requests") == [(None,)]


async def test_database_belongs_to_one_server(
    simulated_url: str, client: JaraiClient, make_other: Callable[[], Simulator]
) -> None:
    """The productions of its requests are known to that server only."""
    async with Worker(client, simulated_url):
        pass
    async with (
        make_other() as other,
        JaraiClient(other.api_key, base_url=other.base_url) as other_client,
    ):
        with pytest.raises(JournalError, match="another database"):
            async with Worker(other_client, simulated_url):
                pass


@pytest.fixture
def make_other() -> Callable[[], Simulator]:
    """What makes another simulator."""
    return lambda: Simulator(seed=1)
