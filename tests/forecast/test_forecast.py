"""How long productions will still take: the mean for one, a simulation for a batch."""

import math
from collections.abc import Iterator
from random import Random
from statistics import mean, median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import Status
from jarai_async._forecast.forecast import (
    LIFECYCLE,
    InFlightProduction,
    PendingProduction,
    mean_duration,
    mean_time_to_finish,
    median_time_to_finish,
    simulate,
    simulate_batch,
)
from jarai_async._polling.hazards import EDGES, split_by_bin
from jarai_async._polling.sojourn import Sojourns

KIND = "social-video-30s"
statuses = st.sampled_from([*LIFECYCLE, Status("Rendering")])
ages = st.floats(0, 200_000)
MINUTE, HOUR = 60.0, 3600.0


def pending(number: int, not_before: float = 0.0) -> list[PendingProduction]:
    return [PendingProduction(KIND, not_before)] * number


def learned(stays: list[tuple[Status, float]]) -> Sojourns:
    sojourns = Sojourns()
    for status, seconds in stays:
        sojourns.record_stay(KIND, status, 0, seconds)
        sojourns.record_transition(KIND, status, seconds, seconds + 5)
    return sojourns


def test_slot_of_a_production_in_flight_is_free_when_it_waits_for_approval() -> None:
    """One that was just accepted is like one that starts now."""
    times = [
        median_time_to_finish(Sojourns(), in_flight, pending(count), concurrency=1, lag=9.0)
        for in_flight, count in (([InFlightProduction(KIND, Status.QUEUED, 0, holds_slot=True)], 1), ([], 2))
    ]
    assert times[0] == times[1]


any_sojourns = st.lists(st.tuples(statuses, st.floats(1, 20_000)), max_size=5).map(learned)


@given(any_sojourns, statuses, ages, st.floats(0, 20))
def test_sample_is_the_time_in_which_the_cumulative_hazard_grows_by_its_argument(
    sojourns: Sojourns, status: Status, age: float, exponential: float
) -> None:
    """Exactly, across all bins."""
    seconds = sojourns.sample_remaining(KIND, status, age, exponential)
    assert seconds >= -1e-6
    hazards = [
        (end - start) * sojourns.hazard(KIND, status, start)
        for _, start, end in split_by_bin(age, age + seconds)
    ]
    assert math.fsum(hazards) == pytest.approx(exponential, rel=1e-6, abs=1e-6)


@given(any_sojourns, statuses)
def test_time_per_bin_adds_up_to_the_mean_stay(sojourns: Sojourns, status: Status) -> None:
    """And the expected transitions of all bins add up to one."""
    bins = sojourns.time_per_bin(KIND, status)
    assert len(bins) == len(EDGES) - 1
    assert sum(seconds for seconds, _ in bins) == pytest.approx(sojourns.mean_remaining(KIND, status, 0))
    assert sum(seconds * hazard for seconds, hazard in bins) == pytest.approx(1)


@pytest.mark.parametrize("status", LIFECYCLE)
@pytest.mark.parametrize("age", [0.0, 100.0, 2000.0, 100_000.0])
def test_mean_remaining_is_the_mean_of_the_samples(status: Status, age: float) -> None:
    """The closed form, compared with twenty thousand samples."""
    sojourns, random = Sojourns(), Random(1)
    samples = [sojourns.sample_remaining(KIND, status, age, random.expovariate(1)) for _ in range(20_000)]
    assert sojourns.mean_remaining(KIND, status, age) == pytest.approx(mean(samples), rel=0.05)


@given(any_sojourns, ages)
def test_mean_time_to_finish_decreases_from_status_to_status(sojourns: Sojourns, age: float) -> None:
    """It is zero for a production that has ended."""
    in_flight = [InFlightProduction(KIND, status, 0.0, holds_slot=True) for status in LIFECYCLE]
    seconds = [mean_time_to_finish(sojourns, production) for production in in_flight]
    assert seconds == sorted(seconds, reverse=True)
    ended = InFlightProduction(KIND, Status.PUBLISHED, age, holds_slot=False)
    assert mean_time_to_finish(sojourns, ended) == 0


def random_samples(random: Random) -> Iterator[tuple[float, ...]]:
    while True:
        yield tuple(random.expovariate(1) for _ in LIFECYCLE)


@pytest.mark.parametrize(("number", "concurrency"), [(1, 1), (5, 5), (50, 50), (200, 40), (30, 3)])
def test_batch_forecast_is_the_median_of_random_simulations(number: int, concurrency: int) -> None:
    """Evenly spread samples lead to the same median as four hundred simulations with random ones."""
    sojourns, samples, batch = Sojourns(), random_samples(Random(number)), pending(number)
    ends = []
    for _ in range(400):
        simulated = simulate(sojourns, batch, [0.0] * concurrency, samples, 0.0)
        ends.append(max(start + sum(durations) for start, durations in simulated))
    forecast = median_time_to_finish(sojourns, [], batch, concurrency=concurrency)
    assert forecast == pytest.approx(median(ends), rel=0.15)


def test_last_production_of_a_batch_ends_hours_after_the_mean() -> None:
    """One takes 27 minutes on average; the last of two hundred that start together takes hours."""
    sojourns = Sojourns()
    mean_time = mean_duration(sojourns, KIND)
    assert mean_time == pytest.approx(27 * MINUTE, rel=0.02)
    assert median_time_to_finish(sojourns, [], pending(200), concurrency=200) > 6 * mean_time


def test_productions_wait_for_a_slot_and_for_their_day() -> None:
    """With one slot, only approval and distribution overlap; none starts before `not_before`."""
    sojourns = Sojourns()
    slot_time = sum(sojourns.mean_remaining(KIND, status, 0.0) for status in LIFECYCLE[:2])
    seconds = median_time_to_finish(sojourns, [], pending(20), concurrency=1)
    assert seconds == pytest.approx(20 * slot_time, rel=0.35)
    assert median_time_to_finish(sojourns, [], pending(20), concurrency=1, lag=60) > seconds + 15 * MINUTE
    assert median_time_to_finish(sojourns, [], pending(1, 9 * HOUR), concurrency=1) > 9 * HOUR
    starts = [start for start, _ in simulate_batch(sojourns, pending(3, 7.0), concurrency=2, lag=0.0)]
    assert starts[:2] == [7.0, 7.0]
    assert starts[2] > 7.0


@pytest.mark.parametrize("lag", [0.0, 60.0])
def test_productions_that_start_before_are_counted_rather_than_simulated(lag: float) -> None:
    """A batch of thousands takes as long as if all of it were simulated, apart from the rare late ones."""
    sojourns = Sojourns()
    every = median_time_to_finish(sojourns, [], pending(5_000), concurrency=50, lag=lag)
    last = median_time_to_finish(
        sojourns, [], pending(500), concurrency=50, lag=lag, before={KIND: 4_000, "b": 500}
    )
    assert last == pytest.approx(every, rel=0.06)


def test_productions_in_flight_delay_others_only_while_they_hold_a_slot() -> None:
    """A production that waits for approval has released its slot."""
    sojourns = Sojourns()

    def forecast(status: Status, *, holds_slot: bool) -> float:
        in_flight = [InFlightProduction(KIND, status, 10.0, holds_slot)] * 10
        return median_time_to_finish(sojourns, in_flight, pending(10), concurrency=10)

    distributing = forecast(Status.DISTRIBUTING, holds_slot=False)
    assert forecast(Status.PRODUCING, holds_slot=True) > distributing + 10 * MINUTE
    rendering = Status("Rendering")
    assert forecast(rendering, holds_slot=True) > forecast(rendering, holds_slot=False)


def test_ended_productions_and_empty_batches_take_no_time() -> None:
    """Only the lag remains, until the end is noticed."""
    sojourns = Sojourns()
    ended = [InFlightProduction(KIND, Status.FAILED, 10.0, holds_slot=True)] * 3
    assert median_time_to_finish(sojourns, ended, [], concurrency=5) == 0
    assert median_time_to_finish(sojourns, [], [], concurrency=5) == 0
    assert median_time_to_finish(sojourns, ended, [], concurrency=5, lag=7) == 7


def test_forecast_is_deterministic() -> None:
    """The same data lead to the same forecast."""
    forecasts = [median_time_to_finish(Sojourns(), [], pending(70), concurrency=9) for _ in range(2)]
    assert forecasts[0] == forecasts[1]
