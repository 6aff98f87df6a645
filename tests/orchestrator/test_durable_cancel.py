"""A cancel that was requested is carried out: through outages, by the next process, and for any caller."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from jarai_async import (
    ApiError,
    ClosedError,
    InvalidRequestError,
    JaraiClient,
    JournalError,
    NoResponseError,
    Orchestrator,
    OutcomeState,
    PermissionDeniedError,
    UncertainSubmitError,
    read_journal,
)
from jarai_async._journal.file_lock import FileReader
from jarai_async._journal.journal import SqliteJournal
from jarai_async._orchestrator.decisions import resolve
from jarai_async.simulator import Simulator
from tests.support.journals import opened_connections
from tests.support.orchestrators import outcomes_of, statuses
from tests.support.scenarios import request_for, requests_for

HOUR = 3600.0


def a_day(_: Random, __: str) -> list[tuple[str, float]]:
    return [("Queued", 60), ("Producing", 24 * HOUR), ("Distributing", 60)]


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """Productions take a day."""
    async with Simulator(approval="auto", failure_rate=0, durations=a_day) as simulator:
        yield simulator


def begin_outage(simulator: Simulator, seconds: float, *routes: str, kind: str = "unavailable") -> None:
    for route in routes or ("any",):
        simulator.faults.add(kind, on=route, times=None)
    asyncio.get_running_loop().call_later(seconds, simulator.faults.clear)


# --- Outages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["unavailable", "reset_before", "hang", "gateway_html", "redirect", "unauthorized"]
)
async def test_cancel_outlasts_an_outage(simulator: Simulator, client: JaraiClient, kind: str) -> None:
    """It returns when the production is cancelled; a second cancel waits for the same answer."""
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(100)
        begin_outage(simulator, HOUR / 2, kind=kind)
        began = asyncio.get_running_loop().time()
        first = asyncio.create_task(ticket.cancel())
        await asyncio.sleep(60)
        assert ticket.to_dict()["cancelRequested"]
        await asyncio.gather(first, ticket.cancel())
        assert not ticket.cancel_requested
        assert HOUR / 2 - 1 <= asyncio.get_running_loop().time() - began <= HOUR / 2 + 400
        assert (await ticket).state is OutcomeState.CANCELLED
    assert statuses(simulator) == {"Cancelled"}


async def test_deadline_does_not_end_a_cancel(simulator: Simulator, client: JaraiClient) -> None:
    """In an outage it would end before JARAI can answer."""
    async with Orchestrator(client, deadline=300) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(100)
        begin_outage(simulator, HOUR)
        await ticket.cancel()
        assert (await ticket).state is OutcomeState.CANCELLED


async def test_deadline_counts_again_after_a_refused_cancel(
    simulator: Simulator, client: JaraiClient
) -> None:
    """The production is still watched, as before."""
    async with Orchestrator(client, deadline=300) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(100)
        simulator.faults.add("forbidden", on="cancel")
        with pytest.raises(PermissionDeniedError):
            await ticket.cancel()
        assert (await ticket).state is OutcomeState.TIMED_OUT
        assert asyncio.get_running_loop().time() < 400


async def test_production_that_is_not_found_yet_is_cancelled(
    simulator: Simulator, client: JaraiClient
) -> None:
    """A new production may not be known everywhere at once."""
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(1)
        begin_outage(simulator, 60, "cancel", "fetch", kind="not_found")
        await ticket.cancel()
    assert statuses(simulator) == {"Cancelled"}


async def test_cancel_goes_on_when_its_caller_is_cancelled(simulator: Simulator, client: JaraiClient) -> None:
    """A web server ends a handler when the browser disconnects."""
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(100)
        begin_outage(simulator, HOUR)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await ticket.cancel()
        assert (await ticket).state is OutcomeState.CANCELLED


# --- The next process ------------------------------------------------------------------------------


async def _leave_during_a_cancel(simulator: Simulator, client: JaraiClient, path: Path) -> None:
    """Leave the block while JARAI does not answer the cancel of the only production."""
    async with Orchestrator(client, journal=path) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator, reference="mine"))
        await asyncio.sleep(100)
        begin_outage(simulator, HOUR)
        cancel = asyncio.create_task(ticket.cancel())
        await asyncio.sleep(600)
    with pytest.raises(ClosedError, match="The journal has the cancel"):
        await cancel
    assert statuses(simulator) == {"Producing"}


async def test_resume_continues_with_a_cancel(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """Nothing has to be remembered outside of the journal."""
    await _leave_during_a_cancel(simulator, client, tmp_path / "journal")
    async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
        (known,) = await orchestrator.tickets()
        assert known.cancel_requested
        (ticket,) = await orchestrator.resume()
        assert (await ticket).state is OutcomeState.CANCELLED
        assert not ticket.cancel_requested
    assert statuses(simulator) == {"Cancelled"}


async def test_run_continues_with_a_cancel(simulator: Simulator, client: JaraiClient, tmp_path: Path) -> None:
    """The same batch, run again."""
    await _leave_during_a_cancel(simulator, client, tmp_path / "journal")
    orchestrator = Orchestrator(client, journal=tmp_path / "journal")
    (outcome,) = await outcomes_of(orchestrator, [request_for(simulator, reference="mine")])
    assert outcome.state is OutcomeState.CANCELLED
    sent = simulator.count("cancel")
    (outcome,) = await outcomes_of(orchestrator, [request_for(simulator, reference="mine")])
    assert outcome.state is OutcomeState.CANCELLED
    assert simulator.count("cancel") == sent


async def test_cancel_on_exit_in_an_outage_is_continued_by_the_next_process(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """Leaving takes two minutes at most."""
    path, loop = tmp_path / "journal", asyncio.get_running_loop()
    async with Orchestrator(client, journal=path, cancel_on_exit=True) as orchestrator:
        for request in requests_for(simulator, 5):
            orchestrator.submit(request)
        await asyncio.sleep(100)
        begin_outage(simulator, HOUR)
        leaving_at = loop.time()
    assert loop.time() - leaving_at <= 120
    assert [entry.stage for entry in read_journal(path)] == ["accepted"] * 5
    async with Orchestrator(client, journal=path) as orchestrator:
        outcomes = [await ticket for ticket in await orchestrator.resume()]
    assert [outcome.state for outcome in outcomes] == [OutcomeState.CANCELLED] * 5


async def test_ticket_of_the_journal_can_be_cancelled(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """Its request is not running: the cancel runs it again, and the ticket has its outcome."""
    path = tmp_path / "journal"
    async with Orchestrator(client, journal=path, concurrency=1) as orchestrator:
        for request in requests_for(simulator, 2):
            orchestrator.submit(request)
        await asyncio.sleep(100)
    async with Orchestrator(client, journal=path) as orchestrator:
        accepted, planned = await orchestrator.tickets()
        for ticket in (accepted, planned):
            await ticket.cancel()
            assert (await ticket).state is OutcomeState.CANCELLED
            assert (await ticket.task).state is OutcomeState.CANCELLED
    assert statuses(simulator) == {"Cancelled"}
    assert simulator.count("submit") == 1


@pytest.mark.parametrize(
    ("fault", "status", "logged"),
    [("not_ready", "409", "which continues"), ("not_found", "404", "whose production it does not find")],
)
async def test_cancel_that_was_refused_is_not_sent_again(
    simulator: Simulator,
    client: JaraiClient,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    *,
    fault: str,
    status: str,
    logged: str,
) -> None:
    """JARAI has answered it."""
    path = tmp_path / "journal"
    async with Orchestrator(client, journal=path) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(400)
        simulator.faults.add(fault, on="cancel")
        with pytest.raises(ApiError, match=status):
            await ticket.cancel()
    assert f"JARAI did not cancel {ticket.reference}, {logged}: " in caplog.text
    async with Orchestrator(client, journal=path) as orchestrator:
        await orchestrator.resume()
        await asyncio.sleep(100)
    assert simulator.count("cancel") == 1


async def test_production_whose_cancel_was_refused_is_not_replaced_when_it_expires() -> None:
    """JARAI never started it, so the cancel has what it wanted."""
    async with (
        Simulator(expiry_rate=1.0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client) as orchestrator,
    ):
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(10)
        simulator.faults.add("not_ready", on="cancel")
        with pytest.raises(ApiError, match="409"):
            await ticket.cancel()
        outcome = await ticket
        assert outcome.error is not None
        assert outcome.error.code == "PRODUCTION_EXPIRED"
        assert simulator.count("submit") == 1


async def test_cancel_that_cannot_be_written_is_not_sent(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the journal has it, then JARAI."""
    connections = opened_connections(monkeypatch)
    async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(100)
        connections[-1].execute("PRAGMA query_only = ON")
        with pytest.raises(JournalError):
            await ticket.cancel()
        assert simulator.count("cancel") == 0
        connections[-1].execute("PRAGMA query_only = OFF")
        await ticket.cancel()
        assert (await ticket).state is OutcomeState.CANCELLED


# --- Requests without a production, and those that have ended -------------------------------------


async def test_cancel_of_an_uncertain_submit_says_what_to_do(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """A production that the user names then is cancelled; the commands are complete, also after a restart."""
    path = tmp_path / "journal"
    simulator.faults.add("reset_after", on="submit")
    async with Orchestrator(client, journal=path) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator, reference="mine"))
        uncertain = (await ticket).error
        with pytest.raises(UncertainSubmitError) as caught:
            await ticket.cancel()
        assert f"`jarai resolve {path} mine --production-id ID`" in str(caught.value)
        assert f"`jarai resolve {path} mine --resubmit`" in str(caught.value)
        assert "Its cancel is recorded" in str(caught.value)
        assert uncertain is not None
        assert uncertain.message == caught.value.message
    async with Orchestrator(client, journal=path) as orchestrator:
        (again,) = await orchestrator.resume()
        error = (await again).error
        assert str(error) == str(caught.value)
        assert error is not None
        assert isinstance(error.__cause__, NoResponseError)
        resolved = await orchestrator.resolve("mine", production_id=next(iter(simulator.productions)))
        assert (await resolved).state is OutcomeState.CANCELLED
    assert statuses(simulator) == {"Cancelled"}


@pytest.mark.parametrize("decided", ["by the process", "after a restart", "by the command"])
async def test_submit_that_has_created_nothing_is_cancelled_and_not_sent_again(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, decided: str
) -> None:
    """Its cancel was recorded while it was in doubt. Only a retry submits it."""
    path = tmp_path / "journal"
    simulator.faults.add("reset_before", on="submit")
    async with Orchestrator(client, journal=path) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator, reference="mine"))
        await asyncio.sleep(0.0001)
        with pytest.raises(UncertainSubmitError):
            await ticket.cancel()
        if decided == "by the process":
            ticket = await orchestrator.resolve("mine", resubmit=True)
            assert (await ticket).state is OutcomeState.CANCELLED
    if decided == "by the command":
        journal = await SqliteJournal.open(path)
        await resolve(journal, "mine", None, {})
        await journal.close()
    async with Orchestrator(client, journal=path) as orchestrator:
        if decided == "after a restart":
            await orchestrator.resolve("mine", resubmit=True)
        ticket = orchestrator.submit(request_for(simulator, reference="mine"))
        assert (await ticket).state is OutcomeState.CANCELLED
        assert not simulator.productions
        ticket = await orchestrator.retry("mine")
        await asyncio.sleep(100)
        assert ticket.status == "Producing"


async def test_cancel_of_an_ended_request_says_that_nothing_was_cancelled(
    simulator: Simulator, client: JaraiClient
) -> None:
    """Also if it ends while JARAI does not answer the cancel, or while its files are collected."""
    async with Orchestrator(client) as orchestrator:
        ticket, late = (orchestrator.submit(request_for(simulator)) for _ in range(2))
        await asyncio.sleep(100)
        begin_outage(simulator, 25 * HOUR, "cancel", kind="internal_error")
        for one in (ticket, late, ticket):
            with pytest.raises(InvalidRequestError, match="has ended as published: nothing was cancelled"):
                await one.cancel()
        assert (await ticket).state is OutcomeState.PUBLISHED


async def test_cancel_after_the_block_of_a_request_without_a_production_raises(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """The journal is closed: the next run would submit it."""
    async with Orchestrator(client, journal=tmp_path / "journal", concurrency=1) as orchestrator:
        orchestrator.submit(request_for(simulator))
        waiting = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(100)
    with pytest.raises(ClosedError, match="not submitted"):
        await waiting.cancel()


@pytest.mark.skipif(sys.platform != "linux", reason="a reader keeps the owner from writing there only")
async def test_cancel_of_an_unsent_request_returns_when_the_journal_has_it(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """Otherwise the next process could submit it."""
    path = tmp_path / "journal"
    async with Orchestrator(client, journal=path, concurrency=1) as orchestrator:
        orchestrator.submit(request_for(simulator))
        waiting = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(100)
        with closing(FileReader(path)) as reader, reader.reading():
            cancel = asyncio.create_task(waiting.cancel())
            for _ in range(100):
                await asyncio.sleep(0)
            assert waiting.done
            assert not cancel.done()
        await cancel
        assert [entry.state for entry in read_journal(path)] == [None, OutcomeState.CANCELLED]
