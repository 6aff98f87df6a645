"""`jarai simulate`: its options, which `jarai run --simulate` shares, and the command."""

import argparse

from jarai_async._api import wire
from jarai_async._cli import output
from jarai_async._cli.batch_file import ID_FIELDS
from jarai_async._cli.options import Commands, Options, add_command, add_port, add_speed, share
from jarai_async._cli.signals import stop_event, wait_for
from jarai_async.simulator import Simulator


def add_simulate(commands: Commands) -> None:
    """Add the command."""
    details = "Prints the settings that clients need as one JSON line."
    simulate = add_command(
        commands, "simulate", "run a local simulator of the Partner API until Ctrl-C", details
    )
    add_port(simulate, default=8765)
    add_simulator_options(simulate)


def add_simulator_options(options: Options) -> None:
    """Add the options of a simulator."""
    tier_help = "tier whose limits the simulator applies (default: %(default)s)"
    options.add_argument(
        "--tier", choices=tuple(wire.REQUESTS_PER_MINUTE), default="enterprise", help=tier_help
    )
    options.add_argument(
        "--seed", type=int, default=0, help="random seed of the simulator (default: %(default)s)"
    )
    rate_help = "share of the productions that the simulator lets fail (default: %(default)s)"
    options.add_argument("--failure-rate", metavar="SHARE", type=share, default=0.04, help=rate_help)
    add_speed(options)


def new_simulator(options: argparse.Namespace, *, port: int = 0) -> Simulator:
    """Return the simulator that the options describe."""
    return Simulator(port=port, tier=options.tier, seed=options.seed, failure_rate=options.failure_rate)


def simulated_ids(simulator: Simulator) -> dict[str, str]:
    """Return the identifiers that a submission needs, by field."""
    return {name: getattr(simulator, name) for name in ID_FIELDS}


async def simulate(options: argparse.Namespace) -> int:
    """Serve until the command is interrupted."""
    stop = stop_event()
    async with new_simulator(options, port=options.port) as simulator:
        settings = {"JARAI_BASE_URL": simulator.base_url, "JARAI_API_KEY": simulator.api_key}
        ids = simulated_ids(simulator)
        await output.print_line(settings | ids)
        variables = settings | {f"JARAI_{name.upper()}": value for name, value in ids.items()}
        exports = " ".join(f"{name}={value}" for name, value in variables.items())
        output.print_message(f"in the shell of a client: export {exports}")
        output.print_message(f"simulator listening at {simulator.base_url} (press Ctrl-C to stop)")
        await wait_for(stop)
    return 0
