"""Options that several commands share, and the values that options accept."""

import argparse
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

Commands = Any  # what `add_subparsers` returns; argparse has no public name for it
Options = Any  # a parser, or a group of options, which has no public name either


def add_command(commands: Commands, name: str, summary: str, details: str = "") -> argparse.ArgumentParser:
    """Add a command that sends nothing to the API. `details` are sentences that only its own help shows."""
    description = f"{summary[0].upper()}{summary[1:]}. {details}"
    parser: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=description)
    messages = parser.add_mutually_exclusive_group()
    verbose_help = "log more on standard error; twice: everything"
    messages.add_argument("-v", "--verbose", action="count", default=0, help=verbose_help)
    messages.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    return parser


def add_port(parser: argparse.ArgumentParser, *, default: int) -> None:
    """Add `--port`."""
    port_help = "port to listen on; 0 picks a free one (default: %(default)s)"
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


# --- Values --------------------------------------------------------------------------------------


def checked(convert: Callable[[str], T], is_valid: Callable[[T], bool], expected: str) -> Callable[[str], T]:
    """Return a function that converts an argument, and rejects a value that is not valid."""

    def parse(text: str) -> T:
        with suppress(ValueError):
            if is_valid(value := convert(text)):
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")

    return parse


count = checked(int, lambda count: count >= 1, "a whole number of 1 or more")
share = checked(float, lambda share: 0 <= share <= 1, "a number from 0 to 1")
port = checked(int, lambda port: 0 <= port <= 65_535, "a port from 0 to 65535")
speed = checked(float, lambda speed: 0 < speed < math.inf, "a number greater than 0")
unix_time = checked(float, math.isfinite, "a Unix time in seconds")
url_path = checked(
    str,
    lambda path: path.startswith("/") and "?" not in path and "#" not in path,
    "a path such as /jarai, without ? or #",
)
