"""Running a batch: its journal and folder, its events, and its summary.

A batch that JARAI refuses as a whole, because of its key, is one message and not one for each request: a read
tests the key, and the first request of a new batch goes alone.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress

from jarai_async import _clock
from jarai_async._api.calls import is_refusal
from jarai_async._api.models import ProductionRequest
from jarai_async._cli import output
from jarai_async._cli.arguments import DOWNLOAD_FOLDER, resume_command
from jarai_async._cli.progress import Progress, shown
from jarai_async._cli.report import BatchReport, describe_cost
from jarai_async._cli.signals import interrupted
from jarai_async._cli.streams import OutputError
from jarai_async._client import JaraiClient
from jarai_async._errors import (
    AuthenticationError,
    ConfigurationError,
    InvalidResponseError,
    JaraiError,
    JournalError,
    PermissionDeniedError,
)
from jarai_async._events import Event, Finished
from jarai_async._journal.database import Server, journal_path
from jarai_async._journal.entries import Intent
from jarai_async._journal.journal import Journal
from jarai_async._journal.reader import JournalReader
from jarai_async._orchestrator.orchestrator import Orchestrator
from jarai_async._orchestrator.slot import Slots

_OF_ONE_ACCOUNT = ("ACCOUNT_NOT_ACTIVE", "INSUFFICIENT_SCOPE")  # codes; documented


async def run_requests(
    client: JaraiClient,
    requests: list[ProductionRequest],
    options: argparse.Namespace,
    *,
    is_new: bool,
    created: Callable[[], Collection[str]] = tuple,
) -> int:
    """Run requests, show their events, and print a summary, even when interrupted.

    `is_new` is whether none of them was submitted yet, according to the journal. `created` returns the IDs of
    all productions on the server, where a simulator knows them.
    """
    await _check_key(client)
    options.download_to = options.download_to or DOWNLOAD_FOLDER
    report = BatchReport(len(requests))
    orchestrator = _orchestrator(client, options)
    first = FirstRequest(
        orchestrator.context.slots, accounts=len({request.account_id for request in requests})
    )
    progress = Progress(report, orchestrator.statistics)
    started, run, stopped, code = _clock.monotonic(), None, False, 0
    try:
        async with orchestrator, shown(progress, interval=_update_interval(options), quiet=options.quiet):
            if is_new:
                await first.hold_the_others()
            run = orchestrator.run(requests)
            async for event in run:
                report.add(event)
                progress.update()
                first.add(event)  # before anything is awaited: if it raises, no other request is sent
                await output.print_event(event)
    except (AuthenticationError, PermissionDeniedError) as error:
        await first.show_refused()
        output.print_message(error)
        return 2
    except asyncio.CancelledError:
        stopped, code = True, interrupted.exit_code
    except JournalError as error:
        if run is None:
            raise  # it cannot be opened: nothing was sent
        code = 1
        output.print_message(error)
    except OutputError as error:
        stopped, code = True, 1
        output.print_message(f"stopped: {error}")
    for event in run.unread() if run else ():
        report.add(event)
    if stopped and options.journal is not None:
        output.print_message(f"to continue: {resume_command(options)}")
    summary = report.summary(interrupted=stopped, created=created())
    _print_summary(
        report, orchestrator, _clock.monotonic() - started, f"{summary}; files in {options.download_to}"
    )
    return code or (0 if report.ok else 1)


def _orchestrator(client: JaraiClient, options: argparse.Namespace) -> Orchestrator:
    return Orchestrator(
        client,
        concurrency=options.concurrency,
        download_to=options.download_to,
        collect_for_review=options.review,
        deadline=options.deadline,
        cancel_on_exit=options.cancel_on_exit,
        journal=options.journal,
    )


def _update_interval(options: argparse.Namespace) -> float:
    """Return the seconds of the loop's clock that are about one real second, or less."""
    return 60.0 if getattr(options, "simulate", False) else options.speed or 1.0


def _print_summary(report: BatchReport, orchestrator: Orchestrator, seconds: float, summary: str) -> None:
    sent = orchestrator.statistics().requests
    output.print_summary(
        [*report.kinds(), describe_cost(seconds, sent)],
        summary,
        outcomes=report.outcomes,
        seconds=round(seconds),
        requests=dict(sent),
    )


async def _check_key(client: JaraiClient) -> None:
    """Send one read.

    Raises AuthenticationError, and ConfigurationError if the partner is not active, or if the base URL does
    not lead to the API.
    """
    try:
        await client.accounts()
    except AuthenticationError:
        raise
    except JaraiError as error:  # others do not stop a batch: an outage, or a key that may not read accounts
        may_submit = isinstance(error, PermissionDeniedError) and error.code != "PARTNER_NOT_ACTIVE"
        if isinstance(error, InvalidResponseError) or (is_refusal(error) and not may_submit):
            raise ConfigurationError(str(error)) from None


class FirstRequest:
    """Lets the first request of a new batch go alone: its key may not be allowed to submit."""

    def __init__(self, slots: Slots, accounts: int) -> None:
        self._slots = slots
        self._has_one_account = accounts == 1
        self._held = 0
        self._refused: Event | None = None

    async def hold_the_others(self) -> None:
        """Take all slots but one."""
        while self._held < self._slots.count - 1:
            await self._slots.acquire()
            self._held += 1

    def add(self, event: Event) -> None:
        """Let the other requests go. Raises the error instead if JARAI would refuse them, too."""
        error = event.outcome.error if isinstance(event, Finished) and self._held else None
        if isinstance(error, AuthenticationError) or (
            isinstance(error, PermissionDeniedError)
            and (self._has_one_account or error.code not in _OF_ONE_ACCOUNT)
        ):
            self._refused = event
            raise error
        while self._held:
            self._slots.release()
            self._held -= 1

    async def show_refused(self) -> None:
        """Show the outcome for which `add` raised, as far as the output still has a reader."""
        if self._refused is not None:
            with suppress(OutputError):
                await output.print_event(self._refused)


# --- Journals ------------------------------------------------------------------------------------


@asynccontextmanager
async def open_journal(path: str, server: Server | None = None) -> AsyncIterator[Journal]:
    """Open a journal that exists. Raises OSError or JournalError."""
    journal = await Journal.open(journal_path(path), server=server, create=False)
    try:
        yield journal
    finally:
        await journal.close()


async def read_journal(path: str) -> tuple[list[Intent], str | None]:
    """Return the requests of a journal, which may be in use, and the folder of their files, if it names one.

    Raises ConfigurationError or JournalError.
    """
    reader = JournalReader(journal_path(path))

    def read() -> tuple[list[Intent], str | None]:
        return [intent for intent, _ in reader.entries()], reader.folder()

    return await asyncio.to_thread(read)
