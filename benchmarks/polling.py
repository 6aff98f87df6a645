"""Whose poll is next: policies side by side, by how late each transition is noticed.

The real client, orchestrator and simulator in simulated time over loopback HTTP, alone on a key of 300
requests a minute, no files downloaded. All policies share the client's scheduler and budget, so none causes a
429; they differ in whom they ask:

- *documented*: each production 10 s after its last poll while Queued, else 30 s, the most overdue first.
- *back-off*: `backoff.on_predicate(backoff.expo, max_value=60)` around `client.fetch`, for each by itself.
- *oldest first*: the one unpolled for longest, whenever a poll may be spent; at least 5 s apart, as ours.
- *cold*: the library, which at the start knows nothing but its table.
- *warm*: the same with what a cold run over a batch of another seed has learned.
- *oracle*: the same, but told by the simulator when each status truly began, and with the true distributions,
  as histograms of 20,000 timelines drawn beforehand, in place of what it learns. No one can do that.

So many are *in flight* as have been submitted and have not ended, those that wait for approval included. (The
orchestrator's `concurrency` is another number: there they give back their places.) Submits and lists of
deliverables are paid for from the same budget.

The lag of a transition runs from the moment at which it truly happened to the `observed_at` of the first
event that tells of this status or a later one: the mean over all transitions, of the terminal ones in
brackets.

Three families: the simulator's own; one third long form, which takes six times as long; approval by people,
four of five of whom take 45 minutes in the median.

Tried in place of the library's rule, and not better: a gap for each production, fixed when it is planned
(19 % more lag until warm); Whittle's index of the same problem (2 % less cold, 2 % more warm); a status taken
to begin when its hazard suggests rather than half-way between two polls (within 1 %). Learning each age bin
without its neighbours means 13 % more lag after five productions, and 1 % more after 400.

All of it takes an hour or two of real time; `--productions 400 --in_flight 200 --family 1` some minutes.
"""

import asyncio
import logging
import math
import multiprocessing
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import cycle, pairwise
from random import Random

import backoff
from attrs import evolve, frozen

from benchmarks._bench import topics
from benchmarks._picture import write_bars
from benchmarks._queues import Queue, Told, documented, oldest_first
from jarai_async import (
    Finished,
    JaraiClient,
    Orchestrator,
    Production,
    ProductionRequest,
    RateLimit,
    Status,
    StatusChanged,
)
from jarai_async._polling.poll_queue import PollQueue
from jarai_async._polling.sojourn import Sojourns
from jarai_async.simulator import Simulator, run, usual_durations
from jarai_async.simulator._event_loop import START_OF_SIMULATED_TIME
from jarai_async.simulator._productions.timelines import Durations, TimelineOptions, draw_timeline
from tests.support.figures import Figure, options, show

_NO_QUOTA = 10**9
IDS = ("account_id", "language_id", "country_id", "avatar_id")
_ENDS = ("Published", "Failed")
_DRAWN = 20_000
_SHORT, _LONG = "social-video-30s", "podcast-10m"


def approved_by_people(random: Random, project_type: str) -> list[tuple[str, float]]:
    """Seconds in each status where four of five wait for a person, 45 minutes in the median."""
    queued, producing, distributing = usual_durations(random, project_type)
    autonomous, at_once = random.random() < 0.2, random.uniform(2.0, 15.0)
    by_a_person = random.lognormvariate(math.log(2700.0), 1.0)
    return [queued, producing, ("AwaitingApproval", at_once if autonomous else by_a_person), distributing]


@frozen
class Family:
    """What the productions of a batch are like; the project types take turns."""

    name: str
    durations: Durations = usual_durations
    project_types: tuple[str, ...] = (_SHORT,)


FAMILIES = (
    Family("usual"),
    Family("short and long", project_types=(_SHORT, _SHORT, _LONG)),
    Family("people approve", approved_by_people),
)


def truth(family: Family) -> Sojourns:
    """Learn from complete timelines, of which each moment is known exactly."""
    sojourns, recipe = Sojourns(), TimelineOptions(family.durations)
    for n in range(_DRAWN):
        kind = family.project_types[n % len(family.project_types)]
        for status, seconds in draw_timeline(Random(f"truth:{n}"), kind, recipe).stages[:-1]:
            sojourns.record_stay(kind, Status(status), 0.0, seconds)
            sojourns.record_transition(kind, Status(status), seconds, seconds)
    return sojourns


async def drawn(
    requests: Iterable[ProductionRequest], places: asyncio.Semaphore
) -> AsyncIterator[ProductionRequest]:
    """Give each request when there is a place for it."""
    for request in requests:
        await places.acquire()
        yield request


def lags(simulator: Simulator, seen: dict[str, list[tuple[float, str]]]) -> Iterator[tuple[str, str, float]]:
    """Give for each change the status left, the one entered, and how late it was seen (seconds)."""
    for production_id, changes in seen.items():
        timeline = simulator.productions[production_id].timeline
        place = {status: n for n, (_, status) in enumerate(timeline)}
        for n, ((_, left), (moment, entered)) in enumerate(pairwise(timeline), start=1):
            told = next((at for at, later in changes if place[later] >= n), None)
            if told is not None:
                yield left, entered, told - moment


@frozen
class Result:
    """What became of one batch: its `lags`, 429s, and what was learned."""

    lags: Sequence[tuple[str, str, float]]
    refused: int
    learned: Sojourns

    def mean(self, *statuses: str) -> float:
        """Seconds of lag on average, of these statuses or of all."""
        wanted = [late for _, entered, late in self.lags if not statuses or entered in statuses]
        return sum(wanted) / len(wanted)


@frozen
class Batch:
    """What all policies are given alike."""

    family: Family
    productions: int
    in_flight: int
    seed: str

    def run(self, *, queue: Queue | None = None, known: Sojourns | None = None) -> Result:
        """Run it with another queue than the library's, or with what was learned before."""
        return run(self._run(queue, known))

    async def _run(self, queue: Queue | None, known: Sojourns | None) -> Result:
        simulator = Simulator(seed=self.seed, durations=self.family.durations, daily_quotas=False)
        budget = RateLimit(per_day=_NO_QUOTA)
        seen: dict[str, list[tuple[float, str]]] = {}
        async with (
            simulator,
            JaraiClient(simulator.api_key, base_url=simulator.base_url, budget=budget) as client,
        ):
            poller = client._poller  # noqa: SLF001  # the seam: whose queue it is, the poller does not ask
            if known is not None:
                poller.sojourns = Sojourns.restore_state(known.export_state())
                poller.queue = PollQueue(poller.sojourns)
            if queue is not None:
                poller.queue = queue(simulator)
            places = asyncio.Semaphore(self.in_flight)
            async with Orchestrator(client, concurrency=self.productions) as orchestrator:
                async for event in orchestrator.run(drawn(self._requests(simulator), places)):
                    if isinstance(event, StatusChanged):
                        moment = event.observed_at.timestamp() - START_OF_SIMULATED_TIME
                        seen.setdefault(event.production.id, []).append((moment, str(event.status)))
                    elif isinstance(event, Finished):
                        places.release()
            return Result(
                list(lags(simulator, seen)),
                simulator.rate_limited,
                poller.sojourns,
            )

    def _requests(self, simulator: Simulator) -> Iterator[ProductionRequest]:
        ids = {name: getattr(simulator, name) for name in IDS}
        for request, kind in zip(
            topics(self.productions, ids), cycle(self.family.project_types), strict=False
        ):
            yield evolve(request, project_type=kind)

    def run_backing_off(self) -> Result:
        """Run it with a loop of its own around each production, and no poller."""
        return run(self._run_backing_off())

    async def _run_backing_off(self) -> Result:
        simulator = Simulator(seed=self.seed, durations=self.family.durations, daily_quotas=False)
        budget = RateLimit(per_day=_NO_QUOTA)
        seen: dict[str, list[tuple[float, str]]] = {}
        places = asyncio.Semaphore(self.in_flight)
        async with (
            simulator,
            JaraiClient(simulator.api_key, base_url=simulator.base_url, budget=budget) as client,
            asyncio.TaskGroup() as tasks,
        ):

            async def follow(request: ProductionRequest) -> None:
                production = await client.submit(request)
                changes = seen.setdefault(production.id, [])

                @backoff.on_predicate(
                    backoff.expo, lambda seen: not seen.status.is_terminal, max_value=60, logger=None
                )
                async def fetched() -> Production:
                    found = await client.fetch(production.id)
                    changes.append((asyncio.get_running_loop().time(), str(found.status)))
                    return found

                if (await fetched()).status == Status.PUBLISHED:
                    await client.deliverables(production.id)
                places.release()

            async for request in drawn(self._requests(simulator), places):
                tasks.create_task(follow(request))
        return Result(
            list(lags(simulator, seen)),
            simulator.rate_limited,
            Sojourns(),
        )


def documented_intervals(batch: Batch, _: Sojourns) -> Result:
    return batch.run(queue=documented)


def back_off(batch: Batch, _: Sojourns) -> Result:
    return batch.run_backing_off()


def longest_unpolled(batch: Batch, _: Sojourns) -> Result:
    return batch.run(queue=oldest_first)


def cold(batch: Batch, _: Sojourns) -> Result:
    return batch.run()


def warm(batch: Batch, _: Sojourns) -> Result:
    """Learn from another batch first."""
    return batch.run(known=evolve(batch, seed=f"{batch.seed}, before").run().learned)


def oracle(batch: Batch, true: Sojourns) -> Result:
    return batch.run(queue=lambda simulator: Told(true, simulator))


POLICIES: dict[str, Callable[[Batch, Sojourns], Result]] = {
    "warm": warm,  # takes the longest
    "documented": documented_intervals,
    "back-off": back_off,
    "oldest first": longest_unpolled,
    "cold": cold,
    "oracle": oracle,
}


_SHOWN = ("documented", "back-off", "oldest first", "cold", "warm", "oracle")


def _mean(results: list[Result], *statuses: str) -> float:
    return sum(result.mean(*statuses) for result in results) / len(results)


def _figures(title: str, results: dict[str, list[Result]]) -> list[Figure]:
    def mean(policy: str, *statuses: str) -> float:
        return _mean(results[policy], *statuses)

    figures = [Figure(title, "")]
    for policy in _SHOWN:
        times = mean(policy) / mean("oracle")
        most = {"cold": 1.10, "warm": 1.05}.get(policy, math.inf)
        value = f"{mean(policy):5.1f} ({mean(policy, *_ENDS):5.1f}) s  {times:5.2f} x oracle"
        goal, met = ("", None) if math.isinf(most) else (f"<= {most:.2f} x", times <= most)
        figures.append(Figure(f"  {policy}", value, goal, met))
    refused = sum(result.refused for of_one in results.values() for result in of_one)
    return [*figures, Figure("  429s, all policies", str(refused), "0", refused == 0)]


def _quiet() -> None:
    logging.disable()  # what is left over when a batch ends is of no interest


def main() -> None:
    names = {"productions": 1200, "in_flight": 0, "seeds": 1, "family": 0}
    usage = f"{__doc__}\nWithout --in_flight: 50, 200 and 600; --family 0: all."
    chosen = options(usage, picture=True, **names)
    sizes = [chosen.in_flight] if chosen.in_flight else [50, 200, 600]
    figures: list[Figure] = []
    drawn: dict[str, dict[str, float]] = {}
    with multiprocessing.get_context("spawn").Pool(initializer=_quiet) as pool:
        for family in FAMILIES if not chosen.family else [FAMILIES[chosen.family - 1]]:
            true = truth(family)
            for size in sizes:
                seeds = [f"polling {n}" for n in range(1, chosen.seeds + 1)]
                batches = [Batch(family, chosen.productions, size, seed) for seed in seeds]
                started = {
                    name: [pool.apply_async(policy, (batch, true)) for batch in batches]
                    for name, policy in POLICIES.items()
                }
                results = {name: [one.get() for one in of_one] for name, of_one in started.items()}
                title = f"{family.name.upper()}, {size} in flight"
                figures += _figures(title, results)
                drawn[title] = {name: _mean(results[name]) for name in _SHOWN}
    show(f"Mean lag of {chosen.productions} productions", figures, chosen.json)
    if chosen.picture is not None:
        title = "How late each change of status is noticed, on one budget of 300 requests a minute"
        write_bars(chosen.picture, title, "s", drawn, ours=("cold", "warm"))


if __name__ == "__main__":
    main()
