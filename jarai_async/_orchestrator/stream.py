"""Events on their way from who learns of them to who reads them."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Stream(Generic[T]):
    """An async iterator that is fed from elsewhere, so that a slow reader delays nobody.

    It is an object rather than an async generator: it holds nothing, so it may be left at any point.
    """

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._items = deque(items)
        self._ended = False
        self._error: BaseException | None = None
        self._moved = asyncio.Event()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Add an item; the reader bounds their number by what it lets begin (`drained`)."""
        self._items.append(item)
        self._moved.set()

    def end(self, error: BaseException | None = None) -> None:
        """End after the items that are there, by an error if one is given. The first end counts."""
        if not self._ended:
            self._ended, self._error = True, error
            self._moved.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._ended:
                error, self._error = self._error, None
                raise error or StopAsyncIteration
            self._moved.clear()
            await self._moved.wait()
        item = self._items.popleft()
        self._moved.set()
        return item

    def unread(self) -> list[T]:
        """Take the items that are there, without waiting for more."""
        items = list(self._items)
        self._items.clear()
        self._moved.set()
        return items

    async def drained(self, below: int) -> None:
        """Wait until fewer items than this are unread."""
        while len(self._items) >= below:
            self._moved.clear()
            await self._moved.wait()
