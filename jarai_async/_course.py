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
from jarai_async._calls import Meter, WithdrawnError
from jarai_async._collector import Collector, Shelf
from jarai_async._errors import (
    DeadlineExceededError,
    JaraiError,
    JournalError,
    NotFoundError,
    NotSentError,
    ProductionFailedError,
    ServiceUnavailableError,
    StoppedError,
    UncertainSubmitError,
)
from jarai_async._events import Event, Finished, Outcome, OutcomeState, StatusChanged, Submitted
from jarai_async._forecast import UnderWay, mean_left
from jarai_async._intents import KEY_VALID, Intent, Stage, body_of
from jarai_async._journal import Journal
from jarai_async._lifecycle import PRODUCTION_EXPIRED, end
from jarai_async._models import Polling, Production, ProductionRequest, Status
from jarai_async._places import Place
from jarai_async._poller import Change, Watch

_log = logging.getLogger("jarai_async")


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


_End = tuple[OutcomeState, JaraiError | None]
Emit = Callable[["Course", Event], None]


@frozen
class Terms:
    """What all courses of one orchestrator have in common. `deadline` is in seconds from acceptance."""

    shelf: Shelf
    journal: Journal
    polling: Polling
    deadline: float | None
    review: bool
    resubmissions: int


class Course:
    """One request on its way. `emit` takes its events.

    `intent` is what an earlier process knew of it; where it is not given, the journal is asked.
    """

    __slots__ = (
        "_accepted_as", "_cancelled", "_client", "_collector", "_emit", "_intent", "_landing", "_place",
        "_scope", "_sequence", "_terms", "_watch", "meter", "reference", "request",
    )  # fmt: skip

    def __init__(
        self,
        terms: Terms,
        request: ProductionRequest,
        reference: str,
        *,
        emit: Emit,
        place: Place,
        intent: Intent | None = None,
    ) -> None:
        self.request = request
        self.reference = reference
        self.meter = Meter(frozen=place.release, departing=self._departing, returned=self._returned)
        self._terms = terms
        self._client = terms.shelf.client
        self._collector = Collector(terms.shelf, request, reference, self.meter, self._tell)
        self._emit = emit
        self._place = place
        self._intent = intent
        self._sequence = 0
        self._accepted_as: Production | None = None
        self._watch: Watch | None = None
        self._cancelled = False
        self._scope: asyncio.Timeout | None = None
        self._landing: asyncio.Future[None] | None = None

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
            intent = await self._known_intent()
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
        while True:
            told_of = intent.since
            refused = await self._submit(intent)
            if self._landing is not None and not self._landing.done():
                self._landing.set_result(None)
            state, error = refused or await self._watch_to_the_end(told_of)
            if not self._may_try_again(intent, error):
                break
            await self._terms.journal.save(intent)
            self._watch = None
        if state is OutcomeState.PUBLISHED:
            error = await self._collector.collect(self._known, final=True)
        return self._concluded(state, error)

    def _may_try_again(self, intent: Intent, error: JaraiError | None) -> bool:
        """Whether it was never begun, so that another takes its place: that is documented to be safe."""
        expired = isinstance(error, ProductionFailedError) and error.code == PRODUCTION_EXPIRED
        if not expired or self._cancelled or len(intent.expired) >= self._terms.resubmissions:
            return False
        _log.info("%s was never begun: it is submitted again", self.reference)
        intent.again(str(uuid4()))
        return True

    # --- Journal -----------------------------------------------------------------------------------

    async def _known_intent(self) -> Intent:
        """Give what is known of this request, or plan it. Raises JournalError."""
        journal = self._terms.journal
        intent = self._intent or await journal.find(self.reference)
        if intent is not None and not intent.same_request(self.request):
            if (
                intent.stage is not Stage.PLANNED
            ):  # nothing may be forgotten that was, or may have been, paid for
                raise JournalError(f"the journal knows another request by the reference {self.reference!r}")
            intent = None
        if intent is None:
            intent = Intent(self.reference, self.request.account_id, body_of(self.request), str(uuid4()))
            journal.put(intent)
        self._intent, self._sequence = intent, intent.sequence
        self._collector.files = intent.known_files()
        self._collector.listed = intent.listed
        return intent

    async def _departing(self) -> None:
        if self._intent is not None:
            self._intent.stage, self._intent.sent_at = Stage.SENDING, self._intent.sent_at or _clock.wall()
            await self._terms.journal.save(self._intent)

    def _returned(self) -> None:
        if self._intent is not None:
            self._intent.stage = Stage.IN_DOUBT if self.meter.in_doubt else Stage.PLANNED
            self._terms.journal.put(self._intent)

    def told(self, event: Event) -> None:
        """Note that the reader has taken an event: it will not be told again."""
        if self._intent is not None:
            self._intent.told(event)
            self._terms.journal.put(self._intent)

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
            submitted_at=_moment(self._intent.submitted_at if self._intent else None),
            finished_at=_clock.utc(),
            requests=self.meter.requests,
        )

    # --- Submit ------------------------------------------------------------------------------------

    async def _submit(self, intent: Intent) -> _End | None:
        """Submit, unless that was done before, and give the end where there is nothing to watch."""
        if intent.stage is not Stage.ACCEPTED:
            if (end := await self._accept(intent)) is not None:
                return end
        elif self._accepted_as is None:
            self._accepted_as = intent.production
        if intent.since is None:
            self._tell(Submitted)
        return None

    async def _accept(self, intent: Intent) -> _End | None:
        if intent.stage is Stage.IN_DOUBT and not self._may_send_again(intent):
            return OutcomeState.UNCERTAIN, self._doubt(intent)
        self.meter.in_doubt = intent.stage is Stage.IN_DOUBT
        try:
            async with asyncio.timeout(None) as self._scope:  # so that `cancel` can end the wait for a turn
                production = await self._accepted(intent)
        except (TimeoutError, WithdrawnError):
            return self._withdrawn(intent)
        except UncertainSubmitError as error:
            return OutcomeState.UNCERTAIN, error
        except StoppedError:
            raise  # the client was closed: that is no word of JARAI's
        except JaraiError as error:
            return OutcomeState.REJECTED, error
        self._scope = None
        self._accepted_as = intent.production = production
        intent.stage, intent.submitted_at = Stage.ACCEPTED, _clock.wall()
        try:
            await self._terms.journal.save(intent)
        except JournalError as error:
            _log.error("%s was accepted as %s, keep that: %s", self.reference, production.id, error)
        return None

    def _may_send_again(self, intent: Intent) -> bool:
        young = _clock.wall() - (intent.sent_at or 0.0) < KEY_VALID
        return self._client._caller.idempotency_keys and young

    def _doubt(self, intent: Intent) -> UncertainSubmitError:
        sent = (
            "some day" if intent.sent_at is None else f"{datetime.fromtimestamp(intent.sent_at, UTC):%c} UTC"
        )
        message = f"the submit of {sent} may have been accepted: its answer is not known"
        return UncertainSubmitError(message, idempotency_key=intent.key)

    async def _accepted(self, intent: Intent) -> Production:
        caller = self._client._caller
        if not self.meter.withdrawn:
            await self._place.take()
        told = False
        while not self.meter.withdrawn:
            try:
                return await caller.submit(intent.account_id, intent.body, intent.key, self.meter)
            except (NotSentError, ServiceUnavailableError) as error:
                if not caller.reached:
                    raise  # nothing ever answered there: a wrong address rather than an outage
                reason: JaraiError = error
            except UncertainSubmitError as error:
                passing = error.status in (None, 503)  # no answer, rather than one that says no
                if not passing or not self._may_send_again(intent):
                    raise
                reason = error
            if not told:
                _log.warning("%s is not submitted yet, it goes on trying: %s", self.reference, reason)
            told = True
        raise WithdrawnError("withdrawn before it was sent")

    def landed(self) -> asyncio.Future[None]:
        """Give a future for the moment at which the submit that is on its way has an answer."""
        self._landing = asyncio.get_running_loop().create_future()
        return self._landing

    def _withdrawn(self, intent: Intent) -> _End:
        if not self.meter.in_doubt:
            return OutcomeState.CANCELLED, None
        message = "the submit was cancelled on its way"
        return OutcomeState.UNCERTAIN, UncertainSubmitError(message, idempotency_key=intent.key)

    @property
    def key(self) -> str:
        """The idempotency key of its submit."""
        return self._intent.key if self._intent is not None else ""

    @property
    def may_exist(self) -> bool:
        """Whether a submit left, of which it is not known whether it created a production."""
        return self.production is None and (self.meter.in_doubt or self.meter.sending)

    def withdraw(self) -> None:
        """Send no submit any more; one that is on its way is let land."""
        self.meter.withdrawn = True
        scope, self._scope = self._scope, None
        if scope is not None and not self.meter.sending:
            scope.reschedule(_clock.monotonic())

    async def cancel(self) -> None:
        """Withdraw what was not sent yet, and stop what was."""
        self._cancelled = True
        if self.production is None:
            self.withdraw()
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

    async def _watch_to_the_end(self, told_of: float | None) -> _End:
        """Follow the production, with one coroutine for all of it: each takes 200 bytes in flight.

        `told_of` is since when it has its status, as an earlier process has told (Unix seconds).
        """
        poller = self._client._poller
        watch = self._watch = poller.watch(self._known, self._terms.polling, self.meter)
        if told_of is not None:
            watch.resume(datetime.fromtimestamp(told_of, UTC))
        try:
            async with asyncio.timeout(self._terms.deadline):
                if self._cancelled:  # while the submit was on its way
                    await self._cancel_or_watch()
                self._accepted_as = None  # the watch knows it now
                while not watch.status.is_terminal:
                    self._tell_change(await poller.changed(watch))
                    if watch.status == Status.AWAITING_APPROVAL:
                        await self._park(watch.production)
        except TimeoutError:
            message = f"the production did not end within {self._terms.deadline} s"
            return OutcomeState.TIMED_OUT, DeadlineExceededError(message)
        except NotFoundError as error:
            message = "JARAI does not know the production any more"
            facts = {"status": error.status, "correlation_id": error.correlation_id}
            return OutcomeState.FAILED, ProductionFailedError(message, **facts)  # type: ignore[arg-type]
        return end(watch.production)

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
