"""What the rate limit remembers across a restart, and what it reports. Pure."""

import json
import math
from typing import Any

import pytest

from jarai_async import RateLimit
from jarai_async._api.calls import Kind
from jarai_async._api.responses import RateLimitState
from jarai_async._ratelimit.limiter import RateLimiter
from tests.support.limiters import DAY, NOON, exchange

STATE = {"slots": [NOON + 60, NOON + 70, NOON + 90], "day": 20_000, "requests": 3}


def limiter_after(*times: float, per_minute: int | None = 10) -> RateLimiter:
    """Return a limiter after a request at each of these times, each with an immediate response."""
    limiter = RateLimiter(RateLimit(per_minute, 100))
    for time in times:
        exchange(limiter, RateLimitState(), time)
    return limiter


def restored(state: Any = STATE, now: float = 1000, wall: float = NOON + 40) -> RateLimiter:
    limiter = limiter_after()
    limiter.restore_state(state, now, wall)
    return limiter


def test_state_is_exported_by_the_wall_clock() -> None:
    """A slot returns a minute after its response; that of a request in flight, in a minute from now."""
    limiter = limiter_after(0.12345, 10)
    limiter.acquire(Kind.READ, 20, NOON + 20)
    slots = [NOON + 60.123, NOON + 70, NOON + 90]
    state = {"limit": None, "slots": slots, "own": slots, "day": 20_000, "requests": 3}
    assert limiter.export_state(30, NOON + 30) == state
    assert limiter.export_state(65, NOON + 65)["slots"] == [NOON + 70, NOON + 65 + 60]


def test_export_after_midnight_is_of_the_new_day() -> None:
    """A request in flight at midnight counts on both days."""
    limiter = limiter_after(0, 10)
    limiter.acquire(Kind.READ, 20, NOON + 20)
    exported = limiter.export_state(DAY / 2, NOON + DAY / 2)
    slots = [NOON + DAY / 2 + 60]
    assert exported == {"limit": None, "slots": slots, "own": slots, "day": 20_001, "requests": 1}


def test_limit_is_kept_across_a_restart() -> None:
    """Else the slots of the last minute would be counted against the smallest tier. Headers come first."""
    limiter = limiter_after(per_minute=None)
    exchange(limiter, RateLimitState(300, 299), 0)
    state = limiter.export_state(10, NOON + 10)
    later = limiter_after(per_minute=None)
    later.restore_state(json.loads(json.dumps(state)), 1000, NOON + 20)
    assert (later.limit, later.free_slots(1000)) == (300, 299)
    corrected = limiter_after(per_minute=None)
    exchange(corrected, RateLimitState(60, 59), 1000)
    corrected.restore_state(state, 1001, NOON + 20)
    assert corrected.limit == 60


def test_limit_of_the_user_holds_across_a_restart() -> None:
    """It bounds this client's requests, not those that it saw of other programs."""
    before = limiter_after(per_minute=2)
    exchange(before, RateLimitState(300, 200), 0)  # 99 of other programs
    exchange(before, RateLimitState(300, 199), 1)
    state = before.export_state(10, NOON + 10)
    limiter = limiter_after(per_minute=2)
    limiter.restore_state(state, 1000, NOON + 10)
    assert len(state["slots"]) > len(state["own"]) == 2
    assert limiter.earliest_send(Kind.READ, 1000, NOON + 10) == pytest.approx(1050)


def test_requests_of_an_earlier_process_count_after_a_restart() -> None:
    """Their slots return a minute after their responses, and they count against the daily quota."""
    limiter = restored(json.loads(json.dumps(STATE)))
    used = [limiter.used_slots(now) for now in (1000, 1019.9, 1020, 1030, 1049.9, 1050)]
    assert used == [3, 3, 2, 1, 1, 0]
    assert limiter.left_today(NOON + 40) == 97


def test_restored_requests_count_besides_those_of_this_process() -> None:
    """Slots return in order of time, whichever process used them."""
    limiter = limiter_after(40)
    limiter.restore_state(STATE, 41, NOON + 41)
    used = [limiter.used_slots(now) for now in (41, 60, 70, 90, 99, 100)]
    assert used == [4, 3, 2, 1, 1, 0]
    assert limiter.left_today(NOON + 41) == 96


def test_requests_of_yesterday_do_not_count_against_the_daily_quota() -> None:
    """Of a process that ended yesterday, only the slots of the last minute count."""
    limiter = restored({**STATE, "day": 19_999})
    assert limiter.used_slots(1000) == 3
    assert limiter.left_today(NOON + 40) == 100


def test_clock_that_was_set_back_blocks_no_slot_for_longer_than_a_minute() -> None:
    """Slots that have returned by now, and values that are not times, are ignored."""
    times = [NOON + 9000, math.inf, NOON + 41, NOON + 40, NOON, -math.inf, math.nan]
    limiter = restored({**STATE, "slots": times})
    assert [limiter.used_slots(now) for now in (1000, 1001, 1059.9, 1060)] == [3, 2, 2, 0]


def test_negative_count_does_not_enlarge_the_daily_quota() -> None:
    """A negative number of requests counts as none."""
    assert restored({**STATE, "requests": -50}).left_today(NOON + 40) == 100


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"slots": [], "day": 20_000},
        {**STATE, "slots": None},
        {**STATE, "slots": [None]},
        {**STATE, "day": []},
        {**STATE, "requests": math.inf},
        {**STATE, "limit": [300]},
        {**STATE, "own": [None]},
    ],
)
def test_restoring_a_damaged_state_is_an_error(state: dict[str, Any]) -> None:
    """It raises ValueError, and nothing of it is counted."""
    limiter = limiter_after()
    with pytest.raises(ValueError, match=r"^not an exported state: "):
        limiter.restore_state(state, 1000, NOON)
    assert limiter.used_slots(1000) == 0
    assert limiter.left_today(NOON) == 100


def test_free_slots() -> None:
    """They are never negative, even where the limit falls below the slots in use."""
    limiter = limiter_after(0, 1, 2, per_minute=None)
    assert limiter.free_slots(2) == 10 - 3
    assert limiter.free_slots(61) == 10 - 1
    exchange(limiter, RateLimitState(2, 0), 3)
    assert limiter.free_slots(3) == 0
