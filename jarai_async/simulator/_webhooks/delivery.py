"""Brings events to webhooks as the internet does: late, twice, out of order, or not at all.

Over real HTTP, but to this machine only: an endpoint elsewhere counts as one that is down. Every die
is drawn from the seed, the webhook and the event, so that it does not matter what else is on its way.

Documented: signed, and at least once. Inferred: how long an answer is waited for, that anything but 2xx
is tried again, and when.
"""

import asyncio
import base64
import hashlib
import hmac
import math
import random
from urllib.parse import urlsplit

import aiohttp
from attrs import define, field, frozen
from attrs.validators import ge, le

from jarai_async import _clock
from jarai_async.simulator._productions.state import draw_uuid

LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost")
_ANSWER_SECONDS = 10.0
_PAUSES = (
    5.0,
    30.0,
    120.0,
    600.0,
    1800.0,
    7200.0,
)  # seconds before each further attempt; then it is given up
_SPREAD = 0.6  # of the delay's lognormal: one in a hundred takes four times the median
_HELD_BACK = 30.0  # mean seconds of what others overtake


@frozen
class Deliverability:
    """How well webhooks arrive: `delay` in seconds (the median), and probabilities.

    `loss` is that of an event never arriving at all, whatever the receiver does, `duplication` that of a
    second delivery with a delay of its own, `reordering` that of being held back for half a minute on
    average, so that later events overtake.
    """

    delay: float = field(default=1.0, validator=ge(0))
    loss: float = field(default=0.0, validator=(ge(0), le(1)))
    duplication: float = field(default=0.0, validator=(ge(0), le(1)))
    reordering: float = field(default=0.0, validator=(ge(0), le(1)))


@define
class SimulatedWebhook:
    """A subscription as it really is; no account stands for all of them."""

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
        """Whether an event is for it."""
        accounts = (self.account_scope_id,) if self.account_scope_id else self.account_ids
        return event_type in self.event_types and (not accounts or account_id in accounts)

    def signature(self, body: bytes) -> str:
        """The header's value (documented)."""
        padded = self.signing_secret + "=" * (-len(self.signing_secret) % 4)
        digest = hmac.new(base64.urlsafe_b64decode(padded), body, hashlib.sha256)
        return f"sha256={digest.hexdigest()}"


@frozen
class Event:
    """Something to bring; `moment` is when it happened, on the loop's clock."""

    event_id: str
    event_type: str
    production_id: str
    sequence_number: int
    moment: float
    body: bytes


@define
class Delivery:
    """An event on its way to a webhook, as it really is.

    `due_at` is when it is first tried, on the loop's clock, infinity where it is lost. `attempts` are the
    moment of each and the status of its answer, None where none came.
    """

    delivery_id: str
    webhook_id: str
    event: Event
    due_at: float
    attempts: list[tuple[float, int | None]] = field(factory=list)
    given_up: bool = False

    @property
    def is_lost(self) -> bool:
        """Whether it never arrives."""
        return math.isinf(self.due_at)

    @property
    def delivered_at(self) -> float | None:
        """The moment of the attempt that was answered with 2xx, None for as long as there is none."""
        return next((at for at, status in self.attempts if _is_success(status)), None)


class WebhookSender:
    """Everything that is on its way."""

    def __init__(self, seed: int | str, deliverability: Deliverability) -> None:
        self.deliverability = deliverability
        self.deliveries: list[Delivery] = []
        self._seed = seed
        self._session: aiohttp.ClientSession | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    def send(self, webhook: SimulatedWebhook, event: Event) -> None:
        """Bring an event to a webhook, as well as it goes."""
        how = self.deliverability
        rng = random.Random(f"{self._seed}:delivery:{webhook.ordinal}:{event.event_id}")
        # The same dice in the same order, whatever they decide.
        names = [draw_uuid(rng) for _ in range(2)]
        lost, doubled, held_back = (rng.random() for _ in range(3))
        delays = [how.delay * rng.lognormvariate(0.0, _SPREAD) for _ in range(2)]
        hold = rng.expovariate(1 / _HELD_BACK)
        if lost < how.loss:
            self.deliveries.append(Delivery(names[0], webhook.webhook_id, event, math.inf))
            return
        delays[0] += hold if held_back < how.reordering else 0.0
        copies = 2 if doubled < how.duplication else 1
        for name, delay in zip(names[:copies], delays, strict=False):
            delivery = Delivery(name, webhook.webhook_id, event, _clock.monotonic() + delay)
            self.deliveries.append(delivery)
            task = asyncio.create_task(self._deliver(webhook, delivery, delay))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def close(self) -> None:
        """Let go of everything that is on its way."""
        tasks = list(self._under_way)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _deliver(self, webhook: SimulatedWebhook, delivery: Delivery, delay: float) -> None:
        for pause in (delay, *_PAUSES):
            await asyncio.sleep(pause)
            if webhook.deleted:
                break
            begun = _clock.monotonic()
            status = await self._post(webhook, delivery.event)
            delivery.attempts.append((begun, status))
            if _is_success(status):
                return
        delivery.given_up = True

    async def _post(self, webhook: SimulatedWebhook, event: Event) -> int | None:
        """Give the answer's status, None where there was none."""
        if urlsplit(webhook.endpoint_url).hostname not in LOCAL_HOSTS:
            return None
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
            )
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "JARAI-Webhooks/simulated",
            "X-JARAI-Signature": webhook.signature(event.body),
        }
        request = self._session.post(
            webhook.endpoint_url, data=event.body, headers=headers, allow_redirects=False
        )
        try:
            async with request as response:
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return None


def _is_success(status: int | None) -> bool:
    return status is not None and 200 <= status < 300
