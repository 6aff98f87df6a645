"""Webhooks and polls together: the first to show a change counts, and each change is one event."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from jarai_async import Finished, JaraiClient, Orchestrator, Polling, Status, StatusChanged, Ticket
from jarai_async._clock import wall
from jarai_async._orchestrator import webhook_router
from jarai_async._orchestrator.webhook_router import WebhookRouter
from jarai_async._polling.watch import Watch
from jarai_async.receiver import Receiver
from jarai_async.simulator import Deliverability, SimulatedProduction, Simulator
from jarai_async.webhooks import ProductionPublished, WebhookEvent
from tests.support.deliveries import SECRET, body, deliver
from tests.support.scenarios import request_for
from tests.support.webhook_events import webhook_event
from tests.support.webhook_scenarios import lags, long_stages, run_batch, with_manual_webhooks, with_webhooks


async def sleep_until(time: float) -> None:
    """Sleep until a time of the event loop."""
    await asyncio.sleep(time - asyncio.get_running_loop().time())


def began(production: SimulatedProduction, status: Status) -> float:
    """Return when the production enters this status, by the event loop's time."""
    return next(time for time, entered in production.timeline if entered == status)


async def test_webhooks_show_changes_within_seconds() -> None:
    """Announced changes are noticed 2 s late on average, with at most 12 requests for each production."""
    async with with_webhooks() as (simulator, client, receiver):
        events = await run_batch(Orchestrator(client, webhooks=receiver), simulator, 20)
        late = lags(simulator, events, Status.AWAITING_APPROVAL, Status.PUBLISHED)
        assert len(late) >= 35  # approved before the response to the poll, a production skips that status
        assert sum(late) / len(late) < 2
        assert sum(simulator.count(route) for route in ("submit", "fetch", "deliverables")) <= 12 * 20


async def test_unreliable_webhooks_cause_no_duplicate_events() -> None:
    """Late, lost, duplicated and reordered webhooks: every outcome, and each status once."""
    unreliable = Deliverability(delay=20, loss=0.2, duplication=0.3, reordering=0.3)
    async with with_webhooks(unreliable) as (simulator, client, receiver):
        events = await run_batch(Orchestrator(client, webhooks=receiver), simulator, 20)
    changes = Counter((event.reference, event.status) for event in events if isinstance(event, StatusChanged))
    assert set(changes.values()) == {1}
    outcomes = [event.outcome for event in events if isinstance(event, Finished)]
    assert sorted(outcome.reference for outcome in outcomes) == sorted(f"item-{n}" for n in range(20))
    assert all(outcome.ok for outcome in outcomes)


async def test_odd_webhooks_change_no_outcome() -> None:
    """Events of new types, of other partners or without any sense are acknowledged and change nothing."""
    async with with_webhooks(Deliverability(odd=1.0)) as (simulator, client, receiver):
        events = await run_batch(Orchestrator(client, webhooks=receiver), simulator, 5)
        statuses = {status for delivery in simulator.deliveries for _, status in delivery.attempts}
    outcomes = [event.outcome for event in events if isinstance(event, Finished)]
    assert [outcome.ok for outcome in outcomes] == [True] * 5
    assert len(simulator.deliveries) == 2 * 5 * 18
    assert statuses == {204}


async def test_project_type_that_disappears_from_the_status_does_not_end_the_job() -> None:
    """The project type decides how many events are to be expected while a production is Producing."""
    async with (
        with_webhooks() as (simulator, client, receiver),
        Orchestrator(client, webhooks=receiver) as orchestrator,
    ):
        ticket = orchestrator.submit(request_for(simulator))
        async for event in ticket.events():
            if isinstance(event, StatusChanged) and event.status == Status.PRODUCING:
                simulator.faults.add("odd_fields", on="fetch", times=None)
        assert (await ticket).ok


# --- Reliability -----------------------------------------------------------------------------------


async def test_receiver_without_webhooks_changes_nothing() -> None:
    """If no webhook arrives, as many requests are sent as without a receiver."""
    counts = []
    for deliverability in (Deliverability(loss=1.0), None):
        async with with_webhooks(deliverability) as (simulator, client, receiver):
            client.engine.random.seed(1)
            webhooks = receiver if deliverability else None
            await run_batch(Orchestrator(client, webhooks=webhooks), simulator, 5)
            counts.append(simulator.count("fetch"))
    assert counts[0] == counts[1]


async def test_polls_replace_webhooks_that_stop() -> None:
    """When the subscription is deleted, the silence is noticed and polls find the changes again."""
    async with with_webhooks(durations=long_stages) as (simulator, client, receiver):
        orchestrator = Orchestrator(client, webhooks=receiver)
        batch = asyncio.create_task(run_batch(orchestrator, simulator, 30))
        await asyncio.sleep(600)
        before = simulator.count("fetch")
        assert (orchestrator.statistics().webhook_coverage or 0) > 0.8
        for webhook in await client.webhooks():
            await client.delete_webhook(webhook.id)
        await asyncio.sleep(240)
        assert (orchestrator.statistics().webhook_coverage or 0) < 0.2
        assert "webhooks announce " in str(orchestrator.statistics())
        events = await batch
        assert before < 4 * 30
        assert len([event for event in events if isinstance(event, Finished)]) == 30
        late = lags(simulator, events, Status.AWAITING_APPROVAL, Status.PUBLISHED)
        assert sum(late) / len(late) < 10
        assert simulator.rate_limited == 0


async def test_webhooks_of_one_account_are_not_relied_on_for_another() -> None:
    """Productions of an account without a subscription are polled as if there were no webhooks."""
    async with with_webhooks(accounts=2) as (simulator, client, receiver):
        subscribed, other = simulator.accounts
        (webhook,) = await client.webhooks()
        await client.update_webhook(webhook.id, account_ids=[subscribed.account_id])
        requests = [
            request_for(
                simulator,
                account_id=account.account_id,
                language_id=account.language_ids[0],
                country_id=account.country_ids[0],
                avatar_id=account.avatar_ids[0],
            )
            for account in (subscribed, other)
            for _ in range(10)
        ]
        sent = Counter[str]()
        async with Orchestrator(client, webhooks=receiver) as orchestrator:
            async for event in orchestrator.run(requests):
                if isinstance(event, Finished):
                    sent[event.outcome.request.account_id] += event.outcome.request_count
    assert sent[subscribed.account_id] < sent[other.account_id] / 4


# --- Single events ---------------------------------------------------------------------------------


async def test_event_that_the_api_does_not_confirm_is_not_believed() -> None:
    """The production is polled a few times, and keeps the status that the API returns."""
    async with with_manual_webhooks() as (simulator, receiver, orchestrator):
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(200)
        before = simulator.count("fetch")
        content = body(productionId=ticket.production_id, accountId=simulator.account_id)
        assert await deliver(receiver, content) == 204
        await asyncio.sleep(60)
        assert simulator.count("fetch") - before in (4, 5)  # four, and perhaps one that was due
        assert ticket.status == Status.PRODUCING
        assert (await ticket).ok


async def test_event_that_shows_more_progress_is_polled_immediately() -> None:
    """This also applies while the poller repeats its polls after an earlier event."""
    async with with_manual_webhooks() as (simulator, receiver, orchestrator):
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(100)
        (production,) = simulator.productions.values()
        ready = began(production, Status.AWAITING_APPROVAL)
        for event_type, sequence, seconds in (("deliverable.ready", 1, -16), ("production.published", 2, 1)):
            await sleep_until(ready + seconds)
            content = body(
                event_type,
                productionId=production.production_id,
                accountId=simulator.account_id,
                sequenceNumber=sequence,
            )
            assert await deliver(receiver, content) == 204
            assert ticket.status == Status.PRODUCING
        await asyncio.sleep(2)
        assert ticket.status == Status.AWAITING_APPROVAL


@asynccontextmanager
async def unseen_approval() -> AsyncIterator[tuple[Receiver, Ticket, Watch, dict[str, Any]]]:
    """Yield a production whose approval no poll has seen yet, and the IDs for a webhook about it."""
    async with with_manual_webhooks() as (simulator, receiver, orchestrator):
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(100)
        (production,) = simulator.productions.values()
        await sleep_until(began(production, Status.AWAITING_APPROVAL) + 0.1)
        (job,) = orchestrator.jobs
        assert job.state.watch is not None
        ids = {"productionId": ticket.production_id, "accountId": simulator.account_id}
        yield receiver, ticket, job.state.watch, ids


async def test_event_dated_before_the_last_poll_does_not_date_its_change() -> None:
    """A clock is wrong then, so the change is dated between the two polls."""
    async with unseen_approval() as (receiver, ticket, watch, ids):
        assert ticket.status == Status.PRODUCING
        seen = watch.seen
        assert await deliver(receiver, body("deliverable.ready", **ids)) == 204
        await asyncio.sleep(1)
        assert ticket.status == Status.AWAITING_APPROVAL
        assert watch.since == pytest.approx((seen + watch.seen) / 2)


async def test_event_without_a_readable_time_or_number_is_polled_immediately() -> None:
    """Its type and production are enough; the change is dated between the two polls."""
    async with unseen_approval() as (receiver, ticket, watch, ids):
        seen = watch.seen
        odd = {"timestamp": "soon", "sequenceNumber": None, "eventId": 5}
        for event_type in ("production.step.complete", "deliverable.ready"):
            assert await deliver(receiver, body(event_type, **ids, **odd)) == 204
        await asyncio.sleep(1)
        assert ticket.status == Status.AWAITING_APPROVAL
        assert watch.since == pytest.approx((seen + watch.seen) / 2)


async def test_event_from_a_clock_that_is_ahead_does_not_delay_changed_after() -> None:
    """`changed_after` is never later than the change, even if the server's clock is ahead of this one."""
    rarely = Polling(min_interval=4_000, max_interval=5_000)
    async with with_manual_webhooks(rarely) as (simulator, receiver, orchestrator):
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(100)
        (production,) = simulator.productions.values()
        changed_at = {status: production.wall(time) for time, status in production.timeline}
        ahead = {"accountId": simulator.account_id, "timestamp": "2026-01-02T00:00:00Z"}
        for number, event_type in enumerate(("production.step.complete", "deliverable.ready")):
            content = body(event_type, productionId=production.production_id, sequenceNumber=number, **ahead)
            assert await deliver(receiver, content) == 204
            await asyncio.sleep(changed_at["AwaitingApproval"] + 4 - wall())
        await ticket
        changes = [event async for event in ticket.events() if isinstance(event, StatusChanged)]
    assert [change.status for change in changes[:2]] == ["Producing", "AwaitingApproval"]
    assert all(change.changed_after.timestamp() <= changed_at[change.status] for change in changes)


async def test_frequent_events_of_an_unknown_type_cause_few_polls() -> None:
    """A hundred of them in 50 s cause one poll in each shortest interval."""
    async with with_manual_webhooks() as (simulator, receiver, orchestrator):
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(200)
        before = simulator.count("fetch")
        for number in range(100):
            content = body(
                "production.new",
                productionId=ticket.production_id,
                accountId=simulator.account_id,
                sequenceNumber=number,
            )
            assert await deliver(receiver, content) == 204
            await asyncio.sleep(0.5)
        assert simulator.count("fetch") - before in (8, 9, 10)


@pytest.mark.parametrize("is_own", [False, True])
async def test_event_without_a_running_job_causes_no_request(*, is_own: bool) -> None:
    """An event of a finished production, or of another process, is accepted and causes no poll."""
    async with with_manual_webhooks(Polling()) as (simulator, receiver, orchestrator):
        ticket = orchestrator.submit(request_for(simulator))
        await ticket
        requests = len(simulator.requests)
        fields = {"productionId": ticket.production_id} if is_own else {}
        assert await deliver(receiver, body(**fields)) == 204
        await asyncio.sleep(100)
        assert len(simulator.requests) == requests


async def test_event_before_the_response_to_the_submit_is_not_lost() -> None:
    """It is kept until the job subscribes, and then causes a poll."""
    async with with_manual_webhooks() as (simulator, receiver, orchestrator):
        simulator.faults.add("slow", seconds=8)
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(1)
        (production_id,) = simulator.productions
        content = body("deliverable.ready", productionId=production_id, accountId=simulator.account_id)
        assert await deliver(receiver, content) == 204
        assert ticket.production_id is None
        await asyncio.sleep(9)
        assert simulator.count("fetch") == 1


async def test_response_that_a_later_poll_overtook_is_ignored() -> None:
    """A webhook is polled although a poll is in flight, whose response then is out of date."""
    polling = Polling(min_interval=5, max_interval=9)
    async with with_manual_webhooks(polling) as (simulator, receiver, orchestrator):
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(100)
        (production,) = simulator.productions.values()
        await sleep_until(began(production, Status.AWAITING_APPROVAL) - 20)
        simulator.faults.add("slow", on="fetch", seconds=50)
        await asyncio.sleep(21)
        content = body("deliverable.ready", productionId=ticket.production_id, accountId=simulator.account_id)
        assert await deliver(receiver, content) == 204
        assert (await ticket).ok
        changes = [event.status async for event in ticket.events() if isinstance(event, StatusChanged)]
    assert changes == [status for _, status in production.timeline[1:]]


# --- Shutdown --------------------------------------------------------------------------------------


async def test_listener_is_removed_as_soon_as_the_block_is_left(
    simulator: Simulator, client: JaraiClient
) -> None:
    """Events get a 503 even while leaving waits for a submit in flight, so that JARAI sends them again."""
    content = body(accountId=simulator.account_id)
    async with Receiver(SECRET) as receiver:

        async def program() -> None:
            async with Orchestrator(client, webhooks=receiver) as orchestrator:
                assert await deliver(receiver, body(sequenceNumber=1)) == 204
                simulator.faults.add("hang", on="submit")
                orchestrator.submit(request_for(simulator))
                await asyncio.sleep(1)

        leaving = asyncio.create_task(program())
        await asyncio.sleep(5)
        assert not leaving.done()
        assert await deliver(receiver, content) == 503
        await leaving
        assert await deliver(receiver, content) == 503


async def test_number_of_kept_early_events_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of events without a job the newest are kept."""
    monkeypatch.setattr(webhook_router, "_EARLY_EVENTS", 100)
    router, received = WebhookRouter(has_receiver=True), []
    ids = [str(UUID(int=n, version=4)) for n in range(200)]

    async def subscriber(event: WebhookEvent) -> None:
        received.append(event.production_id)

    for production_id in ids:
        await router.dispatch(webhook_event(ProductionPublished, production_id))
    for production_id in ids:
        await router.subscribe(production_id, subscriber)
    assert received == ids[100:]
