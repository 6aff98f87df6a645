"""The webhook events of all processes, for the orchestrator of one worker."""

import asyncio
import logging
from collections.abc import Callable, Iterable

from jarai_async import _clock
from jarai_async._api.webhook_models import WebhookEvent
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
                await self._hand_over(await self._reader.read())
            except JaraiError as error:  # the polls find the change
                _log.warning("webhook events cannot be used: %s", error)
            await _clock.wait_until(_clock.monotonic() + _LOOK, self._notified)

    async def _hand_over(self, events: Iterable[WebhookEvent]) -> None:
        """Let the journal write all in one commit: they may arrive faster than one commit after the other."""
        if self._listener is not None:
            done = await asyncio.gather(*map(self._listener, events), return_exceptions=True)
            for error in filter(None, done):
                raise error
