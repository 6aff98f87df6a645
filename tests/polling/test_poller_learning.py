"""What polls teach about how long a production stays in each status."""

import asyncio

import pytest

from jarai_async import JaraiClient, Status, _clock
from jarai_async.simulator import Simulator
from tests.support.watches import watched


def learned(client: JaraiClient, status: Status) -> tuple[float, float]:
    """Return the transitions out of a status and the seconds in it that the client has counted."""
    counts = [
        count for count in client.engine.poller.sojourns.export_state()["counts"] if count["status"] == status
    ]
    transitions = sum(sum(count["transitions"]) for count in counts)
    return transitions, sum(sum(count["seconds"]) for count in counts)


async def test_change_teaches_how_long_the_status_lasted(queued: Simulator) -> None:
    """A production that leaves Queued after 500 s counts once and for that time, despite failed polls."""
    async with watched(queued) as (client, watch):
        queued.faults.add("internal_error", on="fetch", times=3)
        await client.engine.poller.wait_for_change(watch)
        transitions, seconds = learned(client, Status.QUEUED)
        assert transitions == pytest.approx(1)
        assert seconds == pytest.approx(watch.since, abs=0.1)
        assert abs(watch.since - 500) < 60


async def test_unchanged_production_teaches_as_well(queued: Simulator) -> None:
    """The seconds that it has stayed so far are counted."""
    async with watched(queued) as (client, watch):
        wait = asyncio.create_task(client.engine.poller.wait_for_change(watch))
        await asyncio.sleep(300)
        transitions, seconds = learned(client, Status.QUEUED)
        assert transitions == 0
        assert seconds == pytest.approx(watch.seen)
        assert seconds > 200
        wait.cancel()


async def test_wait_that_begins_later_teaches_nothing_about_the_first_status(queued: Simulator) -> None:
    """It is not known how long the first status has lasted; the beginning of the next one is seen."""
    async with watched(queued) as (client, watch):
        await asyncio.sleep(400)
        wait = asyncio.create_task(client.wait(watch.production.id))
        await asyncio.sleep(1000)
        assert learned(client, Status.QUEUED) == (0, 0)
        assert learned(client, Status.PRODUCING)[1] > 500
        wait.cancel()


async def test_cancel_is_not_learned_as_the_end_of_a_status(queued: Simulator) -> None:
    """Without the cancel, the production might have stayed longer."""
    async with watched(queued) as (client, watch):
        wait = asyncio.create_task(client.engine.poller.wait_for_change(watch))
        await asyncio.sleep(100)
        cancelled = await client.cancel(watch.production.id)
        client.engine.poller.observe(watch, cancelled, _clock.utc())
        assert (await wait).production.status == Status.CANCELLED
        transitions, seconds = learned(client, Status.QUEUED)
        assert transitions == 0
        assert seconds == pytest.approx(100, abs=1)
