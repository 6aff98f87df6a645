"""The parser of the command line: every command with its options and help texts.

`commands.py`, `*_commands.py` and `simulate.py` have one function for each command.
"""

import argparse
import shlex
from importlib.metadata import version
from typing import Final

from jarai_async._api import wire
from jarai_async._cli.batch_file import ID_FIELDS, variable
from jarai_async._cli.options import (
    Commands,
    add_command,
    add_remote,
    add_speed,
    completed_as_file,
    count,
    duration,
    port,
    state,
)
from jarai_async._cli.parser import Parser
from jarai_async._cli.report_command import add_report
from jarai_async._cli.results import add_json
from jarai_async._cli.simulate import add_simulate, add_simulator_options
from jarai_async._cli.webhook_commands import add_webhooks
from jarai_async._cli.worker_command import add_worker
from jarai_async._report.rows import COLLECTING
from jarai_async._report.totals import STATES

DOWNLOAD_FOLDER: Final = "deliverables"
SIMULATED_FOLDER: Final = "simulated-deliverables"
_TIERS: Final = tuple(wire.REQUESTS_PER_MINUTE)
_EPILOG: Final = """\
environment variables:
  JARAI_API_KEY         API key
  JARAI_BASE_URL        base URL of the API, unless --base-url is given
  JARAI_ACCOUNT_ID, JARAI_LANGUAGE_ID, JARAI_COUNTRY_ID, JARAI_AVATAR_ID
                        identifiers that neither a batch nor an option gives
  JARAI_DATABASE        database of `jarai worker`
  JARAI_WEBHOOK_SECRET  signing secret, for `jarai webhooks listen` and --webhook-port

example:
  jarai run topics.csv --simulate

exit codes:
  0    everything was done
  1    something failed or is unfinished; the last lines say what
  2    nothing was done, because the command, the batch, the configuration or the API key is wrong
  130  Ctrl-C stopped the command; 143: SIGTERM, 129: SIGHUP (128 and the number of the signal);
       141: nothing reads the list any more, as after `| head`
`jarai worker`, `jarai simulate` and `jarai webhooks listen` run until they are stopped, then end with 0.
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; `command` holds the name of the chosen command."""
    description = "Submit, follow and manage productions with the JARAI Partner API."
    parser = Parser(prog="jarai", description=description, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=version("jarai-async"))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_resume(commands)
    add_worker(commands)
    _add_plan(commands)
    _add_journal(commands)
    add_report(commands)
    _add_resolve(commands)
    _add_retry(commands)
    _add_forget(commands)
    _add_status(commands)
    _add_cancel(commands)
    _add_deliverables(commands)
    add_json(add_remote(commands, "accounts", "list the accounts of the API key, with their avatars"))
    add_webhooks(commands)
    add_simulate(commands)
    details = "Needs shtab, which the extra `cli` installs."
    completion = add_command(
        commands, "completion", "print a script that completes commands in a shell", details
    )
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
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


def retry_command(journal: str) -> str:
    """Return the command that lets all that failed or were rejected be submitted again."""
    return shlex.join(["jarai", "retry", f"./{journal}" if journal.startswith("-") else journal])


def simulator_options(options: argparse.Namespace) -> list[str]:
    """Return the options of `jarai run` that only a simulator uses, as far as they are given."""
    parser = build_parser()
    shared = vars(parser.parse_args(["resume", ""]))
    simulated = [name for name in vars(parser.parse_args(["simulate"])) if name not in shared]
    defaults = vars(parser.parse_args(["run", ""]))
    if options.dry_run:
        simulated.remove("tier")
    given = [name for name in simulated if name in defaults and getattr(options, name) != defaults[name]]
    return [f"--{name.replace('_', '-')}" for name in given]


# --- Batches and journals ------------------------------------------------------------------------


def _add_run(commands: Commands) -> None:
    details = "Run the same command again to resume: nothing is submitted twice."
    run = add_remote(commands, "run", "submit a batch of productions and download their files", details)
    _add_batch(run)
    journal_help = (
        "journal file, needed to resume (default: BATCH.journal; none with --simulate or standard input), or "
        "URL of a queue, whose workers run the batch"
    )
    completed_as_file(run.add_argument("--journal", metavar="FILE", help=journal_help))
    _add_follow_options(run)
    dry_run_help = (
        "only check the batch and its journal, and forecast it, if --tier or an earlier run gives the tier: "
        "nothing is sent. Without an API key it cannot check whether the journal belongs to its server"
    )
    run.add_argument("--dry-run", action="store_true", help=dry_run_help)
    simulation = run.add_argument_group("simulation")
    simulate_help = (
        "run the batch against a built-in simulator in fast-forward, at no cost and without an API key; its "
        f"files go to {SIMULATED_FOLDER}"
    )
    simulation.add_argument("--simulate", action="store_true", help=simulate_help)
    add_simulator_options(simulation, seed=0)
    run.set_defaults(tier=None)


def _add_resume(commands: Commands) -> None:
    details = (
        "Does the same as running the batch again, but needs no batch file. A submit in doubt is not "
        "repeated: see `jarai resolve`. With the URL of a queue, its workers look again at what has no final "
        "outcome."
    )
    resume = add_remote(commands, "resume", "resume an interrupted batch from its journal", details)
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
    details = "JSON lines have the IDs, too. For an uncertain request, see `jarai resolve`."
    journal = add_command(commands, "journal", "list the requests of a journal", details)
    _add_journal_file(journal)
    state_help = f"only those in this state: {', '.join(one for one in STATES if one != COLLECTING)}"
    journal.add_argument("--state", metavar="STATE", type=state, help=state_help)
    add_json(journal)


def _add_resolve(commands: Commands) -> None:
    details = (
        "A submit is in doubt if its response was lost: JARAI may or may not have created the production. "
        "Look for the production in JARAI Studio and pass the result. Its topic, account and time of "
        "creation are compared with the request, as far as JARAI reports them. Then `jarai run` or "
        "`jarai resume` can continue. Until the request has ended, another decision replaces this one."
    )
    resolve = add_remote(commands, "resolve", "settle submits that are in doubt", details)
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


def _add_forget(commands: Commands) -> None:
    details = (
        "Only those that have ended with a final outcome, with their events: `jarai journal` and `jarai "
        "report` do not show them any more, and a request with such a reference is a new one, which is paid "
        "for again. Files that were downloaded stay. Sends nothing to JARAI."
    )
    forget = add_command(commands, "forget", "delete requests that have ended from a journal", details)
    _add_journal_file(forget)
    _add_references(forget, "*")
    older_help = "all that ended longer ago than this, such as 30d"
    forget.add_argument("--older-than", metavar="DURATION", type=duration, help=older_help)
    forget.add_argument("--dry-run", action="store_true", help="only list what would be deleted")


def _add_batch(parser: argparse.ArgumentParser) -> None:
    batch_help = (
        "JSON Lines, a JSON array, or CSV with a header (comma, semicolon, tab); - for standard input"
    )
    completed_as_file(parser.add_argument("batch", metavar="BATCH", help=batch_help))
    ignore_help = "ignore columns of the batch, or keys, that are not listed below"
    parser.add_argument("--ignore-unknown", action="store_true", help=ignore_help)
    defaults = parser.add_argument_group(
        "batch defaults",
        "Values for lines that leave the field empty or omit it. `jarai accounts` lists\n"
        "accounts and avatars; JARAI Studio shows languages and countries.",
    )
    for name in ID_FIELDS:
        defaults.add_argument(
            f"--{name.replace('_', '-')}", metavar="ID", help=f"(default: {variable(name)})"
        )
    defaults.add_argument("--project-type", metavar="SLUG", help="such as social-video-30s")


def _add_journal_file(parser: argparse.ArgumentParser) -> None:
    journal_help = "journal file of `jarai run`, or URL of a queue"
    completed_as_file(parser.add_argument("journal", metavar="JOURNAL", help=journal_help))


def _add_references(parser: argparse.ArgumentParser, count: str) -> None:
    parser.add_argument(
        "reference", metavar="REFERENCE", nargs=count, help="reference that `jarai journal` shows"
    )


def _add_follow_options(parser: argparse.ArgumentParser) -> None:
    folder_help = (
        "where to create a folder for each production, with its files and a manifest.json that lists them "
        f"(default: as before, or {DOWNLOAD_FOLDER})"
    )
    completed_as_file(parser.add_argument("--download-to", metavar="FOLDER", help=folder_help))
    parser.add_argument(
        "--concurrency",
        metavar="N",
        type=int,
        default=100,
        help="maximum number of productions in flight (default: %(default)s)",
    )
    review_help = "also download files for review while a production is AwaitingApproval"
    parser.add_argument("--review", action="store_true", help=review_help)
    deadline_help = (
        "stop waiting for a production this long after it was accepted, such as 2h30m; it continues at JARAI"
    )
    parser.add_argument("--deadline", metavar="DURATION", type=duration, help=deadline_help)
    events_help = (
        "append all events to a file, too, as JSON lines; one that a later run repeats has the same cursor"
    )
    completed_as_file(parser.add_argument("--events", metavar="FILE", help=events_help))
    webhook_help = (
        "receive webhooks at http://127.0.0.1:PORT/, signed with the secret in JARAI_WEBHOOK_SECRET: then "
        "most changes are seen at once. JARAI sends to https URLs only: put a tunnel or a proxy in front"
    )
    parser.add_argument("--webhook-port", metavar="PORT", type=port, help=webhook_help)
    cancel_help = "cancel running productions when interrupted; without this, they continue at JARAI"
    parser.add_argument("--cancel-on-exit", action="store_true", help=cancel_help)


# --- Single productions --------------------------------------------------------------------------


def _add_status(commands: Commands) -> None:
    status = add_remote(commands, "status", "show the status of productions")
    status.add_argument("production_id", metavar="PRODUCTION_ID", nargs="+")
    add_json(status)


def _add_cancel(commands: Commands) -> None:
    details = "Then prints the status of each one. A production that has already ended is not changed."
    cancel = add_remote(commands, "cancel", "cancel productions", details)
    cancel.add_argument("production_id", metavar="PRODUCTION_ID", nargs="+")
    add_json(cancel)


def _add_deliverables(commands: Commands) -> None:
    details = (
        "JSON lines have signed URLs, unless the files are downloaded: anyone who has one can open the file "
        "for an hour."
    )
    deliverables = add_remote(commands, "deliverables", "list or download the files of a production", details)
    deliverables.add_argument("production_id", metavar="PRODUCTION_ID")
    deliverables.add_argument("--download-to", metavar="FOLDER", help="download the files into FOLDER/ID")
    add_json(deliverables)
