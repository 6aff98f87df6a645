"""Sends calls within the rate limit: waits for a slot, sends, records what the response says, and retries.

A read goes through `execute`. A submit costs money, so its caller sees each step:

    async with sender.submit_slot(account_id, place) as permit:  # waits: account, outage, rate limit, key
        ...                                                      # write to the journal that it is sent now
        production = await sender.submit(permit, call, log)

`SubmitRetry` decides after each failure whether the submit may be sent again.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from random import Random
from typing import Any, TypeVar

from attrs import define

from jarai_async import _clock
from jarai_async._api import endpoints
from jarai_async._api.calls import Call, Kind, created_nothing, is_key_in_use, may_repeat
from jarai_async._api.models import Production
from jarai_async._api.responses import RateLimitState, Response, is_answer, rate_limit_state
from jarai_async._errors import (
    ApiError,
    AuthenticationError,
    ConfigurationError,
    JaraiError,
    NotSentError,
    PermissionDeniedError,
    TransportError,
)
from jarai_async._http.availability import Availability, is_unavailable
from jarai_async._http.credentials import Credentials
from jarai_async._http.request_log import RequestLog, log_request
from jarai_async._http.retry import Retrier, Retry
from jarai_async._http.sessions import Attempts
from jarai_async._http.submit_gate import Admission, SubmitGate
from jarai_async._http.submit_retry import SubmitRetry
from jarai_async._http.transport import Transport
from jarai_async._http.waits import Waits
from jarai_async._ratelimit.account_queue import AccountQueues, Releasable
from jarai_async._ratelimit.limiter import LONGEST_MINUTE_PAUSE
from jarai_async._ratelimit.scheduler import Scheduler
from jarai_async._secret import Secret

T = TypeVar("T")

_log = logging.getLogger("jarai_async")

_READS = Retry(attempts=4)
_NO_SUBMITS = (
    "JARAI accepts this API key, but not for submits. Nothing was created: run the request again with a key "
    "that has the scope productions:write."
)


@define
class SubmitPermit:
    """The permission to send one submit now.

    `is_sending`: the submit was sent and has no response yet. `in_doubt`: it may have created a
    production although `RequestSender.submit` returned none.
    """

    rate_slot: int
    api_key: Secret
    admission: Admission
    is_used: bool = False
    is_sending: bool = False
    in_doubt: bool = False


class RequestSender:
    """Sends calls within the rate limit."""

    def __init__(
        self,
        transport: Transport,
        credentials: Credentials,
        scheduler: Scheduler,
        random: Random,
        *,
        idempotency_keys: bool,
    ) -> None:
        self.idempotency_keys = idempotency_keys
        """Whether the server honours `Idempotency-Key`."""
        self.sent: Counter[Kind] = Counter()
        """Requests that were sent, by kind."""
        self.rate_limited: int = 0
        """Requests that were answered with a 429."""
        self.availability: Availability = Availability("JARAI")
        """Whether JARAI responds."""
        self.account_queues: AccountQueues = AccountQueues(scheduler, random)
        self._transport = transport
        self._credentials = credentials
        self._scheduler = scheduler
        self._random = random
        self._retry_reads = Retrier(_READS, random)
        self._gate = SubmitGate(random, scheduler, self._is_answered, idempotency_keys=idempotency_keys)
        self.waits: Waits = Waits(scheduler, self.account_queues, self._gate, credentials, self.availability)
        """Why requests are not sent now."""
        self._testing_key = asyncio.Lock()

    @property
    def reached(self) -> bool:
        """Whether the server ever responded: then a failing connection is an outage, not a wrong URL."""
        return self._transport.reached

    async def execute(self, call: Call[T], log: RequestLog, retrier: Retrier | None = None) -> T:
        """Send a call and return its result, retrying as far as that is safe and `retrier` allows.

        Raises any error of the API, NotSentError, NoResponseError, InvalidResponseError, ClosedError.
        """
        may_retry = partial(may_repeat, call, idempotency_keys=self.idempotency_keys)
        return await (retrier or self._retry_reads)(partial(self._execute_once, call, log), may_retry, log)

    async def _execute_once(self, call: Call[T], log: RequestLog) -> T:
        while True:
            log.queued.append(call.kind)
            try:
                rate_slot = await self._scheduler.acquire(call.kind)
            finally:
                log.queued.remove(call.kind)
            key = await self._key(rate_slot)
            if not self._scheduler.is_valid(rate_slot):  # the key provider took its time
                self._scheduler.release(rate_slot)
                continue
            response = await self._send(call, rate_slot, key, log, Attempts())
            if not await self._must_wait(call, key, response, log):
                return self._read(call, response, log)

    async def poll(self, production_id: str, rate_slot: int, log: RequestLog) -> Production | None:
        """Read a production's status once, with a slot that the poller already holds.

        None after a 429, or if the slot was held for too long.
        """
        call = endpoints.fetch(production_id, Kind.POLL)
        log.waits_for_key = True
        key = await self._key(rate_slot)
        if not self._scheduler.is_valid(rate_slot):
            self._scheduler.release(rate_slot)
            return None
        response = await self._send(call, rate_slot, key, log, Attempts())
        return None if await self._must_wait(call, key, response, log) else self._read(call, response, log)

    async def pause(self, seconds: float, error: JaraiError, log: RequestLog, reason: str = "") -> None:
        """Sleep before a request is repeated that failed with `error`. A long pause is logged with `reason`.

        Raises ClosedError.
        """
        with log.repeating(error) as repetition:
            repetition.pause = _clock.Deadline(seconds)
            await self._scheduler.sleep(seconds, reason)

    # --- Submits -----------------------------------------------------------------------------------

    @asynccontextmanager
    async def submit_slot(
        self, account_id: str, place: int, production_slot: Releasable | None = None
    ) -> AsyncIterator[SubmitPermit]:
        """Wait until a submit of this account may be sent, and hold that permission.

        `place` is from `account_queues.new_place`: a submit that has to wait for another permit keeps it.
        `production_slot` is released if the account has no productions left today. Raises ClosedError, and
        ConfigurationError where there is no API key.
        """
        async with (
            self.account_queues.turn(account_id, place, production_slot),
            self._gate.enter(account_id) as admission,
        ):
            await self._test_key()
            rate_slot = await self._scheduler.acquire(Kind.SUBMIT)
            permit = SubmitPermit(rate_slot, await self._key(rate_slot), admission)
            try:
                yield permit
            finally:
                if not permit.is_used:
                    self._scheduler.release(rate_slot)

    async def submit(
        self, permit: SubmitPermit, call: Call[Production], log: RequestLog
    ) -> Production | None:
        """Send a submit once. None where it has to wait for another permit.

        That is so after a 429, while the key is rejected, if an outage began before it was sent, if the
        permit was held for too long, or if another worker learned that the account has no productions left.
        Raises any error of the API, NotSentError, NoResponseError, InvalidResponseError.
        """
        is_valid = permit.admission.is_valid and self._scheduler.is_valid(permit.rate_slot)
        if not is_valid or self.account_queues.is_blocked(call.account_id or ""):
            return None
        permit.is_used = permit.is_sending = True
        attempts = Attempts()
        try:
            response = await self._send(call, permit.rate_slot, permit.api_key, log, attempts)
        except BaseException as error:
            refused = isinstance(error, JaraiError) and created_nothing(error)
            permit.in_doubt = not (refused or attempts.never_sent)
            if self.reached or permit.in_doubt:
                self._gate.record(permit.admission, error, in_doubt=permit.in_doubt)
            raise
        finally:
            permit.is_sending = False
        if await self._must_wait(call, permit.api_key, response, log):
            return None
        try:
            production = self._read(call, response, log)
        except JaraiError as error:
            permit.in_doubt = not created_nothing(error)
            is_answered = self.idempotency_keys and is_key_in_use(error)
            self._gate.record(permit.admission, error, in_doubt=permit.in_doubt and not is_answered)
            if isinstance(error, AuthenticationError) and self._credentials.rejects_submits:
                error.advice = _NO_SUBMITS
            raise
        self._gate.record(permit.admission, None, in_doubt=False)
        self.account_queues.count_accepted(call.account_id or "")
        return production

    async def _is_answered(self) -> bool:
        """Send the cheapest read that is documented, and return whether JARAI itself answered it."""
        call = endpoints.accounts()
        rate_slot = await self._scheduler.acquire(call.kind)
        key = await self._key(rate_slot)
        while not self._scheduler.is_valid(rate_slot):
            self._scheduler.release(rate_slot)
            rate_slot = await self._scheduler.acquire(call.kind)
        log = RequestLog()
        try:
            response = await self._send(call, rate_slot, key, log, Attempts())
        except TransportError:
            return False
        with suppress(JaraiError):
            self._read(call, response, log)
        return is_answer(response)

    async def submit_with_retries(self, call: Call[Production], what: str, log: RequestLog) -> Production:
        """Submit without a journal, in at most eight attempts; `what` names the request in errors.

        Raises what `submit` raises, and UncertainSubmitError where a production may have been created.
        """
        retry = SubmitRetry(call, self._random, what=what, honours_keys=self.idempotency_keys)
        production, delay, in_doubt = None, 0.0, False
        place = self.account_queues.new_place()
        try:
            while production is None:
                try:
                    if delay:
                        await self._scheduler.sleep(delay, "a submit waits")
                    async with self.submit_slot(call.account_id or "", place) as permit:
                        retry.before_attempt(_clock.wall())
                        try:
                            production = await self.submit(permit, call, log)
                        finally:
                            in_doubt = in_doubt or permit.in_doubt
                except JaraiError as error:
                    retry.after_failure(error, _clock.wall(), outlast_outage=False)
                    delay, place = retry.delay(error), self.account_queues.new_place()
        except asyncio.CancelledError:
            if in_doubt:
                _log.warning("a cancelled submit may have been accepted, key %s", call.idempotency_key)
            raise
        return production

    # --- All calls ---------------------------------------------------------------------------------

    async def _key(self, rate_slot: int) -> Secret:
        """Return the API key for a rate limit slot that was acquired; without a key, release the slot."""
        try:
            return await self._credentials.key()
        except BaseException:
            self._scheduler.release(rate_slot)
            raise

    async def _send(
        self, call: Call[Any], rate_slot: int, key: Secret, log: RequestLog, attempts: Attempts
    ) -> Response:
        """Use a slot of the rate limit to send a call once, and record the outcome."""
        log.last_sent_at, sent_at = _clock.utc(), self._scheduler.elapsed()
        began_at = _clock.monotonic()
        try:
            response = await self._transport.send(call, key, attempts)
        except BaseException as error:
            self._count_failure(call, rate_slot, error, attempts, log)
            log_request(call, type(error).__name__, began_at, log)
            if isinstance(error, JaraiError):
                self._record_failure(call, error, began_at, log)
            raise
        self._count(call, log, attempts.count)
        log_request(call, response.status, began_at, log)
        self.rate_limited += response.status == 429
        state = self._rate_limit_state(call, response)
        self._scheduler.record_response(rate_slot, state)
        if self._gate.needs_read and call.method == "GET" and is_answer(response):
            self._gate.record_read(sent_at)
        if 200 <= response.status < 300:
            self._credentials.accepted(key, for_submit=call.kind is Kind.SUBMIT)
        return response

    def _read(self, call: Call[T], response: Response, log: RequestLog) -> T:
        """Return the decoded response, and record whether JARAI responds. Raises what `Call.read` raises."""
        try:
            result = call.read(response)
        except JaraiError as error:
            self._record_failure(call, error, _clock.monotonic(), log)
            raise
        self.availability.answered(call.kind.name.lower())
        return result

    def _record_failure(self, call: Call[Any], error: JaraiError, sent_at: float, log: RequestLog) -> None:
        kind = call.kind.name.lower()
        if is_unavailable(error):
            self.availability.failed(kind, error, sent_at, None if call.kind is Kind.READ else log)
        elif error.status is not None:
            self.availability.answered(kind)

    async def _must_wait(self, call: Call[Any], key: Secret, response: Response, log: RequestLog) -> bool:
        """Whether the call has to wait for another slot: after a 429, or while the key is rejected."""
        if response.status == 401:
            return await self._waits_for_key(call, key, log)
        return response.status == 429

    def _count(self, call: Call[Any], log: RequestLog, attempts: int) -> None:
        log.count += attempts
        self.sent[call.kind] += attempts

    def _count_failure(
        self, call: Call[Any], rate_slot: int, error: BaseException, attempts: Attempts, log: RequestLog
    ) -> None:
        if attempts.never_sent or isinstance(error, NotSentError | ConfigurationError):
            self._scheduler.release(rate_slot)
        else:
            self._count(call, log, 1)
            self._scheduler.failed(rate_slot)

    async def _waits_for_key(self, call: Call[Any], key: Secret, log: RequestLog) -> bool:
        """Whether to send again after a 401: with a new key, or after a pause with one that has worked.

        A rejected key says nothing about a production. So all requests pause, and then a single request tests
        whether the key is still rejected.
        """
        if call.kind is Kind.SUBMIT:
            self._credentials.submit_rejected(_clock.monotonic())
            if self._credentials.rejects_submits:
                return False
        if await self._credentials.replaced(key, _clock.monotonic()):
            return True
        if not self._credentials.may_be_accepted_later():
            return False
        now = _clock.monotonic()  # a provider may have taken its time
        if (pause := self._credentials.begin_pause(now)) is not None:
            self._scheduler.pause_until(now + pause)
            _log.error(
                "JARAI rejects the API key (401): all requests wait %.0f s, and nothing is lost; "
                "is it the right key, and is it still valid?",
                pause,
            )
        return log.waits_for_key

    async def _test_key(self) -> None:
        """After a submit that was rejected (401), wait until the key is accepted for a read."""
        async with self._testing_key:
            if self._credentials.is_untested:
                try:
                    await self.execute(endpoints.accounts(), RequestLog(waits_for_key=True))
                except PermissionDeniedError:
                    self._credentials.accepted(
                        await self._credentials.key()
                    )  # it is known, but may not read accounts
                except (ApiError, TransportError):
                    return  # the next submit shows whether the key is accepted

    def _rate_limit_state(self, call: Call[Any], response: Response) -> RateLimitState:
        """Read the rate limit from a response, without an account's quota of productions a day."""
        state = rate_limit_state(response)
        wait = state.retry_after or 0.0
        if call.account_id and wait > LONGEST_MINUTE_PAUSE:
            self.account_queues.block(call.account_id, wait)
            return RateLimitState()  # its limit and its remaining requests may be the account's as well
        return state
