"""One call of `Orchestrator.run`: requests from an iterable, events through an iterator."""

import asyncio
import weakref
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Collection, Iterable, Sequence
from typing import Self
from uuid import uuid4

from jarai_async._api.codec import body_of
from jarai_async._api.models import ProductionRequest
from jarai_async._errors import InvalidRequestError
from jarai_async._events import Event
from jarai_async._journal.entries import Intent
from jarai_async._journal.journal import Journal
from jarai_async._orchestrator.state import JobState
from jarai_async._orchestrator.stream import Stream
from jarai_async._tasks import stop

Requests = Iterable[ProductionRequest] | AsyncIterable[ProductionRequest]
_Published = tuple[JobState, Event]


class Run:
    """The events of one `Orchestrator.run`, as an async iterator."""

    def __init__(self, stream: Stream[_Published], feeder: asyncio.Task[None], journal: Journal) -> None:
        self._stream = stream
        self._feeder = feeder
        self._journal = journal
        self._last: _Published | None = None
        weakref.finalize(self, feeder.cancel).atexit = False  # after a `break` no more requests are drawn

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Return the next event. This acknowledges the one before: after a restart it is not repeated."""
        last, self._last = self._last, None
        if last is not None:
            job, event = last
            job.acknowledge(event)
            await self._journal.flush()
        self._last = await anext(self._stream)
        return self._last[1]

    def unread(self) -> list[Event]:
        """Take the events that were published and not read, without waiting for more."""
        return [event for _, event in self._stream.unread()]

    async def aclose(self) -> None:
        """Draw no more requests. Jobs that were started are watched until the orchestrator's block ends."""
        await stop([self._feeder])
        self._stream.end()


class Batch:
    """The requests of one `Orchestrator.run`. It ends the stream when all of them have ended."""

    def __init__(self, requests: Requests) -> None:
        self.stream: Stream[_Published] = Stream()
        self._known_requests = _known_requests(requests)
        self._started = 0
        self._running = 0
        self._all_drawn = False
        self._error: BaseException | None = None

    @property
    def not_drawn(self) -> Sequence[ProductionRequest]:
        """The requests that are still to be drawn, as far as they are known."""
        return () if self._all_drawn else self._known_requests[self._started :]

    async def plan(self, journal: Journal, *, first: int) -> None:
        """Write the known requests to the journal, so that a restart can continue; `first` numbers them.

        Raises InvalidRequestError where two of them have the same reference.
        """
        if journal.path is None:
            return
        planned = [
            (request.reference or default_reference(number), request)
            for number, request in enumerate(self._known_requests, start=first)
        ]
        counts = Counter(reference for reference, _ in planned)
        if repeated := [reference for reference, count in counts.items() if count > 1]:
            raise InvalidRequestError(
                [f"with a journal each reference is used once: {reference!r}" for reference in repeated]
            )
        for reference, request in planned:
            journal.plan(Intent(reference, request.account_id, body_of(request), str(uuid4())))
        await journal.flush()

    def publish(self, job: JobState, event: Event) -> None:
        """Add an event to the stream."""
        self.stream.put((job, event))

    def job_started(self) -> None:
        """Record that a request was drawn and its job started."""
        self._running += 1
        self._started += 1

    def job_ended(self, error: BaseException | None) -> None:
        """Record that a job ended. An error, which is a bug, is raised when the other jobs have ended."""
        self._running -= 1
        self._end_if_done(error)

    def all_drawn(self, error: BaseException | None) -> None:
        """Record that no more requests are drawn."""
        self._all_drawn = True
        self._end_if_done(error)

    def _end_if_done(self, error: BaseException | None) -> None:
        self._error = self._error or error
        if self._all_drawn and not self._running:
            self.stream.end(self._error)


def _known_requests(requests: Requests) -> Sequence[ProductionRequest]:
    """Return the requests of a list or another collection; nothing is known of what can be read only once."""
    if not isinstance(requests, Collection):
        return ()
    return [request for request in requests if isinstance(request, ProductionRequest)]


def default_reference(number: int) -> str:
    """Return a reference for a request that has none, made from its position."""
    return f"request-{number:04}"


async def iterate(requests: Requests) -> AsyncGenerator[ProductionRequest, None]:
    """Iterate over an iterable, async or not."""
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield request
    else:
        for request in requests:
            yield request
