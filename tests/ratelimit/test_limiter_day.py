"""The quota of requests a day: what polls may use of it, and midnight (UTC). Pure."""

import math
from random import Random

import pytest

from jarai_async import RateLimit
from jarai_async._api.calls import Kind
from jarai_async._api.responses import RateLimitState
from jarai_async._ratelimit.limiter import RateLimiter
from tests.support.limiters import DAY, NO_DAILY_QUOTA, NOON, exchange, limiter_at, send_all

MIDNIGHT = DAY / 2  # on the monotonic clock, which begins at noon


def limiter_with_quota(per_minute: int, per_day: int) -> RateLimiter:
    """Return a limiter that has received one response, at noon."""
    limiter = RateLimiter(RateLimit(per_minute, per_day))
    exchange(limiter, RateLimitState(per_minute, per_minute - 1), 0)
    return limiter


def test_quota_of_the_day_returns_at_midnight_utc() -> None:
    """When the day's requests are used up, everything waits until midnight (UTC)."""
    limiter = limiter_with_quota(50, 20)
    assert send_all(limiter, 1) == 19
    for kind in Kind:
        assert limiter.earliest_send(kind, 100, NOON + 100) == 100 + MIDNIGHT - 100
    for _ in range(19):
        limiter.failed(0, 200)
    assert send_all(limiter, MIDNIGHT, wall=NOON + MIDNIGHT) == 20


def test_request_in_flight_at_midnight_counts_on_both_days() -> None:
    """It may arrive before or after midnight; one that was never sent counts on neither day."""
    limiter = limiter_with_quota(50, 20)
    in_flight = [limiter.acquire(Kind.READ, 100, NOON + MIDNIGHT - 1) for _ in range(3)]
    assert len(in_flight) == 3
    assert limiter.left_today(NOON + MIDNIGHT) == 17
    limiter.release(0)
    assert limiter.left_today(NOON + MIDNIGHT) == 18


def poll_until_midnight(limiter: RateLimiter) -> int:
    """Poll whenever the limiter allows it, from noon on, and return how often."""
    now, polls = 0.0, 0
    while (now := limiter.earliest_send(Kind.POLL, now, NOON + now)) < MIDNIGHT:
        slot = limiter.acquire(Kind.POLL, now, NOON + now)
        limiter.record_response(RateLimitState(10, 9), slot, now, Random(1))
        polls += 1
    return polls


def test_polls_leave_a_tenth_of_the_daily_quota() -> None:
    """A tenth of the quota is left at midnight, when the polls of the new day begin."""
    limiter = RateLimiter(RateLimit(per_day=100))
    assert 80 < poll_until_midnight(limiter) <= 90
    assert limiter.left_today(NOON + MIDNIGHT - 1) >= 10
    assert limiter.earliest_send(Kind.POLL, MIDNIGHT, NOON + MIDNIGHT) <= MIDNIGHT + 60


def test_polls_of_a_new_day_begin_at_midnight() -> None:
    """The long pause between the last polls of a day ends at midnight."""
    limiter = limiter_with_quota(200, 100)
    for _ in range(87):
        limiter.acquire(Kind.SUBMIT, 1, NOON)
    late = MIDNIGHT - 100
    limiter.acquire(Kind.POLL, late, NOON + late)
    assert limiter.earliest_send(Kind.POLL, late + 1, NOON + late + 1) <= MIDNIGHT


def test_polls_do_not_use_the_reserve_that_submits_use() -> None:
    """When other requests have used the polls' share, polls wait for midnight while submits continue."""
    limiter = limiter_with_quota(200, 100)
    for _ in range(94):
        limiter.acquire(Kind.SUBMIT, 1, NOON)
    assert limiter.earliest_send(Kind.POLL, 1, NOON + 1) == MIDNIGHT
    assert limiter.earliest_send(Kind.SUBMIT, 1, NOON + 1) == 1


def test_last_poll_of_a_day_is_sent() -> None:
    """A poll is sent while one request is left besides the reserve."""
    limiter = limiter_with_quota(200, 100)
    for _ in range(88):
        limiter.acquire(Kind.SUBMIT, 1, NOON)
    assert limiter.earliest_send(Kind.POLL, 1, NOON + 1) == 1
    limiter.acquire(Kind.POLL, 1, NOON + 1)
    assert limiter.earliest_send(Kind.POLL, 2, NOON + 2) == MIDNIGHT


@pytest.mark.parametrize(
    ("limit", "per_day", "productions"), [(10, 100, 3), (60, 2_000, 20), (300, math.inf, math.inf)]
)
def test_documented_tiers_have_daily_quotas(limit: int, per_day: float, productions: float) -> None:
    """The daily quotas follow from the limit a minute, unless the user sets the requests a day."""
    limiter = RateLimiter(RateLimit())
    exchange(limiter, RateLimitState(limit, limit - 1), 0)
    assert (limiter.per_day, limiter.productions_per_day) == (per_day, productions)
    assert limiter.has_daily_quotas == (limit < 300)
    assert limiter_at(limit).per_day == NO_DAILY_QUOTA
    assert limiter_at(limit).has_daily_quotas


def test_smallest_tier_is_assumed_until_a_header_tells_the_limit() -> None:
    """No daily quota is assumed. A limit that the user sets applies from the start, and only lowers it."""
    unknown = RateLimiter(RateLimit())
    assert (unknown.limit, unknown.per_day, unknown.productions_per_day) == (10, math.inf, math.inf)
    assert unknown.has_daily_quotas
    assert RateLimiter(RateLimit(per_minute=30)).limit == 30
    assert limiter_at(60, per_minute=30).limit == 30
    assert limiter_at(10, per_minute=30).limit == 10


def test_requests_left_today() -> None:
    """Infinite without a daily quota; with one, a new day begins at midnight (UTC)."""
    limiter = RateLimiter(RateLimit(10, 100))
    exchange(limiter, RateLimitState(), 0)
    exchange(limiter, RateLimitState(), 1)
    assert limiter.left_today(NOON + 2) == 98
    earlier_process = {"slots": [NOON + 60, NOON + 70, NOON + 90], "day": 20_000, "requests": 98}
    limiter.restore_state(earlier_process, 2, NOON + 2)
    assert limiter.left_today(NOON + 2) == 0
    assert limiter.left_today(NOON + MIDNIGHT) == 100
    unlimited = RateLimiter(RateLimit())
    exchange(unlimited, RateLimitState(300, 299), 0)
    assert unlimited.left_today(NOON) == math.inf
    assert not unlimited.has_daily_quotas
    assert RateLimiter(RateLimit()).has_daily_quotas
