"""Webhook events that arrive at any process, for the worker that owns their production.

They are hints, so they are kept for an hour only: a production may be accepted, or change its owner, after
its event has arrived.
"""

import json
from typing import Final

from jarai_async._api.codec import decode, encode
from jarai_async._api.webhook_models import EVENTS, WebhookEvent
from jarai_async._postgres.database import Connection, Database

WEBHOOKS: Final = "jarai_webhooks"
"""The channel that is notified of new events."""
_KEPT = 3600.0  # seconds
_LATE = 60.0  # seconds by which the longest transaction may commit after a later one
_INSERT = "INSERT INTO jarai.webhooks (received_at, production_id, event) VALUES (jarai.now(), %s, %s)"
_DELETE_OLD = """
WITH now AS MATERIALIZED (SELECT jarai.now() AS now)
DELETE FROM jarai.webhooks USING now WHERE received_at < now - %s
"""
_NOTIFY = "SELECT pg_notify(%s, '')"
_NEW = "SELECT id, received_at, event FROM jarai.webhooks WHERE id > %s AND id <> ALL(%s) ORDER BY id"


async def record(database: Database, event: WebhookEvent) -> None:
    """Keep an event, and notify the workers. Raises as `Database.transaction`."""

    async def insert(connection: Connection) -> None:
        await connection.execute(_INSERT, (event.production_id, json.dumps(encode(event))))
        await connection.execute(_DELETE_OLD, (_KEPT,))
        await connection.execute(_NOTIFY, (WEBHOOKS,))

    await database.transaction(insert)


class WebhookReader:
    """Reads the events of all processes, each once, also those that are committed late."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._first = 0  # what follows may still be committed
        self._seen: dict[int, float] = {}  # when the events behind it were received, by id

    async def read(self) -> list[WebhookEvent]:
        """Return the events that were not returned before. Raises as `Database.read`."""
        new = await self._database.read(_NEW, (self._first, [*self._seen]))
        self._seen.update((id_, received_at) for id_, received_at, _ in new)
        certain = max(self._seen.values(), default=0.0) - _LATE
        self._first = max((id_ for id_, at in self._seen.items() if at < certain), default=self._first)
        self._seen = {id_: at for id_, at in self._seen.items() if id_ > self._first}
        return [decode(event, EVENTS.get(event["eventType"], WebhookEvent)) for _, _, event in new]
