"""The journal: every request and every event, in one SQLite file with one writer thread.

Each step of a request is written as one complete row (`entries.Intent`), together with the event that
reports it. `save` returns when its row is on the disk, after about half a millisecond; with
`synchronous=FULL` the row then survives a power cut. An event is delivered when it is committed, so that no
reader knows one that a crash could undo.

Without a path all of it is in memory: the same, until the process ends. The oldest requests that have ended
are forgotten then.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from jarai_async import _clock
from jarai_async._errors import JournalError
from jarai_async._events import Downloaded, Event, SavedFile
from jarai_async._journal.database import REPLACE_FACT, SELECT_FACT, Database, Server, decoded_fact
from jarai_async._journal.entries import Intent, Stage
from jarai_async._journal.events import decode_event, encode_event
from jarai_async._journal.file_lock import JournalInUseError
from jarai_async._journal.history import History
from jarai_async._journal.writer import Write, Writer

_log = logging.getLogger("jarai_async")

_WAIT_STEP = 0.1  # seconds between two attempts to open a journal that is in use
_MAX_ENDED = 10_000  # requests that are kept in memory, without a file
_FORGOTTEN_AT_ONCE = 500
_SELECT = "SELECT reference, account_id, key, body, stage, state, ended_at, kept FROM intents"
_SELECT_ONE = f"{_SELECT} WHERE reference = ?"
_SELECT_IN_DOUBT = f"{_SELECT} WHERE account_id = ? AND stage IN (?, ?)"
_MAY_END_AS = "(?1 IS NULL OR state = ?1 OR stage != 'ended')"
_SELECT_ALL = f"{_SELECT} WHERE {_MAY_END_AS} ORDER BY id"
_SELECT_UNFINISHED = f"{_SELECT} WHERE stage != ? ORDER BY id"
_SELECT_EVENTS = """
SELECT cursor, reference, sequence, kind, value, account_id, body
    FROM events JOIN intents ON intents.id = events.intent
"""
_SELECT_PAGE = f"{_SELECT_EVENTS} WHERE cursor > ? ORDER BY cursor LIMIT ?"
_SELECT_PAGE_OF_ONE = f"{_SELECT_EVENTS} WHERE reference = ? AND cursor > ? ORDER BY cursor LIMIT ?"
_SELECT_UNREAD = f"{_SELECT_EVENTS} WHERE reference = ? AND sequence > ? ORDER BY cursor"
_SELECT_FILES = f"{_SELECT_EVENTS} WHERE reference = ? AND kind = 'Downloaded' ORDER BY cursor"
_LAST_CURSORS = "SELECT max(cursor) FROM events GROUP BY intent"
_SELECT_LAST = f"{_SELECT_EVENTS} WHERE {_MAY_END_AS} AND cursor IN ({_LAST_CURSORS})"
_SELECT_LATEST = "SELECT seq FROM sqlite_sequence WHERE name = 'events'"
_FREE_SOME = "PRAGMA incremental_vacuum(2000)"  # pages
_INSERT = """
INSERT INTO intents (reference, account_id, key, body, stage, state, ended_at, kept)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_UPSERT = f"""
{_INSERT} ON CONFLICT (reference) DO UPDATE SET account_id = excluded.account_id, key = excluded.key,
    body = excluded.body, stage = excluded.stage, state = excluded.state, ended_at = excluded.ended_at,
    kept = excluded.kept
"""
_INSERT_IF_NEW = f"{_INSERT} ON CONFLICT (reference) DO NOTHING"
_INSERT_EVENT = """
INSERT INTO events (cursor, intent, sequence, kind, value)
    SELECT ?, id, ?, ?, ? FROM intents WHERE reference = ?
"""
_FORGET = "DELETE FROM intents WHERE stage = ? AND reference = ? RETURNING reference"
_FORGET_OLD = """
DELETE FROM intents WHERE id IN (SELECT id FROM intents WHERE stage = ? AND ended_at < ? LIMIT ?)
    RETURNING reference
"""
_FORGET_OLDEST = """
DELETE FROM intents WHERE id IN (SELECT id FROM intents WHERE stage = ? ORDER BY ended_at LIMIT ?)
"""


class SqliteJournal:
    """An open journal. `facts` are JSON values by name, such as the learned durations."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.history: History = History(self._select_events, self.flush)
        self._writer = Writer(path)
        self._ended = 0
        self._intents: WeakValueDictionary[str, Intent] = WeakValueDictionary()  # one object for each in use

    @classmethod
    async def open(
        cls, path: Path | None, *, server: Server | None = None, create: bool = True, wait: float = 0.0
    ) -> "SqliteJournal":
        """Open a journal, and create it if it does not exist; `wait` so many seconds for its present owner.

        Raises JournalInUseError, JournalError, also where it belongs to another `server`.
        """
        deadline, is_logged = _clock.Deadline(wait), False
        while True:
            try:
                return await cls._open_now(path, server, create=create)
            except JournalInUseError:
                if not deadline.left:
                    raise
            if not is_logged:
                is_logged = True
                _log.warning("the journal %s is in use: waiting until %s for its owner", path, deadline)
            await asyncio.sleep(min(_WAIT_STEP, deadline.left))

    @classmethod
    async def _open_now(cls, path: Path | None, server: Server | None, *, create: bool) -> "SqliteJournal":
        journal = cls(path)
        try:
            await journal._writer.open(server, create=create)
            rows = await journal._writer.read(_SELECT_LATEST)
        except BaseException:
            await journal.close()
            raise
        journal.history.latest = journal.history.delivered = rows[0][0] if rows else 0
        return journal

    @property
    def location(self) -> str | None:
        """The path; None in memory."""
        return None if self.path is None else str(self.path)

    @property
    def failure(self) -> JournalError | None:
        """Why the last commit failed, or that the file is gone; None if all is well."""
        return self._writer.failure

    # --- Reading -----------------------------------------------------------------------------------

    async def find(self, reference: str) -> Intent | None:
        """Return the intent of a request, if there is one. Raises JournalError."""
        if (intent := self._intents.get(reference)) is not None:
            return intent
        if not _is_unicode(reference):
            return None
        for intent in await self._read_intents(_SELECT_ONE, reference):
            return self._intents.setdefault(reference, intent)
        return self._intents.get(reference)

    async def unknown(self, references: Iterable[str]) -> set[str]:
        """Return those of the references that `find` would return None for. Raises JournalError."""
        stored = {row[0] for row in await self._writer.read("SELECT reference FROM intents")}
        return set(references) - stored

    async def intents(self, state: str | None = None) -> list[Intent]:
        """Return all intents, in the order in which they were first written. Raises JournalError.

        With a `state`, those that have not ended, and those whose outcome this is.
        """
        return await self._read_intents(_SELECT_ALL, state)

    async def owner_of(self, production_id: str) -> str | None:
        """Return the reference of the request that created a production, if one did. Raises JournalError."""
        rows = await self._writer.read("SELECT reference FROM intents WHERE instr(kept, ?)", production_id)
        return rows[0][0] if rows else None

    async def is_new(self) -> bool:
        """Whether it has never had an event, and has no request. Raises JournalError."""
        return self.history.latest == 0 and not await self._writer.read("SELECT 1 FROM intents LIMIT 1")

    async def unfinished(self) -> list[Intent]:
        """Return the intents of requests that have not ended, in their order. Raises JournalError."""
        read = await self._read_intents(_SELECT_UNFINISHED, str(Stage.ENDED))
        return [self._intents.setdefault(one.reference, one) for one in read]

    async def in_doubt(self, account_id: str) -> list[Intent]:
        """Return the requests whose submit may have created a production that is not known.

        Those whose submit is on its way are among them. Raises JournalError.
        """
        stages = (Stage.IN_DOUBT, Stage.SENDING)
        found = {
            intent.reference: intent
            for intent in await self._read_intents(_SELECT_IN_DOUBT, account_id, *stages)
        }
        found |= dict(self._intents)
        return [one for one in found.values() if one.account_id == account_id and one.stage in stages]

    async def load(self, name: str) -> Any:
        """Return a fact, or None if there is none. Raises JournalError."""
        return decoded_fact(await self._writer.read(SELECT_FACT, name), self._writer.name)

    async def unread(self, intent: Intent) -> list[Event]:
        """Return the events of a request that the reader of a run has not taken. Raises JournalError."""
        return await self._read_events(_SELECT_UNREAD, intent.reference, intent.acknowledged)

    async def files(self, intent: Intent) -> dict[Path, SavedFile]:
        """Return the downloaded files of a request's production, by path. Raises JournalError."""
        events = await self._read_events(_SELECT_FILES, intent.reference) if intent.has_files else []
        id_ = intent.production and intent.production.id
        return {
            event.path: event.saved
            for event in events
            if isinstance(event, Downloaded) and event.production.id == id_
        }

    async def last_event(self, intent: Intent) -> Event | None:
        """Return the last event of a request. Raises JournalError."""
        events = await self._read_events(_SELECT_UNREAD, intent.reference, intent.sequence - 1)
        return events[-1] if events else None

    async def last_events(self, state: str | None = None) -> dict[str, Event]:
        """Return the last event of each request that `intents` returns, by reference. Raises JournalError."""
        events = await self._read_events(_SELECT_LAST, state)
        return {event.reference: event for event in events}

    async def _select_events(self, after: int, reference: str | None, limit: int) -> list[Event]:
        if reference is None:
            return await self._read_events(_SELECT_PAGE, after, limit)
        return await self._read_events(_SELECT_PAGE_OF_ONE, reference, after, limit)

    async def _read_intents(self, query: str, *values: str | None) -> list[Intent]:
        """Read intents, and decode them in the thread: there may be thousands."""

        def read(database: Database) -> list[Intent]:
            return [Intent.from_row(row) for row in database.execute(query, values)]

        return [self._intents.get(one.reference, one) for one in await self._writer.use(read) or ()]

    async def _read_events(self, query: str, *values: str | int | None) -> list[Event]:
        """Read events, and decode them in the thread."""

        def read(database: Database) -> list[Event]:
            return [decode_event(row) for row in database.execute(query, values)]

        return await self._writer.use(read) or []

    # --- Writing -----------------------------------------------------------------------------------

    async def save(self, intent: Intent) -> None:
        """Write an intent, and return when it is on the disk. Raises JournalError."""
        write = self.put(intent)
        if write is None:
            raise JournalError(f"{self._writer.name} is closed")
        await asyncio.shield(write.commit)
        if write.error is not None:
            raise write.error

    def put(self, intent: Intent) -> Write | None:
        """Add an intent to the next commit, without waiting for it. A failure is only logged."""
        self._intents[intent.reference] = intent
        return self._writer.add((_UPSERT, intent.row()))

    def next_cursor(self) -> int:
        """Return the cursor of a new event."""
        return self.history.next_cursor()

    def append(self, intent: Intent | None, event: Event, deliver: Callable[[], None] | None) -> None:
        """Add an event and the state after it to the next commit, which then delivers it.

        It is also delivered where it cannot be written: the reader learns of it again after a restart.
        """

        def deliver_to_all() -> None:
            self.history.deliver(event)
            if deliver is not None:
                deliver()

        statements = []
        if intent is not None:
            self._intents[intent.reference] = intent
            values = (
                event.cursor,
                event.sequence,
                type(event).__name__,
                encode_event(event),
                intent.reference,
            )
            statements = [(_UPSERT, intent.row()), (_INSERT_EVENT, values)]
            if self.path is None and intent.stage is Stage.ENDED:
                self._ended += 1
                if self._ended > _MAX_ENDED:
                    self._ended -= _FORGOTTEN_AT_ONCE
                    statements.append((_FORGET_OLDEST, (str(Stage.ENDED), _FORGOTTEN_AT_ONCE)))
        if self._writer.add(*statements, deliver=deliver_to_all) is None:
            deliver_to_all()

    def call_after_events(self, function: Callable[[], None]) -> None:
        """Call a function when the events that were added before have been delivered."""
        if self._writer.add(deliver=function) is None:
            function()

    def plan(self, intent: Intent) -> None:
        """Add an intent to the next commit, unless its reference is known."""
        self._writer.add((_INSERT_IF_NEW, intent.row()))

    def store(self, name: str, value: Mapping[str, Any]) -> None:
        """Add a fact to the next commit."""
        self._writer.add((REPLACE_FACT, (name, json.dumps(value))))

    async def add_learned(self, now: Mapping[str, Any], before: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG002
        """Record what was learned of durations, and return it: no other process uses this journal."""
        self.store("learned", now)
        return now

    async def flush(self) -> None:
        """Wait for the commit of what was added before; not of what is added later, which never ends.

        A failure is only logged.
        """
        await self._writer.flush()

    async def forget(self, references: Collection[str], *, ended_before: float | None) -> list[str]:
        """Delete requests that have ended, with their events, and return their references.

        These are the `references`, and those that ended before a Unix time. The file becomes smaller.
        Raises JournalError.
        """
        stage, forgotten = str(Stage.ENDED), list[str]()
        for reference in references:
            forgotten += [row[0] for row in await self._writer.change(_FORGET, stage, reference)]
        while ended_before is not None and (
            rows := await self._writer.change(_FORGET_OLD, stage, ended_before, _FORGOTTEN_AT_ONCE)
        ):
            forgotten += [row[0] for row in rows]
        for reference in forgotten:
            self._intents.pop(reference, None)
        while forgotten and (await self._writer.read("PRAGMA freelist_count"))[0][0]:
            await self._writer.use(_free_some)  # others write in between
        return forgotten

    async def close(self) -> None:
        """Commit the pending writes and close the file; `failure` says whether that succeeded.

        A cancellation takes effect after that.
        """
        await self._writer.close()


def _free_some(database: Database) -> None:
    with database.writing():
        database.executescript(_FREE_SOME)  # `execute` would free one page


def _is_unicode(reference: str) -> bool:
    """Whether SQLite can look it up: a Python string may hold lone surrogates, unlike that of a request."""
    try:
        reference.encode()
    except UnicodeEncodeError:
        return False
    return True
