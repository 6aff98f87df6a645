"""Listeners of the receiver: they process an event before the response, and can be removed."""

import asyncio
from collections import Counter

import pytest

from jarai_async import JournalError
from jarai_async.receiver import Receiver
from jarai_async.webhooks import WebhookEvent
from tests.support.deliveries import SECRET, deliver, numbered, run_pending_tasks


async def test_listener_is_awaited_before_the_response() -> None:
    """Each listener gets each new event once, and no event after it was removed."""
    seen: list[tuple[str, int]] = []

    async def first(event: WebhookEvent) -> None:
        await asyncio.sleep(1)
        seen.append(("first", event.sequence_number))

    async def second(event: WebhookEvent) -> None:
        seen.append(("second", event.sequence_number))

    async with Receiver(SECRET) as receiver:
        remove_first, remove_second = receiver.add_listener(first), receiver.add_listener(second)
        assert [await deliver(receiver, numbered(n)) for n in (1, 1)] == [204, 204]
        assert seen == [("first", 1), ("second", 1)]
        remove_first()
        assert await deliver(receiver, numbered(2)) == 204
        assert seen[2:] == [("second", 2)]
        remove_second()
        assert await deliver(receiver, numbered(3)) == 503  # there is no callback and no listener


async def test_removing_a_listener_is_idempotent() -> None:
    """A second call does nothing, even if the same listener was added again in between."""
    seen: list[int] = []

    async def listener(event: WebhookEvent) -> None:
        seen.append(event.sequence_number)

    async with Receiver(SECRET) as receiver:
        remove = receiver.add_listener(listener)
        remove()
        receiver.add_listener(listener)
        remove()
        assert await deliver(receiver, numbered(1)) == 204
    assert seen == [1]


async def test_event_that_a_listener_cannot_record_is_rejected(caplog: pytest.LogCaptureFixture) -> None:
    """JournalError gives a 503, and the event is accepted when it is delivered again."""
    failures = [JournalError("the disk is full")]
    seen: list[int] = []

    async def listener(_: WebhookEvent) -> None:
        if failures:
            raise failures.pop()

    async with Receiver(SECRET, lambda event: seen.append(event.sequence_number)) as receiver:
        receiver.add_listener(listener)
        assert [await deliver(receiver, numbered(1)) for _ in range(2)] == [503, 204]
    assert seen == [1]
    assert "JARAI will deliver it again: the disk is full" in caplog.text


async def test_other_exception_of_a_listener_propagates() -> None:
    """`receive` raises it, and the event can be delivered again."""

    async def listener(_: WebhookEvent) -> None:
        raise LookupError

    async with Receiver(SECRET) as receiver:
        remove = receiver.add_listener(listener)
        with pytest.raises(LookupError):
            await deliver(receiver, numbered(1))
        remove()
        assert await deliver(receiver, numbered(1)) == 503


async def test_event_that_arrives_twice_at_once_is_passed_once() -> None:
    """A duplicate that arrives while a listener processes the first delivery is not passed to `on_event`."""
    seen: list[int] = []

    async def listener(_: WebhookEvent) -> None:
        await asyncio.sleep(1)

    async with Receiver(SECRET, lambda event: seen.append(event.sequence_number)) as receiver:
        receiver.add_listener(listener)
        deliveries = [deliver(receiver, numbered(1)) for _ in range(3)]
        assert await asyncio.gather(*deliveries) == [204] * 3
    assert seen == [1]


async def test_receiver_that_is_closed_while_a_listener_runs_rejects_the_event() -> None:
    """Whether events can be accepted is checked again after the listeners."""
    seen: list[int] = []
    receiver = Receiver(SECRET, lambda event: seen.append(event.sequence_number))

    async def listener(_: WebhookEvent) -> None:
        await receiver.close()

    receiver.add_listener(listener)
    assert await deliver(receiver, numbered(1)) == 503
    assert seen == []


async def test_queue_does_not_grow_beyond_its_limit_while_listeners_run() -> None:
    """Whether there is room is checked again after the listeners."""
    proceed = asyncio.Event()

    async def listener(_: WebhookEvent) -> None:
        await proceed.wait()

    async with Receiver(SECRET, lambda _: None) as receiver:
        receiver.add_listener(listener)
        deliveries = [asyncio.create_task(deliver(receiver, numbered(n))) for n in range(1_100)]
        await run_pending_tasks()
        proceed.set()
        statuses = Counter(await asyncio.gather(*deliveries))
    assert statuses == {204: 1_000, 503: 100}
