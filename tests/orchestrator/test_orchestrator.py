"""Many productions at once: what is told of each, and what bounds them all."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from jarai_async import (
    BudgetExceededError,
    ConfigurationError,
    DeadlineExceededError,
    DeliverablesReady,
    Downloaded,
    Event,
    Finished,
    InvalidRequestError,
    JaraiClient,
    NotSentError,
    Orchestrator,
    Outcome,
    OutcomeState,
    Polling,
    ProductionFailedError,
    ProductionRequest,
    Status,
    StatusChanged,
    Submitted,
    UncertainSubmitError,
)
from jarai_async.simulator import SimulatedProduction, Simulator
from jarai_async.simulator._event_loop import START_OF_SIMULATED_TIME
from tests.support.scenarios import request_for, requests_for


def client_of(simulator: Simulator, **options: Any) -> JaraiClient:
    return JaraiClient(simulator.api_key, base_url=simulator.base_url, **options)


async def events_of(orchestrator: Orchestrator, requests: Any) -> dict[str, list[Event]]:
    """Run a batch to its end, and sort its events by reference."""
    events = defaultdict(list)
    async with orchestrator:
        async for event in orchestrator.run(requests):
            events[event.reference].append(event)
    return events


def outcomes_in(events: dict[str, list[Event]]) -> list[Outcome]:
    lasts = [of_one[-1] for of_one in events.values()]
    return [last.outcome for last in lasts if isinstance(last, Finished)]


async def test_each_request_is_told_of_from_its_submit_to_its_files(tmp_path: Path) -> None:
    """Every event of every request comes once, in order, and agrees with the truth."""
    async with Simulator(seed=3, failure_rate=0.2) as simulator, client_of(simulator) as client:
        requests = requests_for(simulator, 30)
        events = await events_of(Orchestrator(client, download_to=tmp_path), requests)
        assert events.keys() == {request.reference for request in requests}
        truth = {production.ordinal: production for production in simulator.productions.values()}
        assert len(truth) == 30
        for of_one in events.values():
            assert [event.sequence for event in of_one] == list(range(1, len(of_one) + 1))
            assert isinstance(of_one[0], Submitted)
            outcome = of_one[-1].outcome if isinstance(of_one[-1], Finished) else None
            assert outcome is not None
            assert outcome.production is not None
            told = simulator.productions[outcome.production.id]
            assert told.status_at(asyncio.get_running_loop().time()) == outcome.production.status
            assert outcome.state in (OutcomeState.PUBLISHED, OutcomeState.FAILED)
            assert outcome.request_count == told.polls + 1 + any(
                isinstance(e, DeliverablesReady) for e in of_one
            )
            _check_changes(of_one, told)
            _check_files(of_one, outcome, tmp_path)
        assert simulator.rate_limited == 0


def _check_changes(events: list[Event], truth: SimulatedProduction) -> None:
    """A change happened between the two moments that its event names."""
    moments = {status: START_OF_SIMULATED_TIME + moment for moment, status in truth.timeline}
    changes = [event for event in events if isinstance(event, StatusChanged)]
    assert changes[-1].status.is_terminal
    for change in changes:
        changed_at = moments[change.status]
        assert change.changed_after.timestamp() <= changed_at <= change.observed_at.timestamp()
        assert change.observed_at - change.changed_after < timedelta(minutes=2)


def _check_files(events: list[Event], outcome: Outcome, folder: Path) -> None:
    """What is published stands in its folder, whole, with a manifest."""
    files = {event.path for event in events if isinstance(event, Downloaded)}
    assert files == set(outcome.files)
    if outcome.state is OutcomeState.PUBLISHED:
        assert outcome.ok
        assert len(files) == len(outcome.deliverables) > 0
        (home,) = {path.parent for path in files}
        assert {path.name for path in home.iterdir()} == {path.name for path in files} | {"manifest.json"}
        assert home.parent == folder
        assert all(path.stat().st_size == one.size for path, one in outcome.files.items())


async def test_requests_are_drawn_as_places_become_free(simulator: Simulator, client: JaraiClient) -> None:
    """An endless source is drawn from no faster than productions end."""
    drawn = 0

    async def source() -> AsyncIterator[ProductionRequest]:
        nonlocal drawn
        for request in requests_for(simulator, 12):
            drawn += 1
            yield request

    most, ended = 0, 0
    async with Orchestrator(client, concurrency=3) as orchestrator:
        async for event in orchestrator.run(source()):
            ended += isinstance(event, Finished)
            in_flight = [p for p in simulator.productions.values() if _is_in_flight(p)]
            most = max(most, len(in_flight))
            assert drawn - ended <= 3 + 3  # parked ones are not counted among the three
    assert (ended, drawn) == (12, 12)
    assert most == 3


def _is_in_flight(production: SimulatedProduction) -> bool:
    return production.status_at(asyncio.get_running_loop().time()) in ("Queued", "Producing")


async def test_what_waits_for_a_person_gives_back_its_place() -> None:
    """With one place, all of a batch come to their approval; each ends when its own is given."""
    async with Simulator(approval="person", failure_rate=0) as simulator, client_of(simulator) as client:
        waiting: set[str] = set()
        ended: list[OutcomeState] = []
        async with Orchestrator(client, concurrency=1) as orchestrator:
            async for event in orchestrator.run(requests_for(simulator, 4)):
                if isinstance(event, StatusChanged) and event.status == Status.AWAITING_APPROVAL:
                    waiting.add(event.production.id)
                    if len(waiting) == 4:
                        for production_id in waiting:
                            simulator.approve(production_id)
                if isinstance(event, Finished):
                    ended.append(event.outcome.state)
        assert ended == [OutcomeState.PUBLISHED] * 4


async def test_a_slow_reader_delays_nobody(simulator: Simulator, client: JaraiClient) -> None:
    """Changes are learned as promptly as ever while the events wait to be read."""
    delays = []
    async with Orchestrator(client) as orchestrator:
        async for event in orchestrator.run(requests_for(simulator, 10)):
            await asyncio.sleep(120)
            if isinstance(event, StatusChanged):
                delays.append((event.observed_at - event.changed_after).total_seconds())
    assert max(delays) <= 60
    assert sum(delays) / len(delays) <= 20


async def test_a_rejected_request_is_its_own_outcome() -> None:
    """A spent budget ends the requests that it refuses, and no others."""
    async with Simulator(spend_ceiling=2, failure_rate=0) as simulator, client_of(simulator) as client:
        outcomes = outcomes_in(await events_of(Orchestrator(client), requests_for(simulator, 5)))
    states = [outcome.state for outcome in outcomes]
    assert states.count(OutcomeState.PUBLISHED) == 2
    assert states.count(OutcomeState.REJECTED) == 3
    rejected = [outcome for outcome in outcomes if outcome.state is OutcomeState.REJECTED]
    assert {type(outcome.error) for outcome in rejected} == {BudgetExceededError}
    assert {outcome.production for outcome in rejected} == {None}


async def test_a_failed_production_is_its_own_outcome() -> None:
    """A failure carries the server's reason, and raises nothing."""
    async with Simulator(expiry_rate=1.0) as simulator, client_of(simulator) as client:
        (outcome,) = outcomes_in(await events_of(Orchestrator(client), requests_for(simulator, 1)))
    assert outcome.state is OutcomeState.FAILED
    assert isinstance(outcome.error, ProductionFailedError)
    assert outcome.error.code == "PRODUCTION_EXPIRED"


async def test_a_deadline_is_its_own_outcome(simulator: Simulator, client: JaraiClient) -> None:
    """What takes too long is no longer waited for, and goes on at JARAI."""
    orchestrator = Orchestrator(client, deadline=120)
    (outcome,) = outcomes_in(await events_of(orchestrator, requests_for(simulator, 1)))
    assert outcome.state is OutcomeState.TIMED_OUT
    assert isinstance(outcome.error, DeadlineExceededError)
    assert outcome.production is not None
    truth = simulator.productions[outcome.production.id]
    assert truth.status_at(asyncio.get_running_loop().time()) == "Producing"


async def test_a_submit_in_doubt_is_an_uncertain_outcome(simulator: Simulator, client: JaraiClient) -> None:
    """A lost answer to one submit is said, is not sent again, and does not touch the others."""
    simulator.faults.add("reset_after", on="submit")
    outcomes = outcomes_in(await events_of(Orchestrator(client), requests_for(simulator, 3)))
    assert len(simulator.productions) == 3
    uncertain = [outcome for outcome in outcomes if outcome.state is OutcomeState.UNCERTAIN]
    assert len(uncertain) == 1
    assert isinstance(uncertain[0].error, UncertainSubmitError)
    assert sum(outcome.ok for outcome in outcomes) == 2


async def test_an_outage_is_waited_out(simulator: Simulator, client: JaraiClient) -> None:
    """Once the server has answered, maintenance delays submits and rejects none."""
    simulator.faults.add("unavailable", on="submit", times=20)
    outcomes = outcomes_in(await events_of(Orchestrator(client), requests_for(simulator, 2)))
    assert all(outcome.ok for outcome in outcomes)
    assert simulator.faults.fired["unavailable"] == 20


async def test_an_address_where_nothing_ever_answered_is_a_mistake(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A wrong base URL is said at once, once, and rejects the requests rather than to wait for ever."""
    async with Simulator() as simulator:
        requests = requests_for(simulator, 2)
    async with JaraiClient("jarai_test_x", base_url="http://127.0.0.1:9/v1/partner") as client:
        outcomes = outcomes_in(await events_of(Orchestrator(client), requests))
    assert {outcome.state for outcome in outcomes} == {OutcomeState.REJECTED}
    assert {type(outcome.error) for outcome in outcomes} == {NotSentError}
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_a_production_that_has_vanished_is_an_outcome(
    simulator: Simulator, client: JaraiClient
) -> None:
    """404 is met with patience at first, and believed in the end."""
    simulator.faults.add("not_found", on="fetch", times=None)
    (outcome,) = outcomes_in(await events_of(Orchestrator(client), requests_for(simulator, 1)))
    assert outcome.state is OutcomeState.NOT_FOUND
    assert outcome.error is not None
    assert outcome.error.status == 404


@pytest.mark.parametrize(
    "kind", ["internal_error", "gateway_html", "not_found", "truncated_json", "unknown_status"]
)
async def test_polls_that_fail_end_no_production(
    simulator: Simulator, client: JaraiClient, kind: str
) -> None:
    """What a poll meets passes: it is asked again."""
    simulator.faults.add(kind, on="fetch", times=2)
    outcomes = outcomes_in(await events_of(Orchestrator(client), requests_for(simulator, 2)))
    assert all(outcome.ok for outcome in outcomes)
    assert simulator.faults.fired[kind] == 2


def _slow_approval(_: Random, __: str) -> list[tuple[str, float]]:
    return [("Queued", 20), ("Producing", 900), ("AwaitingApproval", 3600), ("Distributing", 60)]


async def test_review_fetches_early_and_again_what_has_changed(tmp_path: Path) -> None:
    """Files are there for the person who decides; the final ones replace those that differ."""
    async with (
        Simulator(durations=_slow_approval, failure_rate=0) as simulator,
        client_of(simulator) as client,
    ):
        orchestrator = Orchestrator(client, download_to=tmp_path, collect_for_review=True)
        (events,) = (await events_of(orchestrator, requests_for(simulator, 1))).values()
    ready = [event for event in events if isinstance(event, DeliverablesReady)]
    assert [event.final for event in ready] == [False, True]
    paths = [event.path.name for event in events if isinstance(event, Downloaded)]
    assert len(set(paths)) == len(ready[1].deliverables)
    assert paths.count("attribution.json") == 2  # the simulator's is preliminary before it is final
    assert paths.count("video-youtube.mp4") == 1
    (folder,) = {event.path.parent for event in events if isinstance(event, Downloaded)}
    assert b"preliminary" not in (folder / "attribution.json").read_bytes()


async def test_an_iterable_that_raises_ends_the_run_after_what_was_drawn(
    simulator: Simulator, client: JaraiClient
) -> None:
    """The caller's own exception comes out as it is, when nothing can be lost by it any more."""

    def source() -> Iterator[ProductionRequest]:
        yield request_for(simulator)
        raise LookupError("no more")

    async with Orchestrator(client) as orchestrator:
        run = orchestrator.run(source())
        events = [await anext(run)]
        while not isinstance(events[-1], Finished):
            events.append(await anext(run))
        with pytest.raises(LookupError, match="no more"):
            await anext(run)


async def test_what_is_not_a_request_is_said(client: JaraiClient) -> None:
    """A dictionary, say, is refused by name."""
    async with Orchestrator(client) as orchestrator:
        with pytest.raises(InvalidRequestError, match="dict"):
            orchestrator.submit({"topic": "x"})  # type: ignore[arg-type]
        with pytest.raises(InvalidRequestError, match="dict"):
            await anext(orchestrator.run([{"topic": "x"}]))  # type: ignore[list-item]


async def test_an_empty_batch_ends_at_once(client: JaraiClient) -> None:
    """Nothing to do is done."""
    assert await events_of(Orchestrator(client), []) == {}


async def test_an_orchestrator_is_used_inside_its_block(simulator: Simulator, client: JaraiClient) -> None:
    """Before and after, there is nobody to follow a production."""
    orchestrator = Orchestrator(client)
    with pytest.raises(ConfigurationError, match="async with"):
        orchestrator.submit(request_for(simulator))
    async with orchestrator:
        pass
    with pytest.raises(ConfigurationError, match="async with"):
        orchestrator.run([])


def test_settings_that_make_no_sense_are_refused() -> None:
    """Each is named, before anything is sent."""
    client = JaraiClient("jarai_test_x")
    for wrong in ({"concurrency": 0}, {"deadline": 0}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            Orchestrator(client, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        Polling(min_interval=10, max_interval=5)


async def test_a_request_without_a_reference_gets_one(simulator: Simulator, client: JaraiClient) -> None:
    """Events can be told apart by the place in the batch."""
    requests = [request_for(simulator) for _ in range(2)]
    assert set(await events_of(Orchestrator(client), requests)) == {"request-0001", "request-0002"}


async def test_times_are_utc(simulator: Simulator, client: JaraiClient) -> None:
    """Every moment has its time zone."""
    (events,) = (await events_of(Orchestrator(client), requests_for(simulator, 1))).values()
    moments: list[datetime | None] = [event.observed_at for event in events]
    (outcome,) = outcomes_in({"one": events})
    moments += [outcome.submitted_at, outcome.finished_at]
    assert all(moment is not None and moment.utcoffset() is not None for moment in moments)


async def test_events_read_as_one_line_each(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """What a script prints is worth reading."""
    orchestrator = Orchestrator(client, download_to=tmp_path)
    (events,) = (await events_of(orchestrator, requests_for(simulator, 1))).values()
    lines = [str(event) for event in events]
    assert all("\n" not in line and line.startswith("item-0: ") for line in lines)
    assert lines[0].startswith("item-0: submitted as ")
    assert any(line.endswith(" -> Published") for line in lines)
    assert "item-0: 6 deliverables" in lines
    assert lines[-1] == "item-0: published, 6 files"
    assert any(line.startswith("item-0: downloaded ") for line in lines)
