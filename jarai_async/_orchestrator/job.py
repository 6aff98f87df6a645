"""The course of one request: submit, watch, collect, conclude. One coroutine each, all alike.

What happens is told as events, in order; how it ends is the `Outcome` that the coroutine returns. Nothing
that happens to one production is an exception to the others. Cancelling the coroutine stops watching, and
nothing else: the production goes on at JARAI.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from attrs import frozen

from jarai_async import _clock
from jarai_async._api.models import Polling, Production, ProductionRequest, Status, parse_id
from jarai_async._api.webhook_models import WebhookEvent
from jarai_async._errors import (
    DeadlineExceededError,
    JaraiError,
    JournalError,
    NotFoundError,
    ProductionFailedError,
)
from jarai_async._events import (
    PRODUCTION_EXPIRED,
    Event,
    Finished,
    Outcome,
    OutcomeState,
    StatusChanged,
    Submitted,
    final_state,
)
from jarai_async._forecast.forecast import UnderWay, mean_left
from jarai_async._journal.entries import Intent, Stage
from jarai_async._journal.journal import Journal
from jarai_async._orchestrator.collector import Collector, Shelf
from jarai_async._orchestrator.slot import Slot
from jarai_async._orchestrator.submission import End, Submission
from jarai_async._orchestrator.webhook_router import WebhookRouter
from jarai_async._polling.watch import Change, Watch
from jarai_async._ratelimit.meter import Meter

_log = logging.getLogger("jarai_async")


Emit = Callable[["Job", Event], None]


@frozen
class Terms:
    """What all courses of one orchestrator have in common. `deadline` is in seconds from acceptance."""

    shelf: Shelf
    journal: Journal
    polling: Polling
    deadline: float | None
    review: bool
    expired_retries: int
    hints: WebhookRouter


class Job:
    """One request on its way. `emit` takes its events.

    `intent` is what an earlier process knew of it; where it is not given, the journal is asked.
    """

    __slots__ = (
        "_accepted_as", "_cancelled", "_client", "_collector", "_emit", "_place", "_sequence", "_terms",
        "_watch", "reference", "request", "submission",
    )  # fmt: skip

    def __init__(
        self,
        terms: Terms,
        request: ProductionRequest,
        reference: str,
        *,
        emit: Emit,
        place: Slot,
        intent: Intent | None = None,
    ) -> None:
        self.request = request
        self.reference = reference
        self._terms = terms
        self._client = terms.shelf.client
        self.submission = Submission(
            self._client, terms.journal, request, reference, place=place, intent=intent
        )
        self._collector = Collector(terms.shelf, request, reference, self.meter, self._tell)
        self._emit = emit
        self._place = place
        self._sequence = 0
        self._accepted_as: Production | None = None
        self._watch: Watch | None = None
        self._cancelled = False

    @property
    def meter(self) -> Meter:
        """What is known of its requests."""
        return self.submission.meter

    @property
    def may_exist(self) -> bool:
        """Whether a submit left, of which it is not known whether it created a production."""
        return self.production is None and (self.meter.in_doubt or self.meter.sending)

    @property
    def production(self) -> Production | None:
        """The production as last seen, once it was accepted."""
        return self._watch.production if self._watch is not None else self._accepted_as

    @property
    def under_way(self) -> UnderWay | None:
        """Where the production stands, once it was accepted."""
        if self.production is None:
            return None
        age = _clock.monotonic() - self._watch.since if self._watch else 0.0
        return UnderWay(self.production.project_type, self.production.status, age, self._place.held)

    @property
    def expected_finish(self) -> datetime | None:
        """The mean of when the production ends, once it was accepted."""
        if (one := self.under_way) is None:
            return None
        left = mean_left(self._client._poller.sojourns, one.project_type, one.status, one.age)
        return _clock.utc() + timedelta(seconds=left)

    async def run(self) -> Outcome:
        """Go all the way, and give how it ended."""
        try:
            intent = await self.submission.find()
            self._sequence = intent.sequence
            if intent.stage is Stage.ENDED:
                outcome = intent.ended(self.request)
                self._accepted_as, self._sequence = intent.production, intent.sequence - 1
            else:
                outcome = await self._run(intent)
        except JournalError as error:
            outcome = self._concluded(OutcomeState.REJECTED, error)
        finally:
            self._place.release()
        self._tell(Finished, outcome=outcome)
        return outcome

    async def _run(self, intent: Intent) -> Outcome:
        self._collector.files, self._collector.listed = intent.known_files(), intent.listed
        while True:
            known_since = intent.since or intent.submitted_at
            state, error = await self._submit(intent) or await self._watch_to_the_end(intent, known_since)
            if not self._may_try_again(intent, error):
                break
            await self._terms.journal.save(intent)
            self._watch = self._accepted_as = None
        if state is OutcomeState.PUBLISHED:
            error = await self._collector.collect(self._known, final=True)
        if state is OutcomeState.REJECTED and intent.expired:  # which is not to say that nothing was created
            message = f"production {intent.expired[-1]} was never begun; submitting it again failed: {error}"
            state, error = OutcomeState.FAILED, ProductionFailedError(message, code=PRODUCTION_EXPIRED)
            expired = parse_id(intent.expired[-1])
            self._accepted_as = Production(expired, Status.FAILED, error_code=PRODUCTION_EXPIRED)
        return self._concluded(state, error)

    async def _submit(self, intent: Intent) -> End | None:
        """Submit, unless that was done before, and give the end where there is nothing to watch."""
        if intent.stage is not Stage.ACCEPTED:
            end = await self.submission.send(intent)
            self.submission.land()
            if end is not None:
                return end
        if self._accepted_as is None:
            self._accepted_as = intent.production
        if intent.since is None:
            self._tell(Submitted)
        return None

    def acknowledge(self, event: Event) -> None:
        """Note that the reader has taken an event: it will not be told again."""
        self.submission.acknowledge(event)

    def _may_try_again(self, intent: Intent, error: JaraiError | None) -> bool:
        """Whether it was never begun, so that another takes its place: that is documented to be safe."""
        expired = isinstance(error, ProductionFailedError) and error.code == PRODUCTION_EXPIRED
        if not expired or self._cancelled or len(intent.expired) >= self._terms.expired_retries:
            return False
        _log.info("%s was never begun: it is submitted again", self.reference)
        intent.reset_for_resubmit(str(uuid4()))
        return True

    # --- What is told ------------------------------------------------------------------------------

    def _tell(self, kind: type[Event], **fields: Any) -> None:
        self._sequence += 1
        event = kind(
            reference=self.reference,
            production=self.production,
            sequence=self._sequence,
            observed_at=_clock.utc(),
            **fields,
        )
        self._emit(self, event)

    def _concluded(self, state: OutcomeState, error: JaraiError | None) -> Outcome:
        return Outcome(
            request=self.request,
            reference=self.reference,
            state=state,
            production=self.production,
            deliverables=self._collector.deliverables,
            files=self._collector.files,
            error=error,
            submitted_at=self.submission.submitted_at,
            finished_at=_clock.utc(),
            request_count=self.meter.requests,
        )

    async def cancel(self) -> None:
        """Withdraw what was not sent yet, and stop what was."""
        self._cancelled = True
        if self.production is None:
            self.submission.withdraw()
        else:
            await self._cancel_for_real()

    async def _cancel_for_real(self) -> None:
        asked_at = _clock.utc()
        seen = await self._client._cancel(self._known.id, self.meter)
        if self._watch is not None:
            self._client._poller.observe(self._watch, seen, asked_at)

    async def cancel_unwatched(self) -> None:
        """Stop a production that is not watched any more, and remember how it then stood."""
        seen = await self._client._cancel(self._known.id, self.meter)
        self._accepted_as, self._watch = seen, None

    # --- Watch -------------------------------------------------------------------------------------

    @property
    def _known(self) -> Production:
        if self.production is None:
            raise RuntimeError("no production is known before it was accepted")
        return self.production

    async def _watch_to_the_end(self, intent: Intent, known_since: float | None) -> End:
        """Follow the production, with one coroutine for all of it: each takes 200 bytes in flight.

        `known_since` is since when it has its status, as an earlier process knew (Unix seconds).
        """
        watch = self._begin_to_watch(intent, known_since)
        try:
            await self._terms.hints.follow(watch.production.id, self._hear)
            async with asyncio.timeout(self._terms.deadline):
                if self._cancelled:  # while the submit was on its way
                    await self._cancel_or_watch()
                self._accepted_as = None  # the watch knows it now
                while not watch.status.is_terminal:
                    self._tell_change(await self._client._poller.changed(watch))
                    if watch.status == Status.AWAITING_APPROVAL:
                        await self._park(watch.production)
        except TimeoutError:
            message = f"the production did not end within {self._terms.deadline} s"
            return OutcomeState.TIMED_OUT, DeadlineExceededError(message)
        except NotFoundError as error:
            message = "JARAI does not know the production any more"
            facts = {"status": error.status, "correlation_id": error.correlation_id}
            return OutcomeState.NOT_FOUND, ProductionFailedError(message, **facts)  # type: ignore[arg-type]
        finally:
            self._terms.hints.leave(watch.production.id)
        return final_state(watch.production)

    def _begin_to_watch(self, intent: Intent, known_since: float | None) -> Watch:
        poller = self._client._poller
        reliability = self._terms.hints.reliability(self.request.account_id)
        watch = poller.watch(self._known, self._terms.polling, self.meter, reliability=reliability)
        if known_since is not None:
            watch.resume(datetime.fromtimestamp(known_since, UTC))
        elif reliability is not None:
            reliability.submitted(watch.production.id, _clock.monotonic())
        if intent.webhook_pending:
            poller.hurry(watch)
        self._watch = watch
        return watch

    async def _hear(self, event: WebhookEvent) -> None:
        """Ask at once after a webhook that has news, and remember to, until the answer is here."""
        if self._watch is not None and self._client._poller.hear(self._watch, event):
            await self.submission.hinted()

    async def _cancel_or_watch(self) -> None:
        try:
            await self._cancel_for_real()
        except JaraiError as error:
            _log.warning("%s could not be cancelled, it is watched on: %s", self.reference, error)

    def _tell_change(self, change: Change) -> None:
        """Tell of a change, and keep no snapshot of it: a thousand of them would be a megabyte or two."""
        self._tell(StatusChanged, previous=change.previous, changed_after=change.after)

    async def _park(self, production: Production) -> None:
        """Give the place to another while a person decides, perhaps for days."""
        self._place.release()
        if self._terms.review and (error := await self._collector.collect(production, final=False)):
            _log.warning("%s could not be fetched for review: %s", self.reference, error)
