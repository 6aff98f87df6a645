"""Transactions, outages and notifications of the database."""

import asyncio
import logging

import psycopg
import pytest

from jarai_async import ClosedError, ConfigurationError, JournalError
from jarai_async._postgres import schema
from jarai_async._postgres.database import Connection, Database, Listener


async def test_tables_are_created_once_by_several_workers(postgres_url: str) -> None:
    databases = [Database(postgres_url) for _ in range(3)]
    for database in databases:
        await database.open()
    await asyncio.gather(*(schema.create(database) for database in databases))
    assert await databases[0].read("SELECT value FROM jarai.facts") == [(schema.VERSION,)]
    for database in databases:
        await database.close()


async def test_tables_of_a_newer_version_are_refused(database: Database) -> None:
    await database.read("UPDATE jarai.facts SET value = '99'")
    with pytest.raises(JournalError, match="newer version"):
        await schema.create(database)


async def test_killed_connection_is_replaced_and_the_transaction_repeated(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    calls = 0

    async def insert(connection: Connection) -> None:
        nonlocal calls
        calls += 1
        await connection.execute("INSERT INTO jarai.facts VALUES ('once', '1')")
        if calls == 1:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with caplog.at_level(logging.WARNING, logger="jarai_async"):
        await database.transaction(insert)
    assert calls == 2
    assert await database.read("SELECT value FROM jarai.facts WHERE name = 'once'") == [(1,)]
    assert [
        record.getMessage().endswith("responds again")
        for record in caplog.records
        if record.name == "jarai_async"
    ] == [False, True]
    assert database.failure is None


async def test_process_that_is_stopped_in_a_transaction_does_not_keep_its_locks(postgres_url: str) -> None:
    """PostgreSQL ends its session after some seconds (here 100 ms), and its transaction is repeated."""
    database = Database(postgres_url)
    await database.open()
    assert await database.read("SHOW idle_in_transaction_session_timeout") == [("5s",)]
    await database.close()
    options = "options='-c idle_in_transaction_session_timeout=100'"
    databases = [Database(f"{postgres_url} {options}") for _ in range(2)]
    for database in databases:
        await database.open()
    await schema.create(databases[0])
    holding, calls = asyncio.Event(), 0

    async def lock_and_stop(connection: Connection) -> None:
        nonlocal calls
        calls += 1
        await connection.execute("SELECT FROM jarai.rate_limit FOR UPDATE")
        if calls == 1:
            holding.set()
            await other_is_done.wait()
            await connection.execute("SELECT 1")

    other_is_done = asyncio.Event()
    stopped = asyncio.create_task(databases[0].transaction(lock_and_stop))
    await holding.wait()
    assert await databases[1].read("SELECT count(*) FROM (SELECT FROM jarai.rate_limit FOR UPDATE) AS one")
    other_is_done.set()
    await stopped
    assert calls == 2
    for database in databases:
        await database.close()


async def test_refused_statement_is_an_error(database: Database) -> None:
    with pytest.raises(JournalError, match="no_such_table"):
        await database.read("SELECT * FROM no_such_table")


async def test_transaction_ends_when_the_database_is_closed(database: Database) -> None:
    await database.close()
    with pytest.raises(ClosedError):
        await database.read("SELECT 1")


@pytest.mark.parametrize("url", ["mysql://somewhere", "postgresql://user:secret-word@[bad/db"])
def test_wrong_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match="PostgreSQL") as caught:
        Database(url)
    assert "secret-word" not in str(caught.value)


async def test_unreachable_database_is_an_error_without_the_password() -> None:
    database = Database("postgresql://user:secret-word@127.0.0.1:1/jobs")
    assert "secret-word" not in repr(database)
    with pytest.raises(JournalError, match=r"postgresql://user@127.0.0.1:1/jobs cannot") as caught:
        await database.open()
    assert "secret-word" not in str(caught.value)


async def test_listener_is_called_for_notifications_and_after_a_reconnect(
    postgres_url: str, database: Database
) -> None:
    received: asyncio.Queue[str | None] = asyncio.Queue()
    listener = Listener(database, {"changes": received.put_nowait})
    loop = asyncio.get_running_loop()
    with getattr(loop, "hold")():  # noqa: B009  # the server is outside of the loop
        assert await received.get() is None
        await database.read("SELECT pg_notify('changes', 'one')")
        assert await received.get() == "one"
        async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as other:
            await other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
            )
    assert await received.get() is None
    await listener.close()


async def test_idle_connections_that_the_server_has_closed_are_replaced(database: Database) -> None:
    """As after a restart of the database, or by a firewall."""
    await asyncio.gather(*(database.read("SELECT pg_sleep(0.05)") for _ in range(2)))  # both connections
    async with await psycopg.AsyncConnection.connect(database.conninfo, autocommit=True) as other:
        await other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert await database.read("SELECT 1") == [(1,)]
