"""The queue through which events pass from the code that publishes them to their reader."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Stream(Generic[T]):
    """An async iterator over items that are put into it, so that a slow reader delays nothing else.

    It is an object rather than an async generator: it holds no resources, so a reader may leave it anywhere.
    """

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._items = deque(items)
        self._ended = False
        self._error: BaseException | None = None
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Add an item, without waiting. To bound the number of items, callers wait for `drained` first."""
        self._items.append(item)
        self._changed.set()

    def end(self, error: BaseException | None = None) -> None:
        """End after the present items, with an error if one is given. The first call counts."""
        if not self._ended:
            self._ended, self._error = True, error
            self._changed.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._ended:
                error, self._error = self._error, None
                raise error or StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        item = self._items.popleft()
        self._changed.set()
        return item

    def unread(self) -> list[T]:
        """Take the present items without waiting for more."""
        items = list(self._items)
        self._items.clear()
        self._changed.set()
        return items

    async def drained(self, below: int) -> None:
        """Wait until fewer items than this are unread."""
        while len(self._items) >= below:
            self._changed.clear()
            await self._changed.wait()
