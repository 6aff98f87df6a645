"""What outlives a process of its request budget, and what the budget says of itself."""

import json
import math
from random import Random
from typing import Any

import pytest

from jarai_async import RateLimit
from jarai_async._api.calls import Kind
from jarai_async._api.responses import RateLimitState
from jarai_async._ratelimit.limiter import RateLimiter
from tests.support.limiters import DAY, NOON

SPENT = {"slots": [NOON + 60, NOON + 70, NOON + 90], "day": 20_000, "requests": 3}


def budget_of(*sent: float, per_minute: int | None = 10, per_day: int | None = 100) -> RateLimiter:
    """A budget of which so many requests were sent and answered, at once."""
    budget = RateLimiter(RateLimit(per_minute, per_day))
    for moment in sent:
        budget.record_response(
            RateLimitState(), budget.acquire(Kind.READ, moment, NOON + moment), moment, Random(1)
        )
    return budget


def recalled(spent: Any = SPENT, now: float = 1000, wall: float = NOON + 40) -> RateLimiter:
    budget = budget_of()
    budget.restore_state(spent, now, wall)
    return budget


def test_what_was_spent_is_exported_by_the_wall_clock() -> None:
    """A slot comes back a minute after its answer; one on its way is taken to come back in a minute."""
    budget = budget_of(0.12345, 10)
    budget.acquire(Kind.READ, 20, NOON + 20)
    slots = [NOON + 60.123, NOON + 70, NOON + 90]
    assert budget.export_state(30, NOON + 30) == {"slots": slots, "day": 20_000, "requests": 3}
    assert budget.export_state(65, NOON + 65)["slots"] == [NOON + 70, NOON + 65 + 60]


def test_a_new_day_is_exported_as_such() -> None:
    """What is on its way at midnight counts on both days."""
    budget = budget_of(0, 10)
    budget.acquire(Kind.READ, 20, NOON + 20)
    exported = budget.export_state(DAY / 2, NOON + DAY / 2)
    assert exported == {"slots": [NOON + DAY / 2 + 60], "day": 20_001, "requests": 1}


def test_what_an_earlier_process_spent_counts_until_it_comes_back() -> None:
    """On a monotonic clock of its own; and in the day's quota."""
    budget = recalled(json.loads(json.dumps(SPENT)))
    used = [budget.used_slots(now) for now in (1000, 1019.9, 1020, 1030, 1049.9, 1050)]
    assert used == [3, 3, 2, 1, 1, 0]
    assert budget.left_today(NOON + 40) == 97


def test_it_is_counted_beside_what_this_process_has_spent_already() -> None:
    """In the order in which slots come back, whoever took them."""
    budget = budget_of(40)
    budget.restore_state(SPENT, 41, NOON + 41)
    used = [budget.used_slots(now) for now in (41, 60, 70, 90, 99, 100)]
    assert used == [4, 3, 2, 1, 1, 0]
    assert budget.left_today(NOON + 41) == 96


def test_what_was_spent_on_another_day_is_not_todays() -> None:
    """Of yesterday's process only the slots of the last minute count."""
    budget = recalled({**SPENT, "day": 19_999})
    assert budget.used_slots(1000) == 3
    assert budget.left_today(NOON + 40) == 100


def test_a_clock_that_was_put_back_blocks_nothing() -> None:
    """No slot is held for longer than a minute; those that are over, or no moments at all, are not held."""
    budget = recalled(
        {**SPENT, "slots": [NOON + 9000, math.inf, NOON + 41, NOON + 40, NOON, -math.inf, math.nan]}
    )
    assert [budget.used_slots(now) for now in (1000, 1001, 1059.9, 1060)] == [3, 2, 2, 0]


def test_no_export_adds_to_the_days_quota() -> None:
    """Less than nothing was spent by nobody."""
    assert recalled({**SPENT, "requests": -50}).left_today(NOON + 40) == 100


@pytest.mark.parametrize(
    "spent",
    [
        {},
        {"slots": [], "day": 20_000},
        {**SPENT, "slots": None},
        {**SPENT, "slots": [None]},
        {**SPENT, "day": []},
        {**SPENT, "requests": math.inf},
    ],
)
def test_what_is_no_export_is_refused(spent: dict[str, Any]) -> None:
    """And nothing of it is counted."""
    budget = budget_of()
    with pytest.raises(ValueError, match=r"^not an exported state: "):
        budget.restore_state(spent, 1000, NOON)
    assert budget.used_slots(1000) == 0
    assert budget.left_today(NOON) == 100


def test_it_says_what_is_free_now() -> None:
    """Never less than none, also where the limit falls below what was taken."""
    budget = budget_of(0, 1, 2, per_minute=None)
    assert budget.free_slots(2) == 10 - 3
    assert budget.free_slots(61) == 10 - 1
    budget.record_response(RateLimitState(2, 0), budget.acquire(Kind.READ, 3, NOON + 3), 3, Random(1))
    assert budget.free_slots(3) == 0


def test_requests_left_today() -> None:
    """Infinite without a daily quota; a new day begins at midnight UTC."""
    budget = budget_of(0, 1)
    assert budget.left_today(NOON + 2) == 98
    budget.restore_state({**SPENT, "requests": 98}, 2, NOON + 2)
    assert budget.left_today(NOON + 2) == 0
    assert budget.left_today(NOON + DAY / 2) == 100
    unlimited = RateLimiter(RateLimit())
    unlimited.record_response(RateLimitState(300, 299), unlimited.acquire(Kind.READ, 0, NOON), 0, Random(1))
    assert unlimited.left_today(NOON) == math.inf
    assert not unlimited.has_daily_quotas
    assert RateLimiter(RateLimit()).has_daily_quotas


def test_a_hold_stops_everyone_and_then_one_goes_alone() -> None:
    """A shorter one changes nothing; the answer to the first afterwards lets the others go."""
    budget = budget_of(0)
    budget.pause_until(50)
    budget.pause_until(20)
    assert budget.paused_until == 50
    for kind in Kind:
        assert budget.earliest_send(kind, 1, NOON) == 50
    slot = budget.acquire(Kind.READ, 50, NOON)
    assert budget.earliest_send(Kind.READ, 50, NOON) == math.inf
    budget.record_response(RateLimitState(), slot, 51, Random(1))
    assert budget.earliest_send(Kind.READ, 51, NOON) == 51
