"""What a partner may spend: a rolling minute, a day of requests, a day and a month of productions.

Pure: every moment is an argument, `now` in seconds on a monotonic clock, `wall` in Unix seconds.

The minute is a true rolling window: in no 60 seconds, wherever they begin, are more requests admitted
than the tier allows. Days and months are the calendar's, in UTC.

Documented: the numbers of the tiers, the rolling window, midnight UTC, and that `retryAfterSeconds`
reaches to the window's end. Inferred: a request that is refused does not count; the window "ends" when
its oldest request leaves it; the headers describe the limit that refused, and the minute otherwise.
"""

import math
from collections import Counter, deque
from datetime import UTC, datetime
from typing import Literal

from attrs import field, frozen, mutable

TierName = Literal["free", "standard", "enterprise"]
WINDOW_SECONDS = 60.0
_DAY_SECONDS = 86_400


@frozen
class Tier:
    """The documented limits of a subscription; None is unlimited."""

    requests_per_minute: int
    requests_per_day: int | None
    productions_per_day: int | None  # for each account


TIERS: dict[str, Tier] = {
    "free": Tier(10, 100, 3),
    "standard": Tier(60, 2_000, 20),
    "enterprise": Tier(300, None, None),
}


@frozen
class LimitState:
    """The state of the limit that a request met; `retry_after` is None when it was admitted."""

    limit: int
    remaining: int
    reset: int  # Unix seconds
    retry_after: int | None = None  # whole seconds

    def headers(self) -> dict[str, str]:
        """As the API sends them with 2xx and 429."""
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.reset),
        }


class RollingWindow:
    """The arrivals of the last 60 seconds: a request made at t counts in [t, t + 60)."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._leaves: deque[float] = deque()

    def remaining(self, now: float) -> int:
        """How many requests would be admitted at this moment."""
        while self._leaves and self._leaves[0] <= now:
            self._leaves.popleft()
        return self.limit - len(self._leaves)

    def count(self, now: float) -> None:
        """Take a place."""
        self._leaves.append(now + WINDOW_SECONDS)

    def seconds_to_end(self, now: float) -> int:
        """Whole seconds, rounded up, until the oldest request has left; 0 for an empty window."""
        if self.remaining(now) == self.limit:
            return 0
        seconds = math.ceil(self._leaves[0] - now)
        # The rounding of floats must not make a client that obeys come back one bit early.
        return seconds if now + seconds >= self._leaves[0] else seconds + 1


@mutable
class DailyQuota:
    """So many a day; None is unlimited. A new day begins at midnight UTC."""

    limit: int | None
    _day: int = -1
    _spent: int = 0

    def spent(self, wall: float) -> int:
        """How many were counted since midnight."""
        day = int(wall // _DAY_SECONDS)
        if day != self._day:
            self._day, self._spent = day, 0
        return self._spent

    def count(self, wall: float) -> None:
        """Take one of today's."""
        self._spent = self.spent(wall) + 1

    def error_from(self, wall: float) -> LimitState | None:
        """None while there is something left of the day, else what says to wait for midnight."""
        if self.limit is None or self.spent(wall) < self.limit:
            return None
        midnight = (int(wall // _DAY_SECONDS) + 1) * _DAY_SECONDS
        return LimitState(self.limit, 0, midnight, math.ceil(midnight - wall))


@mutable
class MonthlyCeiling:
    """An account's spend ceiling, counted in productions of a calendar month; None is none."""

    limit: int | None
    _spent: Counter[tuple[str, int, int]] = field(factory=Counter)

    def reached(self, account_id: str, wall: float) -> bool:
        """Whether one more production would go over it."""
        return self.limit is not None and self.spent(account_id, wall) >= self.limit

    def spent(self, account_id: str, wall: float) -> int:
        """Productions of this account in the month of this moment."""
        return self._spent[_month(account_id, wall)]

    def count(self, account_id: str, wall: float) -> None:
        """Charge one production to the month."""
        self._spent[_month(account_id, wall)] += 1


def _month(account_id: str, wall: float) -> tuple[str, int, int]:
    moment = datetime.fromtimestamp(wall, UTC)
    return account_id, moment.year, moment.month


class Limits:
    """All limits of one partner, shared by every key."""

    def __init__(self, tier: Tier, *, daily_quotas: bool, spend_ceiling: int | None) -> None:
        self.tier = tier
        self.window = RollingWindow(tier.requests_per_minute)
        self.day = DailyQuota(tier.requests_per_day if daily_quotas else None)
        self.ceiling = MonthlyCeiling(spend_ceiling)
        self._productions_per_day = tier.productions_per_day if daily_quotas else None
        self._production_days: dict[str, DailyQuota] = {}

    def error_from(self, now: float, wall: float) -> LimitState | None:
        """Why a request that arrives at this moment gets a 429; None when it is welcome."""
        refused = self.day.error_from(wall)
        if refused is None and self.window.remaining(now) <= 0:
            wait = self.window.seconds_to_end(now)
            refused = LimitState(self.window.limit, 0, math.ceil(wall + wait), wait)
        return refused

    def count(self, now: float, wall: float) -> None:
        """Admit a request: it takes its place in the minute and in the day."""
        self.window.count(now)
        self.day.count(wall)

    def state(self, now: float, wall: float) -> LimitState:
        """The minute as the headers of an admitted request tell it."""
        remaining = max(0, self.window.remaining(now))
        reset = math.ceil(wall + self.window.seconds_to_end(now))
        return LimitState(self.window.limit, remaining, reset)

    def productions_of(self, account_id: str) -> DailyQuota:
        """The day's productions of one account."""
        quota = self._production_days.get(account_id)
        if quota is None:
            quota = self._production_days[account_id] = DailyQuota(self._productions_per_day)
        return quota
