"""The gate that every request passes: full use without a 429, and no turn is ever lost."""

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import ClosedError, JaraiClient, RateLimit, _clock
from jarai_async._api.calls import Kind
from jarai_async._api.responses import RateLimitState
from jarai_async._ratelimit.limiter import RateLimiter
from jarai_async._ratelimit.scheduler import Scheduler
from jarai_async.simulator import Simulator, run
from jarai_async.simulator._api.rate_limits import TIERS, TierName
from tests.support.scenarios import request_for

NO_QUOTA = 10**9


def scheduler_of(per_minute: int) -> tuple[Scheduler, RateLimiter]:
    budget = RateLimiter(RateLimit(per_minute, NO_QUOTA))
    return Scheduler(budget, Random(1)), budget


async def learn(scheduler: Scheduler, limit: int) -> None:
    """Make the first request, whose answer tells the limit."""
    scheduler.record_response(await scheduler.acquire(Kind.READ), RateLimitState(limit, limit - 1))


async def fetch_for(client: JaraiClient, production_id: str, seconds: float, at_once: int) -> int:
    """Fetch as fast as the budget lets it, for so many seconds; give how many were answered."""
    answered = 0

    async def worker() -> None:
        nonlocal answered
        while True:
            await client.fetch(production_id)
            answered += 1

    workers = [asyncio.create_task(worker()) for _ in range(at_once)]
    await asyncio.wait(workers, timeout=seconds)
    for task in workers:
        task.cancel()
    results = await asyncio.gather(*workers, return_exceptions=True)
    assert {type(result) for result in results} == {asyncio.CancelledError}
    return answered


@pytest.mark.parametrize("latency", [0.05, 5.0])
@pytest.mark.parametrize("tier", ["free", "standard", "enterprise"])
async def test_a_saturating_load_uses_the_whole_budget_and_causes_no_429(
    tier: TierName, latency: float
) -> None:
    """At every tier, alone on the key, no request is refused; and with quick answers 95 % are used."""
    budget = RateLimit(per_day=NO_QUOTA)
    minutes = 2 if tier == "enterprise" else 5
    async with (
        Simulator(tier=tier, daily_quotas=False, latency=latency) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, rate_limit=budget) as client,
    ):
        production = await client.submit(request_for(simulator))
        await fetch_for(client, production.id, minutes * 60, TIERS[tier].requests_per_minute)
        assert simulator.rate_limited == 0
        assert simulator.utilisation(60, minutes * 60) >= (0.95 if latency < 1 else 0.75)
        assert client.engine.limiter.used_slots(_clock.monotonic() + 60) == 0


async def test_two_clients_on_one_key_settle() -> None:
    """Two that saturate one budget cause no more than two 429s a minute, and use nearly all of it."""
    budget = RateLimit(per_day=NO_QUOTA)
    async with (
        Simulator(tier="standard", daily_quotas=False) as simulator,
        JaraiClient(
            simulator.api_key, base_url=simulator.base_url, rate_limit=budget, random=Random(1)
        ) as one,
        JaraiClient(
            simulator.api_key, base_url=simulator.base_url, rate_limit=budget, random=Random(2)
        ) as other,
    ):
        production = await one.submit(request_for(simulator))
        answered = await asyncio.gather(
            fetch_for(one, production.id, 1200, 20), fetch_for(other, production.id, 1200, 20)
        )
        assert simulator.rate_limited <= 40
        assert simulator.utilisation(60, 1200) >= 0.95
        assert sum(answered) >= 1100


async def test_a_limit_of_ones_own_leaves_room_for_others() -> None:
    """Two that bound themselves to half of the budget each get their half, without a 429."""
    budget = RateLimit(per_minute=28, per_day=NO_QUOTA)
    async with (
        Simulator(tier="standard", daily_quotas=False) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, rate_limit=budget) as one,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, rate_limit=budget) as other,
    ):
        production = await one.submit(request_for(simulator))
        answered = await asyncio.gather(
            fetch_for(one, production.id, 600, 10), fetch_for(other, production.id, 600, 10)
        )
        assert simulator.rate_limited == 0
        assert min(answered) >= 0.9 * 280


async def test_a_429_pauses_everyone_and_ends_nobodys_wait() -> None:
    """After one 429 nothing arrives until Retry-After is over, and then each call has its answer."""
    async with (
        Simulator(daily_quotas=False, latency=0.0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        production = await client.submit(request_for(simulator))
        simulator.faults.add("rate_limited", on="accounts", seconds=100)
        start = _clock.monotonic()
        calls: list[asyncio.Future[object]] = [asyncio.ensure_future(client.accounts())]
        await asyncio.sleep(1)
        calls += [asyncio.ensure_future(client.fetch(production.id)) for _ in range(20)]
        calls += [
            asyncio.ensure_future(client.cancel(production.id)),
            asyncio.ensure_future(client.submit(request_for(simulator))),
            asyncio.ensure_future(client.wait(production.id)),
        ]
        await asyncio.gather(*calls)
        arrived = [request.arrived for request in simulator.requests if request.arrived > start]
        assert min(arrived) >= start + 100
        assert simulator.faults.fired["rate_limited"] == 1
        assert simulator.rate_limited == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(list(Kind)), st.floats(0, 100), st.booleans(), st.floats(0, 200)),
        max_size=40,
    ),
    st.integers(1, 12),
)
def test_a_cancelled_waiter_loses_no_turn(waiters: list[tuple[Kind, float, bool, float]], limit: int) -> None:
    """Cancelled before, while or after getting its turn: the others get theirs, and all slots come back."""

    async def scene() -> None:
        scheduler, budget = scheduler_of(limit)
        served = 0

        async def waiter(kind: Kind, start: float) -> None:
            nonlocal served
            await asyncio.sleep(start)
            slot = await scheduler.acquire(kind)
            try:
                await asyncio.sleep(0.5)
            except asyncio.CancelledError:
                scheduler.failed()
                raise
            scheduler.record_response(slot, RateLimitState(limit))
            served += 1

        tasks = [asyncio.create_task(waiter(kind, start)) for kind, start, _, _ in waiters]
        for task, (_, _, cancelled, after) in zip(tasks, waiters, strict=True):
            if cancelled:
                asyncio.get_running_loop().call_later(after, task.cancel)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert served == sum(result is None for result in results)
        for result, (_, _, cancelled, _) in zip(results, waiters, strict=True):
            assert result is None or cancelled
        assert budget.in_flight == 0
        assert budget.used_slots(_clock.monotonic() + 60) == 0
        assert scheduler.is_idle

    run(scene())


async def test_half_of_a_hundred_waiters_may_go_at_the_very_moment_of_their_turn() -> None:
    """A turn that was given to one that is just being cancelled goes to the next instead."""
    scheduler, budget = scheduler_of(100)
    await learn(scheduler, 100)
    blockers = [await scheduler.acquire(Kind.READ) for _ in range(99)]
    tasks = [asyncio.create_task(scheduler.acquire(Kind.READ)) for _ in range(100)]
    await asyncio.sleep(1)
    for _ in blockers:
        scheduler.release()  # gives 99 turns, which none of the waiters has seen yet
    for task in Random(5).sample(tasks[:99], 50):
        task.cancel()
    async with asyncio.timeout(1):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 50
    assert budget.in_flight == 50


async def test_turns_of_one_kind_are_given_in_order() -> None:
    """Who waits longest goes first among its kind, and a more urgent kind before it."""
    scheduler, _ = scheduler_of(1)
    await learn(scheduler, 1)
    order: list[str] = []

    async def waiter(kind: Kind, name: str) -> None:
        slot = await scheduler.acquire(kind)
        order.append(name)
        scheduler.record_response(slot, RateLimitState(1))

    kinds = [Kind.READ, Kind.READ, Kind.READ, Kind.SUBMIT, Kind.CANCEL]
    await asyncio.gather(*(waiter(kind, f"{kind.name} {n}") for n, kind in enumerate(kinds)))
    assert order == ["CANCEL 4", "SUBMIT 3", "READ 0", "READ 1", "READ 2"]


async def test_closing_ends_every_wait() -> None:
    """Who waits for a turn when the client is closed is told so rather than left waiting for ever."""
    async with Simulator(daily_quotas=False, tier="free") as simulator:
        client = JaraiClient(simulator.api_key, base_url=simulator.base_url)
        calls = [asyncio.create_task(client.accounts()) for _ in range(15)]
        await asyncio.sleep(5)
        await client.close()
        async with asyncio.timeout(1):
            results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [list] * 10 + [ClosedError] * 5
    assert client.engine.scheduler.is_idle
