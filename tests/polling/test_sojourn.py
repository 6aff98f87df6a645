"""Learned time in each status: what counts teach, and that nothing but counts decides."""

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
lessons = st.lists(
    st.tuples(
        st.sampled_from(["stayed", "left"]),
        st.sampled_from(TYPES),
        st.sampled_from(STATUSES),
        st.floats(-5, 100_000),
        st.floats(0, 2_000),
    ),
    max_size=30,
)
whose = st.tuples(st.sampled_from(TYPES), st.sampled_from(STATUSES))
Whose = tuple[str | None, Status]
Lessons = list[tuple[str, str | None, Status, float, float]]


def taught(lessons: Lessons, sojourns: Sojourns | None = None) -> Sojourns:
    sojourns = sojourns or Sojourns()
    for way, project_type, status, age, seconds in lessons:
        getattr(sojourns, way)(project_type, status, age, age + seconds)
    return sojourns


def total(sojourns: Sojourns, name: str) -> float:
    """All transitions, or all seconds."""
    return sum(math.fsum(one[name]) for one in sojourns.export_state()["counts"])


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("age", AGES)
@pytest.mark.parametrize("learned", [False, True])
def test_the_expected_delay_is_the_integral_over_the_gap(
    status: Status, age: float, *, learned: bool
) -> None:
    """It is the mean of (now - moment of the transition), by summing it up in small steps."""
    sojourns = Sojourns()
    if learned:
        sojourns.stayed("a", status, 0, age + 70)
        sojourns.left("a", status, age + 70, age + 90)
    step, stays, unseen = 0.01, 1.0, 0.0
    for n in range(20_000):
        unseen += (1 - stays) * step
        stays *= math.exp(-sojourns.hazard("a", status, age + (n + 0.5) * step) * step)
    assert sojourns.expected_unseen("a", status, age, 200.0) == pytest.approx(unseen, rel=0.001, abs=0.01)


@given(lessons, whose, ages, st.floats(0.001, 1), st.floats(1, 900))
def test_after_the_gap_so_much_is_expected_to_be_unseen(
    lessons: Lessons, whose: Whose, age: float, unseen: float, most: float
) -> None:
    """`gap_until` is the inverse of `expected_unseen`, nearly, where little is likely to have happened."""
    sojourns = taught(lessons)
    gap = sojourns.gap_until(*whose, age, unseen, most)
    assert 0 < gap <= most
    expected = sojourns.expected_unseen(*whose, age, gap)
    if gap < most:
        assert unseen / 2 <= expected <= unseen * 1.001
    else:
        assert expected <= unseen * 1.001


@given(lessons, whose, st.floats(-10, 200_000))
def test_a_hazard_is_never_zero_nor_infinite(lessons: Lessons, whose: Whose, age: float) -> None:
    """Whatever was learned, any status at any age, even a negative one, has a chance to change."""
    assert 0 < taught(lessons).hazard(*whose, age) < math.inf


def test_an_unknown_status_stays_in_view() -> None:
    """Its hazard before anything is learned is one change in ten minutes."""
    assert Sojourns().hazard(None, RENDERING, 50) == pytest.approx(1 / 600)
    assert [age_bin(age) for age in (-1.0, 0.0, 5.0, 1e9)] == [0, 0, 1, len(AGE_BINS)]


@given(lessons, lessons, whose, ages, st.floats(0, 900))
def test_a_restart_from_exported_counts_decides_the_same(
    before: Lessons, after: Lessons, whose: Whose, age: float, gap: float
) -> None:
    """Exported through JSON and taught further, it gives the very same numbers."""
    one = taught(before)
    other = Sojourns.restore_state(json.loads(json.dumps(one.export_state())))
    for lesson in ([], after):
        taught(lesson, one), taught(lesson, other)
        assert other.hazard(*whose, age) == one.hazard(*whose, age)
        assert other.expected_unseen(*whose, age, gap) == one.expected_unseen(*whose, age, gap)
        assert other.gap_until(*whose, age, 0.02, 900) == one.gap_until(*whose, age, 0.02, 900)


@given(lessons, st.randoms())
def test_it_does_not_matter_which_project_type_came_first(lessons: Lessons, random: Random) -> None:
    """Reading the hazard of any of them, in any order, changes nothing either."""
    one, other = Sojourns(), Sojourns()
    for project_type in random.sample(TYPES, len(TYPES)):
        for status in STATUSES:
            other.hazard(project_type, status, 10)
    for sojourns in (one, other):
        taught(lessons, sojourns).export_state()  # which takes the latest into account
    for project_type in TYPES:
        for status in STATUSES:
            assert one.hazard(project_type, status, 40) == other.hazard(project_type, status, 40)


@given(ages, st.floats(0.01, 50_000), st.integers(1, 9))
def test_seconds_count_as_they_pass(age: float, seconds: float, parts: int) -> None:
    """However often it is polled, one that stays counts for the seconds that it stayed, and no transition."""
    sojourns = Sojourns()
    for n in range(parts):
        sojourns.stayed(None, Status.QUEUED, age + seconds * n / parts, age + seconds * (n + 1) / parts)
    assert total(sojourns, "transitions") == 0
    assert total(sojourns, "seconds") == pytest.approx(seconds)


@given(ages, st.floats(0.01, 50_000))
def test_a_change_counts_once_and_for_half_of_its_interval(age: float, seconds: float) -> None:
    """It came somewhere between the two polls: on average in the middle."""
    sojourns = Sojourns()
    sojourns.left(None, Status.QUEUED, age, age + seconds)
    assert total(sojourns, "transitions") == pytest.approx(1)
    assert total(sojourns, "seconds") == pytest.approx(seconds / 2)


def polled(sojourns: Sojourns, project_type: str, stay: float, random: Random, horizon: float) -> None:
    """Teach what polls about 20 s apart tell of one that stays so long in a status, until the horizon."""
    age = 0.0
    while age < horizon:
        until = age + random.uniform(10, 30)
        if until > stay:
            sojourns.left(project_type, RENDERING, age, until)
            return
        sojourns.stayed(project_type, RENDERING, age, until)
        age = until


def test_the_true_hazard_is_learned_though_most_still_wait() -> None:
    """Exponential stays of 1,000 s, each watched for 300 s only: the hazard is a thousandth all the same."""
    sojourns, random = Sojourns(), Random(1)
    for _ in range(2000):
        polled(sojourns, "a", random.expovariate(1 / 1000), random, 300)
    for age in (50, 100, 200, 270):
        assert sojourns.hazard("a", RENDERING, age) == pytest.approx(1 / 1000, rel=0.3)


def test_a_new_project_type_begins_with_what_the_others_did_and_soon_goes_its_own_way() -> None:
    """Long form is not taken for short form for long."""
    sojourns, random = Sojourns(), Random(2)
    for _ in range(500):
        polled(sojourns, "short", random.gauss(1000, 100), random, math.inf)
    likely = sojourns.hazard("short", RENDERING, 1000)
    assert sojourns.hazard("long", RENDERING, 1000) == pytest.approx(likely, rel=0.01)
    for _ in range(20):
        polled(sojourns, "long", random.gauss(6000, 600), random, math.inf)
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
                "counts": [{"project_type": kind, "status": "Queued", "transitions": some, "seconds": some}],
            }
            for kind, some in [("a", [1.0]), ("a", [-1.0] * 46), ("a", [math.nan] * 46), (7, [0.0] * 46)]
        ),
    ],
)
def test_what_was_not_exported_is_refused(wrong: dict[str, object]) -> None:
    """Counts of other bins, or mangled ones, must not be believed."""
    with pytest.raises(ValueError, match=r"age bins|not what was exported"):
        Sojourns.restore_state(wrong)
