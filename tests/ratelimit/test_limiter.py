"""The rate limit of one client: other programs on the same key, 429s, and limits that change. Pure."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import RateLimit
from jarai_async._api.calls import Kind
from jarai_async._api.responses import RateLimitState
from jarai_async._ratelimit.limiter import WINDOW, RateLimiter
from tests.support.limiters import DAY, NOON, exchange, limiter_at, send_all, send_spaced


@pytest.mark.parametrize("result", ["lost", "never sent"])
def test_first_request_is_sent_alone(result: str) -> None:
    """Until the first response only one request is in flight at a time."""
    limiter = RateLimiter(RateLimit(per_minute=100))
    assert send_all(limiter, 0) == 1
    assert limiter.earliest_send(Kind.CANCEL, 5, NOON) == math.inf
    if result == "lost":
        limiter.failed(0, 5)
    else:
        limiter.release(0)
    assert send_all(limiter, 5) == 1
    limiter.record_response(RateLimitState(), 0, 6, Random(1))
    assert send_all(limiter, 6) > 1


def test_polls_are_spread_evenly() -> None:
    """Polls are spread over the minute, with at most three at once after a pause; reads are not."""
    limiter = limiter_at(60)
    assert send_all(limiter, 1000, Kind.POLL) == 3
    assert limiter.earliest_send(Kind.POLL, 1000, NOON) == pytest.approx(1001)
    assert send_all(limiter, 1000, Kind.READ) == 57


# --- Other programs on the same key ----------------------------------------------------------------


def test_requests_of_other_programs_use_slots_for_a_minute() -> None:
    """Requests that the server counts and this client did not make use slots; two more are reserved."""
    limiter = limiter_at(60, remaining=19)  # the server counts 41, and 40 of them are not ours
    assert limiter.used_slots(0) == 41
    assert send_spaced(limiter, 1) == 60 - 41 - 2
    assert limiter.used_slots(WINDOW) == 60 - 41 - 2
    assert send_all(limiter_at(60, remaining=59), 1) == 59
    assert limiter_at(60, remaining=0).earliest_send(Kind.READ, 1, NOON) == WINDOW


def test_requests_are_spaced_while_other_programs_are_active() -> None:
    """Requests are sent half of an even spread apart, and at once again when the others are gone."""
    limiter = limiter_at(60, remaining=57)
    assert [send_all(limiter, 1 + tenth / 10) for tenth in range(11)] == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    assert send_all(limiter, 700) == 60 - 3


def test_reserve_ends_ten_minutes_after_other_programs_were_seen() -> None:
    """Two slots are reserved for ten minutes after requests of other programs, and then used again."""
    limiter = limiter_at(10, remaining=8)
    assert send_spaced(limiter, 560, 1) == 8
    limiter = limiter_at(10, remaining=8)
    assert send_all(limiter, 600) == 10


def test_requests_of_other_programs_are_charged_once() -> None:
    """A second response that counts the same requests of other programs uses no further slots."""
    limiter = limiter_at(60, remaining=39)
    slot = limiter.acquire(Kind.READ, 1, NOON)
    limiter.record_response(RateLimitState(60, 38), slot, 2, Random(1))
    assert limiter.used_slots(2) == 22


def test_other_programs_are_noticed_at_any_time() -> None:
    """Their requests use slots for a minute from the response that shows them."""
    limiter = limiter_at(60)
    slot = limiter.acquire(Kind.READ, 70, NOON)
    limiter.record_response(RateLimitState(60, 30), slot, 71, Random(1))
    assert [limiter.used_slots(now) for now in (71, 130.9, 131)] == [30, 30, 0]
    limiter = limiter_at(60)
    slot = limiter.acquire(Kind.READ, 30, NOON)
    limiter.record_response(RateLimitState(60, 18), slot, 31, Random(1))
    assert [limiter.used_slots(now) for now in (31, 61, 90.9, 91)] == [42, 41, 41, 0]


@pytest.mark.parametrize("others", [0, 1])
def test_slot_that_returned_during_a_request_may_still_be_counted(others: int) -> None:
    """The server may have counted our own old request as well: only the excess is of other programs."""
    limiter = limiter_at(60)
    slot = limiter.acquire(Kind.READ, 59, NOON)
    limiter.record_response(RateLimitState(60, 58 - others), slot, 61, Random(1))
    assert limiter.used_slots(61) == 1 + others


@pytest.mark.parametrize(("limit", "second"), [(1, 0), (2, 0), (3, 0), (4, 1)])
def test_small_limit_is_not_reserved_completely(limit: int, second: int) -> None:
    """While other programs are active, one request may be in flight however small the limit is."""
    limiter = limiter_at(10, remaining=5)
    limiter.record_response(RateLimitState(limit, 0), limiter.acquire(Kind.READ, 1, NOON), 2, Random(1))
    assert send_all(limiter, 100) == 1
    assert send_all(limiter, 140) == second


def test_limit_of_the_user_bounds_own_requests_only() -> None:
    """`RateLimit(per_minute=30)` leaves 30 of 60 to other programs; their requests do not use up the 30."""
    limiter = limiter_at(60, per_minute=30, remaining=30)  # 29 of the 30 counted are of other programs
    assert send_spaced(limiter, 1) == 60 - 30 - 2
    limiter = limiter_at(60, per_minute=20, remaining=30)
    assert send_spaced(limiter, 1) == 19


def test_changed_limit_applies_to_the_next_request() -> None:
    """A header with a smaller or a larger limit applies immediately."""
    limiter = limiter_at(60)
    slots = [limiter.acquire(Kind.READ, 1, NOON) for _ in range(20)]
    limiter.record_response(RateLimitState(10, 0), slots[0], 2, Random(1))
    assert limiter.limit == 10
    assert send_all(limiter, 2) == 0
    limiter.record_response(RateLimitState(300, 279), slots[1], 3, Random(1))
    assert send_all(limiter, 3) == 300 - 21


# --- 429 and pauses --------------------------------------------------------------------------------


@given(st.floats(1, 100_000), st.lists(st.floats(10, 50), max_size=5), st.integers(0, 99))
def test_429_pauses_requests_of_every_kind(seconds: float, later: list[float], seed: int) -> None:
    """Nothing is sent before Retry-After, plus at most a tenth or 5 s of jitter, after any number of 429s."""
    limiter, random = limiter_at(300), Random(seed)
    slots = [limiter.acquire(Kind.READ, 9, NOON) for _ in [0.0, *later]]
    now = 10.0
    for slot, now in zip(slots, sorted([10.0, *later]), strict=True):  # those in flight get a 429, too
        limiter.record_response(RateLimitState(retry_after=seconds), slot, now, random)
    ends = now + seconds
    for kind in Kind:
        assert ends <= limiter.earliest_send(kind, now, NOON) <= ends + min(5, seconds / 10)


def test_jitter_keeps_processes_from_resuming_together_after_a_429() -> None:
    """Different processes resume at times that are spread over a tenth of Retry-After."""
    ends = []
    for seed in range(200):
        limiter = limiter_at(300)
        slot = limiter.acquire(Kind.READ, 1, NOON)
        limiter.record_response(RateLimitState(retry_after=20), slot, 1, Random(seed))
        ends.append(limiter.paused_until)
    assert 21 <= min(ends) < 21.1
    assert 22.9 < max(ends) <= 23


def test_polls_do_not_resume_in_a_burst_after_a_429() -> None:
    """The minute was used up, perhaps by other programs."""
    limiter = limiter_at(60)
    exchange(limiter, RateLimitState(retry_after=30), 1)
    assert send_all(limiter, limiter.paused_until, Kind.POLL) == 1


def test_429_for_the_day_does_not_change_the_limit_of_the_minute() -> None:
    """Its headers may describe the day: a limit of 100 a day is not 100 a minute."""
    limiter = limiter_at(10)
    exchange(limiter, RateLimitState(100, 0, retry_after=40_000), 1)
    assert limiter.limit == 10
    assert limiter.used_slots(2) == 2
    assert send_all(limiter, 40_010, wall=NOON + DAY) == 10


@pytest.mark.parametrize(("seconds", "limit"), [(120, 60), (121, 10)])
def test_429_with_a_retry_after_of_up_to_two_minutes_describes_the_minute(seconds: int, limit: int) -> None:
    """A longer Retry-After cannot be about a window of one minute, so its limit is ignored."""
    limiter = limiter_at(10)
    exchange(limiter, RateLimitState(60, 0, retry_after=seconds), 1)
    assert limiter.limit == limit


def test_pause_stops_all_requests_and_then_one_is_sent_alone() -> None:
    """A shorter pause changes nothing; the response to the first request afterwards lets the others go."""
    limiter = RateLimiter(RateLimit(10, 100))
    exchange(limiter, RateLimitState(), 0)
    limiter.pause_until(50)
    limiter.pause_until(20)
    assert limiter.paused_until == 50
    for kind in Kind:
        assert limiter.earliest_send(kind, 1, NOON) == 50
    slot = limiter.acquire(Kind.READ, 50, NOON)
    assert limiter.earliest_send(Kind.READ, 50, NOON) == math.inf
    limiter.record_response(RateLimitState(), slot, 51, Random(1))
    assert limiter.earliest_send(Kind.READ, 51, NOON) == 51


def test_shorter_pause_does_not_end_a_longer_one() -> None:
    """Neither that of a later 429, nor that of a rejected key."""
    limiter = limiter_at(60)
    for retry_after in (100, 5):
        exchange(limiter, RateLimitState(retry_after=retry_after), 1000)
    assert 1100 <= limiter.earliest_send(Kind.READ, 1000, NOON) <= 1105
    limiter.pause_until(1300)
    limiter.pause_until(1200)
    assert limiter.earliest_send(Kind.READ, 1000, NOON) == 1300
