"""The places of productions in flight, and who has one."""

import asyncio


class Slot:
    """One of the places in flight: taken once, and given back once, however often that is said."""

    __slots__ = ("_held", "_places")

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._held = False

    @property
    def held(self) -> bool:
        """Whether it is taken."""
        return self._held

    async def take(self) -> None:
        """Wait for a place, unless it is held already."""
        if not self._held:
            await self._places.acquire()
            self._held = True

    def release(self) -> None:
        """Give the place to another."""
        if self._held:
            self._held = False
            self._places.release()
