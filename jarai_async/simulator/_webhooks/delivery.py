"""Deliver events to webhooks as the internet does: late, twice, out of order, or not at all.

Deliveries are real HTTP requests, but only to this machine: any other endpoint counts as unreachable. The
random draws of a delivery depend on the seed, the webhook and the event alone, not on other deliveries.

Documented: signed, at least once. Inferred: the timeout, that anything but 2xx is retried, and when.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import math
import random
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from attrs import asdict, define, evolve, field, frozen
from attrs.validators import ge, le

from jarai_async import _clock
from jarai_async._tasks import start, stop
from jarai_async.simulator._common import LOOPBACK_HOSTS, draw_uuid

EVENT_TYPES = (  # documented; there are three more, which the simulator does not send
    "production.queued",
    "production.step.complete",
    "deliverable.ready",
    "production.published",
    "production.failed",
    "webhook.test",
)
_MIN_SECRET_BYTES = 16  # a shorter secret could be guessed, so `jarai_async.webhooks` rejects it
_TIMEOUT_SECONDS = 10.0
_RETRY_DELAYS = (5.0, 30.0, 120.0, 600.0, 1800.0, 7200.0)  # seconds before each retry
_DELAY_SIGMA = 0.6  # of the lognormal delay: one in a hundred takes four times the median
_REORDERING_SECONDS = 30.0  # mean additional delay of an event that later ones overtake


def _as_tuple(event_types: Iterable[str]) -> tuple[str, ...]:
    if isinstance(event_types, str):
        raise TypeError(f"event_types must be a sequence of types, not {event_types!r}")
    return tuple(event_types)


@frozen
class Deliverability:
    """How reliably webhooks are delivered: the median `delay` in seconds, and four probabilities.

    `loss`: an event never arrives, whatever the receiver does. `duplication`: it is delivered a second time,
    with a delay of its own. `reordering`: it is held back for half a minute on average, so that later events
    overtake it. `odd`: besides it, one is delivered that a receiver can do nothing with: of a new type and
    without a production, about another partner's production, or not an event at all.

    `event_types`, if not empty, are the only ones that the probabilities apply to: for example
    `Deliverability(loss=1, event_types=["production.published"])`.
    """

    delay: float = field(default=1.0, validator=ge(0))
    loss: float = field(default=0.0, validator=(ge(0), le(1)))
    duplication: float = field(default=0.0, validator=(ge(0), le(1)))
    reordering: float = field(default=0.0, validator=(ge(0), le(1)))
    odd: float = field(default=0.0, validator=(ge(0), le(1)))
    event_types: tuple[str, ...] = field(default=(), converter=_as_tuple)


@define
class SimulatedWebhook:
    """The true state of a webhook subscription; without account ids and scope it covers all accounts."""

    webhook_id: str
    ordinal: int
    endpoint_url: str
    event_types: tuple[str, ...]
    account_ids: tuple[str, ...]
    account_scope_id: str | None
    signing_secret: str = field(repr=False)
    created_wall: float
    deleted: bool = False

    def wants(self, event_type: str, account_id: str) -> bool:
        """Return whether an event of this type and account goes to this webhook."""
        accounts = (self.account_scope_id,) if self.account_scope_id else self.account_ids
        return event_type in self.event_types and (not accounts or account_id in accounts)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, the secret too, from which `Simulator.restore` makes the webhook again."""
        return asdict(self)

    def signature(self, body: bytes) -> str:
        """Return the value of the signature header (documented)."""
        padded = self.signing_secret + "=" * (-len(self.signing_secret) % 4)
        digest = hmac.new(base64.urlsafe_b64decode(padded), body, hashlib.sha256)
        return f"sha256={digest.hexdigest()}"


def check_secret(secret: str) -> None:
    """Raise ValueError unless a signing secret is base64url of 16 bytes or more; the message omits it."""
    try:
        unpadded = secret.rstrip("=").translate(str.maketrans("-_", "+/"))
        size = len(base64.b64decode(unpadded + "=" * (-len(unpadded) % 4), validate=True))
    except ValueError:
        size = 0
    if size < _MIN_SECRET_BYTES or "+" in secret or "/" in secret:
        raise ValueError(f"signing_secret must be base64url of {_MIN_SECRET_BYTES} bytes or more")


@frozen
class SimulatedEvent:
    """An event to deliver; `occurred_at` is in seconds on the loop's clock."""

    event_id: str
    event_type: str
    production_id: str
    sequence_number: int
    occurred_at: float
    body: bytes


@define
class Delivery:
    """The true state of the delivery of an event to a webhook.

    `due_at` is the time of the first attempt on the loop's clock, infinity if the event is lost. Each of the
    `attempts` is its time and the status of the response, None without a response.
    """

    delivery_id: str
    webhook_id: str
    event: SimulatedEvent
    due_at: float
    attempts: list[tuple[float, int | None]] = field(factory=list)
    given_up: bool = False

    @property
    def is_lost(self) -> bool:
        """Whether the event never arrives."""
        return math.isinf(self.due_at)

    @property
    def delivered_at(self) -> float | None:
        """The time of the attempt that received a 2xx, None if there is none yet."""
        return next((time for time, status in self.attempts if _is_success(status)), None)


class WebhookSender:
    """Sends events to webhooks, and keeps every delivery."""

    def __init__(self, seed: int | str, deliverability: Deliverability) -> None:
        self.deliverability = deliverability
        self.deliveries: list[Delivery] = []
        self._seed = seed
        self._session: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, webhook: SimulatedWebhook, event: SimulatedEvent) -> None:
        """Start the delivery of an event; `deliverability` decides what happens to it."""
        options = self.deliverability
        if options.event_types and event.event_type not in options.event_types:
            options = Deliverability(delay=options.delay)
        rng = random.Random(f"{self._seed}:delivery:{webhook.ordinal}:{event.event_id}")
        # Always the same draws in the same order, so that an option changes only what it is about.
        ids = [draw_uuid(rng) for _ in range(2)]
        loss, duplication, reordering = (rng.random() for _ in range(3))
        delays = [options.delay * rng.lognormvariate(0.0, _DELAY_SIGMA) for _ in range(2)]
        additional = rng.expovariate(1 / _REORDERING_SECONDS)
        if rng.random() < options.odd:
            odd_event = _odd_event(event, rng)
            self._start(
                webhook, Delivery(draw_uuid(rng), webhook.webhook_id, odd_event, _clock.monotonic()), 0.0
            )
        if loss < options.loss:
            self.deliveries.append(Delivery(ids[0], webhook.webhook_id, event, math.inf))
            return
        if reordering < options.reordering:
            delays[0] += additional
        copies = 2 if duplication < options.duplication else 1
        for delivery_id, delay in list(zip(ids, delays, strict=True))[:copies]:
            delivery = Delivery(delivery_id, webhook.webhook_id, event, _clock.monotonic() + delay)
            self._start(webhook, delivery, delay)

    def _start(self, webhook: SimulatedWebhook, delivery: Delivery, delay: float) -> None:
        self.deliveries.append(delivery)
        task = start(self._deliver, webhook, delivery, delay)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cancel all deliveries."""
        await stop(self._tasks)
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _deliver(self, webhook: SimulatedWebhook, delivery: Delivery, first_delay: float) -> None:
        for delay in (first_delay, *_RETRY_DELAYS):
            await asyncio.sleep(delay)
            if webhook.deleted:
                break
            started_at = _clock.monotonic()
            status = await self._post(webhook, delivery.event)
            delivery.attempts.append((started_at, status))
            if _is_success(status):
                return
        delivery.given_up = True

    async def _post(self, webhook: SimulatedWebhook, event: SimulatedEvent) -> int | None:
        """Return the status of the response, or None if there was none."""
        if urlsplit(webhook.endpoint_url).hostname not in LOOPBACK_HOSTS:
            return None
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "JARAI-Webhooks/simulated",
            "X-JARAI-Signature": webhook.signature(event.body),
        }
        if self._session is None:
            self._session = _new_session()
        request = self._session.post(
            webhook.endpoint_url, data=event.body, headers=headers, allow_redirects=False
        )
        try:
            async with request as response:
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return None


def _odd_event(event: SimulatedEvent, rng: random.Random) -> SimulatedEvent:
    """Return an event that a receiver has to acknowledge, although it can do nothing with it."""
    stranger, event_id = draw_uuid(rng), draw_uuid(rng)
    fields = {"eventId": event_id, "eventType": "partner.notice", "productionId": None, "data": ["odd"]}
    foreign = json.loads(event.body) | {"eventId": event_id, "productionId": stranger}
    body = rng.choice([json.dumps(fields).encode(), json.dumps(foreign).encode(), b"\xff not JSON"])
    return evolve(event, event_id=event_id, production_id=stranger, body=body)


def _new_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def _is_success(status: int | None) -> bool:
    return status is not None and 200 <= status < 300
