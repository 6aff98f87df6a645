"""Leaving the block of an orchestrator: watching ends, productions continue, and nothing leaks."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from jarai_async import (
    ClosedError,
    Finished,
    JaraiClient,
    Orchestrator,
    Outcome,
    OutcomeState,
    ProductionRequest,
    StatusChanged,
    UncertainSubmitError,
)
from jarai_async._journal.entries import Stage
from jarai_async.simulator import Simulator
from tests.support.logs import besides_events
from tests.support.orchestrators import library_tasks, statuses
from tests.support.scenarios import request_for, requests_for


async def test_break_stops_watching_and_cancels_no_production(
    simulator: Simulator, client: JaraiClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the productions that continue at JARAI, and how to wait for them."""
    async with Orchestrator(client) as orchestrator:
        async for event in orchestrator.run(requests_for(simulator, 5)):
            if isinstance(event, StatusChanged):
                break
    assert library_tasks() == ["jarai poller"]  # it is the client's, and ends before its next poll
    assert statuses(simulator) <= {"Queued", "Producing"}
    first, *others = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "JaraiClient.wait" in first
    assert sorted(line.split()[-1] for line in others) == sorted(simulator.productions)


async def test_leaving_with_a_journal_logs_one_line(
    simulator: Simulator, client: JaraiClient, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """The journal has the rest. If everything has ended, there is nothing to log."""
    caplog.set_level(logging.INFO, logger="jarai_async")
    path = tmp_path / "journal"
    simulator.faults.add("hang", on="submit", after=4)
    async with Orchestrator(client, journal=path) as orchestrator:
        for request in requests_for(simulator, 5):
            orchestrator.submit(request)
        await asyncio.sleep(10)
    (line,) = besides_events(caplog.records)
    assert line.levelno == logging.INFO
    assert line.getMessage() == (
        "stopped watching; productions that continue at JARAI: 4, submits without a response: 1; "
        f"to continue, run the same batch with the journal {path}, or call `resume`"
    )
    async with Orchestrator(client, journal=path) as orchestrator:
        tickets = await orchestrator.resume()
        caplog.clear()
        await asyncio.gather(*tickets)
    (uncertain,) = besides_events(caplog.records)
    assert uncertain.getMessage().startswith("the submit of 'How tides work' (reference 'item-1'")


async def test_timeout_around_the_block_cancels_no_production(
    simulator: Simulator, client: JaraiClient
) -> None:
    """`asyncio.timeout` ends the watching on time."""
    loop = asyncio.get_running_loop()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(300), Orchestrator(client) as orchestrator:
            async for _ in orchestrator.run(requests_for(simulator, 5)):
                pass
    assert loop.time() == pytest.approx(300, abs=1)
    assert len(simulator.productions) == 5
    assert "Cancelled" not in statuses(simulator)


async def _run_until_cancelled(client: JaraiClient, simulator: Simulator, finished: set[str]) -> None:
    async with Orchestrator(client) as orchestrator:
        async for event in orchestrator.run(requests_for(simulator, 4)):
            if isinstance(event, Finished) and event.production is not None:
                finished.add(event.production.id)


@pytest.mark.parametrize(
    "seconds", [0, 0.1, 0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 8, 60, 600, 1200, 1500, 1800, 2400]
)
async def test_cancelled_block_leaks_no_task_and_loses_no_production(
    seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    """At whatever time the block is cancelled, all tasks end, and each production is finished or logged."""
    async with Simulator(approval="auto", latency=2.0) as simulator:
        async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
            finished: set[str] = set()
            task = asyncio.create_task(_run_until_cancelled(client, simulator, finished))
            await asyncio.sleep(seconds)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert library_tasks() == []
        assert "Cancelled" not in statuses(simulator)
    assert {
        production_id for production_id in simulator.productions if production_id not in caplog.text
    } <= finished


async def test_second_cancellation_during_shutdown_leaks_no_task() -> None:
    """A program that is interrupted twice leaves no job running, and submits nothing afterwards."""
    async with (
        Simulator(latency=5.0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):

        async def program() -> None:
            async with Orchestrator(client) as orchestrator:
                async for _ in orchestrator.run(requests_for(simulator, 20)):
                    pass

        task = asyncio.create_task(program())
        await asyncio.sleep(3)
        task.cancel()
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert [name for name in library_tasks() if "item-" in name] == []
        created = len(simulator.productions)
        await asyncio.sleep(3600)
        assert len(simulator.productions) == created


# --- Submits in flight -----------------------------------------------------------------------------


async def test_submits_in_flight_complete_and_their_productions_are_not_cancelled(
    client: JaraiClient, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """Leaving waits for the responses, so that no production id is lost, and sends no DELETE."""
    await client.accounts()  # after the first response several requests may be in flight
    simulator.faults.add("slow", on="submit", seconds=5)  # the other response arrives earlier
    async with Orchestrator(client) as orchestrator:
        for _ in range(2):
            orchestrator.submit(request_for(simulator))
        await asyncio.sleep(0.001)
        assert not simulator.productions
    await asyncio.sleep(60)
    assert len(simulator.productions) == 2
    assert all(production_id in caplog.text for production_id in simulator.productions)
    assert simulator.count("cancel") == 0
    assert statuses(simulator) <= {"Queued", "Producing"}


async def test_cancel_on_exit_cancels_a_submit_in_flight(simulator: Simulator, client: JaraiClient) -> None:
    """Leaving waits for the response, and then cancels the production at JARAI."""
    async with Orchestrator(client, cancel_on_exit=True) as orchestrator:
        orchestrator.submit(request_for(simulator))
        await asyncio.sleep(0.001)
        assert not simulator.productions
    assert len(simulator.productions) == simulator.count("cancel") == 1
    assert statuses(simulator) == {"Cancelled"}


async def test_submit_without_a_response_is_logged_with_its_idempotency_key(
    simulator: Simulator, client: JaraiClient, caplog: pytest.LogCaptureFixture
) -> None:
    """It may have created a production that is paid for."""
    simulator.faults.add("hang", on="submit")
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator, reference="mine"))
        await asyncio.sleep(1)
    assert len(simulator.productions) == 1
    (production,) = simulator.productions.values()
    assert "submits without a response: 1; check in JARAI Studio" in caplog.text
    assert f"mine  {production.idempotency_key}" in caplog.text
    with pytest.raises(ClosedError, match="may have been submitted"):
        await ticket


async def test_submit_that_waits_for_its_retry_is_in_doubt(caplog: pytest.LogCaptureFixture) -> None:
    """Between two attempts nothing is in flight, but the first may have created a production."""
    async with Simulator(idempotency_keys=True) as simulator:
        simulator.faults.add("reset_after", on="submit", times=None)
        client = JaraiClient(
            simulator.api_key, base_url=simulator.base_url, idempotency_keys=True, random=Random(1)
        )
        async with client, Orchestrator(client) as orchestrator:
            ticket = orchestrator.submit(request_for(simulator, reference="mine"))
            await asyncio.sleep(5)
            sent = simulator.count("submit")
        assert simulator.count("submit") == sent > 1
        (production,) = simulator.productions.values()
    (result,) = await asyncio.gather(ticket, return_exceptions=True)
    if isinstance(result, Outcome):
        assert isinstance(result.error, UncertainSubmitError)
        assert result.error.idempotency_key == production.idempotency_key
    else:
        assert str(production.idempotency_key) in f"{result} {caplog.text}"


@pytest.mark.parametrize("seconds", [0.5, 2, 61, 62])
async def test_nothing_is_submitted_after_the_block(seconds: float, caplog: pytest.LogCaptureFixture) -> None:
    """While many submits wait, only those in flight complete, and each production or its key is logged."""
    async with (
        Simulator(latency=2.0, failure_rate=0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        async with Orchestrator(client, concurrency=600) as orchestrator:
            _run = orchestrator.run(requests_for(simulator, 600))
            tickets = [orchestrator.submit(request_for(simulator)) for _ in range(5)]
            await asyncio.sleep(seconds)
            sent = simulator.count("submit")
        in_flight = simulator.count("submit") - sent
        assert in_flight <= 200
        created = len(simulator.productions)
        await asyncio.sleep(3600)
        assert len(simulator.productions) == created
        assert len(tickets) == 5
    for production in simulator.productions.values():  # a response may take more than ten seconds
        assert production.production_id in caplog.text or str(production.idempotency_key) in caplog.text


async def test_nothing_is_submitted_while_a_slow_iterable_is_closed() -> None:
    """Submits stop as soon as the block is left, although leaving waits for the iterable."""
    async with (
        Simulator(tier="standard", latency=1.0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):

        async def source() -> AsyncIterator[ProductionRequest]:
            try:
                for request in requests_for(simulator, 40):
                    yield request
                await asyncio.sleep(1e6)
            finally:
                await asyncio.sleep(60)

        async with Orchestrator(client) as orchestrator:
            _run = orchestrator.run(source())
            await asyncio.sleep(3)
            sent = simulator.count("submit")
            assert sent > 0
        assert simulator.count("submit") <= sent + 1


async def test_submit_that_is_written_to_the_journal_when_the_block_is_left_is_not_sent(
    simulator: Simulator, client: JaraiClient
) -> None:
    """Leaving waits for an iterable, and the journal is written in the meantime."""

    async def source() -> AsyncIterator[ProductionRequest]:
        try:
            await asyncio.sleep(1e6)
            yield request_for(simulator)
        finally:
            await asyncio.sleep(60)

    await client.accounts()
    async with Orchestrator(client) as orchestrator, asyncio.timeout(30):
        _run = orchestrator.run(source())
        await asyncio.sleep(1)
        orchestrator.submit(request_for(simulator))
        (job,) = orchestrator.jobs
        while job.state.intent is None or job.state.intent.stage is not Stage.SENDING:  # noqa: ASYNC110
            await asyncio.sleep(0)  # there is no event for it
    assert simulator.count("submit") == 0


# --- cancel_on_exit --------------------------------------------------------------------------------


async def test_cancel_on_exit_cancels_all_running_productions(
    simulator: Simulator, client: JaraiClient
) -> None:
    """Leaving the block cancels productions only with this option."""
    async with Orchestrator(client, cancel_on_exit=True) as orchestrator:
        async for event in orchestrator.run(requests_for(simulator, 3)):
            if isinstance(event, StatusChanged):
                break
    assert statuses(simulator) == {"Cancelled"}


async def test_cancelled_production_has_an_outcome_with_its_files_for_review(tmp_path: Path) -> None:
    """Leaving the block waits for the jobs, which look for the files, after their cancels."""
    async with (
        Simulator(durations=lambda *_: [("Producing", 9), ("AwaitingApproval", 600)]) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        async with Orchestrator(
            client, download_to=tmp_path, collect_for_review=True, cancel_on_exit=True
        ) as orchestrator:
            ticket = orchestrator.submit(request_for(simulator))
            await asyncio.sleep(120)
        outcome = await ticket
    assert outcome.state is OutcomeState.CANCELLED
    assert len(outcome.files) == 6


async def test_cancel_on_exit_gives_up_after_two_minutes(caplog: pytest.LogCaptureFixture) -> None:
    """If JARAI does not respond to the cancel, the log names the production that continues."""
    async with (
        Simulator(approval="auto") as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        simulator.faults.add("rate_limited", on="cancel", times=None, seconds=36_000)
        loop = asyncio.get_running_loop()
        async with Orchestrator(client, cancel_on_exit=True) as orchestrator:
            orchestrator.submit(request_for(simulator))
            await asyncio.sleep(30)
            leaving_at = loop.time()
        assert loop.time() - leaving_at <= 120
        (production_id,) = simulator.productions
        assert production_id in caplog.text
