"""What an app holds of one request that is under way."""

import asyncio
from collections.abc import Generator
from datetime import datetime
from typing import Any
from weakref import WeakSet

from jarai_async._api.models import Id, Production, ProductionRequest, Status
from jarai_async._errors import ClosedError
from jarai_async._events import Event, Outcome
from jarai_async._orchestrator.job import Job
from jarai_async._orchestrator.stream import Stream


class History:
    """The events of one request, for readers that come and go."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._readers: WeakSet[Stream[Event]] = WeakSet()
        self._ended = False
        self._error: BaseException | None = None

    def append(self, job: Job, event: Event) -> None:
        """Keep an event, and pass it on. There may be no reader, so it counts as told."""
        job.acknowledge(event)
        self._events.append(event)
        for reader in self._readers:
            reader.put(event)

    def read(self) -> Stream[Event]:
        """Iterate from the first event to the last."""
        reader = Stream(self._events)
        if self._ended:
            reader.end(self._error)
        self._readers.add(reader)
        return reader

    def end(self, error: BaseException | None) -> None:
        """There is no more."""
        self._ended, self._error = True, error
        for reader in self._readers:
            reader.end(error)


class Ticket:
    """One request of an `Orchestrator`. Await it for its `Outcome`.

    A production that fails, is refused or runs out of time is an outcome, not an exception. Awaiting raises
    ClosedError where the orchestrator was left before the end.
    """

    def __init__(self, job: Job, task: asyncio.Task[Outcome], history: History) -> None:
        self._job = job
        self._task = task
        self._history = history

    def __repr__(self) -> str:
        known = f"{self.production_id} {self.status}" if self.production_id else "not yet submitted"
        end = ", not watched any more" if self._task.cancelled() else ", ended" if self.done else ""
        return f"<Ticket {self.reference!r} {known}{end}>"

    def __await__(self) -> Generator[Any, None, Outcome]:
        return self._result().__await__()

    async def _result(self) -> Outcome:
        current = asyncio.current_task()
        before = current.cancelling() if current else 0
        try:
            return await asyncio.shield(self._task)
        except asyncio.CancelledError:
            if not self._task.cancelled() or (current and current.cancelling() > before):
                raise  # whoever awaits was cancelled, not the ticket
        raise ClosedError(f"{self.reference} is not watched any more ({self._fate()})")

    def _fate(self) -> str:
        if self.production_id is not None:
            return self.production_id
        return (
            f"may have been submitted, key {self._job.submission.key}"
            if self._job.may_exist
            else "not submitted"
        )

    @property
    def request(self) -> ProductionRequest:
        """What was asked for."""
        return self._job.request

    @property
    def reference(self) -> str:
        """The request's reference, or one made from its place."""
        return self._job.reference

    @property
    def done(self) -> bool:
        """Whether there is nothing more to come."""
        return self._task.done()

    @property
    def production(self) -> Production | None:
        """The production as last seen, once the request was accepted."""
        return self._job.production

    @property
    def production_id(self) -> Id | None:
        """JARAI's identifier, once the request was accepted."""
        return self.production.id if self.production else None

    @property
    def status(self) -> Status | None:
        """The last status seen, once the request was accepted."""
        return self.production.status if self.production else None

    @property
    def expected_finish(self) -> datetime | None:
        """When the production will end (UTC): the mean, by its status and what others like it have taught.

        None before the request is accepted, and once there is nothing more to come.
        """
        return None if self.done else self._job.expected_finish

    def events(self) -> Stream[Event]:
        """Iterate over the events of this request, from its first one to `Finished`."""
        return self._history.read()

    async def cancel(self) -> None:
        """Stop the production for real; await the ticket to see how it ended, for it may have ended before.

        A request that was not sent yet is withdrawn. Raises ApiError where JARAI refuses, and ClosedError
        where the client is closed.
        """
        if not self.done:
            await self._job.cancel()
        elif self.production is not None and not self.production.status.is_terminal:  # it runs on, unwatched
            await self._job.cancel_unwatched()
