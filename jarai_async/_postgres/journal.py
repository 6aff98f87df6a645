"""The journal in PostgreSQL, as one worker sees it: it reads all requests, and writes those that it owns."""

import asyncio
import json
import sys
from collections.abc import Callable, Collection, Iterable, KeysView, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from attrs import asdict

from jarai_async import _clock
from jarai_async._errors import ConfigurationError, InvalidRequestError, JournalError, NotSentError
from jarai_async._events import Downloaded, Event, Finished, Outcome, SavedFile
from jarai_async._journal.database import Server
from jarai_async._journal.entries import Intent, Stage
from jarai_async._journal.events import decode_event
from jarai_async._journal.history import History
from jarai_async._polling.merge import added
from jarai_async._postgres.database import Connection, Database, rows
from jarai_async._postgres.writer import ORPHANS, SupersededError, Writer, stored

_LONGEST_COMMIT = 5.0  # seconds from the start of writing that a submit is sent to its first byte
_SELECT = "SELECT reference, account_id, key, body, stage, state, ended_at, kept FROM jarai.requests"
_MAY_END_AS = "(%(state)s::text IS NULL OR state = %(state)s OR stage <> 'ended')"
_SELECT_EVENTS = """
SELECT cursor, reference, sequence, kind, value, account_id, body
    FROM jarai.events JOIN jarai.requests ON requests.id = events.request
"""
_LAST_CURSORS = "SELECT max(cursor) FROM jarai.events GROUP BY request"
_SELECT_LAST = f"{_SELECT_EVENTS} WHERE {_MAY_END_AS} AND cursor IN ({_LAST_CURSORS})"
_SELECT_CHANGED = """
SELECT cursor, reference FROM jarai.events JOIN jarai.requests ON requests.id = events.request
    WHERE cursor > %s ORDER BY cursor
"""
_SELECT_LAST_OF_ENDED = """
SELECT DISTINCT ON (requests.id) cursor, reference, sequence, kind, value, account_id, body
    FROM jarai.requests JOIN jarai.events ON requests.id = events.request
    WHERE (is_settled OR stage = 'ended') AND (%(one)s::text IS NULL OR reference = %(one)s)
    ORDER BY requests.id, sequence DESC
"""
_OWNER_OF = "SELECT reference FROM jarai.requests WHERE production_id = %s"
_FORMER_OWNER_OF = "SELECT reference FROM jarai.requests WHERE strpos(kept, %s) > 0"
_FORGET = """
DELETE FROM jarai.requests WHERE stage = 'ended' AND worker IS NULL
    AND (reference = ANY(%s) OR ended_at < %s) RETURNING reference
"""
_CLAIM = """
UPDATE jarai.requests SET worker = %s, epoch = epoch + 1,
    stage = CASE stage WHEN 'sending' THEN 'in doubt' ELSE stage END WHERE id = %s RETURNING epoch
"""
_CLAIM_ORPHANS = """
WITH orphans AS (
    SELECT id FROM jarai.requests WHERE worker IS NULL AND NOT is_settled
        AND stage IN ('sending', 'in doubt', 'accepted') ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)
UPDATE jarai.requests SET worker = %s, epoch = epoch + 1,
    stage = CASE stage WHEN 'sending' THEN 'in doubt' ELSE stage END
    FROM orphans WHERE requests.id = orphans.id
    RETURNING epoch, reference, account_id, key, body, stage, state, ended_at, kept
"""
_LOCK_LEARNED = "SELECT value FROM jarai.facts WHERE name = 'learned' FOR UPDATE"
_STORE_LEARNED = "UPDATE jarai.facts SET value = %s WHERE name = 'learned'"
_BIND = "INSERT INTO jarai.facts VALUES ('server', %s) ON CONFLICT (name) DO NOTHING"
_RELEASE = """
UPDATE jarai.requests SET worker = NULL, is_settled = coalesce(%s, is_settled)
    WHERE reference = %s AND epoch = %s
"""
_RELEASE_ENDED = """
UPDATE jarai.requests SET worker = NULL
    WHERE reference = %s AND worker = %s AND (is_settled OR stage = 'ended')
"""
_LOCK_IN_DOUBT = f"{_SELECT} WHERE reference = %s AND key = %s AND stage = 'in doubt' FOR UPDATE"
_RECORD_LATE = """
UPDATE jarai.requests SET account_id = %s, key = %s, body = %s, stage = %s, state = %s, ended_at = %s,
    kept = %s, production_id = %s, status = %s, epoch = epoch + 1, worker = NULL, is_settled = false
    WHERE reference = %s
"""
_LOCK = """
SELECT id, worker <> %s AND jarai.lives(worker), is_settled OR stage = 'ended',
    reference, account_id, key, body, stage, state, ended_at, kept
    FROM jarai.requests WHERE reference = %s FOR UPDATE
"""


def is_storable(text: str) -> bool:
    """Whether PostgreSQL can store it: a Python string may hold the character zero and lone surrogates."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


class PostgresJournal:
    """The journal of one worker. `on_superseded` is called for a request that another worker has taken."""

    def __init__(self, database: Database, worker: UUID, on_superseded: Callable[[str], None]) -> None:
        self.history: History = History(self._select_events, self.flush)
        self.history.latest = sys.maxsize  # only the database knows it
        self._database = database
        self._worker = worker
        self._on_superseded = on_superseded
        self._writer = Writer(database, self.superseded)
        self._owned: dict[str, tuple[int, Intent]] = {}  # epoch and state, by reference
        self._claiming = asyncio.Lock()

    @property
    def location(self) -> str | None:
        """The URL of the database, without a password."""
        return self._database.location

    @property
    def failure(self) -> JournalError | None:
        """Return None: what could not be written is continued by another worker, from what was."""
        return None

    @property
    def owned(self) -> KeysView[str]:
        """The references of the requests that this worker owns, as far as it knows."""
        return self._owned.keys()

    # --- Ownership ---------------------------------------------------------------------------------

    async def bind(self, server: Server) -> None:
        """Record the server whose productions it has. Raises JournalError where that is another one."""

        async def bind(connection: Connection) -> Any:
            await connection.execute(_BIND, (json.dumps(asdict(server)),))
            [(bound,)] = await rows(connection, "SELECT value FROM jarai.facts WHERE name = 'server'")
            return bound

        bound = Server(**await self._database.transaction(bind))
        if bound != server:
            raise JournalError(
                f"{self._database.name} was made for {bound}, which alone knows its productions, but this "
                f"client uses {server}: use the same again, or another database"
            )

    async def claim(self, reference: str, *, even_settled: bool = False) -> Intent | None:
        """Own a request from now on, and return it.

        None if it does not exist, a live worker owns it, or (unless `even_settled`) no worker has to do
        anything. Raises as `find`.
        """

        async def claim(connection: Connection) -> tuple[int, Intent] | None:
            found = await rows(connection, _LOCK, (self._worker, reference))
            if not found:
                return None
            id_, is_owned, is_settled = found[0][:3]
            if is_owned or (is_settled and not even_settled):
                return None
            [(epoch,)] = await rows(connection, _CLAIM, (self._worker, id_))
            intent = Intent.from_row(found[0][3:])
            if intent.stage is Stage.SENDING:
                intent.stage = Stage.IN_DOUBT
            return epoch, intent

        async with self._claiming:
            if reference in self._owned:
                return self._owned[reference][1]
            claimed = await self._database.transaction(claim)
            if claimed is None:
                return None
            self._owned[reference] = claimed
            return claimed[1]

    async def claim_orphans(self, most: int) -> list[Intent]:
        """Own at most so many requests of dead workers that have a production, or may have one; return them.

        Others may do the same at the same time: none waits for another. Raises as `find`.
        """
        async with self._claiming:
            claimed = await self._database.read(_CLAIM_ORPHANS, (most, self._worker))
            intents = [Intent.from_row(row[1:]) for row in claimed]
            self._owned.update(
                (one.reference, (row[0], one)) for row, one in zip(claimed, intents, strict=True)
            )
            return intents

    async def release(self, reference: str, *, is_settled: bool | None) -> None:
        """Own a request no longer. `is_settled`: no worker has to do anything until a user decides.

        None leaves that as it is. Raises as `find`.
        """
        await self.flush()
        owned = self._owned.pop(reference, None)
        if owned is not None:
            await self._database.read(_RELEASE, (is_settled, reference, owned[0]))

    async def release_ended(self, reference: str) -> None:
        """Own a request no longer that has ended, of which this worker had lost track. Raises as `find`."""
        await self._database.read(_RELEASE_ENDED, (reference, self._worker))

    def superseded(self, reference: str) -> None:
        """Take note that another worker owns a request."""
        if self._owned.pop(reference, None) is not None:
            self._on_superseded(reference)

    # --- Reading -----------------------------------------------------------------------------------

    async def find(self, reference: str) -> Intent | None:
        """Return the intent of a request, if there is one. Raises JournalError, ClosedError."""
        if reference in self._owned:
            return self._owned[reference][1]
        if not is_storable(reference):
            return None
        for intent in await self._read_intents(f"{_SELECT} WHERE reference = %s", (reference,)):
            return intent
        return None

    async def unknown(self, references: Iterable[str]) -> set[str]:
        """Return those of the references that `find` would return None for. Raises as `find`."""
        wanted = set(references)
        query = "SELECT reference FROM jarai.requests WHERE reference = ANY(%s)"
        return wanted - {row[0] for row in await self._database.read(query, (list(wanted),))}

    async def intents(self, state: str | None = None) -> list[Intent]:
        """Return all intents in their order; with a `state`, as the protocol says. Raises as `find`."""
        return await self._read_intents(f"{_SELECT} WHERE {_MAY_END_AS} ORDER BY id", {"state": state})

    async def unfinished(self) -> list[Intent]:
        """Return the intents of requests that have not ended, in their order. Raises as `find`."""
        return await self._read_intents(f"{_SELECT} WHERE stage <> 'ended' ORDER BY id")

    async def owner_of(self, production_id: str) -> str | None:
        """Return the reference of the request that created a production, if one did. Raises as `find`."""
        for query in (_OWNER_OF, _FORMER_OWNER_OF):
            for row in await self._database.read(query, (production_id,)):
                return str(row[0])
        return None

    async def in_doubt(self, account_id: str) -> list[Intent]:
        """Return an account's requests, of all workers, whose submit may have created an unknown production.

        Those whose submit is on its way are among them. Raises as `find`.
        """
        query = f"{_SELECT} WHERE account_id = %s AND stage IN ('in doubt', 'sending')"
        return await self._read_intents(query, (account_id,))

    async def is_new(self) -> bool:
        """Whether it has no request. Raises as `find`."""
        return not await self._database.read("SELECT 1 FROM jarai.requests LIMIT 1")

    async def load(self, name: str) -> Any:
        """Return a fact, or None if there is none. Raises as `find`."""
        found = await self._database.read("SELECT value FROM jarai.facts WHERE name = %s", (name,))
        return found[0][0] if found else None

    async def unread(self, intent: Intent) -> list[Event]:
        """Return the events of a request that the reader of a run has not taken. Raises as `find`."""
        return await self._read_events(
            "reference = %s AND sequence > %s", intent.reference, intent.acknowledged
        )

    async def files(self, intent: Intent) -> dict[Path, SavedFile]:
        """Return the downloaded files of a request's production, by path. Raises as `find`."""
        if not intent.has_files:
            return {}
        id_ = intent.production and intent.production.id
        return {
            event.path: event.saved
            for event in await self._read_events("reference = %s AND kind = 'Downloaded'", intent.reference)
            if isinstance(event, Downloaded) and event.production.id == id_
        }

    async def last_event(self, intent: Intent) -> Event | None:
        """Return the last event of a request. Raises as `find`."""
        events = await self._read_events(
            "reference = %s AND sequence >= %s", intent.reference, intent.sequence
        )
        return events[-1] if events else None

    async def last_events(self, state: str | None = None) -> dict[str, Event]:
        """Return the last event of each request that `intents` returns, by reference. Raises as `find`."""
        last = await self._database.read(_SELECT_LAST, {"state": state})
        return {row[1]: decode_event(row) for row in last}

    async def _select_events(self, after: int, reference: str | None, limit: int) -> list[Event]:
        where = "cursor > %s AND (%s::text IS NULL OR reference = %s)"
        events = await self._read_events(where, after, reference, reference, limit=limit)
        if not events and after > (latest := await self.latest()):
            raise InvalidRequestError([f"no event has the cursor {after}, the newest has {latest}"])
        return events

    async def latest(self) -> int:
        """Return the cursor of the newest event. Raises as `find`."""
        return int((await self._database.read("SELECT value FROM jarai.last_cursor"))[0][0])

    async def changed(self, after: int) -> list[tuple[int, str]]:
        """Return the cursors and references of the events behind a cursor. Raises as `find`."""
        return [(row[0], row[1]) for row in await self._database.read(_SELECT_CHANGED, (after,))]

    async def outcomes(self, reference: str | None = None) -> dict[str, Outcome]:
        """Return the outcomes of requests for which no worker has to do anything, of one or of all.

        Raises as `find`.
        """
        events = [
            decode_event(row) for row in await self._database.read(_SELECT_LAST_OF_ENDED, {"one": reference})
        ]
        return {event.reference: event.outcome for event in events if isinstance(event, Finished)}

    async def _read_events(self, where: str, *values: Any, limit: int | None = None) -> list[Event]:
        query = f"{_SELECT_EVENTS} WHERE {where} ORDER BY cursor LIMIT %s"
        return [decode_event(row) for row in await self._database.read(query, (*values, limit))]

    async def _read_intents(self, query: str, values: Any = ()) -> list[Intent]:
        read = [Intent.from_row(row) for row in await self._database.read(query, values)]
        return [self._owned[one.reference][1] if one.reference in self._owned else one for one in read]

    # --- Writing -----------------------------------------------------------------------------------

    async def save(self, intent: Intent) -> None:
        """Write an intent, and return when it is committed, however long the database is away.

        Raises ClosedError where another worker owns the request; NotSentError where writing that its submit
        is sent took so long that another may own it by now; JournalError.
        """
        began = _clock.Deadline(_LONGEST_COMMIT)
        write = self._writer.add(intent, self._epoch(intent))
        await asyncio.shield(write.commit)  # others wait for the same
        if isinstance(write.error, SupersededError) and intent.stage is Stage.ACCEPTED:
            await self._record_late(intent)
        if write.error is not None:
            raise write.error
        if intent.stage is Stage.SENDING and not began.left:
            raise NotSentError(f"writing to {self._database.name} took too long, so nothing was sent")

    async def _record_late(self, accepted: Intent) -> None:
        """Record what a submit has created that another worker has taken over, while it is in doubt."""

        async def record(connection: Connection) -> None:
            key, reference = accepted.key, accepted.reference
            found = await rows(connection, _LOCK_IN_DOUBT, (reference, key))
            if found:
                intent = Intent.from_row(found[0])
                intent.stage, intent.production = Stage.ACCEPTED, accepted.production
                intent.submitted_at, intent.doubt = accepted.submitted_at, None
                await connection.execute(_RECORD_LATE.encode(), (*stored(intent), reference))
                await connection.execute("SELECT pg_notify(%s, '')", (ORPHANS,))

        await self._database.transaction(record)

    def put(self, intent: Intent) -> object:
        """Add an intent to the next commit, without waiting for it. A failure is only logged."""
        return self._writer.add(intent, self._epoch(intent))

    def next_cursor(self) -> int:
        """Return 0: the commit of an event gives it its cursor."""
        return 0

    def append(self, intent: Intent | None, event: Event, deliver: Callable[[], None] | None) -> None:
        """Add an event and the state after it to the next commit, which then delivers it.

        It is never delivered where another worker owns the request: that one will observe it, too.
        """
        if intent is not None:
            self._writer.add(intent, self._epoch(intent), event, deliver)
        elif deliver is not None:
            deliver()

    def call_after_events(self, function: Callable[[], None]) -> None:
        """Call a function when the events that were added before have been delivered."""
        self._writer.call_after(function)

    def plan(self, intent: Intent) -> None:
        """Raise ConfigurationError: requests come from a queue, not from a run."""
        raise ConfigurationError(f"add {intent.reference!r} to a `Queue`: the workers share its database")

    def store(self, name: str, value: Mapping[str, Any]) -> None:
        """Add a fact to the next commit."""
        self._writer.store(name, json.dumps(value))

    async def add_learned(self, now: Mapping[str, Any], before: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add what was learned since `before` to what all workers have, and return that. Raises as `find`."""

        async def add(connection: Connection) -> dict[str, Any]:
            await connection.execute(
                "INSERT INTO jarai.facts VALUES ('learned', '{}') ON CONFLICT DO NOTHING"
            )
            [(learned,)] = await rows(connection, _LOCK_LEARNED)
            total = added(learned, now, before)
            await connection.execute(_STORE_LEARNED, (json.dumps(total),))
            return total

        return await self._database.transaction(add)

    async def flush(self) -> None:
        """Wait for the commit of what was added before. A failure is only logged."""
        await self._writer.flush()

    async def forget(self, references: Collection[str], *, ended_before: float | None) -> list[str]:
        """Delete requests that have ended, with their events; return their references. Raises as `find`."""
        return [row[0] for row in await self._database.read(_FORGET, (list(references), ended_before))]

    async def close(self) -> None:
        """Commit the pending writes. The database stays open: it is the worker's."""
        await self.flush()

    def _epoch(self, intent: Intent) -> int:
        """Return the epoch to write under; one that never was where another worker owns the request."""
        owned = self._owned.get(intent.reference)
        return -1 if owned is None else owned[0]
