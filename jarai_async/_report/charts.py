"""The diagrams of a report: numbers in, paths of SVG out. Pure. Times are Unix seconds.

Each diagram has the width `WIDTH` and the height `HEIGHT`, and the page stretches it, so labels are apart.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from attrs import frozen

from jarai_async._report.rows import Row
from jarai_async._report.text import duration
from jarai_async._report.totals import in_order, spread

WIDTH: Final = 1_000
HEIGHT: Final = 100
_AREA_BINS: Final = 250
_BAR_BINS: Final = 60
_FACTORS: Final = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)  # of the value at the upper edge
_TICKS: Final = 7  # at most
_LAST_TICK: Final = 0.97  # a label at the edge would be cut off
_MINUTE, _HOUR, _DAY, _MONTH = 60.0, 3_600.0, 86_400.0, 28 * 86_400.0
_STEPS: Final = (  # seconds between two ticks
    *(1.0, 5.0, 15.0, 30.0),
    *(number * _MINUTE for number in (1, 2, 5, 10, 15, 30)),
    *(number * _HOUR for number in (1, 2, 3, 6, 12)),
    *(number * _DAY for number in (1, 2, 7, 14)),
    _MONTH,
)


@frozen
class Tick:
    """A label of an axis, at a share of its length in percent."""

    at: float
    label: str


@frozen
class Axis:
    """An axis of time from `start`, over `length` seconds."""

    start: float
    length: float
    ticks: tuple[Tick, ...]


@frozen
class Layer:
    """A part of a diagram, for one state or status, and its path."""

    name: str
    path: str


@frozen
class Chart:
    """A diagram; `top` is the value at its upper edge."""

    layers: tuple[Layer, ...]
    top: float


def clock_axis(first: float | None, last: float | None) -> Axis:
    """Return the axis of all times of a report."""
    start = first or 0.0
    length = max((last or 0.0) - start, 1.0)
    step = _step(length)
    return Axis(start, length, tuple(_ticks(start, length, step, _clock_label(step))))


def duration_axis(longest: float) -> Axis:
    """Return an axis from 0 to the longest duration."""
    length = max(longest, 1.0)
    return Axis(0.0, length, tuple(_ticks(0.0, length, _step(length), duration)))


def _step(length: float) -> float:
    """Return the seconds between two ticks."""
    longest = _STEPS[-1] * math.ceil(length / _STEPS[-1] / _TICKS)
    return next((step for step in _STEPS if length / step <= _TICKS), longest)


def _ticks(start: float, length: float, step: float, label: Callable[[float], str]) -> Iterable[Tick]:
    time = math.ceil(start / step) * step
    while time <= start + length * _LAST_TICK:
        yield Tick(round((time - start) / length * 100, 2), label(time))
        time += step


def _clock_label(step: float) -> Callable[[float], str]:
    def label(time: float) -> str:
        form = "%H:%M" if step >= _MINUTE else "%H:%M:%S"
        if time % _DAY == 0:
            form = "%d %b" if step < _MONTH else "%b %Y"
        return f"{datetime.fromtimestamp(time, UTC):{form}}"

    return label


# --- Diagrams over time --------------------------------------------------------------------------


def in_flight(rows: Iterable[Row], axis: Axis) -> Chart:
    """Return how many productions were in each status, on average in each bin."""
    width = axis.length / _AREA_BINS
    counts: dict[str, list[float]] = defaultdict(lambda: [0.0] * _AREA_BINS)
    for row in rows:
        for phase in row.phases:
            start = (phase.start - axis.start) / width
            end = (axis.start + axis.length if phase.end is None else phase.end) - axis.start
            _add_span(counts[phase.status], start, min(end / width, _AREA_BINS))
    return _stacked(counts, _area)


def _add_span(bins: list[float], start: float, end: float) -> None:
    """Add the share of each bin that lies between two places."""
    for number in range(int(start), min(math.ceil(end), len(bins))):
        bins[number] += min(end, number + 1) - max(start, number)


def ended(rows: Iterable[Row], axis: Axis) -> Chart:
    """Return how many requests ended in each bin, by state."""
    counts: dict[str, list[float]] = defaultdict(lambda: [0.0] * _BAR_BINS)
    for row in rows:
        for end in row.ends:
            counts[end.state][_bin(end.at, axis)] += 1
    return _stacked(counts, _bars)


def requests(rows: Iterable[Row], axis: Axis) -> Chart:
    """Return the API requests per minute of the requests that ended in each bin."""
    counts = [0.0] * _BAR_BINS
    for row in rows:
        for end in row.ends:
            counts[_bin(end.at, axis)] += end.requests * _MINUTE * _BAR_BINS / axis.length
    return _stacked({"requests": counts}, _bars)


def lag(rows: Iterable[Row], axis: Axis) -> Chart:
    """Return the upper bounds of the lag in each bin, in seconds: the 90th percentile and the median."""
    bounds: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        for change in row.changes:
            bounds[_bin(change.seen, axis)].append(max(0.0, change.seen - change.after))
    high, median = [0.0] * _BAR_BINS, [0.0] * _BAR_BINS
    for number, values in bounds.items():
        known = spread(values)
        high[number], median[number] = known.high, known.median
    top = _round_up(max(high))
    nothing = [0.0] * _BAR_BINS
    layers = (("90th percentile", high), ("median", median))
    return Chart(tuple(Layer(name, _bars(nothing, values, top)) for name, values in layers), top)


def _bin(time: float, axis: Axis) -> int:
    return min(int((time - axis.start) / axis.length * _BAR_BINS), _BAR_BINS - 1)


def _stacked(
    counts: Mapping[str, Sequence[float]], draw: Callable[[Sequence[float], Sequence[float], float], str]
) -> Chart:
    """Return a diagram with one layer upon the other."""
    top = _round_up(max(map(sum, zip(*counts.values(), strict=True)), default=0.0))
    layers, below = list[Layer](), [0.0] * (_AREA_BINS if draw is _area else _BAR_BINS)
    for name in in_order(dict.fromkeys(counts, 0)):
        above = [low + value for low, value in zip(below, counts[name], strict=True)]
        layers.append(Layer(name, draw(below, above, top)))
        below = above
    return Chart(tuple(layers), top)


def _area(below: Sequence[float], above: Sequence[float], top: float) -> str:
    """Return the path of an area with an edge for each bin."""
    points = [(number * WIDTH / (len(above) - 1), value) for number, value in enumerate(above)]
    points += [(number * WIDTH / (len(below) - 1), value) for number, value in enumerate(below)][::-1]
    return f"M{' '.join(f'{x:.0f},{_y(value, top)}' for x, value in points)}z"


def _bars(below: Sequence[float], above: Sequence[float], top: float) -> str:
    """Return the path of a bar for each bin that is not empty."""
    width = WIDTH / len(above)
    return "".join(
        f"M{number * width:.1f},{_y(low, top)}h{width * 0.86:.1f}V{_y(high, top)}h-{width * 0.86:.1f}z"
        for number, (low, high) in enumerate(zip(below, above, strict=True))
        if high > low
    )


def _y(value: float, top: float) -> str:
    return f"{HEIGHT - value / top * HEIGHT:.1f}"


def _round_up(value: float) -> float:
    """Return the next of `_FACTORS` times a power of ten, 1 at least."""
    power = 10.0 ** math.floor(math.log10(max(value, 1.0)))
    return next(factor * power for factor in _FACTORS if factor * power >= value)
