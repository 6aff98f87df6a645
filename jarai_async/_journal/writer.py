"""The one thread that uses a journal's database, and its commits, each of which takes all that waits.

Writes that are added while a commit is running go into the next one.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from attrs import define

from jarai_async._errors import JournalError
from jarai_async._journal.database import (
    FILE_ERRORS,
    Database,
    Server,
    close_database,
    open_database,
    reason,
)
from jarai_async._journal.file_lock import JournalInUseError

T = TypeVar("T")
Statement = tuple[str, tuple[Any, ...]]

_log = logging.getLogger("jarai_async")

_WRITE_ADVICE = "A request is submitted only once the journal has it. Accepted productions continue."


@define(eq=False)
class Write:
    """Statements that are committed together, the commit, what it delivers, and why it failed."""

    statements: tuple[Statement, ...]
    commit: "asyncio.Future[None]"
    deliver: Callable[[], None] | None = None
    error: JournalError | None = None


class Writer:
    """A database in a file, or in memory, and its thread. `name` is what error messages call it."""

    def __init__(self, path: Path | None) -> None:
        self.name = "the journal" if path is None else f"the journal {path}"
        self.failure: JournalError | None = None
        """Why the last commit failed, or that the file is gone; None if all is well."""
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jarai journal")
        self._database: Database | None = None
        self._writes: list[Write] = []
        self._next_commit: asyncio.Future[None] | None = None  # the commit that will contain `_writes`
        self._running_commit: asyncio.Future[None] | None = None
        self._event_failed = False  # on a full disk, other writes may still succeed
        self._is_closing = False

    async def open(self, server: Server | None, *, create: bool) -> None:
        """Open the database. Raises JournalError."""

        def open_() -> None:
            self._database = open_database(self._path, server, create=create)

        await self._run(open_)

    async def read(self, query: str, *values: str | float) -> list[Any]:
        """Read rows, after all writes that were added before: none once it is closed. Raises JournalError."""
        return await self.use(lambda database: database.execute(query, values).fetchall()) or []

    async def change(self, statement: str, *values: str | float) -> list[Any]:
        """Execute a statement in its own transaction, after all writes that were added before.

        Raises JournalError.
        """

        def change(database: Database) -> list[Any]:
            with database.transaction():
                return database.execute(statement, values).fetchall()

        return await self.use(change) or []

    async def use(self, work: Callable[[Database], T]) -> T | None:
        """Call a function with the database, in the thread, after all writes that were added before.

        None once it is closed. Raises JournalError.
        """
        if self._database is None:
            return None
        await self.flush()
        if (database := self._database) is None:
            return None
        return await self._run(partial(work, database))

    async def _run(self, work: Callable[[], T]) -> T:
        """Call `work` in the thread. Raises JournalError for an error of SQLite or of the disk."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except FILE_ERRORS as error:
            raise self._translated(error) from None

    def _translated(self, error: Exception) -> JournalError:
        if isinstance(error, JournalError):
            return error
        kind = JournalInUseError if "locked" in str(error) else JournalError  # by SQLite, on Windows
        return kind(f"{self.name} cannot be used: {reason(error)}")

    async def flush(self) -> None:
        """Wait for the commit of what was added before; not of what is added later, which never ends.

        A failure is only logged.
        """
        if commit := self._next_commit or self._running_commit:
            await asyncio.wait([commit])

    def add(self, *statements: Statement, deliver: Callable[[], None] | None = None) -> Write | None:
        """Add statements to the next commit, and what to call after it. None once it is closed."""
        if self._database is None or self._is_closing:
            return None  # closed: the next process will observe this again
        if self._next_commit is None:
            loop = asyncio.get_running_loop()
            self._next_commit = loop.create_future()
            loop.call_soon(self._start_commit)
        self._writes.append(Write(statements, self._next_commit, deliver))
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

    def _on_committed(self, writes: list[Write], job: "asyncio.Future[None]") -> None:
        commit, self._running_commit = self._running_commit, None
        events = [write for write in writes if write.deliver is not None and write.statements]
        if events or not self._event_failed:
            self._event_failed = any(write.error for write in events)
            self._record_failure(next((write.error for write in writes if write.error), None))
        for write in writes:
            if write.deliver is not None:
                write.deliver()
        if commit is not None:
            if (bug := job.exception()) is None:
                commit.set_result(None)
            else:
                commit.set_exception(bug)
        self._start_commit()

    def _commit(self, writes: list[Write]) -> None:
        """Commit the writes together; if that fails, each by itself, so that one fails no other.

        On a full disk, those that need no space succeed then.
        """
        try:
            self._transact(writes)
        except (*FILE_ERRORS, JournalError):
            for write in writes:
                try:
                    self._transact([write])
                except (*FILE_ERRORS, JournalError) as error:
                    write.error = self._translated(error)
                    write.error.advice = _WRITE_ADVICE

    def _transact(self, writes: list[Write]) -> None:
        if self._database is None:
            raise JournalError(f"{self.name} is closed")
        with self._database.transaction():
            for write in writes:
                for statement, values in write.statements:
                    self._database.execute(statement, values)

    def _record_failure(self, error: JournalError | None) -> None:
        """Log the first of consecutive failures: `add` has no caller to raise it to."""
        if error is not None and self.failure is None:
            _log.error("%s", error)
        self.failure = error

    async def close(self) -> None:
        """Commit the pending writes and close the file; `failure` says whether that succeeded.

        A cancellation takes effect after that.
        """
        if self._is_closing:
            return
        cancellation = None
        job: asyncio.Future[None] | None = None
        while job is None or not job.done():
            commit = self._next_commit or self._running_commit
            if commit is None and job is None:
                self._is_closing = True
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
        except (*FILE_ERRORS, JournalError) as error:
            self._record_failure(self._translated(error))

    def _close(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            close_database(database)
