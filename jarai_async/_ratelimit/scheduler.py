"""The gate that every request passes: waiting for one's turn, on one timer.

One gate for a whole client, so a 429 pauses everyone once and ends nobody's wait. What may be sent
is `_budget`'s to say, who goes next is `_turns`'s; here is only the waiting.
"""

import asyncio
import contextlib
import logging
import math
from collections import deque
from random import Random

from jarai_async import _clock
from jarai_async._api.calls import KINDS, Kind
from jarai_async._api.responses import RateLimitState
from jarai_async._errors import ClosedError
from jarai_async._ratelimit.limiter import RateLimiter
from jarai_async._ratelimit.priority import Priority

_log = logging.getLogger("jarai_async")


_AT_ONCE = 20  # turns given out before the loop goes round: each begins with a third of a millisecond of work


class Scheduler:
    """Gives requests their turns."""

    def __init__(self, budget: RateLimiter, random: Random) -> None:
        self.budget = budget
        self._random = random
        self._turns = Priority()
        self._waiting: list[deque[asyncio.Future[int]]] = [deque() for _ in KINDS]  # by kind
        self._timer: asyncio.TimerHandle | None = None
        self._closed = asyncio.Event()
        self.limit_known = asyncio.Event()
        """Set once a header has told the limit, and by that the tier."""

    async def pause(self, seconds: float) -> None:
        """Sleep. Raises ClosedError when the client is closed meanwhile."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        self.check_open()

    def check_open(self) -> None:
        """Raise ClosedError once the client is closed."""
        if self._closed.is_set():
            raise ClosedError("the client was closed")

    async def turn(self, kind: Kind) -> int:
        """Wait until a request of this kind may be sent.

        What it gives belongs to `answered`; a turn ends by that, by `lost` or by `give_back`. Raises
        ClosedError when the client is closed.
        """
        self.check_open()
        if not any(self._waiting):
            now, wall = _clock.monotonic(), _clock.wall()
            if self.budget.may_send_at(kind, now, wall) <= now:
                return self.budget.take(self._turns.choose([kind]), now, wall)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[kind].append(future)
        self._serve()
        try:
            return await future
        except asyncio.CancelledError:
            # cancelled between getting it and using it
            if future.done() and not future.cancelled() and future.exception() is None:
                self.budget.give_back()
            self._serve()
            raise

    def _serve(self) -> None:
        """Give out the turns that there are, then set the timer for the next."""
        self._stop_timer()
        if not any(self._waiting):
            return
        now, wall = _clock.monotonic(), _clock.wall()
        for _ in range(_AT_ONCE):
            if not (open_kinds := self._open_kinds(now, wall)):
                break
            kind = self._turns.choose(open_kinds)
            self._waiting[kind].popleft().set_result(self.budget.take(kind, now, wall))
        waiting = [kind for kind in KINDS if self._waiting[kind]]
        at = min((self.budget.may_send_at(kind, now, wall) for kind in waiting), default=math.inf)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(at, self._serve) if at < math.inf else None

    def _open_kinds(self, now: float, wall: float) -> list[Kind]:
        for queue in self._waiting:
            while queue and queue[0].done():  # its waiter was cancelled
                queue.popleft()
        return [k for k in KINDS if self._waiting[k] and self.budget.may_send_at(k, now, wall) <= now]

    def answered(self, slot: int, rate: RateLimitState, *, attempts: int = 1) -> None:
        """An answer came, after so many attempts on the wire: correct the budget by it, and go on."""
        now = _clock.monotonic()
        if rate.retry_after is not None and self.budget.paused_until <= now:
            _log.warning("the request budget is spent (429): all requests wait %.0f s", rate.retry_after)
        self.budget.answered(rate, slot, now, self._random, attempts=attempts)
        if rate.limit is not None:
            self.limit_known.set()
        self._serve()

    def hold(self, seconds: float) -> None:
        """Let everyone wait, and then one alone try."""
        self.budget.hold(_clock.monotonic() + seconds)
        self._serve()

    def lost(self) -> None:
        """A request failed without an answer."""
        self.budget.lost(_clock.monotonic())
        self._serve()

    def give_back(self) -> None:
        """A request was never sent."""
        self.budget.give_back()
        self._serve()

    def close(self) -> None:
        """Stop the timer; who still waits gets a ClosedError."""
        self._closed.set()
        for queue in self._waiting:
            for future in queue:
                if not future.done():
                    future.set_exception(ClosedError("the client was closed"))
            queue.clear()
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
