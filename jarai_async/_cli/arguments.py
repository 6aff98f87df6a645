"""The parser of the command line: every command with its options and help texts.

`commands.py`, `webhook_commands.py` and `simulate.py` have one function for each command.
"""

import argparse
import shlex
from importlib.metadata import version
from typing import Final

from jarai_async._api import wire
from jarai_async._cli.batch_file import ID_FIELDS
from jarai_async._cli.options import Commands, add_command, add_port, add_speed, count, url_path
from jarai_async._cli.report_command import add_report
from jarai_async._cli.results import add_json
from jarai_async._cli.simulate import add_simulate, add_simulator_options

DOWNLOAD_FOLDER: Final = "deliverables"
_TIERS: Final = tuple(wire.REQUESTS_PER_MINUTE)
_EPILOG: Final = """\
environment variables:
  JARAI_API_KEY         API key
  JARAI_BASE_URL        base URL of the API, unless --base-url is given
  JARAI_WEBHOOK_SECRET  signing secret for `jarai webhooks listen`

exit codes:
  0    everything was done
  1    something failed or is unfinished; the last lines say what
  2    nothing was done, because the command, the batch, the configuration or the API key is wrong
  130  Ctrl-C stopped the command; 143: SIGTERM, 129: SIGHUP (128 and the number of the signal)
`jarai simulate` and `jarai webhooks listen`, which run until they are stopped, then end with 0.
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
    add_report(commands)
    _add_resolve(commands)
    _add_retry(commands)
    _add_status(commands)
    _add_cancel(commands)
    _add_deliverables(commands)
    add_json(_add_remote(commands, "accounts", "list the accounts of the API key, with their avatars"))
    _add_webhooks(commands)
    add_simulate(commands)
    return parser


def resume_command(options: argparse.Namespace) -> str:
    """Return the command that continues a batch, with the options of `jarai run` or `jarai resume`."""
    journal: str = options.journal
    words = ["jarai", "resume", f"./{journal}" if journal.startswith("-") else journal]
    defaults = build_parser().parse_args(["resume", ""])
    for name, default in vars(defaults).items():
        value = getattr(options, name, default)
        if value != default and name not in ("command", "journal", "verbose"):
            option = f"--{name.replace('_', '-')}"
            words.append(option if value is True else f"{option}={value}")
    return shlex.join(words)


def _add_remote(commands: Commands, name: str, summary: str, details: str = "") -> argparse.ArgumentParser:
    """Add a command that sends requests to the API."""
    parser = add_command(commands, name, summary, details)
    parser.add_argument("--base-url", metavar="URL", help="base URL of the API (default: JARAI_BASE_URL)")
    return parser


# --- Batches and journals ------------------------------------------------------------------------


def _add_run(commands: Commands) -> None:
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
    add_simulator_options(simulation)


def _add_resume(commands: Commands) -> None:
    details = (
        "Does the same as running the batch again, but needs no batch file. A submit in doubt is not "
        "repeated: see `jarai resolve`."
    )
    resume = _add_remote(commands, "resume", "resume an interrupted batch from its journal", details)
    _add_journal_file(resume)
    _add_follow_options(resume)
    add_speed(resume)


def _add_plan(commands: Commands) -> None:
    details = "Sends nothing and needs no API key."
    plan = add_command(commands, "plan", "estimate the finish time and the requests of a batch", details)
    _add_batch(plan)
    plan.add_argument("--tier", choices=_TIERS, required=True, help="tier of your subscription")
    concurrency_help = "maximum number of productions in flight (default: the recommended number)"
    plan.add_argument("--concurrency", type=count, metavar="N", help=concurrency_help)


def _add_journal(commands: Commands) -> None:
    details = "For a request that is in doubt, see `jarai resolve`."
    journal = add_command(commands, "journal", "list the requests of a journal", details)
    _add_journal_file(journal)
    add_json(journal)


def _add_resolve(commands: Commands) -> None:
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


def _add_retry(commands: Commands) -> None:
    details = (
        "By default all that were rejected or failed; give references to choose, also of those that were "
        "cancelled. Sends nothing: `jarai run` or `jarai resume` submits them."
    )
    retry = add_command(commands, "retry", "let requests of a journal be submitted again", details)
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


def _add_status(commands: Commands) -> None:
    status = _add_remote(commands, "status", "show the status of productions")
    status.add_argument("production_id", metavar="PRODUCTION_ID", nargs="+")
    add_json(status)


def _add_cancel(commands: Commands) -> None:
    details = "Then prints the status of each one. A production that has already ended is not changed."
    cancel = _add_remote(commands, "cancel", "cancel productions", details)
    cancel.add_argument("production_id", metavar="PRODUCTION_ID", nargs="+")
    add_json(cancel)


def _add_deliverables(commands: Commands) -> None:
    details = (
        "JSON lines have signed URLs, unless the files are downloaded: anyone who has one can open the file "
        "for an hour."
    )
    deliverables = _add_remote(
        commands, "deliverables", "list or download the files of a production", details
    )
    deliverables.add_argument("production_id", metavar="PRODUCTION_ID")
    deliverables.add_argument("--download-to", metavar="FOLDER", help="download the files into FOLDER/ID")
    add_json(deliverables)


# --- Webhooks ------------------------------------------------------------------------------------


def _add_webhooks(commands: Commands) -> None:
    summary = "manage webhooks and print their events"
    webhooks = commands.add_parser("webhooks", help=summary, description=f"{summary.capitalize()}.")
    actions = webhooks.add_subparsers(dest="action", required=True, metavar="COMMAND")
    add_json(_add_remote(actions, "list", "list webhooks, without their signing secrets"))
    _add_create(actions)
    delete = _add_remote(actions, "delete", "delete webhooks")
    delete.add_argument("webhook_id", metavar="WEBHOOK_ID", nargs="+")
    test = _add_remote(actions, "test", "ask JARAI to send a test event to a webhook's endpoint")
    test.add_argument("webhook_id", metavar="WEBHOOK_ID")
    _add_listen(actions)


def _add_create(actions: Commands) -> None:
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


def _add_listen(actions: Commands) -> None:
    details = (
        "Prints only events that are signed with the secret in JARAI_WEBHOOK_SECRET. While you replace a "
        "secret, set both, separated by a comma. JARAI sends to https URLs only: put a tunnel or a proxy "
        "in front."
    )
    listen = add_command(actions, "listen", "print webhook events as JSON lines until Ctrl-C", details)
    listen.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add_port(listen, default=8080)
    path_help = "path of the endpoint (default: %(default)s)"
    listen.add_argument("--path", type=url_path, default="/", help=path_help)
