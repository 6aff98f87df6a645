"""While JARAI cannot be reached, submits are sent one at a time to test whether it can be reached again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

from jarai_async import _clock
from jarai_async._errors import JaraiError, NotSentError, ServiceUnavailableError

_LONGEST_PAUSE = 60.0  # seconds between two submits during an outage


class Outage:
    """A circuit breaker for submits. Any response but JARAI's own 503 ends an outage."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._failures = 0  # submits in a row that could not be made
        self._next_at = 0.0  # monotonic: when the next one may be
        self._probing = asyncio.Lock()

    def record(self, error: JaraiError | None) -> None:
        """Record how a submit ended; None for a success."""
        if not isinstance(error, NotSentError | ServiceUnavailableError):
            self._failures = 0
            return
        self._failures += 1
        longest = min(_LONGEST_PAUSE, 2.0 ** min(self._failures, 6))
        pause = max(self._random.uniform(longest / 2, longest), error.retry_after or 0.0)
        self._next_at = _clock.monotonic() + pause

    @asynccontextmanager
    async def gate(self, sleep: Callable[[float], Awaitable[None]]) -> AsyncIterator[None]:
        """Let submits through: immediately without an outage, otherwise one at a time, after a pause."""
        if not self._failures:
            yield
            return
        async with self._probing:
            if self._failures:
                await sleep(self._next_at - _clock.monotonic())
            yield
