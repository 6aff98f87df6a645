"""The events of a journal, from the first one, for any number of readers.

A reader asks for what comes after its cursor: the newest events are in memory, all others in the journal. So
a slow reader keeps nothing in memory, and one that starts late, or after a restart, misses nothing.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Self
from weakref import WeakSet

from jarai_async._errors import InvalidRequestError
from jarai_async._events import Event

_NEWEST = 1_000  # events that are kept in memory
_PAGE = 500  # events that are read at a time

Select = Callable[[int, str | None, int], Awaitable[list[Event]]]


class History:
    """The events that were committed.

    `select(after, reference, limit)` reads some from the journal; `written` waits until all are committed.
    """

    def __init__(self, select: Select, written: Callable[[], Awaitable[None]]) -> None:
        self.latest: int = 0
        """The cursor of the last event, perhaps not committed yet."""
        self.delivered: int = 0
        """The cursor of the last event that readers can have."""
        self._select = select
        self.written = written
        self._newest = deque[Event](maxlen=_NEWEST)
        self._readers: dict[str | None, WeakSet[asyncio.Event]] = {}

    def next_cursor(self) -> int:
        """Return the cursor of a new event."""
        self.latest += 1
        return self.latest

    def deliver(self, event: Event) -> None:
        """Show an event to the readers, in the order of the cursors."""
        self._newest.append(event)
        self.delivered = event.cursor
        self.wake(event.reference)
        self.wake(None)

    def wake(self, reference: str | None) -> None:
        """Let the readers of a request look again, or (None) the readers of all requests."""
        readers = self._readers.get(reference, ())
        for changed in readers:
            changed.set()
        if not readers:
            self._readers.pop(reference, None)

    def wake_all(self) -> None:
        """Let all readers look again."""
        for reference in list(self._readers):
            self.wake(reference)

    def reader(self, reference: str | None) -> asyncio.Event:
        """Return what is set whenever there is something new for a reader."""
        changed = asyncio.Event()
        self._readers.setdefault(reference, WeakSet()).add(changed)
        return changed

    async def after(self, cursor: int, reference: str | None) -> list[Event]:
        """Return some events after a cursor: the next of one request, or of all. Raises JournalError."""
        if self._newest and cursor >= (first := self._newest[0].cursor) - 1:
            newer = islice(self._newest, cursor - first + 1, None)
            return [event for event in newer if reference in (None, event.reference)]
        return await self._select(cursor, reference, _PAGE)


class EventStream:
    """An async iterator over events. It may be left at any time, and needs no closing.

    `cursor` is that of the last event that it has returned: another reader can continue behind it.
    Raises InvalidRequestError for a cursor `after` the last event of the journal.
    """

    def __init__(
        self,
        history: History,
        after: int,
        reference: str | None,
        has_ended: Callable[[], bool],
        check_end: Callable[[], None] = lambda: None,
    ) -> None:
        if after > history.latest:
            problem = f"no event has the cursor {after}, the newest has {history.latest}"
            advice = "it is of another journal, or of an earlier process without one: use events(after=0)"
            raise InvalidRequestError([f"{problem}; {advice}"])
        self.cursor: int = after
        self._history = history
        self._reference = reference
        self._has_ended = has_ended
        self._check_end = check_end  # raises an error if this is not the end that the reader expects
        self._changed = history.reader(reference)
        self._events = deque[Event]()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            self._changed.clear()
            if has_ended := self._has_ended():
                await self._history.written()  # the last events may be on their way
            self._events.extend(await self._history.after(self.cursor, self._reference))
            if not self._events:
                if has_ended:
                    self._check_end()
                    raise StopAsyncIteration
                await self._changed.wait()
        event = self._events.popleft()
        self.cursor = event.cursor
        return event
