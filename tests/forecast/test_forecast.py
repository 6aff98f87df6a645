"""How long productions will still take: by their mean, and by playing a batch through."""

import math
from collections.abc import Iterator
from random import Random
from statistics import mean, median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import Status
from jarai_async._forecast.forecast import CHAIN, ToCome, UnderWay, _begun, finish, mean_left, play
from jarai_async._polling.hazards import EDGES, split
from jarai_async._polling.sojourn import Sojourns

KIND = "social-video-30s"
statuses = st.sampled_from([*CHAIN, Status("Rendering")])
ages = st.floats(0, 200_000)
MINUTE, HOUR = 60.0, 3600.0


def taught(stays: list[tuple[Status, float]]) -> Sojourns:
    sojourns = Sojourns()
    for status, seconds in stays:
        sojourns.stayed(KIND, status, 0, seconds)
        sojourns.left(KIND, status, seconds, seconds + 5)
    return sojourns


learned = st.lists(st.tuples(statuses, st.floats(1, 20_000)), max_size=5).map(taught)


@given(learned, statuses, ages, st.floats(0, 20))
def test_a_stay_lasts_until_so_much_hazard_has_passed(
    sojourns: Sojourns, status: Status, age: float, passed: float
) -> None:
    """Exactly, across all bins: an exponential number makes it a draw from the learned distribution."""
    stay = sojourns.stay(KIND, status, age, passed)
    assert stay >= -1e-6
    hazards = [
        (end - begin) * sojourns.hazard(KIND, status, begin) for _, begin, end in split(age, age + stay)
    ]
    assert math.fsum(hazards) == pytest.approx(passed, rel=1e-6, abs=1e-6)


@given(learned, statuses)
def test_a_profile_is_a_whole_stay(sojourns: Sojourns, status: Status) -> None:
    """Its seconds add up to the mean stay, and its transitions to one."""
    profile = sojourns.profile(KIND, status)
    assert len(profile) == len(EDGES) - 1
    assert sum(seconds for seconds, _ in profile) == pytest.approx(sojourns.mean_left(KIND, status, 0))
    assert sum(seconds * hazard for seconds, hazard in profile) == pytest.approx(1)


@pytest.mark.parametrize("status", CHAIN)
@pytest.mark.parametrize("age", [0.0, 100.0, 2000.0, 100_000.0])
def test_the_mean_is_the_mean_of_the_draws(status: Status, age: float) -> None:
    """The closed form, against twenty thousand draws."""
    sojourns, random = Sojourns(), Random(1)
    draws = [sojourns.stay(KIND, status, age, random.expovariate(1)) for _ in range(20_000)]
    assert sojourns.mean_left(KIND, status, age) == pytest.approx(mean(draws), rel=0.05)


@given(learned, ages)
def test_less_is_left_the_further_it_is(sojourns: Sojourns, age: float) -> None:
    """What comes after a status is a part of what comes after the one before."""
    left = [mean_left(sojourns, KIND, status, 0.0) for status in CHAIN]
    assert left == sorted(left, reverse=True)
    assert mean_left(sojourns, KIND, Status.PUBLISHED, age) == 0


def dice(random: Random) -> Iterator[tuple[float, ...]]:
    while True:
        yield tuple(random.expovariate(1) for _ in CHAIN)


@pytest.mark.parametrize(("number", "concurrency"), [(1, 1), (5, 5), (50, 50), (200, 40), (30, 3)])
def test_the_forecast_is_the_median_of_many_plays(number: int, concurrency: int) -> None:
    """Points that are spread evenly give what four hundred plays with dice give, in less time."""
    sojourns, lives, batch = Sojourns(), dice(Random(number)), [ToCome(KIND)] * number
    ends = []
    for _ in range(400):
        played = _begun(sojourns, batch, [0.0] * concurrency, lives, 0.0)
        ends.append(max(begin + sum(stays) for begin, stays in played))
    assert finish(sojourns, [], batch, concurrency=concurrency) == pytest.approx(median(ends), rel=0.15)


def test_the_last_of_many_is_later_than_the_mean() -> None:
    """One takes 27 minutes on average; the last of two hundred that begin together, hours."""
    sojourns = Sojourns()
    one = mean_left(sojourns, KIND, Status.QUEUED, 0.0)
    assert one == pytest.approx(27 * MINUTE, rel=0.02)
    assert finish(sojourns, [], [ToCome(KIND)] * 200, concurrency=200) > 6 * one


def test_places_are_waited_for_and_so_is_midnight() -> None:
    """With one place they go one after the other, but for approval and distribution; nobody begins early."""
    sojourns = Sojourns()
    held = sum(sojourns.mean_left(KIND, status, 0.0) for status in CHAIN[:2])
    queue = finish(sojourns, [], [ToCome(KIND)] * 20, concurrency=1)
    assert queue == pytest.approx(20 * held, rel=0.35)
    assert finish(sojourns, [], [ToCome(KIND)] * 20, concurrency=1, lag=60) > queue + 15 * MINUTE
    assert finish(sojourns, [], [ToCome(KIND, after=9 * HOUR)], concurrency=1) > 9 * HOUR
    begins = [begin for begin, _ in play(sojourns, [ToCome(KIND, 7.0)] * 3, concurrency=2, lag=0.0)]
    assert begins[:2] == [7.0, 7.0]
    assert begins[2] > 7.0


def test_those_in_flight_keep_others_waiting_as_long_as_they_have_a_place() -> None:
    """One that waits for approval does not."""
    sojourns = Sojourns()

    def last(status: Status, *, has_place: bool) -> float:
        busy = [UnderWay(KIND, status, 10.0, has_place)] * 10
        return finish(sojourns, busy, [ToCome(KIND)] * 10, concurrency=10)

    assert last(Status.PRODUCING, has_place=True) > last(Status.DISTRIBUTING, has_place=False) + 10 * MINUTE
    assert last(Status("Rendering"), has_place=True) > last(Status("Rendering"), has_place=False)


def test_what_has_ended_takes_no_time() -> None:
    """Nor does nothing at all."""
    sojourns = Sojourns()
    ended = [UnderWay(KIND, Status.FAILED, 10.0, has_place=True)] * 3
    assert finish(sojourns, ended, [], concurrency=5) == 0
    assert finish(sojourns, [], [], concurrency=5) == 0
    assert finish(sojourns, ended, [], concurrency=5, lag=7) == 7


def test_the_same_knowledge_gives_the_same_forecast() -> None:
    """No dice: a figure that is looked at twice does not jump."""
    batch = [ToCome(KIND)] * 70
    assert finish(Sojourns(), [], batch, concurrency=9) == finish(Sojourns(), [], batch, concurrency=9)
