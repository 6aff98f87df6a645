"""What a client has learned and sent, kept in the journal.

A restart neither forgets it nor sends a burst. And where JARAI has accepted a key before, the base URL is
right: in a program that is started during an outage, or with a key that is rejected, requests wait.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from contextvars import Context
from typing import Any

from jarai_async import _clock
from jarai_async._engine import Engine
from jarai_async._errors import ClosedError, JournalError
from jarai_async._journal.protocol import Journal
from jarai_async._polling.merge import added
from jarai_async._tasks import start, stop

_INTERVAL = 60.0  # seconds: what a crash may lose; the server's headers show the last minute


class Checkpoint:
    """Writes the learned sojourn times and the state of the rate limit to the journal, once a minute."""

    def __init__(self, engine: Engine, journal: Journal, learned: Mapping[str, Any]) -> None:
        self._engine = engine
        self._journal = journal
        self._learned = learned  # as the journal had it last
        self._task = start(self._write_regularly, name="jarai checkpoint", context=Context())

    @classmethod
    async def restore(cls, engine: Engine, journal: Journal) -> "Checkpoint | None":
        """Restore what an earlier process wrote, and begin to write; None without a file.

        Raises JournalError.
        """
        if journal.location is None:
            return None
        learned, sent = await journal.load("learned"), await journal.load("spent")
        if await journal.load("accepted") is not None:
            engine.transport.reached = True
            engine.credentials.was_accepted.set()
        try:
            if learned is not None:
                engine.poller.restore_state(learned)
            if sent is not None:
                engine.limiter.restore_state(sent, _clock.monotonic(), _clock.wall())
        except ValueError as error:
            raise JournalError(f"the journal {journal.location} is damaged: {error}") from None
        return cls(engine, journal, learned or {})

    async def _write_regularly(self) -> None:
        await self._engine.credentials.was_accepted.wait()
        self._journal.store("accepted", {})
        while True:
            await asyncio.sleep(_INTERVAL)
            await self._write()

    async def _write(self) -> None:
        engine, poller = self._engine, self._engine.poller
        self._journal.store("spent", engine.limiter.export_state(_clock.monotonic(), _clock.wall()))
        now = poller.export_state()
        self._learned = await self._journal.add_learned(now, self._learned)
        if self._learned is not now:
            poller.use_state(added(self._learned, poller.export_state(), now))

    async def close(self) -> None:
        """Write for the last time."""
        await stop([self._task])
        with contextlib.suppress(ClosedError):  # the database is away: the next process learns it again
            await self._write()
