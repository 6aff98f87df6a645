"""What commands and reports call a journal: the path of a file, or the URL of a PostgreSQL database."""

from importlib import import_module
from typing import Any

from jarai_async._errors import ConfigurationError
from jarai_async._journal.database import journal_path
from jarai_async._journal.reader import JournalReader, SqliteReader


def is_database(location: str) -> bool:
    """Whether it is a URL of PostgreSQL rather than a path."""
    return location.startswith(("postgresql://", "postgres://"))


def reader_of(location: str) -> JournalReader:
    """Return what reads a journal. Raises ConfigurationError for a wrong path, or without the extra."""
    if not is_database(location):
        return SqliteReader(journal_path(location))
    reader: JournalReader = with_postgres("jarai_async._postgres.reader").PostgresReader(location)
    return reader


def shown(location: str) -> str:
    """Return a location without a password. Raises ConfigurationError as `reader_of`."""
    if not is_database(location):
        return location
    return str(with_postgres("jarai_async._postgres.database").Database(location).location)


def with_postgres(module: str) -> Any:
    """Import a module that needs the extra `postgres`. Raises ConfigurationError without it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigurationError(f'{error.name} is missing: pip install "jarai-async[postgres]"') from None
