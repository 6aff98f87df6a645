"""Many productions at once: the events of each, and the slots that limit how many are in flight."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

from jarai_async import (
    DeliverablesReady,
    Downloaded,
    Event,
    Finished,
    JaraiClient,
    Orchestrator,
    Outcome,
    OutcomeState,
    ProductionRequest,
    Status,
    StatusChanged,
    Submitted,
)
from jarai_async.simulator import SimulatedProduction, Simulator
from jarai_async.simulator._event_loop import START_OF_SIMULATED_TIME
from tests.support.orchestrators import events_by_reference, outcomes_in
from tests.support.scenarios import request_for, requests_for

# --- Events ----------------------------------------------------------------------------------------


async def test_events_of_each_request_are_complete_and_in_order(tmp_path: Path) -> None:
    """Every event of 12 requests arrives once, in order, and agrees with what happened at the server."""
    async with (
        Simulator(seed=3, failure_rate=0.2) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        requests = requests_for(simulator, 12)
        events = await events_by_reference(Orchestrator(client, download_to=tmp_path), requests)
        assert events.keys() == {request.reference for request in requests}
        assert len({production.ordinal for production in simulator.productions.values()}) == 12
        for of_request in events.values():
            assert [event.sequence for event in of_request] == list(range(1, len(of_request) + 1))
            assert isinstance(of_request[0], Submitted)
            outcome = of_request[-1].outcome if isinstance(of_request[-1], Finished) else None
            assert outcome is not None
            assert outcome.production is not None
            actual = simulator.productions[outcome.production.id]
            assert actual.status_at(asyncio.get_running_loop().time()) == outcome.production.status
            assert outcome.state in (OutcomeState.PUBLISHED, OutcomeState.FAILED)
            assert outcome.request_count == actual.polls + 1 + any(
                isinstance(event, DeliverablesReady) for event in of_request
            )
            _check_changes(of_request, actual)
            _check_files(of_request, outcome, tmp_path)
        assert simulator.rate_limited == 0


def _check_changes(events: list[Event], actual: SimulatedProduction) -> None:
    """Check that each change happened between the two times that its event names."""
    began = {status: START_OF_SIMULATED_TIME + time for time, status in actual.timeline}
    changes = [event for event in events if isinstance(event, StatusChanged)]
    assert changes[-1].status.is_terminal
    for change in changes:
        changed_at = began[change.status]
        assert change.changed_after.timestamp() <= changed_at <= change.observed_at.timestamp()
        assert change.observed_at - change.changed_after < timedelta(minutes=2)


def _check_files(events: list[Event], outcome: Outcome, folder: Path) -> None:
    """Check that a published production has a folder with all of its files and a manifest."""
    paths = {event.path for event in events if isinstance(event, Downloaded)}
    assert paths == set(outcome.files)
    if outcome.state is OutcomeState.PUBLISHED:
        assert outcome.ok
        assert len(paths) == len(outcome.deliverables) > 0
        (own_folder,) = {path.parent for path in paths}
        names = {path.name for path in own_folder.iterdir()}
        assert names == {path.name for path in paths} | {"manifest.json"}
        assert own_folder.parent == folder
        assert all(path.stat().st_size == deliverable.size for path, deliverable in outcome.files.items())


async def test_events_are_one_line_each_as_text(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """A script may print them."""
    orchestrator = Orchestrator(client, download_to=tmp_path)
    (events,) = (await events_by_reference(orchestrator, requests_for(simulator, 1))).values()
    lines = [str(event) for event in events]
    assert all("\n" not in line and line.startswith("item-0: ") for line in lines)
    assert lines[0].startswith("item-0: submitted as ")
    assert any(line.endswith(" -> Published") for line in lines)
    assert "item-0: 6 deliverables" in lines
    assert lines[-1] == "item-0: published, 6 files"
    assert any(line.startswith("item-0: downloaded ") for line in lines)


async def test_times_have_a_time_zone(simulator: Simulator, client: JaraiClient) -> None:
    """All times of events and outcomes are aware datetimes; a submit is dated by its response."""
    simulator.faults.add("slow", on="submit", seconds=8)
    (events,) = (await events_by_reference(Orchestrator(client), requests_for(simulator, 1))).values()
    times: list[datetime | None] = [event.observed_at for event in events]
    (outcome,) = outcomes_in({"item-0": events})
    times += [outcome.submitted_at, outcome.finished_at]
    assert all(time is not None and time.utcoffset() is not None for time in times)
    (production,) = simulator.productions.values()
    assert outcome.submitted_at is not None
    assert outcome.submitted_at.timestamp() >= production.wall(production.submitted_at) + 8


async def test_request_without_a_reference_gets_one(simulator: Simulator, client: JaraiClient) -> None:
    """It is made from the content, and numbered among equal requests."""
    requests = [request_for(simulator) for _ in range(2)]
    events = await events_by_reference(Orchestrator(client), requests)
    first, second = sorted(events)
    assert second == f"{first}-2"


# --- Slots -----------------------------------------------------------------------------------------


def _is_in_flight(production: SimulatedProduction) -> bool:
    return production.status_at(asyncio.get_running_loop().time()) in ("Queued", "Producing")


async def test_requests_are_drawn_as_slots_become_free(simulator: Simulator, client: JaraiClient) -> None:
    """At most `concurrency` productions are in flight, and no more requests are drawn from the iterable."""
    drawn = 0

    async def source() -> AsyncIterator[ProductionRequest]:
        nonlocal drawn
        for request in requests_for(simulator, 12):
            drawn += 1
            yield request

    most_in_flight, finished = 0, 0
    async with Orchestrator(client, concurrency=3) as orchestrator:
        async for event in orchestrator.run(source()):
            finished += isinstance(event, Finished)
            in_flight = [
                production for production in simulator.productions.values() if _is_in_flight(production)
            ]
            most_in_flight = max(most_in_flight, len(in_flight))
            assert drawn - finished <= 3 + 3  # those that wait for approval do not count among the three
    assert (finished, drawn) == (12, 12)
    assert most_in_flight == 3


async def test_production_that_waits_for_approval_releases_its_slot() -> None:
    """With one slot, four productions reach their approval, and each ends when it is approved."""
    async with (
        Simulator(approval="person", failure_rate=0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        waiting: set[str] = set()
        states: list[OutcomeState] = []
        async with Orchestrator(client, concurrency=1) as orchestrator:
            async for event in orchestrator.run(requests_for(simulator, 4)):
                if isinstance(event, StatusChanged) and event.status == Status.AWAITING_APPROVAL:
                    waiting.add(event.production.id)
                    if len(waiting) == 4:
                        for production_id in waiting:
                            simulator.approve(production_id)
                if isinstance(event, Finished):
                    states.append(event.outcome.state)
        assert states == [OutcomeState.PUBLISHED] * 4


async def test_slow_reader_does_not_delay_polling(simulator: Simulator, client: JaraiClient) -> None:
    """Changes are noticed in time while their events wait to be read."""
    delays = []
    async with Orchestrator(client) as orchestrator:
        async for event in orchestrator.run(requests_for(simulator, 10)):
            await asyncio.sleep(120)
            if isinstance(event, StatusChanged):
                delays.append((event.observed_at - event.changed_after).total_seconds())
    assert max(delays) <= 60
    assert sum(delays) / len(delays) <= 20
