"""The submit of one request: planned in the journal, sent when its turn comes, and never twice.

What the journal holds, and what follows from it, stands in `_intents`; what may be sent again in
`_protocol`; waiting for a turn, and for the end of an outage, in `_calls`.
"""

import asyncio
import logging
from datetime import UTC, datetime
from uuid import uuid4

from jarai_async import _clock
from jarai_async._api.codec import body_of
from jarai_async._api.models import Production, ProductionRequest
from jarai_async._client import JaraiClient
from jarai_async._errors import (
    ClosedError,
    InvalidRequestError,
    JaraiError,
    JournalError,
    NotSentError,
    ServiceUnavailableError,
    UncertainSubmitError,
)
from jarai_async._events import Event, OutcomeState
from jarai_async._http.sender import WithdrawnError
from jarai_async._journal.entries import KEY_VALID, Intent, Stage
from jarai_async._journal.journal import Journal
from jarai_async._orchestrator.slot import Slot
from jarai_async._ratelimit.meter import Meter

_log = logging.getLogger("jarai_async")

End = tuple[OutcomeState, JaraiError | None]


class Submission:
    """The submit of one request. `intent` is what is known of it already; else the journal is asked."""

    __slots__ = (
        "_client", "_intent", "_journal", "_landing", "_place", "_reference", "_request", "_scope", "meter",
    )  # fmt: skip

    def __init__(
        self,
        client: JaraiClient,
        journal: Journal,
        request: ProductionRequest,
        reference: str,
        *,
        place: Slot,
        intent: Intent | None,
    ) -> None:
        self.meter = Meter(
            patient=True, frozen=place.release, departing=self._departing, returned=self._returned
        )
        self._client = client
        self._journal = journal
        self._request = request
        self._reference = reference
        self._place = place
        self._intent = intent
        self._scope: asyncio.Timeout | None = None
        self._landing: asyncio.Future[None] | None = None

    @property
    def submitted_at(self) -> datetime | None:
        """When it was accepted (UTC)."""
        return _moment(self._intent.submitted_at) if self._intent is not None else None

    async def find(self) -> Intent:
        """Give what is known of this request, or plan it. Raises JournalError."""
        intent = self._intent or await self._journal.find(self._reference)
        if intent is not None and not intent.same_request(self._request):
            if intent.stage is not Stage.PLANNED:  # what may have been paid for is not forgotten
                raise JournalError(f"the journal knows another request by the reference {self._reference!r}")
            intent = None
        if intent is None:
            intent = Intent(self._reference, self._request.account_id, body_of(self._request), str(uuid4()))
            self._journal.put(intent)
        self._intent = intent
        return intent

    async def _departing(self) -> None:
        if self._intent is not None:
            self._intent.stage, self._intent.sent_at = Stage.SENDING, self._intent.sent_at or _clock.wall()
            await self._journal.save(self._intent)

    def _returned(self) -> None:
        if self._intent is not None:
            self._intent.stage = Stage.IN_DOUBT if self.meter.in_doubt else Stage.PLANNED
            if not self.meter.in_doubt:
                self._intent.sent_at = None  # it is as if it had never been sent: its key is as good as new
            self._journal.put(self._intent)

    def acknowledge(self, event: Event) -> None:
        """Note that the reader has taken an event: it will not be told again."""
        if self._intent is not None:
            self._intent.acknowledge(event)
            self._journal.put(self._intent)

    async def hinted(self) -> None:
        """Remember that there is something to see. Raises JournalError."""
        if self._intent is not None:
            self._intent.webhook_pending = True  # it may be already, and not written: then it is told again
            await self._journal.save(self._intent)

    async def send(self, intent: Intent) -> End | None:
        """Submit; gives the end where there is nothing to watch."""
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
        except ClosedError:
            raise  # the client was closed: that is no word of JARAI's
        except JaraiError as error:
            return OutcomeState.REJECTED, error
        self._scope = None
        intent.production, intent.stage = production, Stage.ACCEPTED
        intent.submitted_at = _clock.wall()
        try:
            await self._journal.save(intent)
        except JournalError as error:
            _log.error("%s was accepted as %s, keep that: %s", self._reference, production.id, error)
        return None

    def _may_send_again(self, intent: Intent) -> bool:
        young = _clock.wall() - (intent.sent_at or 0.0) < KEY_VALID
        return self._client._sender.idempotency_keys and young

    def _doubt(self, intent: Intent) -> UncertainSubmitError:
        sent = _moment(intent.sent_at)
        message = f"the submit of {sent:%Y-%m-%d %H:%M:%S} UTC may" if sent else "the submit may"
        message += " have been accepted: its answer is not known"
        return UncertainSubmitError(message, idempotency_key=intent.key)

    async def _accepted(self, intent: Intent) -> Production:
        sender = self._client._sender
        if not self.meter.withdrawn:
            await self._place.take()
        told = False
        while not self.meter.withdrawn:
            try:
                return await sender.submit(intent.account_id, intent.body, intent.key, self.meter)
            except (NotSentError, ServiceUnavailableError) as error:
                if not sender.reached:
                    raise  # nothing ever answered there: a wrong address rather than an outage
                reason: JaraiError = error
            except UncertainSubmitError as error:
                passing = error.status in (None, 503)  # no answer, rather than one that says no
                if not passing or not self._may_send_again(intent):
                    raise
                reason = error
            if not told:
                _log.warning("%s is not submitted yet, it goes on trying: %s", self._reference, reason)
            told = True
        raise WithdrawnError("withdrawn before it was sent")

    def landed(self) -> asyncio.Future[None]:
        """Give a future for the moment at which the submit that is on its way has an answer."""
        self._landing = asyncio.get_running_loop().create_future()
        return self._landing

    def land(self) -> None:
        """Note that there is nothing on its way any more."""
        if self._landing is not None and not self._landing.done():
            self._landing.set_result(None)

    def _withdrawn(self, intent: Intent) -> End:
        if not self.meter.in_doubt:
            return OutcomeState.CANCELLED, None
        message = "the submit was cancelled on its way"
        return OutcomeState.UNCERTAIN, UncertainSubmitError(message, idempotency_key=intent.key)

    @property
    def key(self) -> str:
        """The idempotency key of its submit."""
        return self._intent.key if self._intent is not None else ""

    def withdraw(self) -> None:
        """Send no submit any more; one that is on its way is let land."""
        self.meter.withdrawn = True
        scope, self._scope = self._scope, None
        if scope is not None and not self.meter.sending:
            scope.reschedule(_clock.monotonic())


async def resolve(client: JaraiClient, journal: Journal, reference: str, production_id: str | None) -> Intent:
    """Decide a submit that is in doubt: it created this production, or (None) it may be submitted again.

    Raises InvalidRequestError where nothing is in doubt, ApiError, JournalError.
    """
    intent = await journal.find(reference)
    if intent is None or intent.stage is not Stage.IN_DOUBT:
        raise InvalidRequestError([f"no submit by the reference {reference!r} is in doubt"])
    if production_id is None:
        intent.reset_for_resubmit(str(uuid4()))
    else:
        intent.production = await client.fetch(production_id)
        intent.stage, intent.submitted_at = Stage.ACCEPTED, intent.sent_at
    await journal.save(intent)
    return intent


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
