"""Reading a journal from outside: also while another process has it open, and never writing it.

Some requests at a time are read between two commits of the owner, so each one is read as it was at one time.
Where the last owner was killed during a commit, or the format is an earlier one, the file is first opened and
closed as its owner does that.
"""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from attrs import field, frozen

from jarai_async._api.models import Production, ProductionRequest
from jarai_async._errors import JaraiError, JournalError
from jarai_async._events import Event, Finished, OutcomeState
from jarai_async._journal.database import (
    FILE_ERRORS,
    SELECT_FACT,
    Database,
    UnrecoveredError,
    close_database,
    connect_to_read,
    decoded_fact,
    journal_path,
    open_database,
    reason,
)
from jarai_async._journal.entries import Intent, Row, Stage
from jarai_async._journal.events import EventRow, decode_event, decoded_error
from jarai_async._journal.file_lock import FileReader, JournalInUseError

T = TypeVar("T")

_PAGE = 200  # requests that are read between two commits of the owner, in some milliseconds
_PATIENCE = 10.0  # seconds, for an owner that recovers or migrates its file, and for a slow disk
_PAUSE = 0.05  # seconds
_SELECT = """
SELECT reference, account_id, key, body, stage, state, ended_at, kept, id FROM intents
    WHERE id > ? ORDER BY id LIMIT ?
"""
_SELECT_EVENTS = """
SELECT cursor, reference, sequence, kind, value, account_id, body, intent
    FROM intents JOIN events ON events.intent = intents.id
    WHERE intents.id BETWEEN ? AND ? ORDER BY cursor
"""


@frozen
class JournalEntry:
    """What a journal knows of one request.

    - `stage`: `planned`, `sending`, `in doubt` (its submit had no response), `accepted` or `ended`.
    - `state`: its outcome, `uncertain` while its submit is in doubt, or None. Outcomes that are not final are
      those of its last event: the next run continues with it.
    - `production`: the present one, in the state that was recorded last.
    - `production_ids`: every production that is known to have been created for the request, the oldest first:
      also those before a `retry`, and those that expired and were replaced. One that a submit in doubt may
      have created is not among them.
    - `cancel_requested`: whether a cancel was requested that JARAI has not refused, before it has ended.
    - `error`: of the outcome.
    - `sent_at`, `submitted_at`, `ended_at`: when its submit was sent and accepted, and the outcome's time.
    """

    reference: str
    request: ProductionRequest
    stage: str
    state: OutcomeState | None
    production: Production | None
    production_ids: tuple[str, ...]
    cancel_requested: bool
    error: JaraiError | None
    sent_at: datetime | None
    submitted_at: datetime | None
    ended_at: datetime | None
    _events: list[EventRow] = field(repr=False, eq=False)

    @property
    def is_final(self) -> bool:
        """Whether the next run returns its outcome, and sends nothing."""
        return self.stage == Stage.ENDED

    @property
    def events(self) -> tuple[Event, ...]:
        """All its events, from the first one. Raises JournalError if one cannot be decoded."""
        return tuple(decode_event(row) for row in self._events)


def read_journal(path: str | os.PathLike[str]) -> Iterator[JournalEntry]:
    """Iterate over the requests of a journal, in the order in which they were first written.

    Another process may have the journal open: it is read, some requests at a time, and never written. A file
    that no process has open is written in two cases: where the last owner was killed during a commit, and
    where an earlier version wrote it, it is opened and closed first. A commit of the owner may wait for some
    milliseconds, and for a second while a process that reads is stopped. Reading blocks: in a coroutine, use
    it in a thread.

    A journal that is open can be read on Linux only. On other systems that raises JournalError, and so does
    an orchestrator that opens the journal while it is read.

    Raises JournalError where the file cannot be read, is not a journal, or is replaced meanwhile, and
    ConfigurationError where `path` is not the path of a file.
    """
    for intent, events in SqliteReader(journal_path(path)).entries():
        yield entry_of(intent, events)


def entry_of(intent: Intent, events: list[EventRow]) -> JournalEntry:
    """Return what users see of a request. Raises JournalError if its body or its error cannot be decoded."""
    state, error, ended_at = _outcome(intent, events)
    return JournalEntry(
        reference=intent.reference,
        request=intent.request(),
        stage=str(intent.stage),
        state=state,
        production=intent.production,
        production_ids=intent.production_ids,
        cancel_requested=intent.cancel_requested,
        error=error,
        sent_at=_time(intent.sent_at),
        submitted_at=_time(intent.submitted_at),
        ended_at=ended_at,
        events=events,
    )


def _outcome(
    intent: Intent, events: list[EventRow]
) -> tuple[OutcomeState | None, JaraiError | None, datetime | None]:
    """Return the state of the outcome, its error and its time."""
    if intent.outcome is not None and intent.outcome_state is not None:
        error = decoded_error(intent.outcome.get("error"))
        return OutcomeState(intent.outcome_state), error, _time(intent.ended_at)
    if intent.stage not in (Stage.IN_DOUBT, Stage.ACCEPTED):
        return None, None, None
    last = decode_event(events[-1]) if events and events[-1][3] == Finished.__name__ else None
    outcome = last.outcome if isinstance(last, Finished) else None
    if intent.stage is Stage.IN_DOUBT:
        if intent.doubt is not None:  # shorter than the error of the outcome
            intent.doubt.advice = "The submit may have been accepted: see `jarai resolve`."
        if outcome is None or outcome.state is not OutcomeState.UNCERTAIN:
            return OutcomeState.UNCERTAIN, intent.doubt, None
        return outcome.state, intent.doubt or outcome.error, outcome.finished_at
    return (None, None, None) if outcome is None else (outcome.state, outcome.error, outcome.finished_at)


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


class JournalReader(ABC):
    """Reads a journal. Methods block, and raise JournalError."""

    @abstractmethod
    def entries(self) -> Iterator[tuple[Intent, list[EventRow]]]:
        """Iterate over the requests, each with its events."""

    @abstractmethod
    def fact(self, name: str) -> Any:
        """Return a fact, or None if there is none."""

    def folder(self) -> str | None:
        """Return the folder of the files, if the journal names one."""
        fact = self.fact("folder")
        path = fact.get("path") if isinstance(fact, dict) else None
        return path if isinstance(path, str) else None

    def per_minute(self) -> int | None:
        """Return the rate limit that the server stated last, if it did."""
        fact = self.fact("spent")
        limit = fact.get("limit") if isinstance(fact, dict) else None
        return limit if isinstance(limit, int) else None


class SqliteReader(JournalReader):
    """Reads a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def entries(self) -> Iterator[tuple[Intent, list[EventRow]]]:
        """Iterate over the requests, each with its events."""
        last = 0
        while page := self._read(partial(_select_page, last)):
            last = page[-1][0]
            for _, row, events, is_owned in page:
                intent = Intent.from_row(row)
                if intent.stage is Stage.SENDING and not is_owned:
                    intent.stage = Stage.IN_DOUBT  # as the next owner will record
                yield intent, events

    def fact(self, name: str) -> Any:
        """Return a fact, or None if there is none."""
        rows = self._read(lambda database, _: database.execute(SELECT_FACT, (name,)).fetchall())
        return decoded_fact(rows, f"the journal {self._path}")

    def _read(self, query: Callable[[Database, bool], T]) -> T:
        """Read between two commits. `query` has a connection, and whether the file has an owner."""
        end = time.monotonic() + _PATIENCE
        try:
            while True:
                try:
                    return self._read_once(query)
                except _ExpiredError:
                    if time.monotonic() > end:
                        raise JournalError(
                            f"the journal {self._path} cannot be read: that takes too long on this disk"
                        ) from None
                except UnrecoveredError:
                    self._recover(end)
        except FILE_ERRORS as error:
            raise JournalError(f"the journal {self._path} cannot be read: {reason(error)}") from None

    def _read_once(self, query: Callable[[Database, bool], T]) -> T:
        with closing(FileReader(self._path)) as file, file.reading() as is_valid:
            try:
                with closing(connect_to_read(self._path)) as database:
                    result = query(database, file.has_owner)
            except Exception:
                if is_valid():
                    raise
            file.check()
            if is_valid():
                return result
        raise _ExpiredError

    def _recover(self, end: float) -> None:
        """Open and close the file as its owner, unless it has one, which does it itself."""
        try:
            close_database(open_database(self._path, None, create=False))
        except JournalInUseError:
            if time.monotonic() > end:
                raise JournalError(
                    f"the journal {self._path} cannot be read: its owner could not complete a commit"
                ) from None
            time.sleep(_PAUSE)
        except FILE_ERRORS as error:
            raise JournalError(
                f"the journal {self._path} cannot be read before its last commit is undone, or before it has "
                f"the present format, and it cannot be written: {reason(error)}"
            ) from None


class _ExpiredError(Exception):
    """The owner may have written while this process read."""


def _select_page(
    after: int,
    database: Database,
    is_owned: bool,  # noqa: FBT001  # a callback
) -> list[tuple[int, Row, list[EventRow], bool]]:
    """Return the next requests: the id, the row, the events, and whether the file has an owner."""
    rows = database.execute(_SELECT, (after, _PAGE)).fetchall()
    if not rows:
        return []
    events: dict[int, list[EventRow]] = {id_: [] for *_, id_ in rows}
    for *event, id_ in database.execute(_SELECT_EVENTS, (rows[0][-1], rows[-1][-1])):
        events[id_].append(cast("EventRow", tuple(event)))
    return [(id_, cast("Row", tuple(row)), events[id_], is_owned) for *row, id_ in rows]
