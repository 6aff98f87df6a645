"""The command line: `jarai run BATCH`, and one command for each thing that one does by hand.

Exit code 0: everything that was asked for is done; of a batch, each production is published and all of its
files are here. 1: something is not, and the last lines say what. 2: nothing was sent: the command, the batch
or the configuration is wrong.
"""

import argparse
import asyncio
import sys
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from pathlib import Path
from typing import Any

from jarai_async import _clock
from jarai_async._api.models import Production, ProductionRequest
from jarai_async._cli import output, webhook_commands
from jarai_async._cli.arguments import IDS, parser
from jarai_async._cli.batch_file import read_batch
from jarai_async._cli.output import for_each
from jarai_async._cli.signals import on_signals, stopping, until
from jarai_async._client import JaraiClient
from jarai_async._downloads.download import file_name
from jarai_async._downloads.file_names import distinct
from jarai_async._errors import ConfigurationError, InvalidRequestError, JaraiError
from jarai_async._forecast.plan import plan
from jarai_async._journal.entries import Intent
from jarai_async._journal.journal import Journal
from jarai_async._orchestrator.orchestrator import Orchestrator
from jarai_async._orchestrator.submission import resolve
from jarai_async.simulator import Simulator
from jarai_async.simulator import run as run_simulated


def main(arguments: list[str] | None = None) -> int:
    """Run one command, and give its exit code."""
    whole = parser()
    options = whole.parse_args(arguments)
    if getattr(options, "simulate", False) and (options.speed or options.base_url):
        whole.error("--simulate has a clock and an address of its own: no --speed, no --base-url")
    warnings.showwarning = lambda message, *_: output.print_error(str(message))
    try:
        return _run(_COMMANDS[options.command](options), options)
    except (ConfigurationError, InvalidRequestError) as error:
        output.print_error(error)
        return 2
    except JaraiError as error:
        output.print_error(error)
        return 1
    except OSError as error:
        what = error.strerror or error
        output.print_error(f"{error.filename}: {what}" if error.filename else str(what))
        return 2
    except KeyboardInterrupt:
        return 1


def _run(command: Coroutine[Any, Any, int], options: argparse.Namespace) -> int:
    """Run on the clock that the options ask for: the world's, a faster one, or one that jumps."""
    if getattr(options, "simulate", False):
        return run_simulated(command)
    speed = getattr(options, "speed", None)
    return asyncio.run(command) if speed is None else run_simulated(command, speed=speed)


# --- Commands ------------------------------------------------------------------------------------


async def _run_batch(options: argparse.Namespace) -> int:
    if not options.simulate:
        requests = _requests(options, {})
        _choose_journal(options)
        async with JaraiClient(base_url=options.base_url) as client:
            return await _follow(client, requests, options)
    async with Simulator(tier=options.tier, seed=options.seed) as simulator:
        simulated = {name: getattr(simulator, name) for name in IDS}
        requests = _requests(options, simulated)
        async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
            return await _follow(client, requests, options, created=simulator.productions.keys)


def _choose_journal(options: argparse.Namespace) -> None:
    if options.journal is None and options.batch != "-":
        options.journal = f"{options.batch}.journal"
    if options.journal is not None and Path(options.journal).exists():
        output.print_error(f"going on with what {options.journal} knows: nothing is submitted twice")


def _requests(options: argparse.Namespace, defaults: dict[str, str]) -> list[ProductionRequest]:
    """Read the batch that the options name; what its lines leave out is theirs, or else a default."""
    given = {name: value for name in (*IDS, "project_type") if (value := getattr(options, name))}
    return _read(options.batch, defaults | given)


def _read(batch: str, defaults: Mapping[str, str | None]) -> list[ProductionRequest]:
    content = sys.stdin.buffer.read() if batch == "-" else Path(batch).read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"the batch is not UTF-8: {error.reason} at byte {error.start}") from None
    as_csv = batch.endswith(".csv") or (batch == "-" and not text.lstrip().startswith("{"))
    return read_batch(text, as_csv=as_csv, defaults=defaults)


async def _resume(options: argparse.Namespace) -> int:
    requests = [intent.request() for intent in await _intents(options.journal)]
    async with JaraiClient(base_url=options.base_url) as client:
        return await _follow(client, requests, options)


async def _journal(options: argparse.Namespace) -> int:
    intents = await _intents(options.journal)
    for intent in intents:
        output.print_line(output.intent_line(intent))
    counts = Counter(str(intent.stage) for intent in intents)
    output.print_error(", ".join(f"{count} {stage}" for stage, count in counts.items()) or "empty")
    return 0


async def _intents(path: str) -> list[Intent]:
    journal = await Journal.open(Path(path), create=False)
    try:
        return await journal.intents()
    finally:
        await journal.close()


async def _resolve(options: argparse.Namespace) -> int:
    journal = await Journal.open(Path(options.journal), create=False)
    try:
        async with JaraiClient(base_url=options.base_url) as client:
            intent = await resolve(client, journal, options.reference, options.production_id)
    finally:
        await journal.close()
    output.print_line(output.intent_line(intent))
    return 0


async def _plan(options: argparse.Namespace) -> int:
    requests = _requests(options, {})
    foreseen = plan(requests, options.tier, concurrency=options.concurrency, wall=_clock.wall())
    output.print_plan(foreseen, recommended=options.concurrency is None)
    return 0


async def _follow(
    client: JaraiClient,
    requests: list[ProductionRequest],
    options: argparse.Namespace,
    created: Callable[[], Collection[str]] = tuple,
) -> int:
    """Run the batch, show what happens, and sum it up, also when it is interrupted."""
    task = asyncio.current_task()
    if task is not None:
        on_signals(task.cancel)
    tally = output.Tally(len(requests))
    orchestrator = Orchestrator(
        client,
        concurrency=options.concurrency,
        download_to=options.download_to,
        review=options.review,
        deadline=options.deadline,
        cancel_on_exit=options.cancel_on_exit,
        journal=options.journal,
    )
    interrupted = False
    run = None
    with output.progress(tally, lambda: orchestrator.statistics().expected_finish) as show:
        try:
            async with orchestrator:
                run = orchestrator.run(requests)
                async for event in run:
                    tally.add(event)
                    show(event)
        except asyncio.CancelledError:
            interrupted = True
        except OSError as error:  # nobody reads any more, or the disk is full: what was submitted goes on
            interrupted = True
            output.print_error(f"the output cannot be written: {error.strerror or error}")
    for event in run.unread() if run else ():
        tally.add(event)
    summary = tally.summary(interrupted=interrupted, created=created())
    output.conclude(tally.notes, f"{summary}; files in {options.download_to}")
    return 0 if tally.ok else 1


async def _simulate(options: argparse.Namespace) -> int:
    stop = stopping()
    async with Simulator(port=options.port, tier=options.tier, seed=options.seed) as simulator:
        output.print_line(
            {
                "JARAI_BASE_URL": simulator.base_url,
                "JARAI_API_KEY": simulator.api_key,
                **{name: getattr(simulator, name) for name in IDS},
            }
        )
        output.print_error(f"the simulator serves {simulator.base_url} until Ctrl-C")
        await until(stop)
    return 0


async def _status(options: argparse.Namespace) -> int:
    return await _ask_of_each(options, JaraiClient.fetch)


async def _cancel(options: argparse.Namespace) -> int:
    return await _ask_of_each(options, JaraiClient.cancel)


async def _ask_of_each(
    options: argparse.Namespace, ask: Callable[[JaraiClient, str], Awaitable[Production]]
) -> int:
    async with JaraiClient(base_url=options.base_url) as client:

        async def line(production_id: str) -> dict[str, Any]:
            return output.production_line(await ask(client, production_id))

        return await for_each(options.production_id, line)


async def _deliverables(options: argparse.Namespace) -> int:
    async with JaraiClient(base_url=options.base_url) as client:
        found = await client.deliverables(options.production_id)
        folder = Path(options.download_to) if options.download_to else None
        names = distinct(map(file_name, found))
        for name, one in zip(names, found, strict=True):
            path = await client.download(one, folder / name) if folder else None
            output.print_line(output.deliverable_line(one, path))
    return 0


async def _accounts(options: argparse.Namespace) -> int:
    async with JaraiClient(base_url=options.base_url) as client:
        for account in await client.accounts():
            output.print_line(output.account_line(account))
    return 0


_COMMANDS = {
    "run": _run_batch,
    "resume": _resume,
    "journal": _journal,
    "resolve": _resolve,
    "plan": _plan,
    "status": _status,
    "cancel": _cancel,
    "deliverables": _deliverables,
    "accounts": _accounts,
    "webhooks": webhook_commands.run,
    "simulate": _simulate,
}
