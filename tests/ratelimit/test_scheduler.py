"""The gate that every request passes: it uses the complete rate limit without a 429, and leaks no slot."""

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
from tests.support.limiters import NO_DAILY_QUOTA, fetch_for
from tests.support.scenarios import request_for


def scheduler_with(per_minute: int) -> Scheduler:
    return Scheduler(RateLimiter(RateLimit(per_minute, NO_DAILY_QUOTA)), Random(1))


async def receive_first_response(scheduler: Scheduler, limit: int) -> None:
    """Send the first request. Until its response shows the limit, requests are sent one by one."""
    scheduler.record_response(await scheduler.acquire(Kind.READ), RateLimitState(limit, limit - 1))


@pytest.mark.parametrize("latency", [0.05, 5.0])
@pytest.mark.parametrize("tier", ["free", "standard", "enterprise"])
async def test_saturated_client_uses_the_rate_limit_without_a_429(tier: TierName, latency: float) -> None:
    """A client that is alone on its key gets no 429, and uses 95 % of the limit (75 % if slow)."""
    rate_limit = RateLimit(per_day=NO_DAILY_QUOTA)
    minutes = 2 if tier == "enterprise" else 5
    async with (
        Simulator(tier=tier, daily_quotas=False, latency=latency) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, rate_limit=rate_limit) as client,
    ):
        production = await client.submit(request_for(simulator))
        await fetch_for(client, production.id, minutes * 60, TIERS[tier].requests_per_minute)
        assert simulator.rate_limited == 0
        assert simulator.utilisation(60, minutes * 60) >= (0.95 if latency < 1 else 0.75)
        assert client.engine.limiter.used_slots(_clock.monotonic() + 60) == 0


async def test_two_saturated_clients_on_one_key_cause_few_429s() -> None:
    """They cause at most two 429s a minute, and use 95 % of the rate limit together."""
    rate_limit = RateLimit(per_day=NO_DAILY_QUOTA)
    async with (
        Simulator(tier="standard", daily_quotas=False) as simulator,
        JaraiClient(
            simulator.api_key, base_url=simulator.base_url, rate_limit=rate_limit, random=Random(1)
        ) as first,
        JaraiClient(
            simulator.api_key, base_url=simulator.base_url, rate_limit=rate_limit, random=Random(2)
        ) as second,
    ):
        production = await first.submit(request_for(simulator))
        responses = await asyncio.gather(
            fetch_for(first, production.id, 1200, 20), fetch_for(second, production.id, 1200, 20)
        )
        assert simulator.rate_limited <= 40
        assert simulator.utilisation(60, 1200) >= 0.95
        assert sum(responses) >= 1100


async def test_two_clients_with_half_of_the_rate_limit_cause_no_429() -> None:
    """Two clients that are limited to less than half of the rate limit each get their share."""
    rate_limit = RateLimit(per_minute=28, per_day=NO_DAILY_QUOTA)
    async with (
        Simulator(tier="standard", daily_quotas=False) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, rate_limit=rate_limit) as first,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, rate_limit=rate_limit) as second,
    ):
        production = await first.submit(request_for(simulator))
        responses = await asyncio.gather(
            fetch_for(first, production.id, 600, 10), fetch_for(second, production.id, 600, 10)
        )
        assert simulator.rate_limited == 0
        assert min(responses) >= 0.9 * 280


async def test_429_pauses_all_requests_once_and_fails_none() -> None:
    """After one 429 nothing is sent until Retry-After is over, and then every call gets its response."""
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


# Kind, when it begins to wait, whether it is cancelled, and when.
callers = st.lists(
    st.tuples(st.sampled_from(list(Kind)), st.floats(0, 100), st.booleans(), st.floats(0, 200)), max_size=40
)


@given(callers, st.integers(1, 12))
def test_cancelled_caller_leaks_no_slot(callers: list[tuple[Kind, float, bool, float]], limit: int) -> None:
    """Cancelled before, when or after it gets its slot: the others get theirs, and every slot returns."""

    async def scenario() -> None:
        scheduler = scheduler_with(limit)
        served = 0

        async def call(kind: Kind, start: float) -> None:
            nonlocal served
            await asyncio.sleep(start)
            slot = await scheduler.acquire(kind)
            try:
                await asyncio.sleep(0.5)
            except asyncio.CancelledError:
                scheduler.failed(slot)
                raise
            scheduler.record_response(slot, RateLimitState(limit))
            served += 1

        tasks = [asyncio.create_task(call(kind, start)) for kind, start, _, _ in callers]
        for task, (_, _, is_cancelled, cancelled_at) in zip(tasks, callers, strict=True):
            if is_cancelled:
                asyncio.get_running_loop().call_later(cancelled_at, task.cancel)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert served == sum(result is None for result in results)
        for result, (_, _, is_cancelled, _) in zip(results, callers, strict=True):
            assert result is None or is_cancelled
        assert scheduler.limiter.in_flight == 0
        assert scheduler.limiter.used_slots(_clock.monotonic() + 60) == 0
        assert scheduler.is_idle

    run(scenario())


async def test_slot_of_a_caller_that_is_cancelled_at_the_same_time_goes_to_the_next() -> None:
    """A slot that was given to a caller that is cancelled before it resumes is not lost."""
    scheduler = scheduler_with(100)
    await receive_first_response(scheduler, 100)
    held = [await scheduler.acquire(Kind.READ) for _ in range(99)]
    tasks = [asyncio.create_task(scheduler.acquire(Kind.READ)) for _ in range(100)]
    await asyncio.sleep(1)
    for slot in held:
        scheduler.release(slot)  # hands out 99 slots, and no caller has resumed yet
    for task in Random(5).sample(tasks[:99], 50):
        task.cancel()
    async with asyncio.timeout(1):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 50
    assert scheduler.limiter.in_flight == 50


async def test_requests_of_one_kind_are_sent_in_order() -> None:
    """The one that has waited longest goes first, after those of a more urgent kind."""
    scheduler = scheduler_with(1)
    await receive_first_response(scheduler, 1)
    order: list[str] = []

    async def call(kind: Kind, name: str) -> None:
        slot = await scheduler.acquire(kind)
        order.append(name)
        scheduler.record_response(slot, RateLimitState(1))

    kinds = [Kind.READ, Kind.READ, Kind.READ, Kind.SUBMIT, Kind.CANCEL]
    await asyncio.gather(*(call(kind, f"{kind.name} {n}") for n, kind in enumerate(kinds)))
    assert order == ["CANCEL 4", "SUBMIT 3", "READ 0", "READ 1", "READ 2"]


async def test_closing_the_client_ends_calls_that_wait_for_a_slot() -> None:
    """Calls that wait for a slot raise ClosedError when the client is closed, and no timer is left."""
    async with Simulator(daily_quotas=False, tier="free") as simulator:
        client = JaraiClient(simulator.api_key, base_url=simulator.base_url)
        calls = [asyncio.create_task(client.accounts()) for _ in range(15)]
        await asyncio.sleep(5)
        await client.close()
        async with asyncio.timeout(1):
            results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [list] * 10 + [ClosedError] * 5
    assert client.engine.scheduler.is_idle
