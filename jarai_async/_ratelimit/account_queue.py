"""The submits of each account, in order, and its quota of productions a day.

The only sign of that quota is the first rejection. So while there may be a quota, the submits of an
account are sent one after the other: only the first that is rejected for the day costs a request, and the
others wait with it until midnight (UTC). It keeps its place before them.
"""

import asyncio
import itertools
import logging
from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from random import Random
from typing import Protocol

from attrs import define, field

from jarai_async import _clock
from jarai_async._ratelimit.limiter import DAY
from jarai_async._ratelimit.protocol import SharedLimit
from jarai_async._ratelimit.scheduler import Scheduler
from jarai_async._waiting import Waiting, WaitReason

_log = logging.getLogger("jarai_async")


class Releasable(Protocol):
    """Something that a submit holds and other submits need: the slot of a production."""

    def release(self) -> None:
        """Give it back; repeated calls do nothing."""


@define(eq=False)
class _Waiter:
    """A submit that waits for its turn, or has it."""

    place: int
    slot: Releasable | None
    woken: asyncio.Event = field(factory=asyncio.Event)


@define(eq=False)
class _AccountQueue:
    """The submits of one account, by their places; `blocked` ends when its next day's quota begins."""

    waiters: list[_Waiter] = field(factory=list)
    planned: list[int] = field(factory=list)  # places, sorted; also of submits that have not asked for a turn
    is_submitting: bool = False
    blocked: _clock.Deadline | None = None
    accepted: Counter[int] = field(factory=Counter)  # by UTC day

    @property
    def seconds_blocked(self) -> float:
        return self.blocked.left if self.blocked is not None else 0.0

    def wake_first(self) -> None:
        """Let the submit with the first place look whether it is its turn."""
        if self.waiters:
            self.waiters[0].woken.set()

    def release_while_blocked(self) -> None:
        """Let other accounts use the production slots of submits that wait for hours."""
        if self.seconds_blocked:
            for waiter in self.waiters:
                if waiter.slot is not None:
                    waiter.slot.release()


class AccountQueues:
    """One queue of submits for each account."""

    def __init__(self, scheduler: Scheduler, random: Random) -> None:
        self.shared: SharedLimit | None = None
        """What other workers know of the same accounts, if there are any."""
        self._scheduler = scheduler
        self._random = random
        self._places = itertools.count()
        self._queues: defaultdict[str, _AccountQueue] = defaultdict(_AccountQueue)
        self._planned: list[int] = []  # of all accounts

    def new_place(self) -> int:
        """Return the place after all others. A submit keeps its place until it is accepted."""
        return next(self._places)

    @contextmanager
    def planned(self, account_id: str, place: int) -> Iterator[None]:
        """Count a submit as one that is still to be made, before and while it waits for its turn."""
        lists = (self._queues[account_id].planned, self._planned)
        for places in lists:
            insort(places, place)
        try:
            yield
        finally:
            for places in lists:
                del places[bisect_left(places, place)]

    def ahead_of(self, account_id: str, place: int) -> tuple[int, int]:
        """Return how many submits are planned before a place: of this account, and of all."""
        queue = self._queues.get(account_id)
        of_account = 0 if queue is None else bisect_left(queue.planned, place)
        return of_account, bisect_left(self._planned, place)

    @asynccontextmanager
    async def turn(self, account_id: str, place: int, slot: Releasable | None) -> AsyncIterator[None]:
        """Wait until the account may submit; one submit at a time while there may be a daily quota.

        The lowest place goes first. `slot` is released while the account has no productions left today.
        Raises ClosedError.
        """
        self._scheduler.check_open()
        queue, waiter = self._queues[account_id], _Waiter(place, slot)
        insort(queue.waiters, waiter, key=_place)
        queue.release_while_blocked()
        has_turn = False
        try:
            await self._wait_for_turn(queue, waiter)
            if self._scheduler.limiter.has_daily_quotas:
                has_turn = queue.is_submitting = True
            else:
                queue.waiters.remove(waiter)
                queue.wake_first()
            yield
        finally:
            if has_turn:
                queue.is_submitting = False
            if waiter in queue.waiters:
                queue.waiters.remove(waiter)
            queue.wake_first()

    async def _wait_for_turn(self, queue: _AccountQueue, waiter: _Waiter) -> None:
        while True:
            if seconds := queue.seconds_blocked:
                await self._scheduler.sleep(seconds)
            elif queue.is_submitting or queue.waiters[0] is not waiter:
                waiter.woken.clear()
                await waiter.woken.wait()
            else:
                return

    def waits_for_quota(self, account_id: str) -> Waiting | None:
        """Return whether the submits of an account wait for its next day, and until when."""
        queue = self._queues.get(account_id)
        if queue is None or queue.blocked is None or not queue.seconds_blocked:
            return None
        detail = "its account has no productions left today"
        return Waiting(reason=WaitReason.DAILY_QUOTA, until=queue.blocked.utc, detail=detail)

    def waits_for_turn(self, account_id: str, place: int) -> Waiting | None:
        """Return whether other submits of an account go before the one with this place."""
        queue = self._queues.get(account_id)
        ahead = 0 if queue is None else bisect_left(queue.waiters, place, key=_place)
        if not ahead:
            return None
        return Waiting(reason=WaitReason.EARLIER_SUBMITS, detail=f"{ahead} of its account are sent before")

    def count_accepted(self, account_id: str) -> None:
        """Count a production that was accepted today."""
        self._queues[account_id].accepted[_today()] += 1
        if self.shared is not None:
            self.shared.account_accepted(account_id)

    def left_today(self, account_id: str) -> float:
        """Productions that may still be submitted today, as far as known; infinite without a quota."""
        queue = self._queues[account_id]
        if queue.seconds_blocked:
            return 0
        by_all = 0 if self.shared is None else self.shared.accepted_today(account_id)
        accepted = max(by_all, queue.accepted[_today()])
        return max(0, self._scheduler.limiter.productions_per_day - accepted)

    def is_blocked(self, account_id: str) -> bool:
        """Return whether the submits of an account wait for its next day."""
        queue = self._queues.get(account_id)
        return queue is not None and queue.seconds_blocked > 0

    def block(self, account_id: str, seconds: float) -> None:
        """Let the submits of an account wait for its next day, those of all workers."""
        if self.shared is not None:
            self.shared.account_blocked(account_id, seconds)
        self.block_here(account_id, seconds)

    def block_here(self, account_id: str, seconds: float) -> None:
        """Let the submits of this worker wait that are of an account with no productions left today."""
        queue = self._queues[account_id]
        was_blocked = bool(queue.seconds_blocked)
        queue.blocked = _clock.Deadline(seconds + self._random.uniform(0, 60))
        if not was_blocked:
            _log.warning(
                "account %s has no productions left today: its submits wait until %s",
                account_id,
                queue.blocked,
                extra={"jarai": {"event": "QuotaUsedUp", "of": account_id, "seconds": seconds}},
            )
        queue.release_while_blocked()


def _place(waiter: _Waiter) -> int:
    return waiter.place


def _today() -> int:
    return int(_clock.wall() // DAY)
