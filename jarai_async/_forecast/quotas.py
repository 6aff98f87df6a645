"""The daily quotas: productions of one account, and requests. Anything over them waits until midnight UTC."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from attrs import frozen

from jarai_async._ratelimit.limiter import DAY

REQUESTS_BESIDES_POLLS: Final = 2  # of each production: its submit, its list of deliverables


@frozen(kw_only=True)
class Quotas:
    """How many productions may be submitted, for one account and in total, on a new day and today.

    The values of a new day are 1 or more. All of them may be infinite.
    """

    per_account: float
    total: float
    account_today: Callable[[str], float]
    total_today: float

    @classmethod
    def unused(cls, per_account: float, total: float) -> "Quotas":
        """Return quotas of which nothing has been used today."""
        return cls(
            per_account=per_account, total=total, account_today=lambda _: per_account, total_today=total
        )

    def assign_days(self, accounts: Sequence[str]) -> list[int]:
        """Return the day on which each production is submitted, 0 for today, given the account of each."""
        counts = Counter(accounts)
        today = {account: self.account_today(account) for account in counts}
        if len(accounts) <= self.total_today and all(counts[one] <= today[one] for one in counts):
            return [0] * len(accounts)
        used, used_by, days = Counter[int](), Counter[tuple[str, int]](), list[int]()
        earliest: dict[str, int] = {}  # by account: the days before it are full
        for account in accounts:
            day = earliest.get(account, 0)
            while (
                used_by[account, day] >= (self.per_account if day else today[account])
                or used[day] >= (self.total if day else self.total_today)
            ):  # fmt: skip
                day += 1
            used[day] += 1
            used_by[account, day] += 1
            earliest[account] = day
            days.append(day)
        return days


def day_of(position: int, today: float, per_day: float) -> int:
    """Return the day on which the production at this position of a queue is submitted, 0 for today.

    Positions count from 0. `today` productions may still be submitted today, and `per_day`, 1 or more, later.
    """
    return 0 if position < today else 1 + int((position - today) // per_day)


def seconds_until(day: int, wall: float) -> float:
    """Return the seconds from `wall` (Unix time) until a day starts, at midnight UTC; 0 for today, day 0."""
    return max(0.0, day * DAY - wall % DAY)


def affordable_productions(requests: float, *, mean_duration: float, max_interval: float) -> float:
    """Return how many productions can be completed with `requests`, each polled as rarely as allowed.

    A production takes `mean_duration` seconds, and is polled at least every `max_interval` seconds.
    """
    per_production = REQUESTS_BESIDES_POLLS + math.ceil(mean_duration / max_interval)
    return requests if math.isinf(requests) else requests // per_production


def describe_quotas(per_account: float, per_day: float) -> str:
    """Describe the quotas that are limited, as text."""
    productions = [] if math.isinf(per_account) else [f"{per_account:,.0f} productions a day for one account"]
    requests = [] if math.isinf(per_day) else [f"{per_day:,.0f} requests a day"]
    return ", ".join(productions + requests)
