"""A world without a network: productions with steps, polled one at a time in the order of the queue."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from uuid import UUID

from attrs import define

from jarai_async import Polling, Production, Status
from jarai_async._api.models import parse_id
from jarai_async._http.request_log import RequestLog
from jarai_async._polling.observer import Observer
from jarai_async._polling.poll_queue import PollQueue
from jarai_async._polling.sojourn import Sojourns
from jarai_async._polling.watch import Watch

Report = Callable[[Random, int, float], int | None]
"""Returns what the server says of a step, `seconds` after Producing began."""

MEANS = (20, 25, 60, 15, 90, 45, 120, 150, 60, 200, 80, 30, 60, 25, 100)  # seconds
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
_PROJECT_TYPE = "article"
_INTERVAL = 40.0  # seconds between two polls of a production, on average


@define(eq=False)
class Truth:
    """The times at which one production enters Producing, each of its steps, and the end."""

    watch: Watch
    starts: list[float]
    end: float

    def step(self, now: float) -> int:
        """Return its step, from 1 on."""
        return sum(start <= now for start in self.starts)


def draw_steps(random: Random) -> list[float]:
    """Return the seconds of each step of a production."""
    pace = random.lognormvariate(0.0, 0.15)
    return [pace * mean * random.lognormvariate(-0.08, 0.4) for mean in MEANS]


class PollWorld:
    """Productions in Producing, of which each can be polled every 40 seconds."""

    def __init__(self, report: Report, *, seed: int, productions: int = 90, in_flight: int = 30) -> None:
        self.observer = Observer(Sojourns(), lambda: 0.0)
        self.lags: list[float] = []
        self.errors: dict[str, float] = {}
        """Of the time left, in seconds, at the first poll after half of Producing, by production."""
        self._report = report
        self._random = Random(f"poll world {seed}")
        self._lies = Random(f"lies {seed}")
        self._productions, self._in_flight = productions, in_flight
        self._queue: PollQueue[Watch] = PollQueue(self.observer.sojourns)
        self._truths: dict[str, Truth] = {}
        self._loop = asyncio.new_event_loop()  # for futures that nobody awaits

    def run(self) -> float:
        """Poll until all productions have ended; return the mean lag of the changes, in seconds."""
        now, started = 0.0, 0
        while started < self._productions or self._truths:
            now += _INTERVAL / self._in_flight
            while started < self._productions and len(self._truths) < self._in_flight:
                self._start(started, now)
                started += 1
            if (watch := self._queue.pop(now)) is not None:
                self._poll(watch, now)
        self._loop.close()
        return sum(self.lags) / len(self.lags)

    def _start(self, number: int, now: float) -> None:
        id_ = parse_id(str(UUID(int=number + 1)))
        production = Production(id_, Status.PRODUCING, project_type=_PROJECT_TYPE)
        watch = Watch(production, Polling(), now, now, now, NOON, RequestLog())
        watch.change = self._loop.create_future()
        steps = draw_steps(self._random)
        starts = [now + sum(steps[:n]) for n in range(len(steps))]
        self._truths[production.id] = Truth(watch, starts, now + sum(steps))
        self._queue.push(watch, now)

    def _poll(self, watch: Watch, now: float) -> None:
        truth = self._truths[watch.production.id]
        status = Status.PUBLISHED if now >= truth.end else Status.PRODUCING
        step = self._report(self._lies, truth.step(now), now - truth.starts[0])
        current = Production(watch.production.id, status, project_type=_PROJECT_TYPE, current_step=step)
        self.observer.observe(watch, current, NOON, now)
        if status == Status.PUBLISHED:
            self.lags.append(now - truth.end)
            del self._truths[watch.production.id]
        else:
            self._queue.push(watch, now)
            if now >= (truth.starts[0] + truth.end) / 2:
                self.errors.setdefault(watch.production.id, abs(self._left(watch, now) - (truth.end - now)))

    def _left(self, watch: Watch, now: float) -> float:
        sojourns, outlook = self.observer.sojourns, watch.outlook
        if outlook is None:
            return sojourns.mean_remaining(_PROJECT_TYPE, watch.status, now - watch.since)
        return outlook.mean_remaining(sojourns, _PROJECT_TYPE, now - outlook.at)
