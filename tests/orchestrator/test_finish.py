"""`Ticket.expected_finish` counts in what comes before: slots, daily quotas and outages."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import JaraiClient, Orchestrator, OutcomeState, RateLimit, Ticket, WaitReason, _clock
from jarai_async._forecast.quotas import Quotas, day_of
from jarai_async.simulator import Simulator
from tests.support.orchestrators import until_waiting
from tests.support.scenarios import request_for, requests_for


def finish_of(ticket: Ticket) -> datetime:
    assert ticket.expected_finish is not None
    return ticket.expected_finish


def finish_days(tickets: Sequence[Ticket]) -> list[int]:
    """Return the days of January on which tickets are expected to end."""
    return [finish_of(ticket).day for ticket in tickets]


def midnight(day: int) -> datetime:
    return datetime(2026, 1, day, tzinfo=UTC)


async def test_request_above_an_accounts_daily_quota_ends_on_another_day() -> None:
    """Three a day: it is known with the first response, and each ends on its day."""
    async with (
        Simulator(tier="free", approval="auto", failure_rate=0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client, concurrency=2) as orchestrator,
    ):
        await client.accounts()
        tickets = [orchestrator.submit(request) for request in requests_for(simulator, 7)]
        await asyncio.sleep(1)
        assert finish_days(tickets) == [1, 1, 1, 2, 2, 2, 3]
        await tickets[2]
        await asyncio.sleep(1)
        assert tickets[3].waiting_for is not None
        assert finish_days(tickets[3:]) == [2, 2, 2, 3]
        outcomes = [await ticket for ticket in tickets]
        assert [outcome.finished_at.day for outcome in outcomes] == [1, 1, 1, 2, 2, 2, 3]
        assert [ticket.expected_finish for ticket in tickets] == [None] * 7


@asynccontextmanager
async def limited(simulator: Simulator, per_day: int) -> AsyncIterator[Orchestrator]:
    """An orchestrator whose client may send few requests a day."""
    limit = RateLimit(per_day=per_day)
    async with (
        JaraiClient(simulator.api_key, base_url=simulator.base_url, rate_limit=limit) as client,
        Orchestrator(client, concurrency=2) as orchestrator,
    ):
        yield orchestrator


async def test_request_above_the_quota_of_requests_ends_on_another_day(simulator: Simulator) -> None:
    """Thirty requests are enough for seven productions: submit, list, and a poll every 15 minutes."""
    async with limited(simulator, per_day=30) as orchestrator:
        tickets = [orchestrator.submit(request) for request in requests_for(simulator, 20)]
        await asyncio.sleep(1)
        days = finish_days(tickets)
        assert days == sorted(days)
        assert (days[0], days[-1]) == (1, 3)


async def test_production_whose_polls_wait_for_the_next_day_ends_on_that(simulator: Simulator) -> None:
    """Its end cannot be seen before, nor its files be listed."""
    async with limited(simulator, per_day=2) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await until_waiting(ticket, WaitReason.DAILY_QUOTA)
        assert ticket.status is not None
        assert midnight(2) <= finish_of(ticket) < midnight(2) + timedelta(minutes=1)
        assert (await ticket).finished_at >= midnight(2)


async def test_outage_is_expected_to_last_as_long_again_as_it_has_lasted(
    simulator: Simulator, client: JaraiClient
) -> None:
    """Of a ticket, and of everything."""
    await client.accounts()
    simulator.faults.add("unavailable", on="submit", times=None)
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(60)
        before, batch = finish_of(ticket) - _clock.utc(), orchestrator.statistics().expected_finish
        await asyncio.sleep(7200)
        assert finish_of(ticket) - _clock.utc() == pytest.approx(
            before + timedelta(seconds=7200), abs=timedelta(seconds=5)
        )
        assert batch is not None
        later = orchestrator.statistics().expected_finish
        assert later is not None
        assert later - batch == pytest.approx(timedelta(seconds=2 * 7200), abs=timedelta(seconds=5))
        simulator.faults.clear()
        assert (await ticket).state is OutcomeState.PUBLISHED


async def test_request_that_waits_for_a_slot_ends_after_those_before_it(
    simulator: Simulator, client: JaraiClient
) -> None:
    """As many at a time as there are slots; the last one ends about when the simulated batch does."""
    async with Orchestrator(client, concurrency=2) as orchestrator:
        tickets = [orchestrator.submit(request) for request in requests_for(simulator, 20)]
        await asyncio.sleep(1)
        began, expected = _clock.utc(), [finish_of(ticket) for ticket in tickets]
        assert expected[2:] == sorted(expected[2:])
        batch = orchestrator.statistics().expected_finish
        assert batch is not None
        assert 0.7 < (expected[-1] - began) / (batch - began) < 1.4


@given(
    count=st.integers(0, 60),
    today=st.one_of(st.integers(0, 20), st.just(float("inf"))),
    per_day=st.one_of(st.integers(1, 20), st.just(float("inf"))),
)
def test_day_of_a_position_is_that_of_the_forecast_for_a_batch(
    count: int, today: float, per_day: float
) -> None:
    """Computed directly, without the productions before it."""
    quotas = Quotas(
        per_account=per_day,
        total=float("inf"),
        account_today=lambda _: today,
        total_today=float("inf"),
    )
    assert [day_of(n, today, per_day) for n in range(count)] == quotas.assign_days(["a"] * count)
