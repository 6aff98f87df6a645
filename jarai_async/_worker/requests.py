"""The requests of a queue, as its tickets read them, wait for them and decide about them."""

import asyncio
import logging
from collections.abc import AsyncGenerator

from jarai_async import _clock
from jarai_async._errors import ClosedError
from jarai_async._events import Event, Outcome
from jarai_async._journal.entries import Intent
from jarai_async._postgres.commands import Commands, Kind, unknown_request
from jarai_async._postgres.database import Database
from jarai_async._postgres.journal import PostgresJournal

_log = logging.getLogger("jarai_async")

_LOOK = 10.0  # seconds; then a decision is looked at, although nothing was notified
_LIVE_WORKERS = "SELECT 1 FROM jarai.workers WHERE jarai.lives(id) LIMIT 1"


class Requests:
    """All requests of one database. `is_open` is False once the queue is closed: no caller waits any more."""

    def __init__(self, database: Database, journal: PostgresJournal) -> None:
        self.is_open: bool = False
        self._database = database
        self._journal = journal
        self._commands = Commands(database)
        self._decided = asyncio.Event()

    def close(self) -> None:
        """Let those who wait raise ClosedError."""
        self.is_open = False
        self._journal.history.wake_all()
        self.on_decided(None)

    def on_decided(self, _: str | None) -> None:
        """Look whether a decision was carried out."""
        self._decided.set()
        self._decided = asyncio.Event()

    async def read(self, reference: str) -> tuple[Intent, Outcome | None]:
        """Return a request, and its outcome. Raises InvalidRequestError where there is none; JournalError."""
        intent = await self._journal.find(reference)
        if intent is None:
            raise unknown_request(reference)
        return intent, (await self._journal.outcomes(reference)).get(reference)

    async def outcome(self, reference: str) -> Outcome:
        """Wait for the outcome of a request. Raises as `read`, and ClosedError."""
        changed = self._journal.history.reader(reference)
        while True:
            changed.clear()
            if (outcome := (await self.read(reference))[1]) is not None:
                return outcome
            self._check_open(reference)
            await changed.wait()

    async def events(self, reference: str, after: int) -> AsyncGenerator[Event, None]:
        """Iterate over the events of a request until its outcome. Raises as `outcome`."""
        history = self._journal.history
        changed = history.reader(reference)
        while True:
            changed.clear()
            has_ended = (await self.read(reference))[1] is not None
            events = await history.after(after, reference)
            for event in events:
                after = event.cursor
                yield event
            if not events:
                if has_ended:
                    return
                self._check_open(reference)
                await changed.wait()

    async def decide(self, reference: str, kind: Kind, argument: str | None = None) -> None:
        """Have a worker carry out a decision, and wait for that.

        Raises why it could not be carried out, and as `outcome`.
        """
        await self.read(reference)
        command = await self._commands.add(reference, kind, argument)
        if not await self._database.read(_LIVE_WORKERS):
            message = "no worker is running: one that is started carries out the %s of %s"
            _log.warning(message, kind, reference)
        while True:
            decided = self._decided
            if await self._commands.is_done(command):
                return
            self._check_open(reference)
            await _clock.wait_until(_clock.monotonic() + _LOOK, decided)

    def _check_open(self, reference: str) -> None:
        if not self.is_open:
            raise ClosedError(f"the queue was closed; {reference!r} and what was decided are in the database")
