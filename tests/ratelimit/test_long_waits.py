"""Waits of over a minute: a machine that sleeps meanwhile does not wait longer, and the log says why."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from jarai_async import JaraiClient, RateLimit
from jarai_async.simulator import FaultKind, SimulatedEventLoop, Simulator
from jarai_async.simulator._api.rate_limits import TierName
from jarai_async.simulator._api.responses import error_response
from tests.support.limiters import NO_DAILY_QUOTA
from tests.support.scenarios import request_for

HOUR = 3600.0
TO_MIDNIGHT = 15 * HOUR  # on the simulated clock, whose day begins at nine


class SleepyLoop(SimulatedEventLoop):
    """A loop on a machine that can sleep: then the wall clock goes on, and the monotonic one stops."""

    slept = 0.0

    def wall_time(self) -> float:
        return super().wall_time() + self.slept


async def submit_21(simulator: Simulator, client: JaraiClient) -> None:
    """Use the quota of productions of a day, and one more."""
    for _ in range(21):
        await client.submit(request_for(simulator))


async def read_101_times(_: Simulator, client: JaraiClient) -> None:
    """Use the quota of requests of a day, and one more."""
    for _n in range(101):
        await client.accounts()


async def submit_in_maintenance(simulator: Simulator, client: JaraiClient) -> None:
    """Submit while JARAI asks to come back after midnight."""
    await client.accounts()
    response = error_response(503, "SERVICE_UNAVAILABLE", "Maintenance.", retry_after=int(TO_MIDNIGHT))
    simulator.faults.kinds["maintenance"] = FaultKind(lambda _, __: response, executes=False)
    simulator.faults.add("maintenance")
    await client.submit(request_for(simulator))


Use = Callable[[Simulator, JaraiClient], Coroutine[Any, Any, None]]
WAITS: dict[str, tuple[TierName, Use, int, str]] = {
    "an account's productions": ("standard", submit_21, NO_DAILY_QUOTA, "no productions left today"),
    "requests, as counted here": (
        "free",
        read_101_times,
        100,
        "is used up: all requests wait",
    ),
    "requests, by a 429": ("free", read_101_times, NO_DAILY_QUOTA, "429"),
    "maintenance": ("standard", submit_in_maintenance, NO_DAILY_QUOTA, "a submit waits"),
}


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("slept", [0.0, TO_MIDNIGHT])
def test_machine_that_sleeps_until_midnight_resumes_within_two_minutes(
    wait: str, slept: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a sleep the wait ends at midnight (UTC). Its end is logged once."""
    tier, use, per_day, reason = WAITS[wait]

    async def main() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SleepyLoop)
        async with (
            Simulator(tier=tier) as simulator,
            JaraiClient(
                simulator.api_key, base_url=simulator.base_url, rate_limit=RateLimit(per_day=per_day)
            ) as client,
        ):
            task = asyncio.create_task(use(simulator, client))
            await asyncio.sleep(HOUR)
            assert not task.done()
            loop.slept = slept
            await task
            return loop.time()

    with asyncio.Runner(loop_factory=SleepyLoop) as runner:
        ended = runner.run(main())
    assert ended <= HOUR + 125 if slept else TO_MIDNIGHT <= ended <= TO_MIDNIGHT + 120
    long_waits = [text for text in caplog.messages if "until 2026-01-0" in text and reason in text]
    assert len(long_waits) == 1
    assert "until 2026-01-02 00:0" in long_waits[0]
