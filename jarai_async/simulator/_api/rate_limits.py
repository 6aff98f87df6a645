"""The limits of a partner: requests per minute and day, productions per day and month.

Pure: times are arguments, `now` in seconds on a monotonic clock, `wall` in Unix seconds.

The limit per minute is a true rolling window: in no 60 seconds, wherever they begin, does the API admit more
requests than the tier allows. Days and months are calendar days and months in UTC.

Documented: the numbers of the tiers, the rolling window, midnight UTC, and that `retryAfterSeconds`
reaches to the window's end. Inferred: a rejected request does not count; the window "ends" when its oldest
request leaves it; the headers describe the limit that rejected the request, otherwise the limit per minute.
"""

import math
from collections import Counter, deque
from datetime import UTC, datetime
from typing import Literal

from attrs import field, frozen, mutable

from jarai_async.simulator._common import DAY_SECONDS

TierName = Literal["free", "standard", "enterprise"]
LimitName = Literal["minute", "day", "productions"]
WINDOW_SECONDS = 60.0


@frozen
class Tier:
    """The documented limits of a subscription; None means unlimited."""

    requests_per_minute: int
    requests_per_day: int | None
    productions_per_day: int | None  # of each account


TIERS: dict[str, Tier] = {
    "free": Tier(10, 100, 3),
    "standard": Tier(60, 2_000, 20),
    "enterprise": Tier(300, None, None),
}


@frozen
class LimitState:
    """The state of a limit after a request; `retry_after` is None if the request was admitted."""

    limit: int
    remaining: int
    reset: int  # Unix seconds
    retry_after: int | None = None  # whole seconds
    name: LimitName = "minute"

    def headers(self) -> dict[str, str]:
        """Return the headers that the API sends with 2xx and 429."""
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.reset),
        }


class RollingWindow:
    """The requests of the last 60 seconds: a request at time t counts in [t, t + 60)."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._leaving_times: deque[float] = deque()

    def remaining(self, now: float) -> int:
        """Return how many more requests the window admits now."""
        while self._leaving_times and self._leaving_times[0] <= now:
            self._leaving_times.popleft()
        return self.limit - len(self._leaving_times)

    def count(self, now: float) -> None:
        """Count one request."""
        self._leaving_times.append(now + WINDOW_SECONDS)

    def seconds_to_end(self, now: float) -> int:
        """Return the seconds until the oldest request leaves, rounded up; 0 for an empty window."""
        if self.remaining(now) == self.limit:
            return 0
        return math.ceil(self._leaving_times[0] - now)


@mutable
class DailyQuota:
    """A limit per day, which begins at midnight UTC; None means unlimited."""

    limit: int | None
    name: LimitName
    _day: int = -1
    _spent: int = 0

    def spent(self, wall: float) -> int:
        """Return how many were counted since midnight."""
        day = int(wall // DAY_SECONDS)
        if day != self._day:
            self._day, self._spent = day, 0
        return self._spent

    def count(self, wall: float) -> None:
        """Count one."""
        self._spent = self.spent(wall) + 1

    def set_left(self, left: int, wall: float) -> None:
        """Leave so many of today's quota. Raises ValueError unless there is a quota of this size."""
        if self.limit is None or not 0 <= left <= self.limit:
            limit = "unlimited, unlike that of standard and free" if self.limit is None else self.limit
            raise ValueError(f"cannot leave {left!r}: the quota of this tier is {limit}")
        self._day, self._spent = int(wall // DAY_SECONDS), self.limit - left

    def exceeded(self, wall: float) -> LimitState | None:
        """Return None while some of the day's quota is left, otherwise the state for a rejection."""
        if self.limit is None or self.spent(wall) < self.limit:
            return None
        midnight = (int(wall // DAY_SECONDS) + 1) * DAY_SECONDS
        return LimitState(self.limit, 0, midnight, math.ceil(midnight - wall), self.name)


@mutable
class MonthlyCeiling:
    """The spend ceiling of each account, in productions per calendar month; None means no ceiling."""

    limit: int | None
    _spent: Counter[tuple[str, int, int]] = field(factory=Counter)

    def reached(self, account_id: str, wall: float) -> bool:
        """Return whether one more production would exceed the ceiling."""
        return self.limit is not None and self.spent(account_id, wall) >= self.limit

    def spent(self, account_id: str, wall: float) -> int:
        """Return the account's productions in this month."""
        return self._spent[_month(account_id, wall)]

    def count(self, account_id: str, wall: float) -> None:
        """Count one production."""
        self._spent[_month(account_id, wall)] += 1


def _month(account_id: str, wall: float) -> tuple[str, int, int]:
    date = datetime.fromtimestamp(wall, UTC)
    return account_id, date.year, date.month


class Limits:
    """All limits of one partner, shared by all its keys."""

    def __init__(self, tier: Tier, *, daily_quotas: bool, spend_ceiling: int | None) -> None:
        self.day = DailyQuota(None, "day")
        self.ceiling = MonthlyCeiling(spend_ceiling)
        self._daily_quotas = daily_quotas
        self._production_quotas: dict[str, DailyQuota] = {}
        self.restart(tier)

    def restart(self, tier: Tier) -> None:
        """Apply a tier. The count of the last minute is lost; those of days and months are kept."""
        self.tier = tier
        self.window = RollingWindow(tier.requests_per_minute)
        if self._daily_quotas:
            self.day.limit = tier.requests_per_day
            for quota in self._production_quotas.values():
                quota.limit = tier.productions_per_day

    def exceeded(self, now: float, wall: float) -> LimitState | None:
        """Return the state of the limit that rejects a request now, or None."""
        exceeded = self.day.exceeded(wall)
        if exceeded is None and self.window.remaining(now) <= 0:
            wait = self.window.seconds_to_end(now)
            exceeded = LimitState(self.window.limit, 0, math.ceil(wall + wait), wait)
        return exceeded

    def count(self, now: float, wall: float) -> None:
        """Count an admitted request in the minute and in the day."""
        self.window.count(now)
        self.day.count(wall)

    def count_production(self, account_id: str, wall: float) -> None:
        """Count a production that was created, in its day and its month."""
        self.productions_of(account_id).count(wall)
        self.ceiling.count(account_id, wall)

    def state(self, now: float, wall: float) -> LimitState:
        """Return the state of the limit per minute, for the headers of an admitted request."""
        remaining = max(0, self.window.remaining(now))
        reset = math.ceil(wall + self.window.seconds_to_end(now))
        return LimitState(self.window.limit, remaining, reset)

    def productions_of(self, account_id: str) -> DailyQuota:
        """Return the account's quota of productions per day."""
        if account_id not in self._production_quotas:
            limit = self.tier.productions_per_day if self._daily_quotas else None
            self._production_quotas[account_id] = DailyQuota(limit, "productions")
        return self._production_quotas[account_id]
