"""Who owns a request: claims, epochs, leases, and what becomes of a worker's requests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import psycopg
import pytest

from jarai_async import ClosedError, Production, Status
from jarai_async._api.models import parse_id
from jarai_async._journal.entries import Intent, Stage
from jarai_async._postgres.database import Database
from jarai_async._postgres.job_queue import JobQueue
from jarai_async._postgres.journal import PostgresJournal
from jarai_async._postgres.workers import Workers
from jarai_async.simulator import Simulator
from jarai_async.workers import Queue
from tests.support.scenarios import requests_for
from tests.support.strategies import ID


class Owner:
    """The journal and the lease of a worker that runs no jobs."""

    def __init__(self, database: Database, name: str, lease: float = 60.0) -> None:
        worker = uuid4()
        self.superseded: list[str] = []
        self.journal = PostgresJournal(database, worker, self.superseded.append)
        self.jobs = JobQueue(database)
        self.workers = Workers(database, self.jobs, worker, name, lease)

    async def claimed(self, reference: str) -> Intent:
        """Claim a request, which must be free."""
        intent = await self.journal.claim(reference)
        assert intent is not None
        return intent


@asynccontextmanager
async def owner(database: Database, name: str, lease: float = 60.0) -> AsyncIterator[Owner]:
    each = Owner(database, name, lease)
    await each.jobs.open()
    await each.workers.renew(0.0, {}, look_for_lost=False)
    yield each


async def end_lease(database: Database, name: str) -> None:
    await database.read(
        "CREATE OR REPLACE FUNCTION jarai.started_at() RETURNS double precision LANGUAGE sql AS 'SELECT 0.0'"
    )
    await database.read("UPDATE jarai.workers SET seen_at = 0 WHERE name = %s", (name,))


@pytest.fixture
async def queue(postgres_url: str, database: Database, simulator: Simulator) -> AsyncIterator[Queue]:
    """A queue with the requests `item-0` to `item-2`."""
    del database
    async with Queue(postgres_url) as queue:
        for request in requests_for(simulator, 3):
            await queue.submit(request)
        yield queue


@pytest.mark.usefixtures("queue")
async def test_cancelling_one_job_does_not_cancel_another_that_shares_its_commit(database: Database) -> None:
    async with owner(database, "one") as one:
        first, second = await one.claimed("item-0"), await one.claimed("item-1")
        saves = [asyncio.create_task(one.journal.save(intent)) for intent in (first, second)]
        await asyncio.sleep(0)
        saves[0].cancel()
        await asyncio.wait(saves)
        assert saves[0].cancelled()
        assert saves[1].exception() is None
        await one.journal.save(first)


async def test_renewal_that_took_longer_than_the_lease_does_not_end_the_worker(database: Database) -> None:
    async with owner(database, "slow", lease=0.0) as slow:
        renewal = await slow.workers.renew(0.0, {}, look_for_lost=False)
        assert renewal.share == 1
        assert (await slow.workers.renew(5.0, {}, look_for_lost=True)).share == 1


@pytest.mark.usefixtures("queue")
async def test_request_of_a_live_worker_cannot_be_claimed(database: Database) -> None:
    async with owner(database, "one") as one, owner(database, "two") as two:
        claims = await asyncio.gather(one.journal.claim("item-0"), two.journal.claim("item-0"))
        assert sum(claim is not None for claim in claims) == 1
        assert await two.journal.claim("no-such-request") is None


@pytest.mark.usefixtures("queue")
async def test_write_of_a_superseded_worker_changes_nothing_and_is_reported(database: Database) -> None:
    async with owner(database, "one") as one, owner(database, "two") as two:
        former = await one.claimed("item-0")
        await end_lease(database, "one")
        current = await two.claimed("item-0")
        current.stage = Stage.SENDING
        await two.journal.save(current)
        former.stage = Stage.PLANNED
        with pytest.raises(ClosedError, match="another worker owns 'item-0'"):
            await one.journal.save(former)
        assert one.superseded == ["item-0"]
        assert two.superseded == []
        assert await database.read("SELECT stage FROM jarai.requests WHERE reference = 'item-0'") == [
            ("sending",)
        ]
        with pytest.raises(ClosedError):
            await one.journal.save(former)
        await one.journal.release("item-0", is_settled=True)
        assert await database.read(
            "SELECT worker IS NOT NULL, is_settled FROM jarai.requests WHERE reference = 'item-0'"
        ) == [(True, False)]


@pytest.mark.usefixtures("queue")
async def test_submit_under_way_of_a_dead_worker_is_in_doubt(database: Database) -> None:
    async with owner(database, "one") as one, owner(database, "two") as two:
        intent = await one.claimed("item-0")
        intent.stage = Stage.SENDING
        await one.journal.save(intent)
        await end_lease(database, "one")
        renewal = await two.workers.renew(0.0, {}, look_for_lost=False)
        assert renewal.orphans == 1
        assert [one.stage for one in await two.journal.claim_orphans(10)] == [Stage.IN_DOUBT]
        assert two.journal.owned == {"item-0"}
        with pytest.raises(ClosedError):
            await one.journal.save(intent)


@pytest.mark.usefixtures("queue")
async def test_workers_that_claim_orphans_at_the_same_time_share_them(database: Database) -> None:
    """None waits for another, and none gets what another has."""
    async with (
        owner(database, "one") as one,
        owner(database, "two") as two,
        owner(database, "three") as three,
    ):
        for reference in ("item-0", "item-1", "item-2"):
            intent = await one.claimed(reference)
            intent.stage = Stage.ACCEPTED
            await one.journal.save(intent)
        await one.workers.leave()
        assert (await two.workers.renew(0.0, {}, look_for_lost=False)).orphans == 2
        first, second = await asyncio.gather(two.journal.claim_orphans(2), three.journal.claim_orphans(2))
        assert sorted(each.reference for each in first + second) == ["item-0", "item-1", "item-2"]
        assert await two.journal.claim_orphans(2) == []


@pytest.mark.usefixtures("queue")
async def test_planned_requests_of_a_dead_worker_go_back_to_the_queue(database: Database) -> None:
    async with owner(database, "one") as one, owner(database, "two") as two:
        await one.claimed("item-0")
        await database.read("DELETE FROM jarai.procrastinate_jobs")
        await end_lease(database, "one")
        assert (await two.workers.renew(0.0, {}, look_for_lost=False)).orphans == 0
        assert await _queued(database) == ["item-0"]


@pytest.mark.usefixtures("queue")
async def test_requests_that_procrastinate_has_lost_are_queued_again(database: Database) -> None:
    async with owner(database, "one") as one:
        await database.read("DELETE FROM jarai.procrastinate_jobs WHERE args ->> 'reference' <> 'item-1'")
        await one.workers.renew(0.0, {}, look_for_lost=False)
        assert await _queued(database) == ["item-1"]
        for _ in range(2):
            await one.workers.renew(0.0, {}, look_for_lost=True)
            assert await _queued(database) == ["item-0", "item-1", "item-2"]


@pytest.mark.usefixtures("queue")
async def test_worker_that_leaves_hands_over_at_once(database: Database) -> None:
    async with owner(database, "one") as one, owner(database, "two") as two:
        planned, accepted = await one.claimed("item-0"), await one.claimed("item-1")
        accepted.stage = Stage.ACCEPTED
        await one.journal.save(accepted)
        await database.read("DELETE FROM jarai.procrastinate_jobs WHERE args ->> 'reference' <> 'item-2'")
        await one.workers.leave()
        assert planned.reference in await _queued(database)
        renewal = await two.workers.renew(0.0, {}, look_for_lost=False)
        assert renewal.orphans == 1


async def _queued(database: Database) -> list[str]:
    rows = await database.read("SELECT args ->> 'reference' FROM jarai.procrastinate_jobs")
    return sorted(row[0] for row in rows)


@pytest.mark.usefixtures("queue")
async def test_all_workers_are_alive_for_two_leases_after_the_database_was_started(
    database: Database, postgres_url: str
) -> None:
    """None of them could renew its lease while the database was away."""
    async with owner(database, "one", lease=1e9) as one, owner(database, "two", lease=1e9) as two:
        await one.claimed("item-0")
        async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as other:
            await other.execute("UPDATE jarai.workers SET seen_at = 0")
        assert await two.journal.claim("item-0") is None
        assert (await two.workers.renew(0.0, {}, look_for_lost=False)).orphans == 0


@pytest.mark.usefixtures("queue")
async def test_late_answer_of_a_former_owner_ends_the_doubt_of_the_same_submit(database: Database) -> None:
    async with owner(database, "one") as one, owner(database, "two") as two:
        intent = await one.claimed("item-0")
        intent.stage = Stage.SENDING
        await one.journal.save(intent)
        await end_lease(database, "one")
        assert (await two.claimed("item-0")).stage is Stage.IN_DOUBT
        intent.stage = Stage.ACCEPTED
        intent.production = Production(parse_id(ID), Status.QUEUED, topic="Tides", raw={})
        with pytest.raises(ClosedError):
            await one.journal.save(intent)
        stored = "SELECT stage, worker, production_id FROM jarai.requests WHERE reference = 'item-0'"
        assert await database.read(stored) == [("accepted", None, ID)]
        renewal = await two.workers.renew(0.0, {}, look_for_lost=False)
        assert renewal.orphans == 1


@pytest.mark.usefixtures("queue")
async def test_late_answer_to_another_submit_changes_nothing(database: Database) -> None:
    async with owner(database, "one") as one, owner(database, "two") as two:
        intent = await one.claimed("item-0")
        intent.stage = Stage.SENDING
        await one.journal.save(intent)
        await end_lease(database, "one")
        doubtful = await two.claimed("item-0")
        await database.read("UPDATE jarai.requests SET key = 'another' WHERE reference = 'item-0'")
        intent.stage = Stage.ACCEPTED
        with pytest.raises(ClosedError):
            await one.journal.save(intent)
        assert doubtful.stage is Stage.IN_DOUBT
        assert await database.read("SELECT stage FROM jarai.requests WHERE reference = 'item-0'") == [
            ("in doubt",)
        ]
