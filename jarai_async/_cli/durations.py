"""Durations, as options state them (`2h30m`) and as messages show them (`2 h 30 min`)."""

import math
import re
from typing import Final

_UNITS: Final = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}
_PARTS: Final = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def parse_duration(text: str) -> float:
    """Return the seconds of `2h30m`, `45s` or `90`. Raises ValueError unless they are more than 0."""
    match = _PARTS.fullmatch(text)
    if match is not None and text:
        parts = zip(match.groups(default="0"), _UNITS.values(), strict=True)
        seconds = sum(int(number) * unit for number, unit in parts)
    else:
        seconds = float(text)
    if not 0 < seconds < math.inf:
        raise ValueError(text)
    return seconds


def describe_duration(seconds: float) -> str:
    """Return a duration in words, to the minute, or to the second below one minute."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
