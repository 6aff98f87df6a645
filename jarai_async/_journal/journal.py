"""The journal: the state that must survive the process, in one SQLite file with one writer thread.

Each step of a request is written as one complete row (`entries.Intent`). Writes are grouped: those added
while a commit is running go into the next one. `save` returns when its row is on the disk, after about a
third of a millisecond; in WAL mode with `synchronous=FULL` the row then survives a power cut.

The file is locked while it is open, and the operating system releases the lock of a killed process. `open`
first changes every request that was being sent to IN_DOUBT and commits that, so that a second crash cannot
lose it.

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
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from jarai_async._errors import JournalError
from jarai_async._journal.entries import Intent, Row, Stage

T = TypeVar("T")

_log = logging.getLogger("jarai_async")

_APPLICATION_ID = 0x4A415249  # "JARI": identifies the file, to us and to file(1)
_FORMAT_VERSION = 1
_SCHEMA = """
CREATE TABLE intents (
    reference TEXT PRIMARY KEY, account_id TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL,
    stage TEXT NOT NULL, kept TEXT NOT NULL
) STRICT;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""
_SELECT_ONE = "SELECT reference, account_id, key, body, stage, kept FROM intents WHERE reference = ?"
_SELECT_IN_DOUBT = (
    "SELECT reference, account_id, key, body, stage, kept FROM intents WHERE account_id = ? AND stage IN (?, ?)"
)
_SELECT_ALL = "SELECT reference, account_id, key, body, stage, kept FROM intents ORDER BY rowid"
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
_Write = tuple[str, tuple[Any, ...]]


class Journal:
    """An open journal. `facts` are JSON values by name, such as the learned durations."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._in_doubt: dict[str, Intent] = {}  # used only without a file
        self._intents: WeakValueDictionary[str, Intent] = WeakValueDictionary()  # one object for each in use
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jarai journal")
        self._database: sqlite3.Connection | None = None
        self._writes: list[_Write] = []
        self._next_commit: asyncio.Future[None] | None = None  # the commit that will contain `_writes`
        self._running_commit: asyncio.Future[None] | None = None
        self._closing = False
        self._failure_logged = False

    @classmethod
    async def open(cls, path: Path | None, *, create: bool = True) -> "Journal":
        """Open a journal, and create it if it does not exist. Raises JournalError."""
        journal = cls(path)
        if path is not None:
            try:
                await journal._run(lambda: journal._open(path, create=create))
            except BaseException:
                await journal.close()
                raise
        return journal

    def _open(self, path: Path, *, create: bool) -> None:
        flags = os.O_RDWR | (os.O_CREAT if create else 0)
        os.close(os.open(path, flags, 0o600))  # for the owner only: it holds topics
        self._database = sqlite3.connect(
            path, timeout=0.5, isolation_level=None, check_same_thread=False, cached_statements=16
        )
        execute = self._database.execute
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
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("BEGIN IMMEDIATE")
        if empty:
            for statement in _SCHEMA.split(";"):
                execute(statement)
            execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            execute(f"PRAGMA user_version = {_FORMAT_VERSION}")
        execute("UPDATE intents SET stage = ? WHERE stage = ?", (str(Stage.IN_DOUBT), str(Stage.SENDING)))
        execute("COMMIT")

    async def _run(self, work: Callable[[], T]) -> T:
        """Call `work` in the journal's thread. Raises JournalError for an error of SQLite or of the disk."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except _FILE_ERRORS as error:
            raise self._translated(error) from None

    def _translated(self, error: BaseException) -> BaseException:
        if not isinstance(error, _FILE_ERRORS):
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
        if self.path is not None and self._database is None:
            raise JournalError(f"the journal {self.path} is closed")
        self.put(intent)
        if self._next_commit is not None:
            await asyncio.shield(self._next_commit)

    def put(self, intent: Intent) -> None:
        """Add an intent to the next commit, without waiting for it. A failure is only logged."""
        self._intents[intent.reference] = intent
        if self.path is not None:
            self._add(_UPSERT, intent.row())
        elif intent.stage is Stage.IN_DOUBT:
            self._in_doubt[intent.reference] = intent
        else:
            self._in_doubt.pop(intent.reference, None)

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

    def _add(self, statement: str, values: tuple[Any, ...]) -> None:
        if self._database is None or self._closing:
            return  # closed: the next process will observe this again
        self._writes.append((statement, values))
        if self._next_commit is None:
            loop = asyncio.get_running_loop()
            self._next_commit = loop.create_future()
            self._next_commit.add_done_callback(self._log_failure)
            loop.call_soon(self._start_commit)

    def _start_commit(self) -> None:
        """Commit the pending writes, unless a commit is running: `_on_committed` calls this again.

        Callbacks rather than a task: a program that cancels all tasks must not cancel a commit.
        """
        if self._next_commit is None or self._running_commit is not None:
            return
        writes, self._running_commit = self._writes, self._next_commit
        self._writes, self._next_commit = [], None
        job = asyncio.get_running_loop().run_in_executor(self._thread, self._commit, writes)
        job.add_done_callback(self._on_committed)

    def _on_committed(self, job: "asyncio.Future[None]") -> None:
        commit, self._running_commit = self._running_commit, None
        if commit is not None:
            if (error := job.exception()) is None:
                self._failure_logged = False
                commit.set_result(None)
            else:
                commit.set_exception(self._translated(error))
        self._start_commit()

    def _commit(self, writes: list[_Write]) -> None:
        if self._database is None:
            raise JournalError(f"the journal {self.path} is closed")
        try:
            self._database.execute("BEGIN IMMEDIATE")
            for statement, values in writes:
                self._database.execute(statement, values)
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def _log_failure(self, commit: "asyncio.Future[None]") -> None:
        """Log the first of consecutive failures: `put` has no caller to raise it to."""
        error = commit.exception()
        if error is not None and not self._failure_logged:
            self._failure_logged = True
            _log.error("%s", error)

    async def close(self) -> None:
        """Commit the pending writes and close the file. A cancellation takes effect after that."""
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
        if (failure := job.exception()) is not None:
            raise self._translated(failure)

    def _close(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()


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
        return "another process has it open"
    if "not a database" in text:
        return "it is not a journal"
    if isinstance(error, UnicodeDecodeError):
        return "it is damaged"
    if isinstance(error, OSError):
        return error.strerror or text
    return text
