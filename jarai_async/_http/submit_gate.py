"""The gate that every submit passes: open, or during an outage opened for one submit at a time.

There is one gate for the API and one for each account. The first doubt about a submit closes both, because it
does not show whether all submits fail or only those of its account. A success opens the gate of the API and
that of its own account, so an account whose submits all fail does not stop the others.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

from attrs import frozen

from jarai_async._errors import ApiError, JaraiError, NotSentError, ServiceUnavailableError
from jarai_async._http.outage import Outage
from jarai_async._ratelimit.scheduler import Scheduler

_log = logging.getLogger("jarai_async")


class _Gate:
    """One gate; `outage` is None while it is open."""

    def __init__(self) -> None:
        self.outage: Outage | None = None
        self._probing = asyncio.Lock()

    @asynccontextmanager
    async def enter(self, wait: Callable[["_Gate"], Awaitable[None]]) -> AsyncIterator[bool]:
        """Yield whether the submit is a probe. During an outage `wait` returns when it may be sent."""
        if self.outage is not None:
            async with self._probing:
                await wait(self)
                if self.outage is not None:
                    yield True
                    return
        yield False


@frozen
class Admission:
    """The permission of a submit to pass; `is_probe` says of each gate whether it is closed for others."""

    gates: tuple[_Gate, _Gate]  # of the API and of the account
    is_probe: tuple[bool, bool]

    @property
    def is_valid(self) -> bool:
        """Whether no outage has begun since."""
        return all(
            probe or gate.outage is None for gate, probe in zip(self.gates, self.is_probe, strict=True)
        )


class SubmitGate:
    """The gates of the API and of its accounts.

    `read` sends a read, to find out whether JARAI responds, and returns whether it did.
    """

    def __init__(self, random: Random, scheduler: Scheduler, read: Callable[[], Awaitable[bool]]) -> None:
        self._random = random
        self._scheduler = scheduler
        self._read = read
        self._api = _Gate()
        self._accounts: defaultdict[str, _Gate] = defaultdict(_Gate)

    @property
    def needs_read(self) -> bool:
        """Whether submits wait for a read to be answered."""
        return self._api.outage is not None and self._api.outage.needs_read

    @asynccontextmanager
    async def enter(self, account_id: str) -> AsyncIterator[Admission]:
        """Wait until a submit of this account may be sent. Raises ClosedError, and what `read` raises."""
        account = self._accounts[account_id]
        async with account.enter(self._wait) as first, self._api.enter(self._wait) as second:
            yield Admission((self._api, account), (second, first))

    async def _wait(self, gate: _Gate) -> None:
        """Return when a probe may be sent, or when the outage is over."""
        while (outage := gate.outage) is not None:
            now = self._scheduler.elapsed()
            if outage.next_at > now:
                await self._scheduler.sleep(outage.next_at - now, "submits wait for the end of an outage")
            elif gate is self._api and outage.needs_read:
                answered = await self._read()
                outage.record_read(self._scheduler.elapsed(), now, answered=answered)
            else:
                return

    def record_read(self, sent_at: float) -> None:
        """Record that JARAI answered a read that was sent at this time (monotonic)."""
        if self._api.outage is not None:
            self._api.outage.record_read(self._scheduler.elapsed(), sent_at, answered=True)

    def record(self, admission: Admission, error: BaseException | None, *, in_doubt: bool) -> None:
        """Record how a submit ended; `error` is None if it was accepted.

        Only a success, or a rejection in JARAI's own words, shows that JARAI responds again.
        """
        (api, account), (probes_api, probes_account) = admission.gates, admission.is_probe
        now = self._scheduler.elapsed()
        if in_doubt:
            if api.outage is not None or not probes_account:  # else only its account is known to fail
                self._outage(api, error).record_doubt(now, is_probe=probes_api)
            self._outage(account, error).record_doubt(now, is_probe=probes_account)
        elif isinstance(error, NotSentError | ServiceUnavailableError):
            self._outage(api, error).record_refusal(now, error.retry_after or 0.0, is_probe=probes_api)
        elif error is None or (isinstance(error, ApiError) and error.code is not None):
            for gate, is_probe in zip(admission.gates, admission.is_probe, strict=True):
                self._end(gate, is_accepted_probe=is_probe and error is None)

    def _outage(self, gate: _Gate, error: BaseException | None) -> Outage:
        """Return the outage of a gate, which begins now if there is none."""
        if gate.outage is None:
            gate.outage = Outage(self._scheduler.elapsed(), self._random)
            if gate is self._api:
                why = error.reason if isinstance(error, JaraiError) else type(error).__name__
                _log.warning(
                    "a submit failed, so submits are sent one at a time, once JARAI responds: %s", why
                )
        return gate.outage

    def _end(self, gate: _Gate, *, is_accepted_probe: bool) -> None:
        if gate.outage is None or not (is_accepted_probe or gate.outage.ends_with_any_answer):
            return
        if gate is self._api:
            seconds = self._scheduler.elapsed() - gate.outage.began_at
            _log.warning("JARAI accepts submits again, after %.0f s", seconds)
        gate.outage = None
