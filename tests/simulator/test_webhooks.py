"""The simulator's webhooks: told at the true moment, signed, and brought as badly as one asks for."""

import asyncio
from typing import Any

import pytest

from jarai_async.simulator import Deliverability, Simulator
from tests.support.endpoint import Endpoint, open_endpoint
from tests.support.raw_client import RequestSender, open_world

ALL = [
    *("production.queued", "production.step.complete", "production.published", "production.failed"),
    *("deliverable.ready", "webhook.test"),
]
AT_ONCE = Deliverability(delay=0.0)


async def subscribe(api: RequestSender, url: str, **fields: Any) -> dict[str, Any]:
    return await api.subscribe(endpointUrl=url, **{"eventTypes": ALL, **fields})


async def test_every_event_is_told_at_its_moment() -> None:
    """The steps, the deliverables and the end, numbered without a gap and signed."""
    async with open_world(deliverability=AT_ONCE) as (simulator, api), open_endpoint() as endpoint:
        webhook = await subscribe(api, endpoint.url)
        production_id = await api.start()
        await asyncio.sleep(400)
    told = [(name, one.at) for one in endpoint.arrivals for name in [one.event["eventType"]]]
    assert told[0] == ("production.queued", 0.0)
    assert [name for name, _ in told[1:16]] == ["production.step.complete"] * 15
    assert told[-2:] == [("deliverable.ready", 155.0), ("production.published", 305.0)]
    assert told[15][1] == pytest.approx(155.0)
    assert [one.event["sequenceNumber"] for one in endpoint.arrivals] == list(range(1, 19))
    assert all(one.is_signed(webhook["signingSecret"]) for one in endpoint.arrivals)
    assert len({one.event["eventId"] for one in endpoint.arrivals}) == 18
    assert {one.event["productionId"] for one in endpoint.arrivals} == {production_id}
    assert [one.delivered_at for one in simulator.deliveries] == [at for _, at in told]


async def test_the_envelope_is_complete() -> None:
    """Every documented field, and what is known of the data."""
    async with open_world() as (simulator, api), open_endpoint() as endpoint:
        await subscribe(api, endpoint.url)
        production_id = await api.start()
        await asyncio.sleep(400)
    events = sorted((one.event for one in endpoint.arrivals), key=lambda one: int(one["sequenceNumber"]))
    first = events[0]
    assert {name: first[name] for name in first if name not in ("eventId", "correlationId")} == {
        "eventType": "production.queued",
        "productionId": production_id,
        "accountId": simulator.account_id,
        "timestamp": "2026-01-01T09:00:00.000Z",
        "sequenceNumber": 1,
        "truncated": False,
        "data": {"status": "Queued", "expiresAt": "2026-01-01T09:10:00.000Z"},
    }
    assert events[3]["data"] == {"step": 3}
    assert events[-2]["timestamp"] == "2026-01-01T09:02:35.000Z"
    assert {"Video", "Attribution"} <= {one["type"] for one in events[-2]["data"]["deliverables"]}


def failing(_: Any, __: str) -> list[tuple[str, float]]:
    return [("Queued", 10.0), ("Producing", 60.0), ("Failed", 0.0)]


async def test_a_failure_says_why() -> None:
    """With the code and the message of the status."""
    async with open_world(durations=failing) as (_, api), open_endpoint() as endpoint:
        await subscribe(api, endpoint.url, eventTypes=["production.failed"])
        await api.start()
        await asyncio.sleep(100)
    (arrival,) = endpoint.arrivals
    assert arrival.event["data"]["errorCode"] == "PIPELINE_STEP_FAILED"


async def test_a_webhook_gets_what_it_asked_for() -> None:
    """By type and by account; the numbers count the others, too."""
    async with open_world(accounts=2) as (simulator, api), open_endpoint() as some, open_endpoint() as scoped:
        mine, other = (account.account_id for account in simulator.accounts)
        await subscribe(api, some.url, eventTypes=["production.published"], accountIds=[mine])
        await subscribe(api, scoped.url, eventTypes=["production.queued"], accountScopeId=other)
        await api.start()
        await api.start(account=other)
        await asyncio.sleep(400)
    assert some.names == [("production.published", 18)]
    assert [one.event["accountId"] for one in scoped.arrivals] == [other]


async def test_a_person_changes_what_is_told() -> None:
    """What is approved goes on from there; what is cancelled tells nothing more."""
    async with open_world(durations=waiting) as (simulator, api), open_endpoint() as endpoint:
        await subscribe(api, endpoint.url, eventTypes=ALL[2:])
        approved, cancelled = await api.start(), await api.start()
        await asyncio.sleep(1000)
        assert len(endpoint.arrivals) == 2
        simulator.approve(approved)
        await api.call("DELETE", f"/productions/{cancelled}")
        await asyncio.sleep(1000)
    assert sorted(endpoint.names) == [("deliverable.ready", 17)] * 2 + [("production.published", 18)]


def waiting(_: Any, __: str) -> list[tuple[str, float]]:
    infinity = float("inf")
    return [("Queued", 1.0), ("Producing", 15.0), ("AwaitingApproval", infinity), ("Distributing", 9.0)]


async def test_a_late_subscription_gets_what_is_left() -> None:
    """What happened before is not told; the numbers go on where they are."""
    async with open_world() as (_, api), open_endpoint() as endpoint:
        await api.start()
        await asyncio.sleep(200)
        await subscribe(api, endpoint.url)
        await asyncio.sleep(400)
    assert endpoint.names == [("production.published", 18)]


async def test_nothing_is_timed_without_a_subscription() -> None:
    """Who uses no webhooks does not pay for them."""
    async with open_world() as (simulator, api):
        await api.start()
        assert not simulator._emitter._timers
        await asyncio.sleep(400)
    assert simulator.deliveries == []
    assert simulator._sender._session is None


# --- The way ----------------------------------------------------------------------------------------


async def delivered(seed: int, how: Deliverability, count: int = 8) -> tuple[Simulator, Endpoint]:
    """Tell of so many productions, whatever happens on the way."""
    async with open_world(seed=seed, deliverability=how) as (simulator, api), open_endpoint() as endpoint:
        await subscribe(api, endpoint.url)
        for _ in range(count):
            await api.start()
        await asyncio.sleep(3_600)
    return simulator, endpoint


async def test_a_delivery_takes_about_a_second() -> None:
    """The median is the one that was asked for."""
    simulator, _ = await delivered(1, Deliverability(delay=1.0))
    delays = sorted(one.due_at - one.event.moment for one in simulator.deliveries)
    assert len(delays) == 8 * 18
    assert 0.8 < delays[len(delays) // 2] < 1.25


async def test_some_are_lost_and_some_come_twice() -> None:
    """As often as was asked for; what is lost stays lost, what comes twice is the same."""
    simulator, endpoint = await delivered(2, Deliverability(loss=0.2, duplication=0.3))
    lost = sum(one.is_lost for one in simulator.deliveries)
    assert 0.1 < lost / (8 * 18) < 0.3
    bodies = [one.body for one in endpoint.arrivals]
    assert len(set(bodies)) == 8 * 18 - lost
    assert 0.2 < len(bodies) / len(set(bodies)) - 1 < 0.4


async def test_all_may_be_lost() -> None:
    """As if no webhook worked."""
    simulator, endpoint = await delivered(3, Deliverability(loss=1.0))
    assert not endpoint.arrivals
    assert len(simulator.deliveries) == 8 * 18


async def test_some_overtake_others() -> None:
    """More of them where that was asked for."""

    def overtaken(endpoint: Endpoint) -> int:
        numbers: dict[str, int] = {}
        late = 0
        for one in endpoint.arrivals:
            production_id, number = one.event["productionId"], one.event["sequenceNumber"]
            late += number < numbers.get(production_id, 0)
            numbers[production_id] = max(number, numbers.get(production_id, 0))
        return late

    few, many = [(await delivered(4, Deliverability(reordering=share)))[1] for share in (0.0, 0.3)]
    assert overtaken(few) < 10 < overtaken(many)


async def test_the_same_seed_brings_the_same_in_the_same_order() -> None:
    """At the same moments; another seed does not."""
    how = Deliverability(loss=0.2, duplication=0.1, reordering=0.1)

    def story(endpoint: Endpoint) -> list[tuple[str, str, int, float]]:
        start = endpoint.arrivals[0].at
        return [(one.event["eventId"], *one.name, round(one.at - start, 6)) for one in endpoint.arrivals]

    one, same, other = [story((await delivered(seed, how))[1]) for seed in (5, 5, 6)]
    assert one == same != other


# --- The receiver -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 500, 503])
async def test_a_refused_delivery_is_tried_again(status: int) -> None:
    """After ever longer pauses, until the answer is 2xx."""

    def third_time(attempt: int) -> int:
        return 200 if attempt >= 3 else status

    async with open_world(deliverability=AT_ONCE) as (simulator, api), open_endpoint(third_time) as endpoint:
        await subscribe(api, endpoint.url, eventTypes=["production.queued"])
        await api.start()
        await asyncio.sleep(3_600)
    assert [round(one.at) for one in endpoint.arrivals] == [0, 5, 35]
    assert len({one.body for one in endpoint.arrivals}) == 1
    (delivery,) = simulator.deliveries
    assert [status for _, status in delivery.attempts] == [status, status, 200]
    assert delivery.delivered_at == endpoint.arrivals[-1].at


async def test_a_receiver_that_is_down_gets_it_when_it_is_back() -> None:
    """Nobody there is as good as a refusal."""
    async with open_world(deliverability=AT_ONCE) as (simulator, api):
        async with open_endpoint() as endpoint:
            webhook = await subscribe(api, endpoint.url, eventTypes=["production.queued"])
        await api.start()
        await asyncio.sleep(60)
        assert [status for _, status in simulator.deliveries[0].attempts] == [None] * 3
        async with open_endpoint() as back:
            url = f"/webhooks/{webhook['webhookId']}"
            assert (await api.call("PATCH", url, json={"endpointUrl": back.url})).status == 200
            await asyncio.sleep(600)
    assert back.names == [("production.queued", 1)]


async def test_a_receiver_that_is_never_there_is_given_up() -> None:
    """Some hours later; and so is told to who asks for the deliveries."""
    async with open_world() as (simulator, api):
        webhook = await subscribe(api, "http://127.0.0.1:9/", eventTypes=["production.queued"])
        await api.start()
        await asyncio.sleep(86_400)
        (told,) = (await api.get(f"/webhooks/{webhook['webhookId']}/deliveries")).json["deliveries"]
    assert simulator.deliveries[0].given_up
    assert (told["status"], told["attempts"], told["responseStatus"]) == ("Failed", 7, None)


async def test_an_endpoint_elsewhere_is_never_asked() -> None:
    """A simulator reaches nobody but this machine."""
    async with open_world() as (simulator, api):
        await subscribe(api, "https://example.org/hook", eventTypes=["production.queued"])
        await api.start()
        await asyncio.sleep(60)
    assert simulator.deliveries[0].attempts[0][1] is None
    assert simulator._sender._session is None


async def test_a_deleted_webhook_gets_nothing_more() -> None:
    """Not even what is on its way."""
    async with open_world() as (simulator, api), open_endpoint() as endpoint:
        webhook = await subscribe(api, endpoint.url)
        await api.start()
        await api.call("DELETE", f"/webhooks/{webhook['webhookId']}")
        await asyncio.sleep(400)
    assert endpoint.arrivals == []
    assert len(simulator.deliveries) == 1


async def test_a_test_event_is_about_nothing() -> None:
    """Its identifiers are nil, as documented."""
    async with open_world() as (_, api), open_endpoint() as endpoint:
        webhook = await subscribe(api, endpoint.url)
        for _ in range(2):
            assert (await api.call("POST", f"/webhooks/{webhook['webhookId']}/test")).status == 202
        await asyncio.sleep(60)
    assert endpoint.names == [("webhook.test", 0)] * 2
    nil = "00000000-0000-0000-0000-000000000000"
    assert {(one.event["productionId"], one.event["accountId"]) for one in endpoint.arrivals} == {(nil, nil)}
    assert len({one.event["eventId"] for one in endpoint.arrivals}) == 2
