"""Running a batch: its journal and folder, its events, and its summary.

A batch that JARAI refuses as a whole, because of its key, is one message and not one for each request: a read
tests the key, and the first request of a new batch goes alone.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from attrs import Factory, frozen

from jarai_async import _clock
from jarai_async._api.calls import is_refusal
from jarai_async._api.models import ProductionRequest
from jarai_async._cli import output
from jarai_async._cli.arguments import DOWNLOAD_FOLDER, resume_command, retry_command
from jarai_async._cli.client import serving, webhook_secrets
from jarai_async._cli.output import ShowEvent
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
from jarai_async._journal.entries import Intent, Stage
from jarai_async._journal.journal import SqliteJournal
from jarai_async._locations import reader_of
from jarai_async._orchestrator.orchestrator import Orchestrator
from jarai_async._orchestrator.slot import Slots
from jarai_async._orchestrator.statistics import Statistics
from jarai_async.receiver import Receiver

_OF_ONE_ACCOUNT = ("ACCOUNT_NOT_ACTIVE", "INSUFFICIENT_SCOPE")  # codes; documented


async def run_requests(
    client: JaraiClient,
    requests: list[ProductionRequest],
    options: argparse.Namespace,
    *,
    is_new: bool,
    begun: Collection[Intent] = (),
    others: int = 0,
    created: Callable[[], Collection[str]] = tuple,
) -> int:
    """Run requests, show their events, and print a summary, even when interrupted.

    `is_new` is whether none of them was submitted yet, according to the journal. `begun` has its entries
    of those that were. `others` is how many other requests of the journal have not ended. `created` returns
    the IDs of all productions on the server, where a simulator knows them.
    """
    await check_key(client)
    options.download_to = options.download_to or DOWNLOAD_FOLDER
    report, started = BatchReport(len(requests), begun), _clock.monotonic()
    async with AsyncExitStack() as resources:
        show = resources.enter_context(output.shown_events(options.events))
        receiver = None
        if options.webhook_port is not None:
            receiver = Receiver(webhook_secrets())
            await resources.enter_async_context(serving(receiver, "127.0.0.1", options.webhook_port))
        orchestrator = _orchestrator(client, options, receiver)
        first = FirstRequest(orchestrator.context.slots, is_new=is_new, requests=requests)
        stopped, code = await _follow(orchestrator, requests, report, first, show=show, options=options)
    if code == 2:
        return code
    if stopped and options.journal is not None and not getattr(options, "simulate", False):
        output.print_command("to continue", resume_command(options))
    elif report.may_retry and options.journal is not None and not getattr(options, "simulate", False):
        output.print_command("to submit again what failed", retry_command(options.journal))
    if others and not stopped:
        purpose = f"unfinished requests of this journal, beside these: {others}; to continue"
        output.print_command(purpose, resume_command(options))
    summary = report.summary(interrupted=stopped, created=created())
    sent = orchestrator.statistics().requests
    seconds = _clock.monotonic() - started
    output.print_summary(
        [*report.kinds(), describe_cost(seconds, sent)],
        f"{summary}; files in {options.download_to}",
        outcomes=report.outcomes,
        seconds=round(seconds),
        requests=dict(sent),
    )
    return code or (0 if report.ok else 1)


def _orchestrator(
    client: JaraiClient, options: argparse.Namespace, receiver: Receiver | None
) -> Orchestrator:
    return Orchestrator(
        client,
        concurrency=options.concurrency,
        download_to=options.download_to,
        collect_for_review=options.review,
        deadline=options.deadline,
        cancel_on_exit=options.cancel_on_exit,
        journal=options.journal,
        webhooks=receiver,
    )


async def _follow(
    orchestrator: Orchestrator,
    requests: list[ProductionRequest],
    report: BatchReport,
    first: "FirstRequest",
    *,
    show: ShowEvent,
    options: argparse.Namespace,
) -> tuple[bool, int]:
    """Run requests. Return whether something stopped that, and the exit code, or 0 if outcomes decide it."""
    run, stopped, code = None, False, 0

    async def statistics() -> Statistics:
        return orchestrator.statistics()

    progress = Progress(report)
    try:
        async with (
            orchestrator,
            shown(progress, statistics, interval=update_interval(options), quiet=options.quiet),
        ):
            await first.hold_the_others()
            run = orchestrator.run(requests)
            try:
                async for event in run:
                    report.add(event)
                    progress.update()
                    first.add(event)  # before anything is awaited: if it raises, no other request is sent
                    await show(event)
            except asyncio.CancelledError:
                output.print_message("stopping: requests that are on their way are completed first")
                raise
    except (AuthenticationError, PermissionDeniedError) as error:
        await first.show_refused(show)
        output.print_message(error)
        return True, 2
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
    return stopped, code


def update_interval(options: argparse.Namespace) -> float:
    """Return the seconds of the loop's clock that are about one real second, or less."""
    return 60.0 if getattr(options, "simulate", False) else options.speed or 1.0


async def check_key(client: JaraiClient) -> None:
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

    def __init__(self, slots: Slots, *, is_new: bool, requests: Collection[ProductionRequest]) -> None:
        self._slots = slots
        self._is_new = is_new
        self._has_one_account = len({request.account_id for request in requests}) == 1
        self._held = 0
        self._refused: Event | None = None

    async def hold_the_others(self) -> None:
        """Take all slots but one, if the batch is new."""
        while self._is_new and self._held < self._slots.count - 1:
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

    async def show_refused(self, show: ShowEvent) -> None:
        """Show the outcome for which `add` raised, as far as the output still has a reader."""
        if self._refused is not None:
            with suppress(OutputError):
                await show(self._refused)


# --- Journals ------------------------------------------------------------------------------------


@asynccontextmanager
async def open_journal(path: str, server: Server | None = None) -> AsyncIterator[SqliteJournal]:
    """Open a journal that exists. Raises OSError or JournalError."""
    journal = await SqliteJournal.open(journal_path(path), server=server, create=False)
    try:
        yield journal
    finally:
        await journal.close()


@frozen
class JournalContent:
    """The requests of a journal, the folder of their files and the rate limit, if it names them."""

    intents: list[Intent] = Factory(list)
    folder: str | None = None
    per_minute: int | None = None

    @property
    def begun(self) -> list[Intent]:
        """Those that were submitted, or are about to be."""
        return [intent for intent in self.intents if intent.stage is not Stage.PLANNED]


async def read_journal(path: str) -> JournalContent:
    """Read a journal, which may be in use. Raises ConfigurationError or JournalError."""
    reader = reader_of(path)

    def read() -> JournalContent:
        intents = [intent for intent, _ in reader.entries()]
        return JournalContent(intents, reader.folder(), reader.per_minute())

    return await asyncio.to_thread(read)
