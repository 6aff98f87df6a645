"""How long a production stays in a status: the hazard, its chance a second of leaving now.

A first table, from the documented phase times: a production is picked up within seconds to minutes, made
in 15 to 30 minutes (long form in 1 to 3 hours), published in a minute or two. Approval takes seconds in
autonomous mode, and hours where a person decides. An unknown status gets a hazard that keeps it in view.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping
from typing import Final

from jarai_async._models import Status

# (age in seconds from which it holds, transitions a second)
_HAZARDS: Final[Mapping[str, tuple[tuple[float, float], ...]]] = {
    Status.QUEUED: ((0, 1 / 40), (120, 1 / 120), (600, 1 / 300)),
    Status.PRODUCING: (
        (0, 1 / 20_000),  # a failure on the way, hardly anything else
        (300, 1 / 5_000),
        (600, 1 / 1_200),
        (900, 1 / 500),
        (1_800, 1 / 900),
        (3_600, 1 / 2_400),
    ),
    Status.AWAITING_APPROVAL: ((0, 1 / 15), (30, 1 / 300), (120, 1 / 1_200), (3_600, 1 / 7_200)),
    Status.DISTRIBUTING: ((0, 1 / 200), (30, 1 / 90), (300, 1 / 300)),
}
_UNKNOWN: Final = ((0.0, 1 / 600),)
AGE_BINS: Final = tuple(15 * 1.5**n for n in range(20))  # seconds: 15 s to 9 h


def hazard(status: Status, age: float) -> float:
    """Transitions a second out of a status, at this many seconds in it. Never zero."""
    steps = _HAZARDS.get(status, _UNKNOWN)
    at = bisect_right(steps, age, key=lambda step: step[0])
    return steps[max(at - 1, 0)][1]


def expected_unseen(status: Status, age: float, gap: float) -> float:
    """Seconds for which a transition is expected to have gone unseen, `gap` after the status had this age.

    The integral over the gap of the chance to have left by then, with the hazard of each age: exact, so it
    grows with the gap. (With one hazard for the whole gap it would fall at each step of the table.)
    """
    steps = _HAZARDS.get(status, _UNKNOWN)
    at = max(bisect_right(steps, age, key=lambda step: step[0]) - 1, 0)
    unseen, stays = 0.0, 1.0
    while gap > 0:
        hazard = steps[at][1]
        at += 1
        ends = steps[at][0] - age if at < len(steps) else math.inf
        seconds = min(gap, ends)
        leaves = -math.expm1(-hazard * seconds)
        unseen += seconds - stays * leaves / hazard
        stays *= 1 - leaves
        gap -= seconds
        age += seconds
    return unseen


def age_bin(age: float) -> int:
    """Give the bin of an age: productions in one bin have much the same hazard."""
    return bisect_right(AGE_BINS, age)
