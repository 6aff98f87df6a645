"""Every async test runs on simulated time, with a real HTTP server in the same event loop."""

from collections.abc import AsyncIterator, Callable, Mapping

import pytest
from hypothesis import HealthCheck, settings

from jarai_async import JaraiClient
from jarai_async.simulator import SimulatedEventLoop, Simulator

# The same examples, and no time limits, on every run and every machine.
settings.register_profile(
    "jarai", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("jarai")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], SimulatedEventLoop]]:
    return {"simulated": SimulatedEventLoop}


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """The largest tier; productions are approved automatically and never fail."""
    async with Simulator(approval="auto", failure_rate=0.0) as simulator:
        yield simulator


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[JaraiClient]:
    async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
        yield client
