"""The slots of productions in flight: `concurrency` of them."""

import asyncio


class Slots:
    """All slots of one orchestrator."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.in_use = 0
        self._semaphore = asyncio.Semaphore(count)

    async def acquire(self) -> None:
        """Wait for a free slot and take it."""
        await self._semaphore.acquire()
        self.in_use += 1

    def release(self) -> None:
        """Give back a slot."""
        self.in_use -= 1
        self._semaphore.release()


class Slot:
    """The slot of one production. It is acquired and released at most once at a time."""

    __slots__ = ("_slots", "is_held")

    def __init__(self, slots: Slots) -> None:
        self.is_held = False
        self._slots = slots

    async def acquire(self) -> None:
        """Wait for a slot, unless one is held already."""
        if not self.is_held:
            await self._slots.acquire()
            self.is_held = True

    def release(self) -> None:
        """Give the slot to another production; repeated calls do nothing."""
        if self.is_held:
            self.is_held = False
            self._slots.release()
