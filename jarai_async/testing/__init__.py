"""Test programs that use this library: a simulator, a client, and a clock that skips idle time.

With pytest, install pytest-asyncio (1.4 or later) or anyio. Nothing else is needed: the fixtures are there
once this package is installed.

    async def test_batch(jarai_simulator, jarai_client):
        jarai_simulator.faults.add("reset_after", on="submit")
        ...

- `jarai_simulator` is a running `Simulator`, a new one for each test, in which no production fails by chance.
  `@pytest.mark.jarai_simulator(seed=7, tier="free")`, for a test, a class or a module, gives it options.
- `jarai_client` is a `JaraiClient` of this simulator.
- `jarai_clock` gives a test simulated time without a simulator. `@pytest.mark.jarai_clock(epoch=...)` does
  the same, with the options of `SimulatedEventLoop`; `usefixtures = ["jarai_clock"]` in pytest's
  configuration does it for all tests.

The clock skips the time in which the event loop has nothing to do. It cannot see work elsewhere: threads of
other libraries (aiosqlite), subprocesses, other servers. Hold the clock meanwhile, or your timeouts expire:

    with asyncio.get_running_loop().hold():
        await database.execute(...)

A rule of `Simulator.when` that no submission has matched is a warning at the end of the test.

A test runs in simulated time if it uses one of these fixtures, directly or through another fixture. All other
tests keep their event loop. `-p no:jarai` turns the plugin off. With `asyncio_mode = auto`, leave out the
mark `anyio`: pytest-asyncio then runs the tests.

With unittest, derive from `JaraiTestCase`. In a script, use `jarai_async.simulator.run`.
"""

import asyncio
import sys
import unittest
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from jarai_async._client import JaraiClient
from jarai_async.simulator import SimulatedEventLoop, Simulator

__all__ = ["JaraiTestCase"]


class JaraiTestCase(unittest.IsolatedAsyncioTestCase):
    """A test case in simulated time, with a new `simulator` and a `client` of it for each test.

    Override `new_simulator` to give the simulator options. `epoch` is that of `SimulatedEventLoop`. An
    `asyncSetUp` of your own must await `super().asyncSetUp()` first.
    """

    epoch: float | datetime | None = None
    simulator: Simulator
    client: JaraiClient

    def new_simulator(self) -> Simulator:
        """Return the simulator of a test, which is not running yet."""
        return Simulator(failure_rate=0.0)

    def loop_factory(self) -> asyncio.AbstractEventLoop:
        """Return the event loop of a test; unittest calls it."""
        return SimulatedEventLoop(epoch=self.epoch)

    async def asyncSetUp(self) -> None:
        """Start the simulator and the client, which end after the test."""
        self.simulator = await self.enterAsyncContext(self.new_simulator())
        self.addCleanup(warn_of_unmatched, self.simulator)
        client = JaraiClient(self.simulator.api_key, base_url=self.simulator.base_url)
        self.client = await self.enterAsyncContext(client)

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        """Run the test as unittest does."""
        if sys.version_info >= (3, 13):
            return super().run(result)
        with _event_loop_policy(self):  # unittest knows `loop_factory` from Python 3.13 on
            return super().run(result)


def warn_of_unmatched(simulator: Simulator) -> None:
    """Warn of each rule of `Simulator.when` that no submission has matched: its name may be misspelt."""
    for rule in simulator.rules:
        if not rule.matched:
            warnings.warn(f"no submission has matched {rule}", stacklevel=2)


@contextmanager
def _event_loop_policy(case: JaraiTestCase) -> Iterator[None]:
    """Let `asyncio.new_event_loop` return the loops of a test case meanwhile."""

    class Policy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self) -> asyncio.AbstractEventLoop:
            return case.loop_factory()

    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(Policy())
    try:
        yield
    finally:
        asyncio.set_event_loop_policy(before)
