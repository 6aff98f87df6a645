"""What an orchestrator says of itself while it runs, against what the simulator knows."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from jarai_async import (
    Finished,
    JaraiClient,
    Orchestrator,
    ProductionRequest,
    RateLimit,
    Statistics,
    StatusChanged,
    _clock,
)
from jarai_async.simulator import Simulator
from jarai_async.simulator._event_loop import START_OF_SIMULATED_TIME
from tests.support.scenarios import request_for, requests_for


async def watched(
    orchestrator: Orchestrator, requests: list[ProductionRequest], seconds: float
) -> list[tuple[datetime, Statistics]]:
    """Run a batch, and look at the statistics every so often."""
    seen = []

    async def look() -> None:
        while True:
            await asyncio.sleep(seconds)
            seen.append((_clock.utc(), orchestrator.statistics()))

    async with orchestrator:
        looking = asyncio.create_task(look())
        async for _ in orchestrator.run(requests):
            pass
        looking.cancel()
        seen.append((_clock.utc(), orchestrator.statistics()))
    return seen


async def test_the_figures_are_the_simulators(client: JaraiClient, simulator: Simulator) -> None:
    """Each request that came is counted once, by its kind; and each production stands somewhere."""
    await client.accounts()
    seen = await watched(Orchestrator(client, concurrency=8), requests_for(simulator, 20), 60)
    for _, one in seen:
        assert one.waiting + one.in_flight + one.parked + one.finished == 20
        assert one.in_flight <= 8 + 8  # those who are being distributed have no place
        assert 0 <= one.free_now <= one.per_minute == 300
        assert one.left_today is None
    first, last = seen[0][1], seen[-1][1]
    assert (first.waiting, first.in_flight, first.finished) == (12, 8, 0)
    assert (last.waiting, last.in_flight, last.parked, last.finished) == (0, 0, 0, 20)
    assert last.expected_finish is None
    assert sum(last.requests.values()) == simulator.count()
    polls = sum(production.polls for production in simulator.productions.values())
    assert last.requests == {"submit": 20, "deliverables": 20, "read": 1, "poll": polls, "cancel": 0}
    assert last.rate_limited == simulator.rate_limited == 0


async def test_one_that_waits_for_a_person_is_parked() -> None:
    """Until it is approved."""
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


async def test_refusals_and_lost_answers_are_counted(client: JaraiClient, simulator: Simulator) -> None:
    """A 429 is a request as well, and so is one whose answer never came."""
    simulator.faults.add("rate_limited", on="accounts", seconds=30)
    simulator.faults.add("hang", on="accounts")
    await client.accounts()
    async with Orchestrator(client) as orchestrator:
        statistics = orchestrator.statistics()
    assert statistics.rate_limited == 1
    assert statistics.requests["read"] == simulator.count() == 3


async def test_the_lag_is_about_the_true_one(client: JaraiClient, simulator: Simulator) -> None:
    """Half of each freshness interval, against the moments at which it happened."""
    late = []
    async with Orchestrator(client) as orchestrator:
        assert orchestrator.statistics().lag is None
        async for event in orchestrator.run(requests_for(simulator, 40)):
            if isinstance(event, StatusChanged):
                moments = {s: m for m, s in simulator.productions[event.production.id].timeline}
                happened = START_OF_SIMULATED_TIME + moments[event.status]
                late.append(event.observed_at.timestamp() - happened)
        lag = orchestrator.statistics().lag
    assert lag == pytest.approx(sum(late) / len(late), rel=0.2)


@pytest.mark.parametrize("concurrency", [100, 15])
async def test_the_expected_finish_is_near_the_true_one(concurrency: int) -> None:
    """Fifty productions, three in ten of which wait for people, who may take long: within a factor of 2.5."""
    async with (
        Simulator(seed=1) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        orchestrator = Orchestrator(client, concurrency=concurrency)
        seen = await watched(orchestrator, requests_for(simulator, 50), 600)
    begun, end = datetime.fromtimestamp(START_OF_SIMULATED_TIME, UTC), seen[-1][0]
    for moment, one in seen[:6]:
        assert one.expected_finish is not None
        assert one.expected_finish > moment
        assert 1 / 2.5 < (one.expected_finish - begun) / (end - begun) < 2.5


async def test_a_ticket_expects_its_own_finish(client: JaraiClient, simulator: Simulator) -> None:
    """Nothing before it is accepted and after its end; in between a moment that comes nearer."""
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        assert ticket.expected_finish is None
        await asyncio.sleep(30)
        assert ticket.expected_finish is not None
        assert timedelta(minutes=20) < ticket.expected_finish - _clock.utc() < timedelta(minutes=30)
        async for event in ticket.events():
            if isinstance(event, StatusChanged) and event.status == "Distributing":
                break
        assert timedelta(0) < ticket.expected_finish - _clock.utc() < timedelta(minutes=3)
        await ticket
        assert ticket.expected_finish is None


def as_a_list(requests: list[ProductionRequest]) -> list[ProductionRequest]:
    return requests


def as_a_generator(requests: list[ProductionRequest]) -> Iterator[ProductionRequest]:
    yield from requests


@pytest.mark.parametrize(("given", "waiting"), [(as_a_list, 9), (as_a_generator, 0)])
async def test_what_is_still_to_be_drawn_is_counted_where_it_can_be(
    client: JaraiClient,
    simulator: Simulator,
    given: Callable[[list[ProductionRequest]], list[ProductionRequest]],
    waiting: int,
) -> None:
    """Of a list it is known; a generator is not drawn from before its time. What is left does not wait."""
    async with Orchestrator(client, concurrency=1) as orchestrator:
        run = orchestrator.run(given(requests_for(simulator, 10)))
        await anext(run)
        assert orchestrator.statistics().waiting == waiting
        await run.aclose()
        assert orchestrator.statistics().waiting == 0


# --- Days ------------------------------------------------------------------------------------------


async def test_a_batch_that_does_not_fit_the_day_is_told_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """One warning, by the first answer, says when it will be finished; and so it comes."""
    async with (
        Simulator(tier="free", approval="auto", failure_rate=0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client) as orchestrator,
    ):
        first, warned = None, None
        async for _ in orchestrator.run(requests_for(simulator, 7)):
            first = first or _clock.utc()
            warned = warned or [record.getMessage() for record in caplog.records]
            expected = orchestrator.statistics().expected_finish
            if expected is not None:
                assert abs(expected - datetime(2026, 1, 3, tzinfo=UTC)) < timedelta(hours=4)
        assert _clock.utc() < datetime(2026, 1, 3, 2, tzinfo=UTC)
    assert warned is not None
    assert len(warned) == 1
    assert "3 productions a day for one account, 100 requests a day" in warned[0]
    assert "4 of the 6 productions still to be submitted wait" in warned[0]
    assert "finished about 2026-01-03 0" in warned[0]
    assert first is not None
    assert first.timestamp() - START_OF_SIMULATED_TIME < 60


async def test_requests_a_day_are_a_reason_as_well(caplog: pytest.LogCaptureFixture) -> None:
    """Where the caller allows fewer than the server does."""
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


@pytest.mark.parametrize(("tier", "number"), [("standard", 20), ("enterprise", 60)])
async def test_a_batch_that_fits_is_not_warned_of(
    tier: str, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor is one whose requests are not known beforehand."""
    caplog.set_level(logging.WARNING)
    async with (
        Simulator(tier=tier, failure_rate=0) as simulator,  # type: ignore[arg-type]
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client) as orchestrator,
    ):
        ended = 0
        async for event in orchestrator.run(requests_for(simulator, number)):
            ended += isinstance(event, Finished)
        assert ended == number
    assert caplog.records == []


async def test_statistics_are_one_line(client: JaraiClient, simulator: Simulator) -> None:
    """What is read at three in the morning: where all stand, when it ends, what the budget has left."""
    async with Orchestrator(client) as orchestrator:
        assert str(orchestrator.statistics()) == (
            "0 waiting, 0 in flight, 0 parked, 0 finished; expected finish: nothing in progress; "
            "changes: none seen yet; rate limit: 10 of 10 a minute free; sent: nothing; 429s: 0"
        )
        await orchestrator.submit(request_for(simulator))
        text = str(orchestrator.statistics())
    assert "1 finished; expected finish: nothing in progress; changes: seen " in text
    assert "of 300 a minute free; sent: 1 deliverables, 1 submit, " in text
