"""Nothing lost, nothing twice: worlds full of faults, deaths at every step, and real kills, by the thousand.

1. *Faults*: each seed is a world of its own, with faults of every kind that the simulator has, and a program
   that is left by `break`, a timeout or an exception, and run again. Client, orchestrator, journal and server
   are real, time is simulated.
2. *Deaths*: scenarios are lived again and again, and each time the program dies one step later. (With
   `--every 7` at every seventh only, once all is submitted.) Then so many at random, twice in a row.
3. *Kills*: a real process gets a real SIGKILL at a random moment, and is started again until it is done.

After each, what was told is compared with what the simulator knows to be true (`_truth`). With `--mutants`
the library is broken on purpose, in each of the ways of `_mutants`, to see that the campaign finds out.

What fails is printed with the command that plays it again. The exit code is 1 if anything failed.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from random import Random

from attrs import define, evolve, field

from jarai_async import OutcomeState
from jarai_async.simulator._api.fault_kinds import KINDS
from tests.stress.crashes import watch_databases
from tests.stress.invariants import violations
from tests.stress.mutants import survivors
from tests.stress.program import Life
from tests.stress.sigkill import kill
from tests.stress.worlds import Played, Scenario, draw, play, scratch
from tests.support.figures import Figure, show

_FULL = 5_000  # seeds from which on each kind of fault is to have struck a hundred times
_SOME = 300  # and once at least
_SHOWN = 20


@define
class Tally:
    """What some worlds came to."""

    worlds: int = 0
    productions: int = 0
    uncertain: int = 0
    webhooks: int = 0
    steps: int = 0
    fired: Counter[str] = field(factory=Counter)
    failed: list[str] = field(factory=list)
    seconds: float = 0.0  # of this processor

    def add(self, other: "Tally") -> None:
        """Take in others."""
        self.worlds += other.worlds
        self.productions += other.productions
        self.uncertain += other.uncertain
        self.webhooks += other.webhooks
        self.steps += other.steps
        self.fired += other.fired
        self.failed += other.failed
        self.seconds += other.seconds

    def note(self, played: Played, command: str) -> None:
        """Take in one world."""
        self.worlds += 1
        self.productions += len(played.simulator.productions)
        outcomes = played.seen[-1].outcomes.values()
        self.uncertain += sum(one.state is OutcomeState.UNCERTAIN for one in outcomes)
        self.webhooks += sum(one.delivered_at is not None for one in played.simulator.deliveries)
        self.steps += sum(played.steps)
        self.fired += played.fired
        self.failed += [f"{command}: {one}" for one in violations(played)]


def one_seed(seed: str) -> Tally:
    """Live one world of faults."""

    def life(tally: Tally) -> None:
        _lived(tally, seed, ())

    return _timed(life)


def one_scenario(crash: int, every: int) -> Tally:
    """Live one small scenario, and die in it at every step, one after the other."""

    def deaths(tally: Tally) -> None:
        seed = f"crash-{crash}"
        early, all_steps = _lengths(seed)
        for step in (*range(1, early + 1), *range(early + 1, all_steps + 1, every)):
            _lived(tally, seed, (step,))
            if len(tally.failed) > _SHOWN:
                break  # enough is known

    return _timed(deaths)


def one_double(number: int, crashes: int) -> Tally:
    """Die at a random step, and at another one while recovering from that, or later."""

    def deaths(tally: Tally) -> None:
        random = Random(number)
        seed = f"crash-{random.randrange(crashes)}"
        _, steps = _lengths(seed)
        first, second = random.randint(1, steps), random.randint(1, random.choice((60, 200, steps)))
        _lived(tally, seed, (first, second))

    return _timed(deaths)


@cache
def _lengths(seed: str) -> tuple[int, int]:
    """Give the steps until all is submitted, and those in all, of a life without a death."""
    whole = _lived(Tally(), seed, ())
    return (whole.seen[0].begun_by, whole.steps[0]) if whole else (1, 1)


def _timed(work: Callable[[Tally], None]) -> Tally:
    before, tally = time.process_time(), Tally()
    work(tally)
    tally.seconds = time.process_time() - before
    return tally


def scenario_of(seed: str) -> Scenario:
    """Give what a seed stands for: a small scenario, read without delay, where it is one to die in."""
    if not seed.startswith("crash-"):
        return draw(seed)
    scenario = draw(seed, count=(2, 3))
    return evolve(scenario, tickets=False, lives=(Life(),))


def _lived(tally: Tally, seed: str, deaths: tuple[int, ...]) -> Played | None:
    command = " ".join(["benchmarks/campaign.py --replay", seed, *map(str, deaths)])
    try:
        with scratch() as folder:
            played = play(scenario_of(seed), folder, *deaths)
            tally.note(played, command)
    except Exception as error:  # noqa: BLE001  # whatever comes out of a world is a finding
        tally.worlds += 1
        tally.failed.append(f"{command}: {type(error).__name__}: {error}")
        return None
    return played


def in_parallel(
    work: Callable[..., Tally], arguments: Sequence[str] | range, options: argparse.Namespace
) -> Tally:
    """Do it in so many processes."""
    whole = Tally()
    context = multiprocessing.get_context("spawn")
    with context.Pool(options.processes, initializer=watch_databases) as pool:
        for tally in pool.imap_unordered(work, arguments, chunksize=1 + len(arguments) // 500):
            whole.add(tally)
            if whole.failed and options.until_failure:
                break
    return whole


def faults(options: argparse.Namespace) -> tuple[list[Figure], list[str]]:
    """Run the first part."""
    seeds = [f"seed-{n}" for n in range(options.first, options.first + options.seeds)]
    tally = in_parallel(one_seed, seeds, options)
    struck = tally.fired
    least = min(KINDS, key=lambda kind: struck[kind])
    enough = 100 if options.seeds >= _FULL else 1 if options.seeds >= _SOME else 0
    never = [f"{kind} struck {struck[kind]} times" for kind in KINDS if struck[kind] < enough]
    figures = [
        _worlds_of("worlds of faults", tally),
        Figure("  productions in them", f"{tally.productions:,}"),
        Figure("  that ended as uncertain", f"{tally.uncertain:,}"),
        Figure("  webhooks that arrived", f"{tally.webhooks:,}"),
        Figure("  kinds of fault that struck", str(len(struck)), str(len(KINDS)), len(struck) == len(KINDS)),
        Figure(f"  the rarest, {least}", f"{struck[least]:,} times", f">= {enough}", struck[least] >= enough),
        _wrong("  lost, twice, lied about, or other", tally),
    ]
    print(", ".join(f"{kind} {count:,}" for kind, count in struck.most_common()), end="\n\n")
    return figures, [*tally.failed, *never]


def deaths(options: argparse.Namespace) -> tuple[list[Figure], list[str]]:
    """Run the second part."""
    once = in_parallel(partial(one_scenario, every=options.every), range(options.crashes), options)
    twice = in_parallel(partial(one_double, crashes=options.crashes), range(options.doubles), options)
    figures = [
        _worlds_of(f"deaths at every step of {options.crashes} scenarios", once),
        _wrong("  lost, twice, lied about, or other", once),
        _worlds_of("deaths twice in a row", twice),
        _wrong("  lost, twice, lied about, or other", twice),
    ]
    return figures, [*once.failed, *twice.failed]


def kills(options: argparse.Namespace) -> tuple[list[Figure], list[str]]:
    """Run the third part: without keys, then with them."""
    figures, failed = [], []
    for keys in (False, True):
        began = time.perf_counter()
        killed = kill(options.kills, idempotency_keys=keys)
        speed = killed.kills / (time.perf_counter() - began)
        figures += [
            Figure(f"kills {'with' if keys else 'without'} keys", f"{killed.kills:,} ({speed:.1f} a second)"),
            Figure("  batches of 5 that they struck", f"{killed.batches:,}"),
            Figure("  uncertain, and of these created", f"{killed.uncertain:,}, {killed.executed:,}"),
            Figure("  lost, twice, lied about, or other", str(len(killed.failed)), "0", not killed.failed),
        ]
        failed += killed.failed
    return figures, failed


def _worlds_of(name: str, tally: Tally) -> Figure:
    speed = tally.worlds / tally.seconds if tally.seconds else 0.0
    return Figure(name, f"{tally.worlds:,} ({speed:.0f} a second of a core)")


def _wrong(name: str, tally: Tally) -> Figure:
    return Figure(name, str(len(tally.failed)), "0", not tally.failed)


def replay(seed: str, *deaths: str) -> int:
    """Play one world again, and print what was told in it."""
    watch_databases()
    with scratch() as folder:
        played = play(scenario_of(seed), folder, *map(int, deaths))
        found = violations(played)
    print(played.scenario)
    for number, seen in enumerate(played.seen):
        print(
            f"\nlife {number + 1}, {played.steps[number]} steps{', died' if seen.died else ''}: {seen.life}"
        )
        for event in seen.events:
            print(f"  {event.sequence:>2} {event.observed_at:%H:%M:%S.%f} {event}")
    print("", *played.log, "", *found, sep="\n")
    return bool(found)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    numbers = {"seeds": 20_000, "first": 0, "crashes": 50, "every": 1, "doubles": 2_000, "kills": 1_000}
    for name, default in {**numbers, "processes": os.cpu_count() or 1}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="(%(default)s)")
    parser.add_argument("--mutants", action="store_true", help="break the library on purpose instead")
    parser.add_argument("--until-failure", action="store_true", help="stop at the first one")
    parser.add_argument("--replay", nargs="+", metavar=("SEED", "STEP"), help="play one world again")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    return parser.parse_args()


def main() -> int:
    options = _options()
    if options.replay:
        return replay(*options.replay)
    if options.mutants:
        number, survived = survivors()
        print(f"{number - len(survived)} of {number} mutants were found")
        return bool(survived)
    parts = [part for number, part in _PARTS.items() if getattr(options, number)]
    figures, failed = [], []
    for part in parts:
        more, wrong = part(options)
        figures += more
        failed += wrong
    show("The campaign: nothing lost, nothing twice.", figures, options.json)
    print("", *failed[:_SHOWN], sep="\n")
    return bool(failed)


_PARTS = {"seeds": faults, "crashes": deaths, "kills": kills}

if __name__ == "__main__":
    sys.exit(main())
