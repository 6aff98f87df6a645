"""Stress tests: nothing is lost, duplicated or misreported, whatever fails and wherever a program crashes.

Client, orchestrator, journal and simulator run as they are, talk over loopback HTTP, and write real files.
Then the events that the program received are compared with what the simulator knows to be true.

A failure is printed with the command that replays it. (No command repeats the time of a SIGKILL.) The exit
code is 1 if anything failed. `all` takes about an hour on two cores, and two minutes with
`--seeds 300 --scenarios 2 --every 7 --doubles 50 --runs 20`.
"""

import argparse
import multiprocessing
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.stress import (
    applications,
    campaign,
    downloads,
    event_logs,
    mutants,
    mutation,
    servers,
    worker_matrix,
    workers,
)
from tests.stress.campaign import Campaign
from tests.stress.crashes import watch_databases
from tests.stress.foreign import batch
from tests.stress.invariants import violations
from tests.stress.worlds import run_world, scenario_of, scratch_folder
from tests.support.figures import Figure, show

_SHOWN = 20  # failures

_CAMPAIGNS: dict[str, Campaign] = {
    "worlds": campaign.worlds,
    "crashes": campaign.crashes,
    "sigkill": campaign.kills,
}
_NUMBERS = {
    "worlds": {"seeds": 20_000, "first": 0},
    "crashes": {"scenarios": 50, "every": 1, "doubles": 2_000},
    "sigkill": {"runs": 1_000},
}
_HELP = {
    "worlds": "programs in worlds with faults, one world for each seed",
    "crashes": "crashes at every step of small scenarios, then two crashes at random steps",
    "sigkill": "SIGKILL of real processes, this many without idempotency keys and this many with them",
    "all": "the three campaigns above",
}


def main(arguments: Sequence[str]) -> int:
    """Run the command line."""
    own_options = {
        "applications": applications.main,
        "downloads": downloads.main,
        "servers": servers.main,
        "foreign": batch.main,
        "matrix": worker_matrix.main,
        "workers": workers.main,
    }
    if arguments and arguments[0] in own_options:
        return own_options[arguments[0]](list(arguments[1:]))
    options = _parser().parse_args(arguments)
    return int(options.run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.stress",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, text in _HELP.items():
        command = commands.add_parser(name, help=text)
        names = [name] if name in _CAMPAIGNS else list(_CAMPAIGNS)
        for option, default in [pair for part in names for pair in _NUMBERS[part].items()]:
            command.add_argument(f"--{option}", type=int, default=default, help="(%(default)s)")
        if name != "sigkill":
            _add_processes(command)
            command.add_argument("--until-failure", action="store_true", help="stop at the first failure")
        command.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file as well")
        command.set_defaults(run=partial(_run_campaigns, names))
    command = commands.add_parser("mutants", help="the library with deliberate bugs, which must be found")
    command.set_defaults(run=_run_mutants)
    command = commands.add_parser("mutation", help="single mistakes anywhere, which a test must notice")
    _add_processes(command)
    mutation.add_arguments(command)
    command.set_defaults(run=mutation.main)
    commands.add_parser("applications", help="SIGKILL of web applications; has options of its own")
    commands.add_parser("downloads", help="one file under 24 faults of its storage; has options of its own")
    commands.add_parser("servers", help="downloads from servers of other projects; has options of its own")
    commands.add_parser("foreign", help="a server from the contract alone; has options of its own")
    commands.add_parser("matrix", help="workers of a queue that fail at each stage of a production")
    commands.add_parser("workers", help="processes of a queue that are killed; has options of its own")
    command = commands.add_parser("logs", help="check that the recorded event logs are reproduced")
    _add_processes(command)
    command.add_argument("--record", action="store_true", help="write event_logs.txt again")
    command.add_argument(
        "--show",
        type=event_logs.world_of,
        metavar="WORLD",
        help="print one log, such as that of crash-3-77-25",
    )
    command.set_defaults(run=_run_logs)
    command = commands.add_parser("replay", help="run one world again and print what happened")
    command.add_argument("seed", metavar="SEED")
    command.add_argument("steps", metavar="STEP", type=int, nargs="*", help="at which the program crashes")
    command.set_defaults(run=_replay)
    return parser


def _add_processes(command: argparse.ArgumentParser) -> None:
    command.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="(%(default)s)")


def _run_campaigns(names: Sequence[str], options: argparse.Namespace) -> int:
    figures: list[Figure] = []
    failed: list[str] = []
    for name in names:
        more_figures, more_failed = _CAMPAIGNS[name](options)
        figures += more_figures
        failed += more_failed
    show("Stress tests: nothing lost, duplicated or misreported", figures, options.json)
    print("", *failed[:_SHOWN], sep="\n")
    return bool(failed)


def _run_mutants(_: argparse.Namespace) -> int:
    if outdated := mutants.outdated():
        print("these mutants no longer fit the source, adapt them:", *outdated, sep="\n")
        return 1
    survivors = mutants.survivors()
    print(f"{len(mutants.MUTANTS) - len(survivors)} of {len(mutants.MUTANTS)} mutants were found")
    return bool(survivors)


def _run_logs(options: argparse.Namespace) -> int:
    if options.show:
        watch_databases()
        print(event_logs.event_log(options.show), end="")
        return 0
    worlds = event_logs.worlds_to_check()
    if options.record and len(worlds) < len(event_logs.recorded()):
        print("record the event logs on Python 3.11: some of them differ from version to version")
        return 1
    context = multiprocessing.get_context("spawn")
    with context.Pool(options.processes, initializer=watch_databases) as pool:
        digests = dict(pool.imap(event_logs.named_digest, worlds))
    if options.record:
        event_logs.record(digests)
        return 0
    recorded = event_logs.recorded()
    changed = [name for name, digest in digests.items() if digest != recorded.get(name)]
    print(f"{len(digests) - len(changed)} of {len(digests)} reproduced")
    for name in changed[:_SHOWN]:
        print(event_logs.how_to_compare(name))
    return bool(changed)


def _replay(options: argparse.Namespace) -> int:
    watch_databases()
    with scratch_folder() as folder:
        result = run_world(scenario_of(options.seed), folder, *options.steps)
        failed = violations(result)
    print(result.scenario)
    for number, record in enumerate(result.runs):
        crashed = ", crashed" if record.crashed else ""
        print(f"\nrun {number + 1}, {result.steps[number]} steps{crashed}: {record.plan}")
        for event in record.events:
            print(f"  {event.sequence:>2} {event.observed_at:%H:%M:%S.%f} {event}")
    print("", *result.log, "", *failed, sep="\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
