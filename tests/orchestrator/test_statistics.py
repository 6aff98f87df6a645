"""The statistics of an orchestrator, compared with what happened at the simulator."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jarai_async import (
    Finished,
    JaraiClient,
    Orchestrator,
    ProductionRequest,
    RateLimit,
    Statistics,
    StatusChanged,
    Submitted,
    _clock,
)
from jarai_async.simulator import Simulator
from jarai_async.simulator._event_loop import START_OF_SIMULATED_TIME
from tests.support.scenarios import request_for, requests_for


async def sampled(
    orchestrator: Orchestrator, requests: list[ProductionRequest], interval: float
) -> list[tuple[datetime, Statistics]]:
    """Run a batch; return its statistics every `interval` seconds, and at the end."""
    samples = []

    async def sample() -> None:
        while True:
            await asyncio.sleep(interval)
            samples.append((_clock.utc(), orchestrator.statistics()))

    async with orchestrator:
        sampling = asyncio.create_task(sample())
        async for _ in orchestrator.run(requests):
            pass
        sampling.cancel()
        samples.append((_clock.utc(), orchestrator.statistics()))
    return samples


# --- Counts ----------------------------------------------------------------------------------------


async def test_statistics_agree_with_the_simulator(client: JaraiClient, simulator: Simulator) -> None:
    """Each request to the API is counted once, by kind, and each production is in one state."""
    await client.accounts()
    samples = await sampled(Orchestrator(client, concurrency=8), requests_for(simulator, 20), 60)
    for _, statistics in samples:
        in_all = statistics.waiting + statistics.in_flight + statistics.parked + statistics.finished
        assert in_all == 20
        assert statistics.in_flight <= 8 + 8  # productions in Distributing have released their slots
        assert 0 <= statistics.free_now <= statistics.per_minute == 300
        assert statistics.left_today is None
    first, last = samples[0][1], samples[-1][1]
    assert (first.waiting, first.in_flight, first.finished) == (12, 8, 0)
    assert (last.waiting, last.in_flight, last.parked, last.finished) == (0, 0, 0, 20)
    assert last.expected_finish is None
    assert sum(last.requests.values()) == simulator.count()
    polls = sum(production.polls for production in simulator.productions.values())
    assert last.requests == {"submit": 20, "deliverables": 20, "read": 1, "poll": polls, "cancel": 0}
    assert last.rate_limited == simulator.rate_limited == 0


async def test_production_that_waits_for_approval_is_parked() -> None:
    """It counts as parked until it is approved."""
    async with (
        Simulator(approval="person", failure_rate=0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client) as orchestrator,
    ):
        ticket = orchestrator.submit(request_for(simulator))
        assert orchestrator.statistics().waiting == 1
        await asyncio.sleep(3600)
        statistics = orchestrator.statistics()
        assert (statistics.waiting, statistics.in_flight, statistics.parked) == (0, 0, 1)
        simulator.approve(ticket.production_id or "")
        await ticket
        assert orchestrator.statistics().finished == 1


async def test_429s_and_lost_responses_are_counted(client: JaraiClient, simulator: Simulator) -> None:
    """A request that gets a 429, or no response, is a request as well."""
    simulator.faults.add("rate_limited", on="accounts", seconds=30)
    simulator.faults.add("hang", on="accounts")
    await client.accounts()
    async with Orchestrator(client) as orchestrator:
        statistics = orchestrator.statistics()
    assert statistics.rate_limited == 1
    assert statistics.requests["read"] == simulator.count() == 3


def as_list(requests: list[ProductionRequest]) -> list[ProductionRequest]:
    return requests


def as_generator(requests: list[ProductionRequest]) -> Iterator[ProductionRequest]:
    yield from requests


@pytest.mark.parametrize(("make_source", "waiting"), [(as_list, 9), (as_generator, 0)])
async def test_requests_of_a_list_count_as_waiting_before_they_are_drawn(
    client: JaraiClient,
    simulator: Simulator,
    make_source: Callable[[list[ProductionRequest]], list[ProductionRequest]],
    waiting: int,
) -> None:
    """Requests of a generator are not known before. After `aclose` none counts as waiting."""
    async with Orchestrator(client, concurrency=1) as orchestrator:
        run = orchestrator.run(make_source(requests_for(simulator, 10)))
        await anext(run)
        assert orchestrator.statistics().waiting == waiting
        await run.aclose()
        assert orchestrator.statistics().waiting == 0


async def test_lag_is_close_to_the_actual_lag(client: JaraiClient, simulator: Simulator) -> None:
    """The estimate from the times of the polls is within 20 % of the actual mean."""
    lags = []
    async with Orchestrator(client) as orchestrator:
        assert orchestrator.statistics().lag is None
        async for event in orchestrator.run(requests_for(simulator, 80)):
            if isinstance(event, StatusChanged):
                began = {status: time for time, status in simulator.productions[event.production.id].timeline}
                changed_at = START_OF_SIMULATED_TIME + began[event.status]
                lags.append(event.observed_at.timestamp() - changed_at)
        lag = orchestrator.statistics().lag
    assert lag == pytest.approx(sum(lags) / len(lags), rel=0.2)


async def test_statistics_are_one_line_as_text(client: JaraiClient, simulator: Simulator) -> None:
    """The line contains the state of the productions, the expected finish and the rate limit."""
    async with Orchestrator(client) as orchestrator:
        assert str(orchestrator.statistics()) == (
            "0 waiting, 0 in flight, 0 parked, 0 finished; expected finish: nothing in progress; "
            "changes: none seen yet; rate limit: 10 of 10 a minute free; sent: nothing; 429s: 0"
        )
        await orchestrator.submit(request_for(simulator))
        text = str(orchestrator.statistics())
    assert "1 finished; expected finish: nothing in progress; changes: seen " in text
    assert "of 300 a minute free; sent: 1 deliverables, 1 submit, " in text


async def test_keys_of_statistics_as_json_stay(client: JaraiClient, simulator: Simulator) -> None:
    """Dashboards read them."""
    async with Orchestrator(client) as orchestrator:
        idle = orchestrator.statistics().to_dict()
        orchestrator.submit(request_for(simulator))
        busy = orchestrator.statistics().to_dict()
    assert idle == {
        "requests": {"submit": 0, "poll": 0, "read": 0, "deliverables": 0, "cancel": 0},
        "rateLimited": 0,
        "perMinute": 10,
        "freeNow": 10,
        "leftToday": None,
        "waiting": 0,
        "inFlight": 0,
        "parked": 0,
        "finished": 0,
        "lag": None,
        "webhookCoverage": None,
        "expectedFinish": None,
    }
    assert datetime.fromisoformat(busy["expectedFinish"]) > _clock.utc()
    assert json.loads(json.dumps(busy)) == busy | {"waiting": 1}


# --- Expected finish -------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [100, 15])
async def test_expected_finish_is_close_to_the_actual_finish(concurrency: int) -> None:
    """It is within a factor of 2.5 for fifty productions, three in ten of which wait for a person."""
    async with (
        Simulator(seed=1) as simulator,
        JaraiClient(
            simulator.api_key, base_url=simulator.base_url, rate_limit=RateLimit(per_minute=30)
        ) as client,
    ):
        orchestrator = Orchestrator(client, concurrency=concurrency)
        samples = await sampled(orchestrator, requests_for(simulator, 50), 600)
    began, finished = datetime.fromtimestamp(START_OF_SIMULATED_TIME, UTC), samples[-1][0]
    for time, statistics in samples[:6]:
        assert statistics.expected_finish is not None
        assert statistics.expected_finish > time
        assert 1 / 2.5 < (statistics.expected_finish - began) / (finished - began) < 2.5


async def test_expected_finish_of_a_ticket(client: JaraiClient, simulator: Simulator) -> None:
    """It comes nearer, and is None after the end."""
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(30)
        assert ticket.expected_finish is not None
        assert timedelta(minutes=20) < ticket.expected_finish - _clock.utc() < timedelta(minutes=30)
        async for event in ticket.events():
            if isinstance(event, StatusChanged) and event.status == "Distributing":
                break
        assert timedelta(0) < ticket.expected_finish - _clock.utc() < timedelta(minutes=3)
        await ticket
        assert ticket.expected_finish is None


# --- Daily quotas ----------------------------------------------------------------------------------


async def test_batch_above_the_daily_quota_is_warned_of_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """One warning after the first response says when the batch is expected to finish, and it does."""
    async with (
        Simulator(tier="free", approval="auto", failure_rate=0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client) as orchestrator,
    ):
        first_event_at, warnings = None, None
        async for _ in orchestrator.run(requests_for(simulator, 7)):
            first_event_at = first_event_at or _clock.utc()
            warnings = warnings or [record.getMessage() for record in caplog.records]
            expected = orchestrator.statistics().expected_finish
            if expected is not None:
                assert abs(expected - datetime(2026, 1, 3, tzinfo=UTC)) < timedelta(hours=4)
        assert _clock.utc() < datetime(2026, 1, 3, 2, tzinfo=UTC)
    assert warnings is not None
    assert len(warnings) == 1
    assert "3 productions a day for one account, 100 requests a day" in warnings[0]
    assert "4 of the 6 productions still to be submitted wait" in warnings[0]
    assert "finished about 2026-01-03 0" in warnings[0]
    assert first_event_at is not None
    assert first_event_at.timestamp() - START_OF_SIMULATED_TIME < 60


async def test_batch_above_the_users_requests_a_day_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """The user may allow fewer requests a day than the server."""
    async with (
        Simulator(failure_rate=0) as simulator,
        JaraiClient(
            simulator.api_key, base_url=simulator.base_url, rate_limit=RateLimit(per_day=30)
        ) as client,
        Orchestrator(client) as orchestrator,
    ):
        async for _ in orchestrator.run(requests_for(simulator, 12)):
            break
        assert orchestrator.statistics().left_today in range(17, 30)
    assert "not enough (30 requests a day)" in caplog.text


async def test_warning_of_the_daily_quota_leaves_out_what_an_earlier_run_has_submitted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise it counts them as to be submitted again after each restart."""
    async with (
        Simulator(tier="standard", failure_rate=0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        requests = requests_for(simulator, 40)
        async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
            async for event in orchestrator.run(requests):
                if isinstance(event, Submitted) and len(simulator.productions) > 9:
                    break
        left = 40 - len(simulator.productions)
        caplog.clear()
        async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
            async for _ in orchestrator.run(requests):
                break
    (warning,) = [record.getMessage() for record in caplog.records if "not enough" in record.getMessage()]
    assert f"of the {left} productions still to be submitted" in warning


@pytest.mark.parametrize(("tier", "count"), [("standard", 20), ("enterprise", 30)])
async def test_batch_within_the_daily_quotas_is_not_warned_of(
    tier: str, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is logged for a batch that fits."""
    caplog.set_level(logging.WARNING)
    stages = [("Queued", 30.0), ("Producing", 300.0), ("Distributing", 30.0)]
    async with (
        Simulator(tier=tier, failure_rate=0, durations=lambda *_: stages) as simulator,  # type: ignore[arg-type]
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client) as orchestrator,
    ):
        finished = 0
        async for event in orchestrator.run(requests_for(simulator, count)):
            finished += isinstance(event, Finished)
        assert finished == count
    assert caplog.records == []
