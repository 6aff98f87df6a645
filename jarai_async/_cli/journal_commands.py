"""The commands that read and change a journal: `jarai journal`, `resolve`, `retry` and `forget`."""

import argparse
import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

from jarai_async import _clock
from jarai_async._cli import json_lines, output, queue_commands, results
from jarai_async._cli.batch_run import open_journal, read_journal
from jarai_async._cli.client import open_client
from jarai_async._cli.results import shown_results
from jarai_async._errors import ConfigurationError, InvalidRequestError
from jarai_async._events import OutcomeState
from jarai_async._journal.entries import Intent
from jarai_async._journal.reader import JournalEntry, entry_of
from jarai_async._locations import is_database, reader_of
from jarai_async._orchestrator.decisions import check_decision, find_created, resolve, retry
from jarai_async._report.text import words
from jarai_async._report.totals import in_order

# what `jarai retry` chooses without references: not what you have cancelled
_RETRIED = (OutcomeState.REJECTED, OutcomeState.FAILED)


async def show(options: argparse.Namespace) -> int:
    """List requests. Raises ConfigurationError, JournalError."""
    reader = reader_of(options.journal)

    def read() -> list[tuple[JournalEntry, dict[str, Any]]]:
        return [(entry_of(*entry), json_lines.intent_line(*entry)) for entry in reader.entries()]

    known = await asyncio.to_thread(read)
    found = [(entry, line) for entry, line in known if options.state in (None, line["state"])]
    async with shown_results(results.INTENTS, options) as show:
        for entry, line in found:
            await show(line, reason=_reason(entry))
    if found:
        output.print_message(_totals([line for _, line in found]))
    else:
        none = f"none of {len(known)} requests is {words(options.state or '')}"
        output.print_message(none if known else "the journal is empty")
    return 0


def _reason(entry: JournalEntry) -> str:
    """Return the error without the ID of the production and the advice, which would fill the column."""
    reason = "" if entry.error is None else entry.error.reason
    return reason.removeprefix(f"production {entry.production.id} failed: ") if entry.production else reason


def _totals(lines: list[dict[str, Any]]) -> str:
    created = len({id_ for line in lines for id_ in line["productionIds"]})
    requests = f"{len(lines)} {'request' if len(lines) == 1 else 'requests'}"
    productions = f"{created} {'production' if created == 1 else 'productions'} created"
    states = in_order(Counter(line["state"] for line in lines))
    counts = ", ".join(f"{count} {words(state)}" for state, count in states.items())
    return f"{requests}, {productions}; {counts}"


async def resolve_submits(options: argparse.Namespace) -> int:
    """Decide submits that are in doubt. Raises InvalidRequestError, JournalError."""
    if is_database(options.journal):
        return await queue_commands.resolve(options)
    ids = options.production_id or [None] * len(options.reference)
    if len(ids) != len(options.reference):
        raise InvalidRequestError(["give one --production-id for each REFERENCE, in the same order"])
    async with (
        open_client(options) as client,
        open_journal(options.journal, await client.engine.server()) as journal,
    ):
        decisions = []
        for reference, id_ in zip(options.reference, ids, strict=True):  # all are checked before one is made
            production = None
            if id_ is not None:
                production = await find_created(client.engine, journal, reference, id_)
            await check_decision(journal, reference, production, {})
            decisions.append((reference, production))
        for reference, production in decisions:
            other = await check_decision(journal, reference, production, {})
            intent = await resolve(journal, reference, production, {}, other)
            await output.print_line(json_lines.resolved_line(intent))
    return 0


async def retry_requests(options: argparse.Namespace) -> int:
    """Let requests be submitted again. Raises InvalidRequestError, JournalError."""
    if is_database(options.journal):
        return await queue_commands.retry(options)
    async with open_journal(options.journal) as journal:
        references = options.reference or [
            intent.reference for intent in await journal.intents() if intent.outcome_state in _RETRIED
        ]
        for reference in references:
            await output.print_line(json_lines.intent_line(await retry(journal, reference)))
    output.print_message(f"{len(references)} to be submitted again by `jarai run` or `jarai resume`")
    return 0


async def forget(options: argparse.Namespace) -> int:
    """Delete requests that have ended.

    Raises ConfigurationError, JournalError, and InvalidRequestError for a reference that is not known or that
    has not ended.
    """
    if not options.reference and options.older_than is None:
        raise ConfigurationError("say what to forget: references, or --older-than, such as 30d")
    before = None if options.older_than is None else _clock.wall() - options.older_than
    found = _to_forget((await read_journal(options.journal)).intents, options.reference, before)
    if not options.dry_run:
        found = await _delete(options, before)
    for reference in found:
        await output.print_line({"reference": reference})
    verb = "would be forgotten" if options.dry_run else "forgotten"
    output.print_message(f"{len(found)} {verb}; their files stay")
    return 0


def _to_forget(intents: list[Intent], references: list[str], before: float | None) -> list[str]:
    unknown = set(references) - {intent.reference for intent in intents}
    problems = [f"the journal has no reference {reference!r}" for reference in sorted(unknown)]
    problems += [
        f"{intent.reference!r} has not ended, it is {intent.stage}"
        for intent in intents
        if intent.reference in references and intent.outcome_state is None
    ]
    if problems:
        raise InvalidRequestError(problems)
    return [
        intent.reference
        for intent in intents
        if intent.reference in references
        or (before is not None and intent.outcome_state and (intent.ended_at or 0.0) < before)
    ]


async def _delete(options: argparse.Namespace, before: float | None) -> list[str]:
    if not is_database(options.journal):
        async with open_journal(options.journal) as journal:
            return await journal.forget(options.reference, ended_before=before)
    older_than = None if options.older_than is None else timedelta(seconds=options.older_than)
    async with queue_commands.open_queue(options.journal) as queue:
        return await queue.forget(*options.reference, older_than=older_than)
