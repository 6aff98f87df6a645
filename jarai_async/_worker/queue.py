"""A queue of requests in PostgreSQL, for any process: it needs no API key, and sends nothing to JARAI."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from types import TracebackType
from typing import Self
from uuid import UUID, uuid4

from jarai_async import _clock
from jarai_async._api.models import ProductionRequest, parse_id
from jarai_async._api.webhook_models import WebhookEvent
from jarai_async._errors import ConfigurationError, InvalidRequestError
from jarai_async._events import OutcomeState
from jarai_async._journal.history import EventStream
from jarai_async._journal.identity import differences
from jarai_async._orchestrator.decisions import is_same_request, new_intent, not_ended, other_request
from jarai_async._orchestrator.statistics import Statistics
from jarai_async._orchestrator.webhook_router import WebhookSource
from jarai_async._postgres import schema, webhook_events
from jarai_async._postgres.commands import COMMANDS, Kind
from jarai_async._postgres.database import Connection, Database, Listener, rows
from jarai_async._postgres.job_queue import JobQueue
from jarai_async._postgres.journal import PostgresJournal, is_storable
from jarai_async._postgres.writer import EVENTS, ORPHANS, stored
from jarai_async._worker.follower import Follower
from jarai_async._worker.queue_ticket import QueueTicket
from jarai_async._worker.requests import Requests
from jarai_async._worker.totals import read_statistics

_RESUME = """
UPDATE jarai.requests SET is_settled = false WHERE is_settled AND stage <> 'ended' AND worker IS NULL
    RETURNING reference, stage
"""
_INSERT = """
INSERT INTO jarai.requests
    (account_id, key, body, stage, state, ended_at, kept, production_id, status, reference)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (reference) DO NOTHING RETURNING id
"""


class Queue:
    """Requests for the workers of one database: add them, wait for them, decide about them, anywhere.

        async with Queue("postgresql://db/jarai") as queue:
            ticket = await queue.submit(request)
            outcome = await ticket

    It needs no API key, and sends nothing to JARAI: that is what `Worker` is for. A process may be killed at
    any time; what `submit` has returned is kept, and a ticket of the same reference waits for the same
    request.

    Raises ConfigurationError for what is not the URL of a PostgreSQL database. Entering the block raises
    JournalError where the database cannot be used. Later, an outage of the database delays everything and
    fails nothing.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._journal = PostgresJournal(self._database, uuid4(), lambda _: None)
        self._jobs = JobQueue(self._database)
        self._requests = Requests(self._database, self._journal)
        self._resources = AsyncExitStack()

    def __repr__(self) -> str:
        return f"<Queue {self._database.location}>"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as resources:
            await self._database.open()
            resources.push_async_callback(self._database.close)
            await schema.create(self._database)
            await self._jobs.open()
            follower = Follower(self._journal, await self._journal.latest())
            resources.push_async_callback(follower.close)
            listener = Listener(
                self._database, {EVENTS: follower.notify, COMMANDS: self._requests.on_decided}
            )
            resources.push_async_callback(listener.close)
            self._resources = resources.pop_all()
        self._requests.is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._requests.close()
        await self._resources.aclose()

    # --- Requests ----------------------------------------------------------------------------------

    async def submit(self, request: ProductionRequest, *, deadline: float | None = None) -> QueueTicket:
        """Add a request, and return its ticket once the database has it: then it cannot be lost.

        Without a `reference` it is a new request each time. A reference that is known belongs to one request:
        the ticket is that of this request, which is not submitted again. `deadline`: seconds from acceptance,
        in place of the worker's.

        Raises InvalidRequestError where the reference belongs to another request; ConfigurationError outside
        of the `async with` block and for a deadline that is not positive; ClosedError, JournalError.
        """
        self._check_open()
        if not isinstance(request, ProductionRequest):
            raise InvalidRequestError([f"expected a ProductionRequest, not {type(request).__name__}"])
        if deadline is not None and not deadline > 0:
            raise ConfigurationError(f"deadline must be more than 0 seconds, not {deadline}")
        intent = new_intent(request.reference or f"submit-{uuid4()}", request)
        if not is_storable(intent.reference):
            raise InvalidRequestError([f"reference {intent.reference!r:.100} cannot be stored as text"])
        intent.deadline = deadline

        async def insert(connection: Connection) -> bool:
            row = (*stored(intent), intent.reference)
            added = await rows(connection, _INSERT, row)
            if added:
                await self._jobs.put([intent.reference], connection)
            return bool(added)

        if await self._database.transaction(insert):
            return QueueTicket(self._requests, intent, None)
        known = await self._requests.read(intent.reference)
        if not is_same_request(known[0], request):
            raise other_request(intent.reference, differences(known[0].request(), request))
        return QueueTicket(self._requests, *known)

    async def ticket(self, reference: str) -> QueueTicket | None:
        """Return the ticket of a request; None if there is none with this reference.

        Raises ConfigurationError outside of the `async with` block, ClosedError, JournalError.
        """
        self._check_open()
        try:
            return QueueTicket(self._requests, *await self._requests.read(reference))
        except InvalidRequestError:
            return None

    async def tickets(self, state: OutcomeState | None = None) -> list[QueueTicket]:
        """Return the tickets of all requests, in their order, or only those whose outcome is `state`.

        Raises as `ticket`.
        """
        self._check_open()
        intents, outcomes = await self._journal.intents(state), await self._journal.outcomes()
        tickets = [QueueTicket(self._requests, one, outcomes.get(one.reference)) for one in intents]
        return [
            one
            for one in tickets
            if state is None or (one.known_outcome and one.known_outcome.state is state)
        ]

    async def cursor(self) -> int:
        """Return the cursor of the newest event: `events(after=cursor)` gives all later ones.

        Read it before `tickets()`: then no event is missing between the list and the events. Raises as
        `ticket`.
        """
        self._check_open()
        return await self._journal.latest()

    def events(self, after: int = 0) -> EventStream:
        """Iterate over the events of all requests behind a cursor, which every `event.cursor` is.

        A reader that continues with `after=` the cursor of the last event that it has handled misses none and
        receives none twice, in any process. The iteration ends when the block is left. It raises
        InvalidRequestError for a cursor behind the newest event, which is of another database; JournalError.

        Raises ConfigurationError outside of the `async with` block.
        """
        self._check_open()
        return EventStream(self._journal.history, after, None, lambda: not self._requests.is_open)

    async def forget(self, *references: str, older_than: timedelta | None = None) -> list[str]:
        """Delete requests that have ended, with their events, and return their references.

        These are the `references`, and all that ended more than `older_than` ago. Raises InvalidRequestError,
        and deletes nothing, for a reference that has not ended with a final outcome; as `ticket`.
        """
        self._check_open()
        found = [await self._journal.find(reference) for reference in references]
        problems = [not_ended(one) for one in found if one is not None and one.outcome_state is None]
        if problems:
            raise InvalidRequestError(problems)
        before = None if older_than is None else (_clock.utc() - older_than).timestamp()
        return await self._journal.forget(references, ended_before=before)

    async def statistics(self) -> Statistics:
        """Return what all live workers have sent, and where all requests of the queue stand.

        `finished` counts those about which a user has to decide, too. `expected_finish` is that of the
        requests which workers have taken: those that wait for one are not counted. Raises as `ticket`.
        """
        self._check_open()
        return await read_statistics(self._database)

    async def resume(self) -> int:
        """Let the workers look again at every request whose outcome was not final; return how many there are.

        Those are `timed_out`, `not_found`, `inaccessible`, and `published` with files that are missing.
        `uncertain` ones end as that again, until `resolve` decides them. Raises as `ticket`.
        """
        self._check_open()

        async def resume(connection: Connection) -> int:
            resumed = await rows(connection, _RESUME)
            await self._jobs.put(
                [reference for reference, stage in resumed if stage == "planned"], connection
            )
            await connection.execute("SELECT pg_notify(%s, '')", (ORPHANS,))
            return len(resumed)

        return await self._database.transaction(resume)

    # --- Decisions ---------------------------------------------------------------------------------

    async def retry(self, reference: str) -> QueueTicket:
        """Submit a request again that was rejected, failed or was cancelled, and return its ticket.

        A worker does that; this waits for it. Raises InvalidRequestError where there is no such outcome; as
        `ticket`.
        """
        return await self._decided_ticket(reference, "retry", None)

    async def resolve(
        self, reference: str, *, production_id: str | UUID | None = None, resubmit: bool = False
    ) -> QueueTicket:
        """Decide what became of a submit that ended as `uncertain`, and continue with it.

        As `Orchestrator.resolve`; a worker reads the production, and this waits for it. Raises as that, and
        as `ticket`.
        """
        if (production_id is None) != resubmit:
            raise InvalidRequestError(["resolve() takes either production_id or resubmit=True"])
        argument = None if production_id is None else parse_id(production_id)
        return await self._decided_ticket(reference, "resolve", argument)

    async def _decided_ticket(self, reference: str, kind: Kind, argument: str | None) -> QueueTicket:
        self._check_open()
        await self._requests.decide(reference, kind, argument)
        return QueueTicket(self._requests, *await self._requests.read(reference))

    # --- Webhooks ----------------------------------------------------------------------------------

    def listen(self, receiver: WebhookSource) -> Callable[[], None]:
        """Hand the events of a receiver to the workers; return a function that ends that.

        The response to JARAI is sent once the database has the event.
        """
        return receiver.add_listener(self._on_webhook)

    async def _on_webhook(self, event: WebhookEvent) -> None:
        await webhook_events.record(self._database, event)

    def _check_open(self) -> None:
        if not self._requests.is_open:
            raise ConfigurationError("use the queue inside its `async with` block")
