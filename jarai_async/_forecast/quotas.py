"""What a day allows: so many productions of one account, so many requests. The rest waits for midnight."""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from attrs import frozen

from jarai_async._ratelimit.limiter import DAY

BESIDES_POLLS: Final = 2  # requests of each production: its submit, its list of deliverables


@frozen(kw_only=True)
class Quotas:
    """How many productions may be submitted: of one account and in all, on any day and today.

    Those of any day are 1 or more; all may be infinite.
    """

    per_account: float
    in_all: float
    account_today: Callable[[str], float]
    in_all_today: float

    @classmethod
    def untouched(cls, per_account: float, in_all: float) -> "Quotas":
        """Nothing of today is spent."""
        return cls(
            per_account=per_account,
            in_all=in_all,
            account_today=lambda _: per_account,
            in_all_today=in_all,
        )

    def days(self, accounts: Iterable[str]) -> list[int]:
        """Give the day on which a production of each of these can be submitted, 0 for today."""
        taken, taken_by, found = Counter[int](), Counter[tuple[str, int]](), list[int]()
        first: dict[str, int] = {}  # the day of an account's last one: the next is no sooner
        for account in accounts:
            day = first.get(account, 0)
            while (
                taken_by[account, day] >= (self.per_account if day else self.account_today(account))
                or taken[day] >= (self.in_all if day else self.in_all_today)
            ):  # fmt: skip
                day += 1
            taken[day] += 1
            taken_by[account, day] += 1
            first[account] = day
            found.append(day)
        return found


def starts(day: int, wall: float) -> float:
    """Seconds from `wall` until a day begins, at midnight UTC; today, day 0, has begun."""
    return max(0.0, day * DAY - wall % DAY)


def enough_for(requests: float, *, whole: float, ceiling: float) -> float:
    """Give how many productions so many requests are enough for, if each is polled as rarely as may be.

    Each takes `whole` seconds on average, and may go unseen for `ceiling` seconds.
    """
    least = BESIDES_POLLS + math.ceil(whole / ceiling)
    return requests if math.isinf(requests) else requests // least


def limits(per_account: float, per_day: float) -> str:
    """Say which limits a day has."""
    productions = [] if math.isinf(per_account) else [f"{per_account:,.0f} productions a day for one account"]
    requests = [] if math.isinf(per_day) else [f"{per_day:,.0f} requests a day"]
    return ", ".join(productions + requests)
