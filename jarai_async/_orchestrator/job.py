"""One job: a request from its submit to its outcome. All jobs of an orchestrator run side by side.

What happens is published as events, in order, and the result is an `Outcome`. A failure of one production
never raises an exception in the job of another. Cancelling the task of a job stops watching,
and nothing else: the production continues at JARAI.
"""

import asyncio
import logging
from datetime import datetime
from uuid import uuid4

from attrs import evolve

from jarai_async import _clock
from jarai_async._api.models import Production, Status, parse_id
from jarai_async._api.webhook_models import WebhookEvent
from jarai_async._errors import (
    ApiError,
    DeadlineExceededError,
    InvalidResponseError,
    JaraiError,
    JournalError,
    NotFoundError,
    ProductionFailedError,
)
from jarai_async._events import (
    PRODUCTION_EXPIRED,
    Finished,
    Outcome,
    OutcomeState,
    StatusChanged,
    Submitted,
    final_state,
)
from jarai_async._forecast.forecast import InFlightProduction
from jarai_async._http.request_log import RequestLog
from jarai_async._journal.entries import Intent, Stage
from jarai_async._orchestrator.cancel import Cancellation, nothing_cancelled
from jarai_async._orchestrator.collector import Collector
from jarai_async._orchestrator.decisions import RETRIED
from jarai_async._orchestrator.finish import expected_finish
from jarai_async._orchestrator.state import JobState
from jarai_async._orchestrator.submission import End, Submission
from jarai_async._orchestrator.waiting import accepted_waits
from jarai_async._polling.watch import Watch
from jarai_async._waiting import Waiting

_log = logging.getLogger("jarai_async")

WITHOUT_SLOT = (Status.AWAITING_APPROVAL, Status.DISTRIBUTING)  # they have waited for approval, as a rule
_LAST_LOOK = 60.0  # seconds for the poll of a production whose deadline has passed already

_RETRY_ADVICE = "To submit it again, use `jarai retry`, or `Orchestrator.retry` in a program."


class Job:
    """Runs one request. `state` is what is known of it, also for other objects, which only read it."""

    __slots__ = ("_cancel", "_collector", "_context", "_engine", "_poller", "_timeout", "state", "submission")

    def __init__(self, state: JobState) -> None:
        self.state: JobState = state
        self.submission: Submission = Submission(state)
        self._collector = Collector(state)
        self._cancel = Cancellation(state, self._set_deadline)
        self._timeout: asyncio.Timeout | None = None  # while the production is watched
        self._context = state.context
        self._engine = state.context.engine
        self._poller = state.context.engine.poller

    @property
    def under_way(self) -> InFlightProduction | None:
        """Where the production stands, once it was accepted."""
        state = self.state
        if state.production is None:
            return None
        outlook = state.watch.outlook if state.watch is not None else None
        age = _clock.monotonic() - outlook.at if outlook else state.seconds_in_status
        production, holds_slot = state.production, state.slot.is_held
        return InFlightProduction(production.project_type, production.status, age, holds_slot, outlook)

    @property
    def expected_finish(self) -> datetime | None:
        """When the production is expected to end, on average; None once it has."""
        if self.state.has_outcome:
            return None
        return expected_finish(self.state, self.under_way, self.submission.place, self.waiting_for)

    @property
    def waiting_for(self) -> Waiting | None:
        """What it waits for now, if it does."""
        state = self.state
        if state.has_outcome:
            return None
        return self.submission.waiting_for if state.production is None else accepted_waits(state)

    async def run(self) -> Outcome:
        """Run to the end, and return the outcome."""
        state, journal, recorded = self.state, self._context.journal, None
        try:
            intent = await self.submission.find_or_plan()
            state.sequence = intent.sequence
            self._cancel.restore(intent)
            state.files, state.final_list_published = await journal.files(intent), intent.listed
            await self._repeat_unread(intent)
            if has_ended := intent.stage is Stage.ENDED:
                recorded = await self._recorded_finish(intent)
            if recorded is None:
                state.set_recorded()
            if recorded is not None:
                outcome = recorded.outcome
            elif has_ended and state.production is not None:
                outcome = await self._conclude(intent, *final_state(state.production))
            else:
                result = None
                while result is None:
                    since = intent.since or intent.submitted_at
                    result = await self._submit(intent) or await self._watch_to_the_end(intent, since)
                    if self._takes_expired_retry(intent, result[1]):
                        await journal.save(intent)
                        state.watch = state.accepted = result = None
                outcome = await self._conclude(intent, *result)
                if outcome.state is OutcomeState.UNCERTAIN and intent.uncertain_reported:
                    recorded = await self._recorded_doubt(intent, outcome)
        except JournalError as error:
            outcome = self._outcome(OutcomeState.REJECTED, error)
        finally:
            state.slot.release()
            await self._cancel.stop()
        if outcome.error and outcome.state in RETRIED and outcome.is_final and journal.location:
            outcome.error.advice = f"{type(outcome.error).advice} {_RETRY_ADVICE}".lstrip()
        self._finish(outcome, recorded)
        return outcome if recorded is None else recorded.outcome

    def _finish(self, outcome: Outcome, recorded: Finished | None) -> None:
        """Publish the last event, which is in the journal already if it is `recorded`."""
        state = self.state
        state.has_outcome = True
        if isinstance(outcome.error, JournalError):
            state.intent = None  # the event is delivered, and not written
        if recorded is None:
            state.emit(Finished, outcome=outcome)
            return
        state.set_recorded()  # here, so that the ticket has the outcome then
        if state.publish is not None:
            state.publish(state, recorded)

    async def _repeat_unread(self, intent: Intent) -> None:
        """Publish the events again that the reader of an earlier run has not taken."""
        publish = self.state.publish
        if publish is not None and intent.acknowledged < intent.sequence:
            for event in await self._context.journal.unread(intent):
                if not isinstance(event, Finished):
                    publish(self.state, event)

    async def _recorded_finish(self, intent: Intent) -> Finished | None:
        """Return the last event of a request that has ended, with the files that are on the disk.

        Or None, where a file is missing, or where the event could not be written: then it has not ended.
        """
        state = self.state
        state.accepted = intent.production
        event = await self._context.journal.last_event(intent)
        if not isinstance(event, Finished):
            intent.reopen()
            return None
        outcome = evolve(event.outcome, request=state.request)
        if outcome.state is OutcomeState.PUBLISHED:
            collected = await self._collector.collected(outcome, state.files)
            if collected is None:
                intent.reopen()
                return None
            outcome = collected
        return evolve(event, outcome=outcome)

    async def _recorded_doubt(self, intent: Intent, outcome: Outcome) -> Finished | None:
        """Return the last event of a submit that is still in doubt, with what can be done now."""
        event = await self._context.journal.last_event(intent)
        if not isinstance(event, Finished):
            return None
        return evolve(event, outcome=evolve(event.outcome, request=outcome.request, error=outcome.error))

    async def _submit(self, intent: Intent) -> End | None:
        """Submit, unless an earlier process did, and return the end where there is nothing to watch."""
        if intent.stage is not Stage.ACCEPTED:
            end = await self.submission.submit(intent)
            if end is not None:
                return end
        elif intent.production is not None and intent.production.status not in WITHOUT_SLOT:
            await self.state.slot.acquire_if_free()
        if self.state.accepted is None:
            self.state.accepted = intent.production
        if intent.since is None:
            self.state.emit(Submitted)
        return None

    def _takes_expired_retry(self, intent: Intent, error: JaraiError | None) -> bool:
        """Whether to submit again because JARAI never started it: that is documented to be safe."""
        expired = isinstance(error, ProductionFailedError) and error.code == PRODUCTION_EXPIRED
        is_allowed = len(intent.expired) < self._context.expired_retries and not self.state.cancel_requested
        if not (expired and is_allowed):
            return False
        _log.info("%s expired before JARAI started it: submitting it again", self.state.reference)
        intent.reset_for_resubmit(str(uuid4()))
        return True

    async def _conclude(self, intent: Intent, end_state: OutcomeState, error: JaraiError | None) -> Outcome:
        if end_state is OutcomeState.PUBLISHED:
            error = await self._collector.collect(self._known_production, final=True)
        else:
            await self._collector.forget_missing_files()
        if end_state is OutcomeState.REJECTED and intent.expired:  # a production was created, and expired
            expired = parse_id(intent.expired[-1])
            message = f"production {expired} expired before it started; submitting it again failed: {error}"
            end_state, error = OutcomeState.FAILED, ProductionFailedError(message, code=PRODUCTION_EXPIRED)
            self.state.accepted = Production(expired, Status.FAILED, error_code=PRODUCTION_EXPIRED)
        return self._outcome(end_state, error)

    def _outcome(self, end_state: OutcomeState, error: JaraiError | None) -> Outcome:
        state = self.state
        return Outcome(
            request=state.request,
            reference=state.reference,
            state=end_state,
            production=state.production,
            deliverables=state.deliverables,
            files={path: saved.deliverable for path, saved in state.files.items()},
            error=error,
            submitted_at=state.submitted_at,
            finished_at=_clock.utc(),
            request_count=state.log.count,
        )

    # --- Watch -------------------------------------------------------------------------------------

    async def _watch_to_the_end(self, intent: Intent, known_since: float | None) -> End:
        """Follow the production until it ends.

        `known_since` is since when an earlier process knew it to have its status (Unix time).
        """
        state, context = self.state, self._context
        watch = state.watch = self._new_watch(intent, known_since)
        context.productions[watch.production.id] = state.reference
        try:
            await context.router.subscribe(watch.production.id, self._on_webhook)
            async with asyncio.timeout(None) as self._timeout:
                self._set_deadline()
                self._cancel.watched(watch)
                state.accepted = None  # the watch has the latest snapshot
                while not watch.status.is_terminal:
                    change = await self._poller.wait_for_change(watch)
                    state.emit(StatusChanged, previous=change.previous, changed_after=change.after)
                    del change  # else a thousand jobs keep a megabyte or two of snapshots
                    if watch.status == Status.AWAITING_APPROVAL:
                        await self._await_approval(watch.production)
        except TimeoutError:
            message = (
                f"the production did not end within {self._deadline(intent)} s of its acceptance: "
                f"it is {self._known_production.status}"
            )
            return OutcomeState.TIMED_OUT, DeadlineExceededError(message)
        except NotFoundError as error:
            message = "JARAI does not find the production: is this its partner's key? The next run asks again"
            not_found = ProductionFailedError(
                message, status=error.status, correlation_id=error.correlation_id
            )
            return OutcomeState.NOT_FOUND, not_found
        except (ApiError, InvalidResponseError) as error:  # refused for so long that the poller gave up
            return OutcomeState.INACCESSIBLE, error
        finally:
            self._timeout = None
            context.router.unsubscribe(watch.production.id)
        return final_state(watch.production)

    def _deadline(self, intent: Intent) -> float | None:
        return intent.deadline or self._context.deadline

    def _set_deadline(self) -> None:
        """Apply the deadline, except to a cancel in progress."""
        timeout, intent, watch = self._timeout, self.state.intent, self.state.watch
        if timeout is None or timeout.expired() or intent is None or watch is None:
            return
        left = None if self._cancel.is_in_progress else self._time_left(intent, watch)
        timeout.reschedule(None if left is None else _clock.monotonic() + left)

    def _time_left(self, intent: Intent, watch: Watch) -> float | None:
        """Return the seconds until the deadline, which counts from the acceptance, also across restarts.

        A production whose deadline passed while no process watched it is polled first: it may have ended.
        """
        deadline = self._deadline(intent)
        if deadline is None or intent.submitted_at is None:
            return deadline
        left = deadline - max(0.0, _clock.wall() - intent.submitted_at)
        if left > 0:
            return left
        self._poller.poll_now(watch)
        return _LAST_LOOK

    def _new_watch(self, intent: Intent, known_since: float | None) -> Watch:
        context, state = self._context, self.state
        watch = self._poller.watch(
            self._known_production,
            context.polling,
            state.log,
            known_since=known_since,
            coverage=context.router.coverage(state.request.account_id),
        )
        if intent.webhook_pending:
            self._poller.poll_now(watch)
        return watch

    async def _on_webhook(self, event: WebhookEvent) -> None:
        """Poll immediately where an event announces a change, and remember it until the change is seen."""
        state = self.state
        if state.watch is None or state.intent is None:
            return
        if self._poller.on_webhook(state.watch, event):
            state.intent.webhook_pending = True  # perhaps it is already, but not yet in the journal
            await self._context.journal.save(state.intent)

    async def _await_approval(self, production: Production) -> None:
        """Give the slot to another production while a person decides, perhaps for days."""
        self.state.slot.release()
        if self._context.collect_for_review and (
            error := await self._collector.collect(production, final=False)
        ):
            _log.warning("%s could not be collected for review: %s", self.state.reference, error)

    # --- Cancel ------------------------------------------------------------------------------------

    @property
    def _known_production(self) -> Production:
        if self.state.production is None:
            raise RuntimeError("no production is known before the request is accepted")
        return self.state.production

    async def cancel(self) -> None:
        """Do not send a request that is still unsent; cancel an accepted one. Raises as `Ticket.cancel`."""
        answer = self._cancel.request()
        self.submission.cancel_unsent()
        error, journal = await asyncio.shield(answer), self._context.journal
        await journal.flush()  # before that, the next process could submit it
        if self.state.production is None:
            error = journal.failure or error
        if error is not None:
            raise error

    async def cancel_unwatched(self) -> None:
        """Cancel a production after the block, and keep its state. Raises as `Ticket.cancel`."""
        seen = await self._engine.cancel(self._known_production.id, RequestLog())
        self.state.accepted, self.state.watch = seen, None
        if seen.status.is_terminal and (error := nothing_cancelled(self.state.reference, seen.status)):
            raise error

    def ended(self, task: asyncio.Future[Outcome]) -> None:
        """Answer a cancel that is still in progress, now that the job's task has ended."""
        self._cancel.job_ended(task)
