"""Constants and small functions that several parts of the simulator use."""

import random
import re
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from difflib import get_close_matches

DAY_SECONDS = 86_400
LOOPBACK = "127.0.0.1"
LOOPBACK_HOSTS = (LOOPBACK, "::1", "localhost")
NIL_UUID = "00000000-0000-0000-0000-000000000000"

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def draw_uuid(rng: random.Random, *, version: int | None = 4) -> str:
    """Return a random UUID; without a version all its 128 bits are random."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=version))


def is_uuid(value: object) -> bool:
    """Return whether `value` is a UUID in its canonical form."""
    return isinstance(value, str) and _UUID.fullmatch(value) is not None


def iso(wall: float) -> str:
    """Return a time in Unix seconds as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def check_name(what: str, name: str, known: Iterable[str]) -> None:
    """Raise ValueError, with the names that are known, unless `name` is one of them."""
    names = sorted(known)
    if name not in names:
        similar = get_close_matches(name, names, n=1)
        hint = f", did you mean {similar[0]!r}?" if similar else "."
        raise ValueError(f"unknown {what} {name!r}{hint} Known are {', '.join(names)}")
