"""What a batch will take at a tier: time, requests, and how late its changes will be seen.

By the square-root rule (`_polling`) a production whose hazard is h is polled r = c sqrt(h) times a second,
and a change of it is seen 1 / 2r seconds late on average. The budget says what c is: of B polls a second,
with hazards h1, h2, ... in flight, c = B / sum(sqrt(h)), but no more than makes a poll worth its while.

So a batch is played through once (`_forecast`), and at some moments of the play it is counted who is in
flight and what the budget has for polls: what submits and lists of deliverables leave of the minute, and the
share of the day's quota that may be spent by the hour. The requests and the mean lag are sums over these
moments. Of a batch that takes days the fullest is played, and stands for all.

The recommended concurrency comes from the same rule in closed form. While n are in flight for good, each
holding its place for H seconds, one makes B H / n polls; with w the mean seconds that it spends at hazard h,
the rates are c sqrt(h) with c = B H / n / sum(w sqrt(h)), and the mean lag is sum(w h / 2r) / sum(w h).

How far that is off: twelve batches of 3 to 800 productions were run on the simulator, on all tiers, with and
without daily quotas, most with durations drawn from the table itself. The lag was foreseen at 0.63 to 1.15 of
what it was, the requests at 0.78 to 1.18, and at 0.63 where one took five hours longer than the rest.

Pure: `wall` is the moment of the start, in Unix seconds. Durations are those of the documented phase times.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

from attrs import frozen

from jarai_async._api import wire
from jarai_async._api.models import Polling, ProductionRequest, Status
from jarai_async._forecast.forecast import CHAIN, WITH_A_PLACE, ToCome, finish, mean_left, play
from jarai_async._forecast.quotas import BESIDES_POLLS, Quotas, enough_for, limits, starts
from jarai_async._polling import poll_queue
from jarai_async._polling.sojourn import Sojourns
from jarai_async._ratelimit import limiter

GOOD_LAG: Final = 15.0  # seconds: what polls 30 s apart, as documented, give to one production by itself
_LEAST_GAIN: Final = poll_queue.LEAST_GAIN
_MOST: Final = math.sqrt(1 / (2 * _LEAST_GAIN))  # so c is no greater than this
_DAY_FOR_POLLS: Final = 1 - limiter.DAY_RESERVE  # the share of a day's requests that polls may use
_DAY_HORIZON: Final = limiter.DAY_HORIZON
_LEAST_SHARE: Final = 0.2  # of the budget, which `_turns` leaves to polls however much else is to be sent
_WORK: Final = 40_000  # productions looked at in one plan, over all moments (40 to 1,000): some 50 ms
_FLOOR: Final = Polling().min_interval
_CEILING: Final = Polling().max_interval


@frozen(kw_only=True)
class Plan:
    """What is expected of a batch. `duration` and `lag` are in seconds; it is submitted on so many `days`."""

    productions: int
    tier: str
    concurrency: int
    recommended: int
    duration: float
    days: int
    requests: int
    lag: float

    @property
    def warnings(self) -> list[str]:
        """What stands against running it like this."""
        per_minute, late = wire.REQUESTS_PER_MINUTE[self.tier], f"{self.lag:.0f} s late on average"
        found = []
        if self.days > 1:
            found.append(f"needs {self.days} days: {limits(*_a_day(per_minute))}")
        if self.concurrency > self.recommended and self.lag > GOOD_LAG:
            found.append(f"{self.concurrency} in flight are many for {per_minute} requests a minute: {late}")
        elif _a_day(per_minute)[1] < math.inf and self.lag > GOOD_LAG:
            found.append(f"a day's requests are few: changes are learned {late}")
        return found


def plan(requests: Sequence[ProductionRequest], tier: str, *, concurrency: int | None, wall: float) -> Plan:
    """Foresee a batch that begins now, at a tier of which nothing is spent today."""
    sojourns, per_minute = Sojourns(), wire.REQUESTS_PER_MINUTE[tier]
    kinds = [request.project_type for request in requests]
    recommended = min(len(requests), _recommended(sojourns, kinds, per_minute))
    at_once = concurrency or recommended
    day_of = _days(sojourns, requests, per_minute)
    lag = _steady_lag(sojourns, kinds, per_minute, at_once)
    ((fullest, number),) = Counter(day_of).most_common(1)
    on_it = [ToCome(kind) for kind, day in zip(kinds, day_of, strict=True) if day == fullest]
    sent, lag = _Budget(per_minute).served(sojourns, on_it, concurrency=at_once, lag=lag)
    to_come = [ToCome(kind, starts(day, wall)) for kind, day in zip(kinds, day_of, strict=True)]
    duration = finish(sojourns, [], to_come, concurrency=at_once, lag=lag)
    return Plan(
        productions=len(requests),
        tier=tier,
        concurrency=at_once,
        recommended=recommended,
        duration=duration,
        days=1 + max(day_of),
        requests=round(sent * len(requests) / number),
        lag=lag,
    )


def _days(sojourns: Sojourns, requests: Sequence[ProductionRequest], per_minute: int) -> list[int]:
    """Give the day on which each can be submitted, 0 for today."""
    whole = max(mean_left(sojourns, one.project_type, Status.QUEUED, 0.0) for one in requests)
    per_account, per_day = _a_day(per_minute)
    in_all = enough_for(per_day, whole=whole, ceiling=_CEILING)
    return Quotas.untouched(per_account, in_all).days(request.account_id for request in requests)


def _a_day(per_minute: int) -> tuple[float, float]:
    """Give the productions of one account a day, and the requests."""
    productions = wire.PRODUCTIONS_PER_DAY.get(per_minute, math.inf)
    return productions, wire.REQUESTS_PER_DAY.get(per_minute, math.inf)


class _Budget:
    """The requests that polls may use, as time goes by on a day that begins untouched."""

    def __init__(self, per_minute: int) -> None:
        self._a_second = per_minute / 60
        self._left = _DAY_FOR_POLLS * _a_day(per_minute)[1]

    def served(
        self, sojourns: Sojourns, to_come: Sequence[ToCome], *, concurrency: int, lag: float
    ) -> tuple[float, float]:
        """Give the requests that a batch of one day takes, and the seconds that its changes are late."""
        lives = play(sojourns, to_come, concurrency=concurrency, lag=lag)
        step = max(begin + sum(stays) for begin, stays in lives) / min(max(40, _WORK // len(lives)), 1000)
        kinds = [one.project_type for one in to_come]
        ends = Counter(int((begin + sum(stays)) // step) for begin, stays in lives)
        begins = Counter(int(begin // step) for begin, _ in lives)
        polls = changes = late = 0.0
        for n in range(max(ends) + 1):
            hazards = _in_flight(sojourns, kinds, lives, (n + 0.5) * step)
            rate, delayed = self._spend(hazards, step, besides=ends[n] + begins[n])
            polls += rate * step
            late += delayed * step
            changes += sum(hazards) * step
        return polls + BESIDES_POLLS * len(lives), late / changes

    def _spend(self, hazards: Sequence[float], seconds: float, *, besides: int) -> tuple[float, float]:
        """Give the polls a second that are made of so many, and the lag that comes about in a second."""
        most = max(self._a_second * _LEAST_SHARE, self._a_second - besides / seconds)
        most = min(most, max(self._left, 1.0) / _DAY_HORIZON)
        c = min(_MOST, most / max(sum(map(math.sqrt, hazards)), 1e-9))
        rates = [min(c * math.sqrt(hazard), 1 / _FLOOR) for hazard in hazards]
        self._left -= sum(rates) * seconds + besides
        return sum(rates), sum(hazard / (2 * rate) for hazard, rate in zip(hazards, rates, strict=True))


def _in_flight(
    sojourns: Sojourns,
    kinds: Sequence[str | None],
    lives: Sequence[tuple[float, list[float]]],
    moment: float,
) -> list[float]:
    """Give the hazard of each production that is under way at this moment."""
    hazards = []
    for kind, (begin, stays) in zip(kinds, lives, strict=True):
        age = moment - begin
        for status, stay in zip(CHAIN, stays, strict=True):
            if age < stay:
                if age >= 0:
                    hazards.append(sojourns.hazard(kind, status, age))
                break
            age -= stay
    return hazards


def _recommended(sojourns: Sojourns, kinds: Sequence[str | None], per_minute: int) -> int:
    """Give the most in flight at which the minute's budget lets changes be seen soon enough."""
    good, bad = 1, len(kinds) + 1
    while bad - good > 1:
        tried = (good + bad) // 2
        soon = _steady_lag(sojourns, kinds, per_minute, tried) <= GOOD_LAG
        good, bad = (tried, bad) if soon else (good, tried)
    return good


def _steady_lag(sojourns: Sojourns, kinds: Sequence[str | None], per_minute: int, concurrency: int) -> float:
    """Seconds that changes are late while so many are in flight for good, by the minute's budget alone."""
    spent, held = list[tuple[float, float]](), 0.0
    for kind, number in Counter(kinds).items():
        share = number / len(kinds)
        for status in CHAIN:
            spent += [(share * seconds, hazard) for seconds, hazard in sojourns.profile(kind, status)]
        held += share * sum(sojourns.mean_left(kind, status, 0.0) for status in CHAIN[:WITH_A_PLACE])
    budget = held * per_minute / 60 / concurrency
    polls = max(budget * _LEAST_SHARE, budget - BESIDES_POLLS)
    c = min(_MOST, polls / sum(seconds * math.sqrt(hazard) for seconds, hazard in spent))
    late = sum(seconds * hazard / (2 * min(c * math.sqrt(hazard), 1 / _FLOOR)) for seconds, hazard in spent)
    return late / sum(seconds * hazard for seconds, hazard in spent)
