"""The same script run again: what was told is not told anew, and what runs is gone on with."""

import asyncio
from pathlib import Path
from random import Random

import pytest

from jarai_async import Event, Finished, JaraiClient, Orchestrator, StatusChanged, Submitted
from jarai_async._api.codec import body_of
from jarai_async._journal.entries import Intent
from jarai_async._journal.journal import Journal
from jarai_async.simulator import Simulator
from tests.support.scenarios import request_for


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


async def test_cancelling_every_task_leaves_the_journal_whole(simulator: Simulator, tmp_path: Path) -> None:
    """As `asyncio.run` does at its end: what was put is written, and closing neither hangs nor forgets."""
    journal = await Journal.open(tmp_path / "journal.db")
    request = request_for(simulator, reference="a")
    journal.put(Intent("a", request.account_id, body_of(request), "key"))
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await journal.close()
    again = await Journal.open(tmp_path / "journal.db")
    assert await again.find("a") is not None
    await again.close()


async def test_a_cancelled_close_lets_go_of_the_file(simulator: Simulator, tmp_path: Path) -> None:
    """The next one in this process can open it."""
    request = request_for(simulator, reference="a")
    for steps in range(6):
        journal = await Journal.open(tmp_path / "journal.db")
        journal.put(Intent("a", request.account_id, body_of(request), "key"))
        closing = asyncio.create_task(journal.close())
        for _ in range(steps):
            await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait({closing})
        if steps == 0:  # it never began
            await journal.close()


async def test_where_submitting_an_expired_production_again_is_refused_it_has_failed(tmp_path: Path) -> None:
    """To say that it was rejected would be to say that nothing was created; a next run tries again."""
    journal = tmp_path / "journal.db"
    async with Simulator(expiry_rate=1.0) as simulator:
        simulator.faults.add("not_found", on="submit", after=1, times=None)
        for _ in range(2):
            last = (await script(simulator, journal))[-1]
            assert isinstance(last, Finished)
            assert last.outcome.state == "failed"
            assert last.outcome.error is not None
            assert last.outcome.error.code == "PRODUCTION_EXPIRED"
            assert "submitting it again failed" in last.outcome.error.message
            assert last.outcome.production is not None
            assert [last.outcome.production.id] == [*simulator.productions]
        assert len(simulator.productions) == 1
        assert simulator.count("submit") == 3
        simulator.faults.clear()
        await script(simulator, journal)
        assert len(simulator.productions) == 2


@pytest.mark.parametrize(("hours", "state"), [(22.9, "published"), (23.1, "uncertain")])
async def test_a_key_is_trusted_for_most_of_a_day(tmp_path: Path, hours: float, state: str) -> None:
    """While the server knows it, the same key is sent again; later it might pay for a second production."""
    async with Simulator(idempotency_keys=True, failure_rate=0, approval="auto") as simulator:
        simulator.faults.add("hang", on="submit")
        request, journal = request_for(simulator, reference="a"), tmp_path / "journal.db"
        one, other = (
            JaraiClient(simulator.api_key, base_url=simulator.base_url, idempotency_keys=True)
            for _ in range(2)
        )
        async with one, Orchestrator(one, journal=journal) as orchestrator:
            orchestrator.submit(request)
            await asyncio.sleep(1)  # it is on its way when the program ends
        await asyncio.sleep(hours * 3600)
        async with other, Orchestrator(other, journal=journal) as orchestrator:
            outcome = await orchestrator.submit(request)
        assert outcome.state == state
        assert len(simulator.productions) == 1


async def test_what_was_accepted_and_never_told_of_is_not_taken_for_new(tmp_path: Path) -> None:
    """The next process says of its changes no later moment than the one at which they came."""
    path = tmp_path / "journal.db"
    async with Simulator(failure_rate=0, approval="auto") as simulator:
        async with (
            JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
            Orchestrator(client, journal=path) as orchestrator,
        ):
            run = orchestrator.run([request_for(simulator, reference="a")])
            await asyncio.sleep(5)
            await run.aclose()  # nothing of it was read
        await asyncio.sleep(600)
        told = await script(simulator, path)
        (production,) = simulator.productions.values()
    first = next(event for event in told if isinstance(event, StatusChanged))
    moments = {status: production.wall(moment) for moment, status in production.timeline}
    assert first.changed_after.timestamp() <= moments["Producing"] <= first.observed_at.timestamp()
