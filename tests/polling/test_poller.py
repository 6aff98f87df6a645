"""The poller: when it reports a change, what a failed poll means, and how waits end."""

import asyncio
from datetime import timedelta
from itertools import pairwise
from random import Random
from uuid import UUID

import pytest
from attrs import evolve

from jarai_async import (
    BadRequestError,
    ClosedError,
    InvalidResponseError,
    JaraiClient,
    JaraiError,
    NotFoundError,
    PermissionDeniedError,
    Polling,
    Production,
    RateLimit,
    Status,
    _clock,
)
from jarai_async._api.models import parse_id
from jarai_async._http.request_log import RequestLog
from jarai_async._polling.poller import Poller
from jarai_async._polling.watch import Change
from jarai_async._ratelimit.limiter import RateLimiter
from jarai_async._ratelimit.scheduler import Scheduler
from jarai_async.simulator import FaultKind, SimulatedProduction, Simulator
from jarai_async.simulator._api.responses import Response
from jarai_async.webhooks import StepCompleted
from tests.support.scenarios import request_for
from tests.support.watches import submit, watched
from tests.support.webhook_events import webhook_event


def polls(simulator: Simulator) -> list[float]:
    """Return the times of all polls."""
    return [request.arrived for request in simulator.requests if request.route == "fetch"]


# --- Changes ---------------------------------------------------------------------------------------


async def watch_to_the_end(client: JaraiClient, simulator: Simulator) -> list[tuple[Change, float]]:
    """Submit a production and watch it until it ends; return its changes and when they were seen."""
    log = RequestLog()
    production = await submit(client, simulator, str(_clock.monotonic()), log)
    watch, changes = client.engine.poller.watch(production, Polling(), log), []
    while not watch.status.is_terminal:
        changes.append((await client.engine.poller.wait_for_change(watch), _clock.wall()))
    return changes


def check_times(changes: list[tuple[Change, float]], actual: SimulatedProduction) -> None:
    began = {status: actual.wall(time) for time, status in actual.timeline}
    ended = {status: actual.wall(time) for (_, status), (time, _) in pairwise(actual.timeline)}
    for change, seen in changes:
        assert change.after.timestamp() <= ended[change.previous] + 1e-3
        assert began[change.production.status] <= seen + 1e-3
        assert change.after.timestamp() <= seen


@pytest.mark.parametrize("latency", [0.05, 3.0])
async def test_change_happened_between_its_two_times(latency: float) -> None:
    """The old status ended after `after`, and the new one began before it was seen, at any latency."""
    async with (
        Simulator(approval="auto", latency=latency) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        for changes in await asyncio.gather(*(watch_to_the_end(client, simulator) for _ in range(4))):
            check_times(changes, simulator.productions[changes[0][0].production.id])
            assert changes[-1][0].production.status.is_terminal


async def test_times_of_a_change_are_those_of_two_polls(queued: Simulator) -> None:
    """`after` is the time of the last poll that saw the old status; the next poll saw the new one."""
    async with watched(queued) as (client, watch):
        change = await client.engine.poller.wait_for_change(watch)
        actual = queued.productions[change.production.id]
        assert change.production.status == Status.PRODUCING
        times = [actual.wall(time) for time in polls(queued)[-2:]]
        assert [change.after.timestamp(), _clock.wall()] == pytest.approx(times)
        assert watch.since == pytest.approx(sum(polls(queued)[-2:]) / 2)


async def test_observation_of_another_caller_ends_the_wait(queued: Simulator) -> None:
    """A snapshot with another status is a change; one that arrives after the change is ignored."""
    async with watched(queued) as (client, watch):
        wait = asyncio.create_task(client.engine.poller.wait_for_change(watch))
        await asyncio.sleep(1)
        client.engine.poller.observe(watch, watch.production, _clock.utc())
        assert not wait.done()
        cancelled = evolve(watch.production, status=Status.CANCELLED)
        client.engine.poller.observe(watch, cancelled, _clock.utc())
        client.engine.poller.observe(watch, watch.production, _clock.utc())  # too late
        assert (await wait).production.status == Status.CANCELLED


async def test_response_that_arrives_after_a_newer_one_is_not_used(queued: Simulator) -> None:
    """A slow poll began before the change, and an event led to another poll after it."""
    async with watched(queued) as (client, watch):
        poller = client.engine.poller
        wait = asyncio.create_task(poller.wait_for_change(watch))
        await asyncio.sleep(490)
        queued.faults.add("slow", on="fetch", seconds=40)
        poller.poll_now(watch)
        await asyncio.sleep(20)
        poller.on_webhook(watch, webhook_event(StepCompleted, step=1))
        assert (await wait).production.status == Status.PRODUCING
        again = asyncio.create_task(poller.wait_for_change(watch))
        await asyncio.sleep(60)
        assert not again.done()
        again.cancel()
    assert queued.faults.fired["slow"] == 1


@pytest.mark.parametrize("kind", ["", "unknown_status"])
async def test_production_that_does_not_change_is_reported_once(
    queued: Simulator, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """After ten times the expected time, also in a status that this version does not know."""
    begin = _clock.utc()
    async with watched(queued, min_interval=300) as (client, watch):
        await client.engine.poller.wait_for_change(watch)
        if kind:
            queued.faults.add(kind, on="fetch", times=None)
            await client.engine.poller.wait_for_change(watch)
        wait = asyncio.create_task(client.engine.poller.wait_for_change(watch))
        await asyncio.sleep(3_600)
        assert "longer than usual" not in caplog.text
        await asyncio.sleep(86_400)
        assert not wait.done()
        wait.cancel()
    (report,) = [text for record in caplog.records if "longer than usual" in (text := record.getMessage())]
    assert (
        f"{watch.production.id} has been {'Rendering' if kind else 'Producing'} since {begin:%Y-%m-%d} "
        in report
    )


async def test_production_that_ends_during_a_long_outage_is_not_reported(
    queued: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """The first poll after the outage sees the end, so it is not overdue."""
    async with watched(queued) as (client, watch):
        await client.engine.poller.wait_for_change(watch)
        wait = asyncio.create_task(client.engine.poller.wait_for_change(watch))
        queued.faults.add("internal_error", on="fetch", times=None)
        await asyncio.sleep(101_000)
        queued.faults.clear()
        assert (await wait).production.status == Status.PUBLISHED
    assert "longer than usual" not in caplog.text


async def test_wait_for_a_person_is_reported_after_a_day(caplog: pytest.LogCaptureFixture) -> None:
    """Approval may take a person hours (documented), although it usually takes seconds."""
    async with (
        Simulator(
            approval="person", durations=lambda *_: [("Queued", 5.0), ("Producing", 60.0)]
        ) as simulator,
        JaraiClient(
            simulator.api_key, base_url=simulator.base_url, rate_limit=RateLimit(per_day=300)
        ) as client,
    ):
        production = await client.submit(request_for(simulator))
        wait = asyncio.create_task(client.wait(production.id))
        await asyncio.sleep(80_000)
        assert "longer than usual" not in caplog.text
        await asyncio.sleep(80_000)
        wait.cancel()
    assert caplog.text.count("has been AwaitingApproval since") == 1


# --- Failed polls ----------------------------------------------------------------------------------


async def test_failed_polls_are_repeated_less_and_less_often(queued: Simulator) -> None:
    """A failed poll of any kind is not an error for the caller, and doubles the time to the next poll."""
    async with watched(queued) as (client, watch):
        for kind in ("internal_error", "cut_body", "gateway_html", "truncated_json", "not_found"):
            queued.faults.add(kind, on="fetch")
        change = await client.engine.poller.wait_for_change(watch)
        assert change.production.status == Status.PRODUCING
        gaps = [later - earlier for earlier, later in pairwise(polls(queued)[:6])]
        assert gaps == pytest.approx([10, 20, 40, 80, 160], rel=0.02)
        assert watch.failures == watch.refusals == 0


async def test_failed_poll_is_not_repeated_before_the_server_asks_for_it(queued: Simulator) -> None:
    """`retryAfterSeconds` of a 503 is the least time to the next poll, up to `max_interval`."""
    async with watched(queued) as (client, watch):
        wait = {"error": "SERVICE_UNAVAILABLE", "message": "Maintenance.", "retryAfterSeconds": 120}
        queued.faults.kinds["maintenance"] = FaultKind(lambda _, __: Response(503, wait), executes=False)
        queued.faults.add("maintenance", on="fetch")
        await client.engine.poller.wait_for_change(watch)
        first, second = polls(queued)[:2]
        assert 120 <= second - first < 125
        assert watch.retry_after == 0


async def test_polls_that_keep_failing_are_reported_again(
    queued: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A production that JARAI can never show keeps its slot, so one warning at the start is not enough."""
    async with watched(queued) as (client, watch):
        queued.faults.add("internal_error", on="fetch", times=None)
        wait = asyncio.create_task(client.engine.poller.wait_for_change(watch))
        await asyncio.sleep(2.5 * 86_400)
        assert not wait.done()
        wait.cancel()
    warnings = [record for record in caplog.records if "an outage of JARAI (poll)" in record.message]
    assert len([record for record in warnings if record.levelname == "WARNING"]) == 3


async def test_429_is_not_a_failed_poll(queued: Simulator) -> None:
    """It pauses all requests, and the production is polled again as soon as the pause is over."""
    async with watched(queued) as (client, watch):
        queued.faults.add("rate_limited", on="fetch", seconds=60)
        change = await client.engine.poller.wait_for_change(watch)
        first, second = polls(queued)[:2]
        assert 60 <= second - first <= 67
        assert change.production.status == Status.PRODUCING


async def test_production_is_not_found_after_five_minutes_of_404s(queued: Simulator) -> None:
    """404s are waited out for five minutes, and for at least three polls."""
    async with watched(queued) as (client, watch):
        queued.faults.add("not_found", on="fetch", times=None)
        with pytest.raises(NotFoundError):
            await client.engine.poller.wait_for_change(watch)
        assert polls(queued)[-1] - polls(queued)[0] >= 300
        assert polls(queued)[-2] - polls(queued)[0] < 300
        assert len(polls(queued)) >= 3


async def test_not_found_takes_three_404s_in_a_row(queued: Simulator) -> None:
    """Two 404s that are far apart are not enough, and other failures in between start the count again."""
    async with watched(queued) as (client, watch):
        queued.faults.add("internal_error", on="fetch", times=7)
        queued.faults.add("not_found", on="fetch", times=2)
        queued.faults.add("internal_error", on="fetch", times=1)
        queued.faults.add("not_found", on="fetch", times=2)
        change = await client.engine.poller.wait_for_change(watch)
        assert change.production.status == Status.PRODUCING
        queued.faults.add("not_found", on="fetch", times=None)
        with pytest.raises(NotFoundError):
            await client.engine.poller.wait_for_change(watch)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("forbidden", PermissionDeniedError),
        ("redirect", InvalidResponseError),
        ("bad_request", BadRequestError),
    ],
)
async def test_refusal_that_lasts_for_an_hour_ends_the_wait(
    queued: Simulator, kind: str, error: type[JaraiError]
) -> None:
    """Until then the production is polled less and less often: at most every five minutes."""
    refusal = Response(400, {"error": "INVALID_REQUEST", "message": "no", "retryAfterSeconds": None})
    queued.faults.kinds["bad_request"] = FaultKind(lambda _, __: refusal, executes=False)
    async with watched(queued) as (client, _):
        waiting = asyncio.create_task(client.wait(next(iter(queued.productions))))
        await asyncio.sleep(1)
        queued.faults.add(kind, on="fetch", times=None)
        with pytest.raises(error):
            await waiting
        refused = polls(queued)[1:]
        assert 3_600 <= refused[-1] - refused[0] < 4_000
        assert len(refused) < 25


async def test_other_failures_between_refusals_do_not_prolong_the_wait(queued: Simulator) -> None:
    async with watched(queued) as (client, watch):
        queued.faults.add("internal_error", on="fetch", times=None, probability=0.5)
        queued.faults.add("forbidden", on="fetch", times=None)
        with pytest.raises(PermissionDeniedError):
            await asyncio.wait_for(client.engine.poller.wait_for_change(watch), 6 * 3_600)


async def test_refusals_for_less_than_an_hour_are_waited_out(queued: Simulator) -> None:
    """A person may have made the partner active again."""
    async with watched(queued) as (client, watch):
        queued.faults.add("forbidden", on="fetch", times=10)
        change = await client.engine.poller.wait_for_change(watch)
        assert change.production.status == Status.PRODUCING


async def test_bug_in_a_poll_reaches_the_caller() -> None:
    """An exception that is not an error of the library is not treated as a failed poll."""

    async def read(_: str, __: int, ___: RequestLog) -> Production | None:
        raise ZeroDivisionError

    poller = Poller(Scheduler(RateLimiter(RateLimit()), Random(1)), read)
    production = Production(parse_id(UUID(int=1)), Status.QUEUED)
    with pytest.raises(ZeroDivisionError):
        await poller.wait_for_change(poller.watch(production, Polling(), RequestLog()))


# --- Waits -----------------------------------------------------------------------------------------


async def test_production_is_polled_only_while_a_caller_waits(queued: Simulator) -> None:
    """Polls begin with the first wait and end with the last, and no task leaks."""
    async with watched(queued) as (client, watch):
        await asyncio.sleep(100)
        assert polls(queued) == []
        wait = asyncio.create_task(client.engine.poller.wait_for_change(watch))
        await asyncio.sleep(100)
        count = len(polls(queued))
        assert count > 5
        wait.cancel()
        await asyncio.sleep(100)
        assert len(polls(queued)) == count
        assert not client.engine.poller.is_running
        assert watch.change is None


async def test_slot_is_released_when_the_wait_is_cancelled_before_its_poll(queued: Simulator) -> None:
    """A wait that is cancelled while its poll waits for a slot leaks no slot."""
    async with watched(queued) as (client, watch):
        queued.faults.add("rate_limited", on="accounts", seconds=60)
        accounts = asyncio.create_task(client.accounts())
        wait = asyncio.create_task(client.engine.poller.wait_for_change(watch))
        await asyncio.sleep(30)
        wait.cancel()
        await accounts
        await asyncio.sleep(10)
        assert polls(queued) == []
        assert client.engine.limiter.in_flight == 0
        assert not client.engine.poller.is_running


async def test_watch_can_be_awaited_again_after_a_cancelled_wait(queued: Simulator) -> None:
    """The second wait may begin before the first has ended, and causes no duplicate polls."""
    async with watched(queued) as (client, watch):
        first = asyncio.create_task(client.engine.poller.wait_for_change(watch))
        await asyncio.sleep(50)
        first.cancel()
        change = await client.engine.poller.wait_for_change(watch)
        assert first.cancelled()
        assert change.production.status == Status.PRODUCING
        assert len(polls(queued)) == len(set(polls(queued)))


async def test_watch_has_one_waiter_at_a_time(queued: Simulator) -> None:
    """A second waiter raises RuntimeError; otherwise the first would wait for ever."""
    async with watched(queued) as (client, watch):
        first = asyncio.create_task(client.engine.poller.wait_for_change(watch))
        await asyncio.sleep(1)
        with pytest.raises(RuntimeError, match="another caller"):
            await client.engine.poller.wait_for_change(watch)
        assert (await first).production.status == Status.PRODUCING


async def test_two_watches_of_one_production_both_see_a_change(queued: Simulator) -> None:
    """Each watch has its own polls."""
    async with watched(queued) as (client, watch):
        other = client.engine.poller.watch(watch.production, Polling(), RequestLog())
        changes = await asyncio.gather(*map(client.engine.poller.wait_for_change, (watch, other)))
        assert {change.production.status for change in changes} == {Status.PRODUCING}


async def test_closing_the_client_ends_all_waits_and_tasks(queued: Simulator) -> None:
    """Waits raise ClosedError, also while polls are in flight, and no task leaks."""
    async with watched(queued) as (client, _):
        other_tasks = asyncio.all_tasks()
        productions = [await client.submit(request_for(queued)) for _ in range(20)]
        waits = [asyncio.create_task(client.wait(production.id)) for production in productions]
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
        assert {task for task in asyncio.all_tasks() - other_tasks if "jarai" in task.get_name()} == set()


async def test_watch_that_is_resumed_is_as_old_as_what_was_last_seen(queued: Simulator) -> None:
    """It continues from a time of the wall clock; one in the future, of a wrong clock, counts as now."""
    async with JaraiClient(queued.api_key, base_url=queued.base_url) as client:
        await asyncio.sleep(1000)
        now, production = _clock.monotonic(), await client.submit(request_for(queued))
        for seconds, age in ((300, 300), (-300, 0)):
            watch = client.engine.poller.watch(production, Polling(), RequestLog())
            watch.resume(_clock.utc() - timedelta(seconds=seconds))
            assert now - watch.since == pytest.approx(age, abs=1)
            assert watch.polled == watch.seen == watch.since
            assert not watch.age_known
