"""The journal: what must outlive this process, in one SQLite file behind one writer thread.

Rows are whole intents (`_intents`), written anew at each step; what is to be written while a commit is under
way goes into the next one, all of it at once. `save` returns when it is on the disk: WAL with
`synchronous=FULL` survives a power cut, for a third of a millisecond.

The file is locked for as long as it is open, which a killed process cannot forget to end. On opening, before
anything else, whatever was being sent becomes IN_DOUBT, durably: a second crash must not forget it.

Without a path nothing is written: the same journal in memory, which remembers what is in doubt, for
`Orchestrator.resolve`, and nothing else.
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

from jarai_async._errors import JournalError
from jarai_async._journal.entries import Intent, Row, Stage

T = TypeVar("T")

_log = logging.getLogger("jarai_async")

_APPLICATION = 0x4A415249  # "JARI": whose file it is, for us and for file(1)
_VERSION = 1
_SCHEMA = """
CREATE TABLE intents (
    reference TEXT PRIMARY KEY, account_id TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL,
    stage TEXT NOT NULL, kept TEXT NOT NULL
) STRICT;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""
_ONE = "SELECT reference, account_id, key, body, stage, kept FROM intents WHERE reference = ?"
_ALL = "SELECT reference, account_id, key, body, stage, kept FROM intents ORDER BY rowid"
_INSERT = "INSERT INTO intents (reference, account_id, key, body, stage, kept) VALUES (?, ?, ?, ?, ?, ?)"
_UPSERT = f"""
{_INSERT} ON CONFLICT (reference) DO UPDATE SET account_id = excluded.account_id, key = excluded.key,
    body = excluded.body, stage = excluded.stage, kept = excluded.kept
"""  # which keeps its place among the others
_PLAN = f"{_INSERT} ON CONFLICT (reference) DO NOTHING"
_STORE = "INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)"
_Write = tuple[str, tuple[Any, ...]]


class Journal:
    """One open journal."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._in_doubt: dict[str, Intent] = {}  # all that is remembered without a file
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jarai journal")
        self._database: sqlite3.Connection | None = None
        self._pending: list[_Write] = []
        self._committed: asyncio.Future[None] | None = None  # when what is pending is on the disk
        self._writing: asyncio.Future[None] | None = None  # when what is being written is
        self._closing = False
        self._failed = False

    @classmethod
    async def open(cls, path: Path | None, *, begin: bool = True) -> "Journal":
        """Open a journal, or begin one. Raises JournalError before anything is paid for."""
        journal = cls(path)
        if path is not None:
            try:
                await journal._run(lambda: journal._open(path, os.O_CREAT if begin else 0))
            except BaseException:
                await journal.close()
                raise
        return journal

    def _open(self, path: Path, begin: int) -> None:
        os.close(os.open(path, os.O_RDWR | begin, 0o600))  # for nobody else: it holds your topics
        self._database = sqlite3.connect(
            path, timeout=0.5, isolation_level=None, check_same_thread=False, cached_statements=16
        )
        ask = self._database.execute
        ask("PRAGMA locking_mode = EXCLUSIVE")
        ask("BEGIN EXCLUSIVE")
        whose, version = ask("PRAGMA application_id").fetchone()[0], ask("PRAGMA user_version").fetchone()[0]
        empty = not ask("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not empty and whose != _APPLICATION:
            raise JournalError(f"{path} is the database of another program")
        if version > _VERSION:
            raise JournalError(f"{path} was written by a newer version of jarai-async")
        if (found := ask("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise JournalError(f"{path} is damaged: {found}")
        ask("COMMIT")
        ask("PRAGMA journal_mode = WAL")
        ask("PRAGMA synchronous = FULL")
        ask("BEGIN IMMEDIATE")
        if empty:
            for statement in _SCHEMA.split(";"):
                ask(statement)
            ask(f"PRAGMA application_id = {_APPLICATION}")
            ask(f"PRAGMA user_version = {_VERSION}")
        ask("UPDATE intents SET stage = ? WHERE stage = ?", (str(Stage.IN_DOUBT), str(Stage.SENDING)))
        ask("COMMIT")

    async def _run(self, work: Callable[[], T]) -> T:
        """Work in the journal's own thread; sqlite3's errors become ours."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as error:
            raise self._translated(error) from None

    def _translated(self, error: BaseException) -> BaseException:
        if not isinstance(error, sqlite3.Error | OSError):
            return error
        return JournalError(f"the journal {self.path} cannot be used: {_reason(error)}")

    # --- Reading -----------------------------------------------------------------------------------

    async def find(self, reference: str) -> Intent | None:
        """Give what is known of a request. Raises JournalError."""
        if self.path is None:
            return self._in_doubt.get(reference)
        if not _is_unicode(reference):
            raise JournalError(f"the journal {self.path} cannot keep {reference!r:.80}: it is not Unicode")
        rows = await self._select(_ONE, reference)
        return Intent.from_row(rows[0]) if rows else None

    async def intents(self) -> list[Intent]:
        """Give all that is known, in the order in which it was planned. Raises JournalError."""
        rows = await self._select(_ALL)
        return [Intent.from_row(row) for row in rows]

    async def load(self, name: str) -> Any:
        """Give a fact that was remembered, as JSON values; None where there is none."""
        rows = await self._select("SELECT value FROM facts WHERE name = ?", name)
        try:
            return json.loads(rows[0][0]) if rows else None
        except (RecursionError, TypeError, ValueError) as error:
            raise JournalError(f"the journal {self.path} is damaged: {error}") from None

    async def _select(self, question: str, *values: str) -> list[Row]:
        if self._database is None:
            return []
        await self._flushed()
        database = self._database
        return await self._run(lambda: database.execute(question, values).fetchall())

    # --- Writing -----------------------------------------------------------------------------------

    async def save(self, intent: Intent) -> None:
        """Write down where a request stands; it is on the disk when this returns. Raises JournalError."""
        if self.path is not None and self._database is None:
            raise JournalError(f"the journal {self.path} is closed")
        self.put(intent)
        if self._committed is not None:
            await asyncio.shield(self._committed)

    async def settled(self) -> None:
        """Wait until what was put is on the disk, or cannot be written."""
        if self._committed is not None:
            await asyncio.wait([self._committed])

    def put(self, intent: Intent) -> None:
        """Have it written with the next commit: nothing waits for it."""
        if self.path is not None:
            self._add(_UPSERT, intent.row())
        elif intent.stage is Stage.IN_DOUBT:
            self._in_doubt[intent.reference] = intent
        else:
            self._in_doubt.pop(intent.reference, None)

    def plan(self, intent: Intent) -> None:
        """Have it written with the next commit, unless it is known already, or refused by `find`."""
        if self.path is not None and _is_unicode(intent.reference):
            self._add(_PLAN, intent.row())

    def store(self, name: str, value: Mapping[str, Any]) -> None:
        """Have a fact written with the next commit."""
        if self.path is not None:
            self._add(_STORE, (name, json.dumps(value)))

    def _add(self, statement: str, values: tuple[Any, ...]) -> None:
        if self._database is None or self._closing:
            return  # it is closed: what happens now is found out again by the next process
        self._pending.append((statement, values))
        if self._committed is None:
            loop = asyncio.get_running_loop()
            self._committed = loop.create_future()
            self._committed.add_done_callback(self._note_failure)
            loop.call_soon(self._write)

    def _write(self) -> None:
        """Commit what is pending, unless a commit is under way: its end calls again.

        By callbacks rather than by a task: whoever cancels all tasks must not cancel this.
        """
        if self._committed is None or self._writing is not None:
            return
        writes, self._writing = self._pending, self._committed
        self._pending, self._committed = [], None
        job = asyncio.get_running_loop().run_in_executor(self._thread, self._commit, writes)
        job.add_done_callback(self._wrote)

    def _wrote(self, job: "asyncio.Future[None]") -> None:
        committed, self._writing = self._writing, None
        if committed is not None:
            if (error := job.exception()) is None:
                self._failed = False
                committed.set_result(None)
            else:
                committed.set_exception(self._translated(error))
        self._write()

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

    def _note_failure(self, committed: "asyncio.Future[None]") -> None:
        """Say once that nothing can be written: not all who write wait for it."""
        error = committed.exception()
        if error is not None and not self._failed:
            self._failed = True
            _log.error("%s", error)

    async def _flushed(self) -> None:
        while writing := self._committed or self._writing:
            await asyncio.wait([writing])

    async def close(self) -> None:
        """Write what is pending, and let go of the file: a cancellation waits until that is done."""
        if self._closing:
            return
        interruption = None
        job: asyncio.Future[None] | None = None
        while job is None or not job.done():
            writing = self._committed or self._writing
            if writing is None and job is None:
                self._closing = True
                job = asyncio.get_running_loop().run_in_executor(self._thread, self._let_go)
            try:
                await asyncio.wait([one for one in (writing, job) if one is not None])
            except asyncio.CancelledError as error:
                interruption = error
        self._thread.shutdown()
        if interruption is not None:
            raise interruption
        if (failure := job.exception()) is not None:
            raise self._translated(failure)

    def _let_go(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()


def _is_unicode(reference: str) -> bool:
    """Whether it is more than what Python alone takes for text, such as half a character."""
    try:
        reference.encode()
    except UnicodeEncodeError:
        return False
    return True


def _reason(error: Exception) -> str:
    """Say what a person can do something about."""
    text = str(error)
    if "locked" in text:
        return "another process has it open"
    if "not a database" in text:
        return "it is no journal"
    if isinstance(error, OSError):
        return error.strerror or text
    return text
