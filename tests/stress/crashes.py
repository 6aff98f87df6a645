"""Simulated crashes: several processes in one event loop, each of which can crash at any step.

A real SIGKILL proves little, because the place where it strikes cannot be chosen. Here a program and the
simulator share one event loop on simulated time. A context variable holds the process that a callback of the
loop belongs to, and each callback is one step of that process. At the chosen step the process crashes: its
callbacks no longer run, its sockets are closed, and its databases are closed with what was committed.

Work for threads runs in the loop, as a step of its own. So nothing depends on the timing of threads, and a
process can crash between the request for a commit and the commit.

At the end of a test `drain` cancels the tasks of a crashed process. They can use neither network nor disk.

The processes run on a `Machine`, whose clocks can jump and which can sleep. The simulator does not.
"""

import asyncio
import heapq
import socket
import sqlite3
import weakref
from asyncio.events import Handle
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any, TypeVar, TypeVarTuple

from jarai_async.simulator import SimulatedEventLoop

T = TypeVar("T")
Args = TypeVarTuple("Args")

_CURRENT: ContextVar["CrashableProcess | None"] = ContextVar("process", default=None)
_connect = sqlite3.connect


class Machine:
    """The computer of the processes, which run one after the other.

    - `wall_ahead`: the seconds by which its wall clock is ahead of the simulator's.
    - `behind`: the seconds by which its monotonic clock is behind the event loop's.
    - `naps`: when it slept, as (start, end) by the event loop's clock.
    """

    def __init__(self, loop: "CrashableLoop") -> None:
        self.wall_ahead = 0.0
        self.behind = 0.0
        self.naps: list[tuple[float, float]] = []
        self.process: CrashableProcess | None = None
        self.awake = asyncio.Event()
        self.awake.set()
        self._held: list[Handle] = []
        self._loop = loop

    def set_clock(self, seconds: float) -> None:
        """Set the wall clock forwards, or backwards."""
        self.wall_ahead += seconds

    def sleep(self, seconds: float, *, stops_clock: bool) -> None:
        """Run no step of a process for so long, and read from no socket.

        With `stops_clock` the monotonic clock stands still meanwhile, as on Linux and macOS, and timers fire
        later by so much. On Windows it goes on. The wall clock always does.
        """
        process = self.process
        now = self._loop.time()
        if not self.awake.is_set() or (process is not None and process.connecting):
            wait = 0.01 if self.awake.is_set() else self.naps[-1][1] - now + 0.01
            self._loop.call_later(wait, partial(self.sleep, seconds, stops_clock=stops_clock))
            return
        self.awake.clear()
        self.naps.append((now, now + seconds))
        if stops_clock:
            self._loop.delay_timers(process, seconds)
        if process is not None:
            process.pause_reading()
        self._loop.call_later(seconds, partial(self._wake, seconds if stops_clock else 0.0, process))

    def _wake(self, stood_still: float, process: "CrashableProcess | None") -> None:
        self.awake.set()
        self.behind += stood_still
        self._loop.run_held(self._held)
        if process is not None:
            process.resume_reading()

    def hold(self, handle: Handle) -> None:
        """Keep a callback until the machine wakes."""
        self._held.append(handle)


class CrashableProcess:
    """A simulated process, which crashes instead of running its step `crash_at` (counted from 1)."""

    def __init__(self, machine: Machine, loop: "CrashableLoop", crash_at: int | None = None) -> None:
        self.machine = machine
        self.steps = 0
        self.crashed = False
        self.tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self.transports: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()
        self.connecting: set[socket.socket] = set()
        self.databases: list[sqlite3.Connection] = []
        self._crash_at = crash_at
        self._crash: asyncio.Future[None] = loop.create_future()
        self._skipped: list[Handle] = []
        self._unfinished: set[asyncio.Task[Any]] = set()  # after the crash: nothing else may hold them
        self._paused: list[asyncio.Transport] = []
        self.context: Context = copy_context()
        self.context.run(_CURRENT.set, self)
        self._loop = loop
        machine.process = self

    async def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run the program until it ends or crashes. What it raises is raised here."""
        task = self._loop.create_task(main, context=self.context)
        await asyncio.wait({task, self._crash}, return_when=asyncio.FIRST_COMPLETED)
        if not self.crashed:
            await task

    def may_run(self, handle: Handle) -> bool:
        """Count a step, crash if it is the chosen one, and return whether the callback may run."""
        if not self.crashed and not self.machine.awake.is_set():
            self.machine.hold(handle)
            return False
        if not self.crashed:
            self.steps += 1
            if self.steps == self._crash_at:
                self.crash()
        if self.crashed:
            self._skipped.append(handle)
        return not self.crashed

    def pause_reading(self) -> None:
        """Leave what arrives in the sockets."""
        self._paused = [transport for transport in self.transports if transport.is_reading()]
        for transport in self._paused:
            transport.pause_reading()

    def resume_reading(self) -> None:
        """Read what has arrived."""
        for transport in self._paused:
            self.context.run(transport.resume_reading)

    def crash(self) -> None:
        """Run no step any more, and close all sockets and databases."""
        self.crashed = True
        self._unfinished = set(self.tasks)
        self._crash.set_result(None)
        for transport in list(self.transports):
            transport.abort()
        for unconnected in self.connecting:
            self._loop.remove_writer(unconnected)
            unconnected.close()
        for database in self.databases:
            database.close()

    async def drain(self) -> None:
        """Cancel the tasks of the crashed process and wait until they have ended."""
        self._loop.run_skipped(self._skipped)
        for _ in range(100):
            tasks = [task for task in self.tasks if not task.done()]
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=100)
        self._unfinished.clear()  # their results hold all that the process had


class _ReadyQueue(deque[Handle]):
    """The callbacks that are ready to run. The loop takes every callback from here."""

    draining = False

    def popleft(self) -> Handle:
        handle = super().popleft()
        context: Context = handle._context  # type: ignore[attr-defined]  # noqa: SLF001  # public from Python 3.12 on
        process = context.get(_CURRENT)
        if process is None or self.draining or handle.cancelled() or process.may_run(handle):
            return handle
        return _NOTHING


class CrashableLoop(SimulatedEventLoop):
    """An event loop on simulated time whose processes can crash."""

    def __init__(self) -> None:
        super().__init__()
        self._ready = _ReadyQueue()  # asyncio has no public place through which all callbacks pass
        self.set_task_factory(_make_task)

    def server_time(self) -> float:
        """Return the monotonic time of the simulator."""
        return super().time()

    def time(self) -> float:
        """Return the monotonic time of the machine that the caller runs on."""
        process = _CURRENT.get()
        return super().time() - (process.machine.behind if process else 0.0)

    def wall_time(self) -> float:
        """Return the wall time of the machine that the caller runs on."""
        process = _CURRENT.get()
        machine = process.machine if process else None
        return super().wall_time() + (machine.wall_ahead if machine else 0.0)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Args], object],
        *args: *Args,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call at a time of the machine that the caller runs on."""
        process = _CURRENT.get()
        behind = process.machine.behind if process else 0.0
        return super().call_at(when + behind, callback, *args, context=context)

    def delay_timers(self, process: CrashableProcess | None, seconds: float) -> None:
        """Let all timers of a process fire later."""
        timers: list[Any] = self._scheduled  # type: ignore[attr-defined]  # asyncio has no public list of them
        for timer in timers:
            if process is not None and timer._context.get(_CURRENT) is process:  # noqa: SLF001
                timer._when += seconds  # noqa: SLF001
        heapq.heapify(timers)

    def run_held(self, handles: list[Handle]) -> None:
        """Run these callbacks."""
        self._ready.extend(handles)
        handles.clear()

    def run_skipped(self, handles: list[Handle]) -> None:
        """Run these callbacks, and from now on all callbacks of crashed processes."""
        self._ready.draining = True
        self.run_held(handles)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Args], T], *args: *Args
    ) -> asyncio.Future[T]:
        """Run the function in the loop, as a step of its own after everything that is ready now."""
        del executor
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                _check_not_crashed()
                result = func(*args)
            except Exception as error:  # noqa: BLE001  # as an executor does
                future.set_exception(error)
            else:
                future.set_result(result)

        self.call_soon(work)
        return future

    async def sock_connect(self, sock: Any, address: Any) -> None:
        """Connect as in asyncio; a crashed process cannot."""
        process = _CURRENT.get()
        if process is None:
            return await super().sock_connect(sock, address)
        if process.crashed:
            raise ConnectionRefusedError
        process.connecting.add(sock)
        try:
            return await super().sock_connect(sock, address)
        finally:
            process.connecting.discard(sock)

    # asyncio has no public hook for new transports.
    def _make_socket_transport(self, *args: Any, **options: Any) -> asyncio.Transport:
        transport: asyncio.Transport = super()._make_socket_transport(*args, **options)  # type: ignore[misc]
        process = _CURRENT.get()
        if process is not None:
            process.transports.add(transport)
        return transport


def current_process() -> CrashableProcess | None:
    """Return the process that the caller belongs to; None outside of all."""
    return _CURRENT.get()


def _check_not_crashed() -> None:
    process = _CURRENT.get()
    if process is not None and process.crashed:
        raise OSError("the process has crashed")


def _make_task(
    loop: asyncio.AbstractEventLoop, main: Any, context: Context | None = None
) -> asyncio.Task[Any]:
    task = asyncio.Task(main, loop=loop, context=context)
    process = _CURRENT.get()
    if context is not None:
        if _CURRENT not in context:  # a worker that several callers share
            context.run(_CURRENT.set, process)
        process = context[_CURRENT]
    if process is not None:
        process.tasks.add(task)
    return task


_NOTHING = Handle.__new__(Handle)  # takes the place of a callback that may not run
_NOTHING._cancelled = True  # noqa: SLF001  # so the loop skips it


def connect(*args: Any, **options: Any) -> sqlite3.Connection:
    """Open a database that is closed when the current process crashes."""
    database: sqlite3.Connection = _connect(*args, **options)
    process = _CURRENT.get()
    if process is not None:
        process.databases.append(database)
    return database


def watch_databases() -> None:
    """Replace `sqlite3.connect` by `connect`."""
    sqlite3.connect = connect  # type: ignore[assignment]
