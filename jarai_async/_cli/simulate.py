"""`jarai simulate`: its options, some of which `jarai run --simulate` shares, and the command."""

import argparse
import json
import secrets
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final, TextIO
from urllib.parse import urlsplit

from jarai_async import _clock
from jarai_async._api import wire
from jarai_async._cli import output
from jarai_async._cli.batch_file import ID_FIELDS, variable
from jarai_async._cli.options import Commands, Options, add_command, add_port, add_speed, share
from jarai_async._cli.signals import stop_event, wait_for
from jarai_async._cli.simulator_state import StateFile
from jarai_async._errors import ConfigurationError
from jarai_async.simulator import (
    ControlServer,
    SimulatedProduction,
    Simulator,
    command_reference,
    run_command,
)

DEFAULT_TIER: Final = "enterprise"
_PORT: Final = 8765
_DETAILS: Final = (
    "Prints the settings that clients need as one JSON line. Identifiers are new at each start, unless "
    "--seed is given. It also listens at JARAI_CONTROL_URL, on this machine only, for commands such as "
    "`fault reset_after:submit`, `when 3 fails step=8`, `approve ID` and `left productions=3`: "
    'curl --data "when 3 fails step=8" "$JARAI_CONTROL_URL"'
)


def add_simulate(commands: Commands) -> None:
    """Add the command."""
    simulate = add_command(
        commands, "simulate", "run a local simulator of the Partner API until Ctrl-C", _DETAILS
    )
    simulate.epilog = f"{simulate.epilog}\n{command_reference()}"
    add_port(simulate, default=None, described=f"that of the state file, or {_PORT}")
    add_simulator_options(simulate, seed=None)
    fault_help = (
        "fault for the next requests, such as reset_after:submit:2; ROUTE is submit by default; TIMES is 1 "
        "by default, another number, or always (can be repeated)"
    )
    simulate.add_argument(
        "--fault", metavar="KIND[:ROUTE[:TIMES]]", action="append", default=[], help=fault_help
    )
    when_help = (
        "what happens to some productions, such as '3 fails step=8', 'topic=Bees is_rejected' or "
        "'topic=\"How tides work\" awaits_approval 7200 refused=true' (can be repeated)"
    )
    simulate.add_argument("--when", metavar="RULE", action="append", default=[], help=when_help)
    state_help = (
        "keep productions, webhooks (with their secrets), seed, speed, epoch and ports in "
        "FILE, which only you can read, and continue with them at the next start"
    )
    simulate.add_argument("--state", metavar="FILE", help=state_help)
    background_help = (
        'serve in the background, and print settings for a shell: eval "$(jarai simulate --background)"; '
        'to stop it: kill "$JARAI_SIMULATOR_PID"'
    )
    simulate.add_argument("--background", action="store_true", help=background_help)


def add_simulator_options(options: Options, *, seed: int | None) -> None:
    """Add the options of a simulator; without a `seed`, each has a new one by default."""
    tier_help = f"tier whose limits apply (default: {DEFAULT_TIER})"
    options.add_argument(
        "--tier", choices=tuple(wire.REQUESTS_PER_MINUTE), default=DEFAULT_TIER, help=tier_help
    )
    seed_help = f"random seed of the simulator (default: {'a new one' if seed is None else seed})"
    options.add_argument("--seed", type=int, default=seed, help=seed_help)
    rate_help = "share of the productions that the simulator lets fail (default: %(default)s)"
    options.add_argument("--failure-rate", metavar="SHARE", type=share, default=0.04, help=rate_help)
    add_speed(options)


def new_simulator(options: argparse.Namespace, **more: Any) -> Simulator:
    """Return the simulator that the options describe."""
    tier: Any = options.tier or DEFAULT_TIER
    return Simulator(tier=tier, seed=options.seed, failure_rate=options.failure_rate, **more)


def simulated_ids(simulator: Simulator) -> dict[str, str]:
    """Return the identifiers that a submission needs, by field."""
    return {name: getattr(simulator, name) for name in ID_FIELDS}


def simulate(options: argparse.Namespace) -> Coroutine[Any, Any, int]:
    """Return the command. A state file has the epoch of the event loop in which it will run.

    Raises OSError and ConfigurationError.
    """
    if options.background:
        return _start_in_background(options)
    given = {"seed": options.seed, "speed": options.speed, "epoch": options.epoch}
    if options.speed is not None and options.epoch is None:
        options.epoch = time.time()
    seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    state = None
    if options.state is not None:
        state = StateFile(options.state, seed=seed, epoch=options.epoch, speed=options.speed)
        for name, value in given.items():
            kept = getattr(state, name)
            if value not in (None, kept):
                state.close()
                raise ConfigurationError(f"{options.state} belongs to {name} {kept}: leave out --{name}")
        seed, options.epoch, options.speed = state.seed, state.epoch, state.speed
        options.port = options.port or state.port or options.port
    if options.port is None:
        options.port = _PORT
    options.seed = seed
    return _serve(options, state)


async def _serve(options: argparse.Namespace, state: StateFile | None) -> int:
    """Serve until the command is interrupted."""
    stop = stop_event()
    on_change = partial(_on_change, state, set(state.productions if state is not None else ()))
    async with (
        new_simulator(
            options,
            port=options.port,
            on_change=on_change,
            on_webhook_change=None if state is None else state.save_webhook,
        ) as simulator,
        ControlServer(simulator, port=0 if state is None else state.control_port) as control,
    ):
        _prepare(simulator, options, state)
        if state is not None:
            state.save_ports(urlsplit(simulator.base_url).port or 0, urlsplit(control.url).port or 0)
        settings = {
            "JARAI_BASE_URL": simulator.base_url,
            "JARAI_API_KEY": simulator.api_key,
            "JARAI_CONTROL_URL": control.url,
        }
        ids = simulated_ids(simulator)
        await output.print_line(settings | ids)
        exports = " ".join(_variables(settings | ids))
        output.print_command("in the shell of a client", f"export {exports}")
        output.print_message(
            f"simulator with seed {options.seed} listening at {simulator.base_url} (press Ctrl-C to stop)"
        )
        await wait_for(stop)
    if state is not None:
        state.close()
    return 0


def _on_change(state: StateFile | None, known: set[str], production: SimulatedProduction) -> None:
    id_, number = production.production_id, production.ordinal
    if id_ in known:
        output.print_message(f"production {number} is {production.status_at(_clock.monotonic())}: {id_}")
    else:
        output.print_message(f"production {number} was created: {id_}, {production.body['topic']}")
    known.add(id_)
    if state is not None:
        state.save(production)


def _prepare(simulator: Simulator, options: argparse.Namespace, state: StateFile | None) -> None:
    if state is not None:
        simulator.restore(state.productions.values(), webhooks=state.webhooks.values())
    try:
        for fault in options.fault:
            run_command(simulator, f"fault {fault}")
        for rule in options.when:
            run_command(simulator, f"when {rule}")
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _variables(settings: dict[str, str]) -> list[str]:
    """Return settings as assignments of a shell."""
    names = (variable(name) if name in ID_FIELDS else name for name in settings)
    return [f"{name}={shlex.quote(value)}" for name, value in zip(names, settings.values(), strict=True)]


# --- In the background ---------------------------------------------------------------------------


def _start_in_background(options: argparse.Namespace) -> Coroutine[Any, Any, int]:
    """Start the command in another process; then only its settings or messages are to be printed."""
    with tempfile.NamedTemporaryFile("w+", prefix="jarai-simulate-", suffix=".log", delete=False) as log:
        process = subprocess.Popen(  # noqa: S603  # this command
            [sys.executable, "-m", "jarai_async", "simulate", *_arguments(options)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        line = process.stdout.readline() if process.stdout is not None else b""
        log.seek(0)
        messages = log.read()
    if line:
        more = {"JARAI_SIMULATOR_PID": str(process.pid), "JARAI_SIMULATOR_LOG": log.name}
        return _print(
            sys.stdout, "".join(f"export {each}\n" for each in _variables(json.loads(line) | more)), 0
        )
    Path(log.name).unlink()
    return _print(sys.stderr, messages, process.wait())


async def _print(stream: TextIO, text: str, code: int) -> int:
    stream.write(text)
    return code


def _arguments(options: argparse.Namespace) -> list[str]:
    names = ("port", "tier", "seed", "failure_rate", "speed", "epoch", "state")
    given = [(name, getattr(options, name)) for name in names]
    given += [(name, value) for name in ("fault", "when") for value in getattr(options, name)]
    return [f"--{name.replace('_', '-')}={value}" for name, value in given if value is not None]
