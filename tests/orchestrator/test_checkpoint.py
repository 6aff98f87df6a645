"""What a client has learned and sent is in the journal: a restart neither forgets it nor sends a burst."""

import asyncio
import logging
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from jarai_async import JaraiClient, JournalError, Orchestrator, OutcomeState, WaitReason
from jarai_async._journal.journal import SqliteJournal
from jarai_async.simulator import Simulator
from tests.support.journals import execute
from tests.support.orchestrators import outcomes_of
from tests.support.scenarios import requests_for


async def facts(path: Path) -> tuple[Any, Any]:
    """Return what a journal remembers: what was learned, and what was sent."""
    journal = await SqliteJournal.open(path)
    try:
        return await journal.load("learned"), await journal.load("spent")
    finally:
        await journal.close()


async def test_restart_remembers_what_was_learned_and_sent(simulator: Simulator, tmp_path: Path) -> None:
    """A process that does nothing keeps what the one before it learned, and has as few free slots left."""
    path = tmp_path / "journal.db"
    free = []
    async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
        orchestrator = Orchestrator(client, journal=path)
        assert await outcomes_of(orchestrator, requests_for(simulator, 5))
        free.append(client.engine.limiter.used_slots(asyncio.get_running_loop().time()))
    learned, sent = await facts(path)
    assert learned
    assert sent["slots"]
    async with (
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client, journal=path),
    ):
        free.append(client.engine.limiter.used_slots(asyncio.get_running_loop().time()))
    assert free[0] == free[1] > 0
    assert await facts(path) == (learned, sent)


async def test_crash_loses_a_minute_of_what_was_learned(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """The journal is written once a minute, not only at the end."""
    copy = tmp_path / "crashed"
    copy.mkdir()
    async with Orchestrator(client, journal=tmp_path / "journal.db") as orchestrator:
        tickets = [orchestrator.submit(request) for request in requests_for(simulator, 5)]
        await asyncio.sleep(1)
        assert (await facts_of_copy(tmp_path, copy)) == (None, None)
        await asyncio.sleep(60)
        learned, sent = await facts_of_copy(tmp_path, copy)
        assert learned
        assert sent["requests"] >= 5
        for ticket in tickets:
            await ticket.cancel()


async def test_program_started_in_an_outage_waits_if_jarai_was_reached_before(tmp_path: Path) -> None:
    """The journal knows that the base URL is right: nothing is rejected."""
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    async with Simulator(failure_rate=0, approval="auto") as simulator:
        port, requests = urlsplit(simulator.base_url).port or 0, requests_for(simulator, 2)
        async with (
            JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
            Orchestrator(client, journal=tmp_path / "journal.db"),
        ):
            await client.accounts()
            await asyncio.sleep(1)
            await facts_of_copy(tmp_path, crashed)
    async with (
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client, journal=crashed / "journal.db") as orchestrator,
    ):
        tickets = [orchestrator.submit(request) for request in requests]
        await asyncio.sleep(600)
        assert {ticket.waiting_for and ticket.waiting_for.reason for ticket in tickets} == {WaitReason.OUTAGE}
        async with Simulator(port=port, failure_rate=0, approval="auto"):
            outcomes = await asyncio.gather(*tickets)
    assert [outcome.state for outcome in outcomes] == [OutcomeState.PUBLISHED] * 2


async def test_program_started_with_a_rejected_key_waits_if_one_was_accepted_before(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its requests are not rejected; they are submitted once the key is accepted."""
    caplog.set_level(logging.INFO, logger="jarai_async")
    path = tmp_path / "journal.db"
    first, second = requests_for(simulator, 2)
    assert await outcomes_of(Orchestrator(client, journal=path), [first])
    simulator.faults.add("unauthorized", on="any", times=None)
    async with (
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as later,
        Orchestrator(later, journal=path) as orchestrator,
    ):
        ticket = orchestrator.submit(second)
        await asyncio.sleep(3_600)
        assert ticket.waiting_for is not None
        assert ticket.waiting_for.reason == WaitReason.API_KEY
        simulator.faults.clear()
        assert (await ticket).state in (OutcomeState.PUBLISHED, OutcomeState.FAILED)
    lines = [record.getMessage() for record in caplog.records if "key" in record.getMessage()]
    assert "all requests wait 30 s, and nothing is lost; is it the right key" in lines[0]
    assert lines[-1] == "JARAI accepts the API key again"


async def facts_of_copy(folder: Path, copy: Path) -> tuple[Any, Any]:
    """Return what a journal would remember if its process were killed now."""
    for path in folder.glob("journal.db*"):
        shutil.copy(path, copy)
    return await facts(copy / "journal.db")


@pytest.mark.parametrize(
    "damage", ["INSERT INTO facts VALUES ('learned', '[1]')", "INSERT INTO facts VALUES ('spent', '[1]')"]
)
async def test_damaged_checkpoint_is_an_error_and_closes_the_journal(
    simulator: Simulator, tmp_path: Path, damage: str
) -> None:
    """The error names the file, and the file can be opened again."""
    path = tmp_path / "journal.db"
    await facts(path)
    execute(path, damage)
    async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
        with pytest.raises(JournalError, match="is damaged"):
            async with Orchestrator(client, journal=path):
                pass
    await (await SqliteJournal.open(path)).close()
