"""The door to PostgreSQL: transactions that outlast an outage of the database, and notifications.

A transaction is repeated until it is committed: after a lost connection it is unknown whether it was, so each
must be such that a repetition changes nothing. Nothing waits in a queue of its own while the database is
away: the callers wait, and with them whatever needs the database's permission, such as a submit.

A notification may be lost with its connection. So a listener is also called after each reconnect, and looks
at the rows themselves.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextvars import Context
from typing import Any, Self, TypeVar
from urllib.parse import quote

import psycopg
from psycopg import AsyncConnection, conninfo, errors
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from jarai_async import _clock
from jarai_async._errors import ClosedError, ConfigurationError, JournalError
from jarai_async._printable import first_line
from jarai_async._tasks import start, stop

T = TypeVar("T")

Connection = AsyncConnection[tuple[Any, ...]]

_log = logging.getLogger("jarai_async")

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0  # seconds between two attempts during an outage
_CONNECT_TIMEOUT = 10  # seconds
_RECONNECT_TIMEOUT = 5.0  # seconds; the pool doubles its pauses until then, and each caller starts again
# A connection whose other end is gone without a word is given up after about ten seconds.
_KEEPALIVES: Mapping[str, Any] = {
    "connect_timeout": _CONNECT_TIMEOUT,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
# A process that is stopped or cut off in a transaction would keep its locks, and every other one waiting.
_OPTIONS = "-c search_path=jarai -c idle_in_transaction_session_timeout=5s"
_REPEATED = ("08", "25P03", "40", "53", "55P03", "57P")
"""SQLSTATEs: connection, stopped in a transaction, rollback by the server, no resources, lock, shutdown."""


class _PoolConnection(AsyncConnection[tuple[Any, ...]]):
    """A simulated clock stands still while one is made, but not while the pool waits to try again."""

    @classmethod
    async def connect(cls, *args: Any, **options: Any) -> Self:
        with _clock.outside_work():
            return await super().connect(*args, **options)


class Database:
    """Connections to one PostgreSQL database, at most `connections` and one for each `Listener`.

    Its name in messages and its `repr` hold no password.
    """

    def __init__(self, url: str, *, connections: int = 2) -> None:
        """Take a URL or another connection string of libpq. Raises ConfigurationError."""
        try:
            given = conninfo.conninfo_to_dict(url)
        except psycopg.Error:  # whose message repeats the password
            message = "not the URL of a PostgreSQL database, such as postgresql://user@host/database"
            raise ConfigurationError(message) from None
        options = f"{_OPTIONS} {given.get('options') or ''}".strip()
        self.conninfo: str = conninfo.make_conninfo("", **{**_KEEPALIVES, **given, "options": options})
        """All that is needed to connect: secret, as it may hold a password."""
        self.location: str = _location(given)
        """Its URL without the password."""
        self.name: str = f"the database {self.location}"
        """What messages call it."""
        self.failure: JournalError | None = None
        """Why it cannot be used now; None while it responds."""
        self.pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            self.conninfo,
            min_size=1,
            max_size=connections,
            open=False,
            timeout=_CONNECT_TIMEOUT,
            connection_class=_PoolConnection,
            reconnect_timeout=_RECONNECT_TIMEOUT,
            kwargs={"prepare_threshold": 2},
            name="jarai",
        )
        """Its connections, also for other libraries."""
        self._is_closed = asyncio.Event()
        self._may_wait = True

    def __repr__(self) -> str:
        return f"<Database {self.name}>"

    async def open(self) -> None:
        """Connect. Raises JournalError where that fails: a first connection is not repeated."""
        with _clock.outside_work():
            try:
                async with await psycopg.AsyncConnection.connect(self.conninfo):
                    pass
            except psycopg.Error as error:
                raise JournalError(f"{self.name} cannot be used: {first_line(error)}") from None
            await self.pool.open()

    async def close(self) -> None:
        """Close the connections. Transactions that wait for the database raise ClosedError."""
        self._is_closed.set()
        await self.pool.close()  # which waits for a timer of its own: the clock must not stand still

    def stop_waiting(self) -> None:
        """Let transactions fail from now on where the database is away."""
        self._may_wait = False

    async def read(self, query: str, values: Any = ()) -> list[tuple[Any, ...]]:
        """Return the rows of one statement, in a transaction of its own. Raises as `transaction`."""
        return await self.transaction(lambda connection: rows(connection, query, values))

    async def transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Return what `work` returns, once its transaction is committed.

        It is called again after each loss of the connection. Raises ClosedError once this is closed, and
        JournalError where PostgreSQL refuses a statement.
        """
        pause = _SHORTEST_PAUSE
        while True:
            if self._is_closed.is_set():
                raise ClosedError(f"{self.name} was closed")
            try:
                async with self.pool.connection() as connection:
                    with _clock.outside_work():
                        async with connection.transaction():
                            result = await work(connection)
            except PoolClosed:
                continue
            except (psycopg.Error, PoolTimeout) as error:
                self._record(self._translated(error))
                if not self._may_wait:
                    raise ClosedError(f"{self.name} did not respond before it was closed") from None
            else:
                self._record(None)
                return result
            await _clock.wait_until(_clock.monotonic() + pause, self._is_closed)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _translated(self, error: Exception) -> JournalError:
        """Return the failure of a transaction that may be repeated. Raises JournalError for another one."""
        translated = JournalError(f"{self.name} cannot be used: {first_line(error)}")
        code = getattr(error, "sqlstate", None)
        is_lost = isinstance(error, errors.OperationalError | PoolTimeout)
        if not (code.startswith(_REPEATED) if code else is_lost):
            raise translated from error
        return translated

    def _record(self, failure: JournalError | None) -> None:
        """Log the beginning and the end of an outage."""
        if failure is not None and self.failure is None:
            _log.warning("%s; trying again, and until then nothing is sent", failure.message)
        elif failure is None and self.failure is not None:
            _log.warning("%s responds again", self.name)
        self.failure = failure


async def rows(connection: Connection, query: str, values: Any = ()) -> list[tuple[Any, ...]]:
    """Execute a statement in the transaction of a connection, and return its rows: none where it has none."""
    cursor = await connection.execute(query.encode(), values)
    return await cursor.fetchall() if cursor.description else []


@contextlib.contextmanager
def reading(url: str) -> Iterator[Callable[[str, Any], list[tuple[Any, ...]]]]:
    """Read one snapshot of a database; yield what executes a query. Blocking.

    Raises ConfigurationError, and JournalError where the database cannot be read.
    """
    database = Database(url)
    try:
        with psycopg.connect(database.conninfo) as connection:
            connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            connection.set_read_only(True)
            yield lambda query, values: connection.execute(query.encode(), values).fetchall()
    except psycopg.Error as error:
        raise JournalError(f"{database.name} cannot be read: {first_line(error)}") from None


class Listener:
    """Calls functions when a channel is notified: with the payload, or None after a reconnect."""

    def __init__(self, database: Database, channels: Mapping[str, Callable[[str | None], object]]) -> None:
        self._database = database
        self._channels = channels
        self._task = start(self._run, name="jarai listener", context=Context())

    async def close(self) -> None:
        """Stop."""
        await stop([self._task])

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(psycopg.Error):
                async with self._connected() as connection:
                    for call in self._channels.values():
                        call(None)
                    async for notify in connection.notifies():
                        self._channels[notify.channel](notify.payload)
            await asyncio.sleep(_LONGEST_PAUSE / 2)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        with _clock.outside_work():
            connection = await AsyncConnection.connect(self._database.conninfo, autocommit=True)
        async with connection:
            with _clock.outside_work():
                for channel in self._channels:
                    await connection.execute(f'LISTEN "{channel}"'.encode())
            yield connection


def _location(given: Mapping[str, Any]) -> str:
    """Return the URL of a database without the password."""
    user, port = given.get("user"), given.get("port")
    host = f"{quote(str(given.get('host', '')), safe='')}{f':{port}' if port else ''}"
    return f"postgresql://{f'{user}@' if user else ''}{host}/{given.get('dbname', '')}"
