"""The request budget through the day: its quota, what polls leave of it, and midnight."""

import math
from random import Random

import pytest

from jarai_async import RateLimit
from jarai_async._api.calls import Kind
from jarai_async._api.responses import RateLimitState
from jarai_async._ratelimit.limiter import RateLimiter
from tests.support.limiters import DAY, NO_DAY, NOON, send, used_up


def test_the_days_quota_ends_at_midnight_utc() -> None:
    """When the day's requests are spent everything waits for midnight, and then there is a new quota."""
    budget = RateLimiter(RateLimit(per_minute=50, per_day=20))
    budget.record_response(RateLimitState(50, 49), budget.acquire(Kind.READ, 0, NOON), 0, Random(1))
    assert send(budget, 1) == 19
    for kind in Kind:
        assert budget.earliest_send(kind, 100, NOON + 100) == 100 + DAY / 2 - 100
    for _ in range(19):
        budget.failed(200)
    assert send(budget, DAY / 2, wall=NOON + DAY / 2) == 20


def test_what_is_on_its_way_at_midnight_counts_on_both_days() -> None:
    """It may arrive on either side; an unsent one counts on neither."""
    budget = RateLimiter(RateLimit(per_minute=50, per_day=20))
    budget.record_response(RateLimitState(50, 49), budget.acquire(Kind.READ, 0, NOON), 0, Random(1))
    late = [budget.acquire(Kind.READ, 100, NOON + DAY / 2 - 1) for _ in range(3)]
    assert len(late) == 3
    assert budget.left_today(NOON + DAY / 2) == 17
    budget.release()
    assert budget.left_today(NOON + DAY / 2) == 18


def poll_all_day(budget: RateLimiter, *, until: float = DAY / 2) -> list[float]:
    """Poll whenever it may be, from noon on; give the moments."""
    now, polls = 0.0, []
    while (now := budget.earliest_send(Kind.POLL, now, NOON + now)) < until:
        slot = budget.acquire(Kind.POLL, now, NOON + now)
        budget.record_response(RateLimitState(10, 9), slot, now, Random(1))
        polls.append(now)
    return polls


def test_polls_leave_the_days_reserve() -> None:
    """A tenth of the quota is left at midnight, and a new day's polls begin then, not a day later."""
    budget = RateLimiter(RateLimit(per_day=100))
    polls = poll_all_day(budget)
    assert 80 < len(polls) <= 90
    assert budget.left_today(NOON + DAY / 2 - 1) >= 10
    assert budget.earliest_send(Kind.POLL, DAY / 2, NOON + DAY / 2) <= DAY / 2 + 60


def test_a_new_days_polls_begin_at_midnight() -> None:
    """However few polls were left of the old day, the pause between them ends with it."""
    budget = RateLimiter(RateLimit(per_minute=200, per_day=100))
    budget.record_response(RateLimitState(200, 199), budget.acquire(Kind.READ, 0, NOON), 0, Random(1))
    for _ in range(87):
        budget.acquire(Kind.SUBMIT, 1, NOON)
    late = DAY / 2 - 100
    budget.acquire(Kind.POLL, late, NOON + late)
    assert budget.earliest_send(Kind.POLL, late + 1, NOON + late + 1) <= DAY / 2


def test_polls_do_not_touch_a_reserve_that_submits_have_opened() -> None:
    """Once others have spent the polls' share, polls wait for midnight while submits go on."""
    budget = RateLimiter(RateLimit(per_minute=200, per_day=100))
    budget.record_response(RateLimitState(200, 199), budget.acquire(Kind.READ, 0, NOON), 0, Random(1))
    for _ in range(94):
        budget.acquire(Kind.SUBMIT, 1, NOON)
    assert budget.earliest_send(Kind.POLL, 1, NOON + 1) == DAY / 2
    assert budget.earliest_send(Kind.SUBMIT, 1, NOON + 1) == 1


def test_the_last_poll_of_a_day_is_made() -> None:
    """As long as one is left beside the reserve."""
    budget = RateLimiter(RateLimit(per_minute=200, per_day=100))
    budget.record_response(RateLimitState(200, 199), budget.acquire(Kind.READ, 0, NOON), 0, Random(1))
    for _ in range(88):
        budget.acquire(Kind.SUBMIT, 1, NOON)
    assert budget.earliest_send(Kind.POLL, 1, NOON + 1) == 1
    budget.acquire(Kind.POLL, 1, NOON + 1)
    assert budget.earliest_send(Kind.POLL, 2, NOON + 2) == DAY / 2


@pytest.mark.parametrize(
    ("limit", "per_day", "productions"), [(10, 100, 3), (60, 2_000, 20), (300, math.inf, math.inf)]
)
def test_the_documented_tiers_have_their_daily_quotas(limit: int, per_day: float, productions: float) -> None:
    """They follow from the minute's limit, unless the requests are given."""
    budget = RateLimiter(RateLimit())
    budget.record_response(RateLimitState(limit, limit - 1), budget.acquire(Kind.READ, 0, NOON), 0, Random(1))
    assert (budget.per_day, budget.productions_per_day) == (per_day, productions)
    assert budget.has_daily_quotas == (limit < 300)
    assert used_up(limit).per_day == NO_DAY
    assert used_up(limit).has_daily_quotas


def test_until_a_header_tells_the_smallest_tier_is_assumed_and_no_quota() -> None:
    """What was given bounds it from the start, and never raises it."""
    unknown = RateLimiter(RateLimit())
    assert (unknown.limit, unknown.per_day, unknown.productions_per_day) == (10, math.inf, math.inf)
    assert unknown.has_daily_quotas
    assert RateLimiter(RateLimit(per_minute=30)).limit == 30
    assert used_up(60, per_minute=30).limit == 30
    assert used_up(10, per_minute=30).limit == 10
