"""Every stage of a production, and everything that may become of its worker: nothing is lost or doubled.

Two workers, in one loop on simulated time (see `worker_crashes`). The first is struck at the boundary of a
transaction, once the request has come as far as the stage says; the second continues. Each cell has a process
of its own, which ends without cleaning up.
"""

import argparse
import asyncio
import logging
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

from jarai_async import Outcome, OutcomeState
from jarai_async.simulator import Stage
from tests.stress.worker_crashes import (
    LEASE,
    WorkerLoop,
    WorkerProcess,
    WorkerWorld,
    observed_databases,
    worker_world,
)
from tests.support.postgres import temporary_database, temporary_server
from tests.support.scenarios import request_for

_LONGEST = 600.0  # simulated seconds of a cell
_REAL_SECONDS = 60.0  # of a cell
_TARGET = "SELECT 1 FROM jarai.requests WHERE reference = 'target' AND "
_IS_TAKEN = "SELECT 1 FROM jarai.procrastinate_jobs WHERE status = 'doing' AND args @> %s"
_WITHOUT_KEYS = {"about to be sent", "sent and not received", "sent and created", "uncertain"}

FAULTS: dict[str, Callable[[WorkerWorld, WorkerProcess], None]] = {
    "killed": WorkerWorld.kill,
    "stopped": lambda world, process: world.stop(process, 3 * LEASE),
    "cut off": lambda world, process: world.cut_off(process, 3 * LEASE),
    "database restarted": lambda world, _: world.restart_database(),
    "believed dead": WorkerWorld.depose,
}
"""What becomes of the first worker."""


def _is(condition: str) -> Callable[[WorkerWorld], bool]:
    return lambda world: bool(world.sql(_TARGET + condition))


def _has_status(status: str) -> Callable[[WorkerWorld], bool]:
    return _is(f"stage = 'accepted' AND kept::json -> 'production' ->> 'status' = '{status}'")


def _has_fired(fault: str) -> Callable[[WorkerWorld], bool]:
    return lambda world: fault in world.simulator.faults.fired


STAGES: dict[str, Callable[[WorkerWorld], bool]] = {
    "in the queue": _is("stage = 'planned' AND EXISTS (SELECT FROM jarai.requests WHERE stage = 'accepted')"),
    "waiting for a slot": lambda world: bool(world.sql(_IS_TAKEN, '{"reference": "target"}')),
    "about to be sent": _is("stage = 'sending'"),
    "sent and not received": _has_fired("hang_before"),
    "sent and created": _has_fired("hang"),
    "accepted": _has_status("Queued"),
    "producing": _has_status("Producing"),
    "awaiting approval": _has_status("AwaitingApproval"),
    "collecting files": _has_fired("slow"),
    "ended and not released": _is("stage = 'ended' AND worker IS NOT NULL"),
    "uncertain": _is("is_settled"),
}
"""How far the request has come."""


def main(arguments: Sequence[str]) -> int:
    """Run all cells, without idempotency keys and with them. Return 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress matrix", description=__doc__)
    parser.add_argument("--only", default="", help="stages and faults that contain this")
    only = parser.parse_args(arguments).only
    cells = [
        (stage, fault, keys)
        for stage, fault, keys in product(STAGES, FAULTS, (False, True))
        if only in f"{stage} {fault}" and not (keys and stage == "uncertain")  # it never is
    ]
    with temporary_server() as server:
        failed = failures(server, cells)
    print(f"{len(cells) - len(failed)} of {len(cells)} without a failure", *failed, sep="\n")
    return bool(failed)


def failures(server: str, cells: Iterable[tuple[str, str, bool]]) -> list[str]:
    """Run cells on new databases of a server, and return what went wrong."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    failed = []
    for stage, fault, keys in cells:
        receiving, sending = context.Pipe(duplex=False)
        with temporary_database(server) as url:
            child = context.Process(target=_run, args=(url, stage, fault, keys, sending), daemon=True)
            child.start()
            sending.close()
            try:
                problem = receiving.recv() if receiving.poll(_REAL_SECONDS) else "it did not end"
            except EOFError:
                problem = "its process crashed"
            child.kill()
            child.join()
            receiving.close()
        if problem:
            failed.append(f"{stage} / {fault}{', keys' if keys else ''}: {problem}")
    return failed


def _run(url: str, stage: str, fault: str, keys: bool, result: "Connection[str, Any]") -> None:  # noqa: FBT001
    logging.disable()
    try:
        with tempfile.TemporaryDirectory() as folder, observed_databases():
            loop = WorkerLoop()
            loop.run_until_complete(_cell(url, stage, fault, Path(folder), keys=keys))
            result.send("")
    except BaseException as error:  # noqa: BLE001  # reported by the caller
        result.send(repr(error))
    os._exit(0)


async def _cell(url: str, stage: str, fault: str, folder: Path, *, keys: bool) -> None:
    options = {"durations": _short, "failure_rate": 0, "approval": "auto", "idempotency_keys": keys}
    async with worker_world(url, **options) as world, asyncio.timeout(_LONGEST):
        _prepare(world, stage)
        tickets = [
            await world.queue.submit(request_for(world.simulator, reference=name, topic=name))
            for name in _names(stage)
        ]
        struck = asyncio.Event()
        one = world.start("one", keys=keys, concurrency=1, download_to=folder)

        def strike() -> None:
            if not struck.is_set() and STAGES[stage](world):
                struck.set()
                FAULTS[fault](world, one)

        one.strike = strike
        await one.until(struck)
        world.start("two", keys=keys, concurrency=1, download_to=folder)
        outcomes = [await ticket for ticket in tickets]
        created = [production.body["topic"] for production in world.simulator.productions.values()]
        may_be_uncertain = set() if keys else {"first", "second"}
        if not keys and stage in _WITHOUT_KEYS:
            may_be_uncertain.add("target")
        for outcome in outcomes:
            _check(outcome, created.count(outcome.reference), may_be_uncertain)
        assert world.simulator.rate_limited == 0, "a 429"


def _short(_: Random, __: str) -> list[Stage]:
    return [("Queued", 5.0), ("Producing", 20.0), ("Distributing", 5.0)]


def _names(stage: str) -> list[str]:
    """Return the references: others come first where the target has to wait."""
    others = {"in the queue": ["first", "second"], "waiting for a slot": ["first"]}.get(stage, [])
    return [*others, "target"]


def _prepare(world: WorkerWorld, stage: str) -> None:
    """Let the request reach the stage, and stay in it."""
    faults = world.simulator.faults
    match stage:
        case "sent and not received":
            faults.add("hang_before")
        case "sent and created":
            faults.add("hang")
        case "awaiting approval":
            world.simulator.when().awaits_approval(60.0)
        case "collecting files":
            faults.add("slow", on="download", seconds=20.0)
        case "uncertain":
            faults.add("missing_id_and_location")


def _check(outcome: Outcome, created: int, may_be_uncertain: set[str]) -> None:
    if outcome.state is OutcomeState.UNCERTAIN and outcome.reference in may_be_uncertain:
        assert created <= 1, f"{outcome.reference} was created {created} times"
        return
    found = f"{outcome.reference} is {outcome.state}, and was created {created} times"
    assert (outcome.state, created) == (OutcomeState.PUBLISHED, 1), found
    assert outcome.files, f"{outcome.reference} has no files"
    assert all(path.exists() for path in outcome.files), f"{outcome.reference} lacks files"
