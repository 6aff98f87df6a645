"""Workers that share a `SharedModel`, without a database: the state goes through JSON at every exchange."""

import heapq
import json
from collections.abc import Callable, Iterator
from itertools import count
from random import Random
from typing import Any

from attrs import define, field, frozen

from jarai_async import RateLimit
from jarai_async._api.calls import Kind
from jarai_async._api.responses import RateLimitState
from jarai_async._ratelimit.shared_model import USABLE, Ended, Message, Reply, SharedModel
from jarai_async.simulator._api.rate_limits import RollingWindow
from tests.support.limiters import NO_DAILY_QUOTA, NOON

LEASE = 65.0


@define
class Row:
    """What the database keeps."""

    rate_limit: RateLimit = field(factory=lambda: RateLimit(per_day=NO_DAILY_QUOTA))
    state: Any = field(factory=dict)
    clock: float = NOON
    """The time of the database at 0."""
    _random: Random = field(factory=lambda: Random(1))

    def model(self, now: float) -> SharedModel:
        """Load the state at a time, in seconds since noon."""
        return SharedModel(json.loads(json.dumps(self.state)), self.rate_limit, LEASE, self.clock + now)

    def exchange(self, message: Message, now: float) -> Reply:
        """Apply a message in a transaction at this time."""
        model = self.model(now)
        reply = model.exchange(message, self._random)
        self.state = model.store()
        return reply


@define
class Worker:
    """A worker as the row sees it: it reports what it must, and no more."""

    name: str
    row: Row
    number: int = 0
    held: int = 0
    returned: int = 0
    ended: list[Ended] = field(factory=list)

    def ask(self, now: float, waiting: dict[Kind, int] | int = 0, **report: Any) -> Reply:
        """Report, and ask for slots for so many requests."""
        message = self.message(waiting, **report)
        return self.use(message, self.row.exchange(message, now))

    def message(self, waiting: dict[Kind, int] | int = 0, **report: Any) -> Message:
        self.number += 1
        kinds = {Kind.READ: waiting} if isinstance(waiting, int) else waiting
        return Message(
            worker=self.name, number=self.number, held=self.held, ended=self.ended, waiting=kinds, **report
        )

    def use(self, message: Message, reply: Reply) -> Reply:
        """Count what is held after a message."""
        reported = sum(not ended.is_late for ended in message.ended) + message.released
        self.held = len(reply.granted) + (0 if reply.is_lost else self.held - reported)
        self.ended = []
        self.returned = reply.slots_returned
        return reply

    def respond(self, age: float = 0.0, state: RateLimitState | None = None, *, late: bool = False) -> None:
        """Report with the next message a response so many seconds before it."""
        self.ended.append(Ended(age, self.returned, late, state or RateLimitState()))


SENT, LOST, NEVER_SENT, DIED = "sent", "lost", "never sent", "died"


@frozen
class Request:
    """What happens to a request of one worker, in seconds after the one before.

    `used` is how long the worker waits before it sends it, and `reported` how long before it reports its end.
    `repeated` is how long after its transaction another attempt comes, if the worker did not learn of it, and
    `backwards` by how much the clock of the database goes back before.
    """

    worker: int
    pause: float
    wanted: int
    result: str
    used: float
    latency: float
    share: float
    reported: float
    repeated: float | None
    backwards: float = 0.0


@define
class World:
    """Workers that send whenever they may, and a server that counts arrivals and rejects nothing."""

    row: Row
    server: RollingWindow
    workers: list[Worker]
    now: float = 0.0
    fewest_remaining: int = 10**9
    sent: int = 0
    _lost_at: dict[str, int] = field(factory=dict)  # how often each worker lost its slots
    _ended: dict[str, list[tuple[float, int, int, RateLimitState | None]]] = field(factory=dict)
    _unused: dict[str, list[int]] = field(factory=dict)  # by how often it had lost its slots
    _events: list[tuple[float, int, Callable[[], None]]] = field(factory=list)
    _order: Iterator[int] = field(factory=count)

    def run(self, requests: list[Request]) -> None:
        for request in requests:
            self._advance(self.now + request.pause)
            self._request(request)
        self._advance(self.now + 1000)

    def _request(self, request: Request) -> None:
        worker = self.workers[request.worker]
        self.row.clock -= request.backwards
        generation = self._lost_at.get(worker.name, 0)
        now = self.now
        worker.ended = [
            Ended(now - at, returned, lost_at < generation, state)
            for at, lost_at, returned, state in self._ended.pop(worker.name, [])
        ]
        released = self._unused.pop(worker.name, []).count(generation)
        message = worker.message(request.wanted, released=released)
        reply = self.row.exchange(message, now)
        began = now
        if request.repeated is not None:
            self._advance(now + request.repeated)
            reply = self.row.exchange(message, self.now)
            began = reply.at - self.row.clock
        worker.use(message, reply)
        if reply.is_lost:
            self._lost_at[worker.name] = generation + 1
        for _ in reply.granted:
            self._send(worker, request, max(self.now, began + request.used), began, reply.slots_returned)

    def _send(self, worker: Worker, request: Request, at: float, began: float, returned: int) -> None:
        generation = self._lost_at.get(worker.name, 0)
        if at >= began + USABLE or request.result == NEVER_SENT:
            self._schedule(at, lambda: self._unused.setdefault(worker.name, []).append(generation))
            return
        state: list[RateLimitState | None] = [None]

        def arrive() -> None:
            self.sent += 1
            self.server.count(self.now)
            remaining = self.server.remaining(self.now)
            self.fewest_remaining = min(self.fewest_remaining, remaining)
            if request.result == SENT:
                state[0] = RateLimitState(self.server.limit, max(0, remaining))

        end = at + request.latency
        self._schedule(at + request.latency * request.share, arrive)
        if request.result != DIED:

            def report() -> None:
                self._ended.setdefault(worker.name, []).append((end, generation, returned, state[0]))

            self._schedule(end + request.reported, report)

    def _schedule(self, time: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._order), event))

    def _advance(self, time: float) -> None:
        while self._events and self._events[0][0] <= time:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = max(self.now, time)
