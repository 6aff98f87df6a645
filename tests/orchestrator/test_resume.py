"""Resuming with a journal: the same program is run again, and nothing is submitted or reported twice."""

import asyncio
import contextlib
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from jarai_async import (
    Event,
    Finished,
    JaraiClient,
    Orchestrator,
    OutcomeState,
    StatusChanged,
    Submitted,
    read_journal,
)
from jarai_async._api.codec import body_of
from jarai_async._journal.entries import Intent, Stage
from jarai_async._journal.journal import SqliteJournal
from jarai_async.simulator import Simulator
from tests.support.scenarios import request_for, requests_for


async def run_program(
    simulator: Simulator, journal: Path, *, stop_after: int | None = None, reading_time: float = 0.0
) -> list[Event]:
    """Run one request until it has finished or `stop_after` events were read; return the events.

    `reading_time` is in seconds for each event.
    """
    events: list[Event] = []
    async with (
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client, journal=journal) as orchestrator,
    ):
        async for event in orchestrator.run([request_for(simulator, reference="a")]):
            events.append(event)
            await asyncio.sleep(reading_time)
            if len(events) == stop_after:
                break
    return events


async def test_run_of_a_request_that_was_read_by_its_ticket_repeats_only_the_outcome(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """Readers of a ticket keep cursors, so its events count as read."""
    request = request_for(simulator, reference="a")
    async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
        await orchestrator.submit(request)
    assert [type(event) for event in await run_program(simulator, tmp_path / "journal")] == [Finished]


async def test_request_of_a_run_that_was_not_read_is_resumed_by_a_ticket(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """Its events were not taken, and there is no reader of a run who could take them now."""
    await run_program(simulator, tmp_path / "journal", stop_after=2)
    async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
        (ticket,) = await orchestrator.resume()
        assert (await ticket).ok


# --- Expired productions ---------------------------------------------------------------------------


async def test_outcome_is_repeated_with_its_number(simulator: Simulator, tmp_path: Path) -> None:
    """The events of a request have the numbers 1, 2, 3, ... in all processes together."""
    first, again = [await run_program(simulator, tmp_path / "journal") for _ in range(2)]
    assert [event.sequence for event in first] == [*range(1, len(first) + 1)]
    assert [(type(event), event.sequence) for event in again] == [(Finished, len(first))]


@pytest.mark.parametrize("stop_after", [1, 2, 3, None])
async def test_restart_after_an_expired_production_continues_with_its_replacement(
    tmp_path: Path, stop_after: int | None
) -> None:
    """A slow reader acknowledges events of the expired production late; there is no third production."""
    submitted = 0

    def first_expires(_: Random, __: str) -> list[tuple[str, float]]:
        nonlocal submitted
        submitted += 1
        return [("Queued", 700.0 if submitted == 1 else 20.0), ("Producing", 600.0)]

    async with Simulator(durations=first_expires, failure_rate=0, approval="auto") as simulator:
        journal = tmp_path / "journal.db"
        events = await run_program(simulator, journal, stop_after=stop_after, reading_time=700)
        if stop_after:
            events += await run_program(simulator, journal)
        assert len(simulator.productions) == 2
        _, replacement = simulator.productions
    assert replacement in [event.production.id for event in events if isinstance(event, Submitted)]
    assert all(event.production is not None for event in events)
    assert isinstance(events[-1], Finished)
    assert events[-1].outcome.ok
    assert events[-1].outcome.production is not None
    assert events[-1].outcome.production.id == replacement


async def test_rejected_resubmit_of_an_expired_production_is_a_failure(tmp_path: Path) -> None:
    """`rejected` would mean that nothing was created; it is submitted again only where the user asks."""
    journal = tmp_path / "journal.db"
    async with Simulator(expiry_rate=1.0) as simulator:
        simulator.faults.add("not_found", on="submit", after=1, times=None)
        for _ in range(2):
            last = (await run_program(simulator, journal))[-1]
            assert isinstance(last, Finished)
            assert last.outcome.state == "failed"
            assert last.outcome.error is not None
            assert last.outcome.error.code == "PRODUCTION_EXPIRED"
            assert "submitting it again failed" in last.outcome.error.message
            assert last.outcome.production is not None
            assert [last.outcome.production.id] == [*simulator.productions]
        assert len(simulator.productions) == 1
        assert simulator.count("submit") == 2
        (entry,) = read_journal(journal)
        assert entry.production_ids == (*simulator.productions,)
        simulator.faults.clear()
        async with (
            JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
            Orchestrator(client, journal=journal) as orchestrator,
        ):
            await (await orchestrator.retry("a"))
        assert len(simulator.productions) == 3  # it expires too, and is replaced once
    (entry,) = read_journal(journal)
    assert entry.production_ids == (*simulator.productions,)


# --- Restarts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempts", "state"),
    [
        ([("hang", 22.9)], "published"),
        ([("hang", 23.1)], "uncertain"),
        ([("hang", 12), ("hang", 10.9)], "published"),
        ([("hang", 12), ("hang", 11.1)], "uncertain"),
        ([("hang", 12), ("unavailable", 11.1)], "uncertain"),
    ],
)
async def test_idempotency_key_is_used_again_for_23_hours(
    tmp_path: Path, attempts: list[tuple[str, float]], state: str
) -> None:
    """A submit in doubt is sent again with its key; 23 hours after its first attempt it no longer is."""
    async with Simulator(idempotency_keys=True, failure_rate=0, approval="auto") as simulator:
        request, journal = request_for(simulator, reference="a"), tmp_path / "journal.db"
        for fault, hours in attempts:
            simulator.faults.add(fault, on="submit")
            client = JaraiClient(simulator.api_key, base_url=simulator.base_url, idempotency_keys=True)
            async with client, Orchestrator(client, journal=journal) as orchestrator:
                orchestrator.submit(request)
                await asyncio.sleep(1)  # the submit is in flight when the program ends
            await asyncio.sleep(hours * 3600)
        client = JaraiClient(simulator.api_key, base_url=simulator.base_url, idempotency_keys=True)
        async with client, Orchestrator(client, journal=journal) as orchestrator:
            outcome = await orchestrator.submit(request)
        assert outcome.state == state
        assert len(simulator.productions) == 1


async def test_resumed_production_without_acknowledged_events_is_not_new(tmp_path: Path) -> None:
    """`changed_after` of its first change is not later than the change, which no process was watching."""
    journal = tmp_path / "journal.db"
    async with Simulator(failure_rate=0, approval="auto") as simulator:
        async with (
            JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
            Orchestrator(client, journal=journal) as orchestrator,
        ):
            run = orchestrator.run([request_for(simulator, reference="a")])
            await asyncio.sleep(5)
            await run.aclose()  # no event was read
        await asyncio.sleep(600)
        events = await run_program(simulator, journal)
        (production,) = simulator.productions.values()
    first = next(event for event in events if isinstance(event, StatusChanged))
    began = {status: production.wall(time) for time, status in production.timeline}
    assert first.changed_after.timestamp() <= began["Producing"] <= first.observed_at.timestamp()


# --- The file --------------------------------------------------------------------------------------


async def test_cancelling_all_tasks_does_not_damage_the_journal(simulator: Simulator, tmp_path: Path) -> None:
    """`asyncio.run` cancels all tasks at its end: closing the journal still writes what was put."""
    path = tmp_path / "journal.db"
    journal = await SqliteJournal.open(path)
    request = request_for(simulator, reference="a")
    journal.put(Intent("a", request.account_id, body_of(request), "key"))
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await journal.close()
    reopened = await SqliteJournal.open(path)
    assert await reopened.find("a") is not None
    await reopened.close()


async def test_cancelled_close_releases_the_lock(simulator: Simulator, tmp_path: Path) -> None:
    """The journal can be opened again in this process."""
    request = request_for(simulator, reference="a")
    for steps in range(6):
        journal = await SqliteJournal.open(tmp_path / "journal.db")
        journal.put(Intent("a", request.account_id, body_of(request), "key"))
        closing = asyncio.create_task(journal.close())
        for _ in range(steps):
            await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait({closing})
        if steps == 0:  # closing had not begun
            await journal.close()


# --- Deadline and rate limit -----------------------------------------------------------------------


async def run_for(
    seconds: float, simulator: Simulator, folder: Path, count: int, **options: Any
) -> list[Event]:
    """Run a batch for this many seconds at most, and return the events."""
    events: list[Event] = []
    with contextlib.suppress(TimeoutError):
        async with (
            asyncio.timeout(seconds),
            JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
            Orchestrator(client, journal=folder / "journal", concurrency=300, **options) as orchestrator,
        ):
            async for event in orchestrator.run(requests_for(simulator, count)):
                events.append(event)  # noqa: PERF401  # what was read until the timeout counts
    return events


def endless(*_: object) -> list[tuple[str, float]]:
    return [("Producing", 1e6)]


async def test_deadline_counts_from_acceptance_across_restarts(tmp_path: Path) -> None:
    """However often the process is restarted, the production times out two hours after its acceptance."""
    async with Simulator(durations=endless, failure_rate=0) as simulator:
        began, events = asyncio.get_running_loop().time(), []
        for _ in range(2):
            events = await run_for(6000, simulator, tmp_path, 1, deadline=7200)
        assert isinstance(events[-1], Finished)
        assert events[-1].outcome.state is OutcomeState.TIMED_OUT
        assert 7200 <= asyncio.get_running_loop().time() - began < 7300


async def test_deadline_of_one_request_survives_a_restart_and_can_be_replaced(tmp_path: Path) -> None:
    """It replaces that of the orchestrator; the other request has none."""
    async with Simulator(durations=endless, failure_rate=0) as simulator:
        began, ends = asyncio.get_running_loop().time(), []
        for deadline in (7200.0, None, 9000.0):
            async with (
                JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
                Orchestrator(client, journal=tmp_path / "journal", deadline=1e6) as orchestrator,
            ):
                ticket = orchestrator.submit(request_for(simulator, reference="a"), deadline=deadline)
                other = orchestrator.submit(request_for(simulator, reference="b"))
                await asyncio.wait([ticket.task], timeout=5000)
                ends.append(ticket.to_dict() | {"after": asyncio.get_running_loop().time() - began})
                assert not other.done
        assert [end["outcome"] for end in ends] == [None, "timed_out", "timed_out"]
        for end, seconds in zip(ends[1:], (7200.0, 9000.0), strict=True):
            assert f"within {seconds} s" in end["error"]
            assert seconds <= end["after"] < seconds + 100


async def test_production_that_ended_unwatched_is_published_after_its_deadline(tmp_path: Path) -> None:
    """The deadline passed while no process ran: it is polled before it times out."""
    async with Simulator(durations=lambda *_: [("Producing", 600.0)], failure_rate=0) as simulator:
        await run_for(60, simulator, tmp_path, 1, deadline=900)
        await asyncio.sleep(7200)
        events = await run_for(600, simulator, tmp_path, 1, deadline=900)
        assert isinstance(events[-1], Finished)
        assert events[-1].outcome.state is OutcomeState.PUBLISHED


async def test_production_whose_deadline_passed_unwatched_times_out_after_one_look(tmp_path: Path) -> None:
    """It has not ended in the meantime, and is not waited for."""
    async with Simulator(durations=endless, failure_rate=0) as simulator:
        for _ in range(2):
            began = asyncio.get_running_loop().time()
            events = await run_for(6000, simulator, tmp_path, 1, deadline=900)
            assert isinstance(events[-1], Finished)
            assert events[-1].outcome.state is OutcomeState.TIMED_OUT
        assert asyncio.get_running_loop().time() - began < 100


async def test_restart_in_full_use_keeps_the_rate_limit_in_full_use(tmp_path: Path) -> None:
    """The journal keeps the limit and the used slots: no minute is lost, and none has a request too many."""
    async with Simulator(durations=endless, failure_rate=0) as simulator:
        simulator.deploy(layout="without_step")  # by their steps they need fewer polls than there may be
        await run_for(120, simulator, tmp_path, 250)
        restarted_at = asyncio.get_running_loop().time()
        await run_for(120, simulator, tmp_path, 250)
        minutes = Counter(int((sent.arrived - restarted_at) // 60) for sent in simulator.requests)
        assert [minutes[minute] for minute in range(2)] == [300, 300]
        assert not [sent for sent in simulator.requests if sent.status == 429]


async def test_resumed_productions_keep_their_slots(tmp_path: Path) -> None:
    """Those that an earlier process submitted count; as they end, others are submitted."""

    def long(_: Random, __: str) -> list[tuple[str, float]]:
        return [("Queued", 30.0), ("Producing", 36_000.0)]

    requests_left = 6
    async with Simulator(durations=long, approval="auto", failure_rate=0.0) as simulator:
        for seconds, created in ((3_600, 2), (3_600, 2), (40_000, 4)):
            async with (
                JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
                Orchestrator(client, concurrency=2, journal=tmp_path / "journal") as orchestrator,
            ):
                await orchestrator.resume()
                for request in requests_for(simulator, requests_left):
                    orchestrator.submit(request)
                await asyncio.sleep(seconds)
                assert len(simulator.productions) == created
            requests_left = 0


async def test_resumed_productions_have_their_slots_before_others_start(tmp_path: Path) -> None:
    """Also while the journal commits: no more than `concurrency` are in flight."""

    def endless(_: Random, __: str) -> list[tuple[str, float]]:
        return [("Queued", 5.0), ("Producing", 1e6)]

    path = tmp_path / "journal"
    async with Simulator(durations=endless, failure_rate=0.0) as simulator:
        for _ in range(2):
            async with (
                JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
                Orchestrator(client, journal=path) as orchestrator,
            ):
                if not await orchestrator.resume():
                    for request in requests_for(simulator, 250):
                        orchestrator.submit(request)
                await asyncio.sleep(120)
            assert len(simulator.productions) == 100


@pytest.mark.parametrize(("keys", "most"), [(False, 12), (True, 80)])
async def test_broken_submit_route_leaves_few_submits_in_doubt_after_hours(
    simulator: Simulator, *, keys: bool, most: int
) -> None:
    """Reads are answered, and each submit is lost behind a gateway. Without keys each may be paid for."""
    client = JaraiClient(simulator.api_key, base_url=simulator.base_url, idempotency_keys=keys)
    async with client, Orchestrator(client) as orchestrator:
        simulator.faults.add("gateway_timeout", on="submit", times=None)
        for request in requests_for(simulator, 60):
            orchestrator.submit(request)
        await asyncio.sleep(20 * 60)
        before = len(simulator.productions)
        await asyncio.sleep(6 * 3600)
        assert 0 < len(simulator.productions) - before <= most


async def test_submit_that_a_crash_left_in_doubt_is_logged_with_its_reference(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once: the process that was killed could not log it, and a third one does not repeat it."""
    journal = await SqliteJournal.open(tmp_path / "journal")
    request = request_for(simulator, reference="tides")
    await journal.save(
        Intent("tides", request.account_id, body_of(request), "key", Stage.SENDING, sent_at=1.0)
    )
    await journal.close()
    for warnings in (1, 0):
        caplog.clear()
        async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
            (ticket,) = await orchestrator.resume()
            assert (await ticket).state is OutcomeState.UNCERTAIN
        logged = [one.getMessage() for one in caplog.records if "'tides'" in one.getMessage()]
        assert sum(message.startswith("the submit of") for message in logged) == warnings
        assert logged[0].startswith("resuming requests of the journal: 1 in doubt")
