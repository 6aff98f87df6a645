"""Simulated time: an event loop whose clock need not be the world's.

A client of the Partner API thinks in seconds: a 60 second window, a Retry-After, a floor between two
polls. A server that is merely sped up would starve or flood it. So nothing is sped up but the
clock, and both sides read the same one: the event loop's. Every timer of asyncio, aiohttp, the library
and the simulator then agrees, and takes the same decisions as in real time.

With `speed=None` the clock stands still while there is anything to do and jumps to the next timer when
there is nothing: hours pass in seconds. That needs both ends of every socket in this one loop, where
bytes sent over loopback are readable by the time that `send` returns. Work in threads holds the
clock too, until it is done. Between processes give both the same `speed`: the clock then runs evenly.
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

# A fixed start makes a simulated day, its midnight quota included, the same in every run.
START_OF_SIMULATED_TIME = 1_767_258_000.0  # 2026-01-01T09:00:00Z


def run(main: Coroutine[Any, Any, T], *, speed: float | None = None) -> T:
    """Run `main` like `asyncio.run`, on a simulated clock.

    `speed` is how many simulated seconds pass in a real one; None means as fast as the work allows,
    for a client and a simulator in this same loop.
    """
    with asyncio.Runner(loop_factory=lambda: SimulatedEventLoop(speed=speed)) as runner:
        return runner.run(main)


class SimulatedEventLoop(asyncio.SelectorEventLoop):
    """An event loop on a simulated clock; `run` uses it, and test frameworks can be given it."""

    _closed = True  # the base class looks here even at a loop that was refused before it began

    def __init__(self, *, speed: float | None = None) -> None:
        if speed is not None and not 0 < speed < float("inf"):
            raise ValueError(f"speed must be a positive number or None, not {speed!r}")
        self._threads_at_work = 0
        self._clock: _JumpingClock | _SteadyClock
        if speed is None:
            self._clock = _JumpingClock(self._is_waiting_for_a_thread)
        else:
            self._clock = _SteadyClock(speed)
        super().__init__(_ClockedSelector(self._clock))

    def time(self) -> float:
        """Simulated seconds since this loop was made."""
        return self._clock.now()

    def wall_time(self) -> float:
        """Simulated seconds since the Unix epoch."""
        return self._clock.epoch + self._clock.now()

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Args], T], *args: *Args
    ) -> asyncio.Future[T]:
        """As in asyncio; a jumping clock stands still until the work is done."""
        self._threads_at_work += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_is_done)
        return future

    async def shutdown_default_executor(self, *_: Any, **__: Any) -> None:
        """As in asyncio, without its timeout: it would be over before the threads could end."""
        self._threads_at_work += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._threads_at_work -= 1

    def _thread_is_done(self, _: asyncio.Future[Any]) -> None:
        self._threads_at_work -= 1

    def _is_waiting_for_a_thread(self) -> bool:
        return self._threads_at_work > 0


class _JumpingClock:
    """Stands still while there is work, jumps to the next timer when there is none."""

    def __init__(self, must_wait: Callable[[], bool]) -> None:
        self.epoch = START_OF_SIMULATED_TIME
        self._now = 0.0
        self._must_wait = must_wait

    def now(self) -> float:
        return self._now

    def select(self, select: _Select, timeout: float | None) -> _Ready:
        ready = select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None or self._must_wait():
            return select(None)  # woken by a socket, a signal or a thread that is done
        self._now += timeout
        return []


class _SteadyClock:
    """Runs evenly, `speed` times as fast as the world's."""

    def __init__(self, speed: float) -> None:
        self.epoch = time.time()
        self._speed = speed
        self._start = time.monotonic()

    def now(self) -> float:
        return (time.monotonic() - self._start) * self._speed

    def select(self, select: _Select, timeout: float | None) -> _Ready:
        return select(timeout and timeout / self._speed)


class _ClockedSelector(selectors.DefaultSelector):
    """The platform's selector, with waiting left to the clock."""

    def __init__(self, clock: _JumpingClock | _SteadyClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> _Ready:
        return self._clock.select(super().select, timeout)
