"""The receiver: the status of each response, and the events that it passes on."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import ConfigurationError, JaraiClient
from jarai_async import receiver as receiver_module
from jarai_async._api.models import NIL_ID
from jarai_async._secret import Secret
from jarai_async.receiver import Receiver
from jarai_async.simulator import Deliverability, Simulator
from jarai_async.webhooks import WebhookEvent, sign
from tests.support.deliveries import (
    SECOND_SECRET,
    SECRET,
    body,
    deliver,
    numbered,
    run_pending_tasks,
    running_receiver,
)
from tests.support.scenarios import requests_for
from tests.support.strategies import HOSTILE_BODIES, ID, OTHER

# --- Passing events on ------------------------------------------------------------------------------


async def test_on_event_runs_after_the_response() -> None:
    """It may be a function or a coroutine function, and gets the events in order of arrival."""
    seen: list[int] = []

    async def on_event_coroutine(event: WebhookEvent) -> None:
        await asyncio.sleep(3)
        seen.append(event.sequence_number)

    def on_event_function(event: WebhookEvent) -> None:
        seen.append(event.sequence_number)

    for on_event in (on_event_coroutine, on_event_function):
        seen.clear()
        async with Receiver(SECRET, on_event) as receiver:
            assert [await deliver(receiver, numbered(n)) for n in (3, 1, 2)] == [204] * 3
            assert seen == []
        assert seen == [3, 1, 2]


async def test_duplicate_event_is_accepted_and_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """Production and number identify an event; a second event id for the same two is logged."""
    seen: list[WebhookEvent] = []
    async with Receiver(SECRET, seen.append) as receiver:
        for content in (numbered(1), numbered(1), numbered(2), numbered(1, productionId=OTHER)):
            assert await deliver(receiver, content) == 204
        assert caplog.text == ""
        assert await deliver(receiver, numbered(1, eventId=ID)) == 204
    assert [(event.production_id, event.sequence_number) for event in seen] == [(ID, 1), (ID, 2), (OTHER, 1)]
    assert "have the number 1" in caplog.text


@pytest.mark.parametrize("event_type", ["webhook.test", "partner.suspended"])
async def test_events_without_a_production_are_identified_by_their_own_id(event_type: str) -> None:
    """They have the nil UUID or null as their production, and may all have the same number."""
    seen: list[WebhookEvent] = []
    production_id = NIL_ID if event_type == "webhook.test" else None
    async with Receiver(SECRET, seen.append) as receiver:
        for event_id in (ID, OTHER, ID):
            content = numbered(1, event_type, productionId=production_id, eventId=event_id)
            assert await deliver(receiver, content) == 204
    assert [event.event_id for event in seen] == [ID, OTHER]


async def test_events_without_any_identity_are_all_passed_on() -> None:
    """A receiver that cannot recognise a duplicate must not drop an event."""
    seen: list[WebhookEvent] = []
    async with Receiver(SECRET, seen.append) as receiver:
        for _ in range(2):
            content = body("partner.suspended", productionId=None, eventId=None, sequenceNumber=None)
            assert await deliver(receiver, content) == 204
    assert len(seen) == 2


@pytest.mark.parametrize("name", HOSTILE_BODIES)
async def test_signed_body_that_is_no_event_is_acknowledged(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """JARAI signed it, so delivering it again would not help; it is logged and not passed on."""
    seen: list[WebhookEvent] = []
    async with Receiver(SECRET, seen.append) as receiver:
        assert await deliver(receiver, HOSTILE_BODIES[name]) == 204
    assert seen == []
    assert "signed, but not an event" in caplog.text


async def test_number_of_remembered_events_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The receiver forgets the oldest event first."""
    monkeypatch.setattr(receiver_module, "_MAX_REMEMBERED", 100)
    seen: list[WebhookEvent] = []
    async with Receiver(SECRET, seen.append) as receiver:
        for number in (*range(200), 199, 100, 99):
            assert await deliver(receiver, numbered(number)) == 204
            await run_pending_tasks()
    assert len(seen) == 201


async def test_full_queue_is_a_503_until_there_is_room() -> None:
    """An event that was rejected because the queue was full is accepted when it is delivered again."""
    proceed = asyncio.Event()
    seen: list[int] = []

    async def on_event(event: WebhookEvent) -> None:
        await proceed.wait()
        seen.append(event.sequence_number)

    async with Receiver(SECRET, on_event) as receiver:
        statuses = [await deliver(receiver, numbered(n)) for n in range(1_002)]
        assert statuses == [204] * 1_000 + [503] * 2
        assert "1000 events queued" in repr(receiver)
        proceed.set()
        await run_pending_tasks()
        assert await deliver(receiver, numbered(1_001)) == 204
    assert seen == [*range(1_000), 1_001]


async def test_burst_of_requests_does_not_fill_the_queue() -> None:
    """If `on_event` is fast enough, any number of concurrent requests is accepted."""
    seen: list[int] = []
    async with Receiver(SECRET, lambda event: seen.append(event.sequence_number)) as receiver:
        for burst in range(5):
            requests = [deliver(receiver, numbered(burst * 500 + n)) for n in range(500)]
            assert set(await asyncio.gather(*requests)) == {204}
            await asyncio.sleep(0)  # under eager tasks nothing has waited so far
    assert seen == list(range(2_500))


async def test_callback_that_never_awaits_does_not_block_responses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tasks run between the calls of a callback that is a plain function."""
    monkeypatch.setattr(receiver_module, "_YIELD_INTERVAL", -1.0)
    seen: list[int] = []
    async with Receiver(SECRET, lambda event: seen.append(event.sequence_number)) as receiver:
        await asyncio.gather(*(deliver(receiver, numbered(n)) for n in range(9)))
        await asyncio.sleep(0)
        assert 0 < len(seen) < 9


@pytest.mark.parametrize("failure", [ValueError("oops"), asyncio.CancelledError()])
async def test_failing_callback_is_logged_and_the_next_event_is_passed(
    failure: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception or a cancellation in `on_event` does not affect other events."""
    seen: list[int] = []

    def on_event(event: WebhookEvent) -> None:
        seen.append(event.sequence_number)
        if event.sequence_number == 1:
            raise failure

    async with Receiver(SECRET, on_event) as receiver:
        assert [await deliver(receiver, numbered(n)) for n in (1, 2)] == [204] * 2
    assert seen == [1, 2]
    assert f"on_event failed for event 1 of production {ID}" in caplog.text


async def test_close_waits_for_accepted_events_and_rejects_new_ones() -> None:
    """Events that were accepted before are passed on, for up to 10 seconds."""
    seen: list[int] = []

    async def on_event(event: WebhookEvent) -> None:
        await asyncio.sleep(3)
        seen.append(event.sequence_number)

    receiver = Receiver(SECRET, on_event)
    await deliver(receiver, numbered(1))
    await deliver(receiver, numbered(2))
    await receiver.close()
    assert seen == [1, 2]
    assert [await deliver(receiver, numbered(n)) for n in (1, 3)] == [204, 503]
    await receiver.close()


async def test_close_does_not_wait_forever(caplog: pytest.LogCaptureFixture) -> None:
    """After 10 seconds the remaining events, including the current one, are counted in the log."""

    async def on_event(_: WebhookEvent) -> None:
        await asyncio.Event().wait()

    loop = asyncio.get_running_loop()
    async with Receiver(SECRET, on_event) as receiver:
        for number in range(3):
            await deliver(receiver, numbered(number))
        started = loop.time()
    assert loop.time() - started == pytest.approx(10)
    assert "3 accepted webhook events were dropped" in caplog.text
    await Receiver(SECRET, on_event).close()


# --- Responses --------------------------------------------------------------------------------------


async def stream(*chunks: bytes, pause: float = 0.0) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await asyncio.sleep(pause)
        yield chunk


async def test_stream_is_read_up_to_the_limits() -> None:
    """No more than 256 KiB are read, and for no more than 10 seconds."""
    async with Receiver(SECRET, lambda _: None) as receiver:
        content = numbered(1)
        assert await receiver.receive(stream(content[:9], content[9:], b""), sign(content, SECRET)) == 204
        largest = content + b" " * (256 * 1024 - len(content))
        assert await deliver(receiver, largest) == 204
        assert await deliver(receiver, largest + b" ") == 413
        endless = stream(*[b"x" * 65_536] * 100)
        assert await receiver.receive(endless, sign(b"", SECRET)) == 413
        assert len([chunk async for chunk in endless]) == 95
        slow = stream(*[b"x"] * 100, pause=1.0)
        assert await receiver.receive(slow, sign(b"", SECRET)) == 408
    assert asyncio.get_running_loop().time() < 11


@given(
    st.binary(max_size=99),
    st.dictionaries(
        st.sampled_from(["X-JARAI-Signature", "Content-Length", "Content-Encoding"]) | st.text(),
        st.text() | st.integers().map(str) | st.none(),
    ),
)
def test_any_unsigned_request_is_rejected(content: bytes, headers: Mapping[str, str]) -> None:
    """Any bytes with any headers get a status and raise no exception."""
    receiver = Receiver([SECRET, SECOND_SECRET], lambda _: None)
    with pytest.raises(StopIteration) as returned:
        receiver.receive(content, headers).send(None)
    assert returned.value.value in (401, 413, 415)


def test_invalid_secret_is_rejected_when_the_receiver_is_created() -> None:
    """A valid secret is not shown by the `repr` or the attributes."""
    for secret in ("x", [SECRET, "x"], []):
        with pytest.raises(ConfigurationError):
            Receiver(secret, lambda _: None)
    receiver = Receiver(SECRET, lambda _: None)
    assert SECRET not in repr(receiver) + str(vars(receiver))


async def test_secret_of_a_webhook_that_is_created_at_run_time(
    simulator: Simulator, client: JaraiClient
) -> None:
    """What arrives before the receiver has the secret is delivered again."""
    seen: list[str] = []
    async with (
        Receiver(on_event=lambda event: seen.append(event.event_type)) as receiver,
        receiver.serve() as url,
    ):
        webhook = await client.create_webhook(url, ["production.queued"])
        await client.submit(requests_for(simulator, 1)[0])
        await asyncio.sleep(5)
        receiver.set_secret(webhook.signing_secret)
        await asyncio.sleep(60)
    (delivery,) = simulator.deliveries
    assert [status for _, status in delivery.attempts] == [503, 204]
    assert seen == ["production.queued"]


async def test_status_of_each_kind_of_request(caplog: pytest.LogCaptureFixture) -> None:
    """Over HTTP, the body of each response is empty; the reason for a rejection is in the log."""
    caplog.set_level(logging.DEBUG, "jarai_async")
    content = numbered(1)
    signed = sign(content, SECRET)
    requests: list[tuple[int, str, str, Any, dict[str, str]]] = [
        (204, "POST", "", content, signed),
        (204, "POST", "?a=b", content, signed),
        (401, "POST", "", content, {}),
        (401, "POST", "", content + b" ", signed),
        (401, "POST", "", b"", {}),
        (413, "POST", "", b"x" * 300_000, signed),
        (413, "POST", "", stream(*[b"x" * 99_999] * 9), signed),
        (415, "POST", "", content, signed | {"Content-Encoding": "gzip"}),
        *(
            (204, "POST", "", content, signed | {"Content-Encoding": encoding})
            for encoding in ("", "identity", "Identity", "IDENTITY")  # none of these encodes anything
        ),
        (404, "POST", "x", content, signed),
        (404, "POST", "/%1b[31m" + "y" * 200, content, signed),
        (405, "GET", "", None, {}),
    ]
    async with running_receiver(path="/jarai") as (url, session):
        for status, method, more, data, headers in requests:
            async with session.request(method, url + more, data=data, headers=headers) as response:
                assert (response.status, await response.read()) == (status, b"")
                assert response.headers.get("Allow") == ("POST" if status == 405 else None)
    logged = [record.getMessage() for record in caplog.records if record.name == "jarai_async"]
    rejected = [status for status, *_ in requests if status != 204]
    assert [int(line.removeprefix("rejected a webhook with status ")[:3]) for line in logged] == rejected
    assert "404: the path is '/jaraix', not /jarai" in logged[-3]
    assert logged[-2].isprintable()
    assert len(logged[-2]) < 200
    levels = [record.levelno for record in caplog.records if record.name == "jarai_async"]
    assert Counter(levels) == {logging.DEBUG: len(rejected) - 1, logging.WARNING: 1}


async def test_handler_in_an_aiohttp_application() -> None:
    """`handle` is a request handler for a route of any aiohttp application."""
    seen: list[WebhookEvent] = []
    receiver = Receiver(SECRET, seen.append)
    app = web.Application()
    app.router.add_post("/hooks/jarai", receiver.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = "http://{}:{}/hooks/jarai".format(*runner.addresses[0][:2])
    content = numbered(7)
    async with aiohttp.ClientSession() as session:
        for headers, status in ((sign(content, SECRET), 204), ({}, 401)):
            async with session.post(url, data=content, headers=headers) as response:
                assert response.status == status
    await runner.cleanup()
    await receiver.close()
    assert [event.sequence_number for event in seen] == [7]


async def test_first_failed_verification_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A wrong secret is noticed, and any number of forged requests cannot fill the log."""
    async with Receiver(Secret(SECOND_SECRET), print) as receiver:
        for number in range(3):
            content = numbered(number)
            assert await receiver.receive(content, sign(content, SECRET)) == 401
        content = numbered(4, "webhook.test")
        assert await receiver.receive(content, sign(content, SECOND_SECRET)) == 204
    assert [record.levelname for record in caplog.records if record.levelno >= logging.WARNING] == ["WARNING"]


# --- With the simulator -----------------------------------------------------------------------------


async def test_duplicated_and_reordered_webhooks_are_passed_once() -> None:
    """The simulator delivers some events twice and in any order; each is passed on once."""
    seen: list[WebhookEvent] = []
    deliverability = Deliverability(duplication=0.5, reordering=0.3)
    async with (
        Simulator(approval="auto", failure_rate=0.0, deliverability=deliverability) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        webhook = await client.create_webhook("http://127.0.0.1:1/", ["production.step.complete"])
        async with (
            Receiver(webhook.signing_secret.reveal(), seen.append) as receiver,
            receiver.serve(path="/hook") as url,
        ):
            await client.update_webhook(webhook.id, endpoint_url=url)
            for request in requests_for(simulator, 5):
                await client.submit(request)
            await asyncio.sleep(7_200)
    assert len(simulator.deliveries) > len(seen) == 5 * 15
    assert all(delivery.delivered_at is not None for delivery in simulator.deliveries)
    assert len({(event.production_id, event.sequence_number) for event in seen}) == len(seen)
