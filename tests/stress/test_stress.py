"""Short runs of the stress tests; `python -m tests.stress` has the long ones."""

import asyncio
import gc
import warnings
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from aiohttp import ClientSession

from jarai_async import _clock
from jarai_async.simulator import Simulator
from tests.stress import campaign, crashes, event_logs, mutants
from tests.stress.event_logs import World
from tests.stress.invariants import violations
from tests.stress.worlds import run_world, scenario_of, scratch_folder

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # of crashed processes

SAMPLE = [world for world in list(event_logs.worlds())[::9] if world in event_logs.worlds_to_check()]


@pytest.fixture(autouse=True)
def _databases_close_on_crash(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("sqlite3.connect", crashes.connect)
    gc.freeze()  # the search below looks only at what the test has created
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # crashed processes do not close their files
        gc.collect()
        gc.unfreeze()


def test_nothing_is_lost_or_duplicated_in_worlds_with_faults() -> None:
    """Every invariant holds in each of these worlds."""
    tally = campaign.Tally()
    for n in range(8):
        tally.add(campaign.run_seed(f"test-{n}"))
    assert tally.failed == []
    assert tally.counts["worlds"] == 8
    assert len(tally.faults) > 8


@pytest.mark.parametrize("number", [2, 4])
def test_nothing_is_lost_or_duplicated_after_a_crash(number: int) -> None:
    """Every invariant holds when the program crashes at one of these steps, and again in the next run."""
    crashed = 0
    for step in range(3 + number, 190, 13):
        with scratch_folder() as folder:
            result = run_world(scenario_of(f"crash-{number}"), folder, step, step // 3)
            assert violations(result) == []
            crashed += sum(record.crashed for record in result.runs)
    assert crashed > 10


def test_a_world_is_reproducible() -> None:
    """Running it twice gives the same events at the same times, so a failure can be replayed."""

    def run() -> list[object]:
        with scratch_folder() as folder:
            result = run_world(scenario_of("test-0"), folder)
        return [(event.reference, event.sequence, event.observed_at) for event in result.runs[0].events]

    assert run() == run()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda machine: machine.set_clock(-3600.0), (10, 10 - 3600, 10)),
        (lambda machine: machine.sleep(100.0, stops_clock=True), (10, 110, 110)),
        (lambda machine: machine.sleep(100.0, stops_clock=False), (105, 105, 105)),
    ],
)
def test_clocks_of_a_machine(
    change: Callable[[crashes.Machine], None], expected: tuple[float, float, float]
) -> None:
    """The seconds on its two clocks, and on that of the server, while a program on it sleeps for ten."""

    async def program(clocks: list[tuple[float, float]]) -> None:
        for seconds in (0, 10):
            await asyncio.sleep(seconds)
            clocks.append((_clock.monotonic(), _clock.wall()))

    async def world() -> tuple[float, ...]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, crashes.CrashableLoop)
        machine, clocks = crashes.Machine(loop), list[tuple[float, float]]()
        loop.call_later(5, change, machine)
        await crashes.CrashableProcess(machine, loop).run(program(clocks))
        return (*(after - before for before, after in zip(*clocks, strict=True)), loop.time())

    with asyncio.Runner(loop_factory=crashes.CrashableLoop) as runner:
        assert runner.run(world()) == expected


def test_machine_that_sleeps_reads_nothing_until_it_wakes() -> None:
    """What arrives meanwhile stays in the socket, and does not keep the clock from advancing."""

    async def program(url: str) -> None:
        async with ClientSession() as session, session.get(url) as response:
            await response.read()

    async def world() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, crashes.CrashableLoop)
        machine = crashes.Machine(loop)
        async with Simulator(latency=10) as simulator:
            loop.call_later(0.001, partial(machine.sleep, 1000, stops_clock=True))
            await crashes.CrashableProcess(machine, loop).run(program(simulator.base_url))
            (request,) = simulator.requests
            assert request.arrived < 200
            return loop.time()

    with asyncio.Runner(loop_factory=crashes.CrashableLoop) as runner:
        assert runner.run(world()) == 1000.001


def test_mutants_fit_the_source() -> None:
    """Each mutant of `python -m tests.stress mutants` still changes the line that it was written for."""
    assert mutants.outdated() == []


@pytest.mark.parametrize("world", SAMPLE, ids=event_logs.name_of)
def test_recorded_event_log_is_reproduced(world: World) -> None:
    """The events of a recorded world are the same as before, with and without crashes."""
    name, digest = event_logs.named_digest(world)
    if digest != event_logs.recorded()[name]:
        pytest.fail(event_logs.how_to_compare(name), pytrace=False)
