"""A short run of the campaign: `benchmarks/campaign.py` has the long one."""

import gc
import warnings
from collections.abc import Iterator

import pytest

from tests.stress import campaign, crashes
from tests.stress.invariants import violations
from tests.stress.worlds import play, scratch

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # of the dead


@pytest.fixture(autouse=True)
def _databases_die(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("sqlite3.connect", crashes.connect)
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the dead do not close their files
        gc.collect()


def test_nothing_is_lost_or_done_twice_in_worlds_full_of_faults() -> None:
    """What the program was told is the truth, in each of them."""
    tally = campaign.Tally()
    for n in range(8):
        tally.add(campaign.one_seed(f"test-{n}"))
    assert tally.failed == []
    assert tally.worlds == 8
    assert len(tally.fired) > 8


@pytest.mark.parametrize("crash", [2, 4])
def test_nothing_is_lost_or_done_twice_wherever_the_program_dies(crash: int) -> None:
    """At every so many steps of its life, and once more soon after."""
    seed = f"crash-{crash}"
    died = 0
    for step in range(3 + crash, 190, 13):
        with scratch() as folder:
            played = play(campaign.scenario_of(seed), folder, step, step // 3)
            assert violations(played) == []
            died += sum(seen.died for seen in played.seen)
    assert died > 10


def test_a_world_is_the_same_whenever_it_is_lived() -> None:
    """So a failure can be played again."""

    def life() -> list[object]:
        with scratch() as folder:
            played = play(campaign.scenario_of("test-0"), folder)
        return [(event.reference, event.sequence, event.observed_at) for event in played.seen[0].events]

    assert life() == life()
