"""Steps of Producing: what is learned from them, and that a server which reports nonsense costs nothing."""

import asyncio
import json
import math
from datetime import timedelta
from functools import cache
from itertools import accumulate
from random import Random
from statistics import median
from uuid import UUID

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from jarai_async import Polling, Production, Status
from jarai_async._api.models import parse_id
from jarai_async._http.request_log import RequestLog
from jarai_async._polling.hazards import STEPS
from jarai_async._polling.observer import Observer
from jarai_async._polling.outlook import Evidence, Outlook
from jarai_async._polling.sojourn import Sojourns
from jarai_async._polling.steps import Progress, Steps
from jarai_async._polling.watch import Watch
from jarai_async.webhooks import StepCompleted
from tests.support.poll_worlds import MEANS, NOON, PollWorld, Report, draw_steps
from tests.support.webhook_events import webhook_event

KIND = "article"
PRIOR = Sojourns()
GAPS = st.floats(0, 5_000)


@st.composite
def outlooks(draw: st.DrawFn) -> Outlook:
    """Draw an outlook of either form."""
    return Outlook(
        at=0.0,
        mean=draw(st.floats(1, 10_000)),
        sigma=draw(st.floats(0.001, 2)),
        failing=draw(st.floats(1e-7, 1e-3)),
        last=draw(st.sampled_from([None, STEPS[-1]])),
        age=draw(st.floats(0, 1_000)),
        evidence=Evidence(),
    )


@given(outlooks(), GAPS, GAPS)
def test_expected_delay_begins_at_zero_and_grows_by_less_than_the_gap(
    outlook: Outlook, first: float, second: float
) -> None:
    """Apart from failures, a change cannot be later than now, nor earlier than the last poll."""
    low, high = sorted([first, second])
    delays = [outlook.expected_delay(PRIOR, KIND, gap) for gap in (0.0, low, high)]
    failed = outlook.failing * high * high / 2
    assert delays[0] == 0
    assert delays == sorted(delays)
    assert delays[2] <= high + failed + 1e-6
    assert 0 <= outlook.left_by(PRIOR, KIND, low) <= outlook.left_by(PRIOR, KIND, high) <= 1


@given(outlooks(), st.floats(0.02, 40), st.floats(5, 3_600))
def test_gap_for_a_delay_has_that_delay(outlook: Outlook, delay: float, max_gap: float) -> None:
    """Or it is the longest gap."""
    gap = outlook.gap_for_delay(PRIOR, KIND, delay, max_gap)
    assert 0 < gap <= max_gap
    if outlook.last is None and gap < max_gap:
        assert outlook.expected_delay(PRIOR, KIND, gap) == pytest.approx(delay, rel=0.02)


@given(outlooks(), GAPS, st.floats(0, 5), st.floats(0, 5))
def test_what_is_left_is_never_negative(outlook: Outlook, gap: float, first: float, second: float) -> None:
    """Samples grow with the cumulative hazard."""
    low, high = sorted([first, second])
    assert 0 <= outlook.mean_remaining(PRIOR, KIND, gap) < math.inf
    samples = [outlook.sample_remaining(PRIOR, KIND, gap, one) for one in (low, high)]
    assert 0 <= samples[0] <= samples[1] < math.inf


# --- Learning --------------------------------------------------------------------------------------


def follow(steps: Steps, seconds: list[float], *, until: int = len(STEPS) + 1, kind: str = KIND) -> Progress:
    """Observe a production whose changes are all seen at once, until it is in a step or has ended."""
    now, progress = 0.0, steps.observe(kind, None, 1, 0.0, 0.0, age_known=True)
    assert progress is not None
    for step, spent in enumerate(seconds[: until - 1], start=2):
        now += spent
        if step > len(STEPS):
            steps.left(kind, progress, now, now)
        else:
            steps.observe(kind, progress, step, now, now, age_known=True)
    return progress


def learned(productions: int = 200, *, skipped: tuple[int, ...] = ()) -> Steps:
    """Return what many productions have taught."""
    steps, random = Steps(Sojourns()), Random(1)
    for _ in range(productions):
        follow(steps, [0.0 if n in skipped else spent for n, spent in enumerate(draw_steps(random), 1)])
    return steps


@pytest.mark.parametrize("step", [1, 5, 10, 15])
@pytest.mark.parametrize("skipped", [(), (3, 4, 8)])
def test_time_left_is_learned_for_each_step(step: int, skipped: tuple[int, ...]) -> None:
    """A step that a project type does not use counts as none."""
    steps = learned(skipped=skipped)
    seconds = [0.0 if n in skipped else float(mean) for n, mean in enumerate(MEANS, 1)]
    progress = follow(steps, seconds, until=step)
    outlook = steps.outlook(KIND, progress, progress.since)
    left = sum(seconds[step - 1 :])
    assert outlook.mean_remaining(steps.sojourns, KIND, 0.0) == pytest.approx(left, rel=0.15)


def test_slow_production_is_expected_to_stay_slow() -> None:
    """As far as the steps of other productions were alike."""
    steps = learned()
    by_pace = []
    for pace in (0.7, 1.0, 1.4):
        progress = follow(steps, [pace * mean for mean in MEANS], until=9)
        by_pace.append(steps.outlook(KIND, progress, progress.since).mean)
    assert by_pace[0] < 0.9 * by_pace[1]
    assert by_pace[2] > 1.1 * by_pace[1]


def test_time_left_gets_shorter_within_a_step() -> None:
    """And is known more exactly from step to step."""
    steps = learned()
    progress = follow(steps, [float(mean) for mean in MEANS], until=8)
    early, late = (steps.outlook(KIND, progress, progress.since + age) for age in (0, 100))
    assert late.mean < early.mean - 50
    after = follow(steps, [float(mean) for mean in MEANS], until=13)
    assert steps.outlook(KIND, after, after.since).mean * after.squares > 0
    deviation = [one.mean * one.sigma for one in (early, steps.outlook(KIND, after, after.since))]
    assert deviation[1] < deviation[0]


def test_type_without_experience_uses_that_of_the_others() -> None:
    """Rather than the documented durations."""
    steps = learned()
    progress = follow(Steps(Sojourns()), [float(mean) for mean in MEANS], until=5, kind="another")
    progress.expected = 0.0
    mean = steps.outlook("another", progress, progress.since).mean
    assert mean == pytest.approx(sum(MEANS[4:]), rel=0.2)


def test_restored_steps_forecast_the_same() -> None:
    """After JSON; and what is wrong in it is an error."""
    steps = learned()
    steps.count(KIND, 500.0, failed=True)
    sojourns = Sojourns.restore_state(json.loads(json.dumps(steps.sojourns.export_state())))
    restored, exported = Steps(sojourns), json.loads(json.dumps(steps.export_state()))
    restored.restore_state(exported)
    for step in (1, 8, 15):
        progress = follow(Steps(Sojourns()), [float(mean) for mean in MEANS], until=step)
        assert restored.outlook(KIND, progress, 700) == steps.outlook(KIND, progress, 700)


@pytest.mark.parametrize(
    "damage",
    [{"weight": 0}, {"failures": -1}, {"seconds": math.nan}, {"evidence": "x"}, {"project_type": 5}],
)
def test_damaged_steps_are_an_error(damage: dict[str, object]) -> None:
    """As other damage to what a journal remembers."""
    exported = [learned(1).export_state()[0] | damage]
    with pytest.raises(ValueError, match=r"steps|could not convert"):
        Steps(Sojourns()).restore_state(exported)
    with pytest.raises(ValueError, match="steps"):
        Steps(Sojourns()).restore_state([{}])


# --- Polls -----------------------------------------------------------------------------------------


def honest(_: Random, step: int, __: float) -> int | None:
    return step


def silent(_: Random, __: int, ___: float) -> int | None:
    return None


LIES: dict[str, Report] = {
    "always the same": lambda _, __, ___: 3,
    "always the last": lambda _, __, ___: 15,
    "at random": lambda random, _, __: random.randint(1, 15),
    "goes back": lambda _, __, seconds: 15 - int(seconds // 100) % 15,
    "jumps to the last": lambda random, step, _: 15 if random.random() < 0.1 else step,
    "too early": lambda _, step, __: min(15, step + 5),
    "repeats": lambda _, __, seconds: 1 + int(seconds // 40) % 15,
    "sometimes": lambda random, step, _: step if random.random() < 0.5 else None,
    "outside": lambda random, _, __: random.choice([0, -1, 16, 10**9]),
}


@cache
def lag(report: Report) -> float:
    """Return the mean lag in worlds that differ only in what the server says."""
    worlds = [PollWorld(report, seed=seed) for seed in range(3)]
    return sum(world.run() for world in worlds) / len(worlds)


def test_steps_halve_the_lag() -> None:
    """With the same number of polls, from the first production on."""
    assert lag(honest) < 0.5 * lag(silent)


def test_steps_halve_the_error_of_the_expected_finish() -> None:
    """The median, when half of Producing has passed."""
    errors = []
    for report in (honest, silent):
        world = PollWorld(report, seed=0)
        world.run()
        errors.append(median(world.errors.values()))
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize("lie", LIES)
def test_server_that_lies_about_steps_costs_no_more_than_one_that_reports_none(lie: str) -> None:
    """Its forecasts turn out to be worse than those by the age, so they are not used for long."""
    assert lag(LIES[lie]) < 1.15 * lag(silent)


@settings(max_examples=6)
@given(st.lists(st.none() | st.integers(-1, 17), min_size=15, max_size=15), st.sampled_from([0.0, 0.2, 1.0]))
def test_no_meaning_of_the_steps_costs_more_than_none(meaning: list[int | None], disorder: float) -> None:
    """Whatever the server says in each step, and if it mixes them up at times."""

    def confused(random: Random, step: int, _: float) -> int | None:
        return random.choice(meaning) if random.random() < disorder else meaning[step - 1]

    assert lag(confused) < 1.25 * lag(silent)


# --- Snapshots and webhooks ------------------------------------------------------------------------


@pytest.fixture
async def producing() -> tuple[Observer, Watch]:
    """A production whose Producing began at 0, and which was polled then."""
    production = Production(parse_id(str(UUID(int=1))), Status.PRODUCING, project_type=KIND)
    watch = Watch(production, Polling(), 0.0, 0.0, 0.0, NOON, RequestLog())
    watch.change = asyncio.get_running_loop().create_future()
    observer = Observer(Sojourns(), NOON.timestamp)
    observer.steps = learned()
    observer.sojourns = observer.steps.sojourns
    return observer, watch


def seen(observer: Observer, watch: Watch, step: int | None, now: float) -> None:
    observer.observe(watch, evolve(watch.production, current_step=step), NOON, now)


def step_completed(step: int | None, *, seconds_ago: float) -> StepCompleted:
    at = NOON - timedelta(seconds=seconds_ago)
    event = webhook_event(StepCompleted)
    assert isinstance(event, StepCompleted)
    return evolve(event, step=step, timestamp=at)


async def test_webhook_about_a_step_counts_as_if_it_was_seen(producing: tuple[Observer, Watch]) -> None:
    """It ended at the time of the event; a later poll that reports no step changes nothing."""
    observer, watch = producing
    seen(observer, watch, 2, 30.0)
    observer.confirm(watch, step_completed(9, seconds_ago=10), 700.0)
    assert watch.progress is not None
    assert (watch.progress.step, watch.polled) == (10, 690.0)
    assert watch.progress.since == pytest.approx(690, abs=1)
    assert watch.outlook is not None
    assert watch.outlook.at == 690
    assert watch.outlook.mean == pytest.approx(sum(MEANS[9:]), rel=0.3)
    seen(observer, watch, None, 710.0)
    assert watch.progress.step == 10
    assert watch.outlook.at == 710


@pytest.mark.parametrize("event", [step_completed(3, seconds_ago=10), step_completed(None, seconds_ago=10)])
async def test_late_webhook_about_an_earlier_step_does_not_lead_back(
    producing: tuple[Observer, Watch], event: StepCompleted
) -> None:
    """Nor does one without a number."""
    observer, watch = producing
    seen(observer, watch, 8, 600.0)
    observer.confirm(watch, event, 700.0)
    assert watch.progress is not None
    assert watch.progress.step == 8


async def test_steps_of_the_last_status_are_forgotten_with_it(producing: tuple[Observer, Watch]) -> None:
    """The change is taken to have come when it was expected, rather than in the middle of two polls."""
    observer, watch = producing
    for step, now in enumerate(accumulate(MEANS[:8]), start=2):
        seen(observer, watch, step, float(now))
    published = evolve(watch.production, status=Status.AWAITING_APPROVAL)
    observer.observe(watch, published, NOON, 1_160.0)
    assert watch.outlook is None
    assert watch.progress is None
    assert watch.since == pytest.approx(sum(MEANS), abs=150)
