"""Many productions at once: a place for each, one budget for all.

Two limits with two names. `concurrency` is how many productions may be in flight, and a semaphore holds
it; the *budget* is how many requests a minute they may spend between them, and the client holds that. One
that waits for a person's approval gives back its place, and keeps being watched.

Requests are drawn as places become free. Events go into a stream that never blocks whoever fills it:
a slow reader delays nothing but the drawing of further requests.

Each production has a task of its own, and these belong to the `async with` block, not to the iterator:
leaving the block ends them, and no task of a production can end another's. (A TaskGroup would cancel all
of them for one, and wrap the user's own exception.)
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterable, Callable, Iterable
from contextlib import aclosing
from functools import partial
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from attrs import evolve

from jarai_async._api.codec import body_of
from jarai_async._api.models import Polling, ProductionRequest
from jarai_async._client import JaraiClient
from jarai_async._downloads.files import make_folder
from jarai_async._errors import ClosedError, ConfigurationError, FileWriteError, InvalidRequestError
from jarai_async._events import Outcome
from jarai_async._http.retry import Retrier, Retry
from jarai_async._journal.entries import Intent
from jarai_async._journal.journal import Journal
from jarai_async._orchestrator.checkpoint import Checkpoint
from jarai_async._orchestrator.collector import Shelf
from jarai_async._orchestrator.job import Emit, Job, Terms
from jarai_async._orchestrator.run import Batch, Requests, Run, each
from jarai_async._orchestrator.shutdown import cancel_all, say_how_to_go_on, withdraw
from jarai_async._orchestrator.slot import Slot
from jarai_async._orchestrator.statistics import Outlook, Statistics
from jarai_async._orchestrator.stream import Stream
from jarai_async._orchestrator.submission import resolve
from jarai_async._orchestrator.ticket import History, Ticket
from jarai_async._orchestrator.webhook_router import WebhookRouter
from jarai_async._tasks import stop

if TYPE_CHECKING:  # its server takes as long to import as all the rest
    from jarai_async.receiver import Receiver

_log = logging.getLogger("jarai_async")

_PATIENT = Retry(attempts=12, base=1.0, cap=600.0)  # outlasts an outage of half an hour, on average
_DOWNLOADS = 8  # files at a time: enough to fill a line, few enough to finish some first
_UNREAD = 1_000  # events; beyond, no further request is drawn until the reader has caught up


class Orchestrator:
    """Runs any number of productions, `concurrency` of them in flight at once.

        async with Orchestrator(client, download_to="deliverables") as orchestrator:
            async for event in orchestrator.run(requests):
                print(event)

    - `concurrency`: productions in flight, each from its submit until it first waits for approval, or ends.
    - `download_to`: a folder that receives one folder for each production; None fetches no files.
    - `polling`: seconds between two polls of one production; the budget decides within these bounds.
    - `review`: fetch deliverables in `AwaitingApproval` already; what has changed since, at the end again.
    - `deadline`: seconds from its acceptance after which a production is no longer waited for.
    - `journal`: a file that remembers every request, so that the same batch run again, after a crash too,
      submits nothing twice, gives the outcomes that there are, and goes on with the rest. Requests are known
      by their `reference`, or by their place in the batch.
    - `resubmissions`: how often a production that expired, since nobody began it, is submitted again.
    - `webhooks`: a receiver whose events make their productions be asked at once. While they prove reliable,
      polls become a safety net; without any being received all is as without it.
    - `cancel_on_exit`: cancel what still runs when the block is left. Otherwise leaving it, Ctrl-C included,
      stops watching and nothing else: the productions are paid for, and go on.

    Raises ConfigurationError; entering the block, JournalError where the journal cannot be used.
    """

    def __init__(
        self,
        client: JaraiClient,
        *,
        concurrency: int = 100,
        download_to: str | PathLike[str] | None = None,
        polling: Polling | None = None,
        review: bool = False,
        deadline: float | None = None,
        cancel_on_exit: bool = False,
        journal: str | PathLike[str] | None = None,
        expired_retries: int = 1,
        webhooks: "Receiver | None" = None,
    ) -> None:
        if not isinstance(client, JaraiClient):
            raise ConfigurationError(f"the client must be a JaraiClient, not {_kind(client)}")
        if not isinstance(concurrency, int) or concurrency < 1:
            raise ConfigurationError(f"concurrency must be a whole number, 1 or more, not {concurrency!r}")
        if deadline is not None and not deadline > 0:
            raise ConfigurationError(f"deadline must be more than 0 seconds, not {deadline}")
        if polling is not None and not isinstance(polling, Polling):
            raise ConfigurationError(
                f"polling must be a Polling(min_interval=, max_interval=), not {_kind(polling)}"
            )
        if not hasattr(webhooks, "receive") and webhooks is not None:
            raise ConfigurationError(f"webhooks must be a receiver.Receiver, not {_kind(webhooks)}")
        folder = None if download_to is None else Path(download_to)
        retrier = Retrier(_PATIENT, client._random)
        shelf = Shelf(client, folder, retrier, asyncio.Semaphore(_DOWNLOADS))
        self._journal_path = None if journal is None else Path(journal)
        self._receiver = webhooks
        self._hints = WebhookRouter(listens=webhooks is not None)
        self._terms = Terms(
            shelf, Journal(None), polling or Polling(), deadline, review, expired_retries, self._hints
        )
        self._client = client
        self._places = asyncio.Semaphore(concurrency)
        self._concurrency = concurrency
        self._cancel_on_exit = cancel_on_exit
        self._jobs: dict[asyncio.Task[Outcome], Job] = {}
        self._batches: dict[asyncio.Task[None], Batch] = {}  # by the task that draws its requests
        self._heralds: set[asyncio.Task[None]] = set()
        self._outlook = Outlook(
            client,
            self._terms.polling,
            concurrency,
            self._jobs.values(),
            self._batches.values(),
            self._hints,
        )
        self._drawn = 0
        self._finished = 0
        self._open = False
        self._memory: Checkpoint | None = None
        self._remove_listener: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        return f"<Orchestrator {len(self._jobs)} under way, {self._concurrency} in flight at most>"

    async def __aenter__(self) -> Self:
        if self._terms.shelf.folder is not None:
            try:
                await make_folder(self._terms.shelf.folder)
            except FileWriteError as error:  # before anything is paid for
                raise ConfigurationError(f"download_to cannot be used: {error.message}") from None
        journal = await Journal.open(self._journal_path)
        self._terms = evolve(self._terms, journal=journal)
        try:
            self._memory = await Checkpoint.restored(self._client, journal)
        except BaseException:
            await journal.close()
            raise
        self._open = True
        if self._receiver is not None:
            self._remove_listener = self._receiver.add_listener(self._hints.take)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        self._remove_listener()
        for job in self._jobs.values():
            job.meter.withdrawn = True  # before anything is awaited: no further submit is sent
        try:
            await stop([*self._batches, *self._heralds])
            await withdraw(self._jobs)
            if self._cancel_on_exit:
                await cancel_all(self._jobs)
        finally:  # also where leaving is itself cancelled
            say_how_to_go_on(self._jobs.values(), self._journal_path)
            await stop(self._jobs)
            if self._memory is not None:
                await self._memory.close()
            await self._terms.journal.close()

    def submit(self, request: ProductionRequest) -> Ticket:
        """Begin one production as soon as there is a place for it, and give what to await and to cancel.

        Raises ConfigurationError outside of the orchestrator's `async with` block.
        """
        return self._ticket(request)

    def _ticket(self, request: ProductionRequest, intent: Intent | None = None) -> Ticket:
        history = History()
        job, task = self._begin(request, Slot(self._places), history.append, history.end, intent)
        return Ticket(job, task, history)

    async def resolve(
        self, reference: str, *, production_id: str | None = None, resubmit: bool = False
    ) -> Ticket:
        """Decide what became of a submit that ended as `uncertain`, and go on with it.

        Give the `production_id` that JARAI Studio shows for it, and it is followed; or `resubmit=True` where
        it was never created: then it is submitted again, with a new key. Raises InvalidRequestError where
        there is nothing to decide, NotFoundError where JARAI does not know the production.
        """
        if (production_id is None) != resubmit:
            raise InvalidRequestError(["resolve() takes either production_id or resubmit=True"])
        self._check_open()
        if self._is_under_way(reference):
            raise InvalidRequestError([f"{reference!r} is under way: nothing is to be decided yet"])
        intent = await resolve(self._client, self._terms.journal, reference, production_id)
        return self._ticket(intent.request(), intent)

    def _is_under_way(self, reference: str) -> bool:
        return any(job.reference == reference for job in self._jobs.values())

    def run(self, requests: Requests) -> Run:
        """Run all requests, and iterate over the events of all of them as they come.

        Requests are drawn as places become free. The iteration ends when each of them has `Finished`; where
        drawing them raises, that exception comes after the outcomes of those that were drawn. Leaving the
        iteration by `break` stops the drawing (of an iterator that you hold in a variable: `aclose()`), not
        the watching. Where today's quotas are not enough for a list (or the like) of requests, a warning says
        when they will be finished. Raises ConfigurationError outside of the `async with` block.
        """
        self._check_open()
        if not isinstance(requests, Iterable | AsyncIterable):
            raise InvalidRequestError([f"run() takes an iterable of requests, not {_kind(requests)}"])
        batch = Batch(Stream(), requests)
        feeder = asyncio.create_task(self._feed(requests, batch), name="jarai feeder")
        self._batches[feeder] = batch
        feeder.add_done_callback(self._batches.pop)
        herald = asyncio.create_task(self._outlook.foretell(), name="jarai herald")
        self._heralds.add(herald)
        herald.add_done_callback(self._heralds.discard)
        feeder.add_done_callback(lambda _: batch.all_drawn(None))  # also where it never came to begin
        return Run(batch.stream, feeder, self._terms.journal)

    def statistics(self) -> Statistics:
        """Say what was sent and what the budget has left, where all productions stand, and when they end."""
        return self._outlook.statistics(self._finished)

    def _check_open(self) -> None:
        if not self._open:
            raise ConfigurationError("use the orchestrator inside its `async with` block")

    def _begin(
        self,
        request: ProductionRequest,
        place: Slot,
        emit: Emit,
        ended: Callable[[BaseException | None], None],
        intent: Intent | None = None,
    ) -> tuple[Job, asyncio.Task[Outcome]]:
        self._check_open()
        if not isinstance(request, ProductionRequest):
            raise InvalidRequestError([f"expected a ProductionRequest, not {_kind(request)}"])
        self._drawn += 1
        reference = request.reference or _reference(self._drawn)
        if self._terms.journal.path is not None and self._is_under_way(reference):
            raise InvalidRequestError(
                [f"the reference {reference!r} is under way already: a journal needs one"]
            )
        job = Job(self._terms, request, reference, emit=emit, place=place, intent=intent)
        task = asyncio.create_task(job.run(), name=f"jarai {reference}")
        self._jobs[task] = job
        task.add_done_callback(partial(self._conclude, ended))
        return job, task

    def _conclude(self, ended: Callable[[BaseException | None], None], task: asyncio.Task[Outcome]) -> None:
        del self._jobs[task]
        self._finished += not task.cancelled()
        ended(ClosedError("the orchestrator was left") if task.cancelled() else task.exception())

    async def _feed(self, requests: Requests, batch: Batch) -> None:
        """Draw requests, each when there is a place for it and the reader has kept up."""
        failure: Exception | None = None
        place = Slot(self._places)
        try:
            await self._plan(batch)
            async with aclosing(each(requests)) as source:
                await place.take()
                async for request in source:
                    self._begin(request, place, batch.emit, batch.one_ended)
                    batch.one_began()
                    place = Slot(self._places)
                    await batch.stream.drained(below=_UNREAD)
                    await place.take()
                    await asyncio.sleep(0)  # many places may be free: let others have their turn in between
        except asyncio.CancelledError:
            failure = None if self._open else ClosedError("the orchestrator was left")
            raise
        except Exception as error:  # noqa: BLE001  # the caller's iterable: passed on when the rest has ended
            failure = error
            what = error if isinstance(error, InvalidRequestError) else type(error).__name__
            _log.error("no more requests are drawn after the first %d: %s", self._drawn, what)
        finally:
            place.release()
            batch.all_drawn(failure)

    async def _plan(self, batch: Batch) -> None:
        """Write down all that is to come, as far as that can be known, so that it can be gone on with."""
        journal = self._terms.journal
        if journal.path is None:
            return
        planned = [
            (request.reference or _reference(n), request)
            for n, request in enumerate(batch.to_draw, start=self._drawn + 1)
        ]
        counts = Counter(reference for reference, _ in planned)
        if twice := [reference for reference, count in counts.items() if count > 1]:
            raise InvalidRequestError(
                [f"with a journal each reference is used once: {one!r}" for one in twice]
            )
        for reference, request in planned:
            journal.plan(Intent(reference, request.account_id, body_of(request), str(uuid4())))
        await journal.settled()


def _reference(number: int) -> str:
    return f"request-{number:04}"


def _kind(value: object) -> str:
    return type(value).__name__
