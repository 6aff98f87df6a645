"""The only module that reads a clock.

Waiting and measuring use the time of the running event loop. So a loop with simulated time also controls the
library, aiohttp's timeouts and the simulator. Timestamps and the day of a quota need the wall clock, which a
simulated loop provides as `wall_time`.
"""

import asyncio
import time
from datetime import UTC, datetime


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


class Deadline:
    """The end of a wait, by the clock that reaches it first.

    The monotonic clock stops while the machine sleeps; only the wall clock shows that time has passed.
    """

    def __init__(self, seconds: float) -> None:
        self._monotonic = monotonic() + seconds
        self._wall = wall() + seconds

    @property
    def left(self) -> float:
        """The seconds that are left; 0 once it has passed."""
        return max(0.0, min(self._monotonic - monotonic(), self._wall - wall()))

    def __str__(self) -> str:
        return f"{datetime.fromtimestamp(self._wall, UTC):%Y-%m-%d %H:%M:%S} UTC"
