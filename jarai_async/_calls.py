"""One call, from its turn to its result: waiting, sending, accounting, sending again where it is safe."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from random import Random
from typing import Any, TypeVar

from attrs import define

from jarai_async import _clock, _protocol
from jarai_async._answers import Answer, Rate, rate
from jarai_async._budget import LONGER_THAN_A_WINDOW
from jarai_async._errors import ConfigurationError, JaraiError, NotSentError, UncertainSubmitError
from jarai_async._models import Production, ProductionRequest
from jarai_async._protocol import Call, may_repeat, was_refused
from jarai_async._retry import Retrier, Retry
from jarai_async._scheduler import Scheduler
from jarai_async._transport import Transport

T = TypeVar("T")

_log = logging.getLogger("jarai_async")

_READS = Retry(attempts=4)
_SUBMITS = Retry(attempts=8)


@define
class Meter:
    """Counts the API requests that are sent for one purpose.

    `sending` tells whether one is on its way, `sent_at` when the last one left: what its answer says was
    true at that moment or later.
    """

    requests: int = 0
    sending: bool = False
    sent_at: datetime | None = None


class Caller:
    """Makes calls within the budget."""

    def __init__(
        self, transport: Transport, scheduler: Scheduler, random: Random, *, idempotency_keys: bool
    ) -> None:
        self._transport = transport
        self._scheduler = scheduler
        self._random = random
        self._idempotency_keys = idempotency_keys
        self._reads, self._submits = Retrier(_READS, random), Retrier(_SUBMITS, random)
        self.reached = False
        """Whether the server ever answered: then a failing connection is an outage, not a wrong address."""
        self._lanes: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._frozen: dict[str, float] = {}  # accounts whose day's quota is spent, until when

    async def perform(self, call: Call[T], meter: Meter, retrier: Retrier | None = None) -> T:
        """Send a call until it has a result, as often as is safe: by the given policy, or a read's."""
        again = partial(may_repeat, call, idempotency_keys=self._idempotency_keys)
        return await (retrier or self._reads)(lambda: self._once(call, meter), again)

    async def submit(self, request: ProductionRequest, key: str, meter: Meter) -> Production:
        """Submit at most once, or with a key that the server honours; UncertainSubmitError if in doubt."""
        call = _protocol.submit(request, key)
        doubts: list[JaraiError] = []

        async def attempt() -> Production:
            try:
                return await self._once(call, meter)
            except JaraiError as error:
                if not was_refused(error):
                    doubts.append(error)
                raise

        try:
            again = partial(may_repeat, call, idempotency_keys=self._idempotency_keys)
            return await self._submits(attempt, again)
        except JaraiError:
            # Once an attempt may have been carried out, a later refusal proves nothing: the budget, say,
            # may be exceeded because the first attempt has spent it.
            if not doubts:
                raise
        doubt = doubts[-1]
        facts = {"status": doubt.status, "code": doubt.code, "correlation_id": doubt.correlation_id}
        message = f"the submit may have been accepted: {doubt.message}"
        raise UncertainSubmitError(message, idempotency_key=key, **facts) from doubt

    async def _once(self, call: Call[T], meter: Meter) -> T:
        """Send a call once, when its turn has come; a 429 is no answer but a longer wait."""
        while True:
            if call.account_id is None:
                answer = await self._in_turn(call, meter)
            else:
                async with self._lane(call.account_id):
                    answer = await self._in_turn(call, meter)
            if answer.status != 429:
                return call.read(answer)

    async def _in_turn(self, call: Call[Any], meter: Meter) -> Answer:
        return await self._exchange(call, await self._scheduler.turn(call.kind), meter)

    @asynccontextmanager
    async def _lane(self, account_id: str) -> AsyncIterator[None]:
        """Let submits of one account go one after the other where productions a day are limited.

        So the first that is refused for the day is the only one, and the others wait with it until midnight.
        """
        async with self._lanes[account_id]:
            if self._scheduler.budget.has_days:
                if seconds := self._frozen_for(account_id):
                    await asyncio.sleep(seconds)
                yield
                return
        yield

    async def _exchange(self, call: Call[Any], slot: int, meter: Meter) -> Answer:
        """Use a turn, and tell the scheduler how it went."""
        meter.sending, meter.sent_at = True, _clock.utc()
        try:
            answer = await self._transport.send(call)
        except (NotSentError, ConfigurationError):
            self._scheduler.give_back()
            raise
        except BaseException:
            meter.requests += 1
            self._scheduler.lost()
            raise
        finally:
            meter.sending = False
        self.reached = True
        meter.requests += answer.attempts
        self._scheduler.answered(slot, self._told(call, answer), attempts=answer.attempts)
        return answer

    def _told(self, call: Call[Any], answer: Answer) -> Rate:
        """Read the budget from an answer; an account's quota of productions a day is none of it."""
        told = rate(answer)
        if call.account_id and (told.retry_after or 0) > LONGER_THAN_A_WINDOW:
            self._freeze(call.account_id, told.retry_after or 0)
            return Rate()  # its limit and what remains of it may be the account's as well
        return told

    def _freeze(self, account_id: str, seconds: float) -> None:
        if not self._frozen_for(account_id):
            hours = seconds / 3600
            _log.warning("account %s has no productions left today: submits wait %.1f h", account_id, hours)
        self._frozen[account_id] = _clock.monotonic() + seconds + self._random.uniform(0, 60)

    def _frozen_for(self, account_id: str) -> float:
        return max(0.0, self._frozen[account_id] - _clock.monotonic()) if account_id in self._frozen else 0.0

    async def read_status(self, production_id: str, slot: int, meter: Meter) -> Production | None:
        """Make one poll, in a turn that the poller has."""
        call = _protocol.fetch(production_id)
        answer = await self._exchange(call, slot, meter)
        return call.read(answer) if answer.status != 429 else None
