"""Real kills: a process runs a batch and gets a SIGKILL at a random time, again and again.

The simulator runs in this process, the program in a child that is forked from a process with all imports
done. The clocks of both run evenly, at several times real time. Once a child has run to its end, this process
runs the batch a last time and compares what that observes with what the simulator knows.
"""

import asyncio
import logging
import multiprocessing
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from random import Random
from typing import Any

from attrs import define, field

from jarai_async import OutcomeState
from jarai_async.simulator import run
from tests.stress.invariants import final_violations, productions_of
from tests.stress.program import Program, RunPlan, RunRecord
from tests.stress.worlds import (
    Scenario,
    WorldResult,
    capture_log,
    make_requests,
    make_simulator,
    scratch_folder,
)

_SPEED = 30.0
_LONGEST = 30.0  # simulated seconds from the start of a child to the latest kill
_AT_A_TIME = 4  # batches
_MOST_KILLS = 12  # of one batch; then its child may run to the end


@define
class KillResults:
    """The sums over some batches; `created` counts the uncertain outcomes whose production exists."""

    kills: int = 0
    batches: int = 0
    uncertain: int = 0
    created: int = 0
    failed: list[str] = field(factory=list)


def run_batches(kills: int, *, idempotency_keys: bool) -> KillResults:
    """Run batches until this many processes have been killed."""
    multiprocessing.set_forkserver_preload([__name__])
    results = KillResults()
    run(_run_batches(results, kills, idempotency_keys=idempotency_keys), speed=_SPEED)
    return results


async def _run_batches(results: KillResults, kills: int, *, idempotency_keys: bool) -> None:
    async def one_after_the_other() -> None:
        while results.kills < kills:
            results.batches += 1
            await _run_batch(results, f"kill-{results.batches}", idempotency_keys=idempotency_keys)

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_A_TIME):
            group.create_task(one_after_the_other())


async def _run_batch(results: KillResults, seed: str, *, idempotency_keys: bool) -> None:
    random, scenario = Random(seed), _scenario(seed, idempotency_keys=idempotency_keys)
    with scratch_folder() as folder:
        async with make_simulator(scenario) as simulator:
            program = Program(
                api_key=simulator.api_key,
                base_url=simulator.base_url,
                requests=make_requests(simulator, scenario.references),
                folder=folder,
                idempotency_keys=idempotency_keys,
                concurrency=scenario.concurrency,
                tickets=False,
                seed=seed,
            )
            kills = 0
            while kills < _MOST_KILLS and await _is_killed(
                program, after=random.uniform(0, random.uniform(0, _LONGEST))
            ):
                kills += 1
                results.kills += 1
            await _is_killed(program, after=None)
            record = RunRecord(RunPlan(), lambda: 0)
            result = WorldResult(scenario, simulator, folder, runs=[record])
            with capture_log(result.log):
                await program.run(record.plan, record)
            result.ended_at = asyncio.get_running_loop().time()
            results.failed += [
                f"{seed}, {kills} kills: {violation}" for violation in final_violations(result)
            ]
    uncertain = [
        reference for reference, outcome in record.outcomes.items() if outcome.state is OutcomeState.UNCERTAIN
    ]
    results.uncertain += len(uncertain)
    results.created += sum(reference in productions_of(result) for reference in uncertain)


def _scenario(seed: str, *, idempotency_keys: bool) -> Scenario:
    return Scenario(
        seed=seed,
        references=tuple(f"item-{n}" for n in range(5)),
        concurrency=3,
        server_keys=idempotency_keys,
        client_keys=idempotency_keys,
        tickets=False,
        tier="enterprise",
        latency=3.0,  # so that some processes are killed during a submit
        spend_ceiling=None,
        failure_rate=0.1,
        expiry_rate=0.1,
        faults=(),
        plans=(),
        deliverability=None,
    )


async def _is_killed(program: Program, *, after: float | None) -> bool:
    """Run the program in a process and kill it after these simulated seconds; False if it ended before."""
    context = multiprocessing.get_context("forkserver")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=_run_child, args=(program, sending), daemon=True)
    child.start()
    sending.close()
    await _readable(receiving.fileno())  # the child has started, or has ended already
    receiving.close()
    ended = await _has_ended(child, after)
    if not ended:
        child.kill()
        await _has_ended(child, None)
    killed = child.exitcode == -9
    if not killed and child.exitcode:
        raise RuntimeError(f"the program ended with exit code {child.exitcode}")
    child.close()
    return killed


async def _has_ended(child: ForkServerProcess, within: float | None) -> bool:
    try:
        async with asyncio.timeout(within):
            await _readable(child.sentinel)
    except TimeoutError:
        return False
    child.join()
    return True


async def _readable(descriptor: int) -> None:
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)


def _run_child(program: Program, started: "Connection[Any, Any]") -> None:
    logging.disable()
    started.send(None)
    started.close()
    run(program.run(RunPlan(), RunRecord(RunPlan(), lambda: 0)), speed=_SPEED)
