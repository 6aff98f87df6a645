"""The parser of the command line: every command with its options and help texts.

`commands.py` and `webhook_commands.py` have one function for each command that is defined here.
"""

import argparse
import math
import shlex
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from typing import Any, Final, TypeVar

from jarai_async._api import wire
from jarai_async._cli.batch_file import ID_FIELDS

T = TypeVar("T")

_Commands = Any  # what `add_subparsers` returns; argparse has no public name for it
_Options = Any  # a parser, or a group of options, which has no public name either
DOWNLOAD_FOLDER: Final = "deliverables"
_TIERS: Final = tuple(wire.REQUESTS_PER_MINUTE)
_EPILOG: Final = """\
environment variables:
  JARAI_API_KEY         API key
  JARAI_BASE_URL        base URL of the API, unless --base-url is given
  JARAI_WEBHOOK_SECRET  signing secret for `jarai webhooks listen`

exit codes:
  0  everything was done
  1  something failed or is unfinished; the last lines say what
  2  nothing was done, because the command, the batch, the configuration or the API key is wrong
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; `command` holds the name of the chosen command."""
    parser = argparse.ArgumentParser(
        prog="jarai",
        description="Submit, follow and manage productions with the JARAI Partner API.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version("jarai-async"))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_resume(commands)
    _add_plan(commands)
    _add_journal(commands)
    _add_report(commands)
    _add_resolve(commands)
    _add_retry(commands)
    _add_status(commands)
    _add_cancel(commands)
    _add_deliverables(commands)
    _add_remote(commands, "accounts", "list the accounts of the API key, with their avatars")
    _add_webhooks(commands)
    _add_simulate(commands)
    return parser


def resume_command(options: argparse.Namespace) -> str:
    """Return the command that continues a batch, with the options of `jarai run` or `jarai resume`."""
    journal: str = options.journal
    words = ["jarai", "resume", f"./{journal}" if journal.startswith("-") else journal]
    defaults = build_parser().parse_args(["resume", ""])
    for name, default in vars(defaults).items():
        value = getattr(options, name, default)
        if value != default and name not in ("command", "journal"):
            option = f"--{name.replace('_', '-')}"
            words.append(option if value is True else f"{option}={value}")
    return shlex.join(words)


def _add(commands: _Commands, name: str, summary: str, details: str = "") -> argparse.ArgumentParser:
    """Add a command that sends nothing to the API. `details` are sentences that only its own help shows."""
    description = f"{summary[0].upper()}{summary[1:]}. {details}"
    parser: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=description)
    return parser


def _add_remote(commands: _Commands, name: str, summary: str, details: str = "") -> argparse.ArgumentParser:
    """Add a command that sends requests to the API."""
    parser = _add(commands, name, summary, details)
    parser.add_argument("--base-url", metavar="URL", help="base URL of the API (default: JARAI_BASE_URL)")
    return parser


# --- Batches and journals ------------------------------------------------------------------------


def _add_run(commands: _Commands) -> None:
    details = "Run the same command again to resume: nothing is submitted twice."
    run = _add_remote(commands, "run", "submit a batch of productions and download their files", details)
    _add_batch(run)
    journal_help = (
        "journal file, needed to resume (default: BATCH.journal; none with --simulate or standard input)"
    )
    run.add_argument("--journal", metavar="FILE", help=journal_help)
    _add_follow_options(run)
    simulation = run.add_argument_group("simulation")
    simulate_help = (
        "run the batch against a built-in simulator in fast-forward, at no cost and without an API key"
    )
    simulation.add_argument("--simulate", action="store_true", help=simulate_help)
    _add_simulator_options(simulation)


def _add_resume(commands: _Commands) -> None:
    details = (
        "Does the same as running the batch again, but needs no batch file. A submit in doubt is not "
        "repeated: see `jarai resolve`."
    )
    resume = _add_remote(commands, "resume", "resume an interrupted batch from its journal", details)
    _add_journal_file(resume)
    _add_follow_options(resume)
    _add_speed(resume)


def _add_plan(commands: _Commands) -> None:
    details = "Sends nothing and needs no API key."
    plan = _add(commands, "plan", "estimate the finish time and the requests of a batch", details)
    _add_batch(plan)
    plan.add_argument("--tier", choices=_TIERS, required=True, help="tier of your subscription")
    concurrency_help = "maximum number of productions in flight (default: the recommended number)"
    plan.add_argument("--concurrency", type=_count, metavar="N", help=concurrency_help)


def _add_journal(commands: _Commands) -> None:
    details = "Prints one JSON line for each. For a request that is in doubt, see `jarai resolve`."
    _add_journal_file(_add(commands, "journal", "list the requests of a journal", details))


def _add_report(commands: _Commands) -> None:
    details = (
        "Writes one HTML page that loads nothing: totals, problems with the commands that solve them, and a "
        "timeline. Works while a program has the journal open. Needs the extra `report`."
    )
    report = _add(commands, "report", "write a report of a journal as a web page", details)
    _add_journal_file(report)
    report.add_argument("--output", metavar="FILE", help="where to write the page (default: JOURNAL.html)")
    csv_help = "also write a table, in which text cannot be taken for a formula"
    report.add_argument("--csv", metavar="FILE", help=csv_help)
    report.add_argument("--json", metavar="FILE", help="also write all facts, with the exact text")


def _add_resolve(commands: _Commands) -> None:
    details = (
        "A submit is in doubt if its response was lost: JARAI may or may not have created the production. "
        "Look for the production in JARAI Studio and pass the result. Its topic, account and time of "
        "creation are compared with the request, as far as JARAI reports them. Then `jarai run` or "
        "`jarai resume` can continue. Until the request has ended, another decision replaces this one."
    )
    resolve = _add_remote(commands, "resolve", "settle submits that are in doubt", details)
    _add_journal_file(resolve)
    _add_references(resolve, "+")
    decision = resolve.add_mutually_exclusive_group(required=True)
    id_help = "the production was created, with this ID; for several, once for each, in the same order"
    decision.add_argument("--production-id", metavar="ID", action="append", help=id_help)
    resubmit_help = "no production was created: submit them again, or end them if they are to be cancelled"
    decision.add_argument("--resubmit", action="store_true", help=resubmit_help)


def _add_retry(commands: _Commands) -> None:
    details = (
        "By default all that were rejected or failed; give references to choose, also of those that were "
        "cancelled. Sends nothing: `jarai run` or `jarai resume` submits them."
    )
    retry = _add(commands, "retry", "let requests of a journal be submitted again", details)
    _add_journal_file(retry)
    _add_references(retry, "*")


def _add_batch(parser: argparse.ArgumentParser) -> None:
    batch_help = (
        "JSON Lines, a JSON array, or CSV with a header (comma, semicolon, tab); - for standard input"
    )
    parser.add_argument("batch", metavar="BATCH", help=batch_help)
    defaults = parser.add_argument_group(
        "batch defaults",
        "Values for lines that leave the field empty or omit it. `jarai accounts` lists accounts and "
        "avatars; JARAI Studio shows languages and countries.",
    )
    for name in ID_FIELDS:
        defaults.add_argument(f"--{name.replace('_', '-')}", metavar="ID")
    defaults.add_argument("--project-type", metavar="SLUG")


def _add_journal_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("journal", metavar="JOURNAL", help="journal file of `jarai run`")


def _add_references(parser: argparse.ArgumentParser, count: str) -> None:
    parser.add_argument(
        "reference", metavar="REFERENCE", nargs=count, help="reference that `jarai journal` shows"
    )


def _add_follow_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--download-to",
        metavar="FOLDER",
        help=f"where to create a folder for each production (default: as before, or {DOWNLOAD_FOLDER})",
    )
    parser.add_argument(
        "--concurrency",
        metavar="N",
        type=int,
        default=100,
        help="maximum number of productions in flight (default: %(default)s)",
    )
    review_help = "also download files for review while a production is AwaitingApproval"
    parser.add_argument("--review", action="store_true", help=review_help)
    deadline_help = "stop waiting for a production this long after it was accepted; it continues at JARAI"
    parser.add_argument("--deadline", metavar="SECONDS", type=float, help=deadline_help)
    cancel_help = "cancel running productions when interrupted; without this, they continue at JARAI"
    parser.add_argument("--cancel-on-exit", action="store_true", help=cancel_help)


# --- Single productions --------------------------------------------------------------------------


def _add_status(commands: _Commands) -> None:
    status = _add_remote(commands, "status", "show the status of productions")
    status.add_argument("production_id", metavar="PRODUCTION_ID", nargs="+")


def _add_cancel(commands: _Commands) -> None:
    details = "Then prints the status of each one. A production that has already ended is not changed."
    cancel = _add_remote(commands, "cancel", "cancel productions", details)
    cancel.add_argument("production_id", metavar="PRODUCTION_ID", nargs="+")


def _add_deliverables(commands: _Commands) -> None:
    details = "The list shows signed URLs: anyone who has one can open the file for an hour."
    deliverables = _add_remote(
        commands, "deliverables", "list or download the files of a production", details
    )
    deliverables.add_argument("production_id", metavar="PRODUCTION_ID")
    deliverables.add_argument("--download-to", metavar="FOLDER", help="download the files into FOLDER/ID")


# --- Webhooks ------------------------------------------------------------------------------------


def _add_webhooks(commands: _Commands) -> None:
    webhooks = _add(commands, "webhooks", "manage webhooks and print their events")
    actions = webhooks.add_subparsers(dest="action", required=True, metavar="COMMAND")
    _add_remote(actions, "list", "list webhooks, without their signing secrets")
    _add_create(actions)
    delete = _add_remote(actions, "delete", "delete webhooks")
    delete.add_argument("webhook_id", metavar="WEBHOOK_ID", nargs="+")
    test = _add_remote(actions, "test", "ask JARAI to send a test event to a webhook's endpoint")
    test.add_argument("webhook_id", metavar="WEBHOOK_ID")
    _add_listen(actions)


def _add_create(actions: _Commands) -> None:
    details = "Prints the webhook with its signing secret. Store the secret: JARAI does not show it again."
    create = _add_remote(actions, "create", "create a webhook for your endpoint", details)
    accounts = create.add_mutually_exclusive_group()
    accounts.add_argument(
        "--account",
        metavar="ID",
        action="append",
        default=[],
        help="send only the events of this account (can be repeated)",
    )
    accounts.add_argument("--scope", metavar="ID", help="send only the events of this account scope")
    create.add_argument("endpoint_url", metavar="URL", help="https URL of your endpoint")
    create.add_argument(
        "event_types",
        nargs="*",
        metavar="EVENT",
        default=wire.SUBSCRIBED,
        help=f"event types to send (default: {', '.join(wire.SUBSCRIBED)})",
    )


def _add_listen(actions: _Commands) -> None:
    details = (
        "Prints only events that are signed with the secret in JARAI_WEBHOOK_SECRET. While you replace a "
        "secret, set both, separated by a comma. JARAI sends to https URLs only: put a tunnel or a proxy "
        "in front."
    )
    listen = _add(actions, "listen", "print webhook events as JSON lines until Ctrl-C", details)
    listen.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    _add_port(listen, default=8080)
    path_help = "path of the endpoint (default: %(default)s)"
    listen.add_argument("--path", type=_url_path, default="/", help=path_help)


def _add_port(parser: argparse.ArgumentParser, *, default: int) -> None:
    port_help = "port to listen on; 0 picks a free one (default: %(default)s)"
    parser.add_argument("--port", type=_port, default=default, help=port_help)


# --- The simulator -------------------------------------------------------------------------------


def _add_simulate(commands: _Commands) -> None:
    details = "Prints the settings that clients need as one JSON line."
    simulate = _add(commands, "simulate", "run a local simulator of the Partner API until Ctrl-C", details)
    _add_port(simulate, default=8765)
    _add_simulator_options(simulate)


def _add_simulator_options(options: _Options) -> None:
    tier_help = "tier whose limits the simulator applies (default: %(default)s)"
    options.add_argument("--tier", choices=_TIERS, default="enterprise", help=tier_help)
    options.add_argument(
        "--seed", type=int, default=0, help="random seed of the simulator (default: %(default)s)"
    )
    rate_help = "share of the productions that the simulator lets fail (default: %(default)s)"
    options.add_argument("--failure-rate", metavar="SHARE", type=_share, default=0.04, help=rate_help)
    _add_speed(options)


def _add_speed(options: _Options) -> None:
    speed_help = (
        "run the clock this many times faster; `jarai simulate` and its clients need the same factor "
        "(default: real time)"
    )
    options.add_argument("--speed", metavar="FACTOR", type=_speed, help=speed_help)
    epoch_help = (
        "Unix time from which --speed counts: with the same one, `jarai simulate` and its clients have the "
        "same time of day (default: when the command starts)"
    )
    options.add_argument("--epoch", metavar="SECONDS", type=_time, help=epoch_help)


# --- Values --------------------------------------------------------------------------------------


def _checked(convert: Callable[[str], T], is_valid: Callable[[T], bool], expected: str) -> Callable[[str], T]:
    """Return a function that converts an argument, and rejects a value that is not valid."""

    def parse(text: str) -> T:
        with suppress(ValueError):
            if is_valid(value := convert(text)):
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")

    return parse


_count = _checked(int, lambda count: count >= 1, "a whole number of 1 or more")
_share = _checked(float, lambda share: 0 <= share <= 1, "a number from 0 to 1")
_port = _checked(int, lambda port: 0 <= port <= 65_535, "a port from 0 to 65535")
_speed = _checked(float, lambda speed: 0 < speed < math.inf, "a number greater than 0")
_time = _checked(float, math.isfinite, "a Unix time in seconds")
_url_path = _checked(
    str,
    lambda path: path.startswith("/") and "?" not in path and "#" not in path,
    "a path such as /jarai, without ? or #",
)
