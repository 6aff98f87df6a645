"""One call of `Orchestrator.run`: requests from an iterable, events through an iterator."""

import asyncio
import logging
import weakref
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sequence, Sized
from contextlib import suppress
from typing import Any, Self

from jarai_async._api.models import ProductionRequest
from jarai_async._downloads.folder import Folder
from jarai_async._errors import InvalidRequestError, JournalError
from jarai_async._events import Event
from jarai_async._journal.entries import Intent, Stage
from jarai_async._journal.identity import reference_of
from jarai_async._journal.protocol import Journal
from jarai_async._orchestrator.decisions import is_same_request, new_intent
from jarai_async._orchestrator.state import JobContext, JobState
from jarai_async._orchestrator.stream import Stream
from jarai_async._tasks import stop, unhurried

_log = logging.getLogger("jarai_async")

_SHOWN = 5  # references in a warning

Requests = Iterable[ProductionRequest] | AsyncIterable[ProductionRequest]
Named = tuple[str, ProductionRequest]  # with its reference
_Published = tuple[JobState, Event]


class Run:
    """The events of one `Orchestrator.run`, as an async iterator."""

    def __init__(self, batch: "Batch", feeder: asyncio.Task[None], journal: Journal) -> None:
        self._batch = batch
        self._stream = batch.stream
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
        """Draw no more requests, and close the async generator that they came from.

        Jobs that were started are watched until the orchestrator's block ends.
        """
        await stop([self._feeder])
        await self._batch.aclose()
        self._stream.end()


class Batch:
    """The requests of one `Orchestrator.run`. It ends the stream when all of them have ended.

    The requests of a collection are known in advance. Those of an iterator are known when they are drawn.
    """

    def __init__(self, requests: Requests, occurrences: Counter[str]) -> None:
        self.stream: Stream[_Published] = Stream()
        self.started: int = 0
        """The number of requests that were drawn and whose job was started."""
        self._requests: Iterable[Any] | AsyncIterable[Any] = requests
        self._occurrences = occurrences  # of references that are made from the content
        self._known: list[Named] = []
        self._new: list[Named] = []  # those that the journal does not know
        self.submitted: set[str] = set()
        """The references that the journal shows as submitted, by an earlier run."""
        self.is_planned: asyncio.Event = asyncio.Event()
        """Set when a collection was compared with the journal."""
        self._problems: list[str] = []
        self._running = 0
        self._all_drawn = False
        self._error: BaseException | None = None
        self._collection: list[Any] = []
        if isinstance(requests, Sized) and isinstance(requests, Iterable):
            self._collection, self._requests = [*requests], ()

    @property
    def not_drawn(self) -> Sequence[ProductionRequest]:
        """The requests that are still to be drawn, as far as they are known."""
        to_draw = () if self._all_drawn else self._collection[self.started :]
        return [item for item in to_draw if isinstance(item, ProductionRequest)]

    @property
    def not_submitted(self) -> Sequence[ProductionRequest]:
        """Those of them that no earlier run has submitted, once `is_planned` is set."""
        to_draw = () if self._all_drawn else self._known[self.started :]
        return [request for reference, request in to_draw if reference not in self.submitted]

    def may_draw(self, reference: str) -> bool:
        """Return whether a request with this reference may still be drawn."""
        if self._all_drawn:
            return False
        if self._requests != () or len(self._known) < len(self._collection):
            return True
        return reference in [name for name, _ in self._known[self.started :]]

    def _named(self, item: object, number: int) -> Named:
        """Return a request with its reference. Raises InvalidRequestError if it is not a request."""
        if not isinstance(item, ProductionRequest):
            raise InvalidRequestError([f"item {number} is not a ProductionRequest but {type(item).__name__}"])
        return reference_of(item, self._occurrences), item

    async def plan(self, journal: Journal, running: Callable[[str], object | None]) -> None:
        """Compare a collection with the journal, then write it there, so that a restart continues.

        Raises InvalidRequestError, with all problems.
        """
        async for number, item in unhurried(enumerate(self._collection, start=1)):
            try:
                self._known.append(self._named(item, number))
            except InvalidRequestError as error:
                self._problems += error.problems
        changed = await self._compare(journal)
        counts = Counter(reference for reference, _ in self._known)
        self._problems += [f"{ref!r} is already running" for ref in counts if running(ref) is not None]
        self._problems += [f"each reference is used once: {ref!r}" for ref in counts if counts[ref] > 1]
        if self._problems:
            raise InvalidRequestError(self._problems)
        for intent in changed:
            journal.put(intent)
        async for reference, request in unhurried(self._new):
            journal.plan(new_intent(reference, request))
        await journal.flush()
        self.is_planned.set()

    async def warn_if_collected(self, folder: Folder) -> None:
        """Warn about new requests that have files in this folder: an earlier run has paid for them."""
        collected = await folder.references() if self._new else set[str]()
        if again := [reference for reference, _ in self._new if reference in collected]:
            _log.warning(
                "%s has files of %d of these requests, but the journal does not know them (is it the right "
                "one?): they are submitted and paid for again: %s",
                folder.location,
                len(again),
                ", ".join(again[:_SHOWN]) + (" ..." if len(again) > _SHOWN else ""),
                extra={"jarai": {"collected": len(again), "folder": folder.location}},
            )

    async def _compare(self, journal: Journal) -> list[Intent]:
        """Return the new intents of known requests whose content has changed; note the problems."""
        changed: list[Intent] = []
        unknown = set[str]()
        with suppress(JournalError):  # the outcomes of the requests say it
            unknown = await journal.unknown(reference for reference, _ in self._known)
        async for reference, request in unhurried(self._known):
            if reference in unknown:  # all of a new batch: one query for each would take seconds
                self._new.append((reference, request))
                continue
            try:
                intent = await journal.find(reference)
                if intent is None:
                    self._new.append((reference, request))
                elif not is_same_request(intent, request):
                    changed.append(new_intent(reference, request, intent))
                elif intent.stage is not Stage.PLANNED:
                    self.submitted.add(reference)
            except InvalidRequestError as error:
                self._problems += error.problems
            except JournalError:
                continue  # the outcome of this request says it
        return changed

    async def draw(self, journal: Journal) -> AsyncGenerator[Named, None]:
        """Draw the requests one by one. Raises InvalidRequestError for one that may not be submitted."""
        for named in self._known:
            yield named
        number = 0
        async for item in self._items():
            number += 1
            reference, request = self._named(item, number)
            with suppress(JournalError):  # the outcome of this request says it
                intent = await journal.find(reference)
                if intent is not None:
                    is_same_request(intent, request)
            yield reference, request

    async def _items(self) -> AsyncGenerator[Any, None]:
        if isinstance(self._requests, AsyncIterable):
            self._requests = aiter(self._requests)
            async for item in self._requests:
                yield item
        else:
            for item in self._requests:
                yield item

    async def aclose(self) -> None:
        """Close the async generator that the requests are drawn from."""
        if isinstance(self._requests, AsyncGenerator):
            await self._requests.aclose()

    def publish(self, job: JobState, event: Event) -> None:
        """Add an event to the stream."""
        self.stream.put((job, event))

    def job_started(self) -> None:
        """Record that a request was drawn and its job started."""
        self._running += 1
        self.started += 1

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


async def warn_of_files(context: JobContext) -> None:
    """Warn, at the first request of a new journal, that there are files which it does not know."""
    if collected := await context.folder.references():
        _log.warning(
            "%s has files of %d productions, but the journal %s is new: is it the right one? Requests that "
            "only another journal knows are submitted and paid for again",
            context.folder.location,
            len(collected),
            context.journal.location,
            extra={"jarai": {"collected": len(collected), "folder": context.folder.location}},
        )
