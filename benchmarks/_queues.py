"""Whom other policies would ask: queues in place of the library's."""

import heapq
import math
from collections.abc import Callable
from itertools import count

from jarai_async import Status
from jarai_async._polling.poll_queue import PollQueue
from jarai_async._polling.sojourn import Sojourns
from jarai_async._polling.watch import Watch
from jarai_async.simulator import Simulator

Queue = Callable[[Simulator], PollQueue[Watch]]


class Oldest(PollQueue[Watch]):
    """The longest unpolled first, each at least so many seconds apart."""

    def __init__(self, gap: Callable[[Watch], float]) -> None:
        super().__init__(Sojourns())
        self._gap = gap
        self._waiting: list[tuple[float, int, Watch]] = []
        self._counted = count()

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, watched: Watch, _: float) -> None:
        """Let it wait for as long as it must."""
        heapq.heappush(self._waiting, (watched.polled + self._gap(watched), next(self._counted), watched))

    def next_due(self, _: float) -> float:
        """Give the moment of the first."""
        return self._waiting[0][0] if self._waiting else math.inf

    def pop(self, now: float) -> Watch | None:
        """Take the most overdue."""
        return heapq.heappop(self._waiting)[2] if self._waiting and self._waiting[0][0] <= now else None


def documented(_: Simulator) -> PollQueue[Watch]:
    """Give the intervals that JARAI documents."""
    return Oldest(lambda watch: 10.0 if watch.status == Status.QUEUED else 30.0)


def oldest_first(_: Simulator) -> PollQueue[Watch]:
    """Round robin, with the floor that ours has."""
    return Oldest(lambda watch: watch.polling.min_interval)


class Told(PollQueue[Watch]):
    """The library's queue, which is told when each status began."""

    def __init__(self, true: Sojourns, simulator: Simulator) -> None:
        super().__init__(true)
        self._simulator = simulator

    def push(self, watched: Watch, now: float) -> None:
        """Correct what the watch knows before it waits."""
        timeline = self._simulator.productions[watched.production.id].timeline
        watched.since = next(moment for moment, status in timeline if status == watched.status)
        super().push(watched, now)
