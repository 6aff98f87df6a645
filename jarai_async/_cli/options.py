"""Options that several commands share, and the values that options accept."""

import argparse
import math
import re
from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, Final, TypeVar

from jarai_async._cli.durations import parse_duration
from jarai_async._cli.examples import EXAMPLES
from jarai_async._report.totals import STATES

T = TypeVar("T")

Commands = Any  # what `add_subparsers` returns; argparse has no public name for it
Options = Any  # a parser, or a group of options, which has no public name either
_FILE: Final = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}  # as `shtab.FILE`


def add_command(commands: Commands, name: str, summary: str, details: str = "") -> argparse.ArgumentParser:
    """Add a command that sends nothing to the API. `details` are sentences that only its own help shows."""
    description = f"{summary[0].upper()}{summary[1:]}. {details}"
    epilog = EXAMPLES.get(name)
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=description, epilog=epilog
    )
    messages = parser.add_mutually_exclusive_group()
    verbose_help = "log more on standard error; twice: everything"
    messages.add_argument("-v", "--verbose", action="count", default=0, help=verbose_help)
    messages.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    return parser


def add_remote(commands: Commands, name: str, summary: str, details: str = "") -> argparse.ArgumentParser:
    """Add a command that sends requests to the API."""
    parser = add_command(commands, name, summary, details)
    parser.add_argument("--base-url", metavar="URL", help="base URL of the API (default: JARAI_BASE_URL)")
    timeout_help = "how long to wait for a response, such as 45s (default: 30 seconds)"
    parser.add_argument("--timeout", metavar="DURATION", type=duration, default=30.0, help=timeout_help)
    limit_help = "requests a minute that this command may send (default: the limit of your subscription)"
    parser.add_argument("--per-minute", metavar="N", type=count, help=limit_help)
    return parser


def add_port(parser: argparse.ArgumentParser, *, default: int | None, described: str = "%(default)s") -> None:
    """Add `--port`; its help describes the default."""
    port_help = f"port to listen on; 0 picks a free one (default: {described})"
    parser.add_argument("--port", type=port, default=default, help=port_help)


def add_speed(options: Options) -> None:
    """Add `--speed` and `--epoch`."""
    speed_help = (
        "run the clock this many times faster; `jarai simulate` and its clients need the same factor "
        "(default: real time)"
    )
    options.add_argument("--speed", metavar="FACTOR", type=speed, help=speed_help)
    epoch_help = (
        "Unix time from which --speed counts: with the same one, `jarai simulate` and its clients have the "
        "same time of day (default: when the command starts)"
    )
    options.add_argument("--epoch", metavar="SECONDS", type=unix_time, help=epoch_help)


def completed_as_file(action: argparse.Action) -> None:
    """Let shells complete the value of an option or argument with the name of a file."""
    action.complete = _FILE  # type: ignore[attr-defined]  # shtab reads it


# --- Values --------------------------------------------------------------------------------------


def checked(convert: Callable[[str], T], is_valid: Callable[[T], bool], expected: str) -> Callable[[str], T]:
    """Return a function that converts an argument, and rejects a value that is not valid."""

    def parse(text: str) -> T:
        with suppress(ValueError):
            if is_valid(value := convert(text)):
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")

    return parse


def state(text: str) -> str:
    """Return the state of `jarai journal` that is meant, whatever its capitals; a status may be a new one."""
    name = re.sub(r"[\s-]+", "_", text.strip()).casefold()
    known = {one.casefold(): str(one) for one in STATES}
    if name not in known and (near := get_close_matches(name, known, n=1)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a state; did you mean {known[near[0]]}?")
    return known.get(name, text)


count = checked(int, lambda count: count >= 1, "a whole number of 1 or more")
share = checked(float, lambda share: 0 <= share <= 1, "a number from 0 to 1")
port = checked(int, lambda port: 0 <= port <= 65_535, "a port from 0 to 65535")
speed = checked(float, lambda speed: 0 < speed < math.inf, "a number greater than 0")
duration = checked(parse_duration, lambda _: True, "a duration such as 2h30m, or seconds greater than 0")
unix_time = checked(float, math.isfinite, "a Unix time in seconds")
url_path = checked(
    str,
    lambda path: path.startswith("/") and "?" not in path and "#" not in path,
    "a path such as /jarai, without ? or #",
)
