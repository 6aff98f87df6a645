"""A worker fails while its requests are in all stages at once, and another one continues with them.

Whatever happens to the first worker, and whether or not the server honours idempotency keys: no request is
lost, or submitted twice, and no row of the database stays open. Set JARAI_TEST_MATRIX for servers that honour
the keys, too.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from jarai_async import OutcomeState
from jarai_async._postgres.database import Database
from jarai_async.simulator import Simulator, Stage
from jarai_async.workers import Queue, QueueTicket
from tests.support.hosts import Host, host
from tests.support.scenarios import request_for

STAGES = (
    *("uncertain", "ended", "approval", "collecting", "producing", "accepted"),
    *("after", "before", "filler", "waiting", "planned"),
)
_LEASE = 60.0

pytestmark = pytest.mark.usefixtures("simulated_time")

_OWNED = "UPDATE jarai.requests SET worker = (SELECT id FROM jarai.workers) WHERE reference = %s"
_OPEN = """
SELECT reference, stage, is_settled, worker FROM jarai.requests
    WHERE worker IS NOT NULL OR NOT (stage = 'ended' OR is_settled)
"""


def _usual(random: Random, _: str) -> list[Stage]:
    return [("Queued", 20.0), ("Producing", random.uniform(60, 90)), ("Distributing", 30.0)]


_IS_LONG = "JARAI_TEST_MATRIX" in os.environ


@pytest.fixture(params=[True, False] if _IS_LONG else [False], ids=["keys", "no keys"][not _IS_LONG :])
async def simulator(request: pytest.FixtureRequest) -> AsyncIterator[Simulator]:
    async with Simulator(
        durations=_usual,
        approval="auto",
        failure_rate=0.0,
        accounts=len(STAGES),
        idempotency_keys=request.param,
        latency=0.0,
    ) as simulator:
        simulator.when(topic="uncertain").loses_response().takes(queued=1, producing=1, distributing=1)
        simulator.when(topic="ended").takes(queued=1, producing=1, distributing=1)
        simulator.when(topic="approval").awaits_approval(float("inf"))
        collecting = simulator.when(topic="collecting").takes(queued=1, producing=1, distributing=1)
        collecting.has_fault("hang", on="download", times=8)
        simulator.when(topic="accepted").takes(queued=200)
        simulator.when(topic="after").has_fault("hang")
        simulator.when(topic="before").has_fault("hang_before")
        yield simulator


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(2 * 3600):
        while not await condition():  # noqa: ASYNC110  # it is in the database
            await asyncio.sleep(1)


class Stages:
    """Requests of one worker, in all stages."""

    def __init__(self, simulator: Simulator, queue: Queue, database: Database) -> None:
        self.tickets: dict[str, QueueTicket] = {}
        self._simulator = simulator
        self._queue = queue
        self._database = database

    async def reach(self) -> None:
        """Bring one request into each of the stages, and leave it there."""
        ticket = self.tickets.__getitem__
        await self._submit("uncertain", lambda: ticket("uncertain").done)
        await self._submit("ended", lambda: ticket("ended").done)
        await self._submit("approval", lambda: ticket("approval").status == "AwaitingApproval")
        await self._submit("producing", lambda: ticket("producing").status == "Producing")
        await self._submit("collecting", lambda: ticket("collecting").status == "Published")
        await self._submit("accepted", lambda: ticket("accepted").stage == "accepted")
        await self._submit("after", lambda: "after" in self._created())
        await self._submit("before", lambda: ticket("before").stage == "sending")
        await self._submit("filler", lambda: ticket("filler").stage == "accepted")
        await self._submit("waiting", lambda: True)
        await asyncio.sleep(1)
        await self._submit("planned", lambda: True)
        await self._database.read(_OWNED, ("ended",))
        assert {name: await self._stage(name) for name in STAGES[2:]} == {
            "approval": "accepted",
            "collecting": "accepted",
            "producing": "accepted",
            "accepted": "accepted",
            "after": "sending",
            "before": "sending",
            "filler": "accepted",
            "waiting": "planned",
            "planned": "planned",
        }

    def _created(self) -> Counter[str]:
        return Counter(each.body["topic"] for each in self._simulator.productions.values())

    async def _submit(self, name: str, has_reached: Callable[[], object]) -> None:
        account = self._simulator.accounts[STAGES.index(name)]
        request = request_for(
            self._simulator,
            topic=name,
            reference=name,
            account_id=account.account_id,
            language_id=account.language_ids[0],
            country_id=account.country_ids[0],
            avatar_id=account.avatar_ids[0],
        )
        self.tickets[name] = await self._queue.submit(request)

        async def look() -> object:
            await self.tickets[name].refresh()
            return has_reached()

        await until(look)

    async def _stage(self, name: str) -> str:
        await self.tickets[name].refresh()
        return self.tickets[name].stage

    async def check(self, *, keys: bool) -> None:
        """Wait for all outcomes, and compare them with the simulator."""
        production_id = self.tickets["approval"].production_id
        assert production_id is not None
        self._simulator.approve(production_id)
        async with asyncio.timeout(4 * 3600):
            outcomes = {name: await self.tickets[name] for name in STAGES}
        created = self._created()
        assert max(created.values()) == 1
        uncertain = {name for name, one in outcomes.items() if one.state is OutcomeState.UNCERTAIN}
        assert uncertain <= (set() if keys else {"uncertain", "before", "after"})
        published = {name for name, one in outcomes.items() if one.state is OutcomeState.PUBLISHED}
        assert published | uncertain == set(STAGES)
        assert published <= created.keys()
        for name in published:
            assert len(outcomes[name].files) == len(outcomes[name].deliverables)
            assert all(path.stat().st_size for path in outcomes[name].files)
        await self._check_events()
        assert self._simulator.rate_limited == 0

        async def is_closed() -> bool:
            return not await self._database.read(_OPEN)

        try:
            await until(is_closed)
        except TimeoutError:
            pytest.fail(f"left open: {await self._database.read(_OPEN)}")

    async def _check_events(self) -> None:
        for name, ticket in self.tickets.items():
            sequences = [event.sequence async for event in ticket.events()]
            assert sequences == list(range(1, len(sequences) + 1)), name


async def _killed(first: Host, _: Host) -> None:
    first.kill()
    await first.end_lease()


async def _stopped(first: Host, _: Host) -> None:
    first.kill()
    await first.end_lease()
    await asyncio.sleep(3 * _LEASE)
    first.resume()


async def _cut_off(first: Host, _: Host) -> None:
    first.lose_database()
    await first.end_lease()
    await asyncio.sleep(3 * _LEASE)
    first.resume()


async def _database_restarted(first: Host, second: Host) -> None:
    for each in (first, second):
        each.lose_database()
    await asyncio.sleep(20)
    for each in (first, second):
        each.resume()


async def _both_believe_to_own(first: Host, _: Host) -> None:
    await first.end_lease()


@pytest.mark.parametrize(
    "fail",
    [_killed, _stopped, _cut_off, _database_restarted, _both_believe_to_own],
    ids=lambda each: each.__name__[1:],
)
async def test_no_request_is_lost_or_submitted_twice_in_any_stage(
    *,
    fail: Callable[[Host, Host], Awaitable[None]],
    simulator: Simulator,
    request: pytest.FixtureRequest,
    postgres_url: str,
    database: Database,
    tmp_path: Path,
) -> None:
    keys: Any = request.node.callspec.params["simulator"]
    options = {"keys": keys, "download_to": tmp_path}
    async with (
        Queue(postgres_url) as queue,
        host("first", postgres_url, database, simulator, concurrency=5, **options) as first,
    ):
        stages = Stages(simulator, queue, database)
        await stages.reach()
        async with host("second", postgres_url, database, simulator, **options) as second:
            await fail(first, second)
            await stages.check(keys=keys)


async def test_worker_can_leave_while_the_database_is_away(
    simulator: Simulator, postgres_url: str, database: Database
) -> None:
    async with host("first", postgres_url, database, simulator) as first:
        await asyncio.sleep(30)
        first.lose_database()
        await asyncio.sleep(30)
    assert "first" in repr(first.worker)
