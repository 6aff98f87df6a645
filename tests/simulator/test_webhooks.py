"""The simulator's webhooks: sent at the true time, signed, and delivered as unreliably as a test requests."""

import asyncio
from typing import Any

import pytest

from jarai_async.simulator import Deliverability, Simulator
from tests.support.endpoint import Endpoint, open_endpoint
from tests.support.raw_client import INFINITY, RawClient, open_simulator

EVENT_TYPES = [
    *("production.queued", "production.step.complete", "production.published", "production.failed"),
    *("deliverable.ready", "webhook.test"),
]
NO_DELAY = Deliverability(delay=0.0)


async def subscribe(api: RawClient, url: str, **fields: Any) -> dict[str, Any]:
    return await api.subscribe(endpointUrl=url, **{"eventTypes": EVENT_TYPES, **fields})


async def test_every_event_is_sent_when_it_occurs() -> None:
    """The steps, the deliverables and the publication arrive signed, and numbered without a gap."""
    async with open_simulator(deliverability=NO_DELAY) as (simulator, api), open_endpoint() as endpoint:
        webhook = await subscribe(api, endpoint.url)
        production_id = await api.start_production()
        await asyncio.sleep(400)
    arrived = [(arrival.event["eventType"], arrival.at) for arrival in endpoint.arrivals]
    assert arrived[0] == ("production.queued", 0.0)
    assert [event_type for event_type, _ in arrived[1:16]] == ["production.step.complete"] * 15
    assert arrived[-2:] == [("deliverable.ready", 155.0), ("production.published", 305.0)]
    assert arrived[15][1] == pytest.approx(155.0)
    assert [arrival.event["sequenceNumber"] for arrival in endpoint.arrivals] == list(range(1, 19))
    assert all(arrival.is_signed(webhook["signingSecret"]) for arrival in endpoint.arrivals)
    assert len({arrival.event["eventId"] for arrival in endpoint.arrivals}) == 18
    assert {arrival.event["productionId"] for arrival in endpoint.arrivals} == {production_id}
    assert [delivery.delivered_at for delivery in simulator.deliveries] == [at for _, at in arrived]


async def test_envelope_is_complete() -> None:
    """An event has every documented field, and its data."""
    async with open_simulator() as (simulator, api), open_endpoint() as endpoint:
        await subscribe(api, endpoint.url)
        production_id = await api.start_production()
        await asyncio.sleep(400)
    events = sorted(
        (arrival.event for arrival in endpoint.arrivals), key=lambda event: event["sequenceNumber"]
    )
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
    types = {deliverable["type"] for deliverable in events[-2]["data"]["deliverables"]}
    assert {"Video", "Attribution"} <= types


def failing(_: Any, __: str) -> list[tuple[str, float]]:
    return [("Queued", 10.0), ("Producing", 60.0), ("Failed", 0.0)]


async def test_failed_event_has_the_error_code() -> None:
    """The event of a failure carries the error code of the status."""
    async with open_simulator(durations=failing) as (_, api), open_endpoint() as endpoint:
        await subscribe(api, endpoint.url, eventTypes=["production.failed"])
        await api.start_production()
        await asyncio.sleep(100)
    (arrival,) = endpoint.arrivals
    assert arrival.event["data"]["errorCode"] == "PIPELINE_STEP_FAILED"


async def test_webhook_receives_its_event_types_and_accounts_only() -> None:
    """A subscription filters by type, account and scope; sequence numbers count the other events too."""
    async with (
        open_simulator(accounts=2) as (simulator, api),
        open_endpoint() as by_account,
        open_endpoint() as by_scope,
    ):
        first, second = (account.account_id for account in simulator.accounts)
        await subscribe(api, by_account.url, eventTypes=["production.published"], accountIds=[first])
        await subscribe(api, by_scope.url, eventTypes=["production.queued"], accountScopeId=second)
        await api.start_production()
        await api.start_production(account=second)
        await asyncio.sleep(400)
    assert by_account.names == [("production.published", 18)]
    assert [arrival.event["accountId"] for arrival in by_scope.arrivals] == [second]


def waiting(_: Any, __: str) -> list[tuple[str, float]]:
    return [("Queued", 1.0), ("Producing", 15.0), ("AwaitingApproval", INFINITY), ("Distributing", 9.0)]


async def test_approval_and_cancellation_change_the_events() -> None:
    """An approved production has the remaining events, a cancelled one has none."""
    async with open_simulator(durations=waiting) as (simulator, api), open_endpoint() as endpoint:
        await subscribe(api, endpoint.url, eventTypes=EVENT_TYPES[2:])
        approved, cancelled = await api.start_production(), await api.start_production()
        await asyncio.sleep(1000)
        assert len(endpoint.arrivals) == 2
        simulator.approve(approved)
        await api.request("DELETE", f"/productions/{cancelled}")
        await asyncio.sleep(1000)
    assert sorted(endpoint.names) == [("deliverable.ready", 17)] * 2 + [("production.published", 18)]


async def test_late_subscription_receives_later_events_only() -> None:
    """Events before the subscription are not sent; later ones keep their sequence numbers."""
    async with open_simulator() as (_, api), open_endpoint() as endpoint:
        await api.start_production()
        await asyncio.sleep(200)
        await subscribe(api, endpoint.url)
        await asyncio.sleep(400)
    assert endpoint.names == [("production.published", 18)]


async def test_no_deliveries_without_a_subscription() -> None:
    """A simulator without webhooks delivers nothing."""
    async with open_simulator() as (simulator, api):
        await api.start_production()
        await asyncio.sleep(400)
    assert simulator.deliveries == []


# --- Unreliable delivery ----------------------------------------------------------------------------


async def deliver(seed: int, deliverability: Deliverability, count: int = 8) -> tuple[Simulator, Endpoint]:
    """Deliver all events of `count` productions."""
    async with (
        open_simulator(seed=seed, deliverability=deliverability) as (simulator, api),
        open_endpoint() as endpoint,
    ):
        await subscribe(api, endpoint.url)
        for _ in range(count):
            await api.start_production()
        await asyncio.sleep(3_600)
    return simulator, endpoint


async def test_median_delay_is_as_configured() -> None:
    """The median delay of the deliveries is about `delay`."""
    simulator, _ = await deliver(1, Deliverability(delay=1.0))
    delays = sorted(delivery.due_at - delivery.event.occurred_at for delivery in simulator.deliveries)
    assert len(delays) == 8 * 18
    assert 0.8 < delays[len(delays) // 2] < 1.25


async def test_loss_and_duplication_are_as_frequent_as_configured() -> None:
    """A lost event never arrives, and a duplicate has the same body."""
    simulator, endpoint = await deliver(2, Deliverability(loss=0.2, duplication=0.3))
    lost = sum(delivery.is_lost for delivery in simulator.deliveries)
    assert 0.1 < lost / (8 * 18) < 0.3
    bodies = [arrival.body for arrival in endpoint.arrivals]
    assert len(set(bodies)) == 8 * 18 - lost
    assert 0.2 < len(bodies) / len(set(bodies)) - 1 < 0.4


async def test_odd_events_are_sent_besides_the_others() -> None:
    """They are signed, and are no documented events of the partner's productions."""
    deliverability = Deliverability(delay=0.0, odd=1.0)
    async with open_simulator(deliverability=deliverability) as (_, api), open_endpoint() as endpoint:
        webhook = await subscribe(api, endpoint.url)
        production_id = await api.start_production()
        await asyncio.sleep(400)
    name = f'"productionId":"{production_id}"'.encode()
    usual = [arrival for arrival in endpoint.arrivals if name in arrival.body]
    odd = [arrival for arrival in endpoint.arrivals if arrival not in usual]
    assert (len(usual), len(odd)) == (18, 18)
    assert all(arrival.is_signed(webhook["signingSecret"]) for arrival in odd)
    for sign in (b"partner.notice", b"not JSON", b"production.step.complete"):
        assert any(sign in arrival.body for arrival in odd)


async def test_all_events_can_be_lost() -> None:
    """With a loss of 1 nothing arrives, but the deliveries are recorded."""
    simulator, endpoint = await deliver(3, Deliverability(loss=1.0))
    assert not endpoint.arrivals
    assert len(simulator.deliveries) == 8 * 18


async def test_reordering_makes_more_events_overtake_others() -> None:
    """Few events arrive after a later one by default, many with a high probability of reordering."""

    def late_arrivals(endpoint: Endpoint) -> int:
        highest: dict[str, int] = {}
        late = 0
        for arrival in endpoint.arrivals:
            production_id, number = arrival.event["productionId"], arrival.event["sequenceNumber"]
            late += number < highest.get(production_id, 0)
            highest[production_id] = max(number, highest.get(production_id, 0))
        return late

    few, many = [(await deliver(4, Deliverability(reordering=share)))[1] for share in (0.0, 0.3)]
    assert late_arrivals(few) < 10 < late_arrivals(many)


async def test_deliveries_are_the_same_for_the_same_seed() -> None:
    """The same seed gives the same events in the same order at the same times; another one does not."""
    deliverability = Deliverability(loss=0.2, duplication=0.1, reordering=0.1)

    async def arrivals(seed: int) -> list[tuple[str, str, int, float]]:
        _, endpoint = await deliver(seed, deliverability)
        start = endpoint.arrivals[0].at
        return [
            (arrival.event["eventId"], *arrival.name, round(arrival.at - start, 6))
            for arrival in endpoint.arrivals
        ]

    first = await arrivals(5)
    assert first == await arrivals(5) != await arrivals(6)


# --- The receiver -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 500, 503])
async def test_delivery_is_retried_until_it_gets_a_2xx(status: int) -> None:
    """After any other status the simulator retries with growing delays."""

    def third_time(attempt: int) -> int:
        return 200 if attempt >= 3 else status

    async with (
        open_simulator(deliverability=NO_DELAY) as (simulator, api),
        open_endpoint(third_time) as endpoint,
    ):
        await subscribe(api, endpoint.url, eventTypes=["production.queued"])
        await api.start_production()
        await asyncio.sleep(3_600)
    assert [round(arrival.at) for arrival in endpoint.arrivals] == [0, 5, 35]
    assert len({arrival.body for arrival in endpoint.arrivals}) == 1
    (delivery,) = simulator.deliveries
    assert [status for _, status in delivery.attempts] == [status, status, 200]
    assert delivery.delivered_at == endpoint.arrivals[-1].at


async def test_delivery_is_retried_while_the_receiver_is_down() -> None:
    """A failed connection is retried, at the new URL if the webhook was updated."""
    async with open_simulator(deliverability=NO_DELAY) as (simulator, api):
        async with open_endpoint() as endpoint:
            webhook = await subscribe(api, endpoint.url, eventTypes=["production.queued"])
        await api.start_production()
        await asyncio.sleep(60)
        assert [status for _, status in simulator.deliveries[0].attempts] == [None] * 3
        async with open_endpoint() as new_endpoint:
            fields = {"endpointUrl": new_endpoint.url}
            response = await api.request("PATCH", f"/webhooks/{webhook['webhookId']}", json=fields)
            assert response.status == 200
            await asyncio.sleep(600)
    assert new_endpoint.names == [("production.queued", 1)]


async def test_delivery_is_given_up_after_seven_attempts() -> None:
    """If the receiver stays down, the list of deliveries says Failed."""
    async with open_simulator() as (simulator, api):
        webhook = await subscribe(api, "http://127.0.0.1:9/", eventTypes=["production.queued"])
        await api.start_production()
        await asyncio.sleep(86_400)
        response = await api.get(f"/webhooks/{webhook['webhookId']}/deliveries")
        (delivery,) = response.json["deliveries"]
    assert simulator.deliveries[0].given_up
    assert (delivery["status"], delivery["attempts"], delivery["responseStatus"]) == ("Failed", 7, None)


async def test_events_are_sent_to_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint on another host counts as unreachable, and its name is not even looked up."""
    looked_up: list[object] = []
    monkeypatch.setattr(
        asyncio.get_running_loop(), "getaddrinfo", lambda host, *_, **__: looked_up.append(host)
    )
    async with open_simulator() as (simulator, api):
        await subscribe(api, "https://example.org/hook", eventTypes=["production.queued"])
        await api.start_production()
        await asyncio.sleep(60)
    assert simulator.deliveries[0].attempts[0][1] is None
    assert looked_up == []


async def test_delivery_ends_with_the_simulator() -> None:
    """One that has still to be attempted leaves no task behind."""
    before = asyncio.all_tasks()
    async with (
        open_simulator(deliverability=Deliverability(delay=60.0)) as (_, api),
        open_endpoint() as endpoint,
    ):
        await subscribe(api, endpoint.url)
        await api.start_production()
    assert asyncio.all_tasks() == before


async def test_newest_hundred_deliveries_are_listed() -> None:
    """The newest is the first."""
    async with open_simulator(deliverability=NO_DELAY) as (simulator, api), open_endpoint() as endpoint:
        webhook = await subscribe(api, endpoint.url)
        for _ in range(6):
            await api.start_production()
        await asyncio.sleep(400)
        listed = (await api.get(f"/webhooks/{webhook['webhookId']}/deliveries")).json["deliveries"]
    newest = [delivery.delivery_id for delivery in reversed(simulator.deliveries)]
    assert [delivery["deliveryId"] for delivery in listed] == newest[:100]


async def test_loss_of_one_type_of_event() -> None:
    """All others arrive."""
    lost = Deliverability(loss=1.0, event_types=["production.published"])
    async with open_simulator(deliverability=lost) as (simulator, api), open_endpoint() as endpoint:
        await subscribe(api, endpoint.url)
        await api.start_production()
        await asyncio.sleep(400)
        types = {delivery.event.event_type: delivery.is_lost for delivery in simulator.deliveries}
    assert types.pop("production.published")
    assert set(types.values()) == {False}
    with pytest.raises(TypeError, match="must be a sequence"):
        Deliverability(event_types="production.published")


@pytest.mark.parametrize("option", ["loss", "duplication", "reordering", "odd"])
def test_probability_of_a_delivery_is_at_most_1(option: str) -> None:
    options: dict[str, Any] = {option: 1.01}
    with pytest.raises(ValueError, match=option):
        Deliverability(**options)


async def test_deleted_webhook_receives_nothing_more() -> None:
    """Deleting a webhook also cancels deliveries that have not been attempted."""
    async with open_simulator() as (simulator, api), open_endpoint() as endpoint:
        webhook = await subscribe(api, endpoint.url)
        await api.start_production()
        await api.request("DELETE", f"/webhooks/{webhook['webhookId']}")
        await asyncio.sleep(400)
    assert endpoint.arrivals == []
    assert len(simulator.deliveries) == 1


async def test_test_event_has_nil_identifiers() -> None:
    """As documented, a test event names no production and no account."""
    async with open_simulator() as (_, api), open_endpoint() as endpoint:
        webhook = await subscribe(api, endpoint.url)
        for _ in range(2):
            response = await api.request("POST", f"/webhooks/{webhook['webhookId']}/test")
            assert response.status == 202
        await asyncio.sleep(60)
    assert endpoint.names == [("webhook.test", 0)] * 2
    nil = "00000000-0000-0000-0000-000000000000"
    events = [arrival.event for arrival in endpoint.arrivals]
    assert {(event["productionId"], event["accountId"]) for event in events} == {(nil, nil)}
    assert len({event["eventId"] for event in events}) == 2
