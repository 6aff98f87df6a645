"""The gate that every submit passes: only as many at once as `outage` says.

There is one gate for the API and one for each account. The first doubt about a submit closes both, because it
does not show whether all submits fail or only those of its account. A success opens both by one step. While
others are accepted, an account whose submits all fail does not stop them.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

from attrs import frozen

from jarai_async import _clock
from jarai_async._errors import ApiError, JaraiError, NotSentError, ServiceUnavailableError
from jarai_async._http.outage import LONGEST_PAUSE_WITH_KEYS, LONGEST_PAUSE_WITHOUT_KEYS, Outage
from jarai_async._ratelimit.scheduler import Scheduler
from jarai_async._waiting import Waiting, WaitReason

_log = logging.getLogger("jarai_async")


class _Gate:
    """One gate, and how many submits have passed it and are not answered yet."""

    def __init__(self, random: Random, longest_pause: float) -> None:
        self.outage: Outage = Outage(random, longest_pause)
        self.on_their_way: int = 0
        self.why = ""
        """The last submit without a usable response failed."""
        self._line = asyncio.Lock()
        self._left = asyncio.Event()

    @asynccontextmanager
    async def enter(self, wait: Callable[["_Gate"], Awaitable[None]]) -> AsyncIterator[int]:
        """Yield `failures` of the outage once `wait` has returned, which happens for one submit at a time."""
        async with self._line:
            await wait(self)
        self.on_their_way += 1
        try:
            yield self.outage.failures
        finally:
            self.on_their_way -= 1
            self._left.set()

    async def wait_for_answer(self) -> None:
        """Wait until a submit on its way is answered."""
        self._left.clear()
        await self._left.wait()


@frozen
class Admission:
    """The permission of a submit to pass both gates; `failures` are those that each had counted."""

    api: _Gate
    account: _Gate
    failures: tuple[int, int]

    @property
    def is_current(self) -> tuple[bool, bool]:
        """Of each gate, whether it has counted no failure since."""
        api, account = self.failures
        return api == self.api.outage.failures, account == self.account.outage.failures

    @property
    def is_valid(self) -> bool:
        """Whether the submit may still be sent."""
        return all(self.is_current)


class SubmitGate:
    """The gates of the API and of its accounts.

    `read` sends a read, to find out whether JARAI responds, and returns whether it did.
    """

    def __init__(
        self,
        random: Random,
        scheduler: Scheduler,
        read: Callable[[], Awaitable[bool]],
        *,
        idempotency_keys: bool,
    ) -> None:
        self._scheduler = scheduler
        self._read = read
        longest = LONGEST_PAUSE_WITH_KEYS if idempotency_keys else LONGEST_PAUSE_WITHOUT_KEYS
        self._api = _Gate(random, longest)
        self._accounts = defaultdict[str, _Gate](lambda: _Gate(random, longest))

    @property
    def needs_read(self) -> bool:
        """Whether submits wait for a read to be answered."""
        return self._api.outage.needs_read

    @asynccontextmanager
    async def enter(self, account_id: str) -> AsyncIterator[Admission]:
        """Wait until a submit of this account may be sent. Raises ClosedError, and what `read` raises."""
        account = self._accounts[account_id]
        async with account.enter(self._wait) as of_account, self._api.enter(self._wait) as of_api:
            yield Admission(self._api, account, (of_api, of_account))

    def waits(self, account_id: str) -> Waiting | None:
        """Return whether submits of this account wait for the end of an outage, and since when."""
        now = self._scheduler.elapsed()
        for gate in (self._api, self._accounts[account_id]):
            outage = gate.outage
            needs_read = gate is self._api and outage.needs_read
            is_full = gate.on_their_way >= outage.window and not outage.is_over
            if outage.next_at > now or is_full or needs_read:
                since = _clock.utc_at(_clock.monotonic() - (now - outage.began_at))
                return Waiting(reason=WaitReason.OUTAGE, since=since, detail=f"JARAI: {gate.why}")
        return None

    async def _wait(self, gate: _Gate) -> None:
        """Return when a further submit may pass."""
        outage = gate.outage
        while True:
            now = self._scheduler.elapsed()
            if outage.next_at > now:
                await self._scheduler.sleep(outage.next_at - now)
            elif gate.on_their_way >= outage.window:
                await gate.wait_for_answer()
            elif gate is self._api and outage.needs_read:
                answered = await self._read()
                outage.record_read(self._scheduler.elapsed(), now, answered=answered)
            else:
                return

    def record_read(self, sent_at: float) -> None:
        """Record that JARAI answered a read that was sent at this time (monotonic)."""
        self._api.outage.record_read(self._scheduler.elapsed(), sent_at, answered=True)

    def record(self, admission: Admission, error: BaseException | None, *, in_doubt: bool) -> None:
        """Record how a submit ended; `error` is None if it was accepted.

        Only a success, or a rejection in JARAI's own words, shows that JARAI responds again.
        """
        api, account, now = admission.api.outage, admission.account.outage, self._scheduler.elapsed()
        of_api, of_account = admission.is_current
        was_probing = api.is_probing
        if in_doubt:
            if api.is_probing or not account.is_probing:  # else only its account is known to fail
                api.record_doubt(now, is_current=of_api)
            account.record_doubt(now, is_current=of_account)
        elif isinstance(error, NotSentError | ServiceUnavailableError):
            api.record_refusal(now, error.retry_after or 0.0, is_current=of_api)
        elif error is None or (isinstance(error, ApiError) and error.code is not None):
            api.record_answer(is_accepted=error is None, is_current=of_api)
            account.record_answer(is_accepted=error is None, is_current=of_account)
        why = error.reason if isinstance(error, JaraiError) else type(error).__name__
        if in_doubt or isinstance(error, NotSentError | ServiceUnavailableError):
            admission.api.why = admission.account.why = why
        if api.is_probing and not was_probing:
            _log.debug("a submit failed, so submits are sent one at a time, once JARAI responds: %s", why)
        elif was_probing and not api.is_probing:
            _log.debug("JARAI accepts submits again, after %.0f s", now - api.began_at)
