"""The submits of each account, in order, and its quota of productions a day.

The only sign of that quota is the first rejection. So while there may be a quota, the submits of an
account are sent one after the other: only the first that is rejected for the day costs a request, and the
others wait with it until midnight (UTC).
"""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Protocol

from attrs import define, field

from jarai_async import _clock
from jarai_async._ratelimit.limiter import DAY
from jarai_async._ratelimit.scheduler import Scheduler

_log = logging.getLogger("jarai_async")


class Releasable(Protocol):
    """Something that a submit holds and other submits need: the slot of a production."""

    def release(self) -> None:
        """Give it back; repeated calls do nothing."""


@define(eq=False)
class _AccountQueue:
    """The submits of one account; `blocked_until` is when its next day's quota begins (monotonic)."""

    one_at_a_time: asyncio.Lock = field(factory=asyncio.Lock)
    blocked_until: float = 0.0
    accepted: Counter[int] = field(factory=Counter)  # by UTC day
    waiting: set[Releasable] = field(factory=set)

    @property
    def seconds_blocked(self) -> float:
        return max(0.0, self.blocked_until - _clock.monotonic())

    def release_while_blocked(self) -> None:
        """Let other accounts use the production slots of submits that wait for hours."""
        if self.seconds_blocked:
            for slot in self.waiting:
                slot.release()


class AccountQueues:
    """One queue of submits for each account."""

    def __init__(self, scheduler: Scheduler, random: Random) -> None:
        self._scheduler = scheduler
        self._random = random
        self._queues: defaultdict[str, _AccountQueue] = defaultdict(_AccountQueue)

    @asynccontextmanager
    async def turn(self, account_id: str, slot: Releasable | None) -> AsyncIterator[None]:
        """Wait until the account may submit; one submit at a time while there may be a daily quota.

        `slot` is released while the account has no productions left today. Raises ClosedError.
        """
        self._scheduler.check_open()
        queue = self._queues[account_id]
        if slot is not None:
            queue.waiting.add(slot)
        queue.release_while_blocked()
        try:
            async with queue.one_at_a_time:
                if seconds := queue.seconds_blocked:
                    await self._scheduler.sleep(seconds)
                if self._scheduler.limiter.has_daily_quotas:
                    yield
                    return
            yield
        finally:
            if slot is not None:
                queue.waiting.discard(slot)

    def count_accepted(self, account_id: str) -> None:
        """Count a production that was accepted today."""
        self._queues[account_id].accepted[_today()] += 1

    def left_today(self, account_id: str) -> float:
        """Productions that may still be submitted today, as far as known; infinite without a quota."""
        queue = self._queues[account_id]
        if queue.seconds_blocked:
            return 0
        return max(0, self._scheduler.limiter.productions_per_day - queue.accepted[_today()])

    def block(self, account_id: str, seconds: float) -> None:
        """Let the submits of an account wait for its next day."""
        queue = self._queues[account_id]
        if not queue.seconds_blocked:
            hours = seconds / 3600
            _log.warning("account %s has no productions left today: submits wait %.1f h", account_id, hours)
        queue.blocked_until = _clock.monotonic() + seconds + self._random.uniform(0, 60)
        queue.release_while_blocked()


def _today() -> int:
    return int(_clock.wall() // DAY)
