"""Workers and queues on a real PostgreSQL server, with the simulator in the same event loop."""

from jarai_async import Finished, JaraiClient, OutcomeState
from jarai_async.simulator import Simulator
from jarai_async.workers import Queue
from tests.support.postgres import working
from tests.support.scenarios import request_for


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
