"""The SQLite file of a journal: opened and locked, checked, and brought to the present format. Blocking.

Between two commits everything is in the one file, also after the process was killed. (With a write-ahead log,
a copy without that second file was an empty journal.) SQLite's rollback journal `PATH-journal` matters only
where a commit was interrupted. It is kept until the file is closed, because overwriting it needs no space.

The file is locked while it is open (`file_lock`). Opening first changes every request that was being sent to
IN_DOUBT and commits that, so that a second crash cannot lose it. A journal belongs to the server that it was
first used with: another one does not know its productions.
"""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote

from attrs import asdict, frozen

from jarai_async._errors import ConfigurationError, JournalError
from jarai_async._journal.entries import Stage
from jarai_async._journal.events import migrated
from jarai_async._journal.file_lock import FileLock

FILE_ERRORS = (
    sqlite3.Error,
    OSError,
    UnicodeDecodeError,
)  # the last: SQLite's message quotes damaged text
SELECT_FACT = "SELECT value FROM facts WHERE name = ?"
REPLACE_FACT = "INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)"

_APPLICATION_ID = 0x4A415249  # "JARI": identifies the file, to us and to file(1)
_FORMAT_VERSION = 3
_SELECT_POSITIONAL = "SELECT 1 FROM intents WHERE reference GLOB 'request-[0-9][0-9][0-9][0-9]*'"
_SELECT_CREATED = "SELECT 1 FROM intents WHERE stage NOT IN (?, ?) OR kept LIKE '%\"production\"%' LIMIT 1"
_INTENTS = """
CREATE TABLE intents (
    id INTEGER PRIMARY KEY, reference TEXT NOT NULL UNIQUE, account_id TEXT NOT NULL, key TEXT NOT NULL,
    body BLOB NOT NULL, stage TEXT NOT NULL, state TEXT, ended_at REAL, kept TEXT NOT NULL
) STRICT
"""
_EVENTS = """
CREATE TABLE events (
    cursor INTEGER PRIMARY KEY AUTOINCREMENT, intent INTEGER NOT NULL REFERENCES intents ON DELETE CASCADE,
    sequence INTEGER NOT NULL, kind TEXT NOT NULL, value BLOB NOT NULL
) STRICT;
CREATE INDEX events_of_intent ON events (intent)
"""
_INSERT_EVENT = "INSERT INTO events (intent, sequence, kind, value) VALUES (?, ?, ?, ?)"
_UPDATE_END = "UPDATE intents SET state = ?, ended_at = ? WHERE id = ?"
_FACTS = "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT"
_COPY = """
INSERT INTO intents (reference, account_id, key, body, stage, kept)
    SELECT reference, account_id, key, body, stage, kept FROM before ORDER BY rowid
"""


@frozen
class Server:
    """The API that knows the productions of a journal."""

    base_url: str
    is_sandbox: bool

    def __str__(self) -> str:
        return f"{self.base_url} with a {'sandbox' if self.is_sandbox else 'live'} key"


class UnrecoveredError(Exception):
    """A file whose last owner was killed during a commit, or that an earlier version has written."""


class Database(sqlite3.Connection):
    """A database in memory, or in a file that is unlocked when it is closed."""

    lock: FileLock | None = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what is written, or undo it after an error. Raises JournalError, OSError, sqlite3.Error."""
        if self.lock is not None:
            self.lock.check()
        with self.writing():
            try:
                self.execute("BEGIN IMMEDIATE")
                yield
                self.execute("COMMIT")
            except BaseException:
                if self.in_transaction:
                    self.execute("ROLLBACK")
                raise

    def writing(self) -> AbstractContextManager[None]:
        """Keep readers of other processes out."""
        return nullcontext() if self.lock is None else self.lock.writing()

    def close(self) -> None:
        super().close()
        if self.lock is not None:
            self.lock.close()


def open_database(path: Path | None, server: Server | None, *, create: bool) -> Database:
    """Open a journal's file, or a database in memory. Raises JournalError, OSError, sqlite3.Error."""
    database = _connect(path, create=create)
    try:
        with database.writing():
            _prepare(database, path, server)
    except BaseException:
        database.close()
        raise
    return database


def close_database(database: Database) -> None:
    """Close the file. Raises JournalError, OSError, sqlite3.Error."""
    try:
        if database.lock is not None:
            database.lock.check()  # else another process may use the rollback journal of that name
            with database.writing():
                database.execute("PRAGMA locking_mode = NORMAL")
                database.execute("PRAGMA journal_mode = DELETE")
    finally:
        database.close()


def _connect(path: Path | None, *, create: bool) -> Database:
    uri, lock = ":memory:", None
    if path is not None:
        lock = FileLock(path, create=create)
        # The lock makes SQLite's own superfluous, and `unix-none` leaves them out. On Windows they are it.
        uri = f"{_file_uri(path)}?vfs=unix-none" if os.name == "posix" else str(path)
    try:
        database = sqlite3.connect(
            uri,
            uri=uri.startswith("file:"),
            factory=Database,
            timeout=0.5,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=16,
        )
    except BaseException:
        if lock is not None:
            lock.close()
        raise
    database.lock = lock
    return database


def _file_uri(path: Path) -> str:
    return f"file://{quote(os.fsencode(path.absolute()))}"


def connect_to_read(path: Path) -> Database:
    """Open a journal's file for one read: its owner may write it afterwards, which this would not notice.

    Raises UnrecoveredError where the file must be recovered or migrated first, JournalError where it is not a
    journal, OSError, sqlite3.Error.
    """
    uri = f"{_file_uri(path)}?mode=ro" + ("&vfs=unix-none" if os.name == "posix" else "")
    database = sqlite3.connect(uri, uri=True, factory=Database, timeout=0.5, isolation_level=None)
    try:
        database.execute("BEGIN")
        is_new = not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        version = 0 if is_new else _checked_version(database, path)
    except sqlite3.OperationalError as error:
        database.close()
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_ROLLBACK:
            raise UnrecoveredError from None
        raise
    except BaseException:
        database.close()
        raise
    if version < _FORMAT_VERSION:
        database.close()
        raise UnrecoveredError
    return database


def _prepare(database: Database, path: Path | None, server: Server | None) -> None:
    execute = database.execute
    execute("PRAGMA locking_mode = EXCLUSIVE")
    is_new = not execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if is_new:
        _choose_layout(database)
    execute("BEGIN EXCLUSIVE")
    version = _format_version(database, path, is_new=is_new)
    execute("COMMIT")
    execute("PRAGMA journal_mode = PERSIST")
    execute("PRAGMA synchronous = FULL")
    execute("BEGIN IMMEDIATE")
    if is_new:
        for statement in (_INTENTS, *_EVENTS.split(";"), _FACTS):
            execute(statement)
        execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    elif version < _FORMAT_VERSION:
        _add_events(database)
    execute(f"PRAGMA user_version = {_FORMAT_VERSION}")
    if server is not None:
        _bind(database, path, server)
    execute("UPDATE intents SET stage = ? WHERE stage = ?", (str(Stage.IN_DOUBT), str(Stage.SENDING)))
    execute("COMMIT")
    execute("PRAGMA foreign_keys = ON")
    if not is_new and version < _FORMAT_VERSION:
        _choose_layout(database)
        execute("VACUUM")  # which makes these settings effective


def _choose_layout(database: Database) -> None:
    """Let a request that has ended give back its space to others, and a forgotten one to the disk."""
    database.execute("PRAGMA page_size = 1024")  # the space for a response is in pages of its own
    database.execute("PRAGMA auto_vacuum = INCREMENTAL")


def _format_version(database: Database, path: Path | None, *, is_new: bool) -> int:
    """Check a file, and return the version of its format. Raises JournalError where it cannot be used."""
    if is_new:
        return _FORMAT_VERSION
    version = _checked_version(database, path)
    # To check the events as well would take three times as long: a damaged one is an error when it is read.
    if (damage := database.execute("PRAGMA quick_check(intents)").fetchone()[0]) != "ok":
        raise JournalError(f"{path} is damaged: {damage}")
    if version < 2 and database.execute(_SELECT_POSITIONAL).fetchall():
        raise JournalError(  # the same batch would be submitted again
            f"{path} names requests by their position in the batch, as earlier versions did: finish it "
            "with the version that wrote it"
        )
    return version


def _checked_version(database: sqlite3.Connection, path: Path | None) -> int:
    application_id, version = (
        database.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in ("application_id", "user_version")
    )
    if application_id != _APPLICATION_ID:
        raise JournalError(f"{path} is the database of another program")
    if version > _FORMAT_VERSION:
        raise JournalError(f"{path} was written by a newer version of jarai-async")
    return int(version)


def _add_events(database: Database) -> None:
    """Bring format 1 or 2 to format 3. Of their events, those are made that are still needed."""
    execute = database.execute
    execute("ALTER TABLE intents RENAME TO before")
    for statement in (_INTENTS, *_EVENTS.split(";")):
        execute(statement)
    execute(_COPY)
    execute("DROP TABLE before")
    for id_, kept in execute("SELECT id, kept FROM intents").fetchall():
        events, end = migrated(kept)
        database.executemany(_INSERT_EVENT, [(id_, *event) for event in events])
        if end is not None:
            execute(_UPDATE_END, (*end, id_))


def _bind(database: Database, path: Path | None, server: Server) -> None:
    """Record the server of a journal. Raises JournalError where another one may have its productions."""
    used = database.execute(_SELECT_CREATED, (str(Stage.PLANNED), str(Stage.ENDED))).fetchall()
    rows = database.execute(SELECT_FACT, ("server",)).fetchall() if used else []
    bound = _decoded_server(rows[0][0]) if rows else server
    if bound is None:
        raise JournalError(f"the journal {path} is damaged: its server cannot be read")
    if bound != server:
        raise JournalError(
            f"the journal {path} was made for {bound}, which alone knows its productions, but this "
            f"client uses {server}: use the same again, or another journal"
        )
    database.execute(REPLACE_FACT, ("server", json.dumps(asdict(server))))


def _decoded_server(text: str) -> Server | None:
    try:
        return Server(**json.loads(text))
    except (RecursionError, TypeError, ValueError):
        return None


def decoded_fact(rows: list[Any], journal: str) -> Any:
    """Return what the rows of SELECT_FACT hold, None if there are none. Raises JournalError.

    `journal` is what its message calls the journal.
    """
    try:
        return json.loads(rows[0][0]) if rows else None
    except (RecursionError, TypeError, ValueError) as error:
        raise JournalError(f"{journal} is damaged: {error}") from None


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


def reason(error: Exception) -> str:
    """Replace SQLite's message where it does not make clear what is wrong."""
    text = str(error)
    if "locked" in text:
        return "another program has it open"
    if "not a database" in text:
        return "it is not a journal"
    if isinstance(error, UnicodeDecodeError) or "malformed" in text:
        return "it is damaged"
    if isinstance(error, OSError):
        return error.strerror or text
    return text
