"""The library in a program of anyio, run by anyio's pytest plugin; `tests/test_event_loops.py` starts it.

In a process of its own, because pytest-asyncio in its "auto" mode takes every asynchronous test for itself.
anyio cancels again at each await until its scope has ended, so it also cancels what the library does to end.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from jarai_async import Finished, JaraiClient, Orchestrator, Outcome
from jarai_async.simulator import SimulatedEventLoop, Simulator
from tests.support.leaks import open_descriptors
from tests.support.orchestrators import library_tasks
from tests.support.scenarios import request_for, requests_for

pytestmark = pytest.mark.anyio

DELAYS = [0.3, 1.0, 30.0]  # seconds until the scope is cancelled


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": SimulatedEventLoop}


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(approval="auto", failure_rate=0.0, latency=1.0) as simulator:
        yield simulator


def new_client(simulator: Simulator) -> JaraiClient:
    return JaraiClient(simulator.api_key, base_url=simulator.base_url)


@pytest.mark.parametrize("seconds", DELAYS)
async def test_task_group_that_is_cancelled_while_a_run_is_read(
    simulator: Simulator, seconds: float, tmp_path: Path
) -> None:
    """The next run has every outcome, and no production was paid for twice."""
    requests = [request_for(simulator, topic=f"{n}", reference=f"{n}") for n in range(4)]
    ended: list[Outcome] = []

    async def program() -> None:
        async with (
            new_client(simulator) as client,
            Orchestrator(
                client, journal=tmp_path / "journal", download_to=tmp_path / "files"
            ) as orchestrator,
        ):
            events = orchestrator.run(requests)
            ended.extend([event.outcome async for event in events if isinstance(event, Finished)])

    async with anyio.create_task_group() as group:
        group.start_soon(program)
        await anyio.sleep(seconds)
        group.cancel_scope.cancel()
    assert library_tasks() == []
    await program()
    assert len(ended) == len(simulator.productions) == 4
    assert {outcome.ok for outcome in ended} == {True}


async def submit(client: JaraiClient, simulator: Simulator, _: Path) -> object:
    return await client.submit(request_for(simulator))


async def fetch(client: JaraiClient, simulator: Simulator, _: Path) -> object:
    return await client.fetch(next(iter(simulator.productions)))


async def download(client: JaraiClient, simulator: Simulator, folder: Path) -> object:
    files = await client.deliverables(next(iter(simulator.productions)))
    return await client.download(files[0], folder / "file")


@pytest.mark.parametrize("seconds", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("call", [submit, fetch, download])
async def test_call_that_is_cancelled_by_move_on_after(
    simulator: Simulator,
    call: Callable[[JaraiClient, Simulator, Path], Awaitable[object]],
    seconds: float,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """Its slot is free again, a file is whole or not there, and what a submit created is in the log."""
    async with new_client(simulator) as client:
        await client.wait((await client.submit(request_for(simulator))).id)
        simulator.faults.add("slow", on="download", seconds=2, times=None)
        result, before = None, open_descriptors()
        with anyio.move_on_after(seconds):
            result = await call(client, simulator, tmp_path)
        assert client.engine.limiter.in_flight == 0
        await anyio.sleep(60)
        assert library_tasks() == []
        assert open_descriptors() <= before + 1  # one idle connection
        assert await client.fetch(next(iter(simulator.productions)))
    created = [*simulator.productions.values()][1:]
    if created and result is None:
        assert str(created[0].idempotency_key) in caplog.text
    size = (tmp_path / "file").stat().st_size if (tmp_path / "file").exists() else None
    video = max(len(data) for data in simulator.files(next(iter(simulator.productions))).values())
    assert size in (None, video)
    assert [path.name for path in tmp_path.iterdir()] == (["file"] if size else [])


@pytest.mark.parametrize("seconds", DELAYS)
async def test_orchestrator_in_fail_after_keeps_what_it_paid_for(
    simulator: Simulator, seconds: float, tmp_path: Path
) -> None:
    """The block raises TimeoutError, and the same journal opens at once and continues."""
    requests = requests_for(simulator, 2)
    states = []
    for limit in (seconds, 3600.0):
        try:
            with anyio.fail_after(limit):
                async with (
                    new_client(simulator) as client,
                    Orchestrator(client, journal=tmp_path / "journal") as orchestrator,
                ):
                    tickets = [orchestrator.submit(request) for request in requests]
                    states = [(await ticket).state for ticket in tickets]
        except TimeoutError:
            assert limit == seconds
        assert library_tasks() == []
    assert states == ["published", "published"]
    assert len(simulator.productions) == 2
