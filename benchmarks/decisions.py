"""CPU time of choosing the next poll, with 100 productions in flight and with 10,000.

The real queue, and the statistics that it learns from, run in a loop without network. Each production goes
through the simulator's usual statuses. Each poll returns the true status, the library learns from that, and
a new production replaces one that has ended. A decision is all of this: take the next production, learn, put
it back. Both sizes have one poll every forty seconds for each production, so only the number of productions
differs. There are three project types, one of them six times as long. Before the measurement each production
is polled about forty times. Shown is the least CPU time of some rounds, in which the sizes alternate, without
and with the steps of Producing.

    python -m benchmarks.decisions
"""

import time
from bisect import bisect_right
from random import Random

from attrs import define

from jarai_async import Polling, Status
from jarai_async._polling.outlook import Outlook
from jarai_async._polling.poll_queue import PollQueue
from jarai_async._polling.sojourn import Sojourns
from jarai_async._polling.steps import Progress, Steps
from jarai_async.simulator._productions.timelines import Stage, TimelineOptions, draw_timeline
from tests.support.figures import Figure, options, show

_INTERVAL = 40.0  # mean seconds between two polls of one production
_WARM_UP = 40  # polls of each production
_PROJECT_TYPES = ("social-video-30s", "article", "podcast-10m")
_POLLING = Polling()


@define(eq=False)
class Watched:
    """A production as the queue sees it, with its later stages and the end of the present one."""

    stages: list[Stage]
    step_ends: tuple[float, ...]
    until: float
    project_type: str
    status: Status
    since: float
    polled: float
    failures: int = 0
    polling: Polling = _POLLING
    queued: int = 0
    retry_after: float = 0.0
    outlook: Outlook | None = None
    progress: Progress | None = None
    produced_from: float = 0.0

    def miss_probability(self, _: float) -> float:
        """Return the chance that no webhook announces the next change."""
        return 1.0


class Batch:
    """A number of productions in flight, each of them polled when the queue chooses it."""

    def __init__(self, size: int, *, reports_steps: bool) -> None:
        self._random = Random(f"decisions {size}")
        self._sojourns = Sojourns()
        self._steps = Steps(self._sojourns)
        self._reports_steps = reports_steps
        self._queue: PollQueue[Watched] = PollQueue(self._sojourns)
        self._now = 0.0
        self._poll_interval = _INTERVAL / size
        for _ in range(size):
            self._queue.push(self._new_production(), self._now)
        self.decide(size * _WARM_UP)

    def _new_production(self) -> Watched:
        project_type = self._random.choice(_PROJECT_TYPES)
        timeline = draw_timeline(self._random, project_type, TimelineOptions())
        (status, seconds), *later = timeline.stages
        until, now = self._now + seconds, self._now
        return Watched(later, timeline.step_ends, until, project_type, Status(status), now, now)

    def decide(self, polls: int) -> float:
        """Make this many polls, and return the microseconds of CPU time that the library used for each."""
        spent = 0.0
        for _ in range(polls):
            self._now += self._poll_interval
            begin = time.process_time()
            polled = self._queue.pop(self._now)
            spent += time.process_time() - begin
            if polled is None:
                continue
            since, status = self._poll(polled)
            pushed = polled if polled.stages else self._new_production()
            begin = time.process_time()
            is_same = status is polled.status
            learn = self._sojourns.record_stay if is_same else self._sojourns.record_transition
            learn(polled.project_type, polled.status, polled.polled - polled.since, self._now - polled.since)
            if self._reports_steps:
                self._follow(polled, status)
            polled.since, polled.status, polled.polled = since, status, self._now
            self._queue.push(pushed, self._now)
            spent += time.process_time() - begin
        return spent / polls * 1e6

    def _follow(self, polled: Watched, status: Status) -> None:
        """Learn from the step, and compute what is left."""
        kind, progress, now = polled.project_type, polled.progress, self._now
        if status == Status.PRODUCING:
            step = 1 + bisect_right(polled.step_ends[:-1], now - polled.produced_from)
            progress = self._steps.observe(kind, progress, step, polled.polled, now, age_known=True)
            if progress is not None:
                polled.outlook = self._steps.outlook(kind, progress, now)
        elif progress is not None:
            if status != Status.FAILED:
                self._steps.left(kind, progress, polled.polled, now)
            progress = polled.outlook = None
        polled.progress = progress

    def _poll(self, polled: Watched) -> tuple[float, Status]:
        """Return when the present status began, as far as polls can know, and the status."""
        status = polled.status
        while polled.stages and polled.until <= self._now:
            name, seconds = polled.stages.pop(0)
            if name == Status.PRODUCING:
                polled.produced_from = polled.until
            polled.until += seconds
            status = Status(name)
        return (polled.since if status is polled.status else (polled.polled + self._now) / 2), status


def main() -> None:
    chosen = options(__doc__, few=100, many=10_000, polls=20_000, rounds=5)
    figures = []
    for name, reports_steps in (("without steps", False), ("with steps", True)):
        few, many = (Batch(size, reports_steps=reports_steps) for size in (chosen.few, chosen.many))
        costs = [(few.decide(chosen.polls), many.decide(chosen.polls)) for _ in range(chosen.rounds)]
        least_few, least_many = (min(column) for column in zip(*costs, strict=True))
        ratio = least_many / least_few
        figures += [
            Figure(f"{name}, {chosen.few} in flight", f"{least_few:.1f} us"),
            Figure(f"{name}, {chosen.many} in flight", f"{least_many:.1f} us", "<= 25", least_many <= 25),
            Figure(f"{name}, ratio", f"{ratio:.2f}", "<= 1.3", ratio <= 1.3),
        ]
    show("CPU time of choosing a poll", figures, chosen.json)


if __name__ == "__main__":
    main()
