"""One call of `Orchestrator.run`: requests drawn from an iterable, events read through an iterator."""

import asyncio
import weakref
from collections.abc import AsyncGenerator, AsyncIterable, Collection, Iterable, Sequence
from typing import Self

from jarai_async._api.models import ProductionRequest
from jarai_async._events import Event
from jarai_async._journal.journal import Journal
from jarai_async._orchestrator.job import Job
from jarai_async._orchestrator.stream import Stream
from jarai_async._tasks import stop

Told = tuple[Job, Event]
Requests = Iterable[ProductionRequest] | AsyncIterable[ProductionRequest]


class Run:
    """The events of one `Orchestrator.run`, as an async iterator."""

    def __init__(self, stream: Stream[Told], feeder: asyncio.Task[None], journal: Journal) -> None:
        self._stream = stream
        self._feeder = feeder
        self._journal = journal
        self._taken: Told | None = None
        weakref.finalize(self, feeder.cancel).atexit = False  # left by `break`: nothing more is drawn

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Give the next event. Asking for it says that the one before was dealt with: it is not told anew."""
        taken, self._taken = self._taken, None
        if taken is not None:
            job, event = taken
            job.acknowledge(event)
            await self._journal.flush()
        self._taken = await anext(self._stream)
        return self._taken[1]

    def unread(self) -> list[Event]:
        """Take the events that are there, without waiting: what was told while the orchestrator was left."""
        return [event for _, event in self._stream.unread()]

    async def aclose(self) -> None:
        """Stop drawing requests; what was drawn is followed until the orchestrator is left."""
        await stop([self._feeder])
        self._stream.end()


class Batch:
    """Ends a stream when all requests are drawn and each of them has ended."""

    def __init__(self, stream: Stream[Told], requests: Requests) -> None:
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

    def emit(self, job: Job, event: Event) -> None:
        """Pass an event on."""
        self.stream.put((job, event))

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
