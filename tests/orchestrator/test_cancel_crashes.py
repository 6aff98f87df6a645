"""A process that crashes at any step of a cancel: it was not requested yet, or it is carried out."""

import asyncio
import gc
import sqlite3
from pathlib import Path
from random import Random

import pytest
from attrs import define

from jarai_async import JaraiClient, JournalEntry, Orchestrator, read_journal
from jarai_async.simulator import Simulator
from tests.stress.crashes import CrashableLoop, CrashableProcess, Machine, connect
from tests.stress.worlds import scratch_folder
from tests.support.scenarios import request_for

_SECONDS_BEFORE_CANCEL = {
    "while it is produced": 20.0,
    "while its submit is on its way": 2.0,
    "unsent": 20.0,
}


def a_day(_: Random, __: str) -> list[tuple[str, float]]:
    return [("Queued", 10), ("Producing", 86_400.0), ("Distributing", 60)]


@define
class Result:
    """What a world shows: whether the journal had the cancel after the crash, and whether it had returned.

    `steps` are those of the first process since the cancel, `status` is that of the production in the end,
    and `created` the number of productions that were created for the request.
    """

    steps: range
    was_requested: bool
    had_returned: bool
    status: str | None
    created: int


async def crash_and_continue(path: Path, when: str, crash_at: int | None) -> Result:
    """Cancel the request "mine" in a process that crashes at this step, and run a second one."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, CrashableLoop)  # for the type checker
    had_returned, first_step = False, 0
    async with Simulator(approval="auto", failure_rate=0, durations=a_day, latency=0.05) as simulator:
        simulator.faults.add("slow", on="submit", seconds=5)

        async def cancel() -> None:
            nonlocal had_returned, first_step
            async with (
                JaraiClient(simulator.api_key, base_url=simulator.base_url, random=Random(1)) as client,
                Orchestrator(client, journal=path, concurrency=1) as orchestrator,
            ):
                if when == "unsent":
                    orchestrator.submit(request_for(simulator, reference="other"))
                ticket = orchestrator.submit(request_for(simulator, reference="mine", topic="mine"))
                await asyncio.sleep(_SECONDS_BEFORE_CANCEL[when])
                first_step = process.steps
                await ticket.cancel()
                had_returned = True

        async def resume() -> None:
            async with (
                JaraiClient(simulator.api_key, base_url=simulator.base_url, random=Random(2)) as client,
                Orchestrator(client, journal=path) as orchestrator,
            ):
                await orchestrator.resume()
                await asyncio.sleep(60)

        machine = Machine(loop)
        process = CrashableProcess(machine, loop, crash_at)
        try:
            await process.run(cancel())
            after_crash = entry_in(path)
            await CrashableProcess(machine, loop).run(resume())
        finally:
            loop.set_exception_handler(lambda _, __: None)
            await process.drain()
        entry = entry_in(path)
        production = None if entry is None else entry.production
        return Result(
            range(first_step, process.steps + 1),
            after_crash is not None and (after_crash.cancel_requested or after_crash.stage == "ended"),
            had_returned,
            None if production is None else production.status,
            [one.body["topic"] for one in simulator.productions.values()].count("mine"),
        )


def entry_in(path: Path) -> JournalEntry | None:
    entries = read_journal(path) if path.exists() else iter(())
    return next((entry for entry in entries if entry.reference == "mine"), None)


def run(when: str, crash_at: int | None) -> Result:
    with scratch_folder() as folder, asyncio.Runner(loop_factory=CrashableLoop) as runner:
        result = runner.run(crash_and_continue(folder / "journal", when, crash_at))
    gc.collect()
    return result


@pytest.mark.filterwarnings("ignore:(Unclosed|<JaraiClient):ResourceWarning")  # by a process that has crashed
@pytest.mark.parametrize("when", _SECONDS_BEFORE_CANCEL)
def test_cancel_is_carried_out_after_a_crash_at_any_step(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the journal has the cancel, nothing is submitted any more, and the production is cancelled.

    Only after a crash before the response to its submit, the user has to find the production first.
    """
    monkeypatch.setattr(sqlite3, "connect", connect)
    whole = run(when, None)
    results = [run(when, step) for step in whole.steps[::2]]  # each second one takes long enough
    assert [result for result in results if result.had_returned and not result.was_requested] == []
    requested = [result for result in [whole, *results] if result.was_requested]
    others = [result for result in results if not result.was_requested]
    assert len(requested) > 5
    assert len(others) > 1
    assert "Cancelled" not in {result.status for result in others}
    if when == "unsent":
        assert {result.created for result in requested} == {0}
    elif when == "while it is produced":
        assert {result.status for result in requested} == {"Cancelled"}
    else:
        assert {result.status for result in requested} == {"Cancelled", None}
    assert {result.created for result in results} <= {0, 1}
