"""Other policies for choosing the next poll: queues that take the place of the library's."""

import heapq
import math
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from jarai_async import Status
from jarai_async._polling.poll_queue import PollQueue
from jarai_async._polling.sojourn import Sojourns
from jarai_async._polling.steps import Steps
from jarai_async._polling.watch import Watch
from jarai_async.simulator import Simulator

MakeQueue = Callable[[Simulator], PollQueue[Watch]]


class OldestFirst(PollQueue[Watch]):
    """The production that was polled longest ago, with a minimum interval for each of them."""

    def __init__(self, interval: Callable[[Watch], float]) -> None:
        super().__init__(Sojourns())
        self._interval = interval
        self._waiting: list[tuple[float, int, Watch]] = []
        self._count = count()

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, watched: Watch, _: float) -> None:
        """Add a production, which is due when its interval has passed."""
        heapq.heappush(self._waiting, (watched.polled + self._interval(watched), next(self._count), watched))

    def next_due(self, _: float) -> float:
        """Return the time at which the first production is due."""
        return self._waiting[0][0] if self._waiting else math.inf

    def pop(self, now: float) -> Watch | None:
        """Remove and return the production that has been due for longest."""
        return heapq.heappop(self._waiting)[2] if self._waiting and self._waiting[0][0] <= now else None


def documented(_: Simulator) -> PollQueue[Watch]:
    """Poll at the intervals that JARAI documents."""
    return OldestFirst(lambda watch: 10.0 if watch.status == Status.QUEUED else 30.0)


def oldest_first(_: Simulator) -> PollQueue[Watch]:
    """Poll in rotation, with the library's minimum interval."""
    return OldestFirst(lambda watch: watch.polling.min_interval)


class Oracle(PollQueue[Watch]):
    """The library's queue, which knows when each status really began, and each step that a poll has shown."""

    def __init__(self, truth: Mapping[str, Any], simulator: Simulator) -> None:
        sojourns = Sojourns.restore_state(truth)
        super().__init__(sojourns)
        self._steps = Steps(sojourns)
        self._steps.restore_state(truth["steps"])
        self._simulator = simulator

    def push(self, watched: Watch, now: float) -> None:
        """Correct when the status and the step of the production began, then add it."""
        production = self._simulator.productions[watched.production.id]
        timeline = production.timeline
        watched.since = next(at for at, status in timeline if status == watched.status)
        if watched.progress is not None:
            kind, began = watched.project_type, watched.since
            progress = self._steps.observe(kind, None, 1, began, began, age_known=True)
            for step, end in enumerate(production.step_ends[: watched.progress.step - 1], start=2):
                at = began + end
                progress = self._steps.observe(kind, progress, step, at, at, age_known=True)
            if progress is not None:
                watched.forecast = self._steps.outlook(kind, progress, watched.seen)
        super().push(watched, now)
