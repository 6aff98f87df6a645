"""`Ticket.waiting_for` says why a production does not go on: one test for each reason."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jarai_async import (
    JaraiClient,
    Orchestrator,
    RateLimit,
    Status,
    Waiting,
    WaitReason,
)
from jarai_async.simulator import Deliverability, SimulatedEventLoop, Simulator
from tests.support.orchestrators import until_waiting
from tests.support.scenarios import request_for, requests_for
from tests.support.webhook_scenarios import with_webhooks

MIDNIGHT = datetime(2026, 1, 2, tzinfo=UTC)  # the first one in simulated time


def now() -> datetime:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedEventLoop)
    return datetime.fromtimestamp(loop.wall_time(), UTC)


@asynccontextmanager
async def limited(simulator: Simulator, **limits: int) -> AsyncIterator[Orchestrator]:
    """An orchestrator whose client may send few requests."""
    async with (
        JaraiClient(simulator.api_key, base_url=simulator.base_url, rate_limit=RateLimit(**limits)) as client,
        Orchestrator(client) as orchestrator,
    ):
        yield orchestrator


async def test_waits_for_a_slot_at_a_place_in_the_queue(simulator: Simulator, client: JaraiClient) -> None:
    """It moves up when a production before it gives back its slot, or is cancelled."""
    async with Orchestrator(client, concurrency=1) as orchestrator:
        began_at = now()
        first, *others = [orchestrator.submit(request) for request in requests_for(simulator, 4)]
        waiting = await until_waiting(others[2], WaitReason.SLOT, step=0.05)
        assert waiting == Waiting(reason=WaitReason.SLOT, since=began_at, detail="place 3 in the queue")
        assert first.waiting_for is None
        await others[1].cancel()
        assert (await others[1]).state == "cancelled"
        assert [one.waiting_for and one.waiting_for.detail for one in (others[0], others[2])] == [
            "place 1 in the queue",
            "place 2 in the queue",
        ]
        assert (await first).ok
        assert others[0].waiting_for is None
        for ticket in others:
            await ticket
            assert ticket.waiting_for is None


async def test_waits_for_the_rate_limit_until_a_request_may_be_sent(simulator: Simulator) -> None:
    """At that time the next request is sent."""
    async with limited(simulator, per_minute=2) as orchestrator:
        tickets = [orchestrator.submit(request) for request in requests_for(simulator, 5)]
        await asyncio.sleep(5)
        assert [ticket.production is None for ticket in tickets] == [False, False, True, True, True]
        waiting = tickets[4].waiting_for
        assert waiting is not None
        assert waiting.until is not None
        assert waiting.reason is WaitReason.RATE_LIMIT
        assert waiting.detail == "2 requests a minute"
        assert [ticket.waiting_for for ticket in tickets[2:]] == [waiting] * 3
        await asyncio.sleep((waiting.until - now()).total_seconds() - 0.01)
        assert len(simulator.requests) == 2
        await asyncio.sleep(1)
        assert len(simulator.requests) > 2


async def test_waits_for_the_end_of_a_pause_that_jarai_asked_for(
    simulator: Simulator, client: JaraiClient
) -> None:
    """A 429 names the time."""
    simulator.faults.add("rate_limited", on="submit", seconds=40)
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(10)
        waiting = ticket.waiting_for
        assert waiting is not None
        assert waiting.reason is WaitReason.RATE_LIMIT
        assert waiting.until is not None
        assert timedelta(seconds=30) <= waiting.until - now() < timedelta(seconds=52)
        await asyncio.sleep((waiting.until - now()).total_seconds() - 0.01)
        assert len(simulator.requests) == 1
        await anext(ticket.events())
        assert ticket.waiting_for is None


async def test_waits_for_the_next_day_when_its_account_has_no_productions_left() -> None:
    """Requests without a slot wait for a slot; those of another account go on."""
    async with Simulator(tier="free", accounts=2, failure_rate=0, approval="auto") as simulator:
        other = simulator.accounts[1].account_id
        async with (
            JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
            Orchestrator(client) as orchestrator,
        ):
            tickets = [orchestrator.submit(request) for request in requests_for(simulator, 5)]
            waiting = await until_waiting(tickets[4], WaitReason.DAILY_QUOTA)
            assert waiting.detail == "its account has no productions left today"
            assert waiting.until is not None
            assert MIDNIGHT <= waiting.until < MIDNIGHT + timedelta(seconds=120)
            assert tickets[3].waiting_for == waiting
            assert "2026-01-02 00:0" in str(waiting)
            assert (await orchestrator.submit(request_for(simulator, account_id=other))).ok


async def test_waits_for_the_next_day_when_the_requests_are_used_up(simulator: Simulator) -> None:
    """A production that runs waits for its next poll, and a request for its submit."""
    async with limited(simulator, per_day=2) as orchestrator:
        running = orchestrator.submit(request_for(simulator))
        waiting = await until_waiting(running, WaitReason.DAILY_QUOTA)
        assert waiting.until == MIDNIGHT
        assert waiting.detail == "the requests of today are kept for submits and results"
        tickets = [orchestrator.submit(request) for request in requests_for(simulator, 4)]
        waiting = await until_waiting(tickets[-1], WaitReason.DAILY_QUOTA)
        assert waiting == Waiting(
            reason=WaitReason.DAILY_QUOTA, until=MIDNIGHT, detail="the requests of today are used up"
        )


async def test_polls_that_are_spread_over_the_day_are_not_logged_as_a_quota_that_is_used_up(
    simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """They are minutes apart, so that the rest of the quota lasts."""
    async with limited(simulator, per_day=10) as orchestrator:
        assert (await orchestrator.submit(request_for(simulator))).ok
    assert simulator.count() < 10
    assert "used up" not in caplog.text


async def test_waits_for_the_next_day_after_a_429_that_lasts_until_midnight(
    simulator: Simulator, client: JaraiClient
) -> None:
    """Also where no quota of requests is known."""
    async with Orchestrator(client) as orchestrator:
        running = orchestrator.submit(request_for(simulator))
        await anext(running.events())
        simulator.faults.add("rate_limited", on="fetch", seconds=7200)
        waiting = await until_waiting(running, WaitReason.DAILY_QUOTA)
        assert waiting.until is not None
        assert timedelta(seconds=7100) < waiting.until - now() <= timedelta(seconds=7200)
        assert orchestrator.submit(request_for(simulator)).waiting_for is None  # nothing was asked for yet
        new = orchestrator.submit(request_for(simulator))
        assert (await until_waiting(new, WaitReason.DAILY_QUOTA)).until == waiting.until


async def test_waits_for_an_api_key_that_is_accepted(simulator: Simulator, client: JaraiClient) -> None:
    """Since the first rejection; productions that run wait, too, and go on with the key."""
    async with Orchestrator(client) as orchestrator:
        running = orchestrator.submit(request_for(simulator))
        await anext(running.events())
        simulator.faults.add("unauthorized", on="any", times=None)
        waiting = await until_waiting(running, WaitReason.API_KEY, step=0.05)
        assert waiting.since is not None
        assert now() - waiting.since < timedelta(seconds=1)
        new = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(3600)
        assert running.waiting_for == new.waiting_for == waiting
        simulator.faults.clear()
        assert [(await ticket).state for ticket in (running, new)] == ["published", "published"]


async def test_waits_for_the_end_of_an_outage_since_the_first_failure(
    simulator: Simulator, client: JaraiClient
) -> None:
    """JARAI's own words are shown."""
    await client.accounts()
    simulator.faults.add("unavailable", on="submit", times=None)
    async with Orchestrator(client) as orchestrator:
        tickets = [orchestrator.submit(request) for request in requests_for(simulator, 3)]
        began_at = now()
        await asyncio.sleep(1800)
        for ticket in tickets:
            waiting = ticket.waiting_for
            assert waiting is not None
            assert waiting.reason is WaitReason.OUTAGE
            assert waiting.since is not None
            assert abs(waiting.since - began_at) < timedelta(seconds=5)
            assert "SERVICE_UNAVAILABLE" in waiting.detail
        simulator.faults.clear()
        for ticket in tickets:
            assert (await ticket).ok


async def test_waits_for_earlier_submits_of_its_account() -> None:
    """They are sent one after the other while the account may have a daily quota."""
    async with (
        Simulator(tier="standard", latency=5) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client) as orchestrator,
    ):
        await client.accounts()
        tickets = [orchestrator.submit(request) for request in requests_for(simulator, 3)]
        waiting = await until_waiting(tickets[2], WaitReason.EARLIER_SUBMITS)
        assert waiting.detail == "2 of its account are sent before"
        assert tickets[0].waiting_for is None
        await anext(tickets[0].events())
        assert tickets[2].waiting_for == Waiting(
            reason=WaitReason.EARLIER_SUBMITS, detail="1 of its account are sent before"
        )


async def test_waits_for_the_approval_of_a_person() -> None:
    """Since the production was ready."""
    async with (
        Simulator(approval="person", failure_rate=0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client) as orchestrator,
    ):
        ticket = orchestrator.submit(request_for(simulator))
        waiting = await until_waiting(ticket, WaitReason.APPROVAL)
        assert ticket.status == Status.AWAITING_APPROVAL
        await asyncio.sleep(7200)
        assert ticket.waiting_for == waiting
        assert waiting.since is not None
        assert timedelta(hours=2) <= now() - waiting.since < timedelta(hours=3)
        simulator.approve(str(ticket.production_id))
        assert (await ticket).ok


async def test_waits_for_a_webhook_after_a_submit_without_a_response() -> None:
    """For a minute at most."""
    async with with_webhooks(Deliverability(delay=40.0)) as (simulator, client, receiver):
        await client.accounts()
        simulator.faults.add("reset_after", on="submit")
        async with Orchestrator(client, webhooks=receiver) as orchestrator:
            ticket = orchestrator.submit(request_for(simulator))
            waiting = await until_waiting(ticket, WaitReason.WEBHOOK, step=0.05)
            assert waiting.until is not None
            assert timedelta(seconds=59) < waiting.until - now() <= timedelta(seconds=60)
            await anext(ticket.events())
            assert ticket.waiting_for is None


@pytest.mark.parametrize("route", ["fetch", "deliverables"])
async def test_waits_for_the_next_attempt_after_one_that_failed(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, route: str
) -> None:
    """A poll, or a list of deliverables: the reason of the failure is shown."""
    simulator.faults.add("internal_error", on=route, times=2)
    async with Orchestrator(client, download_to=tmp_path) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        waiting = await until_waiting(ticket, WaitReason.RETRY, step=0.05)
        assert waiting.detail.startswith("An unexpected error occurred (500, INTERNAL_ERROR")
        assert (await ticket).ok


@pytest.mark.parametrize(
    ("route", "server"), [("fetch", "JARAI"), ("deliverables", "JARAI"), ("download", "blob storage")]
)
async def test_waits_for_the_end_of_an_outage_of_polls_and_of_files(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, route: str, server: str
) -> None:
    """Also while an attempt is being made, and not any more when requests are answered."""
    simulator.faults.add("hang_before", on=route, times=None)
    async with Orchestrator(client, download_to=tmp_path) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        waiting = await until_waiting(ticket, WaitReason.OUTAGE, step=0.5)
        assert waiting.detail.startswith(f"{server}: ")
        assert waiting.since is not None
        assert timedelta(seconds=29) < now() - waiting.since < timedelta(seconds=300)
        for _ in range(100):
            await asyncio.sleep(1)
            assert ticket.waiting_for == waiting
        simulator.faults.clear()
        assert (await ticket).ok


@pytest.mark.parametrize(("kind", "detail"), [("empty_list", "not complete yet"), ("not_ready", "409")])
async def test_waits_for_a_list_of_deliverables_that_lags_behind(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, kind: str, detail: str
) -> None:
    """It is empty, or refused, for some seconds after the end."""
    simulator.faults.add(kind, on="deliverables", times=3)
    async with Orchestrator(client, download_to=tmp_path) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        waiting = await until_waiting(ticket, WaitReason.RETRY)
        assert ticket.status == Status.PUBLISHED
        assert detail in waiting.detail
        assert waiting.until is not None
        assert timedelta(0) < waiting.until - now() <= timedelta(seconds=5)
        assert (await ticket).ok


async def test_waits_for_the_next_attempt_while_jarai_was_never_reached(simulator: Simulator) -> None:
    """That may be a wrong URL rather than an outage."""
    async with (
        JaraiClient(simulator.api_key, base_url="http://127.0.0.1:1") as client,
        Orchestrator(client) as orchestrator,
    ):
        ticket = orchestrator.submit(request_for(simulator))
        waiting = await until_waiting(ticket, WaitReason.RETRY, step=0.05)
        assert waiting.until is not None
        assert timedelta(seconds=0) < waiting.until - now() < timedelta(seconds=20)
        assert "no connection" in waiting.detail


async def test_reason_in_json_and_as_text(simulator: Simulator, client: JaraiClient) -> None:
    """As `waitingFor` of the ticket; null where it waits for nothing."""
    async with Orchestrator(client, concurrency=1) as orchestrator:
        first, second = [orchestrator.submit(request) for request in requests_for(simulator, 2)]
        waiting = await until_waiting(second, WaitReason.SLOT, step=0.05)
        assert waiting.since is not None
        assert json.loads(json.dumps(second.to_dict()))["waitingFor"] == {
            "reason": "slot",
            "since": waiting.since.isoformat(),
            "until": None,
            "detail": "place 1 in the queue",
        }
        assert str(waiting) == "slot since 2026-01-01 09:00:00 UTC: place 1 in the queue"
        assert first.to_dict()["waitingFor"] is None


def test_detail_shows_no_signed_url_and_no_control_characters() -> None:
    """Some details quote a server."""
    waiting = Waiting(reason=WaitReason.RETRY, detail="https://blob/x?sig=secret \x1b[2J\nfailed")
    assert waiting.detail == r"https://blob/x \x1b[2J\nfailed"
