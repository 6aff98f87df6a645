"""Simulated time: an event loop whose clock is independent of real time.

A client of the Partner API measures in seconds: a window of 60 seconds, a Retry-After, the minimum interval
between two polls. A server that merely ran faster would not match these times. So client and server read the
same clock, that of the event loop, and only this clock is changed. All timers of asyncio, aiohttp, the
library and the simulator follow it, so everything behaves as in real time.

With `speed=None` the clock stands still while there is anything to do, and jumps to the next timer when there
is nothing: hours pass in seconds. This requires that both ends of every socket are in the same loop, because
then the bytes sent over loopback can be read as soon as `send` returns. Work in threads stops the clock until
it is done. A program that is always busy (anyio cancels a task again and again until it ends) sees the clock
advance slowly. For two processes give both the same `speed`: their clocks then run evenly.
"""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Args = TypeVarTuple("Args")
_Ready = list[tuple[selectors.SelectorKey, int]]
_Select = Callable[[float | None], _Ready]

# A fixed start makes every run the same, including the time until a daily quota resets at midnight.
START_OF_SIMULATED_TIME = 1_767_258_000.0  # 2026-01-01T09:00:00Z

_BUSY_PASSES = 10_000  # of the loop without input or output: then something waits by running again and again
_BUSY_STEP = 0.001  # simulated seconds of each further pass


def run(main: Coroutine[Any, Any, T], *, speed: float | None = None) -> T:
    """Run `main` like `asyncio.run`, on a simulated clock.

    `speed` is the number of simulated seconds per real second. None means as fast as possible, for a client
    and a simulator in the same loop. Raises ValueError if `speed` is not a positive number.
    """
    with asyncio.Runner(loop_factory=lambda: SimulatedEventLoop(speed=speed)) as runner:
        return runner.run(main)


class SimulatedEventLoop(asyncio.SelectorEventLoop):
    """An event loop on a simulated clock, for `run` and for test frameworks; `speed` is as in `run`.

    Raises ValueError if `speed` is not a positive number.
    """

    _closed = True  # the base class reads it in `__del__`, even if `__init__` raised

    def __init__(self, *, speed: float | None = None) -> None:
        if speed is not None and not 0 < speed < float("inf"):
            raise ValueError(f"speed must be a positive number or None, not {speed!r}")
        self._busy_threads = 0
        self._clock: _JumpingClock | _SteadyClock
        if speed is None:
            self._clock = _JumpingClock(self._is_waiting_for_thread)
        else:
            self._clock = _SteadyClock(speed)
        super().__init__(_ClockedSelector(self._clock))

    def time(self) -> float:
        """Return the simulated seconds since this loop was created."""
        return self._clock.now()

    def wall_time(self) -> float:
        """Return the simulated time in seconds since the Unix epoch."""
        return self._clock.epoch + self._clock.now()

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Args], T], *args: *Args
    ) -> asyncio.Future[T]:
        """As in asyncio; with `speed=None` the clock stands still until the work is done."""
        self._busy_threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._on_thread_done)
        return future

    async def shutdown_default_executor(self, *_: Any, **__: Any) -> None:
        """As in asyncio, but without its timeout, which simulated time would reach before the threads end."""
        self._busy_threads += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._busy_threads -= 1

    def _on_thread_done(self, _: asyncio.Future[Any]) -> None:
        self._busy_threads -= 1

    def _is_waiting_for_thread(self) -> bool:
        return self._busy_threads > 0


class _JumpingClock:
    """A clock that stands still while there is work, and otherwise jumps to the next timer."""

    def __init__(self, must_wait: Callable[[], bool]) -> None:
        self.epoch = START_OF_SIMULATED_TIME
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

    def __init__(self, speed: float) -> None:
        self.epoch = time.time()
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
