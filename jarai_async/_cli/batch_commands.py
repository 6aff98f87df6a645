"""The commands `jarai run`, `jarai plan` and `jarai resume`.

Everything that can be checked is checked before the first request: each line of the batch, the requests that
the journal has under the same references, and that the journal can be used with this server.
"""

import argparse
import asyncio
import os
import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from jarai_async import _clock
from jarai_async._api import wire
from jarai_async._api.models import ProductionRequest
from jarai_async._cli import output
from jarai_async._cli.arguments import DOWNLOAD_FOLDER, SIMULATED_FOLDER
from jarai_async._cli.batch_file import ID_FIELDS, parse_file, variable
from jarai_async._cli.batch_run import JournalContent, open_journal, read_journal, run_requests
from jarai_async._cli.client import open_client, webhook_secrets
from jarai_async._cli.queue_commands import resume_queue, run_in_queue
from jarai_async._cli.simulate import DEFAULT_TIER, new_simulator, simulated_ids
from jarai_async._client import JaraiClient
from jarai_async._downloads.folder import collected_references
from jarai_async._errors import ConfigurationError, InvalidRequestError
from jarai_async._forecast.plan import plan
from jarai_async._journal.entries import Intent, Stage
from jarai_async._journal.identity import reference_of
from jarai_async._locations import is_database
from jarai_async._orchestrator.decisions import is_same_request
from jarai_async.simulator import Simulator

_SHOWN: Final = 5
_SLUG: Final = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")  # inferred from the examples of JARAI


async def run(options: argparse.Namespace) -> int:
    """Run a batch."""
    if options.simulate:
        if options.journal is not None and is_database(options.journal):
            raise ConfigurationError("a queue outlives --simulate: use `jarai simulate`")
        options.download_to = options.download_to or SIMULATED_FOLDER
        async with new_simulator(options) as simulator:
            return await _run(options, simulator)
    if options.journal is None and options.batch != "-":
        options.journal = f"{options.batch}.journal"
    return await _run(options, None)


async def _run(options: argparse.Namespace, simulator: Simulator | None) -> int:
    requests = _parse(options, simulated_ids(simulator) if simulator else _variables())
    is_queue = options.journal is not None and is_database(options.journal)
    if is_queue and not options.dry_run:
        return await run_in_queue(requests, options)
    has_journal = is_queue or (options.journal is not None and _exists(options.journal))
    journal = await _read(options) if has_journal else JournalContent()
    if simulator is not None and journal.begun:
        raise ConfigurationError(
            f"{options.journal} has productions that a new simulator does not know: use another journal, or "
            "keep one simulator with `jarai simulate --state FILE`"
        )
    to_submit, begun = _divide(requests, journal)
    mine = {*to_submit, *(intent.reference for intent in begun)}
    others = [one for one in journal.intents if one.stage is not Stage.ENDED and one.reference not in mine]
    if options.webhook_port is not None:
        webhook_secrets()
    if journal.intents and len(to_submit) == len(requests) and not _plans(journal, to_submit):
        output.print_message(f"all {len(requests)} requests are new to {options.journal}")
    if simulator is None:
        await _warn_if_collected(to_submit, options)
    if options.dry_run:
        if has_journal and not is_queue and os.environ.get("JARAI_API_KEY"):
            async with open_client(options) as client:
                await _check_journal(client, journal, options)
        return await _forecast(len(requests), [*to_submit.values()], journal, options)
    async with open_client(options, simulator) as client:
        if has_journal:
            await _check_journal(client, journal, options)
        created = simulator.productions.keys if simulator else tuple
        return await run_requests(
            client,
            requests,
            options,
            is_new=not journal.begun,
            begun=begun,
            others=len(others),
            created=created,
        )


async def resume(options: argparse.Namespace) -> int:
    """Run the requests of a journal."""
    if is_database(options.journal):
        return await resume_queue(options.journal)
    journal = await _read(options)
    requests = [intent.request() for intent in journal.intents]
    begun = journal.begun
    async with open_client(options) as client:
        await _check_journal(client, journal, options)
        return await run_requests(client, requests, options, is_new=not begun, begun=begun)


async def print_plan(options: argparse.Namespace) -> int:
    """Forecast a batch."""
    requests = _parse(options, _variables())
    planned = plan(requests, options.tier, concurrency=options.concurrency, wall=_clock.wall())
    await output.print_plan(planned, recommended=options.concurrency is None)
    return 0


def _parse(options: argparse.Namespace, defaults: Mapping[str, str]) -> list[ProductionRequest]:
    """Parse the batch; options replace `defaults`."""
    given = {name: value for name in (*ID_FIELDS, "project_type") if (value := getattr(options, name))}
    ignored: set[str] | None = set() if options.ignore_unknown else None
    equal: list[str] = []
    requests = parse_file(options.batch, options.text, {**defaults, **given}, ignored=ignored, equal=equal)
    if equal:
        more = f" and {len(equal) - _SHOWN} more" if len(equal) > _SHOWN else ""
        output.print_message(
            f"requests without a reference are alike, and each is paid for: {'; '.join(equal[:_SHOWN])}{more}"
        )
    if ignored:
        output.print_message(f"ignored columns: {', '.join(sorted(ignored))}")
    types = sorted({request.project_type for request in requests if request.project_type})
    if odd := [name for name in types if not _SLUG.fullmatch(name)]:
        output.print_message(
            f"project types look like social-video-30s; JARAI may not know {', '.join(map(repr, odd))}"
        )
    return requests


def _variables() -> dict[str, str]:
    return {name: value for name in ID_FIELDS if (value := os.environ.get(variable(name)))}


def _exists(path: str) -> bool:
    return Path(path).exists()


async def _read(options: argparse.Namespace) -> JournalContent:
    """Read the journal, and use the folder that it names."""
    journal = await read_journal(options.journal)
    options.download_to = options.download_to or journal.folder
    return journal


async def _check_journal(client: JaraiClient, journal: JournalContent, options: argparse.Namespace) -> None:
    """Check that the journal can be used with this server, and say what it has. Raises JournalError."""
    async with open_journal(options.journal, await client.engine.server()):
        pass
    stages = Counter(intent.stage for intent in journal.intents)
    found = f"{stages.total()} requests; {stages[Stage.ENDED]} ended" if stages else "no requests"
    output.print_message(f"{options.journal} has {found}")


def _divide(
    requests: list[ProductionRequest], journal: JournalContent
) -> tuple[dict[str, ProductionRequest], list[Intent]]:
    """Return the requests that were not submitted yet by reference, and the journal's entries of the others.

    Raises InvalidRequestError where the journal has other requests under the same references.
    """
    known = {intent.reference: intent for intent in journal.intents}
    occurrences, to_submit = Counter[str](), dict[str, ProductionRequest]()
    begun, problems = list[Intent](), list[str]()
    for request in requests:
        reference = reference_of(request, occurrences)
        intent = known.get(reference)
        try:
            if intent is None or intent.stage is Stage.PLANNED or not is_same_request(intent, request):
                to_submit[reference] = request
            else:
                begun.append(intent)
        except InvalidRequestError as error:
            problems += error.problems
    if problems:
        raise InvalidRequestError(problems)
    return to_submit, begun


async def _warn_if_collected(to_submit: Collection[str], options: argparse.Namespace) -> None:
    """Warn of references that have files: another journal may know that they are paid for.

    Of the folder that a run uses, the run warns itself. A wrong journal may name another one.
    """
    used = options.download_to or DOWNLOAD_FOLDER
    for folder in {used, DOWNLOAD_FOLDER} if options.dry_run else {DOWNLOAD_FOLDER} - {used}:
        found = await asyncio.to_thread(collected_references, Path(folder))
        if again := [reference for reference in to_submit if reference in found]:
            found_files = f"{folder} has files of {len(again)} of these requests"
            output.print_message(f"{found_files}, which a run would submit and pay for again")


def _plans(journal: JournalContent, references: Collection[str]) -> bool:
    """Whether a journal has some of these requests, perhaps not submitted yet."""
    return any(intent.reference in references for intent in journal.intents)


async def _forecast(
    count: int, to_submit: list[ProductionRequest], journal: JournalContent, options: argparse.Namespace
) -> int:
    """Print what a run would do."""
    found = f"{count} {'request' if count == 1 else 'requests'}, {len(to_submit)} to be submitted"
    output.print_message(f"the batch is valid: {found}; nothing was sent")
    tiers = {limit: tier for tier, limit in wire.REQUESTS_PER_MINUTE.items()}
    tier = options.tier or (DEFAULT_TIER if options.simulate else tiers.get(journal.per_minute or 0))
    if not to_submit:
        return 0
    if tier is None:
        output.print_message("no forecast, because no earlier run has shown the tier: add --tier")
    else:
        planned = plan(to_submit, tier, concurrency=options.concurrency, wall=_clock.wall())
        await output.print_plan(planned, recommended=False)
    return 0
