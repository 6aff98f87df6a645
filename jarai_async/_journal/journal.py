"""The journal: the state that must survive the process, in one SQLite file with one writer thread.

Each step of a request is written as one complete row (`entries.Intent`). Writes are grouped: those added
while a commit is running go into the next one. `save` returns when its row is on the disk, after about half a
millisecond; with `synchronous=FULL` the row then survives a power cut.

Between two commits everything is in the one file, also after the process was killed. (With a write-ahead log,
a copy without that second file was an empty journal.) SQLite's rollback journal `PATH-journal` matters only
where a commit was interrupted. It is kept until the file is closed, because overwriting it needs no space.

The file is locked while it is open (`file_lock`). `open` first changes every request that was being sent to
IN_DOUBT and commits that, so that a second crash cannot lose it. A journal belongs to the server that it was
first used with: another one does not know its productions.

Without a path nothing is written. Such a journal only keeps the requests that are in doubt, in memory, for
`Orchestrator.resolve`.
"""

import asyncio
import json
import logging
import os
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote
from weakref import WeakValueDictionary

from attrs import asdict, define, frozen

from jarai_async._errors import ConfigurationError, JournalError
from jarai_async._journal.entries import Intent, Row, Stage
from jarai_async._journal.file_lock import FileLock

T = TypeVar("T")

_log = logging.getLogger("jarai_async")

_APPLICATION_ID = 0x4A415249  # "JARI": identifies the file, to us and to file(1)
_FORMAT_VERSION = 2
_SELECT_POSITIONAL = "SELECT 1 FROM intents WHERE reference GLOB 'request-[0-9][0-9][0-9][0-9]*'"
_SCHEMA = """
CREATE TABLE intents (
    reference TEXT PRIMARY KEY, account_id TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL,
    stage TEXT NOT NULL, kept TEXT NOT NULL
) STRICT;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""
_SELECT = "SELECT reference, account_id, key, body, stage, kept FROM intents"
_SELECT_ONE = f"{_SELECT} WHERE reference = ?"
_SELECT_IN_DOUBT = f"{_SELECT} WHERE account_id = ? AND stage IN (?, ?)"
_SELECT_ALL = f"{_SELECT} ORDER BY rowid"
_SELECT_CREATED = "SELECT 1 FROM intents WHERE stage NOT IN (?, ?) OR kept LIKE '%\"production\"%' LIMIT 1"
_INSERT = "INSERT INTO intents (reference, account_id, key, body, stage, kept) VALUES (?, ?, ?, ?, ?, ?)"
_UPSERT = f"""
{_INSERT} ON CONFLICT (reference) DO UPDATE SET account_id = excluded.account_id, key = excluded.key,
    body = excluded.body, stage = excluded.stage, kept = excluded.kept
"""  # unlike INSERT OR REPLACE it keeps the rowid, and so the order
_INSERT_IF_NEW = f"{_INSERT} ON CONFLICT (reference) DO NOTHING"
_REPLACE_FACT = "INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)"
_FILE_ERRORS = (
    sqlite3.Error,
    OSError,
    UnicodeDecodeError,
)  # the last: SQLite's message quotes damaged text


@frozen
class Server:
    """The API that knows the productions of a journal."""

    base_url: str
    is_sandbox: bool

    def __str__(self) -> str:
        return f"{self.base_url} with a {'sandbox' if self.is_sandbox else 'live'} key"


@define(eq=False)
class _Write:
    """A statement, the commit that contains it, and why it failed."""

    statement: str
    values: tuple[Any, ...]
    commit: "asyncio.Future[None]"
    error: JournalError | None = None


class _Database(sqlite3.Connection):
    """A database whose file is unlocked when it is closed."""

    lock: FileLock

    def close(self) -> None:
        super().close()
        self.lock.close()


class Journal:
    """An open journal. `facts` are JSON values by name, such as the learned durations."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.failure: JournalError | None = None
        """Why the last commit failed, or that the file is gone; None if all is well."""
        self._in_doubt: dict[str, Intent] = {}  # used only without a file
        self._intents: WeakValueDictionary[str, Intent] = WeakValueDictionary()  # one object for each in use
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jarai journal")
        self._database: _Database | None = None
        self._writes: list[_Write] = []
        self._next_commit: asyncio.Future[None] | None = None  # the commit that will contain `_writes`
        self._running_commit: asyncio.Future[None] | None = None
        self._closing = False

    @classmethod
    async def open(cls, path: Path | None, *, server: Server | None = None, create: bool = True) -> "Journal":
        """Open a journal, and create it if it does not exist.

        Raises JournalError, also where it belongs to another `server`.
        """
        journal = cls(path)
        if path is not None:
            try:
                await journal._run(lambda: journal._open(path, server, create=create))
            except BaseException:
                await journal.close()
                raise
        return journal

    def _open(self, path: Path, server: Server | None, *, create: bool) -> None:
        database = _connect(path, create=create)
        try:
            self._prepare(database, server)
        except BaseException:
            database.close()
            raise
        self._database = database

    def _prepare(self, database: _Database, server: Server | None) -> None:
        path, execute = self.path, database.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")
        execute("BEGIN EXCLUSIVE")
        application_id = execute("PRAGMA application_id").fetchone()[0]
        version = execute("PRAGMA user_version").fetchone()[0]
        empty = not execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not empty and application_id != _APPLICATION_ID:
            raise JournalError(f"{path} is the database of another program")
        if version > _FORMAT_VERSION:
            raise JournalError(f"{path} was written by a newer version of jarai-async")
        if (damage := execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise JournalError(f"{path} is damaged: {damage}")
        execute("COMMIT")
        execute("PRAGMA journal_mode = PERSIST")
        execute("PRAGMA synchronous = FULL")
        execute("BEGIN IMMEDIATE")
        if empty:
            for statement in _SCHEMA.split(";"):
                execute(statement)
            execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        elif version < 2 and execute(_SELECT_POSITIONAL).fetchall():
            raise JournalError(  # the same batch would be submitted again
                f"{path} names requests by their position in the batch, as earlier versions did: finish it "
                "with the version that wrote it"
            )
        execute(f"PRAGMA user_version = {_FORMAT_VERSION}")
        if server is not None:
            self._bind(database, server)
        execute("UPDATE intents SET stage = ? WHERE stage = ?", (str(Stage.IN_DOUBT), str(Stage.SENDING)))
        execute("COMMIT")

    def _bind(self, database: _Database, server: Server) -> None:
        """Record the server of a journal. Raises JournalError where another one may have its productions."""
        used = database.execute(_SELECT_CREATED, (str(Stage.PLANNED), str(Stage.ENDED))).fetchall()
        rows = database.execute("SELECT value FROM facts WHERE name = 'server'").fetchall() if used else []
        bound = _decoded_server(rows[0][0]) if rows else server
        if bound is None:
            raise JournalError(f"the journal {self.path} is damaged: its server cannot be read")
        if bound != server:
            raise JournalError(
                f"the journal {self.path} was made for {bound}, which alone knows its productions, but this "
                f"client uses {server}: use the same again, or another journal"
            )
        database.execute(_REPLACE_FACT, ("server", json.dumps(asdict(server))))

    async def _run(self, work: Callable[[], T]) -> T:
        """Call `work` in the journal's thread. Raises JournalError for an error of SQLite or of the disk."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except _FILE_ERRORS as error:
            raise self._translated(error) from None

    def _translated(self, error: Exception) -> JournalError:
        if isinstance(error, JournalError):
            return error
        return JournalError(f"the journal {self.path} cannot be used: {_reason(error)}")

    # --- Reading -----------------------------------------------------------------------------------

    async def find(self, reference: str) -> Intent | None:
        """Return the intent of a request, if there is one. Raises JournalError."""
        if self.path is None:
            return self._in_doubt.get(reference)
        if (intent := self._intents.get(reference)) is not None:
            return intent
        if not _is_unicode(reference):
            raise JournalError(
                f"the journal {self.path} cannot store {reference!r:.80}: it is not valid Unicode"
            )
        rows = await self._select(_SELECT_ONE, reference)
        if rows and reference not in self._intents:
            self._intents[reference] = intent = Intent.from_row(rows[0])
        return self._intents.get(reference)

    async def intents(self) -> list[Intent]:
        """Return all intents, in the order in which they were first written. Raises JournalError."""
        rows = await self._select(_SELECT_ALL)
        return [Intent.from_row(row) for row in rows]

    async def owner_of(self, production_id: str) -> str | None:
        """Return the reference of the request that created a production, if one did. Raises JournalError."""
        rows = await self._select("SELECT reference FROM intents WHERE instr(kept, ?)", production_id)
        return rows[0][0] if rows else None

    async def in_doubt(self, account_id: str) -> list[Intent]:
        """Return the requests whose submit may have created a production that is not known.

        Those whose submit is on its way are among them. Raises JournalError.
        """
        stages = (Stage.IN_DOUBT, Stage.SENDING)
        rows = await self._select(_SELECT_IN_DOUBT, account_id, *stages)
        found = {row[0]: self._intents.get(row[0]) or Intent.from_row(row) for row in rows}
        found |= dict(self._intents) | self._in_doubt
        return [one for one in found.values() if one.account_id == account_id and one.stage in stages]

    async def load(self, name: str) -> Any:
        """Return a fact, or None if there is none. Raises JournalError."""
        rows = await self._select("SELECT value FROM facts WHERE name = ?", name)
        try:
            return json.loads(rows[0][0]) if rows else None
        except (RecursionError, TypeError, ValueError) as error:
            raise JournalError(f"the journal {self.path} is damaged: {error}") from None

    async def _select(self, query: str, *values: str) -> list[Row]:
        """Read rows, after all writes that were added before."""
        if self._database is None:
            return []
        while commit := self._next_commit or self._running_commit:
            await asyncio.wait([commit])
        database = self._database
        return await self._run(lambda: database.execute(query, values).fetchall())

    # --- Writing -----------------------------------------------------------------------------------

    async def save(self, intent: Intent) -> None:
        """Write an intent, and return when it is on the disk. Raises JournalError."""
        if self.path is not None and (self._database is None or self._closing):
            raise JournalError(f"the journal {self.path} is closed")
        write = self.put(intent)
        if write is not None:
            await asyncio.shield(write.commit)
            if write.error is not None:
                raise write.error

    def put(self, intent: Intent) -> "_Write | None":
        """Add an intent to the next commit, without waiting for it. A failure is only logged."""
        self._intents[intent.reference] = intent
        if self.path is not None:
            return self._add(_UPSERT, intent.row())
        if intent.stage is Stage.IN_DOUBT or (intent.resolved and intent.stage is not Stage.ENDED):
            self._in_doubt[intent.reference] = intent
        else:
            self._in_doubt.pop(intent.reference, None)
        return None

    def plan(self, intent: Intent) -> None:
        """Add an intent to the next commit, unless its reference is known or is one that `find` rejects."""
        if self.path is not None and _is_unicode(intent.reference):
            self._add(_INSERT_IF_NEW, intent.row())

    def store(self, name: str, value: Mapping[str, Any]) -> None:
        """Add a fact to the next commit."""
        if self.path is not None:
            self._add(_REPLACE_FACT, (name, json.dumps(value)))

    async def flush(self) -> None:
        """Wait for the commit of what was just added. A failure is only logged."""
        if self._next_commit is not None:
            await asyncio.wait([self._next_commit])

    def _add(self, statement: str, values: tuple[Any, ...]) -> _Write | None:
        if self._database is None or self._closing:
            return None  # closed: the next process will observe this again
        if self._next_commit is None:
            loop = asyncio.get_running_loop()
            self._next_commit = loop.create_future()
            loop.call_soon(self._start_commit)
        self._writes.append(_Write(statement, values, self._next_commit))
        return self._writes[-1]

    def _start_commit(self) -> None:
        """Commit the pending writes, unless a commit is running: `_on_committed` calls this again.

        Callbacks rather than a task: a program that cancels all tasks must not cancel a commit.
        """
        if self._next_commit is None or self._running_commit is not None:
            return
        writes, self._running_commit = self._writes, self._next_commit
        self._writes, self._next_commit = [], None
        job = asyncio.get_running_loop().run_in_executor(self._thread, self._commit, writes)
        job.add_done_callback(partial(self._on_committed, writes))

    def _on_committed(self, writes: list[_Write], job: "asyncio.Future[None]") -> None:
        commit, self._running_commit = self._running_commit, None
        self._record_failure(next((write.error for write in writes if write.error), None))
        if commit is not None:
            if (bug := job.exception()) is None:
                commit.set_result(None)
            else:
                commit.set_exception(bug)
        self._start_commit()

    def _commit(self, writes: list[_Write]) -> None:
        """Commit the writes together; if that fails, each by itself, so that one fails no other.

        On a full disk, those that need no space succeed then.
        """
        try:
            self._transact(writes)
        except (*_FILE_ERRORS, JournalError):
            for write in writes:
                try:
                    self._transact([write])
                except (*_FILE_ERRORS, JournalError) as error:
                    write.error = self._translated(error)

    def _transact(self, writes: list[_Write]) -> None:
        if self._database is None:
            raise JournalError(f"the journal {self.path} is closed")
        self._database.lock.check()
        try:
            self._database.execute("BEGIN IMMEDIATE")
            for write in writes:
                self._database.execute(write.statement, write.values)
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def _record_failure(self, error: JournalError | None) -> None:
        """Log the first of consecutive failures: `put` has no caller to raise it to."""
        if error is not None and self.failure is None:
            _log.error("%s", error)
        self.failure = error

    async def close(self) -> None:
        """Commit the pending writes and close the file; `failure` says whether that succeeded.

        A cancellation takes effect after that.
        """
        if self._closing:
            return
        cancellation = None
        job: asyncio.Future[None] | None = None
        while job is None or not job.done():
            commit = self._next_commit or self._running_commit
            if commit is None and job is None:
                self._closing = True
                job = asyncio.get_running_loop().run_in_executor(self._thread, self._close)
            try:
                await asyncio.wait([future for future in (commit, job) if future is not None])
            except asyncio.CancelledError as error:
                cancellation = error
        self._thread.shutdown()
        if cancellation is not None:
            raise cancellation
        try:
            job.result()
        except (*_FILE_ERRORS, JournalError) as error:
            self._record_failure(self._translated(error))

    def _close(self) -> None:
        database, self._database = self._database, None
        if database is None:
            return
        try:
            database.lock.check()  # else another process may use the rollback journal of that name
            database.execute("PRAGMA locking_mode = NORMAL")
            database.execute("PRAGMA journal_mode = DELETE")
        finally:
            database.close()


def journal_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of a journal. Raises ConfigurationError for what is not the path of a file."""
    try:
        text = os.fsdecode(path)
        is_path = bool(text) and "\0" not in text and bool(os.fsencode(text))
    except (TypeError, UnicodeError):
        text, is_path = repr(path), False
    if not is_path or text == ":memory:" or text.startswith("file:"):
        raise ConfigurationError(
            f"the journal must be the path of a file, such as 'batch.db', not {text!r:.80}; "
            "without a journal, pass None"
        )
    return Path(text)


def _connect(path: Path, *, create: bool) -> _Database:
    """Lock a file, and open it as a database. Raises JournalError, OSError, sqlite3.Error."""
    lock = FileLock(path, create=create)
    # The lock makes SQLite's own superfluous, and `unix-none` leaves them out. On Windows they are the lock.
    uri = f"file://{quote(os.fsencode(path.absolute()))}?vfs=unix-none"
    try:
        database = sqlite3.connect(
            uri if os.name == "posix" else path,
            uri=os.name == "posix",
            factory=_Database,
            timeout=0.5,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=16,
        )
    except BaseException:
        lock.close()
        raise
    database.lock = lock
    return database


def _decoded_server(text: str) -> Server | None:
    try:
        return Server(**json.loads(text))
    except (RecursionError, TypeError, ValueError):
        return None


def _is_unicode(reference: str) -> bool:
    """Whether SQLite can store it: a Python string may hold lone surrogates."""
    try:
        reference.encode()
    except UnicodeEncodeError:
        return False
    return True


def _reason(error: Exception) -> str:
    """Replace SQLite's message where it does not make clear what is wrong."""
    text = str(error)
    if "locked" in text:
        return "another program has it open"
    if "not a database" in text:
        return "it is not a journal"
    if isinstance(error, UnicodeDecodeError):
        return "it is damaged"
    if isinstance(error, OSError):
        return error.strerror or text
    return text
