"""One rate limit for all workers, in PostgreSQL: exact at full use, and whatever happens to a worker."""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import pairwise
from random import Random
from typing import ClassVar, TypeVar

import pytest

from jarai_async import JaraiClient, RateLimit, _clock
from jarai_async._api.calls import Kind
from jarai_async._api.responses import RateLimitState
from jarai_async._postgres.database import Connection
from jarai_async._postgres.rate_limit import SharedLimiter
from jarai_async._ratelimit.scheduler import Scheduler
from jarai_async._tasks import stop
from jarai_async.simulator import Simulator
from jarai_async.simulator._api.rate_limits import TIERS, TierName
from tests.support.limiters import NO_DAILY_QUOTA, fetch_for
from tests.support.scenarios import request_for
from tests.support.shared_limits import SimulatedTimeDatabase, schedulers, simulated_time_database, workers

T = TypeVar("T")


@pytest.mark.parametrize("tier", ["free", "standard", "enterprise"])
async def test_saturated_workers_use_the_rate_limit_without_a_429(tier: TierName, postgres_url: str) -> None:
    """Four workers get no 429, use 97 % of the limit together, and do two transactions a request at most."""
    seconds = 180 if tier == "enterprise" else 600
    async with (
        Simulator(tier=tier, daily_quotas=False, seed=0) as simulator,
        workers(simulator, postgres_url, 4) as each,
    ):
        production = await each[0].client.submit(request_for(simulator))
        callers = TIERS[tier].requests_per_minute // 2
        responses = await asyncio.gather(
            *(fetch_for(worker.client, production.id, seconds, callers) for worker in each)
        )
        assert simulator.rate_limited == 0
        assert simulator.utilisation(60, seconds) >= 0.97
        assert sum(worker.limiter.transactions for worker in each) <= 2 * sum(responses)
        assert min(responses) >= 0.1 * sum(responses)
        others_seen_at = {worker.limiter.others_seen_at for worker in each}
        assert others_seen_at == {-math.inf}, "they took each other for other programs"


async def test_worker_alone_is_as_fast_as_a_client_without_a_database(postgres_url: str) -> None:
    """It sends as many requests, at the same times but for the latency."""
    arrivals = []
    for is_shared in (False, True):
        async with (
            Simulator(tier="standard", daily_quotas=False, seed=0) as simulator,
            workers(simulator, postgres_url, 1) as each,
            JaraiClient(
                simulator.api_key,
                base_url=simulator.base_url,
                rate_limit=RateLimit(per_day=NO_DAILY_QUOTA),
                random=Random(0),
            ) as local,
        ):
            client = each[0].client if is_shared else local
            begin = _clock.monotonic()
            production = await client.submit(request_for(simulator))
            await fetch_for(client, production.id, 300, 30)
            arrivals.append([request.arrived - begin for request in simulator.requests])
    assert len(arrivals[0]) == len(arrivals[1])
    assert arrivals[0] == pytest.approx(arrivals[1], abs=0.3)


async def test_idle_worker_does_no_transactions(postgres_url: str) -> None:
    """It does two for a request, and two for twenty at once: to ask for slots, and to report."""
    async with (
        Simulator(daily_quotas=False, seed=0) as simulator,
        workers(simulator, postgres_url, 2) as each,
    ):
        transactions = []
        for count in (1, 1, 20):
            await asyncio.gather(*(each[0].client.accounts() for _ in range(count)))
            await asyncio.sleep(100_000)
            transactions.append(each[0].limiter.transactions)
        assert transactions == [2, 4, 6]
        assert each[1].limiter.transactions == 0


class SlowDatabase(SimulatedTimeDatabase):
    """One whose replies take a while from now on, some of them."""

    delays: ClassVar[list[float]] = []

    async def transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        result = await super().transaction(work)
        if self.delays:
            await asyncio.sleep(self.delays.pop(0))
        return result


async def test_worker_that_was_stopped_does_not_use_what_was_granted_before(postgres_url: str) -> None:
    """It gives that back, and asks again: others have it once it has expired."""
    async with schedulers(postgres_url, 2, database=SlowDatabase) as (stopped, other):
        stopped.record_response(await stopped.acquire(Kind.READ), RateLimitState(10, 9))
        await asyncio.sleep(2)
        SlowDatabase.delays.append(200.0)
        waiting = [asyncio.create_task(stopped.acquire(Kind.READ)) for _ in range(9)]
        await asyncio.sleep(190)
        assert not any(task.done() for task in waiting)
        slots = [await other.acquire(Kind.READ) for _ in range(10)]
        await asyncio.sleep(20)
        assert not any(task.done() for task in waiting)
        for slot in slots:
            other.release(slot)
        await asyncio.wait_for(asyncio.gather(*waiting), 2)


async def test_slot_that_is_held_for_long_stays_valid_as_long_as_the_database_responds(
    postgres_url: str,
) -> None:
    """A key provider may take its time; the worker tells that it still has the slot."""
    async with schedulers(postgres_url, 2, database=SlowDatabase) as (slow, other):
        slot = await slow.acquire(Kind.READ)
        await asyncio.sleep(500)
        assert slow.is_valid(slot)
        slow.record_response(slot, RateLimitState(1, 0))
        await asyncio.sleep(61)
        slot = await slow.acquire(Kind.READ)
        SlowDatabase.delays.append(1000.0)
        await asyncio.sleep(40)
        assert not slow.is_valid(slot)
        await asyncio.sleep(1000)
        assert not slow.is_valid(slot), "others may have had it"
        slow.release(slot)
        await asyncio.wait_for(other.acquire(Kind.READ), 2)


async def test_slot_that_is_granted_to_a_cancelled_caller_goes_back(postgres_url: str) -> None:
    """At once: others do not wait for it to expire."""
    async with schedulers(postgres_url, 2, database=SlowDatabase) as (cancelled, other):
        cancelled.record_response(await cancelled.acquire(Kind.READ), RateLimitState(10, 9))
        await asyncio.sleep(61)
        SlowDatabase.delays.append(1.0)
        waiting = [asyncio.create_task(cancelled.acquire(Kind.READ)) for _ in range(10)]
        await asyncio.sleep(0.5)
        await stop(waiting)
        await asyncio.sleep(1)
        async with asyncio.timeout(1):
            await asyncio.gather(*(other.acquire(Kind.READ) for _ in range(10)))


class CutDatabase(SimulatedTimeDatabase):
    """One whose connections are cut: before some commits, and after some, so that they are not confirmed."""

    _draw = Random(1)
    cuts: ClassVar[Counter[str]] = Counter()

    async def transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async def cut(connection: Connection) -> T:
            result = await work(connection)
            if self._draw.random() < 0.1:
                self.cuts["before"] += 1
                await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            return result

        result = await super().transaction(cut)
        if self._draw.random() < 0.1:
            self.cuts["after"] += 1
            await asyncio.sleep(self._draw.choice([0.1, 3, 30]))
            result = await super().transaction(work)
        return result


async def test_reports_outlast_an_outage_of_the_database(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Connections are cut again and again: every response is counted once, and no 429 follows."""
    async with (
        Simulator(tier="standard", daily_quotas=False, seed=0) as simulator,
        workers(simulator, postgres_url, 3, database=CutDatabase) as each,
    ):
        production = await each[0].client.submit(request_for(simulator))
        with caplog.at_level(logging.CRITICAL):
            await asyncio.gather(*(fetch_for(w.client, production.id, 400, 30) for w in each))
        assert min(CutDatabase.cuts.values()) >= 10
        assert simulator.rate_limited == 0
        assert simulator.utilisation(60, 400) >= 0.8
        await asyncio.sleep(130)
        await each[0].client.accounts()
        assert each[0].limiter.used_slots(_clock.monotonic()) <= 2


async def test_429_pauses_all_workers_once(postgres_url: str) -> None:
    async with (
        Simulator(tier="standard", daily_quotas=False, seed=0) as simulator,
        workers(simulator, postgres_url, 3) as each,
    ):
        production = await each[0].client.submit(request_for(simulator))
        await asyncio.gather(*(worker.client.fetch(production.id) for worker in each))
        simulator.faults.add("rate_limited", on="accounts", seconds=100)
        start = _clock.monotonic()
        calls: list[asyncio.Task[object]] = [asyncio.create_task(each[0].client.accounts())]
        await asyncio.sleep(1)
        calls += [asyncio.create_task(w.client.fetch(production.id)) for w in each for _ in range(9)]
        await asyncio.gather(*calls)
        arrived = sorted(request.arrived for request in simulator.requests if request.arrived > start)
        assert arrived[1] >= start + 100
        assert arrived[-1] <= start + 100 + 25
        assert simulator.rate_limited + simulator.faults.fired["rate_limited"] == 1


async def test_workers_leave_room_for_another_program_on_the_key(postgres_url: str) -> None:
    """It sends 28 requests a minute; together they use the limit, with at most two 429s a minute."""
    async with (
        Simulator(tier="standard", daily_quotas=False, seed=0) as simulator,
        workers(simulator, postgres_url, 3) as each,
        JaraiClient(
            simulator.api_key,
            base_url=simulator.base_url,
            rate_limit=RateLimit(per_minute=28, per_day=NO_DAILY_QUOTA),
            random=Random(5),
        ) as other,
    ):
        production = await other.submit(request_for(simulator))
        responses = await asyncio.gather(
            fetch_for(other, production.id, 600, 10),
            *(fetch_for(worker.client, production.id, 600, 10) for worker in each),
        )
        assert simulator.rate_limited <= 20
        assert responses[0] >= 0.8 * 280
        assert simulator.utilisation(60, 600) >= 0.9


async def test_urgent_requests_of_one_worker_go_before_the_polls_of_another(postgres_url: str) -> None:
    """Of each four slots three, as between the requests of one worker."""
    async with schedulers(postgres_url, 2) as (polling, submitting):
        order: list[Kind] = []

        async def send(scheduler: Scheduler, kind: Kind) -> None:
            while True:
                slot = await scheduler.acquire(kind)
                order.append(kind)
                await asyncio.sleep(0.2)
                scheduler.record_response(slot, RateLimitState(60))

        tasks = [asyncio.create_task(send(polling, Kind.POLL)) for _ in range(20)]
        await asyncio.sleep(120)
        order.clear()
        tasks += [asyncio.create_task(send(submitting, Kind.SUBMIT)) for _ in range(20)]
        await asyncio.sleep(600)
        await stop(tasks)
        assert len(order) >= 0.95 * 600
        assert 0.65 <= order.count(Kind.SUBMIT) / len(order) <= 0.8


async def test_polls_are_divided_by_the_shares_of_the_workers(postgres_url: str) -> None:
    """And each spreads its own evenly."""
    async with schedulers(postgres_url, 2) as each:
        times: list[list[float]] = [[], []]
        for scheduler, share in zip(each, (0.75, 0.25), strict=True):
            limiter = scheduler.limiter
            assert isinstance(limiter, SharedLimiter)
            limiter.share = share

        async def poll(number: int) -> None:
            while True:
                slot = await each[number].acquire(Kind.POLL)
                times[number].append(_clock.monotonic())
                await asyncio.sleep(0.2)
                each[number].record_response(slot, RateLimitState(60))

        tasks = [asyncio.create_task(poll(number)) for number in (0, 1) for _ in range(5)]
        await asyncio.sleep(600)
        await stop(tasks)
        assert [len(each) for each in times] == [pytest.approx(450, rel=0.06), pytest.approx(150, rel=0.06)]
        gaps = [after - before for before, after in pairwise(times[0][100:])]
        assert max(gaps) <= 3 * 60 / 45


async def test_quota_of_a_day_is_one_for_all_workers(postgres_url: str) -> None:
    rate_limit = RateLimit(per_day=30)
    async with (
        Simulator(daily_quotas=False, seed=0) as simulator,
        workers(simulator, postgres_url, 3, rate_limit) as each,
    ):
        production = await each[0].client.submit(request_for(simulator))
        calls = [asyncio.create_task(w.client.fetch(production.id)) for w in each for _ in range(15)]
        await asyncio.sleep(3600)
        assert len(simulator.requests) == 30
        await asyncio.gather(*calls)
        assert _clock.monotonic() > 14 * 3600


async def test_account_without_productions_left_today_blocks_the_submits_of_all_workers(
    postgres_url: str,
) -> None:
    """One 429 is enough, and the others learn of it before their next submit is sent."""
    async with (
        Simulator(tier="standard", seed=0) as simulator,
        workers(simulator, postgres_url, 3) as each,
    ):
        for number in range(20):
            await each[number % 3].client.submit(request_for(simulator))
        blocked = [asyncio.create_task(each[0].client.submit(request_for(simulator)))]
        await asyncio.sleep(30)
        queues = [worker.client.engine.sender.account_queues for worker in each]
        assert queues[0].left_today(simulator.accounts[0].account_id) == 0
        blocked += [asyncio.create_task(w.client.submit(request_for(simulator))) for w in each]
        await asyncio.sleep(300)
        assert simulator.count("submit", 429) == 1
        await asyncio.gather(*blocked)
        assert _clock.monotonic() > 14 * 3600


async def test_requests_wait_while_the_database_refuses_the_transaction(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the row nothing is granted; what was to be reported then is reported later."""
    async with schedulers(postgres_url, 1) as (scheduler,), simulated_time_database(postgres_url) as database:
        slot = await scheduler.acquire(Kind.READ)
        state = await database.read("DELETE FROM jarai.rate_limit RETURNING state::text")
        with caplog.at_level(logging.ERROR, logger="jarai_async"):
            scheduler.record_response(slot, RateLimitState(2, 1))
            waiting = [asyncio.create_task(scheduler.acquire(Kind.READ)) for _ in range(2)]
            await asyncio.sleep(30)
        assert not any(task.done() for task in waiting)
        assert "no state of the rate limit" in caplog.text
        await database.read("INSERT INTO jarai.rate_limit VALUES (%s)", state[0])
        await asyncio.sleep(10)
        assert [task.done() for task in waiting] == [True, False]
        await asyncio.sleep(21)
        assert all(task.done() for task in waiting)


async def test_rejected_key_of_one_worker_does_not_stop_the_others(postgres_url: str) -> None:
    """As in a deploy with one wrong secret: the other workers have another key in their environment."""
    async with schedulers(postgres_url, 2) as (wrong, right):
        for scheduler in (wrong, right):
            scheduler.record_response(await scheduler.acquire(Kind.READ), RateLimitState(limit=300))
        began = _clock.monotonic()
        wrong.pause_until(began + 100)
        waiting = asyncio.create_task(wrong.acquire(Kind.POLL))
        right.release(await right.acquire(Kind.SUBMIT))
        assert _clock.monotonic() < began + 10
        wrong.release(await waiting)
        assert _clock.monotonic() >= began + 100
