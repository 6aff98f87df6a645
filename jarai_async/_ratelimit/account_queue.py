"""One lane for each account: its submits, and its quota of productions a day.

Nothing announces that quota but the first refusal. So where there may be one, submits of an account go one
after the other: the first that is refused for the day is the only one, and the others wait with it until
midnight (UTC).
"""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from attrs import define, field

from jarai_async import _clock
from jarai_async._ratelimit.limiter import DAY
from jarai_async._ratelimit.meter import Meter
from jarai_async._ratelimit.scheduler import Scheduler

_log = logging.getLogger("jarai_async")


@define(eq=False)
class AccountQueue:
    """The submits of one account; `frozen_until` is when its day's quota comes back."""

    one_at_a_time: asyncio.Lock = field(factory=asyncio.Lock)
    frozen_until: float = 0.0
    accepted: Counter[int] = field(factory=Counter)  # by UTC day
    waiting: set[Meter] = field(factory=set)

    def frozen_for(self) -> float:
        return max(0.0, self.frozen_until - _clock.monotonic())

    def give_back_places(self) -> None:
        """Let others go on while these wait for hours."""
        for meter in self.waiting if self.frozen_for() else ():
            if meter.frozen:
                meter.frozen()


class AccountQueues:
    """The lanes of all accounts."""

    def __init__(self, scheduler: Scheduler, random: Random) -> None:
        self._scheduler = scheduler
        self._random = random
        self._queues: defaultdict[str, AccountQueue] = defaultdict(AccountQueue)

    @asynccontextmanager
    async def turn(self, account_id: str, meter: Meter) -> AsyncIterator[None]:
        """Wait for one's turn to submit; alone, where productions a day are limited."""
        queue = self._queues[account_id]
        queue.waiting.add(meter)
        queue.give_back_places()
        try:
            async with queue.one_at_a_time:
                if seconds := queue.frozen_for():
                    await self._scheduler.pause(seconds)
                if self._scheduler.budget.has_days:
                    yield
                    return
            yield
        finally:
            queue.waiting.discard(meter)

    def accepted(self, account_id: str) -> None:
        """Count a production of today."""
        self._queues[account_id].accepted[_today()] += 1

    def left_today(self, account_id: str) -> float:
        """Productions that may still be submitted today, as far as known; infinite without a quota."""
        queue = self._queues[account_id]
        if queue.frozen_for():
            return 0
        return max(0, self._scheduler.budget.productions_per_day - queue.accepted[_today()])

    def freeze(self, account_id: str, seconds: float) -> None:
        """Let submits of an account wait for its next day."""
        queue = self._queues[account_id]
        if not queue.frozen_for():
            hours = seconds / 3600
            _log.warning("account %s has no productions left today: submits wait %.1f h", account_id, hours)
        queue.frozen_until = _clock.monotonic() + seconds + self._random.uniform(0, 60)
        queue.give_back_places()


def _today() -> int:
    return int(_clock.wall() // DAY)
