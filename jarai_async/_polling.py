"""Whose poll is next: the square-root rule, as an index.

Every poll that finds nothing is budget wasted, every transition seen late delays all that follows.
Minimising the mean delay for a given number of polls shares them out in proportion to the square root of
each production's hazard. The same, without a price to tune: whenever a poll may be spent, spend it on the
production with the greatest *expected undetected delay*, that is, on the greatest

    W = E[(now - X)+ | in its status when last polled],  X the moment of its transition

which for a hazard h and a gap g since the last poll is g - (1 - exp(-h g)) / h, about h g^2 / 2.

Comparing all of them would cost O(n) a poll. But among productions in the same status whose ages at the
last poll were alike, the one unpolled for longest has the greatest W. So there is one first-in-first-out
queue for each (project type, status, age bin), and only the heads are compared, each with its true age.

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
from typing import Generic, Protocol, TypeVar

from jarai_async._hazards import AGE_BINS
from jarai_async._models import Polling, Status
from jarai_async._sojourn import Sojourns

_LEAST_GAIN = 0.022  # seconds of expected delay that a poll must save: 30 s apart while nothing is likely
_MOST_DOUBLINGS = 6  # of the floor, for a production whose polls fail: 5 seconds become 5 minutes


_ALIKE = AGE_BINS[1::2]  # ages within half as much again: finer queues cost more and decide no better


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


W = TypeVar("W", bound=Watched)


def expected_delay(sojourns: Sojourns, watched: Watched, now: float) -> float:
    """Seconds for which a transition since the last poll is expected to have gone unseen.

    Beyond the ceiling: all of them, as if it had come at once.
    """
    gap = now - watched.polled
    if gap >= watched.polling.ceiling:
        return gap
    age = watched.polled - watched.since
    return sojourns.expected_unseen(watched.project_type, watched.status, age, gap)


def due_at(sojourns: Sojourns, watched: Watched) -> float:
    """Give the earliest moment at which the next poll makes sense.

    That is the floor, doubled for each failure in a row; and not before the poll is worth its while, even
    where budget is left over, so one that may be parked for days sinks to rare polls.
    """
    floor = watched.polling.floor * (1 << min(watched.failures, _MOST_DOUBLINGS))
    age, ceiling = watched.polled - watched.since, watched.polling.ceiling
    worth_it = sojourns.gap_until(watched.project_type, watched.status, age, _LEAST_GAIN, ceiling)
    return watched.polled + min(max(floor, worth_it), ceiling)


class PollQueue(Generic[W]):
    """Productions that wait to be polled; each is in here at most once."""

    def __init__(self, sojourns: Sojourns) -> None:
        self._sojourns = sojourns
        self._resting: list[tuple[float, int, W]] = []  # a heap, by due moment; the count breaks ties
        self._count = count()
        self._ready: dict[tuple[str | None, Status, int], deque[W]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, watched: W) -> None:
        """Let a production wait for its next poll."""
        heapq.heappush(self._resting, (due_at(self._sojourns, watched), next(self._count), watched))
        self._size += 1

    def next_due(self) -> float:
        """Give the moment from which on a poll makes sense; infinite where there is none to make."""
        if self._ready:
            return -math.inf
        return self._resting[0][0] if self._resting else math.inf

    def pop(self, now: float) -> W | None:
        """Take the production whose poll is worth most now, if any is due."""
        while self._resting and self._resting[0][0] <= now:
            watched = heapq.heappop(self._resting)[2]
            key = watched.project_type, watched.status, bisect_right(_ALIKE, watched.polled - watched.since)
            self._ready.setdefault(key, deque()).append(watched)
        if not self._ready:
            return None
        key = max(self._ready, key=lambda key: expected_delay(self._sojourns, self._ready[key][0], now))
        self._size -= 1
        watched = self._ready[key].popleft()
        if not self._ready[key]:
            del self._ready[key]
        return watched
