"""Processes that die: several lives of a program in one event loop, each of which can end at any step.

A real SIGKILL proves little, since it strikes where it strikes. Here a program and the world that it talks
to share a loop on simulated time. Each callback of that loop belongs, by a context variable, to a life of the
program or to the world. At the step that was asked for a life dies, and dead it does nothing any more: its
callbacks are not run, its sockets are gone, its database is closed and knows what was committed.

Work for threads is done in the loop, one step later, so that nothing depends on threads, and a step in
between can be the last one: a commit that had been asked for, and never came to be.

When all is over, `bury` lets the tasks of the dead end: cancelled, and reaching neither network nor disk.
"""

import asyncio
import socket
import sqlite3
import weakref
from asyncio.events import Handle
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar, TypeVarTuple

from jarai_async.simulator import SimulatedEventLoop

T = TypeVar("T")
Args = TypeVarTuple("Args")

_CURRENT: ContextVar["Life | None"] = ContextVar("life", default=None)
_connect = sqlite3.connect


class Life:
    """One life of a program; `dies_at` is the step, counted from 1, that it does not live to make."""

    def __init__(self, loop: "CrashableLoop", dies_at: int | None = None) -> None:
        self.steps = 0
        self.alive = True
        self.tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self.sockets: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()
        self.connecting: set[socket.socket] = set()
        self._dies_at = dies_at
        self._died: asyncio.Future[None] = loop.create_future()
        self._databases: list[sqlite3.Connection] = []
        self._never_run: list[Handle] = []
        self._loop = loop

    async def live(self, main: Coroutine[Any, Any, None]) -> bool:
        """Run the program; False where it died. What it raises is raised here."""
        context = copy_context()
        context.run(_CURRENT.set, self)
        task = self._loop.create_task(main, context=context)
        await asyncio.wait({task, self._died}, return_when=asyncio.FIRST_COMPLETED)
        if not self.alive:
            return False
        await task
        return True

    def may_run(self, handle: Handle) -> bool:
        """Count a step; at the last one die, and from then on keep what would have run."""
        if self.alive:
            self.steps += 1
            if self.steps == self._dies_at:
                self._die()
        if not self.alive:
            self._never_run.append(handle)
        return self.alive

    def _die(self) -> None:
        self.alive = False
        self._died.set_result(None)
        for transport in list(self.sockets):
            transport.abort()
        for unconnected in self.connecting:
            self._loop._remove_writer(unconnected.fileno())  # type: ignore[attr-defined]
            unconnected.close()
        for database in self._databases:
            database.close()

    def opened(self, database: sqlite3.Connection) -> None:
        """Note what a death lets go of."""
        self._databases.append(database)

    async def drain(self) -> None:
        """Let the tasks of a dead one end."""
        self._loop.draining = True
        self._loop.run_late(self._never_run)
        for _ in range(100):
            tasks = [task for task in self.tasks if not task.done()]
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=100)


class _Steps(deque[Handle]):
    """What is ready to run: the one place through which every callback of a loop passes."""

    draining = False

    def popleft(self) -> Handle:
        handle = super().popleft()
        context: Context = handle._context  # type: ignore[attr-defined]
        life = context.get(_CURRENT)
        if life is None or self.draining or handle.cancelled() or life.may_run(handle):
            return handle
        return _NOTHING


class CrashableLoop(SimulatedEventLoop):
    """A loop on simulated time in which lives can be lived."""

    def __init__(self) -> None:
        super().__init__()
        self._ready = _Steps()
        self.set_task_factory(_make_task)

    @property
    def draining(self) -> bool:
        """Whether the dead may run, to be buried."""
        return self._ready.draining

    @draining.setter
    def draining(self, value: bool) -> None:
        self._ready.draining = value

    def run_late(self, handles: list[Handle]) -> None:
        """Run what had to wait."""
        self._ready.extend(handles)
        handles.clear()

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Args], T], *args: *Args
    ) -> asyncio.Future[T]:
        """Do the work in a step of its own: whatever else is ready comes first."""
        del executor
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                _check_alive()
                result = func(*args)
            except Exception as error:  # noqa: BLE001  # as an executor does
                future.set_exception(error)
            else:
                future.set_result(result)

        self.call_soon(work)
        return future

    async def sock_connect(self, sock: Any, address: Any) -> None:
        """As in asyncio, but not for the dead."""
        life = _CURRENT.get()
        if life is None:
            return await super().sock_connect(sock, address)
        if not life.alive:
            raise ConnectionRefusedError
        life.connecting.add(sock)
        try:
            return await super().sock_connect(sock, address)
        finally:
            life.connecting.discard(sock)

    def _make_socket_transport(self, *args: Any, **options: Any) -> asyncio.Transport:
        transport: asyncio.Transport = super()._make_socket_transport(*args, **options)  # type: ignore[misc]
        life = _CURRENT.get()
        if life is not None:
            life.sockets.add(transport)
        return transport


def _check_alive() -> None:
    life = _CURRENT.get()
    if life is not None and not life.alive:
        raise OSError("the process is dead")


def _make_task(
    loop: asyncio.AbstractEventLoop, main: Any, context: Context | None = None
) -> asyncio.Task[Any]:
    task = asyncio.Task(main, loop=loop, context=context)
    life = context.get(_CURRENT) if context else _CURRENT.get()
    if life is not None:
        life.tasks.add(task)
    return task


_NOTHING = Handle.__new__(Handle)  # what a loop passes over
_NOTHING._cancelled = True  # as of one that was cancelled


def connect(*args: Any, **options: Any) -> sqlite3.Connection:
    """Open a database that closes when the life that opens it ends."""
    database: sqlite3.Connection = _connect(*args, **options)
    life = _CURRENT.get()
    if life is not None:
        life.opened(database)
    return database


def watch_databases() -> None:
    """Have every database opened by `connect`."""
    sqlite3.connect = connect  # type: ignore[assignment]
