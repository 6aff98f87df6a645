"""Real kills: a process of its own runs a batch, and SIGKILL strikes it at a random moment, again and again.

The simulator is here, the program in a child that is forked from a warm process. Both clocks run evenly, many
times as fast as the world's. Once a child has lived to its end the batch is run a last time in this process,
and what that is told is compared with the truth.
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
from tests.stress.invariants import lasting
from tests.stress.program import Life, Program, Seen
from tests.stress.worlds import Played, Scenario, listening, requests_for, scratch, simulator_of

_SPEED = 30.0
_LONGEST = 30.0  # simulated seconds that a child may live before it is killed, once it has begun
_AT_A_TIME = 4  # batches
_KILLS = 12  # of one batch; then it is let live


@define
class Killed:
    """What some batches came to."""

    kills: int = 0
    batches: int = 0
    uncertain: int = 0
    executed: int = 0
    failed: list[str] = field(factory=list)


def kill(kills: int, *, idempotency_keys: bool) -> Killed:
    """Strike so many times in all."""
    multiprocessing.set_forkserver_preload(["_kills"])
    killed = Killed()
    run(_strike(killed, kills, idempotency_keys=idempotency_keys), speed=_SPEED)
    return killed


async def _strike(killed: Killed, kills: int, *, idempotency_keys: bool) -> None:
    async def batches() -> None:
        while killed.kills < kills:
            killed.batches += 1
            await _batch(killed, f"kill-{killed.batches}", idempotency_keys=idempotency_keys)

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_A_TIME):
            group.create_task(batches())


async def _batch(killed: Killed, seed: str, *, idempotency_keys: bool) -> None:
    random = Random(seed)
    keys = idempotency_keys
    scenario = Scenario(
        seed=seed,
        count=5,
        concurrency=3,
        server_keys=keys,
        client_keys=keys,
        tickets=False,
        tier="enterprise",
        latency=3.0,  # so that some are struck while they submit
        ceiling=None,
        failure_rate=0.1,
        expiry_rate=0.1,
        troubles=(),
        lives=(),
        deliverability=None,
    )
    log: list[str] = []
    with scratch() as folder:
        async with simulator_of(scenario) as simulator:
            requests = requests_for(simulator, scenario.count)
            program = Program(
                api_key=simulator.api_key,
                base_url=simulator.base_url,
                requests=requests,
                folder=folder,
                idempotency_keys=keys,
                concurrency=scenario.concurrency,
                tickets=False,
                seed=seed,
            )
            struck = 0
            while struck < _KILLS and await _killed(program, random.uniform(0, random.uniform(0, _LONGEST))):
                struck += 1
                killed.kills += 1
            await _killed(program, None)
            seen = Seen(Life(), lambda: 0)
            with listening(log):
                await program.run(Life(), seen)
            played = Played(scenario, simulator, folder, [seen], [], log)
            played.now = asyncio.get_running_loop().time()
            killed.failed += [f"{seed}, {struck} kills: {one}" for one in lasting(played)]
        _count(killed, played)


def _count(killed: Killed, played: Played) -> None:
    outcomes = played.seen[-1].outcomes
    uncertain = [name for name, one in outcomes.items() if one.state is OutcomeState.UNCERTAIN]
    made = {one.body["topic"] for one in played.simulator.productions.values()}
    killed.uncertain += len(uncertain)
    killed.executed += sum(name in made for name in uncertain)


async def _killed(program: Program, after: float | None) -> bool:
    """Run the program in a process, and kill it after so many simulated seconds; False if it was faster."""
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(program, theirs), daemon=True)
    child.start()
    theirs.close()
    await _readable(ours)  # it has begun; or has ended, which is found out next
    ours.close()
    ended = await _ended(child, after)
    if not ended:
        child.kill()
        await _ended(child, None)
    struck = child.exitcode == -9
    if not struck and child.exitcode:
        raise RuntimeError(f"the program ended with {child.exitcode}")
    child.close()
    return struck


async def _ended(child: ForkServerProcess, within: float | None) -> bool:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(child.sentinel, ended.set)
    try:
        async with asyncio.timeout(within):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(child.sentinel)
    child.join()
    return True


async def _readable(port: "Connection[Any, Any]") -> None:
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(port.fileno(), readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(port.fileno())


def _child(program: Program, begun: "Connection[Any, Any]") -> None:
    logging.disable()
    begun.send(None)
    begun.close()
    run(program.run(Life(), Seen(Life(), lambda: 0)), speed=_SPEED)
