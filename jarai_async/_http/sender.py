"""One call, from its turn to its result: waiting, sending, accounting, sending again where it is safe."""

import asyncio
import logging
import math
from collections import Counter
from functools import partial
from random import Random
from typing import Any, TypeVar

from jarai_async import _clock
from jarai_async._api import endpoints
from jarai_async._api.calls import Call, Kind, created_nothing, may_repeat
from jarai_async._api.models import Production
from jarai_async._api.responses import RateLimitState, Response, rate_limit_state
from jarai_async._errors import (
    ConfigurationError,
    InvalidRequestError,
    JaraiError,
    NoResponseError,
    NotSentError,
    ServiceUnavailableError,
    UncertainSubmitError,
)
from jarai_async._http.credentials import Credentials
from jarai_async._http.retry import Retrier, Retry
from jarai_async._http.transport import Attempts, Transport
from jarai_async._ratelimit.account_queue import AccountQueues
from jarai_async._ratelimit.limiter import LONGER_THAN_A_WINDOW
from jarai_async._ratelimit.meter import Meter
from jarai_async._ratelimit.scheduler import Scheduler
from jarai_async._secret import Secret

T = TypeVar("T")

_log = logging.getLogger("jarai_async")

_READS = Retry(attempts=4)
_SUBMITS = Retry(attempts=8)
_FIRST_PAUSE_FOR_A_KEY = 30.0  # seconds
_LONGEST_PAUSE_FOR_A_KEY = 300.0
_LONGEST_PAUSE = 60.0  # seconds between two attempts to submit while JARAI is out of reach


class WithdrawnError(Exception):
    """A submit was withdrawn before anything was created."""


class RequestSender:
    """Makes calls within the budget."""

    def __init__(
        self,
        transport: Transport,
        keys: Credentials,
        scheduler: Scheduler,
        random: Random,
        *,
        idempotency_keys: bool,
    ) -> None:
        self._transport = transport
        self._keys = keys
        self._scheduler = scheduler
        self._random = random
        self.idempotency_keys = idempotency_keys
        self._reads, self._submits = Retrier(_READS, random), Retrier(_SUBMITS, random)
        self.reached = False
        """Whether the server ever answered: then a failing connection is an outage, not a wrong address."""
        self.sent: Counter[Kind] = Counter()
        """Requests that were on the wire, by what for."""
        self.refused = 0
        """Those of them that were answered with a 429."""
        self._unreached = False  # and that has been said
        self._refusals = 0  # of the key, in a row
        self._held_until = math.inf  # and until then all wait
        self.account_queues = AccountQueues(scheduler, random)
        self._probing = asyncio.Lock()
        self._outage = 0  # submits in a row that JARAI was not there to take
        self._outage_until = 0.0

    async def execute(self, call: Call[T], meter: Meter, retrier: Retrier | None = None) -> T:
        """Send a call until it has a result, as often as is safe: by the given policy, or a read's."""
        again = partial(may_repeat, call, idempotency_keys=self.idempotency_keys)
        return await (retrier or self._reads)(lambda: self._once(call, meter), again)

    async def read_status(self, production_id: str, slot: int, meter: Meter) -> Production | None:
        """Make one poll, in a turn that the poller has."""
        call = endpoints.fetch(production_id, Kind.POLL)
        meter.patient = True
        answer = await self._exchange(call, slot, meter)
        return call.read(answer) if answer is not None else None

    # --- Submits -----------------------------------------------------------------------------------

    async def submit(self, account_id: str, body: bytes, key: str, meter: Meter) -> Production:
        """Submit at most once, or with a key that the server honours; UncertainSubmitError if in doubt.

        In doubt is also what an earlier process may have sent: then `meter` says so.
        """
        if not (isinstance(key, str) and key.isascii() and key.isprintable() and 0 < len(key) <= 255):
            raise InvalidRequestError(["idempotency_key must be 1 to 255 printable ASCII characters"])
        call = endpoints.submit(account_id, body, key)
        doubts: list[JaraiError] = []
        if meter.in_doubt:
            doubts.append(NoResponseError("the answer to an earlier attempt is not known"))

        async def attempt() -> Production:
            try:
                return await self._once(call, meter)
            except JaraiError as error:
                if not created_nothing(error):
                    doubts.append(error)
                raise

        def again(error: JaraiError) -> bool:
            may = may_repeat(call, error, idempotency_keys=self.idempotency_keys)
            return may and not meter.withdrawn

        try:
            production = await self._submits(attempt, again)
        except (JaraiError, WithdrawnError) as error:
            # Once an attempt may have been carried out, a later refusal proves nothing: the budget, say,
            # may be exceeded because the first attempt has spent it.
            if not doubts:
                raise
            raise _uncertain(key, doubts[-1], error) from doubts[-1]
        meter.in_doubt = False
        return production

    async def _in_lane(self, call: Call[Any], account_id: str, meter: Meter) -> Response | None:
        async with self.account_queues.turn(account_id, meter):
            return await self._when_in_reach(call, meter)

    async def _when_in_reach(self, call: Call[Any], meter: Meter) -> Response | None:
        """While JARAI is out of reach one submit at a time asks whether it still is; the others wait."""
        if not self._outage:
            return await self._in_turn(call, meter)
        async with self._probing:
            if self._outage:
                await self._scheduler.pause(self._outage_until - _clock.monotonic())
            return await self._in_turn(call, meter)

    def _note_outage(self, error: JaraiError | None) -> None:
        """Count what keeps submits from JARAI; any other answer ends it."""
        if not isinstance(error, NotSentError | ServiceUnavailableError):
            self._outage = 0
        elif self.reached:
            self._outage += 1
            longest = min(_LONGEST_PAUSE, 2.0 ** min(self._outage, 6))
            pause = max(self._random.uniform(longest / 2, longest), error.retry_after or 0.0)
            self._outage_until = _clock.monotonic() + pause

    # --- All calls ---------------------------------------------------------------------------------

    async def _once(self, call: Call[T], meter: Meter) -> T:
        """Send a call once, when its turn has come; None is no answer but a longer wait."""
        while True:
            if call.account_id is None:
                answer = await self._in_turn(call, meter)
            else:
                answer = await self._in_lane(call, call.account_id, meter)
            if answer is not None:
                return call.read(answer)
            self._check_withdrawn(call, meter)

    def _check_withdrawn(self, call: Call[Any], meter: Meter) -> None:
        if meter.withdrawn and call.account_id is not None:
            raise WithdrawnError("withdrawn before anything was created")

    async def _in_turn(self, call: Call[Any], meter: Meter) -> Response | None:
        slot = await self._scheduler.turn(call.kind)
        try:
            self._check_withdrawn(call, meter)
        except WithdrawnError:
            self._scheduler.give_back()
            raise
        return await self._exchange(call, slot, meter)

    async def _exchange(self, call: Call[Any], slot: int, meter: Meter) -> Response | None:
        """Use a turn, and tell the scheduler how it went. None: ask for another turn."""
        key = await self._ready(call, meter)
        meter.sending, meter.sent_at = True, _clock.utc()
        attempts = Attempts()
        try:
            answer = await self._transport.send(call, key, attempts)
        except BaseException as error:
            self._note_failure(call, error, attempts, meter)
            raise
        finally:
            meter.sending = False
        self.reached = True
        meter.requests += attempts.count
        self.sent[call.kind] += attempts.count
        self.refused += answer.status == 429
        self._scheduler.answered(slot, self._told(call, answer), attempts=attempts.count)
        if call.account_id is not None:
            self._note_submit(call, answer, meter)
        if answer.status == 401:
            return None if await self._is_patient(call, key, meter) else answer
        if 200 <= answer.status < 300:
            self._keys.accepted(key)
            self._refusals, self._held_until = 0, math.inf
        return answer if answer.status != 429 else None

    async def _ready(self, call: Call[Any], meter: Meter) -> Secret:
        """Give the key, when it is written down that a submit is about to leave; else nothing leaves."""
        try:
            key = await self._keys.key()
            if call.account_id is not None and meter.departing is not None:
                await meter.departing()
        except BaseException:
            self._scheduler.give_back()
            if call.account_id is not None and meter.returned is not None:
                meter.returned()
            raise
        return key

    async def _is_patient(self, call: Call[Any], key: Secret, meter: Meter) -> bool:
        """Whether to try again after a 401: with another key, or after a pause with one that has worked.

        A refused key is no fault of a production: all wait, and one at a time asks whether it still is.
        """
        keys = self._keys
        if self._held_until <= _clock.monotonic():
            keys.may_ask_again()
            self._held_until = math.inf
        if await keys.renewed(key):
            return True
        if not keys.ever_worked:
            keys.may_ask_again()
            return False  # wrong from the beginning
        if math.isinf(self._held_until):
            pause = min(_FIRST_PAUSE_FOR_A_KEY * 2.0 ** min(self._refusals, 10), _LONGEST_PAUSE_FOR_A_KEY)
            self._refusals += 1
            self._held_until = _clock.monotonic() + pause
            self._scheduler.hold(pause)
            _log.error("JARAI refuses the API key (401): all requests wait %.0f s; nothing is lost", pause)
        return meter.patient and call.kind is not Kind.CANCEL

    def _note_failure(self, call: Call[Any], error: BaseException, attempts: Attempts, meter: Meter) -> None:
        if isinstance(error, NotSentError) and not self.reached and not self._unreached:
            self._unreached = True
            _log.warning("JARAI has not been reached yet, it is tried again: %s", error)
        if attempts.unsent or isinstance(error, NotSentError | ConfigurationError):
            self._scheduler.give_back()
        else:
            meter.requests += 1
            self.sent[call.kind] += 1
            meter.in_doubt = meter.in_doubt or call.account_id is not None
            self._scheduler.lost()
        if call.account_id is not None and isinstance(error, JaraiError):
            self._note_outage(error)
        if call.account_id is not None and meter.returned is not None:
            meter.returned()

    def _note_submit(self, call: Call[Any], answer: Response, meter: Meter) -> None:
        """Take from the answer to a submit whether JARAI is in reach, and what is in doubt."""
        try:
            call.read(answer)
        except JaraiError as error:
            self._note_outage(error)
            meter.in_doubt = meter.in_doubt or not created_nothing(error)
            if meter.returned is not None:
                meter.returned()
        else:
            self._note_outage(None)
            self.account_queues.accepted(call.account_id or "")

    def _told(self, call: Call[Any], answer: Response) -> RateLimitState:
        """Read the budget from an answer; an account's quota of productions a day is none of it."""
        told = rate_limit_state(answer)
        if call.account_id and (told.retry_after or 0) > LONGER_THAN_A_WINDOW:
            self.account_queues.freeze(call.account_id, told.retry_after or 0)
            return RateLimitState()  # its limit and what remains of it may be the account's as well
        return told


def _uncertain(key: str, doubt: JaraiError, last: Exception) -> UncertainSubmitError:
    """Say both what left the submit in doubt and how it ended."""
    if not isinstance(last, JaraiError):
        last = doubt
    facts = {"status": last.status, "code": last.code, "correlation_id": last.correlation_id}
    message = f"the submit may have been accepted: {doubt.message}"
    if last is not doubt:
        message = f"{message}; then: {last.message}"
    return UncertainSubmitError(message, idempotency_key=key, **facts)
