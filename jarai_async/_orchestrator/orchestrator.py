"""Many productions at once: a slot for each, one rate limit for all.

Two limits have two names. `concurrency` is how many productions may be in flight. The *rate limit* is how
many requests a minute they may make together, and belongs to the client. A production that waits for a
person's approval gives back its slot, and is still watched.

Requests are drawn as slots become free. Events go into a stream whose writers never wait, so a slow reader
delays only the drawing of further requests.

Each job has its own task, and the tasks belong to the `async with` block, not to the iterator: leaving the
block ends them, and a job cannot end another. (A TaskGroup would cancel all jobs because of one, and wrap the
user's exception.)
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sized
from contextlib import AsyncExitStack
from contextvars import Context
from datetime import timedelta
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID, uuid4

from jarai_async import _clock
from jarai_async._api.models import Polling, ProductionRequest
from jarai_async._api.webhook_models import WebhookEvent
from jarai_async._client import JaraiClient
from jarai_async._downloads.downloader import FILES_AT_ONCE
from jarai_async._downloads.folder import Folder, LocalFolder
from jarai_async._engine import Engine
from jarai_async._errors import ConfigurationError, FileWriteError, InvalidRequestError
from jarai_async._events import Outcome, OutcomeState
from jarai_async._http.retry import Retrier, Retry
from jarai_async._journal.database import Server, journal_path
from jarai_async._journal.entries import Intent, Stage
from jarai_async._journal.history import EventStream
from jarai_async._journal.identity import differences
from jarai_async._journal.journal import SqliteJournal
from jarai_async._journal.protocol import JournalOpener
from jarai_async._orchestrator.checkpoint import Checkpoint
from jarai_async._orchestrator.decisions import known_outcome, not_ended, other_request, retry
from jarai_async._orchestrator.doubts import Doubts
from jarai_async._orchestrator.feeder import feed
from jarai_async._orchestrator.job import Job
from jarai_async._orchestrator.jobs import Jobs
from jarai_async._orchestrator.run import Batch, Requests, Run, warn_of_files
from jarai_async._orchestrator.shutdown import cancel_all, cancel_unsent, log_how_to_continue, stop_drawing
from jarai_async._orchestrator.slot import Slots
from jarai_async._orchestrator.state import JobContext, JobState
from jarai_async._orchestrator.statistics import Monitor, Statistics
from jarai_async._orchestrator.ticket import Ticket
from jarai_async._orchestrator.webhook_match import WebhookMatcher
from jarai_async._orchestrator.webhook_router import WebhookRouter, WebhookSource
from jarai_async._tasks import start, stop, uninterrupted

_log = logging.getLogger("jarai_async")

_FINAL_RETRY = Retry(attempts=12, base=1.0, cap=600.0)  # outlasts an outage of half an hour, on average
_NAMED = 10  # requests in doubt, in a line of the log
_STARTED_AT_ONCE = 100  # jobs that `resume` starts before others may run


class Orchestrator:
    """Runs any number of productions, at most `concurrency` of them in flight.

        async with Orchestrator(client, download_to="deliverables") as orchestrator:
            async for event in orchestrator.run(requests):
                print(event)

    - `concurrency`: productions in flight. Each counts from its submit until it first waits for approval, or
      ends.
    - `journal`: a file that keeps every request. Running the same batch with it again, also after a crash,
      submits nothing twice, returns the outcomes that are known and continues with the rest. Requests are
      identified by their `reference`. `run` makes one from the content of a request that has none, and from
      its occurrence among equal ones, so their order does not matter; `submit` makes a new one each time.
    - `journal_wait`: seconds to wait, on entering the block, for another process that has the journal open:
      the previous one of a rolling deploy.
    - `download_to`: a folder that receives one folder for each production; None downloads nothing. With the
      extra `objects` it may be a URL of object storage, such as "s3://bucket/videos": then the path of a file
      is its key below that URL, and credentials come from the environment.
    - `polling`: bounds of the seconds between two polls of one production; the rate limit decides within
      them.
    - `deadline`: seconds from a production's acceptance until the orchestrator stops waiting for it. With a
      journal it counts across restarts. `submit` can set another one for its request.
    - `collect_for_review`: download deliverables already in `AwaitingApproval`, and at the end those that
      have changed since.
    - `expired_retries`: how often a production that expired before JARAI started it is submitted again.
    - `webhooks`: a `Receiver`. A production is polled immediately when an event arrives, and rarely otherwise
      as far as the webhooks prove reliable. If none arrives, everything works as without a receiver. After a
      submit without a response, an event may show what it has created: if exactly one production fits it (by
      topic, account and time), that one is watched, otherwise it is proposed in the log and in the error.
    - `cancel_on_exit`: cancel all running productions when the block is left, for a minute at most: the
      journal has the cancels that JARAI has not answered by then, and the next process goes on with them.
      Without this option, leaving, also by Ctrl-C, only stops watching: the productions continue.

    Raises ConfigurationError. Entering the block raises ConfigurationError where `download_to` cannot be
    used or the key provider fails, and JournalError where the journal cannot be used or was made with
    another server, or with a live key rather than one for the sandbox. Leaving it without an exception raises
    JournalError where the journal could not be written in the end.
    """

    def __init__(
        self,
        client: JaraiClient,
        *,
        concurrency: int = 100,
        journal: str | PathLike[str] | JournalOpener | None = None,
        journal_wait: float = 0.0,
        download_to: str | PathLike[str] | None = None,
        polling: Polling | None = None,
        deadline: float | None = None,
        collect_for_review: bool = False,
        expired_retries: int = 1,
        webhooks: WebhookSource | None = None,
        cancel_on_exit: bool = False,
    ) -> None:
        _check_arguments(client, concurrency, deadline, polling, webhooks)
        if not journal_wait >= 0:
            raise ConfigurationError(f"journal_wait must be 0 seconds or more, not {journal_wait}")
        router, productions = WebhookRouter(has_receiver=webhooks is not None), dict[str, str]()
        self.context: JobContext = JobContext(
            engine=client.engine,
            journal=SqliteJournal(None),
            slots=Slots(concurrency),
            router=router,
            polling=polling or Polling(),
            deadline=deadline,
            folder=_folder(download_to, client.engine),
            download_slots=asyncio.Semaphore(FILES_AT_ONCE),
            final_retrier=Retrier(_FINAL_RETRY, client.engine.random),
            collect_for_review=collect_for_review,
            expired_retries=expired_retries,
            productions=productions,
            matcher=WebhookMatcher(client.engine, router, productions),
        )
        """What all jobs share."""
        self._open_journal = _opener(journal, journal_wait)
        self._receiver = webhooks
        self._cancel_on_exit = cancel_on_exit
        self.jobs: Jobs = Jobs()
        """The running jobs."""
        self._occurrences = Counter[str]()  # without a journal, a request that is run again is a new one
        self._batches: dict[asyncio.Task[None], Batch] = {}  # by the task that draws their requests
        self._background: set[asyncio.Task[None]] = set()
        self._doubts = Doubts(self.jobs, self.context, self._may_be_drawn)
        self._monitor = Monitor(
            client.engine,
            self.jobs,
            self._batches.values(),
            polling=self.context.polling,
            concurrency=concurrency,
            router=self.context.router,
        )
        self._was_left = False
        self._journal_is_new = False  # and no request has come yet
        self._resources = AsyncExitStack()
        self._remove_listener: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        return f"<Orchestrator {len(self.jobs)} running, at most {self.context.slots.count} in flight>"

    async def __aenter__(self) -> Self:
        self.context.engine.scheduler.check_open()
        async with AsyncExitStack() as resources:  # closes what was opened if a later step fails
            resources.push_async_callback(self.context.folder.close)
            try:
                await self.context.folder.open()
            except FileWriteError as error:  # before anything is paid for
                raise ConfigurationError(f"download_to cannot be used: {error.message}") from None
            journal = await self._open_journal(self.context.engine.server)
            resources.push_async_callback(journal.close)
            self.context.journal = journal
            if (folder := self.context.folder.location) is not None:
                self._journal_is_new = journal.location is not None and await journal.is_new()
                journal.store("folder", {"path": folder})
            checkpoint = await Checkpoint.restore(self.context.engine, journal)
            if checkpoint is not None:
                resources.push_async_callback(checkpoint.close)
            if self._receiver is not None:
                self.context.router.on_unclaimed = self._look_for_created
                self._remove_listener = self._receiver.add_listener(self._on_webhook)
            self._resources = resources.pop_all()
        self.jobs.is_open, self._was_left = True, False
        return self

    async def _on_webhook(self, event: WebhookEvent) -> None:
        """Use an event. Raises ConfigurationError if the receiver runs in another event loop."""
        self.context.engine.scheduler.check_loop()
        await self.context.router.dispatch(event)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.jobs.close()  # before anything is awaited
        self._remove_listener()
        await uninterrupted(start(self._leave))
        if error is None and self.context.journal.failure is not None:
            raise self.context.journal.failure  # what it holds is older than what was reported

    async def _leave(self) -> None:
        async with self._resources:
            try:
                await stop_drawing(self._batches, self._background)
                await cancel_unsent(self.jobs.tasks)
                if self._cancel_on_exit:
                    await cancel_all(self.jobs.tasks)
            finally:
                await self.context.journal.flush()
                location = None if self.context.journal.failure else self.context.journal.location
                log_how_to_continue([job.state for job in self.jobs], location)
                await stop(self.jobs.tasks)
        self._was_left = True
        self.context.journal.history.wake(None)

    # --- Starting jobs -----------------------------------------------------------------------------

    def run(self, requests: Requests) -> Run:
        """Run all requests, and iterate over the events of all of them.

        Requests are drawn as slots become free. The iteration ends when each of them has `Finished`; if the
        iterable raises, that exception is raised after the outcomes of the requests that were drawn. Leaving
        the iteration by `break` stops the drawing (for an iterator that a variable still refers to:
        `aclose()`), but not the watching. Where today's quotas are not enough for a list of requests, a
        warning says when they will be finished.

        A list or another collection is compared with the journal before anything is sent: the iteration
        raises InvalidRequestError for a reference that is used twice or that belongs to another request, and
        for an item that is not a request. An iterator is compared as it is drawn: nothing is drawn after such
        a request, and the error is raised at the end. An async generator is closed when no more is drawn.

        Raises ConfigurationError outside of the `async with` block, and InvalidRequestError for other
        arguments.
        """
        self.jobs.check_open()
        if not isinstance(requests, Iterable | AsyncIterable):
            raise InvalidRequestError([f"run() takes an iterable of requests, not {_type_name(requests)}"])
        batch = Batch(requests, self._occurrences if self.context.journal.location is None else Counter())
        if isinstance(requests, Sized):
            self._journal_is_new = False  # the batch is compared with the files
        self._warn_if_new()
        feeder = start(feed, batch, self.jobs, self.context, name="jarai feeder")
        self._batches[feeder] = batch
        feeder.add_done_callback(self._batches.pop)
        self._add_background(start(self._monitor.warn_if_over_quota, batch, name="jarai quota check"))
        feeder.add_done_callback(lambda _: batch.all_drawn(None))  # also where it never started
        return Run(batch, feeder, self.context.journal)

    def submit(self, request: ProductionRequest, *, deadline: float | None = None) -> Ticket:
        """Submit one request as soon as a slot is free, and return what to await and to cancel.

        Without a `reference` it is a new request each time. A reference that is known belongs to one request:
        the ticket is that of this request, which is not submitted again.

        `deadline`: seconds from acceptance, in place of the orchestrator's. The journal keeps it; a later
        submit may set another one, unless the request is still running. None leaves it as it is.

        Raises ConfigurationError outside of the `async with` block and for a deadline that is not positive,
        and InvalidRequestError where the reference belongs to another request that is running. If another
        request with it is in the journal, the ticket raises InvalidRequestError, and nothing is sent.
        """
        _check_deadline(deadline)
        if not isinstance(request, ProductionRequest):
            raise InvalidRequestError([f"expected a ProductionRequest, not {_type_name(request)}"])
        self.jobs.check_open()
        reference = request.reference or f"submit-{uuid4()}"
        running = self.jobs.running(reference)
        if running is None:
            self._warn_if_new()
            state = JobState(self.context, request, reference, deadline=deadline, has_ticket=True)
            return Ticket(self.jobs, *self.jobs.start(state))
        if changes := [*differences(running[0].state.request, request)]:
            raise other_request(reference, changes)
        return Ticket(self.jobs, *running)

    async def ticket(self, reference: str) -> Ticket | None:
        """Return the ticket of a request that is running or that the journal knows; else None.

        It has the outcome of the last run, also one that is not final. The ticket of a request that has none
        and is not running raises ClosedError: `resume` or `submit` continues with it. Raises JournalError,
        and ConfigurationError outside of the `async with` block.
        """
        self.jobs.check_open()
        intent = await self.context.journal.find(reference)
        if intent is None:
            return None
        is_running = self.jobs.running(reference) is not None
        last_event = None if is_running else await self.context.journal.last_event(intent)
        return self._known_ticket(intent, known_outcome(intent, last_event))

    async def tickets(self, state: OutcomeState | None = None) -> list[Ticket]:
        """Return the tickets of all requests that are running or that the journal knows, in their order.

        Or only those whose outcome is `state`. Raises JournalError, and ConfigurationError outside of the
        `async with` block.
        """
        self.jobs.check_open()
        journal, tickets = self.context.journal, []
        intents, last_events = await journal.intents(state), await journal.last_events(state)
        for intent in intents:
            event = last_events.get(intent.reference)
            if event is not None and event.sequence != intent.sequence:
                event = await journal.last_event(intent)  # a newer one was written after the others were read
            outcome = None if self.jobs.running(intent.reference) else known_outcome(intent, event)
            if state is None or (outcome is not None and outcome.state == state):
                tickets.append(self._known_ticket(intent, outcome))
        return tickets

    async def resume(self) -> list[Ticket]:
        """Continue with every request of the journal that has not ended, and return their tickets.

        A submit in doubt ends as `uncertain` again, as with `run`. Raises JournalError, and
        ConfigurationError outside of the `async with` block.
        """
        self.jobs.check_open()
        unfinished = await self.context.journal.unfinished()
        stages = Counter(intent.stage for intent in unfinished if not self.jobs.running(intent.reference))
        if stages:
            counts = ", ".join(f"{count} {stage}" for stage, count in stages.items())
            doubts = [repr(intent.reference) for intent in unfinished if intent.stage is Stage.IN_DOUBT]
            named = ", ".join(doubts[:_NAMED]) + (", ..." if len(doubts) > _NAMED else "")
            advice = f"; decide those in doubt with `Orchestrator.resolve`: {named}" if doubts else ""
            level = logging.WARNING if advice else logging.INFO
            _log.log(level, "resuming requests of the journal: %s%s", counts, advice)
        tickets: dict[str, Ticket] = {}
        for intent in sorted(unfinished, key=lambda intent: intent.stage is not Stage.ACCEPTED):
            self.jobs.check_open()
            # With its intent it reads nothing before it asks for a slot: what is in flight is the first.
            started = self.jobs.running(intent.reference) or self.jobs.start(
                JobState.of(self.context, intent, has_ticket=True)
            )
            tickets[intent.reference] = Ticket(self.jobs, *started)
            if len(tickets) % _STARTED_AT_ONCE == 0:
                await asyncio.sleep(0)  # the first of them submit and poll already
        return [tickets[intent.reference] for intent in unfinished]

    async def forget(self, *references: str, older_than: timedelta | None = None) -> list[str]:
        """Delete requests that have ended from the journal, with their events, and return their references.

        These are the `references`, and all that ended more than `older_than` ago. Then a request with such a
        reference is a new one, and is paid for again. Files are not deleted. The journal's file becomes
        smaller. A reference that the journal does not know is left out of the result.

        Raises InvalidRequestError, and deletes nothing, for a reference that has not ended with a final
        outcome, also one that is `uncertain`; JournalError, and ConfigurationError outside of the
        `async with` block.
        """
        self.jobs.check_open()
        problems = []
        for reference in references:
            if self.jobs.running(reference):
                problems.append(f"{reference!r} is still running")
            elif (intent := await self.context.journal.find(reference)) and intent.stage is not Stage.ENDED:
                problems.append(not_ended(intent))
        if problems:
            raise InvalidRequestError(problems)
        before = None if older_than is None else (_clock.utc() - older_than).timestamp()
        return await self.context.journal.forget(references, ended_before=before)

    @property
    def cursor(self) -> int:
        """The cursor of the newest event, 0 before the first: `events(after=cursor)` gives all later ones.

        Read it before `tickets()`: then no event is missing between the list and the events.
        """
        return self.context.journal.history.delivered

    def events(self, after: int = 0) -> EventStream:
        """Iterate over the events of all requests behind a cursor, which every `event.cursor` is.

        With a journal these are also the events of earlier processes, and the cursors stay valid: a reader
        that continues with `after=` misses no event and receives none twice. Without one, the newest 10,000
        requests that have ended are kept. Events that are read from the journal have no `raw` and no signed
        URLs. The iteration ends when the block is left. It raises JournalError.

        Raises InvalidRequestError for a cursor behind the newest event, which is of another journal, and
        ConfigurationError outside of the `async with` block.
        """
        self.jobs.check_open()
        return EventStream(self.context.journal.history, after, None, lambda: self._was_left)

    async def resolve(
        self, reference: str, *, production_id: str | UUID | None = None, resubmit: bool = False
    ) -> Ticket:
        """Decide what became of a submit that ended as `uncertain`, and continue with it.

        Pass the `production_id` that JARAI Studio shows for it, and it is watched; or `resubmit=True` if it
        was never created: then it is submitted again, with a new key. If its cancel is recorded, the
        production is cancelled, or the request ends as cancelled, without a submit. The production is read,
        and its topic, account and time of creation are compared with the request, as far as the server
        reports them (these fields are inferred); `production` of the ticket has them. Another decision
        replaces this one until the request has ended or was submitted again; the earlier ticket then raises
        ClosedError. If two requests were decided the wrong way round, the right decision for one of them
        exchanges their productions.

        Raises InvalidRequestError where there is nothing to decide, where the production belongs to another
        reference and where it does not fit the request; NotFoundError where JARAI does not know it; ApiError,
        JournalError; ConfigurationError outside of the `async with` block.
        """
        if (production_id is None) != resubmit:
            raise InvalidRequestError(["resolve() takes either production_id or resubmit=True"])
        self.jobs.check_open()
        return Ticket(self.jobs, *await self._doubts.resolve(reference, production_id))

    async def retry(self, reference: str) -> Ticket:
        """Submit a request again that was rejected, failed or was cancelled, and return its new ticket.

        Nothing else does that once the journal has the outcome. Raises InvalidRequestError where the journal
        has no such outcome, ConfigurationError outside of the `async with` block, JournalError.
        """
        self.jobs.check_open()
        if self.jobs.running(reference) or self._may_be_drawn(reference):
            raise InvalidRequestError([f"{reference!r} is still running"])
        intent = await retry(self.context.journal, reference)
        return Ticket(self.jobs, *self.jobs.start(JobState.of(self.context, intent, has_ticket=True)))

    def statistics(self) -> Statistics:
        """Return what was sent, what the rate limit has left, and when everything is expected to end."""
        return self._monitor.statistics(self.jobs.finished)

    def _known_ticket(self, intent: Intent, outcome: Outcome | None) -> Ticket:
        """Return the ticket of a request of the journal."""
        if (running := self.jobs.running(intent.reference)) is not None:
            return Ticket(self.jobs, *running)
        state = JobState.of(self.context, intent, has_ticket=True)
        state.accepted = intent.production
        end: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if outcome is None:
            end.cancel()
        else:
            end.set_result(outcome)
        return Ticket(self.jobs, Job(state), end)

    def _warn_if_new(self) -> None:
        if self._journal_is_new:
            self._journal_is_new = False
            self._add_background(start(warn_of_files, self.context, name="jarai journal check"))

    def _may_be_drawn(self, reference: str) -> bool:
        return any(batch.may_draw(reference) for batch in self._batches.values())

    def _look_for_created(self, account_id: str) -> None:
        if self.jobs.is_open:
            name, context = "jarai webhook match", Context()  # not that of the webhook's request
            self._add_background(start(self._doubts.look_for_created, account_id, name=name, context=context))

    def _add_background(self, task: asyncio.Task[None]) -> None:
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _folder(download_to: str | PathLike[str] | None, engine: Engine) -> Folder:
    """Return where files go. Raises ConfigurationError for a URL that cannot be used."""
    if isinstance(download_to, str) and "://" in download_to:
        try:
            from jarai_async._downloads.object_folder import ObjectFolder  # noqa: PLC0415  # an extra
        except ImportError as error:
            message = f'{error.name} is missing: pip install "jarai-async[objects]"'
            raise ConfigurationError(message) from None
        return ObjectFolder(download_to, engine.disk, engine.downloader)
    path = None if download_to is None else Path(download_to).absolute()
    return LocalFolder(path, engine.disk, engine.downloader)


def _opener(journal: str | PathLike[str] | JournalOpener | None, wait: float) -> JournalOpener:
    """Return what opens the journal. Raises ConfigurationError for what is not the path of a file."""
    if callable(journal):
        return journal
    path = None if journal is None else journal_path(journal)

    async def open_file(server: Callable[[], Awaitable[Server]]) -> SqliteJournal:
        return await SqliteJournal.open(path, server=None if path is None else await server(), wait=wait)

    return open_file


def _check_arguments(
    client: object, concurrency: object, deadline: float | None, polling: object, webhooks: object
) -> None:
    if not isinstance(client, JaraiClient):
        raise ConfigurationError(f"client must be a JaraiClient, not {_type_name(client)}")
    if not isinstance(concurrency, int) or concurrency < 1:
        raise ConfigurationError(f"concurrency must be an integer of 1 or more, not {concurrency!r}")
    _check_deadline(deadline)
    if polling is not None and not isinstance(polling, Polling):
        raise ConfigurationError(f"polling must be a Polling, not {_type_name(polling)}")
    if webhooks is not None and not hasattr(webhooks, "add_listener"):
        raise ConfigurationError(f"webhooks must be a Receiver, not {_type_name(webhooks)}")


def _check_deadline(deadline: float | None) -> None:
    if deadline is not None and not deadline > 0:
        raise ConfigurationError(f"deadline must be more than 0 seconds, not {deadline}")


def _type_name(value: object) -> str:
    return type(value).__name__
