"""The poller: what changed and when, and what a failing poll means."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from random import Random
from uuid import UUID

import pytest
from attrs import evolve

from jarai_async import (
    ClosedError,
    JaraiClient,
    NotFoundError,
    Polling,
    Production,
    RateLimit,
    Status,
    _clock,
)
from jarai_async._api import endpoints
from jarai_async._api.codec import body_of
from jarai_async._api.models import parse_id
from jarai_async._http.request_log import RequestLog
from jarai_async._polling.poller import Poller
from jarai_async._polling.watch import Change, Watch
from jarai_async._ratelimit.limiter import RateLimiter
from jarai_async._ratelimit.scheduler import Scheduler
from jarai_async.simulator import SimulatedProduction, Simulator
from tests.support.scenarios import request_for


def long_queue(_: Random, __: str) -> list[tuple[str, float]]:
    return [("Queued", 500.0), ("Producing", 100_000.0), ("AwaitingApproval", 5.0), ("Distributing", 50.0)]


async def create(client: JaraiClient, simulator: Simulator, key: str, log: RequestLog) -> Production:
    request = request_for(simulator)
    call = endpoints.submit(request.account_id, body_of(request), key)
    return await client.engine.sender.submit_with_retries(call, log)


@asynccontextmanager
async def submitted(simulator: Simulator) -> AsyncIterator[tuple[JaraiClient, Watch]]:
    """Open a client with one production that has just been submitted, and a watch of it."""
    async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
        log = RequestLog()
        production = await create(client, simulator, "key", log)
        yield client, client.engine.poller.watch(production, Polling(), log)


@pytest.fixture
async def queued() -> AsyncIterator[Simulator]:
    """Its productions are Queued for 500 s."""
    async with Simulator(durations=long_queue, failure_rate=0, latency=0) as simulator:
        yield simulator


def polls(simulator: Simulator) -> list[float]:
    return [request.arrived for request in simulator.requests if request.route == "fetch"]


async def follow(client: JaraiClient, simulator: Simulator) -> list[tuple[Change, float]]:
    """Submit one and watch it to its end."""
    log = RequestLog()
    production = await create(client, simulator, str(_clock.monotonic()), log)
    watch, changes = client.engine.poller.watch(production, Polling(), log), []
    while not watch.status.is_terminal:
        changes.append((await client.engine.poller.wait_for_change(watch), _clock.wall()))
    return changes


def check_moments(changes: list[tuple[Change, float]], truth: SimulatedProduction) -> None:
    starts = {status: truth.wall(moment) for moment, status in truth.timeline}
    ends = {one: truth.wall(moment) for (_, one), (moment, _) in pairwise(truth.timeline)}
    for change, seen in changes:
        assert change.after.timestamp() <= ends[change.previous] + 1e-3
        assert starts[change.production.status] <= seen + 1e-3
        assert change.after.timestamp() <= seen


@pytest.mark.parametrize("latency", [0.05, 3.0])
async def test_a_change_is_between_its_two_moments(latency: float) -> None:
    """However slow the answers, the old status ended after `after`, the new one began before it was seen."""
    async with (
        Simulator(approval="auto", latency=latency) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        followed = await asyncio.gather(*(follow(client, simulator) for _ in range(8)))
        for changes in followed:
            check_moments(changes, simulator.productions[changes[0][0].production.id])
            assert changes[-1][0].production.status.is_terminal


async def test_moments_are_as_close_as_the_polls(queued: Simulator) -> None:
    """`after` is the last poll that saw the old status, the next one saw the new one."""
    async with submitted(queued) as (client, watch):
        change = await client.engine.poller.wait_for_change(watch)
        truth = queued.productions[change.production.id]
        assert change.production.status == Status.PRODUCING
        moments = [truth.wall(moment) for moment in polls(queued)[-2:]]
        assert [change.after.timestamp(), _clock.wall()] == pytest.approx(moments)
        assert watch.since == pytest.approx(sum(polls(queued)[-2:]) / 2)


async def test_a_poll_that_fails_is_made_again_less_and_less_often(queued: Simulator) -> None:
    """Failures of any kind are no errors for who waits, and double the gap between polls."""
    async with submitted(queued) as (client, watch):
        for kind in ("internal_error", "cut_body", "gateway_html", "truncated_json", "not_found"):
            queued.faults.add(kind, on="fetch")
        change = await client.engine.poller.wait_for_change(watch)
        assert change.production.status == Status.PRODUCING
        gaps = [later - earlier for earlier, later in pairwise(polls(queued)[:6])]
        assert gaps == pytest.approx([10, 20, 40, 80, 160], rel=0.02)
        assert watch.failures == watch.not_found == 0


async def test_a_429_is_no_failure_of_a_poll(queued: Simulator) -> None:
    """It pauses the budget, and the production is asked again as soon as that is over."""
    async with submitted(queued) as (client, watch):
        queued.faults.add("rate_limited", on="fetch", seconds=60)
        change = await client.engine.poller.wait_for_change(watch)
        first, second = polls(queued)[:2]
        assert 60 <= second - first <= 67
        assert change.production.status == Status.PRODUCING


async def test_what_is_missing_for_five_minutes_is_not_found(queued: Simulator) -> None:
    """A 404 is waited out at first; after five minutes and three of them it is the answer."""
    async with submitted(queued) as (client, watch):
        queued.faults.add("not_found", on="fetch", times=None)
        with pytest.raises(NotFoundError):
            await client.engine.poller.wait_for_change(watch)
        assert polls(queued)[-1] - polls(queued)[0] >= 300
        assert polls(queued)[-2] - polls(queued)[0] < 300
        assert len(polls(queued)) >= 3


async def test_only_404s_count_towards_not_found(queued: Simulator) -> None:
    """After an outage two 404s that are far apart are not enough: it takes three in a row."""
    async with submitted(queued) as (client, watch):
        queued.faults.add("internal_error", on="fetch", times=7)
        queued.faults.add("not_found", on="fetch", times=2)
        queued.faults.add("internal_error", on="fetch", times=1)
        queued.faults.add("not_found", on="fetch", times=2)
        change = await client.engine.poller.wait_for_change(watch)
        assert change.production.status == Status.PRODUCING
        queued.faults.add("not_found", on="fetch", times=None)
        with pytest.raises(NotFoundError):
            await client.engine.poller.wait_for_change(watch)


async def test_nothing_is_polled_that_nobody_waits_for(queued: Simulator) -> None:
    """Polls begin with the first wait and end with the last, and no task is left behind."""
    async with submitted(queued) as (client, watch):
        await asyncio.sleep(100)
        assert polls(queued) == []
        wait = asyncio.create_task(client.engine.poller.wait_for_change(watch))
        await asyncio.sleep(100)
        seen = len(polls(queued))
        assert seen > 5
        wait.cancel()
        await asyncio.sleep(100)
        assert len(polls(queued)) == seen
        assert not client.engine.poller.is_running
        assert watch.change is None


async def test_a_turn_that_nobody_needs_any_more_is_given_back(queued: Simulator) -> None:
    """When the last wait ends while its poll waits for a turn, no slot stays taken."""
    async with submitted(queued) as (client, watch):
        queued.faults.add("rate_limited", on="accounts", seconds=60)
        other = asyncio.create_task(client.accounts())
        wait = asyncio.create_task(client.engine.poller.wait_for_change(watch))
        await asyncio.sleep(30)
        wait.cancel()
        await other
        await asyncio.sleep(10)
        assert polls(queued) == []
        assert client.engine.limiter.in_flight == 0
        assert not client.engine.poller.is_running


async def test_a_watch_can_be_awaited_again(queued: Simulator) -> None:
    """After a wait was cancelled the next goes on, even if it begins before the first has noticed."""
    async with submitted(queued) as (client, watch):
        first = asyncio.create_task(client.engine.poller.wait_for_change(watch))
        await asyncio.sleep(50)
        first.cancel()
        change = await client.engine.poller.wait_for_change(watch)
        assert first.cancelled()
        assert change.production.status == Status.PRODUCING
        assert len(polls(queued)) == len(set(polls(queued)))


async def test_a_watch_is_for_one_waiter_at_a_time(queued: Simulator) -> None:
    """A second waiter is refused, rather than leaving the first to wait for ever."""
    async with submitted(queued) as (client, watch):
        first = asyncio.create_task(client.engine.poller.wait_for_change(watch))
        await asyncio.sleep(1)
        with pytest.raises(RuntimeError, match="another caller"):
            await client.engine.poller.wait_for_change(watch)
        assert (await first).production.status == Status.PRODUCING


async def test_two_watches_of_one_production_both_see_the_change(queued: Simulator) -> None:
    """Each watch is polled for itself."""
    async with submitted(queued) as (client, watch):
        other = client.engine.poller.watch(watch.production, Polling(), RequestLog())
        changes = await asyncio.gather(*map(client.engine.poller.wait_for_change, (watch, other)))
        assert {change.production.status for change in changes} == {Status.PRODUCING}


async def test_what_is_learned_elsewhere_ends_the_wait(queued: Simulator) -> None:
    """A snapshot with another status is a change; one with the same status is news that saves a poll."""
    async with submitted(queued) as (client, watch):
        wait = asyncio.create_task(client.engine.poller.wait_for_change(watch))
        await asyncio.sleep(1)
        client.engine.poller.observe(watch, watch.production, _clock.utc())
        assert not wait.done()
        cancelled = evolve(watch.production, status=Status.CANCELLED)
        client.engine.poller.observe(watch, cancelled, _clock.utc())
        client.engine.poller.observe(watch, watch.production, _clock.utc())  # too late to count
        assert (await wait).production.status == Status.CANCELLED


async def test_closing_ends_every_wait_and_leaves_no_task(queued: Simulator) -> None:
    """Who waits when the client is closed is told so, whether a poll is on its way or not."""
    async with submitted(queued) as (client, _):
        others = asyncio.all_tasks()
        submits = [await client.submit(request_for(queued)) for _ in range(20)]
        waits = [asyncio.create_task(client.wait(one.id)) for one in submits]
        await asyncio.sleep(60)
        queued.faults.add("hang", on="fetch", times=3)
        await asyncio.sleep(10)
        assert client.engine.poller.is_polling
        await client.close()
        async with asyncio.timeout(1):
            results = await asyncio.gather(*waits, return_exceptions=True)
        assert {type(result) for result in results} == {ClosedError}
        assert not client.engine.poller.is_polling
        await asyncio.sleep(1)
        assert {task for task in asyncio.all_tasks() - others if "jarai" in task.get_name()} == set()


async def test_a_bug_in_reading_reaches_who_waits() -> None:
    """What is not an error of the API's is not swallowed as a failed poll."""

    async def read(_: str, __: int, ___: RequestLog) -> Production | None:
        raise ZeroDivisionError

    poller = Poller(Scheduler(RateLimiter(RateLimit()), Random(1)), read)
    production = Production(parse_id(UUID(int=1)), Status.QUEUED)
    with pytest.raises(ZeroDivisionError):
        await poller.wait_for_change(poller.watch(production, Polling(), RequestLog()))


def learned(client: JaraiClient, status: Status) -> tuple[float, float]:
    """Transitions out of a status and seconds in it, as the client has counted them."""
    counts = [
        one for one in client.engine.poller.sojourns.export_state()["counts"] if one["status"] == status
    ]
    return sum(sum(one["transitions"]) for one in counts), sum(sum(one["seconds"]) for one in counts)


async def test_polls_teach_how_long_a_status_lasts(queued: Simulator) -> None:
    """One that left Queued after 500 s counts once, and for about so many seconds, failed polls or not."""
    async with submitted(queued) as (client, watch):
        queued.faults.add("internal_error", on="fetch", times=3)
        await client.engine.poller.wait_for_change(watch)
        transitions, seconds = learned(client, Status.QUEUED)
        assert transitions == pytest.approx(1)
        assert seconds == pytest.approx(watch.since, abs=0.1)
        assert abs(watch.since - 500) < 60


async def test_one_that_still_waits_teaches_as_well(queued: Simulator) -> None:
    """Its seconds count as they pass."""
    async with submitted(queued) as (client, watch):
        wait = asyncio.create_task(client.engine.poller.wait_for_change(watch))
        await asyncio.sleep(300)
        transitions, seconds = learned(client, Status.QUEUED)
        assert transitions == 0
        assert seconds == pytest.approx(watch.seen)
        assert seconds > 200
        wait.cancel()


async def test_a_wait_that_began_later_teaches_nothing_of_its_first_status(queued: Simulator) -> None:
    """How long it had been in it is not known; the next status begins before its eyes."""
    async with submitted(queued) as (client, first):
        await asyncio.sleep(400)
        wait = asyncio.create_task(client.wait(first.production.id))
        await asyncio.sleep(1000)
        assert learned(client, Status.QUEUED) == (0, 0)
        assert learned(client, Status.PRODUCING)[1] > 500
        wait.cancel()


async def test_a_cancelled_production_might_have_stayed(queued: Simulator) -> None:
    """Cancelling it is no change of its own."""
    async with submitted(queued) as (client, watch):
        wait = asyncio.create_task(client.engine.poller.wait_for_change(watch))
        await asyncio.sleep(100)
        cancelled = await client.cancel(watch.production.id)
        client.engine.poller.observe(watch, cancelled, _clock.utc())
        assert (await wait).production.status == Status.CANCELLED
        transitions, seconds = learned(client, Status.QUEUED)
        assert transitions == 0
        assert seconds == pytest.approx(100, abs=1)
