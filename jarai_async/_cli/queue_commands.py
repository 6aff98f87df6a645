"""`jarai run`, `resume`, `resolve` and `retry` for a queue in PostgreSQL, which has the place of the journal.

They need no API key: its workers do what they ask for.
"""

import argparse
import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from attrs import evolve

from jarai_async import _clock
from jarai_async._api.models import ProductionRequest
from jarai_async._cli import output
from jarai_async._cli.arguments import build_parser
from jarai_async._cli.batch_run import read_journal, update_interval
from jarai_async._cli.client import serving, webhook_secrets
from jarai_async._cli.durations import describe_duration
from jarai_async._cli.output import ShowEvent
from jarai_async._cli.progress import Progress, shown
from jarai_async._cli.report import BatchReport
from jarai_async._cli.signals import interrupted
from jarai_async._cli.streams import OutputError
from jarai_async._errors import ConfigurationError, InvalidRequestError
from jarai_async._events import Event, Finished, OutcomeState
from jarai_async._journal.entries import Intent
from jarai_async._journal.identity import differences, reference_of
from jarai_async._locations import with_postgres
from jarai_async._orchestrator.decisions import other_request
from jarai_async.receiver import Receiver

if TYPE_CHECKING:
    from jarai_async.workers import Queue

_RETRIED: Final = (OutcomeState.REJECTED, OutcomeState.FAILED)
_OF_WORKERS: Final = ("base_url", "timeout", "per_minute", "download_to", "concurrency", "review")


def open_queue(url: str) -> "Queue":
    """Return a queue to enter. Raises ConfigurationError."""
    queue: Queue = with_postgres("jarai_async.workers").Queue(url)
    return queue


async def run_in_queue(requests: list[ProductionRequest], options: argparse.Namespace) -> int:
    """Add requests to a queue, and show what its workers do with them. Needs no API key.

    Raises ConfigurationError, InvalidRequestError where some references belong to other requests: then
    nothing is added. JournalError.
    """
    _refuse_options_of_workers(options)
    started, stopped, code = _clock.monotonic(), False, 0
    async with AsyncExitStack() as resources:
        show = resources.enter_context(output.shown_events(options.events))
        queue = await resources.enter_async_context(open_queue(options.journal))
        journal = await read_journal(options.journal)
        named = _named(requests, journal.intents)
        if options.webhook_port is not None:
            receiver = Receiver(webhook_secrets())
            queue.listen(receiver)
            await resources.enter_async_context(serving(receiver, "127.0.0.1", options.webhook_port))
        if not (await queue.statistics()).per_minute:
            output.print_message("no worker is running: `jarai worker` starts one, here or elsewhere")
        mine = {request.reference for request in named}
        report = BatchReport(len(named), [one for one in journal.begun if one.reference in mine])
        progress = Progress(report)
        try:
            async with shown(
                progress, queue.statistics, interval=update_interval(options), quiet=options.quiet
            ):
                await _follow(queue, named, options.deadline, _Shown(report, progress, show))
        except asyncio.CancelledError:
            stopped, code = True, interrupted.exit_code
            added = "the workers go on with what was added; to add the rest and to follow, run it again"
            output.print_message(f"stopped: {added}")
        except OutputError as error:
            stopped, code = True, 1
            output.print_message(f"stopped: {error}")
    seconds = _clock.monotonic() - started
    output.print_summary(
        [*report.kinds(), f"took {describe_duration(seconds)}"],
        report.summary(interrupted=stopped),
        outcomes=report.outcomes,
        seconds=round(seconds),
    )
    return code or (0 if report.ok else 1)


def _refuse_options_of_workers(options: argparse.Namespace) -> None:
    """Raise ConfigurationError for an option that would have no effect."""
    if options.cancel_on_exit:
        raise ConfigurationError("a queue has no --cancel-on-exit: its workers go on")
    defaults = build_parser().parse_args(["run", ""])
    given = [name for name in _OF_WORKERS if getattr(options, name) != getattr(defaults, name)]
    if given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigurationError(f"the workers of a queue have the option {names}: give it to `jarai worker`")


def _named(requests: Iterable[ProductionRequest], intents: Iterable[Intent]) -> list[ProductionRequest]:
    """Return requests with references. Raises InvalidRequestError where some belong to other requests."""
    known = {intent.reference: intent for intent in intents}
    occurrences, problems = Counter[str](), list[str]()
    named = [evolve(request, reference=reference_of(request, occurrences)) for request in requests]
    for request in named:
        intent = known.get(request.reference or "")
        if intent is not None and (changes := [*differences(intent.request(), request)]):
            problems += other_request(intent.reference, changes).problems
    if problems:
        raise InvalidRequestError(problems)
    return named


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


async def _follow(
    queue: "Queue", requests: Iterable[ProductionRequest], deadline: float | None, shown: _Shown
) -> None:
    """Add the requests that are new, and show the events of all until each has its outcome."""
    cursor, running = await queue.cursor(), set[str]()
    for request in requests:
        ticket = await queue.submit(request, deadline=deadline)
        if ticket.done:
            events = [event async for event in ticket.events()]
            await shown.add(events[-1])
        else:
            running.add(ticket.reference)
    if not running:
        return
    async for event in queue.events(after=cursor):
        if event.reference in running:
            await shown.add(event)
            if isinstance(event, Finished):
                running.discard(event.reference)
                if not running:
                    return


async def resume_queue(url: str) -> int:
    """Let the workers of a queue look again at what has no final outcome."""
    async with open_queue(url) as queue:
        output.print_message(f"the workers look at {await queue.resume()} requests again")
    return 0


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
