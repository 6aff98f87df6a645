"""Sojourn times: what is learned from polls, and that only the counts decide."""

import json
import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import Status
from jarai_async._polling.hazards import AGE_BINS, age_bin
from jarai_async._polling.sojourn import Sojourns

RENDERING = Status("Rendering")  # which the library does not know
STATUSES = [
    Status.QUEUED,
    Status.PRODUCING,
    Status.AWAITING_APPROVAL,
    Status.DISTRIBUTING,
    RENDERING,
]
AGES = [0.0, 29.0, 100.0, 1799.0, 50_000.0, 100_000.0]
TYPES = [None, "short", "long"]

ages = st.floats(0, 200_000)
polls = st.lists(
    st.tuples(
        st.sampled_from(["stay", "transition"]),
        st.sampled_from(TYPES),
        st.sampled_from(STATUSES),
        st.floats(-5, 100_000),
        st.floats(0, 2_000),
    ),
    max_size=30,
)
keys = st.tuples(st.sampled_from(TYPES), st.sampled_from(STATUSES))
Key = tuple[str | None, Status]
Polls = list[tuple[str, str | None, Status, float, float]]


def learned(polls: Polls, sojourns: Sojourns | None = None) -> Sojourns:
    sojourns = sojourns or Sojourns()
    for kind, project_type, status, age, seconds in polls:
        record = sojourns.record_stay if kind == "stay" else sojourns.record_transition
        record(project_type, status, age, age + seconds)
    return sojourns


def total(sojourns: Sojourns, name: str) -> float:
    """Return all transitions, or all seconds."""
    return sum(math.fsum(counts[name]) for counts in sojourns.export_state()["counts"])


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("age", AGES)
@pytest.mark.parametrize("has_data", [False, True])
def test_expected_delay_is_the_integral_over_the_gap(status: Status, age: float, *, has_data: bool) -> None:
    """It is the mean of (now - time of the transition), compared with a sum of small steps."""
    sojourns = Sojourns()
    if has_data:
        sojourns.record_stay("a", status, 0, age + 70)
        sojourns.record_transition("a", status, age + 70, age + 90)
    step, survival, delay = 0.01, 1.0, 0.0
    for n in range(20_000):
        delay += (1 - survival) * step
        survival *= math.exp(-sojourns.hazard("a", status, age + (n + 0.5) * step) * step)
    assert sojourns.expected_delay("a", status, age, 200.0) == pytest.approx(delay, rel=0.001, abs=0.01)


@given(polls, keys, ages, st.floats(0.001, 1), st.floats(1, 900))
def test_gap_for_delay_is_the_inverse_of_expected_delay(
    polls: Polls, key: Key, age: float, delay: float, max_gap: float
) -> None:
    """Approximately, if a transition within the gap is unlikely."""
    sojourns = learned(polls)
    gap = sojourns.gap_for_delay(*key, age, delay, max_gap)
    assert 0 < gap <= max_gap
    expected = sojourns.expected_delay(*key, age, gap)
    if gap < max_gap:
        assert delay / 2 <= expected <= delay * 1.001
    else:
        assert expected <= delay * 1.001


@given(polls, keys, st.floats(-10, 200_000))
def test_hazard_is_positive_and_finite(polls: Polls, key: Key, age: float) -> None:
    """Whatever the data, in any status, at any age, even a negative one."""
    assert 0 < learned(polls).hazard(*key, age) < math.inf


def test_prior_of_an_unknown_status_is_one_transition_in_ten_minutes() -> None:
    """At any age."""
    assert Sojourns().hazard(None, RENDERING, 50) == pytest.approx(1 / 600)
    assert [age_bin(age) for age in (-1.0, 0.0, 5.0, 1e9)] == [0, 0, 1, len(AGE_BINS)]


@given(polls, polls, keys, ages, st.floats(0, 900))
def test_restored_data_lead_to_the_same_numbers(
    before: Polls, after: Polls, key: Key, age: float, gap: float
) -> None:
    """Exactly, after an export through JSON and after more data."""
    original = learned(before)
    restored = Sojourns.restore_state(json.loads(json.dumps(original.export_state())))
    for more in ([], after):
        learned(more, original), learned(more, restored)
        assert restored.hazard(*key, age) == original.hazard(*key, age)
        assert restored.expected_delay(*key, age, gap) == original.expected_delay(*key, age, gap)
        assert restored.gap_for_delay(*key, age, 0.02, 900) == original.gap_for_delay(*key, age, 0.02, 900)


@given(polls, st.randoms())
def test_order_in_which_project_types_are_seen_does_not_matter(polls: Polls, random: Random) -> None:
    """Nor does reading a hazard before there are data."""
    unread, read = Sojourns(), Sojourns()
    for project_type in random.sample(TYPES, len(TYPES)):
        for status in STATUSES:
            read.hazard(project_type, status, 10)
    for sojourns in (unread, read):
        learned(polls, sojourns).export_state()  # recomputes the hazards
    for project_type in TYPES:
        for status in STATUSES:
            assert unread.hazard(project_type, status, 40) == read.hazard(project_type, status, 40)


@given(ages, st.floats(0.01, 50_000), st.integers(1, 9))
def test_seconds_of_a_stay_count_as_they_pass(age: float, seconds: float, parts: int) -> None:
    """However often the production is polled; and no transition."""
    sojourns = Sojourns()
    for n in range(parts):
        start, end = (age + seconds * part / parts for part in (n, n + 1))
        sojourns.record_stay(None, Status.QUEUED, start, end)
    assert total(sojourns, "transitions") == 0
    assert total(sojourns, "seconds") == pytest.approx(seconds)


@given(ages, st.floats(0.01, 50_000))
def test_transition_counts_once_and_for_half_of_its_interval(age: float, seconds: float) -> None:
    """It was at some time between the two polls: on average in the middle."""
    sojourns = Sojourns()
    sojourns.record_transition(None, Status.QUEUED, age, age + seconds)
    assert total(sojourns, "transitions") == pytest.approx(1)
    assert total(sojourns, "seconds") == pytest.approx(seconds / 2)


def poll(sojourns: Sojourns, project_type: str, stay: float, random: Random, max_age: float) -> None:
    """Poll a production that stays in a status for `stay` seconds, about every 20 s, up to an age."""
    age = 0.0
    while age < max_age:
        until = age + random.uniform(10, 30)
        if until > stay:
            sojourns.record_transition(project_type, RENDERING, age, until)
            return
        sojourns.record_stay(project_type, RENDERING, age, until)
        age = until


def test_hazard_is_learned_while_most_productions_are_still_in_the_status() -> None:
    """Exponential stays of 1,000 s, each polled for 300 s only: the hazard is a thousandth."""
    sojourns, random = Sojourns(), Random(1)
    for _ in range(2000):
        poll(sojourns, "a", random.expovariate(1 / 1000), random, 300)
    for age in (50, 100, 200, 270):
        assert sojourns.hazard("a", RENDERING, age) == pytest.approx(1 / 1000, rel=0.3)


def test_new_project_type_starts_from_the_others_and_then_learns_its_own_hazard() -> None:
    """Twenty long productions are enough to tell them from short ones."""
    sojourns, random = Sojourns(), Random(2)
    for _ in range(500):
        poll(sojourns, "short", random.gauss(1000, 100), random, math.inf)
    likely = sojourns.hazard("short", RENDERING, 1000)
    assert sojourns.hazard("long", RENDERING, 1000) == pytest.approx(likely, rel=0.01)
    for _ in range(20):
        poll(sojourns, "long", random.gauss(6000, 600), random, math.inf)
    assert sojourns.hazard("long", RENDERING, 1000) < likely / 5
    assert sojourns.hazard("short", RENDERING, 1000) == pytest.approx(likely, rel=0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"ages": [1.0, 2.0], "counts": []},
        {"ages": list(AGE_BINS), "counts": [{"status": "Queued"}]},
        *(
            {
                "ages": list(AGE_BINS),
                "counts": [
                    {"project_type": kind, "status": "Queued", "transitions": values, "seconds": values}
                ],
            }
            for kind, values in [("a", [1.0]), ("a", [-1.0] * 46), ("a", [math.nan] * 46), (7, [0.0] * 46)]
        ),
    ],
)
def test_data_that_was_not_exported_is_rejected(wrong: dict[str, object]) -> None:
    """Data of other age bins, or damaged data."""
    with pytest.raises(ValueError, match=r"age bins|not data that was exported"):
        Sojourns.restore_state(wrong)
