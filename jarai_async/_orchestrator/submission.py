"""The submit of one job: written to the journal, sent when it may be, and never paid for twice.

What the journal keeps, and what follows from it, is described in `_journal.entries`.
"""

import asyncio
import logging
from uuid import uuid4

from jarai_async import _clock
from jarai_async._api import endpoints
from jarai_async._api.codec import body_of
from jarai_async._api.models import Production, ProductionRequest
from jarai_async._engine import Engine
from jarai_async._errors import (
    ClosedError,
    InvalidRequestError,
    JaraiError,
    JournalError,
    UncertainSubmitError,
)
from jarai_async._events import OutcomeState
from jarai_async._http.request_log import RequestLog
from jarai_async._http.sender import SubmitPermit
from jarai_async._http.submit_retry import ATTEMPTS, SubmitRetry
from jarai_async._journal.entries import Intent, Stage
from jarai_async._journal.identity import differences
from jarai_async._journal.journal import Journal
from jarai_async._orchestrator.state import JobState

_log = logging.getLogger("jarai_async")

End = tuple[OutcomeState, JaraiError | None]


class Submission:
    """The submit of one job."""

    __slots__ = ("_engine", "_journal", "_scope", "_settled", "_state")

    def __init__(self, state: JobState) -> None:
        self._state = state
        self._engine = state.context.engine
        self._journal = state.context.journal
        self._scope: asyncio.Timeout | None = None
        self._settled: asyncio.Future[None] | None = None

    async def find_or_plan(self) -> Intent:
        """Return what the journal knows of the request, or plan it.

        Raises JournalError, and InvalidRequestError where its reference belongs to another request.
        """
        state = self._state
        intent = state.intent or await self._journal.find(state.reference)
        if intent is None or not is_same_request(intent, state.request):
            intent = new_intent(state.reference, state.request)
            self._journal.put(intent)
        state.intent = intent
        return intent

    async def submit(self, intent: Intent) -> End | None:
        """Submit; return how the job ends where there is no production to watch.

        Raises ClosedError if the client was closed, or the orchestrator's block ended, before that was
        decided.
        """
        self._state.in_doubt = intent.stage is Stage.IN_DOUBT
        try:
            async with asyncio.timeout(None) as self._scope:  # so that `cancel_unsent` can end the waiting
                production = await self._submit_until_decided(intent)
        except TimeoutError:
            production = None
        except UncertainSubmitError as error:
            return OutcomeState.UNCERTAIN, error
        except ClosedError:
            raise  # the user closed the client: that says nothing about the production
        except JaraiError as error:
            return OutcomeState.REJECTED, error
        finally:
            self._scope = None
            self._settle()
        if production is None:
            return self._cancelled(intent)
        await self._record_accepted(intent, production)
        return None

    async def _submit_until_decided(self, intent: Intent) -> Production | None:
        """Submit as often as it takes; None where no further submit may be sent."""
        state, sender = self._state, self._engine.sender
        call = endpoints.submit(intent.account_id, intent.body, intent.key)
        retry = SubmitRetry(
            call,
            self._engine.random,
            honours_keys=sender.idempotency_keys,
            in_doubt=state.in_doubt,
            sent_at=intent.sent_at,
        )
        production, delay = None, 0.0
        while production is None and state.may_submit:
            retry.check_doubt(_clock.wall())
            await state.slot.acquire()  # it was released if the account had no productions left for the day
            try:
                if delay:
                    await self._engine.scheduler.sleep(delay)
                async with sender.submit_slot(intent.account_id, state.slot) as permit:
                    if state.may_submit and state.slot.is_held:
                        retry.before_attempt(_clock.wall())
                        try:
                            await self._record_sending(intent, permit)
                            if state.may_submit:
                                production = await sender.submit(permit, call, state.log)
                        finally:
                            self._record_sent(intent, permit, production)
            except JaraiError as error:
                retry.after_failure(error, _clock.wall(), outlast_outage=sender.reached)
                if retry.failures == ATTEMPTS:
                    _log.warning("%s is not accepted yet, trying again: %s", state.reference, error)
                delay = retry.delay(error) if state.may_submit else 0.0
        return production

    async def _record_sending(self, intent: Intent, permit: SubmitPermit) -> None:
        """Write to the journal that the submit is about to be sent: before the first byte leaves."""
        intent.stage, intent.sent_at = Stage.SENDING, intent.sent_at or _clock.wall()
        await self._journal.save(intent)
        self._state.permit = permit

    def _record_sent(self, intent: Intent, permit: SubmitPermit, production: Production | None) -> None:
        state = self._state
        state.permit = None
        state.in_doubt = production is None and (state.in_doubt or permit.in_doubt)
        if production is None:
            intent.stage = Stage.IN_DOUBT if state.in_doubt else Stage.PLANNED
            if not state.in_doubt:
                intent.sent_at = None  # as if it had never been sent: its key counts as unused
            self._journal.put(intent)

    async def _record_accepted(self, intent: Intent, production: Production) -> None:
        self._state.accepted = production  # before anything is awaited: it may be cancelled from here on
        intent.production, intent.stage = production, Stage.ACCEPTED
        intent.submitted_at = _clock.wall()
        try:
            await self._journal.save(intent)
        except JournalError as error:
            reference = self._state.reference
            _log.error("%s was accepted as %s, keep that id: %s", reference, production.id, error)

    def _cancelled(self, intent: Intent) -> End:
        """Return how a stopped submit ends. Raises ClosedError unless a cancel was requested."""
        if self._state.in_doubt:
            message = "the submit was stopped while it may have been accepted"
            return OutcomeState.UNCERTAIN, UncertainSubmitError(message, idempotency_key=intent.key)
        if not self._state.cancel_requested:
            raise ClosedError("the orchestrator's block ended before the request was submitted")
        return OutcomeState.CANCELLED, None

    # --- Shutdown and cancel -----------------------------------------------------------------------

    def cancel_unsent(self) -> None:
        """Send no further submit. One that is on its way is allowed to complete."""
        self._state.may_submit = False
        scope, self._scope = self._scope, None
        if scope is not None and not self._state.is_sending:
            scope.reschedule(_clock.monotonic())

    def settled(self) -> asyncio.Future[None]:
        """Return a future that is done when no submit is on its way any more."""
        self._settled = asyncio.get_running_loop().create_future()
        return self._settled

    def _settle(self) -> None:
        if self._settled is not None and not self._settled.done():
            self._settled.set_result(None)


def new_intent(reference: str, request: ProductionRequest) -> Intent:
    """Return the intent of a request that the journal does not know."""
    return Intent(reference, request.account_id, body_of(request), str(uuid4()))


def is_same_request(intent: Intent, request: ProductionRequest) -> bool:
    """Whether an intent is of this request; False where another request was planned but never sent.

    Raises JournalError, and InvalidRequestError where another request may have been paid for.
    """
    changes = [*differences(intent.request(), request)]
    if changes and intent.stage is not Stage.PLANNED:
        message = f"the reference {intent.reference[:100]!r} belongs to another request in the journal: "
        raise InvalidRequestError([f"{message}{'; '.join(changes)}"])
    return not changes


async def resolve(engine: Engine, journal: Journal, reference: str, production_id: str | None) -> Intent:
    """Decide a submit that is in doubt: it created this production, or (None) it may be submitted again.

    Raises InvalidRequestError where no submit is in doubt, ApiError, JournalError.
    """
    intent = await _in_doubt(journal, reference)
    if production_id is None:
        intent.reset_for_resubmit(str(uuid4()))
    else:
        call = endpoints.fetch(production_id)
        production = await engine.sender.execute(call, RequestLog())
        intent = await _in_doubt(journal, reference)  # it may have been decided in the meantime
        intent.production = production
        intent.stage, intent.submitted_at = Stage.ACCEPTED, intent.sent_at
    await journal.save(intent)
    return intent


async def _in_doubt(journal: Journal, reference: str) -> Intent:
    intent = await journal.find(reference)
    if intent is None or intent.stage is not Stage.IN_DOUBT:
        raise InvalidRequestError([f"no submit with the reference {reference!r} is in doubt"])
    return intent
