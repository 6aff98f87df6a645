"""The submits of each account, and its quota of productions a day."""

import asyncio
import math
from random import Random

import pytest

from jarai_async import Finished, JaraiClient, Orchestrator, ProductionRequest, RateLimit, _clock
from jarai_async.simulator import SimulatedAccount, Simulator
from tests.support.limiters import NO_DAILY_QUOTA
from tests.support.scenarios import request_for

HOUR = 3600.0
MIDNIGHT = 15 * HOUR  # on the simulated clock, whose day begins at nine


def request_of(simulator: Simulator, account: SimulatedAccount) -> ProductionRequest:
    return request_for(
        simulator,
        account_id=account.account_id,
        avatar_id=account.avatar_ids[0],
        language_id=account.language_ids[0],
        country_id=account.country_ids[0],
    )


async def test_account_without_productions_left_today_blocks_only_its_own_submits() -> None:
    """Its submits wait until midnight (UTC) after a few 429s, while all other calls continue."""
    rate_limit = RateLimit(per_day=NO_DAILY_QUOTA)
    async with (
        Simulator(tier="standard", accounts=2) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, rate_limit=rate_limit) as client,
    ):
        for _ in range(20):
            production = await client.submit(request_for(simulator))
        blocked = [asyncio.create_task(client.submit(request_for(simulator))) for _ in range(8)]
        await asyncio.sleep(300)
        rejected = simulator.count("submit", 429)
        assert 1 <= rejected <= 8
        assert client.engine.limiter.limit == 60
        assert client.engine.limiter.others_seen_at < 0
        before = _clock.monotonic()
        await client.submit(request_of(simulator, simulator.accounts[1]))
        await client.fetch(production.id)
        assert _clock.monotonic() - before < 5
        further = asyncio.create_task(client.submit(request_for(simulator)))
        await asyncio.gather(*blocked, further)
        assert simulator.count("submit", 429) == rejected
        accepted = [production.submitted_at for production in simulator.productions.values()]
        assert len(accepted) == 20 + 1 + 9
        assert all(at < HOUR or MIDNIGHT <= at < MIDNIGHT + 200 for at in accepted)


async def test_one_429_with_hours_to_wait_blocks_all_submits_of_the_account(
    simulator: Simulator, client: JaraiClient
) -> None:
    """Submits that were queued before the 429 wait with it, and cost no request."""
    simulator.faults.add("rate_limited", seconds=2 * HOUR)
    submits = [asyncio.create_task(client.submit(request_for(simulator))) for _ in range(10)]
    await asyncio.sleep(HOUR)
    assert simulator.count("submit") == 1
    assert client.engine.limiter.in_flight == 0
    await asyncio.gather(*submits)
    assert min(production.submitted_at for production in simulator.productions.values()) >= 2 * HOUR
    assert simulator.count("submit") == 11


async def test_programs_that_wait_for_the_same_day_do_not_submit_together(simulator: Simulator) -> None:
    """Each waits for up to a minute more than the server asked for."""
    delays = []
    for seed in range(3):
        simulator.faults.add("rate_limited", seconds=HOUR)
        began = _clock.monotonic()
        async with JaraiClient(simulator.api_key, base_url=simulator.base_url, random=Random(seed)) as client:
            await client.submit(request_for(simulator))
        delays.append(_clock.monotonic() - began)
    assert all(HOUR < delay < HOUR + 62 for delay in delays)
    assert max(delays) - min(delays) > 5


async def test_long_429_of_a_submit_is_waited_out_on_any_tier(
    simulator: Simulator, client: JaraiClient
) -> None:
    """This also applies to the tier that has no documented quota of productions."""
    await client.accounts()
    simulator.faults.add("rate_limited", on="submit", times=1, seconds=600)
    await client.submit(request_for(simulator))
    assert simulator.count("submit") == 2
    assert asyncio.get_running_loop().time() > 600


async def test_blocked_account_releases_the_slots_of_its_productions() -> None:
    """The submits of other accounts use the slots of submits that wait until midnight."""
    async with (
        Simulator(tier="free", accounts=2, failure_rate=0, approval="auto") as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        blocked, other = (account.account_id for account in simulator.accounts)
        async with Orchestrator(client, concurrency=4) as orchestrator:
            for _ in range(8):
                orchestrator.submit(request_for(simulator, account_id=blocked))
            ticket = orchestrator.submit(request_for(simulator, account_id=other))
            assert (await ticket).ok
            assert asyncio.get_running_loop().time() < 12 * HOUR


async def test_submits_of_an_account_are_accepted_in_order_across_days() -> None:
    """The one that is refused for the day is the first on the next day."""
    rate_limit = RateLimit(per_day=NO_DAILY_QUOTA)
    stages = [("Queued", 5.0), ("Producing", 60.0), ("Distributing", 5.0)]
    async with (
        Simulator(tier="standard", failure_rate=0, durations=lambda *_: stages) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, rate_limit=rate_limit) as client,
        Orchestrator(client, concurrency=30) as orchestrator,
    ):
        requests = [request_for(simulator, topic=f"topic {n}", reference=str(n)) for n in range(50)]
        async for event in orchestrator.run(requests):
            if isinstance(event, Finished) and len(simulator.productions) == 50:
                break
        accepted = sorted(simulator.productions.values(), key=lambda production: production.submitted_at)
        assert [production.body["topic"] for production in accepted] == [f"topic {n}" for n in range(50)]


async def test_productions_that_are_left_today(caplog: pytest.LogCaptureFixture) -> None:
    """They are counted by UTC day; a rejection means that none are left, which is logged once."""
    async with (
        Simulator(tier="standard") as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        queues = client.engine.sender.account_queues
        assert queues.left_today("a") == math.inf
        request = request_for(simulator)
        await client.submit(request)
        assert queues.left_today(request.account_id) == 19
        for left in range(19, -1, -1):
            queues.count_accepted("a")
            assert queues.left_today("a") == left
        await asyncio.sleep(MIDNIGHT)
        assert queues.left_today("a") == 20
        queues.block("a", HOUR)
        queues.block("a", 2 * HOUR)
        assert queues.left_today("a") == 0
        (message,) = caplog.messages
        assert "until 2026-01-02 01:00:" in message
        assert queues.left_today("b") == 20
        await asyncio.sleep(2 * HOUR + 60)
        assert queues.left_today("a") == 20
