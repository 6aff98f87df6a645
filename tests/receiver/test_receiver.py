"""The receiver: what it answers, and what it hands on."""

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

from jarai_async import ConfigurationError, JaraiClient, receiver
from jarai_async._secret import Secret
from jarai_async.receiver import Receiver
from jarai_async.simulator import Deliverability, Simulator
from jarai_async.webhooks import WebhookEvent, sign
from tests.support.deliveries import SECOND_SECRET, SECRET, give, numbered, served, settled
from tests.support.scenarios import requests_for
from tests.support.strategies import ID, OTHER

# --- Handing on -------------------------------------------------------------------------------------


async def test_an_event_is_answered_and_then_handed_on() -> None:
    """In the order of arrival, to a function or a coroutine function."""
    seen: list[int] = []

    async def slowly(event: WebhookEvent) -> None:
        await asyncio.sleep(3)
        seen.append(event.sequence_number)

    def at_once(event: WebhookEvent) -> None:
        seen.append(event.sequence_number)

    for on_event in (slowly, at_once):
        seen.clear()
        async with Receiver(SECRET, on_event) as one:
            assert [await give(one, numbered(n)) for n in (3, 1, 2)] == [204] * 3
            assert seen == []
        assert seen == [3, 1, 2]


async def test_what_comes_again_is_answered_and_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    """Production and number name an event; two that share them are worth a line in the log."""
    seen: list[WebhookEvent] = []
    async with Receiver(SECRET, seen.append) as one:
        for content in (numbered(1), numbered(1), numbered(2), numbered(1, productionId=OTHER)):
            assert await give(one, content) == 204
        assert caplog.text == ""
        assert await give(one, numbered(1, eventId=ID)) == 204
    assert [(event.production_id, event.sequence_number) for event in seen] == [(ID, 1), (ID, 2), (OTHER, 1)]
    assert "both number 1" in caplog.text


async def test_every_test_event_is_handed_on() -> None:
    """They all have the same number, of no production."""
    seen: list[WebhookEvent] = []
    async with Receiver(SECRET, seen.append) as one:
        for _ in range(2):
            assert await give(one, numbered(0, "webhook.test")) == 204
    assert len(seen) == 2


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten first."""
    monkeypatch.setattr(receiver, "_REMEMBERED", 100)
    seen: list[WebhookEvent] = []
    async with Receiver(SECRET, seen.append) as one:
        for number in (*range(200), 199, 100, 99):
            assert await give(one, numbered(number)) == 204
            await settled()
        assert len(one._known) == 100
    assert len(seen) == 201


async def test_a_full_queue_is_a_503_and_forgets_nothing() -> None:
    """What is refused is sent again, and is then taken."""
    go = asyncio.Event()
    seen: list[int] = []

    async def on_event(event: WebhookEvent) -> None:
        await go.wait()
        seen.append(event.sequence_number)

    async with Receiver(SECRET, on_event) as one:
        statuses = [await give(one, numbered(n)) for n in range(1_002)]
        assert statuses == [204] * 1_000 + [503] * 2
        assert "1000 events wait" in repr(one)
        go.set()
        await settled()
        assert await give(one, numbered(1_001)) == 204
    assert seen == [*range(1_000), 1_001]


async def test_a_burst_is_no_full_queue() -> None:
    """Where `on_event` keeps up, it does not matter how many requests come at the same time."""
    seen: list[int] = []
    async with Receiver(SECRET, lambda event: seen.append(event.sequence_number)) as one:
        for burst in range(5):
            some = [give(one, numbered(burst * 500 + n)) for n in range(500)]
            assert set(await asyncio.gather(*some)) == {204}
    assert seen == list(range(2_500))


async def test_answers_go_out_while_a_function_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that does not wait holds up the answers to others for a moment, not until it has had all."""
    monkeypatch.setattr(receiver, "_SLICE", -1.0)
    seen: list[int] = []
    async with Receiver(SECRET, lambda event: seen.append(event.sequence_number)) as one:
        await asyncio.gather(*(give(one, numbered(n)) for n in range(9)))
        await asyncio.sleep(0)
        assert 0 < len(seen) < 9


@pytest.mark.parametrize("failure", [ValueError("oops"), asyncio.CancelledError()])
async def test_a_failing_callback_is_logged_and_ends_nothing(
    failure: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are handed on."""
    seen: list[int] = []

    def on_event(event: WebhookEvent) -> None:
        seen.append(event.sequence_number)
        if event.sequence_number == 1:
            raise failure

    async with Receiver(SECRET, on_event) as one:
        assert [await give(one, numbered(n)) for n in (1, 2)] == [204] * 2
    assert seen == [1, 2]
    assert f"on_event failed for event 1 of production {ID}" in caplog.text


async def test_closing_hands_on_what_was_taken_and_takes_nothing_more() -> None:
    """Within ten seconds."""
    seen: list[int] = []

    async def on_event(event: WebhookEvent) -> None:
        await asyncio.sleep(3)
        seen.append(event.sequence_number)

    one = Receiver(SECRET, on_event)
    await give(one, numbered(1))
    await give(one, numbered(2))
    await one.close()
    assert seen == [1, 2]
    assert [await give(one, numbered(n)) for n in (1, 3)] == [204, 503]
    await one.close()


async def test_closing_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    """What is not handed on then is counted in the log, the one under way included."""

    async def on_event(_: WebhookEvent) -> None:
        await asyncio.Event().wait()

    loop = asyncio.get_running_loop()
    async with Receiver(SECRET, on_event) as one:
        for number in range(3):
            await give(one, numbered(number))
        begun = loop.time()
    assert loop.time() - begun == pytest.approx(10)
    assert "3 webhook events were received and not handed on" in caplog.text
    await Receiver(SECRET, on_event).close()


# --- Answers ----------------------------------------------------------------------------------------


async def stream(*chunks: bytes, pause: float = 0.0) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await asyncio.sleep(pause)
        yield chunk


async def test_a_stream_is_read_as_far_as_is_allowed() -> None:
    """Neither longer than 256 KiB nor for more than ten seconds."""
    async with Receiver(SECRET, lambda _: None) as one:
        content = numbered(1)
        assert await one.receive(stream(content[:9], content[9:], b""), sign(content, SECRET)) == 204
        largest = content + b" " * (256 * 1024 - len(content))
        assert await give(one, largest) == 204
        assert await give(one, largest + b" ") == 413
        endless = stream(*[b"x" * 65_536] * 100)
        assert await one.receive(endless, sign(b"", SECRET)) == 413
        assert len([chunk async for chunk in endless]) == 95
        slow = stream(*[b"x"] * 100, pause=1.0)
        assert await one.receive(slow, sign(b"", SECRET)) == 408
    assert asyncio.get_running_loop().time() < 11


@given(
    st.binary(max_size=99),
    st.dictionaries(
        st.sampled_from(["X-JARAI-Signature", "Content-Length", "Content-Encoding"]) | st.text(),
        st.text() | st.integers().map(str) | st.none(),
    ),
)
def test_whatever_comes_is_refused(content: bytes, headers: Mapping[str, str]) -> None:
    """With a status, and never with an exception."""
    one = Receiver([SECRET, SECOND_SECRET], lambda _: None)
    with pytest.raises(StopIteration) as ended:
        one.receive(content, headers).send(None)
    assert ended.value.value in (401, 413, 415)


def test_a_bad_secret_is_found_at_once() -> None:
    """Not when the first webhook comes; and it is shown by nothing."""
    for secret in ("x", [SECRET, "x"], []):
        with pytest.raises(ConfigurationError):
            Receiver(secret, lambda _: None)
    one = Receiver(SECRET, lambda _: None)
    assert SECRET not in repr(one) + str(vars(one))


async def test_each_request_has_its_answer(caplog: pytest.LogCaptureFixture) -> None:
    """Over real HTTP; no body says why, but the log does, to who looks for a fault."""
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
        (404, "POST", "x", content, signed),
        (404, "POST", "/%1b[31m" + "y" * 200, content, signed),
        (405, "GET", "", None, {}),
    ]
    async with served(path="/jarai") as (url, session):
        for status, method, more, data, headers in requests:
            async with session.request(method, url + more, data=data, headers=headers) as response:
                assert (response.status, await response.read()) == (status, b"")
                assert response.headers.get("Allow") == ("POST" if status == 405 else None)
    told = [record.getMessage() for record in caplog.records if record.name == "jarai_async"]
    refused = [status for status, *_ in requests if status != 204]
    assert [int(line.removeprefix("a webhook was refused with ")[:3]) for line in told] == refused
    assert "404: it came to '/jaraix', not to /jarai" in told[-3]
    assert told[-2].isprintable()
    assert len(told[-2]) < 200
    levels = [record.levelno for record in caplog.records if record.name == "jarai_async"]
    assert Counter(levels) == {logging.DEBUG: len(refused) - 1, logging.WARNING: 1}


async def test_a_handler_of_ones_own_application() -> None:
    """Mounted beside other routes."""
    seen: list[WebhookEvent] = []
    one = Receiver(SECRET, seen.append)
    app = web.Application()
    app.router.add_post("/hooks/jarai", one.handle)
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
    await one.close()
    assert [event.sequence_number for event in seen] == [7]


async def test_a_wrong_secret_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Loud enough to be found, and no louder, however many forgeries come."""
    async with Receiver(Secret(SECOND_SECRET), print) as one:
        for number in range(3):
            content = numbered(number)
            assert await one.receive(content, sign(content, SECRET)) == 401
        content = numbered(4, "webhook.test")
        assert await one.receive(content, sign(content, SECOND_SECRET)) == 204
    assert [record.levelname for record in caplog.records if record.levelno >= logging.WARNING] == ["WARNING"]


# --- With the simulator -----------------------------------------------------------------------------


async def test_simulated_webhooks_arrive_once_each() -> None:
    """Some come twice, and all in disorder: each is handed on once."""
    seen: list[WebhookEvent] = []
    how = Deliverability(duplication=0.5, reordering=0.3)
    async with (
        Simulator(approval="auto", failure_rate=0.0, deliverability=how) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        webhook = await client.create_webhook("http://127.0.0.1:1/", ["production.step.complete"])
        async with (
            Receiver(webhook.signing_secret.reveal(), seen.append) as one,
            one.serve(path="/hook") as url,
        ):
            await client.update_webhook(webhook.id, endpoint_url=url)
            for request in requests_for(simulator, 5):
                await client.submit(request)
            await asyncio.sleep(7_200)
    assert len(simulator.deliveries) > len(seen) == 5 * 15
    assert all(one.delivered_at is not None for one in simulator.deliveries)
    assert len({(event.production_id, event.sequence_number) for event in seen}) == len(seen)
