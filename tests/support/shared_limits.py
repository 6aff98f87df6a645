"""Workers that share a rate limit in PostgreSQL, on simulated time."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import TypeVar

from attrs import frozen

from jarai_async import JaraiClient, RateLimit, _clock
from jarai_async._postgres import schema
from jarai_async._postgres.database import Connection, Database
from jarai_async._postgres.rate_limit import SharedLimiter
from jarai_async._ratelimit.scheduler import Scheduler
from jarai_async.simulator import Simulator
from tests.support.limiters import NO_DAILY_QUOTA

T = TypeVar("T")

_RATE_LIMIT = RateLimit(per_day=NO_DAILY_QUOTA)
FOLLOW_THE_LOOP = """
CREATE OR REPLACE FUNCTION jarai.now() RETURNS double precision LANGUAGE sql VOLATILE
    AS $$ SELECT current_setting('jarai.time')::double precision $$;
CREATE OR REPLACE FUNCTION jarai.started_at() RETURNS double precision LANGUAGE sql STABLE
    AS $$ SELECT coalesce(current_setting('jarai.started', true)::double precision, 0) $$
"""
"""Lets the clock of the database be that which a transaction brings along, and its start at 0 or as set."""


class SimulatedTimeDatabase(Database):
    """A database whose clock is the wall clock of the loop."""

    async def transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async def with_time(connection: Connection) -> T:
            await connection.execute("SELECT set_config('jarai.time', %s, true)", (repr(_clock.wall()),))
            return await work(connection)

        return await super().transaction(with_time)


@asynccontextmanager
async def simulated_time_database(
    url: str, kind: type[SimulatedTimeDatabase] = SimulatedTimeDatabase
) -> AsyncIterator[SimulatedTimeDatabase]:
    """Open a database, and create its tables."""
    database = kind(url)
    await database.open()
    try:
        await schema.create(database)
        await database.read(FOLLOW_THE_LOOP)
        yield database
    finally:
        await database.close()


@frozen
class Worker:
    """A client, and its part of the shared rate limit."""

    client: JaraiClient
    limiter: SharedLimiter
    database: Database


@asynccontextmanager
async def workers(
    simulator: Simulator,
    url: str,
    count: int,
    rate_limit: RateLimit = _RATE_LIMIT,
    database: type[SimulatedTimeDatabase] = SimulatedTimeDatabase,
) -> AsyncIterator[list[Worker]]:
    """Yield clients that share a rate limit, each with its own connections."""
    async with AsyncExitStack() as stack:
        yield [
            await _worker(
                stack,
                simulator,
                await stack.enter_async_context(simulated_time_database(url, database)),
                n,
                rate_limit,
            )
            for n in range(count)
        ]


@asynccontextmanager
async def schedulers(
    url: str,
    count: int,
    rate_limit: RateLimit = _RATE_LIMIT,
    database: type[SimulatedTimeDatabase] = SimulatedTimeDatabase,
) -> AsyncIterator[list[Scheduler]]:
    """Yield gates of workers that share a rate limit, for tests without a server."""
    async with AsyncExitStack() as stack:
        gates = []
        for number in range(count):
            opened = await stack.enter_async_context(simulated_time_database(url, database))
            limiter = SharedLimiter(opened, rate_limit, Random(number))
            stack.push_async_callback(limiter.close)
            gates.append(Scheduler(limiter, Random(number)))
            limiter.on_change = gates[-1].on_limiter_changed
            stack.callback(gates[-1].close)
        yield gates


async def _worker(
    stack: AsyncExitStack, simulator: Simulator, database: Database, number: int, rate_limit: RateLimit
) -> Worker:
    limiter = SharedLimiter(database, rate_limit, Random(number))
    stack.push_async_callback(limiter.close)
    client = JaraiClient(
        simulator.api_key, base_url=simulator.base_url, rate_limit=rate_limit, random=Random(number)
    )
    client = await stack.enter_async_context(client)
    stack.enter_context(client.engine.sharing(limiter))
    return Worker(client, limiter, database)
