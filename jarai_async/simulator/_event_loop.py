"""Simulated time: an event loop whose clock is independent of real time.

A client of the Partner API measures in seconds: a window of 60 seconds, a Retry-After, the minimum interval
between two polls. A server that merely ran faster would not match these times. So client and server read the
same clock, that of the event loop, and only this clock is changed. All timers of asyncio, aiohttp, the
library and the simulator follow it, so everything behaves as in real time.

With `speed=None` the clock stands still while there is anything to do, and jumps to the next timer when there
is nothing: hours pass in seconds. This requires that both ends of every socket are in the same loop, because
then the bytes sent over loopback can be read as soon as `send` returns. A program that is always busy (anyio
cancels a task again and again until it ends) sees the clock advance slowly.

Work that is started by `run_in_executor` (so by `asyncio.to_thread` and `getaddrinfo` too) stops the clock
until it is done. Other work outside of the loop cannot be seen: a thread that a library starts by itself
(`anyio.to_thread`, database drivers), a subprocess, a server in another process. Hold the clock while you
wait for it, or the timers jump ahead of it:

    with loop.hold():
        await anyio.to_thread.run_sync(work)

For two processes give both the same `speed` and `epoch`: their clocks run evenly, and show the same time.
"""

import asyncio
import math
import selectors
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Args = TypeVarTuple("Args")
_Ready = list[tuple[selectors.SelectorKey, int]]
_Select = Callable[[float | None], _Ready]

# A fixed start makes every run the same, including the time until a daily quota resets at midnight.
START_OF_SIMULATED_TIME = 1_767_258_000.0  # 2026-01-01T09:00:00Z

_BUSY_PASSES = 2_000  # of the loop without input or output: then something waits by running again and again
_BUSY_STEP = 0.001  # simulated seconds of each further pass


def run(
    main: Coroutine[Any, Any, T], *, speed: float | None = None, epoch: float | datetime | None = None
) -> T:
    """Run `main` like `asyncio.run`, in a `SimulatedEventLoop` with these options. Raises ValueError."""
    with asyncio.Runner(loop_factory=lambda: SimulatedEventLoop(speed=speed, epoch=epoch)) as runner:
        return runner.run(main)


class SimulatedEventLoop(asyncio.SelectorEventLoop):
    """An event loop on a simulated clock, for `run` and for test frameworks.

    - `speed`: simulated seconds per real second. None means as fast as possible, for a client and a simulator
      in the same loop.
    - `epoch`: Unix time (seconds), or a datetime with a time zone, from which the wall clock runs at this
      speed: processes with the same `epoch` and `speed` always have the same wall clock, and one that is
      restarted continues. By default it is the present. With `speed=None` it is the wall time at which the
      loop starts, by default 1 January 2026, 09:00 UTC: to continue, pass the last `wall_time()`.

    Raises ValueError if `speed` is not a positive number, or `epoch` is not finite or has no time zone.
    """

    _closed = True  # the base class reads it in `__del__`, even if `__init__` raised

    def __init__(self, *, speed: float | None = None, epoch: float | datetime | None = None) -> None:
        if speed is not None and not 0 < speed < math.inf:
            raise ValueError(f"speed must be a positive number or None, not {speed!r}")
        if isinstance(epoch, datetime):
            if epoch.tzinfo is None:
                raise ValueError(f"epoch must have a time zone: {epoch!r}")
            epoch = epoch.timestamp()
        if epoch is not None and not math.isfinite(epoch):
            raise ValueError(f"epoch must be a finite number, a datetime or None, not {epoch!r}")
        self._holds = 0
        self._clock: _JumpingClock | _SteadyClock
        if speed is None:
            self._clock = _JumpingClock(START_OF_SIMULATED_TIME if epoch is None else epoch, self._is_held)
        else:
            self._clock = _SteadyClock(speed, epoch)
        super().__init__(_ClockedSelector(self._clock))

    def time(self) -> float:
        """Return the simulated seconds since this loop was created."""
        return self._clock.now()

    def wall_time(self) -> float:
        """Return the simulated time in seconds since the Unix epoch."""
        return self._clock.wall_at_start + self._clock.now()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Let the clock stand still meanwhile, for work that the loop cannot see; nothing with a `speed`."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Args], T], *args: *Args
    ) -> asyncio.Future[T]:
        """As in asyncio; with `speed=None` the clock stands still until the work is done."""
        future = super().run_in_executor(executor, func, *args)
        self._holds += 1
        future.add_done_callback(self._on_thread_done)
        return future

    async def shutdown_default_executor(self, *_: Any, **__: Any) -> None:
        """As in asyncio, but without its timeout, which simulated time would reach before the threads end."""
        with self.hold():
            await super().shutdown_default_executor()

    def _on_thread_done(self, _: asyncio.Future[Any]) -> None:
        self._holds -= 1

    def _is_held(self) -> bool:
        return self._holds > 0


class _JumpingClock:
    """A clock that stands still while there is work, and otherwise jumps to the next timer."""

    def __init__(self, epoch: float, must_wait: Callable[[], bool]) -> None:
        self.wall_at_start = epoch
        self._now = 0.0
        self._busy_passes = 0
        self._must_wait = must_wait

    def now(self) -> float:
        return self._now

    def select(self, select: _Select, timeout: float | None) -> _Ready:
        ready = select(0)
        self._busy_passes = self._busy_passes + 1 if timeout == 0 and not ready else 0
        if self._busy_passes > _BUSY_PASSES and not self._must_wait():
            self._now += _BUSY_STEP
        if ready or timeout == 0:
            return ready
        if timeout is None or self._must_wait():
            return select(None)  # until a socket, a signal or the end of a thread wakes it
        self._now += timeout
        return []


class _SteadyClock:
    """A clock that runs `speed` times as fast as real time."""

    def __init__(self, speed: float, epoch: float | None) -> None:
        now = time.time()
        self.wall_at_start = now if epoch is None else epoch + (now - epoch) * speed
        self._speed = speed
        self._start = time.monotonic()

    def now(self) -> float:
        return (time.monotonic() - self._start) * self._speed

    def select(self, select: _Select, timeout: float | None) -> _Ready:
        return select(timeout and timeout / self._speed)


class _ClockedSelector(selectors.DefaultSelector):
    """The platform's selector, except that the clock decides how long to wait."""

    def __init__(self, clock: _JumpingClock | _SteadyClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> _Ready:
        return self._clock.select(super().select, timeout)
