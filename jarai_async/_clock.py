"""The one place that reads a clock.

Waiting and measuring use the running event loop's own time, so that a loop whose time is simulated
takes the library, aiohttp's timeouts and the simulator along with it. Only what leaves the process
(timestamps, the day of a quota) uses the wall clock, which such a loop supplies as well.
"""

import asyncio
import time
from datetime import UTC, datetime


def monotonic() -> float:
    """Seconds on the running loop's clock; only differences mean anything."""
    return asyncio.get_running_loop().time()


def wall() -> float:
    """Seconds since the Unix epoch, as the running loop sees them."""
    wall_time = getattr(asyncio.get_running_loop(), "wall_time", time.time)
    return float(wall_time())


def utc() -> datetime:
    """The present moment in UTC, as the running loop sees it."""
    return datetime.fromtimestamp(wall(), UTC)
