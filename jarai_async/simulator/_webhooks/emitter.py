"""Tells of each production what there is to tell, at its moment, to each webhook that wants it.

It sleeps until there is a first webhook: nothing is timed, drawn or sent before. From then on one timer a
production waits for what comes next; whoever changes a fate has it looked at again.
"""

import asyncio
import json
import random
from typing import Any

from jarai_async import _clock
from jarai_async.simulator._blobs.storage import PRELIMINARY, BlobStore
from jarai_async.simulator._productions.event_schedule import ScheduledEvent, scheduled_events
from jarai_async.simulator._productions.json_bodies import iso
from jarai_async.simulator._productions.state import SimulatedProduction, World, draw_uuid
from jarai_async.simulator._webhooks.delivery import Event, SimulatedWebhook, WebhookSender

_NIL_ID = "00000000-0000-0000-0000-000000000000"
_MOST_ITEMS = 100  # documented, of `deliverable.ready`
_AT_ONCE = 1e-6  # seconds: a timer may be early by a rounding error


class WebhookEmitter:
    """Follows productions, and hands what happens to the courier."""

    def __init__(self, seed: int | str, world: World, blobs: BlobStore, sender: WebhookSender) -> None:
        self.webhooks: dict[str, SimulatedWebhook] = {}
        self._seed = seed
        self._world = world
        self._blobs = blobs
        self._sender = sender
        self._told: dict[str, int] = {}  # notices, by production
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tests = 0
        self._awake = False

    def add(self, webhook: SimulatedWebhook) -> None:
        """Tell this webhook what happens from now on."""
        self.webhooks[webhook.webhook_id] = webhook
        if self._awake:
            return
        self._awake = True
        now = _clock.monotonic()
        for production in self._world.productions.values():
            past = sum(one.moment <= now for one in scheduled_events(production))
            self._told[production.production_id] = past
            self.look(production)

    def look(self, production: SimulatedProduction) -> None:
        """Tell what is due of a production, and wait for what comes next."""
        if not self._awake:
            return
        production_id, now = production.production_id, _clock.monotonic()
        timer = self._timers.pop(production_id, None)
        if timer is not None:
            timer.cancel()
        place, to_tell = self._told.get(production_id, 0), scheduled_events(production)
        while place < len(to_tell) and to_tell[place].moment <= now + _AT_ONCE:
            place += 1
            self._tell(production, to_tell[place - 1], place)
        self._told[production_id] = place
        if place < len(to_tell):
            loop = asyncio.get_running_loop()
            self._timers[production_id] = loop.call_at(to_tell[place].moment, self.look, production)

    def test(self, webhook: SimulatedWebhook) -> None:
        """Send a test event to one webhook."""
        self._tests += 1
        rng = random.Random(f"{self._seed}:test:{self._tests}")
        fields = _envelope(rng, timestamp=iso(_clock.wall()))
        self._sender.send(webhook, _event(fields, _clock.monotonic()))

    def close(self) -> None:
        """Tell nothing any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _tell(self, production: SimulatedProduction, notice: ScheduledEvent, sequence: int) -> None:
        listeners = [
            one for one in self.webhooks.values() if one.wants(notice.event_type, production.account_id)
        ]
        if not listeners:
            return
        rng = random.Random(f"{self._seed}:event:{production.ordinal}:{sequence}")
        wall = production.wall(notice.moment)
        fields = _envelope(
            rng,
            eventType=notice.event_type,
            productionId=production.production_id,
            accountId=production.account_id,
            timestamp=iso(wall),
            sequenceNumber=sequence,
            data=notice.data,
        )
        if notice.event_type == "deliverable.ready":
            items = self._blobs.deliverables(production.production_id, PRELIMINARY, wall)
            fields["truncated"] = len(items) > _MOST_ITEMS
            fields["data"] = {"deliverables": items[:_MOST_ITEMS]}
        for webhook in listeners:
            self._sender.send(webhook, _event(fields, notice.moment))


def _envelope(rng: random.Random, **fields: Any) -> dict[str, Any]:
    """The envelope of an event, that of a test but for what is given."""
    return {
        "eventId": draw_uuid(rng),
        "eventType": "webhook.test",
        "productionId": _NIL_ID,
        "accountId": _NIL_ID,
        "timestamp": "",
        "sequenceNumber": 0,
        "correlationId": draw_uuid(rng),
        "truncated": False,
        "data": {},
        **fields,
    }


def _event(fields: dict[str, Any], moment: float) -> Event:
    return Event(
        fields["eventId"],
        fields["eventType"],
        fields["productionId"],
        fields["sequenceNumber"],
        moment,
        json.dumps(fields, separators=(",", ":")).encode(),
    )
