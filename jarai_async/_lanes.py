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
from jarai_async._meter import Meter
from jarai_async._quotas import DAY
from jarai_async._scheduler import Scheduler

_log = logging.getLogger("jarai_async")


@define(eq=False)
class _Lane:
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


class Lanes:
    """The lanes of all accounts."""

    def __init__(self, scheduler: Scheduler, random: Random) -> None:
        self._scheduler = scheduler
        self._random = random
        self._lanes: defaultdict[str, _Lane] = defaultdict(_Lane)

    @asynccontextmanager
    async def turn(self, account_id: str, meter: Meter) -> AsyncIterator[None]:
        """Wait for one's turn to submit; alone, where productions a day are limited."""
        lane = self._lanes[account_id]
        lane.waiting.add(meter)
        lane.give_back_places()
        try:
            async with lane.one_at_a_time:
                if seconds := lane.frozen_for():
                    await self._scheduler.pause(seconds)
                if self._scheduler.budget.has_days:
                    yield
                    return
            yield
        finally:
            lane.waiting.discard(meter)

    def accepted(self, account_id: str) -> None:
        """Count a production of today."""
        self._lanes[account_id].accepted[_today()] += 1

    def left_today(self, account_id: str) -> float:
        """Productions that may still be submitted today, as far as known; infinite without a quota."""
        lane = self._lanes[account_id]
        if lane.frozen_for():
            return 0
        return max(0, self._scheduler.budget.productions_per_day - lane.accepted[_today()])

    def freeze(self, account_id: str, seconds: float) -> None:
        """Let submits of an account wait for its next day."""
        lane = self._lanes[account_id]
        if not lane.frozen_for():
            hours = seconds / 3600
            _log.warning("account %s has no productions left today: submits wait %.1f h", account_id, hours)
        lane.frozen_until = _clock.monotonic() + seconds + self._random.uniform(0, 60)
        lane.give_back_places()


def _today() -> int:
    return int(_clock.wall() // DAY)
