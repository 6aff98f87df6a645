"""The rate limit of several workers: one state, which each of them changes in a transaction of a database.

A worker sends a `Message`: how its requests ended, and how many wait. `SharedModel` applies it to the state,
and grants slots, by the same `RateLimiter` that a client without other workers uses. So there is one set of
rules, and the transactions only put the workers in an order. What must hold besides:

- `now` is the time of the database, of that transaction. A message says how many seconds ago something
  happened, measured by the worker before the transaction began, so that waiting for it makes a slot return
  later, never earlier. If the clock of the database goes back, all times in the state move with it.
- A transaction may be repeated though it was committed. So messages are numbered, and one that was applied
  gets the same reply again.
- A worker may die or stop for a while. So what it holds expires `LEASE` seconds after its last message, and
  counts as used for a minute after that. `LEASE` is longer than it may use a slot (`USABLE`) and the longest
  request together. If it comes back, it learns that its slots were lost. What it reports of them is added.
- The most urgent of all requests goes first, whichever worker has it: a slot is left for another worker that
  waits for it, until that worker's request is granted or its message is too old.

Polls are paced by each worker, by its share of them: `SharedModel` only sees that they fit.

Pure: `now` is an argument. All times are Unix seconds, by the clock of the database.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from random import Random
from typing import Any

from attrs import Factory, define, field, frozen

from jarai_async._api.calls import KINDS, Kind
from jarai_async._api.models import RateLimit
from jarai_async._api.responses import RateLimitState
from jarai_async._ratelimit.limiter import DAY, WINDOW, RateLimiter
from jarai_async._ratelimit.priority import Priority

USABLE = 20.0  # seconds after its last message, in which a worker may use its slots
MARGIN = 15.0  # seconds: to connect, and for the clocks of hosts that run unevenly
LONGEST_RECHECK = 30.0  # seconds after which a worker that waits looks at the state again, whatever it said
_RECHECK = 1.0  # the same while it depends on another worker
_WAITS_LONGER = 2.0  # seconds for which a worker that has not asked again is still expected to


@frozen
class Ended:
    """How a request ended, `age` seconds ago: without a response if `state` is None.

    `slots_returned` is what was granted with its slot. `is_late`: its slot was lost before.
    """

    age: float
    slots_returned: int
    is_late: bool = False
    state: RateLimitState | None = None


@frozen(kw_only=True)
class Message:
    """What a worker reports, and what it waits for.

    `number` is one more than that of its message before. `held` is how many slots it held after that one, and
    `released` how many of these it did not use. `waiting` is by kind. `pause` and the values of `blocked` are
    seconds from now; `accepted` counts productions by account.
    """

    worker: str
    number: int
    held: int = 0
    ended: Sequence[Ended] = ()
    released: int = 0
    waiting: Mapping[Kind, int] = Factory(dict)
    pause: float | None = None
    blocked: Mapping[str, float] = Factory(dict)
    accepted: Mapping[str, int] = Factory(dict)


@frozen
class Reply:
    """The slots that were granted, and when. `is_lost`: those that the worker held before were lost."""

    at: float = 0.0
    granted: Sequence[Kind] = ()
    slots_returned: int = 0
    is_lost: bool = False


@define
class _Worker:
    number: int = 0
    held: int = 0
    expires_at: float = 0.0
    waiting: dict[Kind, int] = field(factory=dict)
    asks_at: float = 0.0
    reply: Reply = field(factory=Reply)


@define
class Account:
    """What is known of an account's quota of productions: `accepted` of them on `day`."""

    blocked_until: float = 0.0
    day: int = 0
    accepted: int = 0


class StoredLimiter(RateLimiter):
    """A `RateLimiter` that is stored completely, apart from what is in flight: workers hold that."""

    @property
    def slots_returned(self) -> int:
        """Slots that have returned since the beginning."""
        return self._slots_returned

    def store(self) -> dict[str, Any]:
        """Return it as JSON values, for `load`."""
        others = Counter(self._slots_return_at)
        others.subtract(self._own_slots_return_at)
        return {
            "limit": self._server_limit,
            "has_response": self._has_response,
            "own": list(self._own_slots_return_at),
            "others": sorted(others.elements()),
            "returned": self._slots_returned,
            "day": self._day,
            "requests": self._sent_today,
            "sent_at": _finite(self._last_sent_at),
            "others_seen_at": _finite(self.others_seen_at),
            "paused_until": _finite(self.paused_until),
            "day_used_until": _finite(self._day_used_until),
        }

    def load(self, stored: Mapping[str, Any], moved: float) -> None:
        """Restore what `store` returned, with all times moved by so many seconds."""
        self._server_limit, self._has_response = stored["limit"], stored["has_response"]
        self._own_slots_return_at.extend(time + moved for time in stored["own"])
        others = (time + moved for time in stored["others"])
        self._slots_return_at.extend(sorted([*self._own_slots_return_at, *others]))
        self._slots_returned = stored["returned"]
        self._day, self._sent_today = stored["day"], stored["requests"]
        self._last_sent_at = _time(stored["sent_at"], moved)
        self.others_seen_at = _time(stored["others_seen_at"], moved)
        self.paused_until = _time(stored["paused_until"], moved)
        self._day_used_until = _time(stored["day_used_until"], moved)

    def earliest(self, kind: Kind, now: float) -> float:
        """Return when a request of this kind fits in the limit and the quota; polls are not paced."""
        return max(self.earliest_send(Kind.READ, now, now), self.quota_returns(kind, now, now))


class SharedModel:
    """The state at one time, and what a message makes of it."""

    def __init__(self, stored: Mapping[str, Any], rate_limit: RateLimit, lease: float, now: float) -> None:
        """Load a state; an empty one is the first. What a worker holds expires after `lease` seconds."""
        self.limiter: StoredLimiter = StoredLimiter(rate_limit)
        self.accounts: dict[str, Account] = {}
        self.now = now
        self._lease = lease
        self._priority = Priority()
        self._workers: dict[str, _Worker] = {}
        self._is_reserved = False
        if stored:
            self._load(stored, min(0.0, now - stored["at"]))

    def _load(self, stored: Mapping[str, Any], moved: float) -> None:
        self.limiter.load(stored["limiter"], moved)
        self._priority.skips = list(stored["skips"])
        for name, worker in stored["workers"].items():
            number, held, expires_at, waiting, asks_at, (at, granted, returned, is_lost) = worker
            reply = Reply(at + moved, [*map(Kind, granted)], returned, is_lost)
            kinds = {kind: count for kind, count in zip(KINDS, waiting, strict=True) if count}
            self._workers[name] = _Worker(number, held, expires_at + moved, kinds, asks_at + moved, reply)
            self.limiter.in_flight += held
        for account_id, (blocked_until, day, accepted) in stored["accounts"].items():
            self.accounts[account_id] = Account(blocked_until + moved, day, accepted)

    def store(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return {
            "at": self.now,
            "limiter": self.limiter.store(),
            "skips": self._priority.skips,
            "workers": {name: _stored(worker) for name, worker in self._workers.items()},
            "accounts": {
                account_id: [account.blocked_until, account.day, account.accepted]
                for account_id, account in self.accounts.items()
                if account.blocked_until > self.now or account.day == _day(self.now)
            },
        }

    def exchange(self, message: Message, random: Random) -> Reply:
        """Apply what a worker reports, and grant slots to it."""
        self._expire()
        worker = self._workers.get(message.worker)
        if worker is not None and worker.number == message.number:
            return worker.reply  # it was committed before, and the worker does not know
        is_lost = worker is None and message.held > 0
        worker = self._workers.setdefault(message.worker, _Worker())
        worker.number, worker.expires_at = message.number, self.now + self._lease
        self._apply(message, worker, random, is_lost=is_lost)
        granted = self._grant(message.worker, message.waiting)
        worker.held += len(granted)
        left = Counter(message.waiting)
        left.subtract(granted)
        worker.waiting = dict(+left)
        worker.asks_at = min((self.ask_at(kind, message.worker) for kind in worker.waiting), default=0.0)
        worker.reply = Reply(self.now, granted, self.limiter.slots_returned, is_lost)
        return worker.reply

    def accepted_today(self, account_id: str) -> int:
        """Return how many productions of an account were accepted today."""
        account = self.accounts.get(account_id)
        return account.accepted if account is not None and account.day == _day(self.now) else 0

    def ask_at(self, kind: Kind, name: str) -> float:
        """Return when a worker should ask again that has got no slot for a request of this kind.

        Each worker that waits is sent to another slot, or all would come for the same one.
        """
        asking = [
            worker.asks_at
            for worker in self._others_waiting(name)
            if min(worker.waiting) <= kind and worker.asks_at > self.now
        ]
        left, at = copy(self.limiter), self.now
        for taken in range(len(asking) + 1):
            at = left.earliest(kind, self.now)
            if sum(time <= at for time in asking) <= taken:
                break
            left.in_flight += 1
        if self._is_reserved:  # for another worker, which may not come
            at = max(at, self.now + min(_RECHECK, WINDOW / left.limit))
        return min(at, self.now + (_RECHECK if math.isinf(at) else LONGEST_RECHECK))

    def _expire(self) -> None:
        """Count what workers held that have not reported for long, as if it was sent at the end."""
        expired = [item for item in self._workers.items() if item[1].expires_at <= self.now]
        for name, worker in sorted(expired, key=lambda item: item[1].expires_at):
            del self._workers[name]
            self.limiter.left_today(worker.expires_at)  # what was in flight at midnight counts on both days
            for _ in range(worker.held):
                self.limiter.failed(0, worker.expires_at)
        self.limiter.left_today(self.now)

    def _apply(self, message: Message, worker: _Worker, random: Random, *, is_lost: bool) -> None:
        limiter = self.limiter
        for ended in message.ended:
            if ended.is_late or is_lost:
                limiter.in_flight += 1  # its slot was counted until it expired, not until now
            else:
                worker.held -= 1
            at = self.now - max(0.0, ended.age)
            if ended.state is None:
                limiter.failed(ended.slots_returned, at)
            else:
                limiter.record_response(ended.state, ended.slots_returned, at, random)
        if not is_lost:
            worker.held -= message.released
            for _ in range(message.released):
                limiter.release(0)
        if message.pause is not None:
            limiter.pause_until(self.now + message.pause)
        for account_id, seconds in message.blocked.items():
            account = self.accounts.setdefault(account_id, Account())
            account.blocked_until = max(account.blocked_until, self.now + seconds)
        for account_id, count in message.accepted.items():
            account = self.accounts.setdefault(account_id, Account())
            if account.day != _day(self.now):
                account.day, account.accepted = _day(self.now), 0
            account.accepted += count

    def _grant(self, name: str, waiting: Mapping[Kind, int]) -> list[Kind]:
        """Take slots for a worker, one by one, except those that more urgent requests of others need."""
        now, limiter = self.now, self.limiter
        limiter.used_slots(now)
        ours, others = Counter(waiting), Counter[Kind]()
        for other in self._others_waiting(name):
            others.update(other.waiting)
        left = copy(limiter)  # as if others had taken what is left for them
        granted: list[Kind] = []
        while +ours:
            kinds = [
                kind for kind in KINDS if ours[kind] + others[kind] > 0 and left.earliest(kind, now) <= now
            ]
            if not any(ours[kind] > 0 for kind in kinds):
                break
            skips = self._priority.skips
            kind = self._priority.choose(kinds)
            left.acquire(Kind.READ, now, now)
            if ours[kind] > 0:
                ours[kind] -= 1
                granted.append(kind)
                limiter.acquire(Kind.READ, now, now)
            else:
                others[kind] -= 1
                self._priority.skips = skips  # it counts when the other worker takes it
                self._is_reserved = True
        return granted

    def _others_waiting(self, name: str) -> list[_Worker]:
        """Return the other workers that wait for a slot, and are expected to ask for it."""
        return [
            worker
            for other, worker in self._workers.items()
            if other != name and worker.waiting and worker.asks_at + _WAITS_LONGER > self.now
        ]


def _stored(worker: _Worker) -> list[Any]:
    reply = worker.reply
    return [
        worker.number,
        worker.held,
        worker.expires_at,
        [worker.waiting.get(kind, 0) for kind in KINDS],
        worker.asks_at,
        [reply.at, [*map(int, reply.granted)], reply.slots_returned, reply.is_lost],
    ]


def _finite(time: float) -> float | None:
    return time if math.isfinite(time) else None


def _time(stored: float | None, moved: float) -> float:
    return -math.inf if stored is None else stored + moved


def _day(now: float) -> int:
    return int(now // DAY)
