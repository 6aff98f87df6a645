"""What the tests of the request budget share: a budget in use, and a client that sends what it may."""

from random import Random

from jarai_async import RateLimit
from jarai_async._api.calls import Kind
from jarai_async._api.responses import RateLimitState
from jarai_async._ratelimit.limiter import RateLimiter

DAY = 86_400.0
NOON = 20_000 * DAY + DAY / 2  # a wall clock; the monotonic one is independent of it
NO_DAY = 10**9


def used_up(limit: int = 10, *, per_minute: int | None = None, remaining: int | None = None) -> RateLimiter:
    """Make a budget whose first request was answered at 0."""
    budget = RateLimiter(RateLimit(per_minute, NO_DAY))
    slot = budget.acquire(Kind.READ, 0, NOON)
    budget.record_response(
        RateLimitState(limit, limit - 1 if remaining is None else remaining), slot, 0, Random(1)
    )
    return budget


def send(budget: RateLimiter, now: float, kind: Kind = Kind.READ, wall: float = NOON) -> int:
    """Send as many requests as may be sent at one moment."""
    sent = 0
    while budget.earliest_send(kind, now, wall) <= now:
        budget.acquire(kind, now, wall)
        sent += 1
    return sent


def send_slowly(budget: RateLimiter, now: float, every: float = 0.5) -> int:
    """Send as many as may be sent within half a minute."""
    return sum(min(1, send(budget, now + n * every)) for n in range(int(30 / every)))
