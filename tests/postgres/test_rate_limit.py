"""One rate limit for all workers, in PostgreSQL: exact at full use, and whatever happens to a worker."""

import asyncio

import pytest

from jarai_async import JaraiClient
from jarai_async.simulator import Simulator
from jarai_async.simulator._api.rate_limits import TIERS, TierName
from tests.support.scenarios import request_for
from tests.support.shared_limits import workers


async def fetch_for(client: JaraiClient, production_id: str, seconds: float, callers: int) -> int:
    """Fetch as often as the rate limit allows for this many seconds; return the number of responses."""
    responses = 0

    async def fetch() -> None:
        nonlocal responses
        while True:
            await client.fetch(production_id)
            responses += 1

    tasks = [asyncio.create_task(fetch()) for _ in range(callers)]
    await asyncio.wait(tasks, timeout=seconds)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {asyncio.CancelledError}
    return responses


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
