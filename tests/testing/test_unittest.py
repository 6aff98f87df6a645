"""`JaraiTestCase`, run by unittest."""

import asyncio
import unittest
from datetime import UTC, datetime
from typing import ClassVar

import pytest

from jarai_async import JaraiClient, ProductionRequest, _clock
from jarai_async.simulator import SimulatedEventLoop, Simulator
from jarai_async.testing import JaraiTestCase


class _Productions(JaraiTestCase):
    __test__ = False  # for pytest: the suite below runs it
    epoch = datetime(2026, 1, 1, 23, 58, tzinfo=UTC)
    simulators: ClassVar[list[Simulator]] = []

    def new_simulator(self) -> Simulator:
        return Simulator(tier="free", approval="auto", failure_rate=0.0)

    async def test_whole_production_takes_no_real_time(self) -> None:
        request = ProductionRequest(topic="How tides work", **self.simulator.ids)
        production = await self.client.fetch((await self.client.submit(request)).id)
        assert production.created_at is not None
        assert production.created_at.date() == self.epoch.date()
        ended = await self.client.wait(production.id)
        assert ended.status == "Published"
        assert _clock.utc().date() > self.epoch.date()
        self.simulators.append(self.simulator)

    async def test_each_test_has_a_simulator_of_its_own(self) -> None:
        assert self.simulator not in self.simulators
        assert self.simulator.tier == "free"
        assert isinstance(self.client, JaraiClient)
        self.simulators.append(self.simulator)


class _RealTime(unittest.IsolatedAsyncioTestCase):
    async def test_loop(self) -> None:
        assert not isinstance(asyncio.get_running_loop(), SimulatedEventLoop)


def test_suite_of_unittest() -> None:
    """Cases of the kit run in simulated time, and leave nothing behind for other cases."""
    suite = unittest.TestSuite()
    for case in (_Productions, _RealTime):
        suite.addTests(unittest.defaultTestLoader.loadTestsFromTestCase(case))
    result = unittest.TestResult()
    suite.run(result)
    assert result.testsRun == 3
    assert result.errors == result.failures == []


def test_rule_that_no_submission_has_matched_is_a_warning() -> None:
    class Misspelt(JaraiTestCase):
        async def test(self) -> None:
            self.simulator.when(topic="Tydes").is_rejected()

    with pytest.warns(UserWarning, match="no submission has matched when topic='Tydes': is_rejected"):
        assert Misspelt("test").run().wasSuccessful()  # type: ignore[union-attr]
