"""Short runs of the stress tests; `python -m tests.stress` has the long ones."""

import gc
import warnings
from collections.abc import Iterator

import pytest

from tests.stress import campaign, crashes, event_logs, mutants
from tests.stress.event_logs import World
from tests.stress.invariants import violations
from tests.stress.worlds import run_world, scenario_of, scratch_folder

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # of crashed processes

SAMPLE = [world for world in list(event_logs.worlds())[::5] if world in event_logs.worlds_to_check()]


@pytest.fixture(autouse=True)
def _databases_close_on_crash(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("sqlite3.connect", crashes.connect)
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # crashed processes do not close their files
        gc.collect()


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


def test_mutants_fit_the_source() -> None:
    """Each mutant of `python -m tests.stress mutants` still changes the line that it was written for."""
    assert mutants.outdated() == []


@pytest.mark.parametrize("world", SAMPLE, ids=event_logs.name_of)
def test_recorded_event_log_is_reproduced(world: World) -> None:
    """The events of a recorded world are the same as before, with and without crashes."""
    name, digest = event_logs.named_digest(world)
    if digest != event_logs.recorded()[name]:
        pytest.fail(event_logs.how_to_compare(name), pytrace=False)
