"""Who may write: claims, epochs, takeovers, and what a former owner may still do."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from attrs import evolve

from jarai_async import ClosedError, JaraiClient, JournalError, Production, Status
from jarai_async._api.models import parse_id
from jarai_async._journal.entries import Stage
from jarai_async._postgres.database import Database
from jarai_async._postgres.job_queue import JobQueue
from jarai_async._postgres.journal import PostgresJournal
from jarai_async._postgres.workers import Workers
from jarai_async.simulator import Simulator
from jarai_async.workers import Queue, Worker
from tests.support.postgres import working
from tests.support.scenarios import request_for
from tests.support.strategies import ID, request

CREATED = Production(parse_id(ID), Status.QUEUED, topic="Tides", raw={})


class Owner:
    """The journal and the lease of one worker."""

    def __init__(self, database: Database, jobs: JobQueue) -> None:
        self.superseded: list[str] = []
        worker = uuid4()
        self.journal = PostgresJournal(database, worker, self.superseded.append)
        self.lease = Workers(database, jobs, worker, "a worker", 60.0)


@pytest.fixture
async def owners(postgres_url: str) -> AsyncIterator[tuple[Owner, Owner]]:
    """Two live workers, and a request `mine` in the queue."""
    async with AsyncExitStack() as stack:
        queue = await stack.enter_async_context(Queue(postgres_url))
        await queue.submit(request(reference="mine"))
        database = Database(postgres_url)
        await database.open()
        stack.push_async_callback(database.close)
        jobs = JobQueue(database)
        await jobs.open()
        owners = Owner(database, jobs), Owner(database, jobs)
        for owner in owners:
            await owner.lease.renew(1.0, {}, look_for_lost=False)
        yield owners


async def test_request_of_a_live_worker_cannot_be_claimed(owners: tuple[Owner, Owner]) -> None:
    one, two = owners
    assert await one.journal.claim("mine") is not None
    assert await two.journal.claim("mine") is None


async def test_former_owner_changes_nothing_and_is_told(owners: tuple[Owner, Owner]) -> None:
    one, two = owners
    intent = await one.journal.claim("mine")
    assert intent is not None
    await one.lease.leave()
    assert await two.journal.claim("mine") is not None
    intent.stage = Stage.SENDING
    with pytest.raises(ClosedError, match="another worker owns"):
        await one.journal.save(intent)
    assert one.superseded == ["mine"]
    found = await two.journal.find("mine")
    assert found is not None
    assert found.stage is Stage.PLANNED


async def test_submit_of_a_dead_worker_is_in_doubt_for_the_next_one(owners: tuple[Owner, Owner]) -> None:
    one, two = owners
    intent = await one.journal.claim("mine")
    assert intent is not None
    intent.stage = Stage.SENDING
    await one.journal.save(intent)
    await one.lease.leave()
    taken = await two.journal.claim("mine")
    assert taken is not None
    assert taken.stage is Stage.IN_DOUBT


@pytest.mark.parametrize("is_same_key", [True, False])
async def test_late_answer_is_recorded_while_the_same_submit_is_in_doubt(
    owners: tuple[Owner, Owner], database: Database, *, is_same_key: bool
) -> None:
    """The former owner was paused or cut off, and its submit was accepted: nobody has to decide about it."""
    one, two = owners
    intent = await one.journal.claim("mine")
    assert intent is not None
    intent.stage = Stage.SENDING
    await one.journal.save(intent)
    await one.lease.leave()
    assert await two.journal.claim("mine") is not None
    if not is_same_key:
        await database.read("UPDATE jarai.requests SET key = 'another'")
    intent.stage, intent.production = Stage.ACCEPTED, evolve(CREATED)
    with pytest.raises(ClosedError):
        await one.journal.save(intent)
    stored = await database.read("SELECT stage, production_id FROM jarai.requests")
    assert stored == ([("accepted", ID)] if is_same_key else [("in doubt", None)])


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
