"""The only module that reads a clock.

Waiting and measuring use the time of the running event loop. So a loop with simulated time also controls the
library, aiohttp's timeouts and the simulator. Timestamps and the day of a quota need the wall clock, which a
simulated loop provides as `wall_time`.

An event loop may run a timer early, by the resolution of its clock: 15.6 ms on Windows, or one tick of a
simulated clock that counts in ticks. Code that finds its time not reached would wait for it again at once,
and for ever where only waiting moves the clock. So `Timer` and `wait_until` never end early.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

SHORTEST_SLEEP = 60.0  # seconds by which the wall clock is ahead if the machine slept


def monotonic() -> float:
    """Return the running loop's time in seconds; only differences are meaningful."""
    return asyncio.get_running_loop().time()


def wall() -> float:
    """Return the seconds since the Unix epoch, by the running loop's wall clock if it has one."""
    wall_time = getattr(asyncio.get_running_loop(), "wall_time", time.time)
    return float(wall_time())


def utc() -> datetime:
    """Return the current time in UTC, by the same clock as `wall`."""
    return datetime.fromtimestamp(wall(), UTC)


def outside_work() -> AbstractContextManager[None]:
    """Wait for another process inside of this: a simulated clock stands still meanwhile."""
    hold: Callable[[], AbstractContextManager[None]] | None = getattr(
        asyncio.get_running_loop(), "hold", None
    )
    return contextlib.nullcontext() if hold is None else hold()


def utc_at(time: float) -> datetime:
    """Return the time (UTC) that is as far from now as `time` is by `monotonic`."""
    return utc() + timedelta(seconds=time - monotonic())


class Deadline:
    """The end of a wait.

    The monotonic clock stops while the machine sleeps; only the wall clock shows that time has passed. So it
    counts where it is far ahead.
    """

    def __init__(self, seconds: float) -> None:
        self._monotonic = monotonic() + seconds
        self._wall = wall() + seconds

    @property
    def left(self) -> float:
        """The seconds that are left; 0 once it has passed."""
        left, left_by_wall = self._monotonic - monotonic(), self._wall - wall()
        return max(0.0, left_by_wall if left - left_by_wall > SHORTEST_SLEEP else left)

    @property
    def utc(self) -> datetime:
        """The time at which it passes."""
        return datetime.fromtimestamp(self._wall, UTC)

    def __str__(self) -> str:
        return f"{self.utc:%Y-%m-%d %H:%M:%S} UTC"


class Timer:
    """Calls a function once `monotonic()` has reached a time."""

    def __init__(self, time: float, function: Callable[[], object]) -> None:
        self._time = time
        self._function = function
        self._margin = 0.0
        self._handle = asyncio.get_running_loop().call_at(time, self._on_time)

    def cancel(self) -> None:
        """Do not call the function any more."""
        self._handle.cancel()

    def _on_time(self) -> None:
        if (early := self._time - monotonic()) <= 0:
            self._function()
        else:
            self._margin = 2 * self._margin + early
            self._handle = asyncio.get_running_loop().call_at(self._time + self._margin, self._on_time)


async def wait_until(time: float, event: asyncio.Event) -> None:
    """Wait until `monotonic()` has reached a time, or until an event is set."""
    margin = 0.0
    while not event.is_set() and (left := time - monotonic()) > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left + margin):
                await event.wait()
        margin = 2 * margin + max(0.0, time - monotonic())
