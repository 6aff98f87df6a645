"""Reading the journal in PostgreSQL from outside, for reports and lists. Blocking."""

from collections.abc import Iterator
from typing import Any

from jarai_async._journal.entries import Intent
from jarai_async._journal.events import EventRow
from jarai_async._journal.reader import JournalReader
from jarai_async._postgres.database import reading

_PAGE = 500  # requests that are read at a time
_SELECT = """
SELECT reference, account_id, key, body, stage, state, ended_at, kept, id FROM jarai.requests
    WHERE id > %s ORDER BY id LIMIT %s
"""
_SELECT_EVENTS = """
SELECT cursor, reference, sequence, kind, value, account_id, body, request
    FROM jarai.events JOIN jarai.requests ON requests.id = events.request
    WHERE requests.id BETWEEN %s AND %s ORDER BY cursor
"""
_SELECT_FACT = "SELECT value FROM jarai.facts WHERE name = %s"


class PostgresReader(JournalReader):
    """Reads a database."""

    def __init__(self, url: str) -> None:
        self._url = url

    def entries(self) -> Iterator[tuple[Intent, list[EventRow]]]:
        """Iterate over the requests, each with its events."""
        last = 0
        with reading(self._url) as read:
            while rows := read(_SELECT, (last, _PAGE)):
                first, last = rows[0][-1], rows[-1][-1]
                events: dict[int, list[EventRow]] = {row[-1]: [] for row in rows}
                for row in read(_SELECT_EVENTS, (first, last)):
                    events[row[-1]].append(row[:-1])
                for row in rows:
                    yield Intent.from_row(row[:-1]), events[row[-1]]

    def fact(self, name: str) -> Any:
        """Return a fact, or None if there is none."""
        with reading(self._url) as read:
            rows = read(_SELECT_FACT, (name,))
        return rows[0][0] if rows else None
