"""What several processes have learned is added up."""

from random import Random

import pytest

from jarai_async import Status
from jarai_async._polling.merge import added
from jarai_async._polling.sojourn import Sojourns
from jarai_async._polling.steps import Steps


def _observe(sojourns: Sojourns, rng: Random, count: int) -> None:
    for _ in range(count):
        project_type = rng.choice(["social-video-30s", "podcast"])
        age = rng.uniform(0, 900)
        sojourns.record_stay(project_type, Status.PRODUCING, 0, age)
        sojourns.record_transition(project_type, Status.PRODUCING, age, age + rng.uniform(1, 60))


def test_durations_learned_by_two_workers_are_those_that_one_would_have_learned() -> None:
    alone, first, second = Sojourns(), Sojourns(), Sojourns()
    total = before_first = before_second = Sojourns().export_state()
    for seed in range(6):  # the workers look in turn
        worker, before = (first, before_first) if seed % 2 == 0 else (second, before_second)
        _observe(worker, Random(seed), 20)
        _observe(alone, Random(seed), 20)
        total = added(total, worker.export_state(), before)
        worker.use(total)
        before_first, before_second = (total, before_second) if seed % 2 == 0 else (before_first, total)
    expected, learned = alone.export_state()["counts"], total["counts"]
    assert len(learned) == len(expected) == 2
    for item in expected:
        same = next(one for one in learned if one["project_type"] == item["project_type"])
        assert same["seconds"] == pytest.approx(item["seconds"])
        assert same["transitions"] == pytest.approx(item["transitions"])
    assert second.hazard("podcast", Status.PRODUCING, 60) != Sojourns().hazard(
        "podcast", Status.PRODUCING, 60
    )


def test_failures_of_steps_are_added_up() -> None:
    first, second = Steps(Sojourns()), Steps(Sojourns())
    for steps in (first, second):
        steps.count("podcast", 100.0, failed=False)
    known = {"ages": [], "counts": [], "steps": first.export_state()}
    second.count("podcast", 500.0, failed=True)
    now = {"ages": [], "counts": [], "steps": second.export_state()}
    first.count("podcast", 70.0, failed=False)
    total = {"ages": [], "counts": [], "steps": first.export_state()}
    (kind,) = added(total, now, known)["steps"]
    assert kind["failures"] == 2.0
    assert kind["seconds"] == pytest.approx(20_000 + 100 + 500 + 70)
    first.restore_state([kind])


def test_durations_of_another_version_are_replaced() -> None:
    now = Sojourns().export_state()
    assert added({"ages": [1.0], "counts": []}, now, now) == now
    assert added({}, now, {}) == now
