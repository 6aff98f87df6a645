"""`Ticket.recorded` returns when the request would survive a crash: a web application can answer then."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jarai_async import (
    ClosedError,
    ConfigurationError,
    InvalidRequestError,
    JaraiClient,
    JournalError,
    Orchestrator,
    read_journal,
)
from jarai_async.simulator import Simulator
from tests.support.journals import execute
from tests.support.scenarios import request_for, requests_for

PROGRAM = """
import asyncio, os, signal, sys
from jarai_async import JaraiClient, Orchestrator, ProductionRequest

async def main(url, key, journal, *references):
    async with (
        JaraiClient(key, base_url=url) as client,
        Orchestrator(client, journal=journal, concurrency=1) as orchestrator,
    ):
        await orchestrator.context.slots.acquire()  # so all requests wait
        ids = dict.fromkeys(["account_id", "language_id", "country_id", "avatar_id"], %r)
        requests = [ProductionRequest(topic="Tides", reference=one, **ids) for one in references]
        tickets = [orchestrator.submit(request) for request in requests]
        await asyncio.gather(*[ticket.recorded() for ticket in tickets])
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_recorded_request_is_read_by_another_process_while_it_waits_for_a_slot(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """`recorded` waits neither for a slot nor for JARAI, and returns again once the request has ended."""
    journal = tmp_path / "journal"
    async with Orchestrator(client, journal=journal, concurrency=1) as orchestrator:
        tickets = [orchestrator.submit(request) for request in requests_for(simulator, 3)]
        await asyncio.gather(*[ticket.recorded() for ticket in tickets])
        assert simulator.productions == {}
        entries = await asyncio.to_thread(lambda: [*read_journal(journal)])
        assert [(entry.reference, entry.stage) for entry in entries[1:]] == [
            ("item-1", "planned"),
            ("item-2", "planned"),
        ]
        assert (await tickets[0]).ok
        for ticket in (tickets[0], *await orchestrator.tickets()):
            await ticket.recorded()


async def test_request_that_was_recorded_runs_once_although_the_process_is_killed(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """A child gets a SIGKILL when `recorded` has returned; `resume` runs all of its requests."""
    references, journal = [f"item-{n}" for n in range(5)], tmp_path / "journal"
    program = [sys.executable, "-c", PROGRAM % simulator.account_id]
    arguments = [simulator.base_url, simulator.api_key, str(journal), *references]
    child = await asyncio.to_thread(subprocess.run, program + arguments, timeout=60, check=False)
    assert child.returncode == -signal.SIGKILL
    async with Orchestrator(client, journal=journal) as orchestrator:
        outcomes = await asyncio.gather(*await orchestrator.resume())
    assert [outcome.reference for outcome in outcomes if outcome.ok] == references
    assert len(simulator.productions) == len(references)


@pytest.mark.parametrize(
    ("failure_rate", "known"), [(0.0, [None, "published", None]), (1.0, [None, "failed", "failed"])]
)
async def test_ticket_of_a_request_that_has_ended_knows_the_outcome_once_it_is_recorded(
    tmp_path: Path, failure_rate: float, known: list[str | None]
) -> None:
    """A web application answers with it. It does not wait for files that are downloaded again."""
    async with (
        Simulator(failure_rate=failure_rate, approval="auto") as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        shown = []
        for folder in ("files", "files", "others"):
            orchestrator = Orchestrator(client, journal=tmp_path / "journal", download_to=tmp_path / folder)
            async with orchestrator:
                ticket = orchestrator.submit(request_for(simulator, reference="a"))
                await ticket.recorded()
                shown.append(ticket.to_dict()["outcome"])
                await ticket
        assert shown == known
        assert len(simulator.productions) == 1


async def test_recorded_raises_where_the_request_is_not_submitted(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """The reference belongs to another request, or the journal cannot be written."""
    journal = tmp_path / "journal"
    async with Orchestrator(client, journal=journal) as orchestrator:
        assert (await orchestrator.submit(request_for(simulator, reference="a"))).ok
    execute(journal, "CREATE TRIGGER t BEFORE INSERT ON intents BEGIN SELECT RAISE(ABORT, 'disk error'); END")
    async with Orchestrator(client, journal=journal) as orchestrator:
        other = orchestrator.submit(request_for(simulator, reference="a", topic="Other"))
        with pytest.raises(InvalidRequestError, match="topic"):
            await other.recorded()
        failed = orchestrator.submit(request_for(simulator, reference="b"))
        with pytest.raises(JournalError, match="disk error"):
            await failed.recorded()
        assert (await failed).state == "rejected"
    assert len(simulator.productions) == 1


async def test_recorded_raises_closed_error_if_the_block_was_left_before(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """The request is then not in the journal."""
    async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
    with pytest.raises(ClosedError):
        await ticket.recorded()
    assert [*read_journal(tmp_path / "journal")] == []


async def test_without_a_journal_no_request_is_recorded(simulator: Simulator, client: JaraiClient) -> None:
    """An application that answers 202 must not be wrong silently."""
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        with pytest.raises(ConfigurationError, match="journal"):
            await ticket.recorded()
        assert (await ticket).ok
