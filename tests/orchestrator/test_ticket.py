"""The ticket of one submitted request: its outcome, its events, and what it says after the block."""

import asyncio
import json
from pathlib import Path

import pytest

from jarai_async import (
    ClosedError,
    Finished,
    InvalidRequestError,
    JaraiClient,
    Orchestrator,
    Status,
    Submitted,
    UncertainSubmitError,
)
from jarai_async.simulator import Simulator
from tests.support.scenarios import request_for


async def test_ticket_is_awaited_for_its_outcome(simulator: Simulator, client: JaraiClient) -> None:
    """An application submits requests one by one; a ticket may be awaited repeatedly."""
    async with Orchestrator(client) as orchestrator:
        first = orchestrator.submit(request_for(simulator, reference="first"))
        second = orchestrator.submit(request_for(simulator, reference="second"))
        outcomes = await asyncio.gather(first, second)
        assert [outcome.reference for outcome in outcomes] == ["first", "second"]
        assert all(outcome.ok for outcome in outcomes)
        assert first.done
        assert first.production_id in simulator.productions
        assert first.status == Status.PUBLISHED
        assert "first" in repr(first)
        assert repr(first).endswith(", ended>")
        assert await first == outcomes[0]


async def test_events_of_a_ticket_can_be_read_at_any_time(simulator: Simulator, client: JaraiClient) -> None:
    """Each reader gets all events, from the first one on."""
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        early = [event async for event in ticket.events()]
        late = [event async for event in ticket.events()]
    assert early == late
    assert isinstance(early[0], Submitted)
    assert isinstance(early[-1], Finished)


async def test_cancelled_wait_does_not_affect_the_production(
    simulator: Simulator, client: JaraiClient
) -> None:
    """A timeout around `await ticket` ends only the waiting."""
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await ticket
        assert (await ticket).ok


async def test_ticket_raises_closed_error_after_the_block(simulator: Simulator, client: JaraiClient) -> None:
    """The error contains the production id, by which the production can still be waited for."""
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        reader = ticket.events()
        first = await anext(reader)
    assert first.production is not None
    with pytest.raises(ClosedError, match=first.production.id):
        await ticket
    for events in (reader, ticket.events()):  # a reader from before, and a new one
        with pytest.raises(ClosedError):
            _ = [event async for event in events]
    assert (await client.wait(first.production.id)).status == Status.PUBLISHED


async def test_tickets_can_be_given_to_asyncio_wait_and_to_a_task_group(
    simulator: Simulator, client: JaraiClient
) -> None:
    """As a task and as a coroutine; cancelling these does not end the job."""
    async with Orchestrator(client) as orchestrator:
        tickets = [orchestrator.submit(request_for(simulator)) for _ in range(3)]
        done, _ = await asyncio.wait({ticket.task for ticket in tickets[:2]}, return_when="FIRST_COMPLETED")
        assert all(task.result().ok for task in done)
        tickets[1].task.cancel()
        tickets[2].task.cancel()
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(ticket.outcome()) for ticket in tickets]
        assert all(task.result().ok for task in waiting)
        assert [(await ticket.task).reference for ticket in tickets] == [one.reference for one in tickets]


async def test_ticket_as_json_shows_what_is_known(simulator: Simulator, client: JaraiClient) -> None:
    """The same keys before and after the submit, and those of the outcome at the end."""
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator, reference="a"))
        before = ticket.to_dict()
        await anext(ticket.events())
        accepted = ticket.to_dict()
        outcome = await ticket
        ended = ticket.to_dict()
    assert before == {
        "reference": "a",
        "productionId": None,
        "status": None,
        "currentStep": None,
        "topic": "How tides work",
        "accountId": simulator.account_id,
        "done": False,
        "expectedFinish": before["expectedFinish"],
        "waitingFor": None,
        "cancelRequested": False,
        "outcome": None,
    }
    assert accepted == before | {
        "productionId": ticket.production_id,
        "status": "Queued",
        "expectedFinish": accepted["expectedFinish"],
    }
    assert accepted["expectedFinish"].endswith("+00:00")
    assert ended == outcome.to_dict() | {name: before[name] for name in ("topic", "accountId")} | {
        "currentStep": ended["currentStep"],
        "done": True,
        "expectedFinish": None,
        "waitingFor": None,
        "cancelRequested": False,
    }
    assert [json.loads(json.dumps(shown)) for shown in (before, accepted, ended)] == [before, accepted, ended]


async def test_uncertain_submit_as_json_does_not_show_its_key(
    simulator: Simulator, client: JaraiClient
) -> None:
    """A key would let its reader repeat the submit."""
    simulator.faults.add("reset_after", on="submit", times=None)
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator, reference="a"))
        outcome = await ticket
    assert isinstance(outcome.error, UncertainSubmitError)
    shown = ticket.to_dict()
    assert (shown["outcome"], shown["isFinal"], shown["error"]) == ("uncertain", False, str(outcome.error))
    assert outcome.error.idempotency_key
    assert outcome.error.idempotency_key not in json.dumps(shown)


async def test_ticket_that_is_not_watched_any_more_as_json_has_no_outcome(
    simulator: Simulator, client: JaraiClient
) -> None:
    """It is done, and its production is the last known one."""
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await anext(ticket.events())
    shown = ticket.to_dict()
    assert (shown["done"], shown["outcome"], shown["status"]) == (True, None, "Queued")


async def test_ticket_of_a_reference_of_another_request_has_no_outcome(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """Awaiting it raises; showing it does not."""
    async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
        await orchestrator.submit(request_for(simulator, reference="a"))
        ticket = orchestrator.submit(request_for(simulator, reference="a", topic="How bees dance"))
        with pytest.raises(InvalidRequestError, match="'a' belongs to another request"):
            await ticket
        assert repr(ticket) == "<Ticket 'a' not submitted yet, not watched any more>"
        assert (ticket.to_dict()["outcome"], ticket.to_dict()["done"]) == (None, True)
