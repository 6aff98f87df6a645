"""The library in event loops, task factories and contexts that the application chooses."""

import asyncio
import logging
import subprocess
import sys
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from random import Random

import anyio
import pytest

from jarai_async import JaraiClient, Orchestrator, Polling
from jarai_async._journal import entries
from jarai_async._journal.journal import SqliteJournal
from jarai_async._tasks import start
from jarai_async.receiver import Receiver
from jarai_async.simulator import Simulator, Stage
from jarai_async.webhooks import WebhookEvent
from tests.support.deliveries import SECRET, deliver, numbered
from tests.support.event_loops import TickLoop
from tests.support.orchestrators import library_tasks, outcomes_of
from tests.support.scenarios import request_for, requests_for

_trace: ContextVar[str] = ContextVar("trace", default="none")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks need Python 3.12")
async def test_resumed_journal_is_polled_under_an_eager_task_factory(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """The first poll has a free slot, so the poller would run to its end before anything knows of it."""
    asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009
    requests = requests_for(simulator, 1)
    async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
        ticket = orchestrator.submit(requests[0])
        await asyncio.sleep(60)
        assert ticket.production
    await asyncio.sleep(600)  # then it is due
    async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as second:
        async with asyncio.timeout(24 * 3600):
            outcomes = await outcomes_of(Orchestrator(second, journal=tmp_path / "journal"), requests)
    assert [outcome.state for outcome in outcomes] == ["published"]


async def test_each_production_is_polled_in_the_context_of_its_own_caller(
    simulator: Simulator, client: JaraiClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Logs and traces of a production never appear under the request that happened to be the first."""
    traces: dict[str, set[str]] = {}
    handler = logging.Handler()
    handler.emit = lambda record: traces.setdefault(str(record.args), set()).add(_trace.get())  # type: ignore[method-assign]
    logger = logging.getLogger("jarai_async")
    logger.addHandler(handler)
    caplog.set_level(logging.DEBUG, "jarai_async")
    simulator.faults.add("internal_error", on="fetch", times=None, probability=0.3)

    async def wait(trace: str) -> str:
        _trace.set(trace)
        production = await client.submit(request_for(simulator))
        return (await client.wait(production.id)).id

    ids = await asyncio.gather(*(start(wait, f"caller {n}") for n in range(5)))
    logger.removeHandler(handler)
    for number, production_id in enumerate(ids):
        seen = set().union(*(trace for args, trace in traces.items() if production_id in args))
        assert seen == {f"caller {number}"}


# --- Cancellation that is repeated -----------------------------------------------------------------


@pytest.mark.parametrize("cancelled_by", ["anyio scope", "anyio task group", "asyncio, again and again"])
async def test_submit_on_its_way_is_awaited_whatever_cancels_the_block(
    cancelled_by: str, tmp_path: Path
) -> None:
    """anyio cancels again at every await until its scope ends. The identifier is not lost all the same."""
    async with Simulator(latency=0.0) as simulator:
        simulator.faults.add("slow", on="submit", times=None, seconds=3)

        async def program() -> None:
            async with (
                JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
                Orchestrator(client, journal=tmp_path / "journal") as orchestrator,
            ):
                await orchestrator.submit(request_for(simulator, reference="tides"))

        if cancelled_by == "anyio scope":
            with anyio.move_on_after(1) as scope:
                await program()
            assert scope.cancelled_caught
        elif cancelled_by == "anyio task group":
            async with anyio.create_task_group() as group:
                group.start_soon(program)
                await asyncio.sleep(1)
                group.cancel_scope.cancel()
        else:
            task = start(program)
            for _ in range(30):
                await asyncio.sleep(0.1)
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert library_tasks() == []
        (production_id,) = simulator.productions
    journal = await SqliteJournal.open(tmp_path / "journal")
    (intent,) = await journal.intents()
    await journal.close()
    assert intent.stage is entries.Stage.ACCEPTED
    assert intent.production is not None
    assert intent.production.id == production_id


async def test_receiver_that_is_closed_completes_its_callback_whatever_cancels() -> None:
    """`on_event` has ten seconds; the events that are still queued then are dropped."""
    completed = []

    async def on_event(event: WebhookEvent) -> None:
        await asyncio.sleep(4)
        completed.append(event.sequence_number)

    receiver = Receiver(SECRET, on_event)
    assert {await deliver(receiver, numbered(number)) for number in range(3)} == {204}
    with anyio.CancelScope() as scope:
        scope.cancel()
        await receiver.close()
    assert completed == [0, 1]


# --- Coarse clocks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("whole_ticks", [True, False])
def test_batch_is_finished_although_timers_fire_early(*, whole_ticks: bool, tmp_path: Path) -> None:
    """No wake-up is followed by the same wait, and none sends a request before its slot is free."""

    async def batch() -> tuple[set[str], int, int]:
        async with (
            Simulator(tier="standard", approval="auto", failure_rate=0.0, latency=0.0) as simulator,
            JaraiClient(simulator.api_key, base_url=simulator.base_url, random=Random(1)) as client,
            Receiver(SECRET) as receiver,
            receiver.serve() as url,
        ):
            simulator.add_webhook(url, ["production.queued", "production.published"], signing_secret=SECRET)
            simulator.faults.add("unavailable", on="submit", times=3)
            orchestrator = Orchestrator(client, journal=tmp_path / "journal", webhooks=receiver)
            outcomes = await outcomes_of(orchestrator, requests_for(simulator, 8))
            return {outcome.state for outcome in outcomes}, len(outcomes), simulator.rate_limited

    with asyncio.Runner(loop_factory=partial(TickLoop, whole_ticks=whole_ticks)) as runner:
        assert runner.run(batch()) == ({"published"}, 8, 0)


# --- Other loops, in real time ---------------------------------------------------------------------


async def _whole_program(folder: Path) -> None:
    """Use the client, an orchestrator with its journal and files, webhooks and a cancel scope."""

    def durations(_: Random, __: str) -> list[Stage]:
        return [("Queued", 0.1), ("Producing", 0.2), ("Distributing", 0.1)]

    async with (
        Simulator(durations=durations, approval="auto", failure_rate=0.0, latency=0.01) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Receiver(SECRET) as receiver,
        receiver.serve() as url,
        anyio.create_task_group() as group,
    ):
        simulator.add_webhook(url, ["production.queued", "production.published"], signing_secret=SECRET)
        orchestrator = Orchestrator(
            client,
            journal=folder / "journal",
            download_to=folder / "files",
            polling=Polling(min_interval=0.1, max_interval=0.5),
            webhooks=receiver,
        )
        with anyio.fail_after(60):
            group.start_soon(client.accounts)
            outcomes = await outcomes_of(orchestrator, requests_for(simulator, 1))
        assert [outcome.state for outcome in outcomes] == ["published"]
        assert all(path.exists() for outcome in outcomes for path in outcome.files)
        with anyio.move_on_after(0.05) as scope:
            await client.wait((await client.submit(request_for(simulator))).id)
        assert scope.cancelled_caught


def _loop(name: str) -> asyncio.AbstractEventLoop:
    if name == "uvloop":
        loop: asyncio.AbstractEventLoop = pytest.importorskip("uvloop").new_event_loop()
        return loop
    loop = asyncio.new_event_loop()
    loop.set_debug(name == "debug")
    if name == "eager":
        loop.set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009
    return loop


_EAGER = pytest.param(
    "eager", marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks need Python 3.12")
)


@pytest.mark.parametrize("name", ["asyncio", "debug", "uvloop", _EAGER])
def test_whole_program_runs_in_each_event_loop(name: str, tmp_path: Path) -> None:
    """Real time, real sockets, the loop's own timers."""
    with asyncio.Runner(loop_factory=partial(_loop, name)) as runner:
        runner.run(_whole_program(tmp_path))


def test_whole_program_runs_under_anyio(tmp_path: Path) -> None:
    anyio.run(_whole_program, tmp_path, backend="asyncio")


def test_programs_of_anyio_pass_under_its_pytest_plugin() -> None:
    """In another process: in the "auto" mode of this one pytest-asyncio would run them."""
    tests = Path(__file__).parent / "support" / "anyio_tests.py"
    command: list[str] = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-o",
        "asyncio_mode=strict",
        str(tests),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stdout
    assert "15 passed" in result.stdout
