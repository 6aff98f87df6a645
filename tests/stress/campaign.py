"""The stress campaigns: many worlds, run in parallel and summed up as figures.

- *worlds*: each seed is a world with faults of every kind that the simulator has. Its program leaves the
  orchestrator by `break`, a timeout or an exception, and runs again.
- *crashes*: small scenarios run again and again, and each time the program crashes one step later. (With
  `--every 7` only every seventh step counts once all requests are submitted.) Then scenarios with two crashes
  each, at random steps.
- *sigkill*: a real process gets a real SIGKILL at a random time and is started again until it is done.
"""

import argparse
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, partial
from random import Random

from attrs import define, field

from jarai_async import OutcomeState
from jarai_async.simulator._api.fault_kinds import KINDS
from tests.stress import sigkill
from tests.stress.crashes import watch_databases
from tests.stress.invariants import violations
from tests.stress.worlds import WorldResult, run_world, scenario_of, scratch_folder
from tests.support.figures import Figure

_SEEDS_FOR_ALL_FAULTS = 300  # from this many seeds on each kind of fault must occur
_SEEDS_FOR_MANY_FAULTS = 5_000  # and from this many on a hundred times
_MOST_FAILURES = 20  # of one scenario

Campaign = Callable[[argparse.Namespace], tuple[list[Figure], list[str]]]  # figures, and what failed


@define
class Tally:
    """The sums over some worlds: `counts` of several things, `faults` by kind, and what failed."""

    counts: Counter[str] = field(factory=Counter)
    faults: Counter[str] = field(factory=Counter)
    failed: list[str] = field(factory=list)
    seconds: float = 0.0  # of CPU time

    def add(self, other: "Tally") -> None:
        """Add the sums over other worlds."""
        self.counts += other.counts
        self.faults += other.faults
        self.failed += other.failed
        self.seconds += other.seconds

    def run(self, seed: str, *crash_steps: int) -> WorldResult | None:
        """Run a world and add it; return None if that failed with an exception."""
        command = " ".join(["python -m tests.stress replay", seed, *map(str, crash_steps)])
        started = time.process_time()
        result = None
        self.counts["worlds"] += 1
        try:
            with scratch_folder() as folder:
                result = run_world(scenario_of(seed), folder, *crash_steps)
                self.failed += [f"{command}: {violation}" for violation in violations(result)]
        except Exception as error:  # noqa: BLE001  # any exception is a failure of this world
            self.failed.append(f"{command}: {type(error).__name__}: {error}")
        else:
            simulator = result.simulator
            states = [outcome.state for outcome in result.runs[-1].outcomes.values()]
            self.counts["productions"] += len(simulator.productions)
            self.counts["uncertain"] += sum(state is OutcomeState.UNCERTAIN for state in states)
            arrived = [item for item in simulator.deliveries if item.delivered_at is not None]
            self.counts["webhooks"] += len(arrived)
            self.faults += simulator.faults.fired
        self.seconds += time.process_time() - started
        return result


def run_seed(seed: str) -> Tally:
    """Run one world with faults."""
    tally = Tally()
    tally.run(seed)
    return tally


def run_crashes(number: int, every: int) -> Tally:
    """Run one small scenario with a crash at each step in turn."""
    tally, seed = Tally(), f"crash-{number}"
    all_submitted_at, steps = _steps_of(seed)
    for step in (*range(1, all_submitted_at + 1), *range(all_submitted_at + 1, steps + 1, every)):
        tally.run(seed, step)
        if len(tally.failed) > _MOST_FAILURES:
            break
    return tally


def run_two_crashes(number: int, scenarios: int) -> Tally:
    """Run a small scenario with a crash at a random step, and one at a random step of the run after it."""
    tally, random = Tally(), Random(number)
    seed = f"crash-{random.randrange(scenarios)}"
    _, steps = _steps_of(seed)
    tally.run(seed, random.randint(1, steps), random.randint(1, random.choice((60, 200, steps))))
    return tally


@cache
def _steps_of(seed: str) -> tuple[int, int]:
    """Return the steps of a run without a crash: until all requests are submitted, and in all."""
    result = Tally().run(seed)
    return (result.runs[0].all_submitted_at, result.steps[0]) if result else (1, 1)


def _in_parallel(
    work: Callable[..., Tally], arguments: Sequence[str] | range, options: argparse.Namespace
) -> Tally:
    total = Tally()
    context = multiprocessing.get_context("spawn")
    with context.Pool(options.processes, initializer=watch_databases) as pool:
        for tally in pool.imap_unordered(work, arguments, chunksize=1 + len(arguments) // 500):
            total.add(tally)
            if total.failed and options.until_failure:
                break
    return total


def worlds(options: argparse.Namespace) -> tuple[list[Figure], list[str]]:
    """Run the worlds with faults."""
    seeds = [f"seed-{n}" for n in range(options.first, options.first + options.seeds)]
    tally = _in_parallel(run_seed, seeds, options)
    faults = tally.faults
    rarest = min(KINDS, key=lambda kind: faults[kind])
    enough = 100 if options.seeds >= _SEEDS_FOR_MANY_FAULTS else int(options.seeds >= _SEEDS_FOR_ALL_FAULTS)
    too_rare = [kind for kind in KINDS if not tally.failed and faults[kind] < enough]
    print(", ".join(f"{kind} {count:,}" for kind, count in faults.most_common()), end="\n\n")
    figures = [
        _worlds_figure("worlds with faults", tally),
        Figure("  productions", f"{tally.counts['productions']:,}"),
        Figure("  outcomes that stay uncertain", f"{tally.counts['uncertain']:,}"),
        Figure("  webhooks that arrived", f"{tally.counts['webhooks']:,}"),
        Figure(
            "  kinds of fault that occurred", str(len(faults)), str(len(KINDS)), len(faults) == len(KINDS)
        ),
        Figure(
            f"  the rarest, {rarest}", f"{faults[rarest]:,} times", f">= {enough}", faults[rarest] >= enough
        ),
        _failed_figure(tally.failed),
    ]
    return figures, [*tally.failed, *(f"{kind} occurred only {faults[kind]} times" for kind in too_rare)]


def crashes(options: argparse.Namespace) -> tuple[list[Figure], list[str]]:
    """Run the scenarios with one crash, then those with two."""
    once = _in_parallel(partial(run_crashes, every=options.every), range(options.scenarios), options)
    twice = _in_parallel(
        partial(run_two_crashes, scenarios=options.scenarios), range(options.doubles), options
    )
    figures = [
        _worlds_figure(f"crashes at every step of {options.scenarios} scenarios", once),
        _failed_figure(once.failed),
        _worlds_figure("scenarios with two crashes", twice),
        _failed_figure(twice.failed),
    ]
    return figures, [*once.failed, *twice.failed]


def kills(options: argparse.Namespace) -> tuple[list[Figure], list[str]]:
    """Kill real processes: first without idempotency keys, then with them."""
    figures, failed = [], []
    for keys in (False, True):
        started = time.perf_counter()
        result = sigkill.run_batches(options.runs, idempotency_keys=keys)
        speed = result.kills / (time.perf_counter() - started)
        figures += [
            Figure(f"kills {'with' if keys else 'without'} keys", f"{result.kills:,} ({speed:.1f} a second)"),
            Figure("  batches of 5 requests", f"{result.batches:,}"),
            Figure("  uncertain; of these created", f"{result.uncertain:,}; {result.created:,}"),
            _failed_figure(result.failed),
        ]
        failed += result.failed
    return figures, failed


def _worlds_figure(name: str, tally: Tally) -> Figure:
    count = tally.counts["worlds"]
    speed = count / tally.seconds if tally.seconds else 0.0
    return Figure(name, f"{count:,} ({speed:.0f} a second of a core)")


def _failed_figure(failed: list[str]) -> Figure:
    return Figure("  lost, duplicated, misreported or other", str(len(failed)), "0", not failed)
