"""Fixtures for the tests of polling."""

from collections.abc import AsyncIterator
from random import Random

import pytest

from jarai_async.simulator import Simulator


def _durations(_: Random, __: str) -> list[tuple[str, float]]:
    return [("Queued", 500.0), ("Producing", 100_000.0), ("AwaitingApproval", 5.0), ("Distributing", 50.0)]


@pytest.fixture
async def queued() -> AsyncIterator[Simulator]:
    """A simulator whose productions are Queued for 500 s."""
    async with Simulator(durations=_durations, failure_rate=0, latency=0) as simulator:
        yield simulator
