"""What it costs to decide whose poll is next, with a hundred in flight and with ten thousand.

The real queue and what it learns from, driven by a loop without network: each production goes through the
simulator's usual statuses, each poll tells the truth and is learned from, and one that has ended makes way
for a new one. A decision is all of that: take the next, learn, put it back. Both sizes have one poll every
forty seconds for each in flight, so only the number differs; three project types, one of them six times as
long. Both are warmed up until each has been polled some forty times; CPU time, in turns, the least of some
rounds.
"""

import time
from random import Random

from attrs import define

from jarai_async import Polling, Status
from jarai_async._polling.poll_queue import PollQueue
from jarai_async._polling.sojourn import Sojourns
from jarai_async.simulator._productions.timelines import Stage, TimelineOptions, draw_timeline
from tests.support.figures import Figure, options, show

_GAP = 40.0  # seconds between two polls of one production, on average
_WARM_UP = 40  # polls of each
_KINDS = ("social-video-30s", "article", "podcast-10m")
_POLLING = Polling()


@define(eq=False)
class Watched:
    """A production as the queue sees it, and its fate."""

    stages: list[Stage]
    until: float
    project_type: str
    status: Status
    since: float
    polled: float
    failures: int = 0
    polling: Polling = _POLLING
    queued: int = 0

    def miss_probability(self, _: float) -> float:
        """Return the probability that no webhook announces the next change."""
        return 1.0


class World:
    """So many in flight, each of which is polled in its turn."""

    def __init__(self, size: int) -> None:
        self._random = Random(f"decisions {size}")
        self._sojourns = Sojourns()
        self._queue: PollQueue[Watched] = PollQueue(self._sojourns)
        self._now = 0.0
        self._every = _GAP / size
        for _ in range(size):
            self._queue.push(self._begun(), self._now)
        self.decide(size * _WARM_UP)

    def _begun(self) -> Watched:
        project_type = self._random.choice(_KINDS)
        stages = [*draw_timeline(self._random, project_type, TimelineOptions()).stages]
        (status, seconds), *later = stages
        return Watched(later, self._now + seconds, project_type, Status(status), self._now, self._now)

    def decide(self, polls: int) -> float:
        """Make so many polls; gives microseconds of CPU time for each, those of the world not included."""
        spent = 0.0
        for _ in range(polls):
            self._now += self._every
            begin = time.process_time()
            one = self._queue.pop(self._now)
            spent += time.process_time() - begin
            if one is None:
                continue
            since, status = self._found(one)
            following = one if one.stages else self._begun()
            begin = time.process_time()
            learn = self._sojourns.record_stay if status is one.status else self._sojourns.record_transition
            learn(one.project_type, one.status, one.polled - one.since, self._now - one.since)
            one.since, one.status, one.polled = since, status, self._now
            self._queue.push(following, self._now)
            spent += time.process_time() - begin
        return spent / polls * 1e6

    def _found(self, one: Watched) -> tuple[float, Status]:
        """Say which status it has now, and since when as far as that is known."""
        status = one.status
        while one.stages and one.until <= self._now:
            name, seconds = one.stages.pop(0)
            one.until += seconds
            status = Status(name)
        return (one.since if status is one.status else (one.polled + self._now) / 2), status


def main() -> None:
    chosen = options(__doc__, few=100, many=10_000, polls=20_000, rounds=5)
    few, many = World(chosen.few), World(chosen.many)
    costs = [(few.decide(chosen.polls), many.decide(chosen.polls)) for _ in range(chosen.rounds)]
    one, other = (min(column) for column in zip(*costs, strict=True))
    figures = [
        Figure(f"{chosen.few} in flight", f"{one:.1f} us"),
        Figure(f"{chosen.many} in flight", f"{other:.1f} us"),
        Figure("ratio", f"{other / one:.2f}", "<= 1.5", other / one <= 1.5),
    ]
    show("CPU time of a poll's decision", figures, chosen.json)


if __name__ == "__main__":
    main()
