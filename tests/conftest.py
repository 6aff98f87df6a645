"""Every async test runs on simulated time: a real server in the same loop, hours in milliseconds."""

from collections.abc import AsyncIterator, Callable, Mapping

import pytest
from hypothesis import HealthCheck, settings

from jarai_async import JaraiClient
from jarai_async.simulator import SimulatedEventLoop, Simulator

# Tests give the same verdict on every run and every machine: no dice, and no clock.
settings.register_profile(
    "jarai", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("jarai")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], SimulatedEventLoop]]:
    return {"simulated": SimulatedEventLoop}


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A partner of the largest tier whose productions need no person's approval, and never fail."""
    async with Simulator(approval="auto", failure_rate=0.0) as simulator:
        yield simulator


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[JaraiClient]:
    async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
        yield client
