"""Event loops with the clocks of other platforms."""

import asyncio
import math
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar, TypeVarTuple

T = TypeVar("T")
Args = TypeVarTuple("Args")

TICK = 2.0**-6  # seconds: the clock of Windows, 15.625 ms
_MAX_STANDSTILL = 10_000  # waits in a row that do not move the clock


class _TickSelector(selectors.DefaultSelector):
    def __init__(self, *, whole_ticks: bool) -> None:
        super().__init__()
        self.now = 0.0
        self.busy_threads = 0
        self._whole_ticks = whole_ticks
        self._standstill = 0

    def thread_done(self) -> None:
        self.busy_threads -= 1

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None or self.busy_threads:
            return super().select(None)
        before = self.now
        self.now += math.floor(timeout / TICK) * TICK if self._whole_ticks else timeout
        self._standstill = self._standstill + 1 if self.now == before else 0
        if self._standstill > _MAX_STANDSTILL:
            raise RuntimeError("the same wait is repeated for ever")
        return []


class TickLoop(asyncio.SelectorEventLoop):
    """A loop whose clock counts in ticks and whose timers fire up to a tick early, as asyncio allows.

    With `whole_ticks` a shorter wait does not move the clock at all.
    """

    def __init__(self, *, whole_ticks: bool = True) -> None:
        self._selector_with_clock = _TickSelector(whole_ticks=whole_ticks)
        super().__init__(self._selector_with_clock)
        self._clock_resolution = TICK

    def time(self) -> float:
        return math.floor(self._selector_with_clock.now / TICK) * TICK

    def wall_time(self) -> float:
        return 1_767_258_000.0 + self.time()

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Args], T], *args: *Args
    ) -> asyncio.Future[T]:
        selector = self._selector_with_clock
        selector.busy_threads += 1
        future = super().run_in_executor(executor, func, *args)

        future.add_done_callback(lambda _: selector.thread_done())
        return future
