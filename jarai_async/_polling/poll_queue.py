"""Which production to poll next: the square-root rule, computed as an index.

A poll that finds no change uses up part of the rate limit, and a change that is noticed late delays all that
follows. For a given number of polls the mean delay is smallest if each production gets a share proportional
to the square root of its hazard. The same rule without a price to tune: give each poll to the production
with the greatest *expected delay*

    W = E[(now - X)+ | in its status when last polled],  X the time of its transition

which for a hazard h and a gap g since the last poll is g - (1 - exp(-h g)) / h, about h g^2 / 2.

Users wait for the deliverables and for the end of a production. So W has a lower weight in `Queued` and
`AwaitingApproval`, whose next change is neither.

Where steps are known, `outlook` gives W instead.

Comparing all productions would cost O(n) per poll. But among productions that are in the same status and
were last polled at a similar age, the one that has not been polled for longest has the greatest W. So there
is one first-in-first-out queue for each (project type, status, age group, miss probability), and only their
heads are compared, each with its exact age. Heads keep their rank for a while: all are compared again after
a quarter as many polls as there are queues, and a new head is ranked when it gets there. A choice therefore
computes W about five times, however many productions are in flight (`benchmarks/decisions.py`).

With webhooks, a poll is only useful if no webhook announces the change. So W is multiplied by the
probability of that, the miss probability (`webhook_coverage`); not in those two statuses, whose end has no
webhook. Users of webhooks also want fewer polls: the more reliable the webhooks, the more delay a poll must
save, so that polls become a safety net. How rare they become is a compromise between lag and requests
(`benchmarks/webhooks.py`).

`min_interval` separates two polls of one production. Beyond `max_interval`, W is the complete gap, which is
more than any W below it. So of those the longest unpolled goes first, and none starves, however many there
are for the rate limit. (An infinite W would not order them, and some would wait for hours.)

Pure: `now` is an argument, and nothing waits.
"""

import heapq
import math
from bisect import bisect_right
from collections import deque
from itertools import count
from typing import Final, Generic, Protocol, TypeVar

from jarai_async._api.models import Polling, Status
from jarai_async._polling.hazards import AGE_BINS
from jarai_async._polling.outlook import Outlook
from jarai_async._polling.sojourn import Sojourns

MIN_GAIN = 0.022  # seconds of expected delay that a poll must save: 30 s apart if a change is unlikely
_MIN_GAIN_COVERED = 0.5  # the same if a webhook certainly announces the change
_MIN_GAIN_COVERED_MINOR = (
    40.0  # the same in a `_MINOR` status, if a webhook certainly announces a later change
)
_MAX_DOUBLINGS = 6  # of `min_interval` after failed polls: 5 seconds become 5 minutes
_RERANK_DIVISOR = 4  # heads are compared again after `len(queues) // 4` polls
_RECHECK_INTERVAL = 30.0  # seconds, after which the miss probability may be different
_AGE_GROUPS = AGE_BINS[1::2]  # ages that differ by about half: finer queues cost more and decide no better
_MINOR: Final = frozenset(
    {"Queued", "AwaitingApproval"}
)  # the next change is neither deliverables nor the end
_MINOR_WEIGHT: Final = 0.7


class Watched(Protocol):
    """What the queue needs to know about a production. Times are monotonic seconds."""

    @property
    def project_type(self) -> str | None: ...
    @property
    def status(self) -> Status: ...
    @property
    def since(self) -> float:
        """When it entered its status, as far as known."""

    @property
    def polled(self) -> float:
        """When its status was last polled, or became known otherwise."""

    @property
    def failures(self) -> int:
        """Consecutive polls that failed."""

    @property
    def retry_after(self) -> float:
        """How long the server asked to wait when the last poll failed, in seconds; else 0."""

    @property
    def polling(self) -> Polling: ...
    @property
    def outlook(self) -> Outlook | None:
        """The time left in its status by its steps, if they are known and trusted."""

    def miss_probability(self, now: float) -> float:
        """Return the probability that no webhook announces the next change."""

    queued: int
    """The number of its valid entry, set by the queue; 0 if it has none."""


W = TypeVar("W", bound=Watched)
_Key = tuple[str | None, Status, int, int]  # the last two: group, exponent of the miss probability
_Entry = tuple[float, int, float, W]  # when to check it, its number, when it is due, the production


def poll_value(sojourns: Sojourns, watched: Watched, now: float) -> float:
    """Return the value of a poll now, in seconds of delay.

    It is the weighted expected delay. From `max_interval` on it is the gap, as if the change had come right
    after the last poll.
    """
    gap = now - watched.polled
    if gap >= watched.polling.max_interval:
        return gap
    if (outlook := watched.outlook) is not None:
        delay = outlook.expected_delay(sojourns, watched.project_type, now - outlook.at)
    else:
        age = watched.polled - watched.since
        delay = sojourns.expected_delay(watched.project_type, watched.status, age, gap)
    return delay * _weight(watched, watched.miss_probability(now))


def _weight(watched: Watched, miss_probability: float) -> float:
    return _MINOR_WEIGHT if watched.status in _MINOR else miss_probability


def due_at(sojourns: Sojourns, watched: Watched, now: float) -> float:
    """Return the earliest time for the next poll, as things are now.

    It is `min_interval` after the last poll, doubled for each consecutive failure, or later if the server
    asks for it, but not before the poll saves enough delay, and not after `max_interval`. So a production
    that waits for days is polled rarely, even if the rate limit is not used up.
    """
    backoff = watched.polling.min_interval * (1 << min(watched.failures, _MAX_DOUBLINGS))
    earliest = max(backoff, watched.retry_after)
    max_gap, outlook = watched.polling.max_interval, watched.outlook
    gain = MIN_GAIN
    if (missed := watched.miss_probability(now)) < 1:
        covered = _MIN_GAIN_COVERED_MINOR if watched.status in _MINOR else _MIN_GAIN_COVERED
        gain = MIN_GAIN**missed * covered ** (1 - missed) / _weight(watched, missed)
    if outlook is not None:
        gap = outlook.gap_for_delay(sojourns, watched.project_type, gain, max_gap)
        gap += outlook.at - watched.polled
    else:
        age = watched.polled - watched.since
        gap = sojourns.gap_for_delay(watched.project_type, watched.status, age, gain, max_gap)
    return watched.polled + min(max(earliest, gap), max_gap)


class PollQueue(Generic[W]):
    """Productions that wait for their next poll; each is in it at most once.

    An entry is first in the heap `_not_due`, then in one of `_queues`. It is valid as long as `queued` of its
    production is its number; invalid entries are dropped when they are reached.
    """

    def __init__(self, sojourns: Sojourns) -> None:
        self._sojourns = sojourns
        self._not_due: list[_Entry[W]] = []
        self._count = count(1)
        self._queues: dict[_Key, deque[_Entry[W]]] = {}
        self._ranking: list[tuple[float, int, _Key]] = []  # a heap, by the negative poll value of the heads
        self._polls_to_rerank = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, watched: W, now: float) -> None:
        """Add a production, or update it after a change."""
        self.discard(watched)
        self._size += 1
        self._wait(watched, due_at(self._sojourns, watched, now), now)

    def discard(self, watched: W) -> None:
        """Remove a production, if it is in the queue."""
        self._size -= watched.queued > 0
        watched.queued = 0

    def _wait(self, watched: W, due: float, now: float) -> None:
        watched.queued = next(self._count)
        heapq.heappush(self._not_due, (min(due, now + _RECHECK_INTERVAL), watched.queued, due, watched))

    def next_due(self, now: float) -> float:
        """Return the time from which `pop` may return a production; infinity if the queue is empty."""
        self._move_due(now)
        if self._queues:
            return now
        return self._not_due[0][0] if self._not_due else math.inf

    def demand(self, now: float) -> float:
        """Return the sum of the square roots of the hazards of all productions whose poll is due.

        A worker that gets this share of all polls gives each production as many as if one worker had all. By
        the square-root rule, from the poll value of the head of each queue: W is about h * gap^2 / 2.
        """
        self._move_due(now)
        return math.fsum(
            len(queue) * math.sqrt(2 * poll_value(self._sojourns, head, now)) / gap
            for queue in self._queues.values()
            if (gap := now - (head := queue[0][-1]).polled) > 0
        )

    def pop(self, now: float) -> W | None:
        """Remove and return the due production with the greatest poll value, if any is due."""
        self._move_due(now)
        if self._polls_to_rerank <= 0:
            self._ranking.clear()
            for key in list(self._queues):
                self._rank(key, now)
            self._polls_to_rerank = len(self._queues) // _RERANK_DIVISOR
        while self._ranking:
            key = heapq.heappop(self._ranking)[2]
            _, number, _, watched = self._queues[key].popleft()
            self._rank(key, now)
            if watched.queued == number:
                self._polls_to_rerank -= 1
                self.discard(watched)
                return watched
        return None

    def _move_due(self, now: float) -> None:
        """Move the productions that are due to their queues."""
        while self._not_due and self._not_due[0][0] <= now:
            entry = heapq.heappop(self._not_due)
            _, number, due, watched = entry
            if number != watched.queued:
                continue
            missed = watched.miss_probability(now)
            if missed < 1 or due > now:  # the miss probability may have changed since `due` was computed
                due = due_at(self._sojourns, watched, now)
            if due > now:
                self._wait(watched, due, now)
            else:
                self._enqueue(entry, missed, now)

    def _enqueue(self, entry: _Entry[W], missed: float, now: float) -> None:
        watched = entry[-1]
        if (outlook := watched.outlook) is not None:
            status, group = outlook.last or watched.status, outlook.group
        else:
            status, group = watched.status, bisect_right(_AGE_GROUPS, watched.polled - watched.since)
        key = watched.project_type, status, group, math.frexp(missed)[1]
        if key in self._queues:
            self._queues[key].append(entry)
        else:
            self._queues[key] = deque([entry])
            self._rank(key, now)

    def _rank(self, key: _Key, now: float) -> None:
        """Add a queue to the ranking by its first valid entry; remove a queue that has none."""
        queue = self._queues[key]
        while queue and queue[0][1] != queue[0][-1].queued:
            queue.popleft()
        if queue:
            value = poll_value(self._sojourns, queue[0][-1], now)
            heapq.heappush(self._ranking, (-value, next(self._count), key))
        else:
            del self._queues[key]
