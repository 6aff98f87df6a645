"""One of any number of processes that run the productions of a queue.

What a worker owns, and what becomes of it after its death, is decided by the rows of the database
(`_postgres.workers`). Inside, it is an orchestrator with another journal and another rate limit.
"""

import asyncio
import contextlib
import logging
import math
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from contextvars import Context
from functools import partial
from os import PathLike
from types import TracebackType
from typing import Any, Self, TypeVarTuple
from uuid import uuid4

from jarai_async import _clock
from jarai_async._api.models import Polling
from jarai_async._client import JaraiClient
from jarai_async._errors import (
    ClosedError,
    ConfigurationError,
    JaraiError,
    JournalError,
)
from jarai_async._events import Outcome
from jarai_async._journal.database import Server
from jarai_async._journal.entries import Intent, Stage
from jarai_async._orchestrator.job import WITHOUT_SLOT
from jarai_async._orchestrator.orchestrator import Orchestrator
from jarai_async._orchestrator.slot import Slot
from jarai_async._orchestrator.state import JobState
from jarai_async._orchestrator.statistics import Statistics
from jarai_async._postgres import schema
from jarai_async._postgres.commands import COMMANDS, Commands, unknown_request
from jarai_async._postgres.database import Database, Listener
from jarai_async._postgres.job_queue import JobQueue
from jarai_async._postgres.journal import PostgresJournal
from jarai_async._postgres.rate_limit import SharedLimiter
from jarai_async._postgres.webhook_events import WEBHOOKS
from jarai_async._postgres.workers import Workers
from jarai_async._postgres.writer import ORPHANS
from jarai_async._tasks import start, stop, uninterrupted
from jarai_async._worker.decisions import Decisions
from jarai_async._worker.inbox import WebhookInbox

_log = logging.getLogger("jarai_async")

_RENEWALS = 5  # of a lease, before it would end
_LOOK_FOR_LOST = 60.0  # seconds between two looks for requests that procrastinate has lost
_LATE_ANSWER = 120.0  # seconds in which the answer to the submit of a dead worker may still be recorded
_CLAIMED_AT_ONCE = 100  # requests of dead workers
_LOOK = 2.0  # seconds between two looks at a request of another worker
_GRACE = 10.0  # seconds that leaving waits for a database that is away

Args = TypeVarTuple("Args")


class Worker:
    """Runs the productions of a `Queue`, together with all other workers of its database.

        async with JaraiClient() as client, Worker(client, "postgresql://db/jarai") as worker:
            await worker.run()

    All workers share the rate limit of the API key. Each takes a request when it has a slot; if it dies, is
    cut off or is paused for longer than its lease, the others continue with its productions. Leaving the
    block hands them over at once.

    - `concurrency`, `download_to`, `polling`, `deadline`, `collect_for_review`, `expired_retries`: as those
      of `Orchestrator`. `download_to` is a folder that all workers see, or a URL of object storage.
    - `lease`: seconds without a sign of life after which a worker counts as dead.
    - `name`: what the database and the log call it; by default its host and process.

    Raises ConfigurationError. Entering the block raises ConfigurationError where `download_to` cannot be used
    or the key provider fails, and JournalError where the database cannot be used or was made with another
    server, or with a live key rather than one for the sandbox. Later, an outage of the database delays
    everything and fails nothing: meanwhile nothing is sent.
    """

    def __init__(
        self,
        client: JaraiClient,
        url: str,
        *,
        concurrency: int = 100,
        download_to: str | PathLike[str] | None = None,
        polling: Polling | None = None,
        deadline: float | None = None,
        collect_for_review: bool = False,
        expired_retries: int = 1,
        lease: float = 15.0,
        name: str | None = None,
    ) -> None:
        if not lease >= 1:
            raise ConfigurationError(f"lease must be 1 second or more, not {lease}")
        self.name: str = name or f"{socket.gethostname()}-{os.getpid()}"
        """What the database and the log call it."""
        worker = uuid4()
        self._client = client
        self._lease = lease
        self._database = Database(url)
        self._jobs = JobQueue(self._database, self._take)
        self._journal = PostgresJournal(self._database, worker, self._on_superseded)
        self._workers = Workers(self._database, self._jobs, worker, self.name, lease)
        self._inbox = WebhookInbox(self._database)
        self._orchestrator = Orchestrator(
            client,
            concurrency=concurrency,
            journal=self._open_journal,
            download_to=download_to,
            polling=polling,
            deadline=deadline,
            collect_for_review=collect_for_review,
            expired_retries=expired_retries,
            webhooks=self._inbox,
        )
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lease_task: list[asyncio.Task[None]] = []
        commands = Commands(self._database)
        self._decisions = Decisions(self._orchestrator, self._journal, commands, self._follow)
        self._is_leaving = False
        self._resources = AsyncExitStack()

    def __repr__(self) -> str:
        return f"<Worker {self.name} of {self.location}, {len(self._orchestrator.jobs)} running>"

    @property
    def location(self) -> str:
        """The URL of its database, without a password."""
        return self._database.location

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as resources:
            await self._database.open()
            resources.push_async_callback(self._database.close)
            await schema.create(self._database)
            await self._jobs.open()
            resources.push_async_callback(self._hand_over)
            await self._workers.renew(0.0, {}, look_for_lost=False)
            resources.push_async_callback(self._stop_tasks)
            engine = self._client.engine
            limit = SharedLimiter(self._database, engine.rate_limit, engine.random, timeout=engine.timeout)
            resources.push_async_callback(limit.close)
            resources.enter_context(engine.sharing(limit))
            await resources.enter_async_context(self._orchestrator)
            self._lease_task = [start(self._keep_lease, limit, name="jarai lease", context=Context())]
            self._tasks.update(self._lease_task)
            self._tasks.add(start(self._inbox.run, name="jarai webhook inbox", context=Context()))
            channels = {ORPHANS: self._look, COMMANDS: self._look, WEBHOOKS: self._inbox.notify}
            resources.push_async_callback(Listener(self._database, channels).close)
            self._resources = resources.pop_all()
        return self

    async def _open_journal(self, server: Callable[[], Awaitable[Server]]) -> PostgresJournal:
        await self._journal.bind(await server())
        return self._journal

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_leaving = True
        timer = _clock.Timer(_clock.monotonic() + _GRACE, self._database.stop_waiting)
        try:
            await uninterrupted(start(self._resources.aclose))
        finally:
            timer.cancel()

    async def _stop_tasks(self) -> None:
        await stop(self._tasks)

    async def _hand_over(self) -> None:
        """Give all requests to the other workers, at once; if the database is away, when the lease ends."""
        with contextlib.suppress(ClosedError):
            await self._workers.leave()

    # --- Requests ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Take requests from the queue, and run them, until this is cancelled.

        Raises ConfigurationError outside of the `async with` block, and JournalError where the database
        refuses to renew the lease, so that other workers continue.
        """
        self._orchestrator.jobs.check_open()
        taking = start(self._jobs.run, self.name, name="jarai queue")
        try:
            done, _ = await asyncio.wait({taking, *self._lease_task}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await stop([taking])

    async def _take(self, reference: str) -> None:
        """Run a request of the queue once there is a slot for its production."""
        await self._decisions.carry_out_pending(reference)  # it may be cancelled already
        slot = Slot(self._orchestrator.context.slots)
        await slot.acquire()
        try:
            intent = await self._journal.claim(reference)
        except BaseException:
            slot.release()
            raise
        if intent is None or self._decisions.is_under_way(reference) or not self._continue(intent, slot):
            slot.release()

    def _continue(self, intent: Intent, slot: Slot) -> bool:
        """Run a request that this worker owns now; return whether its job was started.

        If its submit is in doubt, the former owner gets time to record what it has created: it may only be
        cut off, or have been paused.
        """
        if intent.stage is Stage.IN_DOUBT and not self._may_repeat(intent):
            self._in_background(self._start_later, intent)
            return False
        return self._start(intent, slot)

    def _start(self, intent: Intent, slot: Slot) -> bool:
        """Start the job of a request that this worker owns, unless it runs already."""
        jobs, context, reference = self._orchestrator.jobs, self._orchestrator.context, intent.reference
        if self._is_leaving or jobs.running(reference) is not None:
            return False
        if intent.production is not None and intent.production.status in WITHOUT_SLOT:
            slot.release()
        try:
            request = intent.request()
        except JournalError as error:
            _log.error("%s; no worker can run it", error)
            self._in_background(self._release, intent, True)  # noqa: FBT003  # it has ended
            return False
        jobs.start(JobState(context, request, reference, slot, intent=intent, has_ticket=True))
        self._follow(intent)
        return True

    def _follow(self, intent: Intent) -> None:
        """Release a request when its running job ends."""
        running = self._orchestrator.jobs.running(intent.reference)
        if running is not None:
            running[1].add_done_callback(partial(self._on_end, intent))

    def _on_end(self, intent: Intent, task: "asyncio.Task[Outcome]") -> None:
        if self._is_leaving:
            return
        error = None if task.cancelled() else task.exception()
        if isinstance(error, JaraiError):
            _log.warning("%s is not run any more: %s", intent.reference, error)
        elif error is not None:
            _log.error("the job of %s failed", intent.reference, exc_info=error)
        self._in_background(self._release, intent, not task.cancelled() and error is None)

    async def _release(self, intent: Intent, has_outcome: bool) -> None:  # noqa: FBT001  # of its job
        """Own a request no longer whose job has ended, perhaps with an outcome that is not final."""
        if self._orchestrator.jobs.running(intent.reference) is None:
            is_settled = has_outcome and intent.stage is not Stage.ENDED
            await self._journal.release(intent.reference, is_settled=is_settled)

    def _on_superseded(self, reference: str) -> None:
        """Stop the job of a request that another worker has taken over."""
        _log.warning("another worker has taken over %s", reference)
        running = self._orchestrator.jobs.running(reference)
        if running is not None:
            running[1].cancel()

    # --- The lease ---------------------------------------------------------------------------------

    async def _keep_lease(self, limit: SharedLimiter) -> None:
        """Renew the lease, and look at what the other workers and the users have left to do."""
        look_for_lost_at = -math.inf
        while True:
            self._wake.clear()
            owned, now = set(self._journal.owned), _clock.monotonic()
            renewal = await self._workers.renew(
                self._demand(), self.statistics().to_dict(), look_for_lost=now >= look_for_lost_at
            )
            if now >= look_for_lost_at:
                look_for_lost_at = now + _LOOK_FOR_LOST
            limit.share = renewal.share
            for reference in owned & self._journal.owned - renewal.owned:
                self._journal.superseded(reference)
            # The lease must not end meanwhile: the others are orphans still.
            await self._take_over(renewal.orphans, until=now + self._lease / _RENEWALS)
            for reference in renewal.owned - self._journal.owned:
                await self._take_again(reference)
            for reference in renewal.decided:
                self._in_background(self._decisions.carry_out, reference)
            await _clock.wait_until(now + self._lease / _RENEWALS, self._wake)

    def _demand(self) -> float:
        """Return how much the polls of this worker are worth, for its share of them."""
        return self._client.engine.poller.queue.demand(_clock.monotonic())

    def _look(self, _: str | None) -> None:
        self._wake.set()

    async def _take_over(self, most: int, *, until: float) -> None:
        """Continue with requests of dead workers, whether or not there is a slot: they are in flight."""
        while most > 0 and not self._is_leaving and _clock.monotonic() < until:
            intents = await self._journal.claim_orphans(min(most, _CLAIMED_AT_ONCE))
            if not intents:
                return
            most -= len(intents)
            for intent in intents:
                self._continue(intent, Slot(self._orchestrator.context.slots))

    async def _take_again(self, reference: str) -> None:
        """Continue with a request of which this worker had lost track, or give it up if it has ended."""
        if self._is_leaving:
            return
        intent = await self._journal.claim(reference)
        if intent is None:
            await self._journal.release_ended(reference)
        else:
            self._continue(intent, Slot(self._orchestrator.context.slots))

    def _may_repeat(self, intent: Intent) -> bool:
        return intent.key_honoured and self._orchestrator.context.engine.sender.idempotency_keys

    async def _start_later(self, intent: Intent) -> None:
        await asyncio.sleep(_LATE_ANSWER)
        if await self._journal.find(intent.reference) is intent:
            self._start(intent, Slot(self._orchestrator.context.slots))

    def _in_background(self, function: Callable[[*Args], Coroutine[Any, Any, None]], *args: *Args) -> None:
        async def run() -> None:
            try:
                await function(*args)
            except JaraiError as error:
                if not self._is_leaving:
                    _log.error("%s", error)

        task = start(run, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- For other queues --------------------------------------------------------------------------

    async def produce(self, reference: str) -> Outcome:
        """Run one request to its outcome, unless a live worker does: then wait for that.

        For a queue of your own: call it as often as you like, in any worker, also at the same time and again
        after a crash. The request is in the database, added by `Queue.submit`.

        Raises InvalidRequestError where there is no such request, ClosedError when the block is left,
        JournalError.
        """
        while True:
            outcomes = await self._journal.outcomes(reference)
            if reference in outcomes:
                return outcomes[reference]
            self._orchestrator.jobs.check_open()
            if self._orchestrator.jobs.running(reference) is None:
                intent = await self._journal.claim(reference)
                if intent is not None:
                    self._continue(intent, Slot(self._orchestrator.context.slots))
                elif await self._journal.find(reference) is None:
                    raise unknown_request(reference)
            if (running := self._orchestrator.jobs.running(reference)) is not None:
                await asyncio.wait([running[1]])
                await self._journal.flush()
            else:
                await asyncio.sleep(_LOOK)

    def statistics(self) -> Statistics:
        """Return the figures of this worker; `Queue.statistics` has those of all."""
        return self._orchestrator.statistics()
