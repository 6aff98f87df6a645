"""A queue in a process without an API key: decisions, events and deletions."""

import asyncio

import pytest

from jarai_async import Event, Finished, InvalidRequestError, JaraiClient, OutcomeState
from jarai_async.simulator import Simulator
from jarai_async.workers import Queue
from tests.support.postgres import working
from tests.support.scenarios import request_for


async def test_cancel_in_the_queue_is_carried_out_by_the_next_worker(
    simulated_url: str, client: JaraiClient, simulator: Simulator
) -> None:
    """Nothing is sent."""
    async with Queue(simulated_url) as queue:
        ticket = await queue.submit(request_for(simulator))
        cancel = asyncio.create_task(ticket.cancel())
        await asyncio.sleep(1)
        async with working(client, simulated_url):
            await cancel
            assert (await ticket).state is OutcomeState.CANCELLED
    assert simulator.count("submit") == 0


async def test_production_is_cancelled_by_its_worker(
    simulated_url: str, client: JaraiClient, simulator: Simulator
) -> None:
    async with Queue(simulated_url) as queue, working(client, simulated_url):
        ticket = await queue.submit(request_for(simulator))
        async for _ in ticket.events():
            break
        await ticket.cancel()
        assert (await ticket).state is OutcomeState.CANCELLED
    assert simulator.count("cancel") == 1


async def test_decision_without_a_live_worker_is_logged(
    simulated_url: str, client: JaraiClient, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    async with Queue(simulated_url) as queue:
        ticket = await queue.submit(request_for(simulator))
        async with working(client, simulated_url):
            await ticket.cancel()
            assert "no worker is running" not in caplog.text
        cancel = asyncio.create_task(ticket.cancel())
        await asyncio.sleep(1)
        assert "no worker is running" in caplog.text
        cancel.cancel()


async def test_failed_request_is_submitted_again(
    simulated_url: str, client: JaraiClient, simulator: Simulator
) -> None:
    simulator.when(1).fails()
    async with Queue(simulated_url) as queue, working(client, simulated_url):
        ticket = await queue.submit(request_for(simulator, reference="tides"))
        assert (await ticket).state is OutcomeState.FAILED
        assert (await (await queue.retry("tides"))).ok
        with pytest.raises(InvalidRequestError):
            await queue.retry("tides")
        with pytest.raises(InvalidRequestError, match="no request"):
            await queue.retry("waves")


@pytest.mark.parametrize("resubmit", [True, False])
async def test_uncertain_request_is_resolved(
    simulated_url: str, client: JaraiClient, simulator: Simulator, *, resubmit: bool
) -> None:
    """A user says that nothing was created, or which production it was."""
    simulator.faults.add("reset_before" if resubmit else "reset_after")
    async with Queue(simulated_url) as queue, working(client, simulated_url):
        ticket = await queue.submit(request_for(simulator, reference="tides"))
        assert (await ticket).state is OutcomeState.UNCERTAIN
        for production_id in simulator.productions:
            ticket = await queue.resolve("tides", production_id=production_id)
        if resubmit:
            ticket = await queue.resolve("tides", resubmit=True)
        assert (await ticket).ok
    assert len(simulator.productions) == 1


async def test_reader_continues_behind_its_cursor_in_another_process(
    simulated_url: str, client: JaraiClient, simulator: Simulator
) -> None:
    async with Queue(simulated_url) as queue, working(client, simulated_url):
        tickets = [await queue.submit(request_for(simulator, reference=name)) for name in "ab"]
        read = list[Event]()
        while sum(isinstance(event, Finished) for event in read) < len(tickets):
            async with Queue(simulated_url) as reader:
                async for event in reader.events(after=read[-1].cursor if read else 0):
                    read.append(event)
                    if len(read) % 3 == 0 or isinstance(event, Finished):
                        break
        assert [event.cursor for event in read] == list(range(1, len(read) + 1))
        with pytest.raises(InvalidRequestError, match="no event has the cursor"):
            async for _ in queue.events(after=1_000):
                pass


async def test_only_requests_that_have_ended_are_forgotten(
    simulated_url: str, client: JaraiClient, simulator: Simulator
) -> None:
    async with Queue(simulated_url) as queue, working(client, simulated_url):
        ticket = await queue.submit(request_for(simulator, reference="tides"))
        with pytest.raises(InvalidRequestError):
            await queue.forget("tides")
        await ticket
        await asyncio.sleep(5)
        assert await queue.forget("tides") == ["tides"]
        assert await queue.ticket("tides") is None


async def test_request_whose_deadline_has_passed_is_resumed(
    simulated_url: str, client: JaraiClient, simulator: Simulator
) -> None:
    async with Queue(simulated_url) as queue, working(client, simulated_url):
        ticket = await queue.submit(request_for(simulator, reference="tides"), deadline=60.0)
        assert (await ticket).state is OutcomeState.TIMED_OUT
        await asyncio.sleep(400)
        assert await queue.resume() == 1
        await asyncio.sleep(400)
        assert (await ticket).ok
    assert simulator.count("submit") == 1
