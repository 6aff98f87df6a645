"""One rate limit for all workers: a `Limiter` whose slots are granted by a row of the database.

The gate asks synchronously, and a transaction takes milliseconds, or hours during an outage. So a task does
the transactions, one at a time, and each takes along all that has come together meanwhile: reports, and how
many requests wait. What it grants is handed out when it is committed. In between, the state as it was then
shows when to ask again. Nothing is asked for that does not wait, so an idle worker does no transactions.

`shared_model` has the rules, and says what makes this exact although transactions are repeated, and workers
die or stop for a while.
"""

import asyncio
import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial
from itertools import count
from random import Random
from typing import Any
from uuid import uuid4

from jarai_async import _clock
from jarai_async._api.calls import KINDS, Kind
from jarai_async._api.models import RateLimit
from jarai_async._api.responses import RateLimitState
from jarai_async._errors import ClosedError, JournalError
from jarai_async._postgres.database import Connection, Database, rows
from jarai_async._postgres.reports import Reports
from jarai_async._ratelimit.limiter import OTHERS_EXPECTED
from jarai_async._ratelimit.shared_model import MARGIN, USABLE, Message, Reply, SharedModel
from jarai_async._tasks import start, stop

_log = logging.getLogger("jarai_async")

# The time is read after the row is locked, not before the wait for it.
_SELECT = (
    "WITH locked AS MATERIALIZED (SELECT state FROM jarai.rate_limit FOR UPDATE) "
    "SELECT state, jarai.now() FROM locked"
)
_UPDATE = b"UPDATE jarai.rate_limit SET state = %s"
_REPORT_DELAY = 1.0  # seconds: reports that change nothing for others wait for the next transaction
_SHORTEST_RECHECK = 0.001  # seconds, where the clocks differ by a rounding error
_SMALLEST_SHARE = 0.05  # of the polls: for a worker whose demand has just begun
_CLOSING = 2.0  # seconds for the last report
_SAME_END = 60.0  # seconds by which two reports of the end of the same day may differ
_REFUSED_PAUSE = 5.0  # seconds after PostgreSQL refused a statement


class SharedLimiter:
    """The rate limit of all workers that use one database; see `Limiter`."""

    def __init__(
        self,
        database: Database,
        rate_limit: RateLimit,
        random: Random,
        *,
        timeout: float = 30.0,
    ) -> None:
        """`timeout` is the client's, in seconds."""
        self.on_change: Callable[[], None] = lambda: None
        """Is called after each transaction."""
        self.on_blocked: Callable[[str, float], None] = lambda _account_id, _seconds: None
        """Is called when an account has no productions left, with the seconds for which its submits wait."""
        self.share: float = 1.0
        """This worker's share of all polls."""
        self.transactions: int = 0
        """Transactions that were committed."""
        self._database = database
        self._rate_limit = rate_limit
        self._random = random
        self._lease = USABLE + timeout + MARGIN
        self._worker = uuid4().hex
        self._number = 0
        self._ids = count(1)
        # What was granted: not handed out yet, handed out, and handed out but lost since.
        self._granted: Counter[Kind] = Counter()
        self._granted_returned = 0
        self._slots: dict[int, int] = {}
        self._lost: dict[int, int] = {}
        self._usable_until = (-math.inf, -math.inf)  # monotonic and wall time
        # What was not reported yet.
        self._unconfirmed: Callable[[float], Message] | None = None
        self._reports = Reports()
        # What is known: the state after the last transaction, and the clock of the database.
        self._model = SharedModel({}, rate_limit, self._lease, 0.0)
        self._is_known = False
        self._offset = _clock.wall() - _clock.monotonic()
        self._replied_at = -math.inf
        self._blocked_known: dict[str, float] = {}
        self._waiting = [0] * len(KINDS)  # by kind
        self._next_poll_at = -math.inf
        self._pause_until = self._own_pause_until = -math.inf
        self._changed = asyncio.Event()
        self._task = start(self._run, name="jarai rate limit", context=Context())

    async def close(self) -> None:
        """Report what is left to report, if the database responds, and stop."""
        await stop([self._task])
        with suppress(TimeoutError, JournalError, ClosedError):
            async with asyncio.timeout(_CLOSING):
                while True:
                    self.set_waiting([0] * len(KINDS), _clock.monotonic(), _clock.wall())
                    if self._database.failure is not None or not self._has_reports():
                        break
                    await self._exchange()

    def _has_reports(self) -> bool:
        return self._unconfirmed is not None or self._reports.due_at < math.inf

    # --- What the gate asks ------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Requests of this worker without a response so far."""
        return len(self._slots)

    @property
    def paused_until(self) -> float:
        """Nothing is sent before this time."""
        shared = self._model.limiter.paused_until - self._offset
        return max(shared, self._pause_until, self._own_pause_until)

    @property
    def others_seen_at(self) -> float:
        """When the headers last showed requests of other programs, which are no workers."""
        return self._model.limiter.others_seen_at - self._offset

    @property
    def limit(self) -> int:
        """Requests a minute, as far as known."""
        return self._model.limiter.limit

    @property
    def is_limit_known(self) -> bool:
        """Whether the server has stated its limit, to any worker."""
        return self._model.limiter.is_limit_known

    @property
    def per_day(self) -> float:
        """Requests a UTC day."""
        return self._model.limiter.per_day

    @property
    def has_daily_quotas(self) -> bool:
        """False only once the tier is known to have none."""
        return self._model.limiter.has_daily_quotas

    @property
    def productions_per_day(self) -> float:
        """Productions of one account a UTC day."""
        return self._model.limiter.productions_per_day

    def free_slots(self, now: float) -> int:
        """Return how many requests might be sent now, by the last transaction."""
        return self._model.limiter.free_slots(now + self._offset)

    def used_slots(self, now: float) -> int:
        """Return the slots that are in use by all workers and programs, by the last transaction."""
        return self._model.limiter.used_slots(now + self._offset)

    def left_today(self, _wall: float, /) -> float:
        """Return how many requests are left of the day's quota, by the last transaction."""
        return self._model.limiter.left_today(_clock.monotonic() + self._offset)

    def accepted_today(self, account_id: str) -> int:
        """Return how many productions of an account all workers have submitted today."""
        return self._model.accepted_today(account_id) + self._reports.accepted[account_id]

    def set_waiting(self, waiting: Sequence[int], now: float, wall: float, /) -> None:
        """Ask for slots for the requests that wait, and give back those that no request waits for."""
        self._waiting = list(waiting)
        for kind in KINDS:
            unused = self._granted[kind] - (waiting[kind] if self._is_usable(now, wall) else 0)
            if unused > 0:
                self._granted[kind] -= unused
                self._reports.released(unused, now)
        if self._due_at(now) <= now:
            self._changed.set()

    def earliest_send(self, kind: Kind, now: float, wall: float) -> float:
        """Return `now` if a slot is granted, else when to ask again; infinity while asking."""
        if self._own_pause_until > now:
            return self._own_pause_until
        if self._granted[kind] > 0 and self._is_usable(now, wall):
            return now
        at = self._ask_at(kind)
        return at if at > now else math.inf

    def quota_returns(self, kind: Kind, now: float, _wall: float, /) -> float:
        """Return when the day's quota lets a request of this kind be sent, by the last transaction."""
        at = now + self._offset
        return self._model.limiter.quota_returns(kind, at, at) - self._offset

    def _ask_at(self, kind: Kind) -> float:
        if not self._is_known:
            return -math.inf
        at = max(self._model.ask_at(kind, self._worker) - self._offset, self._replied_at + _SHORTEST_RECHECK)
        at = max(at, self._own_pause_until)
        return max(at, self._next_poll_at) if kind is Kind.POLL else at

    def _is_usable(self, now: float, wall: float) -> bool:
        monotonic_end, wall_end = self._usable_until
        return now < monotonic_end and wall < wall_end  # the first stops while the machine sleeps

    # --- What was sent -----------------------------------------------------------------------------

    def acquire(self, kind: Kind, now: float, _wall: float, /) -> int:
        """Take a granted slot."""
        self._granted[kind] -= 1
        self._waiting[kind] = max(0, self._waiting[kind] - 1)
        slot = next(self._ids)
        self._slots[slot] = self._granted_returned
        if kind is Kind.POLL:
            self._next_poll_at = self._after_poll(self._next_poll_at, now)
        return slot

    def _after_poll(self, previous: float, now: float) -> float:
        share, at = max(self.share, _SMALLEST_SHARE), now + self._offset
        return self._model.limiter.next_poll(previous + self._offset, at, at, share) - self._offset

    def is_valid(self, slot: int, now: float, wall: float, /) -> bool:
        """Return whether a slot may still be used: others have it once this worker was away for long."""
        return slot in self._slots and self._is_usable(now, wall)

    def release(self, slot: int, /) -> None:
        """Give back the slot of a request that was never sent."""
        if self._slots.pop(slot, None) is not None:
            self._reports.released(1, _clock.monotonic())
            self._changed.set()
        else:
            self._lost.pop(slot, None)

    def failed(self, slot: int, now: float, /) -> None:
        """Record a request that failed without a response."""
        self._end(slot, now, None)

    def record_response(self, state: RateLimitState, slot: int, now: float, _random: Random, /) -> None:
        """Record a response."""
        if state.retry_after is not None:
            self._pause_until = max(self._pause_until, now + state.retry_after)
        self._end(slot, now, state)

    def _end(self, slot: int, now: float, state: RateLimitState | None) -> None:
        is_late = slot not in self._slots
        slots_returned = (self._lost if is_late else self._slots).pop(slot, 0)
        limits_others = state is not None and (state.retry_after is not None or not self.is_limit_known)
        others_send = now - self.others_seen_at < OTHERS_EXPECTED
        due_at = now if limits_others or others_send else now + _REPORT_DELAY
        self._reports.ended(now, slots_returned, state, is_late=is_late, due_at=due_at)
        self._changed.set()

    def pause_until(self, time: float) -> None:
        """Let this worker send nothing before that time: the keys of the others may be accepted."""
        self._own_pause_until = max(self._own_pause_until, time)
        self._changed.set()

    def bring_forward(self, seconds: float) -> None:
        """Let pauses end sooner: the machine slept, but the database did not."""
        self._offset += seconds
        self._next_poll_at -= seconds
        self._pause_until -= seconds
        self._own_pause_until -= seconds

    def account_blocked(self, account_id: str, seconds: float) -> None:
        """Tell the others that an account has no productions left for so long."""
        self._reports.blocked(account_id, seconds, _clock.monotonic())
        self._changed.set()

    def account_accepted(self, account_id: str) -> None:
        """Tell the others of a production that was accepted now."""
        self._reports.accept(account_id, _clock.monotonic() + _REPORT_DELAY)
        self._changed.set()

    def export_state(self, _now: float, _wall: float) -> dict[str, Any]:
        """Return nothing: the database has it."""
        return {}

    def restore_state(self, _state: Mapping[str, Any], _now: float, _wall: float) -> None:
        """Do nothing: the database has what earlier processes sent."""

    # --- Transactions ------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            now = _clock.monotonic()
            if (due := self._due_at(now)) > now:
                await (self._changed.wait() if math.isinf(due) else _clock.wait_until(due, self._changed))
                continue
            try:
                await self._exchange()
            except JournalError as error:
                _log.error("%s; no request is sent until it is mended", error.message)
                await asyncio.sleep(_REFUSED_PAUSE)

    def _due_at(self, now: float) -> float:
        """Return when the next transaction is due: to report, to keep what is held, or to ask."""
        times = [self._reports.due_at]
        if self._held():
            times.append(self._usable_until[0] - USABLE / 2)
        waiting = (kind for kind in KINDS if self._waiting[kind] > self._granted[kind])
        return max(now, min((*times, *map(self._ask_at, waiting))))

    def _held(self) -> int:
        """Return how many slots this worker holds by the state of the database, as far as it knows."""
        return len(self._slots) + self._granted.total() + self._reports.held

    async def _exchange(self) -> None:
        if self._unconfirmed is None:
            self._unconfirmed = self._take()
        began = _clock.monotonic()
        confirmed = await self._database.transaction(partial(self._transact, self._unconfirmed))
        self._unconfirmed = None
        self.transactions += 1
        self._use(*confirmed)
        _log.debug("asked for slots of the rate limit: %.1f ms", 1e3 * (_clock.monotonic() - began))

    def _take(self) -> Callable[[float], Message]:
        """Take what is to be reported, and return a function of the time that makes a message of it."""
        self._number += 1
        message = Message(worker=self._worker, number=self._number, held=self._held(), waiting=self._wanted())
        reports, self._reports = self._reports, Reports()
        return reports.message(message)

    def _wanted(self) -> dict[Kind, int]:
        """Return how many requests of each kind wait for a slot, of the polls only those that are due."""
        now = _clock.monotonic()
        wanted = {kind: self._waiting[kind] - self._granted[kind] for kind in KINDS}
        polls, at = 0, self._next_poll_at
        while polls < wanted[Kind.POLL] and at <= now:
            polls, at = polls + 1, self._after_poll(at, now)
        wanted[Kind.POLL] = polls
        return {kind: number for kind, number in wanted.items() if number > 0}

    async def _transact(
        self, message_at: Callable[[float], Message], connection: Connection
    ) -> tuple[SharedModel, Reply, float, float]:
        """Return the state and the reply, with the monotonic and the wall time before the transaction."""
        now, wall = _clock.monotonic(), _clock.wall()
        found = await rows(connection, _SELECT)
        if not found:
            raise JournalError(f"{self._database.name} has no state of the rate limit")
        [(state, database_now)] = found
        model = SharedModel(state, self._rate_limit, self._lease, database_now)
        reply = model.exchange(message_at(now), self._random)
        await connection.execute(_UPDATE, (json.dumps(model.store()),))
        return model, reply, now, wall

    def _use(self, model: SharedModel, reply: Reply, began_at: float, wall: float) -> None:
        """Use what a transaction that was committed has granted."""
        if reply.is_lost:
            self._lose()
        self._replied_at = _clock.monotonic()
        self._model, self._is_known, self._offset = model, True, model.now - self._replied_at
        usable = USABLE - (model.now - reply.at)  # less if it was committed at an earlier attempt
        self._usable_until = began_at + usable, wall + usable
        if not self._granted.total():  # else some of the earlier ones are not handed out yet
            self._granted_returned = reply.slots_returned
        self._granted.update(reply.granted)
        for account_id, account in model.accounts.items():
            until = account.blocked_until
            if until > max(model.now, self._blocked_known.get(account_id, 0.0) + _SAME_END):
                self._blocked_known[account_id] = until
                self.on_blocked(account_id, until - model.now)
        self.on_change()

    def _lose(self) -> None:
        """Use no slot any more that was granted before: others may have them."""
        self._lost.update(self._slots)
        self._slots.clear()
        self._granted.clear()
        self._reports.lose_slots()
