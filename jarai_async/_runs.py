"""One call of `Orchestrator.run`: requests drawn from an iterable, events read through an iterator."""

import asyncio
import weakref
from collections.abc import AsyncGenerator, AsyncIterable, Collection, Iterable, Sequence
from typing import Any, Self

from jarai_async._events import Event
from jarai_async._models import ProductionRequest
from jarai_async._streams import Stream

Requests = Iterable[ProductionRequest] | AsyncIterable[ProductionRequest]


class Run:
    """The events of one `Orchestrator.run`, as an async iterator."""

    def __init__(self, stream: Stream[Event], feeder: asyncio.Task[None]) -> None:
        self._stream = stream
        self._feeder = feeder
        weakref.finalize(self, feeder.cancel).atexit = False  # left by `break`: nothing more is drawn

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        return await anext(self._stream)

    def unread(self) -> list[Event]:
        """Take the events that are there, without waiting: what was told while the orchestrator was left."""
        return self._stream.unread()

    async def aclose(self) -> None:
        """Stop drawing requests; what was drawn is followed until the orchestrator is left."""
        await stop([self._feeder])
        self._stream.end()


class Batch:
    """Ends a stream when all requests are drawn and each of them has ended."""

    def __init__(self, stream: Stream[Event], requests: Requests) -> None:
        self.stream = stream
        self.running = 0
        self.begun = 0
        self._planned = _foreseeable(requests)
        self._drawn = False
        self._failure: BaseException | None = None

    @property
    def to_draw(self) -> Sequence[ProductionRequest]:
        """The requests that are still to be drawn, as far as that can be known."""
        return () if self._drawn else self._planned[self.begun :]

    def one_began(self) -> None:
        """Note that a request was drawn."""
        self.running += 1
        self.begun += 1

    def one_ended(self, failure: BaseException | None) -> None:
        """Note an end. A failure, which is a bug of ours, is raised when the others have ended, too."""
        self.running -= 1
        self._failure = self._failure or failure
        self._end_if_done()

    def all_drawn(self, failure: BaseException | None) -> None:
        """Note that no more begin."""
        self._drawn = True
        self._failure = self._failure or failure
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._drawn and not self.running:
            self.stream.end(self._failure)


def _foreseeable(requests: Requests) -> Sequence[ProductionRequest]:
    """Look through what can be iterated over twice, a list or the like; of anything else nothing is known."""
    if not isinstance(requests, Collection):
        return ()
    return [request for request in requests if isinstance(request, ProductionRequest)]


async def each(requests: Requests) -> AsyncGenerator[ProductionRequest, None]:
    """Iterate over what may be an async iterable or not."""
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield request
    else:
        for request in requests:
            yield request


async def stop(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait until they are gone."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
