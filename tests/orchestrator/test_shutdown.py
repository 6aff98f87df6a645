"""Leaving early, in every way: watching ends, productions do not, and nothing is left behind."""

import asyncio
import gc
import logging
from collections.abc import Iterator

import pytest

from jarai_async import (
    ClosedError,
    Finished,
    JaraiClient,
    Orchestrator,
    ProductionRequest,
    Status,
    StatusChanged,
    Submitted,
)
from jarai_async.simulator import Simulator
from tests.support.scenarios import request_for, requests_for


def library_tasks() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("jarai")]


def statuses(simulator: Simulator) -> set[str]:
    now = asyncio.get_running_loop().time()
    return {production.status_at(now) for production in simulator.productions.values()}


async def test_break_stops_watching_and_cancels_nothing(
    simulator: Simulator, client: JaraiClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names what goes on at JARAI, and how to wait for it."""
    async with Orchestrator(client) as orchestrator:
        async for event in orchestrator.run(requests_for(simulator, 5)):
            if isinstance(event, StatusChanged):
                break
    assert library_tasks() == ["jarai poller"]  # it is the client's, and waits for its next turn
    assert statuses(simulator) <= {"Queued", "Producing"}
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "JaraiClient.wait" in record.getMessage()
    assert all(production_id in record.getMessage() for production_id in simulator.productions)


async def test_break_draws_no_more_requests(simulator: Simulator, client: JaraiClient) -> None:
    """An iterator that nobody holds submits nothing more, though the block goes on."""
    drawn: list[ProductionRequest] = []

    def source() -> Iterator[ProductionRequest]:
        for request in requests_for(simulator, 50):
            drawn.append(request)
            yield request

    async with Orchestrator(client, concurrency=2) as orchestrator:
        async for _ in orchestrator.run(source()):
            break
        gc.collect()
        await asyncio.sleep(4 * 3600)
        assert len(drawn) == len(simulator.productions) == 2
        assert statuses(simulator) == {"Published"}


async def test_closing_the_iterator_draws_no_more_requests(simulator: Simulator, client: JaraiClient) -> None:
    """`aclose` does in the open what `break` does by itself."""
    async with Orchestrator(client, concurrency=2) as orchestrator:
        run = orchestrator.run(requests_for(simulator, 50))
        await anext(run)
        await run.aclose()
        await asyncio.sleep(4 * 3600)
        assert len(simulator.productions) == 2


async def test_an_exception_of_the_readers_comes_out_as_it_is(
    simulator: Simulator, client: JaraiClient
) -> None:
    """It is neither wrapped in a group nor lost."""
    with pytest.raises(ZeroDivisionError):
        async with Orchestrator(client) as orchestrator:
            async for _ in orchestrator.run(requests_for(simulator, 5)):
                raise ZeroDivisionError
    assert statuses(simulator) <= {"Queued", "Producing"}


async def test_a_timeout_around_the_block_leaves_it_in_order(
    simulator: Simulator, client: JaraiClient
) -> None:
    """`asyncio.timeout` ends watching at its moment, and cancels no production."""
    loop = asyncio.get_running_loop()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(300), Orchestrator(client) as orchestrator:
            async for _ in orchestrator.run(requests_for(simulator, 5)):
                pass
    assert loop.time() == pytest.approx(300, abs=1)
    assert len(simulator.productions) == 5
    assert "Cancelled" not in statuses(simulator)


@pytest.mark.parametrize("moment", [0, 0.1, 0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 8, 60, 600, 1200, 1500, 1800, 2400])
async def test_leaving_at_any_moment_leaves_nothing_behind(
    moment: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever was going on, every task is gone, and every production that was accepted is known."""
    async with Simulator(approval="auto", latency=2.0) as simulator:
        async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
            known: set[str] = set()
            task = asyncio.create_task(_run_noting_ends(client, simulator, known))
            await asyncio.sleep(moment)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert library_tasks() == []
        assert "Cancelled" not in statuses(simulator)
    assert {
        production_id for production_id in simulator.productions if production_id not in caplog.text
    } <= known


async def _run_noting_ends(client: JaraiClient, simulator: Simulator, known: set[str]) -> None:
    async with Orchestrator(client) as orchestrator:
        async for event in orchestrator.run(requests_for(simulator, 4)):
            if isinstance(event, Finished) and event.production is not None:
                known.add(event.production.id)


async def test_a_submit_on_its_way_is_let_land(
    client: JaraiClient, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """Leaving waits a moment for the answer, so that the production's identifier is not lost."""
    async with Orchestrator(client) as orchestrator:
        orchestrator.submit(request_for(simulator))
        await asyncio.sleep(0.001)
        assert not simulator.productions
    (production_id,) = simulator.productions
    assert production_id in caplog.text


async def test_cancel_on_exit_cancels_for_real(simulator: Simulator, client: JaraiClient) -> None:
    """Only where it was asked for does leaving stop what is paid for."""
    async with Orchestrator(client, cancel_on_exit=True) as orchestrator:
        async for event in orchestrator.run(requests_for(simulator, 3)):
            if isinstance(event, StatusChanged):
                break
    assert statuses(simulator) == {"Cancelled"}


async def test_a_ticket_gives_its_outcome(simulator: Simulator, client: JaraiClient) -> None:
    """An app adds work as it goes, and awaits what it wants to know."""
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
        assert await first == outcomes[0]  # as often as one likes


async def test_a_tickets_events_can_be_read_at_any_time(simulator: Simulator, client: JaraiClient) -> None:
    """Whoever comes late reads from the beginning, too."""
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        early = [event async for event in ticket.events()]
        late = [event async for event in ticket.events()]
    assert early == late
    assert isinstance(early[0], Submitted)
    assert isinstance(early[-1], Finished)


async def test_cancelling_a_ticket_stops_its_production(simulator: Simulator, client: JaraiClient) -> None:
    """The outcome is `cancelled`, with the production as it then is."""
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        async for event in ticket.events():
            if isinstance(event, Submitted):
                await ticket.cancel()
        outcome = await ticket
        assert outcome.state == "cancelled"
        assert outcome.production is not None
        assert outcome.production.status == Status.CANCELLED
        await ticket.cancel()  # once more does nothing
    assert statuses(simulator) == {"Cancelled"}


async def test_a_ticket_that_waits_for_a_place_is_withdrawn(
    simulator: Simulator, client: JaraiClient
) -> None:
    """What was not sent costs nothing: no request is made for it."""
    async with Orchestrator(client, concurrency=1) as orchestrator:
        orchestrator.submit(request_for(simulator))
        waiting = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(10)
        await waiting.cancel()
        outcome = await waiting
        assert (outcome.state, outcome.production, outcome.request_count) == ("cancelled", None, 0)
    assert len(simulator.productions) == 1


async def test_a_ticket_cancelled_at_once_is_never_sent(simulator: Simulator, client: JaraiClient) -> None:
    """Not even its task has begun."""
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await ticket.cancel()
        assert (await ticket).state == "cancelled"
    assert not simulator.productions


async def test_a_ticket_cancelled_while_its_submit_is_on_its_way_is_stopped_after(
    simulator: Simulator, client: JaraiClient
) -> None:
    """The answer is awaited, for without the identifier nothing could be cancelled."""
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(0.001)
        await ticket.cancel()
        assert (await ticket).state == "cancelled"
    assert statuses(simulator) == {"Cancelled"}


async def test_a_ticket_of_an_orchestrator_that_was_left_says_so(
    simulator: Simulator, client: JaraiClient
) -> None:
    """Awaiting it raises, with the identifier to go on by; its events end the same way."""
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        events = ticket.events()
        first = await anext(events)
    assert first.production is not None
    with pytest.raises(ClosedError, match=first.production.id):
        await ticket
    for reader in (events, ticket.events()):  # one from before, and one who comes late
        with pytest.raises(ClosedError):
            _ = [event async for event in reader]
    assert (await client.wait(first.production.id)).status == Status.PUBLISHED


async def test_whoever_awaits_a_ticket_can_be_cancelled_alone(
    simulator: Simulator, client: JaraiClient
) -> None:
    """Giving up waiting does not give up the production."""
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await ticket
        assert (await ticket).ok
