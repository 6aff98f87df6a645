"""Every async test runs on simulated time, with a real HTTP server in the same event loop.

JARAI_TEST_LOOP changes the loop: `eager` starts every task at once (Python 3.12), `debug` turns on asyncio's
debug mode, and `uvloop` runs in real time, so only for tests in which no time has to pass.
"""

import asyncio
import importlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, settings

from jarai_async import JaraiClient
from jarai_async.simulator import SimulatedEventLoop, Simulator, Stage
from tests.support.hosts import simulated_time
from tests.support.postgres import database, postgres_server, postgres_url

__all__ = ["database", "postgres_server", "postgres_url", "simulated_time"]

# Files of tests are in memory where the system has room for them: flushing them to a disk takes long.
_MEMORY = Path("/dev/shm")  # noqa: S108  # pytest makes a folder of its own in it
if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > 2**30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))

# The same examples, and no time limits, on every run and every machine.
settings.register_profile(
    "jarai", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("jarai")


def _eager_loop() -> SimulatedEventLoop:
    loop = SimulatedEventLoop()
    loop.set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009  # not in Python 3.11
    return loop


def _debug_loop() -> SimulatedEventLoop:
    loop = SimulatedEventLoop()
    loop.set_debug(True)
    return loop


def _uvloop() -> asyncio.AbstractEventLoop:
    loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
    return loop


_LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "simulated": SimulatedEventLoop,
    "eager": _eager_loop,
    "debug": _debug_loop,
    "uvloop": _uvloop,
}


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    name = os.environ.get("JARAI_TEST_LOOP", "simulated")
    return {name: _LOOPS[name]}


def _minutes(random: Random, _: str) -> list[Stage]:
    return [
        ("Queued", random.uniform(20, 40)),
        ("Producing", random.uniform(150, 300)),
        ("Distributing", random.uniform(30, 60)),
    ]


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """The largest tier; productions are approved automatically, never fail, and take about five minutes."""
    async with Simulator(durations=_minutes, approval="auto", failure_rate=0.0) as simulator:
        yield simulator


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[JaraiClient]:
    async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
        yield client
