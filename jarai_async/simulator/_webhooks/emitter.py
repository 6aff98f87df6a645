"""Send each event of a production when it occurs, to each webhook that wants it.

Without a webhook nothing is scheduled, drawn or sent. After the first one is added, one timer per production
waits for its next event. Code that changes a timeline calls `emit_due`, which schedules the timer again.
"""

import json
import random
from collections.abc import Callable
from functools import partial
from typing import Any

from jarai_async import _clock
from jarai_async.simulator._blobs.storage import PRELIMINARY, BlobStore
from jarai_async.simulator._common import NIL_UUID, draw_uuid, iso
from jarai_async.simulator._productions.event_schedule import ScheduledEvent, scheduled_events
from jarai_async.simulator._productions.state import SimulatedProduction, World
from jarai_async.simulator._webhooks.delivery import SimulatedEvent, SimulatedWebhook, WebhookSender

_MAX_ITEMS = 100  # documented, of `deliverable.ready`


class WebhookEmitter:
    """Watches productions and passes their events to the sender."""

    def __init__(self, seed: int | str, world: World, blobs: BlobStore, sender: WebhookSender) -> None:
        self.webhooks: dict[str, SimulatedWebhook] = {}
        self.on_change: Callable[[SimulatedWebhook], object] = lambda _: None
        self._seed = seed
        self._world = world
        self._blobs = blobs
        self._sender = sender
        self._emitted: dict[str, int] = {}  # number of events, by production
        self._timers: dict[str, _clock.Timer] = {}
        self._tests = 0
        self._active = False

    def add(self, webhook: SimulatedWebhook) -> None:
        """Add a webhook; it receives events that occur from now on."""
        self.webhooks[webhook.webhook_id] = webhook
        if self._active:
            return
        self._active = True
        now = _clock.monotonic()
        for production in self._world.productions.values():
            past = sum(event.occurs_at <= now for event in scheduled_events(production))
            self._emitted[production.production_id] = past
            self.emit_due(production)

    def emit_due(self, production: SimulatedProduction) -> None:
        """Emit the events of a production that are due, and schedule the next one."""
        if not self._active:
            return
        production_id, now = production.production_id, _clock.monotonic()
        timer = self._timers.pop(production_id, None)
        if timer is not None:
            timer.cancel()
        emitted, events = self._emitted.get(production_id, 0), scheduled_events(production)
        while emitted < len(events) and events[emitted].occurs_at <= now:
            emitted += 1
            self._emit(production, events[emitted - 1], emitted)
        self._emitted[production_id] = emitted
        if emitted < len(events):
            at = events[emitted].occurs_at
            self._timers[production_id] = _clock.Timer(at, partial(self.emit_due, production))

    def test(self, webhook: SimulatedWebhook) -> None:
        """Send a test event to one webhook."""
        self._tests += 1
        rng = random.Random(f"{self._seed}:test:{self._tests}")
        envelope = _envelope(rng, timestamp=iso(_clock.wall()))
        self._sender.send(webhook, _to_event(envelope, _clock.monotonic()))

    def close(self) -> None:
        """Cancel all timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _emit(self, production: SimulatedProduction, event: ScheduledEvent, sequence: int) -> None:
        webhooks = [
            webhook
            for webhook in self.webhooks.values()
            if webhook.wants(event.event_type, production.account_id)
        ]
        if not webhooks:
            return
        wall = production.wall(event.occurs_at)
        envelope = _envelope(
            random.Random(f"{self._seed}:event:{production.ordinal}:{sequence}"),
            eventType=event.event_type,
            productionId=production.production_id,
            accountId=production.account_id,
            timestamp=iso(wall),
            sequenceNumber=sequence,
            data=event.data,
        )
        if event.event_type == "deliverable.ready":
            items = self._blobs.deliverables(production.production_id, PRELIMINARY, wall)
            envelope["truncated"] = len(items) > _MAX_ITEMS
            envelope["data"] = {"deliverables": items[:_MAX_ITEMS]}
        for webhook in webhooks:
            self._sender.send(webhook, _to_event(envelope, event.occurs_at))


def _envelope(rng: random.Random, **fields: Any) -> dict[str, Any]:
    """Return the envelope of an event; without further fields it is that of a test event."""
    return {
        "eventId": draw_uuid(rng),
        "eventType": "webhook.test",
        "productionId": NIL_UUID,
        "accountId": NIL_UUID,
        "timestamp": "",
        "sequenceNumber": 0,
        "correlationId": draw_uuid(rng),
        "truncated": False,
        "data": {},
        **fields,
    }


def _to_event(envelope: dict[str, Any], occurred_at: float) -> SimulatedEvent:
    return SimulatedEvent(
        envelope["eventId"],
        envelope["eventType"],
        envelope["productionId"],
        envelope["sequenceNumber"],
        occurred_at,
        json.dumps(envelope, separators=(",", ":")).encode(),
    )
