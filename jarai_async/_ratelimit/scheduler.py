"""The gate that every API request passes: it waits here for a slot of the rate limit, on one timer.

A client has one gate, so a 429 pauses all requests once, and fails none of them. `limiter` decides what may
be sent, `priority` decides which kind goes next, and this module only waits.
"""

import asyncio
import logging
import math
from collections import deque
from random import Random

from jarai_async import _clock
from jarai_async._api.calls import KINDS, Kind
from jarai_async._api.responses import RateLimitState
from jarai_async._errors import ClosedError, ConfigurationError
from jarai_async._ratelimit.priority import Priority
from jarai_async._ratelimit.protocol import Limiter
from jarai_async._waiting import Waiting, WaitReason

_log = logging.getLogger("jarai_async")

_LONGEST_TIMER = 60.0  # seconds; then the wall clock is read again, because the machine may have slept
_SLOTS_AT_ONCE = 20  # before the event loop runs something else: each starts a third of a millisecond of work


class Scheduler:
    """Hands out the slots of the rate limit."""

    def __init__(self, limiter: Limiter, random: Random) -> None:
        self.limiter: Limiter = limiter
        """What may be sent: `RateLimiter`, or a limit that several workers share."""
        self.limit_known: asyncio.Event = asyncio.Event()
        """Set once a header has stated the limit, and thereby shown the tier."""
        self._random = random
        self._priority = Priority()
        self._waiting: list[deque[asyncio.Future[int]]] = [deque() for _ in KINDS]  # by kind
        self._timer: _clock.Timer | None = None
        self._closed = asyncio.Event()
        self._clock_difference = math.inf  # between the wall clock and the monotonic one
        self._slept = 0.0  # seconds for which the machine slept
        self._quota_logged_until = -math.inf  # Unix time
        self._loop: asyncio.AbstractEventLoop | None = None  # the one that the client is used in

    @property
    def is_idle(self) -> bool:
        """Whether no request waits and no timer runs."""
        return self._timer is None and not any(self._waiting)

    async def sleep(self, seconds: float, reason: str = "") -> None:
        """Sleep; a sleep of the machine counts. A wait of over a minute is logged with its reason.

        Raises ClosedError when the client is closed in the meantime.
        """
        deadline = _clock.Deadline(seconds)
        if reason and seconds > _LONGEST_TIMER:
            _log.warning("%s until %s", reason, deadline)
        while (left := deadline.left) > 0 and not self._closed.is_set():
            await _clock.wait_until(_clock.monotonic() + min(left, _LONGEST_TIMER), self._closed)
        self.check_open()

    def elapsed(self) -> float:
        """Return monotonic seconds that include the time for which the machine slept."""
        now, _ = self._clocks()
        return now + self._slept

    def check_open(self) -> None:
        """Raise ClosedError once the client is closed, and ConfigurationError in another event loop."""
        if self._closed.is_set():
            raise ClosedError("the client was closed")
        self.check_loop()

    def check_loop(self) -> None:
        """Raise ConfigurationError unless the client is used in the event loop of its first use."""
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if loop is not self._loop:
            raise ConfigurationError(
                "a client belongs to the event loop that it is first used in: "
                "create one client in each loop, and so in each asyncio.run()"
            )

    async def acquire(self, kind: Kind) -> int:
        """Wait until a request of this kind may be sent, and take a slot for it.

        Pass the result on to `record_response`. Every slot ends with `record_response`, `failed` or
        `release`. Raises ClosedError when the client is closed.
        """
        self.check_open()
        if not any(self._waiting):
            now, wall = self._clocks()
            if self.limiter.earliest_send(kind, now, wall) <= now:
                return self.limiter.acquire(self._priority.choose([kind]), now, wall)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[kind].append(future)
        self._hand_out()
        try:
            return await future
        except asyncio.CancelledError:
            # It may have been cancelled between getting the slot and using it.
            if not future.cancelled() and future.exception() is None:
                self.limiter.release(future.result())
            self._hand_out()
            raise

    def waits_for_quota(self, kind: Kind) -> Waiting | None:
        """Return whether requests of this kind wait for the next day's quota, and until when."""
        now, wall = _clock.monotonic(), _clock.wall()
        at = self.limiter.quota_returns(kind, now, wall)
        if at <= now:
            return None
        is_reserved = kind is Kind.POLL and self.limiter.left_today(wall) > 0
        detail = f"the requests of today are {'kept for submits and results' if is_reserved else 'used up'}"
        return Waiting(reason=WaitReason.DAILY_QUOTA, until=_clock.utc_at(at), detail=detail)

    def waits_for_minute(self, kind: Kind) -> Waiting | None:
        """Return whether requests of this kind wait for the rate limit, and until when at the earliest."""
        now = _clock.monotonic()
        at = self.limiter.earliest_send(kind, now, _clock.wall())
        if at <= now:
            return None
        return Waiting(
            reason=WaitReason.RATE_LIMIT,
            until=None if math.isinf(at) else _clock.utc_at(at),
            detail=f"{self.limiter.limit} requests a minute",
        )

    def record_response(self, slot: int, state: RateLimitState) -> None:
        """Record a response: correct the rate limit by its headers."""
        now = _clock.monotonic()
        if state.retry_after is not None and self.limiter.paused_until <= now:
            end = _clock.Deadline(state.retry_after)
            _log.warning(
                "the rate limit is used up (429): all requests wait %.0f s, until %s",
                state.retry_after,
                end,
                extra={"jarai": {"event": "RateLimited", "seconds": state.retry_after}},
            )
        self.limiter.record_response(state, slot, now, self._random)
        if state.limit is not None:
            self.limit_known.set()
        self._hand_out()

    def is_valid(self, slot: int) -> bool:
        """Return whether a slot may be used now; if not, release it and acquire another.

        Others get a slot that a worker has not used for long, such as while its machine slept.
        """
        return self.limiter.is_valid(slot, _clock.monotonic(), _clock.wall())

    def failed(self, slot: int) -> None:
        """Record a request that failed without a response."""
        self.limiter.failed(slot, _clock.monotonic())
        self._hand_out()

    def release(self, slot: int) -> None:
        """Give back the slot of a request that was never sent."""
        self.limiter.release(slot)
        self._hand_out()

    def pause_until(self, time: float) -> None:
        """Send nothing before that time (monotonic seconds), and then a single request."""
        self.limiter.pause_until(time)
        self._hand_out()

    def on_limiter_changed(self) -> None:
        """Hand out again: a limit that workers share has changed, or has granted slots to this one."""
        if self.limiter.is_limit_known:
            self.limit_known.set()
        self._hand_out()

    def close(self) -> None:
        """Stop the timer. Requests that still wait for a slot raise ClosedError."""
        self._closed.set()
        for queue in self._waiting:
            for future in queue:
                if not future.done():
                    future.set_exception(ClosedError("the client was closed"))
            queue.clear()
        self._stop_timer()

    def _hand_out(self) -> None:
        """Hand out the free slots, then set the timer for the next."""
        self._stop_timer()
        self._drop_cancelled()
        now, wall = self._clocks()
        self.limiter.set_waiting([*map(len, self._waiting)], now, wall)
        if not any(self._waiting):
            return
        for _ in range(_SLOTS_AT_ONCE):
            if not (sendable := self._sendable_kinds(now, wall)):
                break
            kind = self._priority.choose(sendable)
            self._waiting[kind].popleft().set_result(self.limiter.acquire(kind, now, wall))
        waiting = [kind for kind in KINDS if self._waiting[kind]]
        at = min((self.limiter.earliest_send(kind, now, wall) for kind in waiting), default=math.inf)
        if at < math.inf:
            if at - now > _LONGEST_TIMER and self.limiter.quota_returns(waiting[0], now, wall) > now:
                self._log_quota(at, now, wall)
            self._timer = _clock.Timer(min(at, now + _LONGEST_TIMER), self._hand_out)

    def _clocks(self) -> tuple[float, float]:
        """Return monotonic and wall time, and let pauses end sooner if the machine slept."""
        now, wall = _clock.monotonic(), _clock.wall()
        slept = wall - now - self._clock_difference
        self._clock_difference = wall - now
        if slept > _clock.SHORTEST_SLEEP:
            self._slept += slept
            self.limiter.bring_forward(slept)
        return now, wall

    def _log_quota(self, at: float, now: float, wall: float) -> None:
        """Log once a day that requests wait for the next day's quota."""
        if self.limiter.paused_until < at and wall >= self._quota_logged_until:
            self._quota_logged_until = wall + at - now
            kinds = "polls wait" if self.limiter.left_today(wall) > 0 else "all requests wait"
            _log.warning(
                "the day's quota of requests is used up: %s until %s",
                kinds,
                _clock.Deadline(at - now),
                extra={"jarai": {"event": "QuotaUsedUp", "of": "requests", "seconds": at - now}},
            )

    def _sendable_kinds(self, now: float, wall: float) -> list[Kind]:
        self._drop_cancelled()
        return [k for k in KINDS if self._waiting[k] and self.limiter.earliest_send(k, now, wall) <= now]

    def _drop_cancelled(self) -> None:
        """Drop callers that wait no more, up to the first that does."""
        for queue in self._waiting:
            while queue and queue[0].done():
                queue.popleft()

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
