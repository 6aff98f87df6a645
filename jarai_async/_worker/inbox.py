"""The webhook events of all processes, for the orchestrator of one worker."""

import asyncio
import logging
from collections.abc import Callable

from jarai_async import _clock
from jarai_async._errors import JaraiError
from jarai_async._orchestrator.webhook_router import Subscriber
from jarai_async._postgres.database import Database
from jarai_async._postgres.webhook_events import WebhookReader

_log = logging.getLogger("jarai_async")

_LOOK = 30.0  # seconds; then the rows are read although nothing was notified


class WebhookInbox:
    """Reads events, and hands them to the listener: what a receiver is for an orchestrator."""

    def __init__(self, database: Database) -> None:
        self._reader = WebhookReader(database)
        self._listener: Subscriber | None = None
        self._notified = asyncio.Event()

    def add_listener(self, listener: Subscriber) -> Callable[[], None]:
        """Await `listener(event)` for each event; return a function that removes it."""
        self._listener = listener

        def remove() -> None:
            self._listener = None

        return remove

    def notify(self, _: str | None = None) -> None:
        """Look for new events."""
        self._notified.set()

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            self._notified.clear()
            try:
                for event in await self._reader.read():
                    if self._listener is not None:
                        await self._listener(event)
            except JaraiError as error:  # the polls find the change
                _log.warning("webhook events cannot be used: %s", error)
            await _clock.wait_until(_clock.monotonic() + _LOOK, self._notified)
