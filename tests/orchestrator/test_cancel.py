"""Cancelling a ticket: before, during and after its submit, and after the end of its block."""

import asyncio

import pytest

from jarai_async import JaraiClient, Orchestrator, OutcomeState, PermissionDeniedError, Status, Submitted
from jarai_async.simulator import Simulator
from tests.support.orchestrators import statuses
from tests.support.scenarios import request_for


async def test_cancel_stops_the_production(simulator: Simulator, client: JaraiClient) -> None:
    """The outcome is `cancelled`, with the production as JARAI then has it; a second cancel does nothing."""
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        async for event in ticket.events():
            if isinstance(event, Submitted):
                await ticket.cancel()
        outcome = await ticket
        assert outcome.state == "cancelled"
        assert outcome.production is not None
        assert outcome.production.status == Status.CANCELLED
        await ticket.cancel()
    assert statuses(simulator) == {"Cancelled"}
    assert simulator.count("cancel") == 1


async def test_failed_cancel_leaves_the_production_watched(simulator: Simulator, client: JaraiClient) -> None:
    """JARAI refuses it, so the production continues to its end. The next cancel is another one."""
    simulator.faults.add("forbidden", on="cancel", times=2)
    async with Orchestrator(client) as orchestrator:
        ticket, other = (orchestrator.submit(request_for(simulator)) for _ in range(2))
        await asyncio.sleep(60)
        for one in (ticket, other):
            with pytest.raises(PermissionDeniedError):
                await one.cancel()
        await other.cancel()
        assert (await other).state is OutcomeState.CANCELLED
        assert (await ticket).state is OutcomeState.PUBLISHED


# --- Before the submit -----------------------------------------------------------------------------


async def test_request_cancelled_immediately_is_never_sent(simulator: Simulator, client: JaraiClient) -> None:
    """The cancel comes before the task of the job has begun."""
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await ticket.cancel()
        assert (await ticket).state == "cancelled"
    assert not simulator.productions


async def test_request_cancelled_while_it_waits_for_a_slot_is_never_sent(
    simulator: Simulator, client: JaraiClient
) -> None:
    """No request is made for it, so it costs nothing."""
    async with Orchestrator(client, concurrency=1) as orchestrator:
        orchestrator.submit(request_for(simulator))
        waiting = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(10)
        await waiting.cancel()
        outcome = await waiting
        assert (outcome.state, outcome.production, outcome.request_count) == ("cancelled", None, 0)
    assert len(simulator.productions) == 1


async def test_concurrent_and_repeated_cancels_do_nothing_more(
    simulator: Simulator, client: JaraiClient
) -> None:
    """Two parts of an application may cancel the same ticket."""
    async with Orchestrator(client, concurrency=1) as orchestrator:
        orchestrator.submit(request_for(simulator))
        waiting = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(1)
        await asyncio.gather(waiting.cancel(), waiting.cancel())
        await waiting.cancel()
        assert (await waiting).state is OutcomeState.CANCELLED


# --- During the submit -----------------------------------------------------------------------------


async def test_production_is_cancelled_when_its_submit_in_flight_is_accepted(
    simulator: Simulator, client: JaraiClient
) -> None:
    """The job waits for the response: the production cannot be cancelled without its id."""
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(0.001)
        await ticket.cancel()
        assert (await ticket).state == "cancelled"
    assert statuses(simulator) == {"Cancelled"}


@pytest.mark.parametrize("kind", ["rate_limited", "unavailable"])
async def test_submit_cancelled_in_flight_is_not_retried(
    simulator: Simulator, client: JaraiClient, kind: str
) -> None:
    """A rejected submit created nothing, so the outcome is `cancelled`."""
    simulator.faults.add(kind, on="submit", times=None, seconds=30)
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(0.001)
        await ticket.cancel()
        outcome = await ticket
    assert outcome.state is OutcomeState.CANCELLED
    assert simulator.faults.fired[kind] == 1
    assert not simulator.productions


async def test_cancelled_submit_does_not_wait_for_a_long_retry_after(
    simulator: Simulator, client: JaraiClient
) -> None:
    """A 429 with hours to wait ends a cancelled submit at once."""
    simulator.faults.add("rate_limited", on="submit", times=None, seconds=36_000)
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(0.001)
        await ticket.cancel()
        assert (await ticket).state is OutcomeState.CANCELLED
        assert asyncio.get_running_loop().time() < 60


# --- After the end of the job ----------------------------------------------------------------------


async def test_production_can_be_cancelled_after_the_block(simulator: Simulator, client: JaraiClient) -> None:
    """It continues at JARAI, so it can still be cancelled."""
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(60)
    await ticket.cancel()
    assert statuses(simulator) == {"Cancelled"}
    assert ticket.status == "Cancelled"


async def test_production_can_be_cancelled_after_its_deadline(
    simulator: Simulator, client: JaraiClient
) -> None:
    """It is no longer watched, and continues at JARAI."""
    async with Orchestrator(client, deadline=100) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        assert (await ticket).state is OutcomeState.TIMED_OUT
        await ticket.cancel()
        assert ticket.status == "Cancelled"
