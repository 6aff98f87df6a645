"""The command line: `main`, and the commands for single productions and accounts.

Exit code 0: everything was done; for a batch, every production was published and all its files were
downloaded. 1: something failed or is unfinished; the last lines say what. 2: nothing was done, because the
command, the batch, the configuration or the API key is wrong. 128 and the number of a signal: it stopped the
command, unless that runs until it is stopped.
"""

import argparse
import asyncio
import os
import signal
import sys
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from jarai_async._api.models import Production
from jarai_async._cli import (
    batch_commands,
    journal_commands,
    json_lines,
    output,
    report_command,
    results,
    webhook_commands,
    worker_command,
)
from jarai_async._cli.arguments import build_parser, simulator_options
from jarai_async._cli.batch_file import read_text
from jarai_async._cli.client import open_client
from jarai_async._cli.completion import print_completion
from jarai_async._cli.results import shown_results
from jarai_async._cli.signals import interrupted, on_interrupt
from jarai_async._cli.simulate import simulate
from jarai_async._cli.streams import OutputError, background_streams
from jarai_async._client import JaraiClient
from jarai_async._downloads.file_names import file_name, unique_names
from jarai_async._errors import (
    AuthenticationError,
    ConfigurationError,
    InvalidRequestError,
    JaraiError,
)
from jarai_async._journal.file_lock import JournalInUseError
from jarai_async._locations import is_database
from jarai_async.simulator import run as run_simulated

_LISTS = ("journal", "accounts")  # commands that change nothing
_UNREAD = 141  # the exit code of a program that SIGPIPE ends


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    if sys.stderr is None:  # Python's value for a stream that was closed when the program started
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # until the process ends
    if sys.stdout is None:
        output.print_message("standard output is closed: redirect it, to /dev/null if need be")
        return 2
    interrupted.clear()
    try:
        with background_streams():
            try:
                return output.finish(_execute(arguments))
            except SystemExit as end:  # of the parser, after --help or a mistake
                sys.exit(output.finish(int(end.code or 0)))
    except KeyboardInterrupt:
        interrupted.set(signal.SIGINT)
        return interrupted.exit_code


def _execute(arguments: list[str] | None) -> int:
    parser = build_parser()
    options = parser.parse_args(arguments)
    if getattr(options, "simulate", False) and (options.speed or options.base_url):
        parser.error("--simulate has its own clock and address: leave out --speed and --base-url")
    if options.command == "run" and not options.simulate and (names := simulator_options(options)):
        also = " or --dry-run" if names == ["--tier"] else ""
        parser.error(f"only a simulator has {', '.join(names)}: add --simulate{also}")
    warnings.showwarning = lambda message, *_: output.print_message(str(message))
    try:
        if hasattr(options, "batch"):
            options.text = read_text(options.batch)  # here, Ctrl-C ends the reading of standard input
        _check_key(options)
        with output.log_messages(
            options.verbose,
            shows_ends=options.command in ("run", "resume"),
            is_simulated=getattr(options, "simulate", False),
        ):
            return _run_event_loop(_cancellable(_COMMANDS[options.command](options)), options)
    except (ConfigurationError, InvalidRequestError, AuthenticationError) as error:
        output.print_message(error)
        return 2
    except JaraiError as error:
        is_unread = isinstance(error, OutputError) and error.is_unread and options.command in _LISTS
        if isinstance(error, JournalInUseError):
            error.advice = "Try again when the other program has ended."
        if not is_unread:
            output.print_message(error)
        return _UNREAD if is_unread else 1
    except OSError as error:
        reason = output.reason(error)
        output.print_message(f"{error.filename}: {reason}" if error.filename else reason)
        return 2
    except (asyncio.CancelledError, KeyboardInterrupt):
        interrupted.set(signal.SIGINT)  # unless there was another signal
        output.print_message("interrupted")
        return interrupted.exit_code


def _check_key(options: argparse.Namespace) -> None:
    """Check that there is an API key, before anything else is done. Raises ConfigurationError."""
    is_for_workers = is_database(getattr(options, "journal", None) or "")
    sends_nothing = getattr(options, "simulate", False) or getattr(options, "dry_run", False)
    needs_key = hasattr(options, "base_url") and not is_for_workers and not sends_nothing
    if needs_key and not os.environ.get("JARAI_API_KEY"):
        raise ConfigurationError("no API key: set JARAI_API_KEY")


async def _cancellable(command: Coroutine[Any, Any, int]) -> int:
    """Run a command that Ctrl-C, SIGTERM and SIGHUP cancel."""
    task = asyncio.current_task()
    if task is not None:
        on_interrupt(task.cancel)
    return await command


def _run_event_loop(command: Coroutine[Any, Any, int], options: argparse.Namespace) -> int:
    """Run a command in real time, or on a simulated clock: faster (`--speed`) or jumping (`--simulate`)."""
    if getattr(options, "simulate", False):
        return run_simulated(command)
    speed = getattr(options, "speed", None)
    if speed is None:
        return asyncio.run(command)
    return run_simulated(command, speed=speed, epoch=options.epoch)


# --- Productions and accounts --------------------------------------------------------------------


async def _status(options: argparse.Namespace) -> int:
    return await _print_productions(options, JaraiClient.fetch)


async def _cancel(options: argparse.Namespace) -> int:
    return await _print_productions(options, JaraiClient.cancel)


async def _print_productions(
    options: argparse.Namespace, request: Callable[[JaraiClient, str], Awaitable[Production]]
) -> int:
    async with (
        open_client(options) as client,
        shown_results(results.PRODUCTIONS, options) as show,
    ):

        async def line(production_id: str) -> dict[str, Any]:
            return json_lines.production_line(await request(client, production_id))

        return await output.print_each(options.production_id, line, show)


async def _deliverables(options: argparse.Namespace) -> int:
    async with (
        open_client(options) as client,
        shown_results(results.DELIVERABLES, options) as show,
    ):
        deliverables = await client.deliverables(options.production_id)
        folder = Path(options.download_to) if options.download_to else None
        by_name = dict(zip(unique_names(map(file_name, deliverables)), deliverables, strict=True))

        async def line(name: str) -> dict[str, Any]:
            owner = str(by_name[name].production_id)  # the files of two productions have the same names
            path = await client.download(by_name[name], folder / owner / name) if folder else None
            return json_lines.deliverable_line(by_name[name], path)

        return await output.print_each(list(by_name), line, show)


async def _accounts(options: argparse.Namespace) -> int:
    async with (
        open_client(options) as client,
        shown_results(results.ACCOUNTS, options) as show,
    ):
        accounts = await client.accounts()
        for account in accounts:
            await show(json_lines.account_line(account))
    if not accounts:
        output.print_message("the API key can access no accounts")
    return 0


_COMMANDS = {
    "run": batch_commands.run,
    "resume": batch_commands.resume,
    "worker": worker_command.run,
    "plan": batch_commands.print_plan,
    "journal": journal_commands.show,
    "report": report_command.run,
    "resolve": journal_commands.resolve_submits,
    "retry": journal_commands.retry_requests,
    "forget": journal_commands.forget,
    "status": _status,
    "cancel": _cancel,
    "deliverables": _deliverables,
    "accounts": _accounts,
    "webhooks": webhook_commands.run,
    "simulate": simulate,
    "completion": print_completion,
}
