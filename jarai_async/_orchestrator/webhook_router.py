"""Routes the events of a receiver to the jobs whose productions they are about.

An event may arrive before the response to the submit. So the last event of each production without a job is
kept for a while: a job may subscribe soon, or the production may belong to another process.
"""

import asyncio
import contextlib
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from typing import Protocol

from attrs import evolve

from jarai_async import _clock
from jarai_async._api.models import NIL_ID, Status
from jarai_async._api.webhook_models import WebhookEvent
from jarai_async._errors import JournalError
from jarai_async._polling.webhook_coverage import WebhookCoverage

Subscriber = Callable[[WebhookEvent], Awaitable[None]]

_EARLY_EVENTS = 10_000  # about 10 MB


class WebhookSource(Protocol):
    """What an orchestrator needs of a `Receiver`, whose server takes long to import."""

    def add_listener(self, listener: Subscriber) -> Callable[[], None]:
        """Await `listener(event)` for each new event; return a function that removes it."""
        ...


class WebhookRouter:
    """The subscribed jobs of an orchestrator, and how reliable the events of each account are."""

    def __init__(self, *, has_receiver: bool) -> None:
        self.has_receiver = has_receiver
        self.arrived: asyncio.Event = asyncio.Event()
        """Set, and then replaced, when an event of a production arrives that no job has claimed."""
        self.on_unclaimed: Callable[[str], None] = lambda _: None
        """Called with the account of an event of a production that no job has claimed."""
        self.arrivals: Counter[str] = Counter[str]()
        """How many such events have arrived, by account."""
        self._subscribers: dict[str, Subscriber] = {}
        self._early: OrderedDict[str, WebhookEvent] = OrderedDict()  # by production
        self._coverages: dict[str, WebhookCoverage] = {}  # by account

    def coverage(self, account_id: str) -> WebhookCoverage | None:
        """Return what was learned about an account's events; None without a receiver."""
        if not self.has_receiver:
            return None
        if account_id not in self._coverages:
            self._coverages[account_id] = WebhookCoverage(_clock.monotonic())
        return self._coverages[account_id]

    @property
    def mean_coverage(self) -> float | None:
        """The share of ends that webhooks are expected to announce, on average over the accounts."""
        if not self._coverages:
            return None
        now = _clock.monotonic()
        missed = [one.miss_probability(Status.DISTRIBUTING, now) for one in self._coverages.values()]
        return 1 - sum(missed) / len(missed)

    async def subscribe(self, production_id: str, subscriber: Subscriber) -> None:
        """Route the events of a production from now on, beginning with one that arrived early."""
        self._subscribers[production_id] = subscriber
        event = self._early.pop(production_id, None)
        if event is not None:
            with contextlib.suppress(JournalError):  # it was answered already; the journal logs its failure
                await self.dispatch(event)

    def unclaimed(self, account_id: str) -> list[WebhookEvent]:
        """Return the last event of each production of an account that no job has claimed."""
        events = self._early.values()
        return [one for one in events if one.account_id == account_id and one.production_id != NIL_ID]

    def unsubscribe(self, production_id: str) -> None:
        """Route no more events of a production."""
        self._subscribers.pop(production_id, None)

    async def dispatch(self, event: WebhookEvent) -> None:
        """Route an event. When this returns, the journal has it. Raises JournalError."""
        event = evolve(event, raw={})  # up to 100 KiB that nothing here needs
        if event.account_id in self._coverages:
            self._coverages[event.account_id].event_arrived(event, _clock.monotonic())
        subscriber = self._subscribers.get(event.production_id)
        if subscriber is not None:
            await subscriber(event)
            return
        self._early[event.production_id] = event
        self.arrivals[event.account_id] += 1
        self.arrived.set()
        self.arrived = asyncio.Event()
        self.on_unclaimed(event.account_id)
        if len(self._early) > _EARLY_EVENTS:
            self._early.popitem(last=False)
