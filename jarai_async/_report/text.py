"""Times, durations and sizes as a person reads them. Pure."""

from datetime import UTC, datetime
from typing import Final

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_SIZES: Final = ("bytes", "kB", "MB", "GB", "TB")


def duration(seconds: float) -> str:
    """Return a duration in its two largest units, such as "1 h 5 min"."""
    left, parts = round(seconds), list[str]()
    for length, unit in _UNITS:
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count:,} {unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


def moment(time: float) -> str:
    """Return a Unix time in UTC, to the second."""
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S}"


def words(state: str) -> str:
    """Return a state as the page and messages show it."""
    return state.replace("_", " ")


def size(count: int) -> str:
    """Return a number of bytes in the unit that leaves one to three digits before the point."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_SIZES) - 1:
        value, unit = value / 1_000, unit + 1
    return f"{value:.1f} {_SIZES[unit]}" if unit and value < 10 else f"{value:,.0f} {_SIZES[unit]}"
