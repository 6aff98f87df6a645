"""Whose poll is next: the square-root rule, as an index.

Every poll that finds nothing is budget wasted, every transition seen late delays all that follows.
Minimising the mean delay for a given number of polls shares them out in proportion to the square root of
each production's hazard. The same, without a price to tune: whenever a poll may be spent, spend it on the
production with the greatest *expected undetected delay*, that is, on the greatest

    W = E[(now - X)+ | in its status when last polled],  X the moment of its transition

which for a hazard h and a gap g since the last poll is g - (1 - exp(-h g)) / h, about h g^2 / 2.

Not all news is alike to users: that deliverables are ready, or that all is over, is what they wait for. So W
counts a little less in the statuses whose end tells neither.

Comparing all of them would cost O(n) a poll. But among productions in the same status whose ages at the
last poll were alike, the one unpolled for longest has the greatest W. So there is one first-in-first-out
queue for each (project type, status, age bin), and only the heads are compared, each with its true age. Even
these keep their order for a while: all are compared anew after a quarter as many polls as there are queues,
and a new head when it comes. So a choice takes some five evaluations, however many are in flight
(`benchmarks/decisions.py`), and is as good as with all of them, within what can be measured.

Tried, and no better. A share that re-plans (a gap for each, fixed when it is planned): 19 % later until it
is warm. Whittle's index of the same problem, F^2 / f - W with F the chance to have left by now and f its
growth, which does not hold past delay for a reason to poll: 2 % earlier cold, 2 % later warm, at 200 and 600
in flight, and 1 % later where people approve. Taking a status to have begun at the moment that is to be
expected of the hazard, rather than half-way between two polls: within 1 %.

Where webhooks tell of changes, what a poll finds is worth something only if nothing tells of it: W counts
by the chance of that (`_reliability`). And whoever uses webhooks wants to spare polls. So a poll must be
worth the more, the more they can be relied on, and the polls of those productions sink to a safety net. How
deep is a choice between lag and requests (`benchmarks/webhooks.py`).

A floor keeps two polls of one production apart; until then it rests in a heap, by the moment at which it
is due. A ceiling brings back what would otherwise be forgotten: beyond it W is the whole gap, which is more
than any W within. So among those beyond it the longest unseen goes first, and nobody starves however many
there are for the budget. (With W infinite there, as the first version had it, 300 productions on ten polls a
minute left some unseen for hours: those that come again and again tie with those that wait.)

Pure: `now` is an argument, nothing waits.
"""

import heapq
import math
from bisect import bisect_right
from collections import deque
from itertools import count
from typing import Final, Generic, Protocol, TypeVar

from jarai_async._api.models import Polling, Status
from jarai_async._polling.hazards import AGE_BINS
from jarai_async._polling.sojourn import Sojourns

LEAST_GAIN = 0.022  # seconds of expected delay that a poll must save: 30 s apart while nothing is likely
_SAFETY_NET = 0.5  # the same where a webhook is sure to tell of it
_SAFETY_NET_OF_MINOR = 40.0  # where one is sure to tell of what comes after it
_MOST_DOUBLINGS = 6  # of the floor, for a production whose polls fail: 5 seconds become 5 minutes
_RANKED_AGAIN = 4  # part of the queues after as many polls as which all of them are compared anew
_LOOK_AGAIN = 30.0  # seconds; how much can be relied on others to tell may have changed
_ALIKE = AGE_BINS[1::2]  # ages within half as much again: finer queues cost more and decide no better


_MINOR: Final = frozenset({"Queued", "AwaitingApproval"})  # statuses whose end tells neither of both
_WEIGHT_OF_MINOR: Final = 0.7


class Watched(Protocol):
    """What the queue needs to know of a production. Times are monotonic seconds."""

    @property
    def project_type(self) -> str | None: ...
    @property
    def status(self) -> Status: ...
    @property
    def since(self) -> float:
        """When it came into its status, as far as known."""

    @property
    def polled(self) -> float:
        """When it was last polled, or known otherwise."""

    @property
    def failures(self) -> int:
        """Polls in a row that brought no answer about it."""

    @property
    def polling(self) -> Polling: ...

    def miss_probability(self, now: float) -> float:
        """The chance that no webhook tells of what comes next."""

    queued: int
    """For the queue's own use: which of its entries is the valid one; 0 where it waits for no poll."""


W = TypeVar("W", bound=Watched)
_Key = tuple[str | None, Status, int, int]  # project type, status, bins of the last poll's age and of untold
_Entry = tuple[float, int, float, W]  # when to look at it, its number, when it is due, and whose it is


def worth(sojourns: Sojourns, watched: Watched, now: float) -> float:
    """Give what a poll is worth now, in seconds: the expected delay, by how much its end matters to users.

    Beyond the ceiling: all of them, as if it had come at once.
    """
    gap = now - watched.polled
    if gap >= watched.polling.max_interval:
        return gap
    age = watched.polled - watched.since
    unseen = sojourns.expected_unseen(watched.project_type, watched.status, age, gap)
    return unseen * _weight(watched, watched.miss_probability(now))


def _weight(watched: Watched, untold: float) -> float:
    return _WEIGHT_OF_MINOR if watched.status in _MINOR else untold


def due_at(sojourns: Sojourns, watched: Watched, now: float) -> float:
    """Give the earliest moment at which the next poll makes sense, as things are now.

    That is the floor, doubled for each failure in a row; and not before the poll is worth its while, even
    where budget is left over, so one that may be parked for days sinks to rare polls.
    """
    floor = watched.polling.min_interval * (1 << min(watched.failures, _MOST_DOUBLINGS))
    age, ceiling = watched.polled - watched.since, watched.polling.max_interval
    gain = LEAST_GAIN
    if (untold := watched.miss_probability(now)) < 1:
        net = _SAFETY_NET_OF_MINOR if watched.status in _MINOR else _SAFETY_NET
        gain = LEAST_GAIN**untold * net ** (1 - untold) / _weight(watched, untold)
    worth_it = sojourns.gap_until(watched.project_type, watched.status, age, gain, ceiling)
    return watched.polled + min(max(floor, worth_it), ceiling)


class PollQueue(Generic[W]):
    """Productions that wait to be polled; each is in here at most once."""

    def __init__(self, sojourns: Sojourns) -> None:
        self._sojourns = sojourns
        self._resting: list[_Entry[W]] = []  # a heap
        self._count = count(1)
        self._ready: dict[_Key, deque[_Entry[W]]] = {}
        self._ranked: list[
            tuple[float, int, _Key]
        ] = []  # a heap of the queues, by less what their heads gain
        self._until_ranked = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, watched: W, now: float) -> None:
        """Let a production wait for its next poll, from how it now is."""
        self.discard(watched)
        self._size += 1
        self._rest(watched, due_at(self._sojourns, watched, now), now)

    def discard(self, watched: W) -> None:
        """Let it wait no longer."""
        self._size -= watched.queued > 0
        watched.queued = 0

    def _rest(self, watched: W, due: float, now: float) -> None:
        watched.queued = next(self._count)
        heapq.heappush(self._resting, (min(due, now + _LOOK_AGAIN), watched.queued, due, watched))

    def next_due(self, now: float) -> float:
        """Give the moment from which on it makes sense to ask for a turn; infinite where there is none."""
        self._wake(now)
        if self._ready:
            return now
        return self._resting[0][0] if self._resting else math.inf

    def pop(self, now: float) -> W | None:
        """Take the production whose poll is worth most now, if any is due."""
        self._wake(now)
        if self._until_ranked <= 0:
            self._ranked.clear()
            for key in list(self._ready):
                self._rank(key, now)
            self._until_ranked = len(self._ready) // _RANKED_AGAIN
        while self._ranked:
            key = heapq.heappop(self._ranked)[2]
            _, number, _, watched = self._ready[key].popleft()
            self._rank(key, now)
            if watched.queued == number:
                self._until_ranked -= 1
                self.discard(watched)
                return watched
        return None

    def _wake(self, now: float) -> None:
        """Let those go to their queues who have rested for long enough."""
        while self._resting and self._resting[0][0] <= now:
            entry = heapq.heappop(self._resting)
            _, number, due, watched = entry
            if number != watched.queued:
                continue
            untold = watched.miss_probability(now)
            if untold < 1 or due > now:  # then more may be known than when it came to rest
                due = due_at(self._sojourns, watched, now)
            if due > now:
                self._rest(watched, due, now)
            else:
                self._get_ready(entry, untold, now)

    def _get_ready(self, entry: _Entry[W], untold: float, now: float) -> None:
        watched = entry[-1]
        age = bisect_right(_ALIKE, watched.polled - watched.since)
        key = watched.project_type, watched.status, age, math.frexp(untold)[1]
        if key in self._ready:
            self._ready[key].append(entry)
        else:
            self._ready[key] = deque([entry])
            self._rank(key, now)

    def _rank(self, key: _Key, now: float) -> None:
        """Take a queue into the ranking, by its head, unless there is none."""
        queue = self._ready[key]
        while queue and queue[0][1] != queue[0][-1].queued:
            queue.popleft()
        if queue:
            gain = worth(self._sojourns, queue[0][-1], now)
            heapq.heappush(self._ranked, (-gain, next(self._count), key))
        else:
            del self._ready[key]
