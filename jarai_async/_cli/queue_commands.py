"""`jarai run`, `resolve` and `retry` for a queue in PostgreSQL: the database has the place of the journal."""

import argparse
import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from attrs import evolve

from jarai_async import _clock
from jarai_async._api.models import ProductionRequest
from jarai_async._cli import output
from jarai_async._cli.arguments import DOWNLOAD_FOLDER
from jarai_async._cli.batch_run import check_key, print_result, update_interval
from jarai_async._cli.client import serving, webhook_secrets
from jarai_async._cli.output import ShowEvent
from jarai_async._cli.progress import Progress, shown
from jarai_async._cli.report import BatchReport
from jarai_async._cli.signals import interrupted
from jarai_async._cli.streams import OutputError
from jarai_async._cli.worker_command import new_worker
from jarai_async._client import JaraiClient
from jarai_async._errors import ConfigurationError, InvalidRequestError
from jarai_async._events import Event, Finished, OutcomeState
from jarai_async._journal.identity import reference_of
from jarai_async._locations import with_postgres
from jarai_async._tasks import start, stop
from jarai_async.receiver import Receiver

if TYPE_CHECKING:
    from jarai_async.workers import Queue, QueueTicket

_RETRIED: Final = (OutcomeState.REJECTED, OutcomeState.FAILED)


def open_queue(url: str) -> "Queue":
    """Return a queue to enter. Raises ConfigurationError."""
    queue: Queue = with_postgres("jarai_async.workers").Queue(url)
    return queue


async def run_in_queue(
    client: JaraiClient, requests: list[ProductionRequest], options: argparse.Namespace
) -> int:
    """Add requests to a queue, work on it as one of its workers, and show what becomes of them."""
    if options.cancel_on_exit:
        raise ConfigurationError("a queue has no --cancel-on-exit: other workers continue")
    await check_key(client)
    options.download_to = options.download_to or DOWNLOAD_FOLDER
    started, stopped, code = _clock.monotonic(), False, 0
    async with AsyncExitStack() as resources:
        show = resources.enter_context(output.shown_events(options.events))
        queue = await resources.enter_async_context(open_queue(options.journal))
        if options.webhook_port is not None:
            receiver = Receiver(webhook_secrets())
            queue.listen(receiver)
            await resources.enter_async_context(serving(receiver, "127.0.0.1", options.webhook_port))
        worker = await resources.enter_async_context(new_worker(client, options.journal, options))
        cursor = await queue.cursor()
        tickets = await _add(queue, requests)
        report = BatchReport(len(tickets))
        progress = Progress(report, worker.statistics)
        working = start(worker.run)
        try:
            async with shown(progress, interval=update_interval(options), quiet=options.quiet):
                await _follow(queue, tickets, cursor, _Shown(report, progress, show))
        except asyncio.CancelledError:
            stopped, code = True, interrupted.exit_code
            output.print_message("stopped: the other workers continue; to follow it again, run it again")
        except OutputError as error:
            stopped, code = True, 1
            output.print_message(f"stopped: {error}")
        finally:
            await stop([working])
        sent = worker.statistics().requests
    summary = report.summary(interrupted=stopped, created=())
    print_result(report, summary, _clock.monotonic() - started, sent, options.download_to)
    return code or (0 if report.ok else 1)


class _Shown:
    """Where the events of a batch go."""

    def __init__(self, report: BatchReport, progress: Progress, show: ShowEvent) -> None:
        self._report = report
        self._progress = progress
        self._show = show

    async def add(self, event: Event) -> None:
        """Count an event, and show it. Raises OutputError."""
        self._report.add(event)
        self._progress.update()
        await self._show(event)


async def _add(queue: "Queue", requests: list[ProductionRequest]) -> "dict[str, QueueTicket]":
    """Add requests. Raises InvalidRequestError where some references belong to other requests."""
    occurrences, problems = Counter[str](), list[str]()
    tickets: dict[str, QueueTicket] = {}
    for request in requests:
        named = evolve(request, reference=reference_of(request, occurrences))
        try:
            tickets[named.reference or ""] = await queue.submit(named)
        except InvalidRequestError as error:
            problems += error.problems
    if problems:
        raise InvalidRequestError(problems)
    return tickets


async def _follow(queue: "Queue", tickets: "dict[str, QueueTicket]", cursor: int, shown: _Shown) -> None:
    """Show the events behind a cursor, after the last one of each request that had ended before."""
    running = set(tickets)
    for reference, ticket in tickets.items():
        if ticket.done:
            running.discard(reference)
            events = [event async for event in ticket.events()]
            await shown.add(events[-1])
    if not running:
        return
    async for event in queue.events(after=cursor):
        if event.reference in running:
            await shown.add(event)
            if isinstance(event, Finished):
                running.discard(event.reference)
                if not running:
                    return


# --- Decisions -----------------------------------------------------------------------------------


async def resolve(options: argparse.Namespace) -> int:
    """Have a worker decide submits that are in doubt."""
    ids = options.production_id or [None] * len(options.reference)
    if len(ids) != len(options.reference):
        raise InvalidRequestError(["give one --production-id for each REFERENCE, in the same order"])
    async with open_queue(options.journal) as queue:
        for reference, id_ in zip(options.reference, ids, strict=True):
            ticket = await queue.resolve(reference, production_id=id_, resubmit=id_ is None)
            await output.print_line(ticket.to_dict())
    return 0


async def retry(options: argparse.Namespace) -> int:
    """Have a worker submit requests again."""
    async with open_queue(options.journal) as queue:
        references = options.reference or [
            ticket.reference for state in _RETRIED for ticket in await queue.tickets(state)
        ]
        for reference in references:
            await output.print_line((await queue.retry(reference)).to_dict())
    output.print_message(f"{len(references)} submitted again by the workers")
    return 0
