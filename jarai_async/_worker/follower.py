"""Wakes the readers of one process when any worker has recorded an event."""

import asyncio
import logging

from jarai_async import _clock
from jarai_async._errors import JournalError
from jarai_async._postgres.journal import PostgresJournal
from jarai_async._tasks import start, stop

_log = logging.getLogger("jarai_async")

_LOOK = 10.0  # seconds; then it looks, although nothing was notified


class Follower:
    """Follows the events behind `cursor`."""

    def __init__(self, journal: PostgresJournal, cursor: int) -> None:
        self._journal = journal
        self._cursor = cursor
        self._notified = asyncio.Event()
        self._task = start(self._run, name="jarai follower")

    def notify(self, _: str | None = None) -> None:
        """Look for new events."""
        self._notified.set()

    async def close(self) -> None:
        """Stop."""
        await stop([self._task])

    async def _run(self) -> None:
        history = self._journal.history
        while True:
            await _clock.wait_until(_clock.monotonic() + _LOOK, self._notified)
            self._notified.clear()
            try:
                changed = await self._journal.changed(self._cursor)
            except JournalError as error:
                _log.warning("events cannot be read: %s", error)
                continue
            for cursor, reference in changed:
                self._cursor = cursor
                history.wake(reference)
            if changed:
                history.wake(None)
