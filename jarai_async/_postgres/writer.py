"""The writes of one worker, committed together, each under the epoch of its request.

Writes that are added while a commit is running go into the next one. A write whose epoch is over changes
nothing: another worker owns the request. While the database is away, all writes wait.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import define

from jarai_async._errors import ClosedError, JaraiError, JournalError
from jarai_async._events import Event, Finished
from jarai_async._journal.entries import Intent
from jarai_async._journal.events import encode_event
from jarai_async._postgres.database import Connection, Database
from jarai_async._tasks import start

_log = logging.getLogger("jarai_async")

EVENTS = "jarai_events"
"""The channel that is notified of new events."""
ORPHANS = "jarai_orphans"
"""The channel that is notified of requests that need another owner."""
_UPDATE = """
UPDATE jarai.requests SET account_id = %s, key = %s, body = %s, stage = %s, state = %s, ended_at = %s,
    kept = %s, production_id = %s, status = %s, is_settled = %s
    WHERE reference = %s AND epoch = %s RETURNING id
"""
_NEXT_CURSORS = "UPDATE jarai.last_cursor SET value = value + %s RETURNING value"
_INSERT_EVENT = """
INSERT INTO jarai.events (cursor, request, sequence, kind, value) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (request, sequence) DO NOTHING
"""
_STORE = "INSERT INTO jarai.facts VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value"


class SupersededError(ClosedError):
    """Another worker owns the request."""


@define(eq=False)
class Write:
    """A request as it is to be written, under an epoch, with an event; its commit, and why it failed."""

    values: tuple[Any, ...]
    commit: "asyncio.Future[None]"
    event: Event | None = None
    deliver: Callable[[], None] | None = None
    error: JaraiError | None = None


class Writer:
    """Commits writes. `on_superseded` is called with the reference of each write whose epoch is over."""

    def __init__(self, database: Database, on_superseded: Callable[[str], None]) -> None:
        self._database = database
        self._on_superseded = on_superseded
        self._writes: list[Write] = []
        self._facts: dict[str, str] = {}
        self._next_commit: asyncio.Future[None] | None = None  # the commit that will contain `_writes`
        self._running_commit: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def add(
        self,
        intent: Intent,
        epoch: int,
        event: Event | None = None,
        deliver: Callable[[], None] | None = None,
    ) -> Write:
        """Add a request, with an event, to the next commit, which then calls `deliver`."""
        is_settled = isinstance(event, Finished) and not event.outcome.is_final
        values = (*stored(intent), is_settled, intent.reference, epoch)
        write = Write(values, self._commit(), event, deliver)
        self._writes.append(write)
        return write

    def call_after(self, function: Callable[[], None]) -> None:
        """Call a function after the commit of what was added before."""
        if self._task is None:
            function()
        else:
            self._commit().add_done_callback(lambda _: function())

    def store(self, name: str, value: str) -> None:
        """Add a fact (JSON) to the next commit."""
        self._facts[name] = value
        self._commit()

    async def flush(self) -> None:
        """Wait until what was added before is committed, or has failed."""
        if commit := self._next_commit or self._running_commit:
            await asyncio.wait([commit])

    def _commit(self) -> "asyncio.Future[None]":
        if self._next_commit is None:
            self._next_commit = asyncio.get_running_loop().create_future()
        if self._task is None:
            self._task = start(self._run, name="jarai journal")
        return self._next_commit

    async def _run(self) -> None:
        try:
            while self._next_commit is not None:
                writes, facts, commit = self._writes, self._facts, self._next_commit
                self._running_commit = commit
                self._writes, self._facts, self._next_commit = [], {}, None
                await self._commit_now(writes, facts)
                for write in writes:
                    if write.deliver is not None and write.error is None:
                        write.deliver()
                commit.set_result(None)
        finally:
            if self._running_commit is not None and not self._running_commit.done():
                self._running_commit.cancel()  # this task was cancelled: as if the process had ended here
            self._task = self._running_commit = None

    async def _commit_now(self, writes: list[Write], facts: dict[str, str]) -> None:
        try:
            superseded = await self._database.transaction(partial(_write, writes, facts))
        except JaraiError as error:
            for write in writes:
                write.error = error
            if isinstance(error, JournalError):
                _log.error("%s", error)
            return
        for write in superseded:
            reference = write.values[-2]
            write.error = SupersededError(f"another worker owns {reference!r}")
            self._on_superseded(reference)


async def _write(writes: list[Write], facts: dict[str, str], connection: Connection) -> list[Write]:
    """Write all, and return those whose epoch is over."""
    superseded = []
    async with connection.cursor() as cursor:
        recorded: list[tuple[Event, int]] = []
        if writes:
            await cursor.executemany(_UPDATE, [write.values for write in writes], returning=True)
        for number, write in enumerate(writes):
            if number:
                cursor.nextset()
            row = await cursor.fetchone()
            if row is None:
                superseded.append(write)
            elif write.event is not None:
                recorded.append((write.event, row[0]))
        if facts:
            await cursor.executemany(_STORE, list(facts.items()))
        await _insert(cursor, recorded)
    return superseded


async def _insert(cursor: Any, events: list[tuple[Event, int]]) -> None:
    """Insert events, numbered in the order of the commits: the counter is locked until this one."""
    if not events:
        return
    await cursor.execute(_NEXT_CURSORS, (len(events),))
    first = (await cursor.fetchone())[0] - len(events) + 1
    rows = [
        (first + number, id_, event.sequence, type(event).__name__, encode_event(event))
        for number, (event, id_) in enumerate(events)
    ]
    await cursor.executemany(_INSERT_EVENT, rows)
    await cursor.execute("SELECT pg_notify(%s, '')", (EVENTS,))


def stored(intent: Intent) -> tuple[Any, ...]:
    """Return the columns of a request, without the space for a response that a file needs."""
    _, account_id, key, body, stage, state, ended_at, kept = intent.row()
    known: tuple[str | None, str | None] = (None, None)
    if (production := intent.production) is not None:
        known = production.id, production.status.replace("\0", "")
    return account_id, key, body, stage, state, ended_at, kept.rstrip(), *known
