"""Workers on hosts of their own, in one event loop: each can lose its network to JARAI and to the database.

To the others, a worker that reaches nobody any more is one that was killed; one that reaches everybody again
later is one that was stopped.
"""

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from random import Random
from typing import Any

import aiohttp
import pytest
from attrs import define, field

from jarai_async import JaraiClient
from jarai_async._postgres.database import Database
from jarai_async.simulator import Simulator
from jarai_async.workers import Worker
from tests.support.postgres import working
from tests.support.shared_limits import FOLLOW_THE_LOOP, SimulatedTimeDatabase
from tests.support.silent_proxy import SilentProxy

# Of the loop, for databases that tell it; no worker is taken to be alive because the server has just started.
_END_LEASE = "UPDATE jarai.workers SET seen_at = 0 WHERE name = %s"
_AGE_HEARTBEATS = "UPDATE jarai.procrastinate_workers SET last_heartbeat = now() - interval '1 hour'"


@define(eq=False)
class Host:
    """A worker, with its connections. `database` is that of the test, which nothing cuts off."""

    name: str
    proxy: SilentProxy
    database: Database
    worker: Worker = field(init=False)
    client: JaraiClient = field(init=False)
    _is_cut_off: bool = False
    _sockets: list[socket.socket] = field(factory=list)

    def make_socket(self, address: Any) -> socket.socket:
        """Return a socket for a request to JARAI."""
        if self._is_cut_off:
            raise ConnectionRefusedError
        family, kind, protocol, *_ = address
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)  # noqa: FBT003  # of the standard library
        self._sockets.append(made)
        return made

    def lose_jarai(self) -> None:
        """Lose all connections to JARAI, and open no other."""
        self._is_cut_off = True
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def lose_database(self) -> None:
        """Lose all connections to the database, and open no other."""
        self.proxy.refuse(self.name)

    def lose_connections(self) -> None:
        """Lose all connections to the database."""
        self.proxy.abort(self.name)

    def kill(self) -> None:
        """Lose the network for ever."""
        self.lose_database()
        self.lose_jarai()

    def resume(self) -> None:
        """Have the network again."""
        self._is_cut_off = False
        self.proxy.accept(self.name)

    async def end_lease(self) -> None:
        """Let the database take it for dead, until it renews its lease."""
        await self.database.read(_END_LEASE, (self.name,))
        await self.database.read(_AGE_HEARTBEATS)


@pytest.fixture
async def simulated_time(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the database of the test have the clock of the loop, for all queues and workers."""
    await database.read(FOLLOW_THE_LOOP)
    for module in ("queue", "worker"):
        monkeypatch.setattr(f"jarai_async._worker.{module}.Database", SimulatedTimeDatabase)


@asynccontextmanager
async def host(
    name: str, url: str, database: Database, simulator: Simulator, *, keys: bool = True, **options: Any
) -> AsyncIterator[Host]:
    """Run a worker, whose database has the clock of the loop. Its lease is a minute."""
    async with SilentProxy(url) as proxy:
        each = Host(name, proxy, database)
        async with AsyncExitStack() as stack:
            connector = aiohttp.TCPConnector(socket_factory=each.make_socket)
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
            each.client = await stack.enter_async_context(
                JaraiClient(
                    simulator.api_key,
                    base_url=simulator.base_url,
                    session=session,
                    idempotency_keys=keys,
                    random=Random(name),
                )
            )
            working_here = working(each.client, await proxy.open(name), name=name, **options)
            each.worker = await stack.enter_async_context(working_here)
            yield each
