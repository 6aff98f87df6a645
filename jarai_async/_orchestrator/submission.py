"""The submit of one job: written to the journal, sent when it may be, and never paid for twice.

What the journal keeps, and what follows from it, is described in `_journal.entries`.
"""

import asyncio
import logging

from jarai_async import _clock
from jarai_async._api import endpoints
from jarai_async._api.models import Production
from jarai_async._errors import (
    ClosedError,
    JaraiError,
    JournalError,
    NoResponseError,
    UncertainSubmitError,
)
from jarai_async._events import OutcomeState
from jarai_async._http.sender import SubmitPermit
from jarai_async._http.submit_retry import ATTEMPTS, SubmitRetry, describe_doubt, describe_request
from jarai_async._journal.entries import Intent, Stage
from jarai_async._orchestrator.decisions import is_same_request, new_intent
from jarai_async._orchestrator.state import JobState
from jarai_async._orchestrator.waiting import repetition_waits, slot_waits
from jarai_async._waiting import Waiting, WaitReason

_log = logging.getLogger("jarai_async")

_WAIT_FOR_WEBHOOKS = 60.0  # seconds, after a submit without a response

End = tuple[OutcomeState, JaraiError | None]


class Submission:
    """The submit of one job."""

    __slots__ = ("_engine", "_journal", "_place", "_scope", "_search", "_settled", "_state", "place")

    def __init__(self, state: JobState) -> None:
        self._state = state
        self._engine = state.context.engine
        self._journal = state.context.journal
        self.place: int = self._engine.sender.account_queues.new_place()
        """Its place among all submits, in the order of the calls of `submit`."""
        self._place = self.place
        self._scope: asyncio.Timeout | None = None
        self._search: asyncio.Timeout | None = None  # for what a submit in doubt has created
        self._settled: asyncio.Future[None] | None = None

    async def find_or_plan(self) -> Intent:
        """Return what the journal knows of the request, or plan it.

        Then it is on the disk, before it waits for a slot. Raises JournalError, and InvalidRequestError where
        its reference belongs to another request.
        """
        state = self._state
        intent = state.intent or await self._journal.find(state.reference)
        is_known = intent is not None and is_same_request(intent, state.request)
        if intent is None or not is_known:
            intent = new_intent(state.reference, state.request, intent)
        if not is_known or state.deadline not in (None, intent.deadline):
            intent.deadline = state.deadline
            await self._journal.save(intent)
        state.intent = intent
        return intent

    async def submit(self, intent: Intent) -> End | None:
        """Submit; return how the job ends where there is no production to watch.

        Raises ClosedError if the client was closed, or the orchestrator's block ended, before that was
        decided.
        """
        self._state.in_doubt = was_in_doubt = intent.stage is Stage.IN_DOUBT
        try:
            with self._engine.sender.account_queues.planned(intent.account_id, self.place):
                async with asyncio.timeout(None) as self._scope:  # for `cancel_unsent` to end the waiting
                    production = await self._submit_until_decided(intent)
        except TimeoutError:
            production = None
        except UncertainSubmitError as error:
            production = await self._find_created(intent)
            if production is None:
                self._with_advice(error)
                if not (was_in_doubt and intent.uncertain_reported):  # else it was logged before
                    facts = {"event": "SubmitInDoubt", "reference": self._state.reference, "ok": False}
                    _log.warning("%s", error, extra={"jarai": facts})
                return OutcomeState.UNCERTAIN, error
            self._state.context.productions[production.id] = intent.reference  # so no other submit's
            intent.resolved = True  # the user may know better
            self._state.in_doubt = False
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
            what=self._describe(),
            honours_keys=sender.idempotency_keys and (intent.key_honoured or not state.in_doubt),
            in_doubt=state.in_doubt,
            sent_at=intent.sent_at,
            doubt=intent.doubt,
        )
        production, delay, failure = None, 0.0, None
        while production is None and state.may_submit:
            retry.check_doubt(_clock.wall())
            await state.slot.acquire()  # it was released if the account had no productions left for the day
            try:
                if failure is not None:
                    why = "" if sender.availability.is_down else f"{state.reference} waits ({failure.reason})"
                    await sender.pause(delay, failure, state.log, why)
                async with sender.submit_slot(intent.account_id, self._place, state.slot) as permit:
                    if state.may_submit and state.slot.is_held:
                        retry.before_attempt(_clock.wall())
                        try:
                            await self._record_sending(intent, permit)
                            if state.may_submit:
                                production = await sender.submit(permit, call, state.log)
                        except JaraiError as error:
                            intent.doubt = error if permit.in_doubt else intent.doubt
                            raise
                        finally:
                            self._record_sent(intent, permit, production)
            except JaraiError as error:
                retry.after_failure(error, _clock.wall(), outlast_outage=sender.reached)
                if retry.failures == ATTEMPTS and not sender.availability.is_down:
                    _log.warning("%s is not accepted yet, trying again: %s", state.reference, error.reason)
                delay, failure = retry.delay(error) if state.may_submit else 0.0, error
                self._place = sender.account_queues.new_place()
        return production

    async def _record_sending(self, intent: Intent, permit: SubmitPermit) -> None:
        """Write to the journal that the submit is about to be sent: before the first byte leaves."""
        self._state.permit = permit
        intent.stage = Stage.SENDING
        if intent.sent_at is None:
            intent.sent_at, intent.key_honoured = _clock.wall(), self._engine.sender.idempotency_keys
        intent.resolved = False  # from now on it is another submit
        await self._journal.save(intent)

    def _record_sent(self, intent: Intent, permit: SubmitPermit, production: Production | None) -> None:
        state = self._state
        state.permit = None
        state.in_doubt = production is None and (state.in_doubt or permit.in_doubt)
        if production is None:
            intent.stage = Stage.IN_DOUBT if state.in_doubt else Stage.PLANNED
            if not state.in_doubt:
                intent.sent_at = intent.doubt = None  # as if it had never been sent: its key counts as unused
            self._journal.put(intent)

    async def _record_accepted(self, intent: Intent, production: Production) -> None:
        self._state.accepted = production  # before anything is awaited: it may be cancelled from here on
        intent.production, intent.stage = production, Stage.ACCEPTED
        intent.submitted_at, intent.doubt = _clock.wall(), None
        try:
            await self._journal.save(intent)
        except JournalError as error:
            reference = self._state.reference
            _log.error("%s was accepted as %s, keep that id: %s", reference, production.id, error)

    def _cancelled(self, intent: Intent) -> End:
        """Return how a stopped submit ends. Raises ClosedError unless a cancel was requested."""
        if self._state.in_doubt:
            doubt = intent.doubt or NoResponseError("its response is not known")
            message = f"{describe_doubt(self._describe(), intent.sent_at)}: {doubt.message}"
            error = UncertainSubmitError(message, idempotency_key=intent.key)
            error.__cause__ = doubt
            return OutcomeState.UNCERTAIN, self._with_advice(error)
        if not self._state.cancel_requested:
            raise ClosedError("the orchestrator's block ended before the request was submitted")
        return OutcomeState.CANCELLED, None

    def _describe(self) -> str:
        return describe_request(
            self._state.request.topic, self._state.request.account_id, self._state.reference
        )

    def _with_advice(self, error: UncertainSubmitError) -> UncertainSubmitError:
        """Say how to decide what the submit has created."""
        error.advice = self._state.context.matcher.advice(self._journal.location, self._state.reference)
        if self._state.cancel_requested:
            error.advice += (
                " Its cancel is recorded: the production that you name is cancelled, and with `resubmit` the "
                "request ends as cancelled and is not submitted."
            )
        return error

    async def _find_created(self, intent: Intent) -> Production | None:
        """Wait for a webhook that shows what a submit in doubt has created, if it was sent just now."""
        state, router, matcher = self._state, self._state.context.router, self._state.context.matcher
        if not router.has_receiver:
            return None
        is_new = intent.sent_at is not None and _clock.wall() - intent.sent_at < _WAIT_FOR_WEBHOOKS
        try:
            async with asyncio.timeout(_WAIT_FOR_WEBHOOKS) as self._search:
                while True:
                    arrived = router.arrived
                    production = await matcher.find(self._journal, intent)
                    if production is not None or not (is_new and state.may_submit):
                        return production
                    await arrived.wait()
        except (TimeoutError, JaraiError):
            return None
        finally:
            self._search = None

    @property
    def waiting_for(self) -> Waiting | None:
        """What the submit waits for; None before and after, and while it is sent."""
        state, waits, account_id = self._state, self._engine.sender.waits, self._state.request.account_id
        if self._search is not None and (when := self._search.when()) is not None:
            detail = "its submit had no usable response"
            return Waiting(reason=WaitReason.WEBHOOK, until=_clock.utc_at(when), detail=detail)
        if self._scope is None or state.permit is not None:
            return None
        for repetition in state.log.repeated:
            return waits.for_outage(account_id) or repetition_waits(self._engine, repetition)
        return slot_waits(state) or waits.of_submit(account_id, self._place)

    # --- Shutdown and cancel -----------------------------------------------------------------------

    def cancel_unsent(self) -> None:
        """Send no further submit. One that is on its way is allowed to complete."""
        self._state.may_submit = False
        self._end_search()
        scope, self._scope = self._scope, None
        if scope is not None and not self._state.is_sending:
            scope.reschedule(_clock.monotonic())

    def _end_search(self) -> None:
        search, self._search = self._search, None
        if search is not None:
            search.reschedule(_clock.monotonic())

    def settled(self) -> asyncio.Future[None]:
        """Return a future that is done when no submit is on its way any more."""
        self._end_search()
        self._settled = asyncio.get_running_loop().create_future()
        return self._settled

    def _settle(self) -> None:
        if self._settled is not None and not self._settled.done():
            self._settled.set_result(None)
