"""The same script run again: what was told is not told anew, and what runs is gone on with."""

import asyncio
from pathlib import Path
from random import Random

import pytest
from scenarios import request_for

from jarai_async import Event, Finished, JaraiClient, Orchestrator, Submitted
from jarai_async.simulator import Simulator


async def script(
    simulator: Simulator, journal: Path, *, events: int | None = None, slow: float = 0.0
) -> list[Event]:
    """Run a request until so many events were told, and read them slowly."""
    told: list[Event] = []
    async with (
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client, journal=journal) as orchestrator,
    ):
        async for event in orchestrator.run([request_for(simulator, reference="a")]):
            told.append(event)
            await asyncio.sleep(slow)
            if len(told) == events:
                break
    return told


@pytest.mark.parametrize("events", [1, 2, 3, None])
async def test_a_slow_reader_learns_of_an_expired_production_when_another_has_taken_its_place(
    tmp_path: Path, events: int | None
) -> None:
    """What it is told late is noted of the first: the journal goes on with the second, and with no third."""
    made = 0

    def first_expires(_: Random, __: str) -> list[tuple[str, float]]:
        nonlocal made
        made += 1
        return [("Queued", 700.0 if made == 1 else 20.0), ("Producing", 600.0)]

    async with Simulator(durations=first_expires, failure_rate=0, approval="auto") as simulator:
        told = await script(simulator, tmp_path / "journal.db", events=events, slow=700)
        if events:
            told += await script(simulator, tmp_path / "journal.db")
        assert len(simulator.productions) == 2
        _, second = simulator.productions
    submitted = [event.production.id for event in told if isinstance(event, Submitted)]
    assert second in submitted
    assert all(event.production is not None for event in told)
    assert isinstance(told[-1], Finished)
    assert told[-1].outcome.ok
    assert told[-1].outcome.production is not None
    assert told[-1].outcome.production.id == second
