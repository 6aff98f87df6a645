"""The diagrams and the text of a report, from numbers alone."""

import re
from datetime import UTC, datetime

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from jarai_async._report import charts
from jarai_async._report.rows import Change, End, Phase, Row
from jarai_async._report.text import duration, size
from jarai_async._report.totals import Spread, durations_of, spread
from tests.report.test_commands import ROW

START = datetime(2026, 1, 1, 9, tzinfo=UTC).timestamp()
times = st.floats(0, 1e10)


def with_phases(*phases: Phase) -> Row:
    return evolve(ROW, phases=phases)


def heights(chart: charts.Chart, name: str) -> list[float]:
    """Return the values at the upper edge of a layer, from the left to the right."""
    (path,) = [layer.path for layer in chart.layers if layer.name == name]
    points = [float(y) for y in re.findall(r",([\d.]+)", path)]
    upper = points[: len(points) // 2]
    return [(charts.HEIGHT - y) / charts.HEIGHT * chart.top for y in upper]


def test_area_shows_how_many_productions_are_in_a_status() -> None:
    """Two in the first half, one in the second; the last one has no end yet."""
    axis = charts.clock_axis(START, START + 1_000)
    rows = [
        with_phases(Phase("Producing", START, START + 500)),
        with_phases(Phase("Producing", START, None)),
    ]
    shown = heights(charts.in_flight(rows, axis), "Producing")
    half = len(shown) // 2
    assert set(shown[: half - 1]) == {2.0}
    assert set(shown[half + 1 :]) == {1.0}


@settings(max_examples=30)
@given(st.lists(st.tuples(times, times, st.sampled_from(["Queued", "Producing", "Rendering"])), min_size=1))
def test_area_contains_all_the_time_that_productions_were_in_flight(
    spans: list[tuple[float, float, str]],
) -> None:
    """Whatever the times are: the layers add up to it, as far as the rounding of the path allows."""
    phases = [Phase(status, min(times), max(times)) for *times, status in spans]
    axis = charts.clock_axis(min(phase.start for phase in phases), max(phase.end or 0 for phase in phases))
    chart = charts.in_flight([with_phases(phase) for phase in phases], axis)
    shown = heights(chart, chart.layers[-1].name)
    seconds = sum((phase.end or 0) - phase.start for phase in phases)
    error = chart.top * axis.length * 0.001
    assert sum(shown) / len(shown) * axis.length == pytest.approx(seconds, abs=error)
    assert all(0 <= tick.at <= 97 for tick in axis.ticks)


def test_bars_show_ends_requests_and_the_bound_of_the_lag() -> None:
    """Each in the bin of its time; requests are per minute."""
    axis = charts.clock_axis(START, START + 3_600)
    ends = (End(START + 90, "published", 30), End(START + 100, "failed", 10), End(START + 3_600, "failed", 6))
    changes = (Change(START, START + 30), Change(START, START + 50), Change(START, START + 58))
    row = evolve(ROW, ends=ends, changes=changes)
    ended = charts.ended([row], axis)
    assert [layer.name for layer in ended.layers] == ["published", "failed"]
    assert ended.layers[1].path.count("M") == 2  # bars
    assert ended.top == 2
    assert charts.requests([row], axis).top == 40
    lag = charts.lag([row], axis)
    assert lag.top == 60
    assert [layer.name for layer in lag.layers] == ["90th percentile", "median"]
    assert "V16.7h" in lag.layers[1].path  # 50 s of 60 s


@pytest.mark.parametrize(
    ("seconds", "labels"),
    [
        (0, ["09:00:00"]),
        (20, ["09:00:00", "09:00:05", "09:00:10", "09:00:15"]),
        (300, ["09:00", "09:01", "09:02", "09:03", "09:04"]),
        (4 * 3_600, ["09:00", "10:00", "11:00", "12:00"]),
        (86_400, ["12:00", "18:00", "02 Jan", "06:00"]),
        (300 * 86_400, ["Feb 2026", "Apr 2026", "Jun 2026", "Jul 2026", "Sep 2026"]),
    ],
)
def test_ticks_are_at_round_times(seconds: int, labels: list[str]) -> None:
    """In UTC; a midnight is shown as its day."""
    assert [tick.label for tick in charts.clock_axis(START, START + seconds).ticks] == labels


def test_ticks_are_at_their_share_of_the_axis() -> None:
    """In percent, and none so near to the end that its label is cut off."""
    axis = charts.clock_axis(START + 1_800, START + 4 * 3_600 + 1_800)
    assert [tick.at for tick in axis.ticks] == [12.5, 37.5, 62.5, 87.5]
    assert [tick.at for tick in charts.duration_axis(7_200).ticks] == [0, 25, 50, 75]


def test_axis_without_any_time_and_for_all_times() -> None:
    """Neither an empty journal nor a wrong clock makes too many ticks."""
    assert charts.clock_axis(None, None).length == 1
    assert len(charts.clock_axis(0, 1e11).ticks) <= 8
    assert [tick.label for tick in charts.duration_axis(7_200).ticks] == [
        "0 s",
        "30 min",
        "1 h",
        "1 h 30 min",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.6, "1 min"), (3_900, "1 h 5 min"), (90_061, "1 d 1 h"), (86_430, "1 d")],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    """The two largest ones next to each other."""
    assert duration(seconds) == text


def test_durations_are_those_of_published_productions_of_each_type() -> None:
    """The most frequent type first; a phase that has no end has no duration."""
    phases = (Phase("Queued", START, START + 60), Phase("Producing", START + 60, None))
    row = evolve(ROW, state="published", submitted_at=START, ended_at=START + 600, phases=phases)
    rows = [evolve(row, project_type="podcast"), row, evolve(row, ended_at=START + 700), ROW]
    default, podcast = durations_of(rows)
    assert (default.project_type, podcast.project_type) == ("account's default", "podcast")
    assert (default.total, podcast.total) == (Spread(2, 700, 700), Spread(1, 600, 600))
    assert default.statuses == {"Queued": Spread(2, 60, 60)}


def test_spread_has_the_middle_and_what_nine_of_ten_stay_below() -> None:
    """Of one value it is that value."""
    assert spread(range(100, 0, -1)) == Spread(100, 51, 91)
    assert spread([7]) == Spread(1, 7, 7)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1_500, "1.5 kB"),
        (15_000, "15 kB"),
        (999_600, "1.0 MB"),
        (5 * 10**15, "5,000 TB"),
    ],
)
def test_sizes_have_one_to_three_digits(count: int, text: str) -> None:
    """In decimal units, as storage is sold."""
    assert size(count) == text
