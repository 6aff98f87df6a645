"""Entries of a journal, and its SQLite file as another program sees it."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from jarai_async._api.codec import body_of
from jarai_async._journal.entries import Intent
from tests.support.strategies import ID, request


def intent(reference: str = "mine", key: str = "a key", **fields: Any) -> Intent:
    return Intent(reference, ID, body_of(request()), key, **fields)


def execute(path: Path, *statements: str) -> list[Any]:
    """Execute statements in the file of a closed journal; return the first value of each result."""
    database = sqlite3.connect(path)
    rows = [database.execute(statement).fetchone() for statement in statements]
    database.commit()
    database.close()
    return [row and row[0] for row in rows]


def opened_connections(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """Return a list that receives every SQLite connection from now on, so a test can make its writes fail."""
    connections: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def connect_and_keep(*args: Any, **options: Any) -> sqlite3.Connection:
        connections.append(connect(*args, **options))
        return connections[-1]

    monkeypatch.setattr(sqlite3, "connect", connect_and_keep)
    return connections
