"""What the tests of the request budget share: a budget in use, and a client that sends what it may."""

from random import Random

from jarai_async import Budget
from jarai_async._answers import Rate
from jarai_async._budget import RequestBudget
from jarai_async._turns import Kind

DAY = 86_400.0
NOON = 20_000 * DAY + DAY / 2  # a wall clock; the monotonic one is independent of it
NO_DAY = 10**9


def used_up(limit: int = 10, *, per_minute: int | None = None, remaining: int | None = None) -> RequestBudget:
    """Make a budget whose first request was answered at 0."""
    budget = RequestBudget(Budget(per_minute, NO_DAY))
    slot = budget.take(Kind.READ, 0, NOON)
    budget.answered(Rate(limit, limit - 1 if remaining is None else remaining), slot, 0, Random(1))
    return budget


def send(budget: RequestBudget, now: float, kind: Kind = Kind.READ, wall: float = NOON) -> int:
    """Send as many requests as may be sent at one moment."""
    sent = 0
    while budget.may_send_at(kind, now, wall) <= now:
        budget.take(kind, now, wall)
        sent += 1
    return sent


def send_slowly(budget: RequestBudget, now: float, every: float = 0.5) -> int:
    """Send as many as may be sent within half a minute."""
    return sum(min(1, send(budget, now + n * every)) for n in range(int(30 / every)))
