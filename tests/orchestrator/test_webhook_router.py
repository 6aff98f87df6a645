"""Webhooks and polls as one: who learns first tells, and each change is told once."""

import asyncio
from collections import Counter

import pytest

from jarai_async import (
    ConfigurationError,
    Finished,
    JaraiClient,
    Orchestrator,
    Polling,
    Status,
    StatusChanged,
)
from jarai_async._clock import wall
from jarai_async.simulator import Deliverability
from tests.support.deliveries import body, deliver
from tests.support.scenarios import request_for
from tests.support.webhook_scenarios import lags, run_batch, with_manual_webhooks, with_webhooks


async def test_what_a_webhook_tells_is_seen_at_once() -> None:
    """Within seconds of the truth, for a handful of requests."""
    async with with_webhooks() as (simulator, client, receiver):
        events = await run_batch(Orchestrator(client, webhooks=receiver), simulator, 20)
        late = lags(simulator, events, Status.AWAITING_APPROVAL, Status.PUBLISHED)
        assert len(late) >= 35  # one that was approved before the answer came has passed that status
        assert sum(late) / len(late) < 2
        assert sum(simulator.count(one) for one in ("submit", "fetch", "deliverables")) <= 12 * 20


async def test_each_change_is_told_once_whoever_learned_of_it() -> None:
    """With webhooks late, lost, doubled and out of order: every outcome, and no status twice."""
    how = Deliverability(delay=20, loss=0.2, duplication=0.3, reordering=0.3)
    async with with_webhooks(how) as (simulator, client, receiver):
        events = await run_batch(Orchestrator(client, webhooks=receiver), simulator, 20)
    changes = Counter((event.reference, event.status) for event in events if isinstance(event, StatusChanged))
    assert set(changes.values()) == {1}
    finished = [event.outcome for event in events if isinstance(event, Finished)]
    assert sorted(one.reference for one in finished) == sorted(f"item-{n}" for n in range(20))
    assert all(one.ok for one in finished)


async def test_where_no_webhook_arrives_polls_are_as_without_any() -> None:
    """A receiver that hears nothing changes nothing, to the request."""
    counts = []
    for deliverability in (Deliverability(loss=1.0), None):
        async with with_webhooks(deliverability) as (simulator, client, receiver):
            client.engine.random.seed(1)
            webhooks = receiver if deliverability else None
            await run_batch(Orchestrator(client, webhooks=webhooks), simulator, 5)
            counts.append(simulator.count("fetch"))
    assert counts[0] == counts[1]


async def test_turning_the_receiver_off_loses_nothing() -> None:
    """Polls look again for what nobody tells any more, as soon as the silence is noticed."""
    async with with_webhooks() as (simulator, client, receiver):
        orchestrator = Orchestrator(client, webhooks=receiver)
        following = asyncio.create_task(run_batch(orchestrator, simulator, 30))
        await asyncio.sleep(600)
        before = simulator.count("fetch")
        assert (orchestrator.statistics().webhook_coverage or 0) > 0.8
        for webhook in await client.webhooks():
            await client.delete_webhook(webhook.id)
        await asyncio.sleep(240)
        assert (orchestrator.statistics().webhook_coverage or 0) < 0.2
        assert "webhooks announce " in str(orchestrator.statistics())
        events = await following
        assert before < 4 * 30
        assert len([event for event in events if isinstance(event, Finished)]) == 30
        late = lags(simulator, events, Status.AWAITING_APPROVAL, Status.PUBLISHED)
        assert sum(late) / len(late) < 10
        assert simulator.rate_limited == 0


async def test_what_one_account_proves_is_not_relied_on_for_another() -> None:
    """A subscription is for accounts: where nothing is told, polls are as ever."""
    async with with_webhooks(accounts=2) as (simulator, client, receiver):
        spoken, quiet = simulator.accounts
        (webhook,) = await client.webhooks()
        await client.update_webhook(webhook.id, account_ids=[spoken.account_id])
        requests = [
            request_for(
                simulator,
                account_id=account.account_id,
                language_id=account.language_ids[0],
                country_id=account.country_ids[0],
                avatar_id=account.avatar_ids[0],
            )
            for account in (spoken, quiet)
            for _ in range(10)
        ]
        spent = Counter[str]()
        async with Orchestrator(client, webhooks=receiver) as orchestrator:
            async for event in orchestrator.run(requests):
                if isinstance(event, Finished):
                    spent[event.outcome.request.account_id] += event.outcome.request_count
    assert spent[spoken.account_id] < spent[quiet.account_id] / 4


async def test_a_webhook_that_runs_ahead_of_the_api_is_followed_up_and_not_believed() -> None:
    """It is asked again a few times; then the production is what the API says, and nothing is told."""
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


async def test_what_says_more_than_was_told_before_is_asked_at_once() -> None:
    """Also while the API, which did not know of the former, is being asked about it."""
    async with with_manual_webhooks() as (simulator, receiver, orchestrator):
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(100)
        (production,) = simulator.productions.values()
        ready = next(at for at, status in production.timeline if status == Status.AWAITING_APPROVAL)
        for event_type, sequence, moment in (("deliverable.ready", 1, -16), ("production.published", 2, 1)):
            await asyncio.sleep(ready + moment - asyncio.get_running_loop().time())
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


async def test_a_moment_at_which_nothing_had_changed_yet_is_not_believed() -> None:
    """Some clock is wrong then; and all that is known is that it came between two answers."""
    async with with_manual_webhooks() as (simulator, receiver, orchestrator):
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(100)
        (production,) = simulator.productions.values()
        ready = next(at for at, status in production.timeline if status == Status.AWAITING_APPROVAL)
        await asyncio.sleep(ready + 0.1 - asyncio.get_running_loop().time())
        (job,) = orchestrator.jobs.values()
        assert job.state.watch is not None
        assert ticket.status == Status.PRODUCING
        seen = job.state.watch.seen
        content = body("deliverable.ready", productionId=ticket.production_id, accountId=simulator.account_id)
        assert await deliver(receiver, content) == 204
        await asyncio.sleep(1)
        assert ticket.status == Status.AWAITING_APPROVAL
        assert job.state.watch.since == pytest.approx((seen + job.state.watch.seen) / 2)


async def test_no_clock_elsewhere_makes_a_change_later_than_it_was() -> None:
    """`changed_after` is a promise: it holds where the server's clock is ahead of this one."""
    never = Polling(min_interval=4_000, max_interval=5_000)
    async with with_manual_webhooks(never) as (simulator, receiver, orchestrator):
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(100)
        (truth,) = simulator.productions.values()
        moments = {status: truth.wall(moment) for moment, status in truth.timeline}
        ahead = {"accountId": simulator.account_id, "timestamp": "2026-01-02T00:00:00Z"}
        for number, kind in enumerate(("production.step.complete", "deliverable.ready")):
            content = body(kind, productionId=truth.production_id, sequenceNumber=number, **ahead)
            assert await deliver(receiver, content) == 204
            await asyncio.sleep(moments["AwaitingApproval"] + 4 - wall())
        await ticket
        changes = [event async for event in ticket.events() if isinstance(event, StatusChanged)]
    assert [one.status for one in changes[:2]] == ["Producing", "AwaitingApproval"]
    assert all(one.changed_after.timestamp() <= moments[one.status] for one in changes)


async def test_events_of_an_unknown_type_are_asked_after_no_more_often_than_the_floor_allows() -> None:
    """They may be many, and none of them about a change."""
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


@pytest.mark.parametrize("known", [False, True])
async def test_what_is_not_ours_costs_nothing(known: bool) -> None:  # noqa: FBT001
    """An event of another's production, or of the past, is accepted and not run_batch up."""
    async with with_manual_webhooks(Polling()) as (simulator, receiver, orchestrator):
        ticket = orchestrator.submit(request_for(simulator))
        await ticket
        requests = len(simulator.requests)
        fields = {"productionId": ticket.production_id} if known else {}
        content = body(**fields)
        assert await deliver(receiver, content) == 204
        await asyncio.sleep(100)
        assert len(simulator.requests) == requests


async def test_an_event_before_the_answer_to_the_submit_is_not_lost() -> None:
    """It is kept until somebody follows that production."""
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


async def test_what_is_no_receiver_is_refused(client: JaraiClient) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigurationError, match="Receiver, not str"):
        Orchestrator(client, webhooks="https://example.org")  # type: ignore[arg-type]


async def test_an_answer_that_a_later_poll_overtook_is_not_taken_in() -> None:
    """A webhook is asked after although a poll is on its way; what that one knows is older."""
    async with with_manual_webhooks(Polling(min_interval=5, max_interval=9)) as (
        simulator,
        receiver,
        orchestrator,
    ):
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(100)
        (production,) = simulator.productions.values()
        ready = next(at for at, status in production.timeline if status == Status.AWAITING_APPROVAL)
        await asyncio.sleep(ready - 20 - asyncio.get_running_loop().time())
        simulator.faults.add("slow", on="fetch", seconds=50)
        await asyncio.sleep(21)
        content = body("deliverable.ready", productionId=ticket.production_id, accountId=simulator.account_id)
        assert await deliver(receiver, content) == 204
        assert (await ticket).ok
        told = [event.status async for event in ticket.events() if isinstance(event, StatusChanged)]
    assert told == [status for _, status in production.timeline[1:]]
