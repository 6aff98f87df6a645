"""The slots of productions in flight: `concurrency` of them."""

import asyncio
import itertools
from bisect import bisect_left
from datetime import datetime

from attrs import frozen

from jarai_async import _clock


@frozen
class Place:
    """A place in the queue for a slot, `since` a time (UTC)."""

    number: int
    since: datetime


class Slots:
    """All slots of one orchestrator. They are given in the order in which they were asked for."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.in_use: int = 0
        self._semaphore = asyncio.Semaphore(count)
        self._numbers = itertools.count()
        self._waiting: list[int] = []  # numbers of places, sorted

    @property
    def is_one_free(self) -> bool:
        """Whether `acquire` would not wait."""
        return not self._semaphore.locked()

    async def acquire(self, slot: "Slot | None" = None) -> None:
        """Wait for a free slot and take it. `slot` has its place in the queue meanwhile."""
        place = Place(next(self._numbers), _clock.utc())
        self._waiting.append(place.number)
        if slot is not None:
            slot.place = place
        try:
            await self._semaphore.acquire()
        finally:
            self._waiting.remove(place.number)
            if slot is not None:
                slot.place = None
        self.in_use += 1

    def release(self) -> None:
        """Give back a slot."""
        self.in_use -= 1
        self._semaphore.release()

    def ahead_of(self, place: Place) -> int:
        """Return how many others get a slot before the one with this place."""
        return bisect_left(self._waiting, place.number)


class Slot:
    """The slot of one production. It is acquired and released at most once at a time."""

    __slots__ = ("_slots", "is_held", "place")

    def __init__(self, slots: Slots) -> None:
        self.is_held: bool = False
        self.place: Place | None = None
        """Where it waits in the queue; None if it does not wait."""
        self._slots = slots

    @property
    def ahead(self) -> int:
        """How many others get a slot before this one, while it waits."""
        return 0 if self.place is None else self._slots.ahead_of(self.place)

    async def acquire(self) -> None:
        """Wait for a slot, unless one is held already."""
        if not self.is_held:
            await self._slots.acquire(self)
            self.is_held = True

    async def acquire_if_free(self) -> None:
        """Take a slot for what is in flight already, unless all are in use: then it goes on without one."""
        if self._slots.is_one_free:
            await self.acquire()

    def release(self) -> None:
        """Give the slot to another production; repeated calls do nothing."""
        if self.is_held:
            self.is_held = False
            self._slots.release()
