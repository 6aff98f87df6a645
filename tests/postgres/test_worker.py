"""Workers and queues on a real PostgreSQL server, with the simulator in the same event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from jarai_async import Finished, JaraiClient, OutcomeState
from jarai_async.simulator import Simulator
from jarai_async.workers import Queue, Worker
from tests.support.scenarios import request_for


@asynccontextmanager
async def working(client: JaraiClient, url: str, **options: object) -> AsyncIterator[Worker]:
    """A worker that runs."""
    async with Worker(client, url, **options) as worker:  # type: ignore[arg-type]
        running = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_request_is_produced_by_a_worker(
    postgres_url: str, client: JaraiClient, simulator: Simulator
) -> None:
    async with Queue(postgres_url) as queue, working(client, postgres_url):
        ticket = await queue.submit(request_for(simulator, reference="tides"))
        outcome = await ticket
        assert outcome.state is OutcomeState.PUBLISHED
        events = [event async for event in ticket.events()]
        assert isinstance(events[-1], Finished)
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        again = await queue.submit(request_for(simulator, reference="tides"))
        assert (await again).production == outcome.production
    assert simulator.count("submit") == 1
