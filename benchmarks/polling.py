"""Which production to poll next: policies compared by how late they notice each status change.

The real client, orchestrator and simulator run in simulated time over loopback HTTP, with a key that nothing
else uses and 300 requests a minute; no files are downloaded. All policies share the client's scheduler and
rate limit, so none of them causes a 429. They differ in the production that they poll next:

- *documented*: each production 10 s after its last poll while Queued, else 30 s; the most overdue first.
- *back-off*: `backoff.on_predicate(backoff.expo, max_value=60)` around `client.fetch`, for each production.
- *oldest first*: the production polled longest ago; at least 5 s apart, as with the library.
- *cold*: the library, which has no experience at the start, only its table.
- *warm*: the library, with what a cold run over a batch of another seed has learned.
- *oracle*: the library, but the simulator says when each status and each step really began, and the true
  distributions, as histograms of 10,000 timelines drawn beforehand, replace what it would learn. No real
  client can do that.
- *blind cold*, *blind warm*, *blind oracle*: the same three, where the server reports no steps.

*In flight* is the number of productions that have been submitted and have not ended, including those that
wait for approval. (The orchestrator's `concurrency` does not count those.) Submits and lists of deliverables
count against the same rate limit.

The lag of a status change is the time from the change to the `observed_at` of the first event with its status
or a later one. Shown is the mean of all changes, and in brackets that of the changes to a terminal status.

There are five families of productions: the simulator's own, whose steps take fixed shares of Producing; one
third long form, which takes six times as long; approval by people, in which four of five wait for a person,
45 minutes in the median; steps of very unlike lengths, each with a log-normal deviation of its own (sigma
0.4) and one that all steps of a production have in common (0.15); and a type that uses eleven of the steps
(0.25 and 0.3).

    python -m benchmarks.polling                                                         # an hour or two
    python -m benchmarks.polling --productions 400 --in_flight 200 --family 1            # some minutes
"""

import asyncio
import logging
import math
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle
from random import Random
from typing import Any

import backoff
from attrs import evolve, frozen

from benchmarks._bench import Lag, StatusLog, limit_in_flight, open_client, requests_for
from benchmarks._picture import write_bars
from benchmarks._queues import MakeQueue, Oracle, documented, oldest_first
from jarai_async import (
    Finished,
    JaraiClient,
    Orchestrator,
    Production,
    ProductionRequest,
    Status,
    StatusChanged,
)
from jarai_async._polling.sojourn import Sojourns
from jarai_async._polling.steps import Steps
from jarai_async.simulator import Simulator, run, usual_durations
from jarai_async.simulator._productions.timelines import Durations, Timeline, TimelineOptions, draw_timeline
from tests.support.figures import Figure, options, show
from tests.support.poll_worlds import MEANS, draw_steps

_ENDS = ("Published", "Failed")
_TIMELINES = 10_000
_UNUSED_STEPS = (3, 4, 8, 12)
_SHORT, _LONG = "social-video-30s", "podcast-10m"


def approved_by_people(random: Random, project_type: str) -> list[tuple[str, float]]:
    """Return the stages of a production that in four of five cases waits for a person's approval."""
    queued, producing, distributing = usual_durations(random, project_type)
    autonomous, automatic = random.random() < 0.2, random.uniform(2.0, 15.0)
    by_a_person = random.lognormvariate(math.log(2700.0), 1.0)
    return [queued, producing, ("AwaitingApproval", automatic if autonomous else by_a_person), distributing]


def unlike_steps(random: Random, project_type: str) -> list[tuple[str, float | list[float]]]:
    """Return the stages of a production whose steps vary on their own, and a little together."""
    queued, _, distributing = usual_durations(random, project_type)
    return [queued, ("Producing", draw_steps(random)), distributing]


def skipped_steps(random: Random, project_type: str) -> list[tuple[str, float | list[float]]]:
    """Return the stages of a production that uses eleven of the steps, whose speed varies more."""
    queued, _, distributing = usual_durations(random, project_type)
    pace = random.lognormvariate(0.0, 0.3)
    steps = [1.4 * pace * mean * random.lognormvariate(-0.03, 0.25) for mean in MEANS]
    return [
        queued,
        ("Producing", [0.0 if n in _UNUSED_STEPS else step for n, step in enumerate(steps, 1)]),
        distributing,
    ]


@frozen
class Family:
    """What the productions of a batch are like; the project types alternate."""

    name: str
    durations: Durations = usual_durations
    project_types: tuple[str, ...] = (_SHORT,)


FAMILIES = (
    Family("usual"),
    Family("short and long", project_types=(_SHORT, _SHORT, _LONG)),
    Family("people approve", approved_by_people),
    Family("unlike steps", unlike_steps),
    Family("skipped steps", skipped_steps),
)


def truth(family: Family) -> dict[str, Any]:
    """Learn from complete timelines, in which the time of every change is known exactly."""
    sojourns = Sojourns()
    steps, timeline_options = Steps(sojourns), TimelineOptions(family.durations)
    for n in range(_TIMELINES):
        kind = family.project_types[n % len(family.project_types)]
        timeline = draw_timeline(Random(f"truth:{n}"), kind, timeline_options)
        for status, seconds in timeline.stages[:-1]:
            sojourns.record_stay(kind, Status(status), 0.0, seconds)
            sojourns.record_transition(kind, Status(status), seconds, seconds)
            if status == Status.PRODUCING:
                _learn_steps(steps, kind, timeline, seconds)
    return sojourns.export_state() | {"steps": steps.export_state()}


def _learn_steps(steps: Steps, kind: str, timeline: Timeline, seconds: float) -> None:
    failed = timeline.stages[-1][0] == Status.FAILED
    progress = steps.observe(kind, None, 1, 0.0, 0.0, age_known=True)
    for step, end in enumerate(timeline.step_ends[:-1], start=2):
        if end <= seconds:
            progress = steps.observe(kind, progress, step, end, end, age_known=True)
    if progress is not None and not failed:
        steps.left(kind, progress, seconds, seconds)
    steps.count(kind, seconds, failed=failed)


@frozen
class Result:
    """The lags and 429s of one batch, and what the client learned."""

    lags: Sequence[Lag]
    rejected: int
    learned: Mapping[str, Any]

    def mean(self, *statuses: str) -> float:
        """Return the mean lag in seconds, of the changes to these statuses or of all."""
        lags = [lag.seconds for lag in self.lags if not statuses or lag.entered in statuses]
        return sum(lags) / len(lags)


@frozen
class Batch:
    """What is the same for all policies."""

    family: Family
    productions: int
    in_flight: int
    seed: str
    reports_steps: bool = True

    def run(self, *, queue: MakeQueue | None = None, learned: Mapping[str, Any] | None = None) -> Result:
        """Run it with another queue than the library's, or with what the client has learned before."""
        return run(self._run(queue, learned))

    async def _run(self, queue: MakeQueue | None, learned: Mapping[str, Any] | None) -> Result:
        log, slots = StatusLog(), asyncio.Semaphore(self.in_flight)
        async with self._simulator() as simulator, open_client(simulator) as client:
            poller = client.engine.poller
            if not self.reports_steps:
                simulator.deploy(layout="without_step")
            if learned is not None:
                poller.restore_state(learned)
            if queue is not None:
                poller.queue = queue(simulator)
            async with Orchestrator(client, concurrency=self.productions) as orchestrator:
                async for event in orchestrator.run(limit_in_flight(self._requests(simulator), slots)):
                    if isinstance(event, StatusChanged):
                        log.add(event)
                    elif isinstance(event, Finished):
                        slots.release()
            return Result(list(log.lags(simulator)), simulator.rate_limited, poller.export_state())

    def _simulator(self) -> Simulator:
        return Simulator(seed=self.seed, durations=self.family.durations, daily_quotas=False)

    def _requests(self, simulator: Simulator) -> Iterator[ProductionRequest]:
        requests = requests_for(simulator, self.productions)
        for request, project_type in zip(requests, cycle(self.family.project_types), strict=False):
            yield evolve(request, project_type=project_type)

    def run_with_back_off(self) -> Result:
        """Run it with a polling loop for each production instead of the library's poller."""
        return run(self._run_with_back_off())

    async def _run_with_back_off(self) -> Result:
        log, slots = StatusLog(), asyncio.Semaphore(self.in_flight)
        async with (
            self._simulator() as simulator,
            open_client(simulator) as client,
            asyncio.TaskGroup() as tasks,
        ):
            async for request in limit_in_flight(self._requests(simulator), slots):
                tasks.create_task(_follow_with_back_off(client, request, log, slots))
        return Result(list(log.lags(simulator)), simulator.rate_limited, {})


async def _follow_with_back_off(
    client: JaraiClient, request: ProductionRequest, log: StatusLog, slots: asyncio.Semaphore
) -> None:
    production = await client.submit(request)
    changes = log.changes.setdefault(production.id, [])

    @backoff.on_predicate(
        backoff.expo, lambda current: not current.status.is_terminal, max_value=60, logger=None
    )
    async def wait() -> Production:
        current = await client.fetch(production.id)
        changes.append((asyncio.get_running_loop().time(), str(current.status)))
        return current

    if (await wait()).status == Status.PUBLISHED:
        await client.deliverables(production.id)
    slots.release()


Truth = Mapping[str, Any]


def documented_intervals(batch: Batch, _: Truth) -> Result:
    return batch.run(queue=documented)


def back_off(batch: Batch, _: Truth) -> Result:
    return batch.run_with_back_off()


def longest_unpolled(batch: Batch, _: Truth) -> Result:
    return batch.run(queue=oldest_first)


def cold(batch: Batch, _: Truth) -> Result:
    return batch.run()


def warm(batch: Batch, _: Truth) -> Result:
    """Learn from another batch first."""
    return batch.run(learned=evolve(batch, seed=f"{batch.seed}, before").run().learned)


def oracle(batch: Batch, truth: Truth) -> Result:
    return batch.run(queue=lambda simulator: Oracle(truth, simulator))


def blind(policy: Callable[[Batch, Truth], Result], batch: Batch, truth: Truth) -> Result:
    return policy(evolve(batch, reports_steps=False), truth)


POLICIES: dict[str, Callable[[Batch, Truth], Result]] = {
    "warm": warm,  # takes the longest, with the next
    "blind warm": partial(blind, warm),
    "documented": documented_intervals,
    "back-off": back_off,
    "oldest first": longest_unpolled,
    "blind cold": partial(blind, cold),
    "blind oracle": partial(blind, oracle),
    "cold": cold,
    "oracle": oracle,
}
_SHOWN = (
    "documented",
    "back-off",
    "oldest first",
    "blind cold",
    "blind warm",
    "blind oracle",
    "cold",
    "warm",
    "oracle",
)
_MOST = {"blind cold": 1.05, "blind warm": 1.02, "cold": 1.20, "warm": 1.20}  # times their oracle


def _mean(results: list[Result], *statuses: str) -> float:
    return sum(result.mean(*statuses) for result in results) / len(results)


def _figures(title: str, results: dict[str, list[Result]]) -> list[Figure]:
    def mean(policy: str, *statuses: str) -> float:
        return _mean(results[policy], *statuses)

    figures = [Figure(title, "")]
    for policy in _SHOWN:
        ratio = mean(policy) / mean("blind oracle" if "blind" in policy else "oracle")
        most = _MOST.get(policy, math.inf)
        value = f"{mean(policy):5.1f} ({mean(policy, *_ENDS):5.1f}) s  {ratio:5.2f} x oracle"
        goal, met = ("", None) if math.isinf(most) else (f"<= {most:.2f} x", ratio <= most)
        figures.append(Figure(f"  {policy}", value, goal, met))
    rejected = sum(result.rejected for of_policy in results.values() for result in of_policy)
    return [*figures, Figure("  429s, all policies", str(rejected), "0", rejected == 0)]


def main() -> None:
    usage = f"{__doc__}\nWithout --in_flight: 50, 200 and 600; --family 0: all."
    chosen = options(usage, picture=True, productions=1200, in_flight=0, seeds=1, family=0)
    sizes = [chosen.in_flight] if chosen.in_flight else [50, 200, 600]
    figures: list[Figure] = []
    bars: dict[str, dict[str, float]] = {}
    with multiprocessing.get_context("spawn").Pool(initializer=logging.disable) as pool:
        for family in FAMILIES if not chosen.family else [FAMILIES[chosen.family - 1]]:
            known = truth(family)
            for size in sizes:
                seeds = [f"polling {n}" for n in range(1, chosen.seeds + 1)]
                batches = [Batch(family, chosen.productions, size, seed) for seed in seeds]
                pending = {
                    name: [pool.apply_async(policy, (batch, known)) for batch in batches]
                    for name, policy in POLICIES.items()
                }
                results = {
                    name: [result.get() for result in of_policy] for name, of_policy in pending.items()
                }
                title = f"{family.name.upper()}, {size} in flight"
                figures += _figures(title, results)
                bars[title] = {name: _mean(results[name]) for name in _SHOWN}
    show(f"Mean lag of {chosen.productions} productions", figures, chosen.json)
    if chosen.picture is not None:
        title = "How late each change of status is noticed, with 300 requests a minute for all of them"
        write_bars(chosen.picture, title, "s", bars, ours=("blind cold", "blind warm", "cold", "warm"))


if __name__ == "__main__":
    main()
