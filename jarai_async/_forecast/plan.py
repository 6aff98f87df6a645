"""What a batch will take on a tier: the time, the requests, and how late its changes are noticed.

By the square-root rule (`_polling.poll_queue`) a production with hazard h is polled r = c sqrt(h) times a
second, and its change is noticed 1 / 2r seconds late on average. The rate limit determines c: with B polls a
second for productions of hazards h1, h2, ... it is c = B / sum(sqrt(h)). It is limited by the rule that a
poll must save `MIN_GAIN` seconds of delay: h / 2r^2 >= MIN_GAIN, so c <= sqrt(1 / (2 MIN_GAIN)).

The batch is simulated once (`forecast.simulate_batch`). At many times of the simulation, `_PollCapacity`
finds the productions in flight and the requests that polls may use: what submits and lists of deliverables
leave of the minute, and the share of the daily quota that may be spent within an hour. The requests and the
mean lag are sums over these times. For a batch that needs several days, only the day with the most
productions is simulated; the result is scaled to the batch.

The recommended concurrency follows from the same rule in closed form. If n productions are always in flight
and each holds its slot for H seconds, each is polled B H / n times. If it spends w seconds on average at
hazard h, then c = B H / n / sum(w sqrt(h)), and the mean lag is sum(w h / 2r) / sum(w h).

Accuracy: twelve batches of 3 to 800 productions were run on the simulator, on all tiers, with and without
daily quotas, most of them with durations sampled from the prior. The forecast lag was 0.63 to 1.15 times the
real one; the forecast requests were 0.78 to 1.18 times the real ones, and 0.63 times in a batch in which one
production took five hours longer than the rest.

Pure. `wall` is the start in Unix seconds. Durations are those of the documented phase times.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

from attrs import frozen

from jarai_async._api import wire
from jarai_async._api.models import Polling, ProductionRequest
from jarai_async._forecast.forecast import (
    LIFECYCLE,
    PendingProduction,
    mean_duration,
    mean_hold,
    median_time_to_finish,
    simulate_batch,
)
from jarai_async._forecast.quotas import (
    REQUESTS_BESIDES_POLLS,
    Quotas,
    affordable_productions,
    describe_quotas,
    seconds_until,
)
from jarai_async._polling.poll_queue import MIN_GAIN
from jarai_async._polling.sojourn import Sojourns
from jarai_async._ratelimit.limiter import DAY_HORIZON, DAY_RESERVE

TARGET_LAG: Final = 15.0  # seconds: that of one production polled every 30 s, as documented
_MAX_C: Final = math.sqrt(1 / (2 * MIN_GAIN))  # the maximum of c above
_MIN_POLL_SHARE: Final = 0.2  # of the rate limit: `_ratelimit.priority` leaves polls at least this share
_WORK: Final = 40_000  # productions examined for one plan, over 40 to 1,000 times: about 50 ms
_MIN_INTERVAL: Final = Polling().min_interval
_MAX_INTERVAL: Final = Polling().max_interval


@frozen(kw_only=True)
class Plan:
    """The forecast for a batch: `duration` and `lag` are in seconds; submitting it takes `days` days."""

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
        """Reasons not to run the batch like this."""
        per_minute = wire.REQUESTS_PER_MINUTE[self.tier]
        per_account, per_day = _daily_quotas(per_minute)
        late = f"changes are noticed {self.lag:.0f} s late on average"
        warnings = []
        if self.days > 1:
            warnings.append(f"needs {self.days} days: {describe_quotas(per_account, per_day)}")
        if self.concurrency > self.recommended and self.lag > TARGET_LAG:
            warnings.append(
                f"a concurrency of {self.concurrency} is high for {per_minute} requests a minute: {late}"
            )
        elif per_day < math.inf and self.lag > TARGET_LAG:
            warnings.append(f"the quota of {per_day:,.0f} requests a day is low: {late}")
        return warnings


def plan(requests: Sequence[ProductionRequest], tier: str, *, concurrency: int | None, wall: float) -> Plan:
    """Forecast a batch that starts now on a tier, if today's quotas are still unused."""
    sojourns, per_minute = Sojourns(), wire.REQUESTS_PER_MINUTE[tier]
    project_types = [request.project_type for request in requests]
    recommended = min(len(requests), _recommended_concurrency(sojourns, project_types, per_minute))
    concurrency = concurrency or recommended
    days = _submit_days(sojourns, requests, per_minute)
    ((fullest_day, count),) = Counter(days).most_common(1)
    batch = [
        PendingProduction(kind) for kind, day in zip(project_types, days, strict=True) if day == fullest_day
    ]
    lag = _steady_lag(sojourns, project_types, per_minute, concurrency)
    sent, lag = _PollCapacity(per_minute).simulate(sojourns, batch, concurrency=concurrency, lag=lag)
    pending = [
        PendingProduction(kind, seconds_until(day, wall))
        for kind, day in zip(project_types, days, strict=True)
    ]
    return Plan(
        productions=len(requests),
        tier=tier,
        concurrency=concurrency,
        recommended=recommended,
        duration=median_time_to_finish(sojourns, [], pending, concurrency=concurrency, lag=lag),
        days=1 + max(days),
        requests=round(sent * len(requests) / count),
        lag=lag,
    )


def _submit_days(sojourns: Sojourns, requests: Sequence[ProductionRequest], per_minute: int) -> list[int]:
    """Return the day on which each production can be submitted, 0 for today."""
    longest = max(mean_duration(sojourns, request.project_type) for request in requests)
    per_account, per_day = _daily_quotas(per_minute)
    total = affordable_productions(per_day, mean_duration=longest, max_interval=_MAX_INTERVAL)
    return Quotas.unused(per_account, total).assign_days([request.account_id for request in requests])


def _daily_quotas(per_minute: int) -> tuple[float, float]:
    """Return the productions of one account a day, and the requests a day."""
    productions = wire.PRODUCTIONS_PER_DAY.get(per_minute, math.inf)
    return productions, wire.REQUESTS_PER_DAY.get(per_minute, math.inf)


class _PollCapacity:
    """The requests that polls may use, during a day whose quotas are unused at its start."""

    def __init__(self, per_minute: int) -> None:
        self._per_second = per_minute / 60
        self._left_today = (1 - DAY_RESERVE) * _daily_quotas(per_minute)[1]

    def simulate(
        self, sojourns: Sojourns, pending: Sequence[PendingProduction], *, concurrency: int, lag: float
    ) -> tuple[float, float]:
        """Simulate a batch of one day; return its number of requests and its mean lag in seconds."""
        timelines = simulate_batch(sojourns, pending, concurrency=concurrency, lag=lag)
        steps = min(max(40, _WORK // len(timelines)), 1000)
        step = max(start + sum(durations) for start, durations in timelines) / steps
        project_types = [production.project_type for production in pending]
        ends = Counter(int((start + sum(durations)) // step) for start, durations in timelines)
        starts = Counter(int(start // step) for start, _ in timelines)
        polls = changes = delay = 0.0
        for n in range(max(ends) + 1):
            hazards = _hazards_in_flight(sojourns, project_types, timelines, (n + 0.5) * step)
            poll_rate, delay_rate = self._poll(hazards, step, other_requests=ends[n] + starts[n])
            polls += poll_rate * step
            delay += delay_rate * step
            changes += sum(hazards) * step
        return polls + REQUESTS_BESIDES_POLLS * len(timelines), delay / changes

    def _poll(self, hazards: Sequence[float], seconds: float, *, other_requests: int) -> tuple[float, float]:
        """Return the polls per second, and the seconds of delay that arise per second."""
        available = max(self._per_second * _MIN_POLL_SHARE, self._per_second - other_requests / seconds)
        available = min(available, max(self._left_today, 1.0) / DAY_HORIZON)
        c = min(_MAX_C, available / max(sum(map(math.sqrt, hazards)), 1e-9))
        rates = [min(c * math.sqrt(hazard), 1 / _MIN_INTERVAL) for hazard in hazards]
        self._left_today -= sum(rates) * seconds + other_requests
        return sum(rates), sum(hazard / (2 * rate) for hazard, rate in zip(hazards, rates, strict=True))


def _hazards_in_flight(
    sojourns: Sojourns,
    project_types: Sequence[str | None],
    timelines: Sequence[tuple[float, list[float]]],
    time: float,
) -> list[float]:
    """Return the hazard of each production that is in flight at a time."""
    hazards = []
    for project_type, (start, durations) in zip(project_types, timelines, strict=True):
        age = time - start
        for status, duration in zip(LIFECYCLE, durations, strict=True):
            if age < duration:
                if age >= 0:
                    hazards.append(sojourns.hazard(project_type, status, age))
                break
            age -= duration
    return hazards


def _recommended_concurrency(sojourns: Sojourns, project_types: Sequence[str | None], per_minute: int) -> int:
    """Return the highest concurrency at which the mean lag is at most `TARGET_LAG`."""
    low, high = 1, len(project_types) + 1
    while high - low > 1:
        middle = (low + high) // 2
        if _steady_lag(sojourns, project_types, per_minute, middle) <= TARGET_LAG:
            low = middle
        else:
            high = middle
    return low


def _steady_lag(
    sojourns: Sojourns, project_types: Sequence[str | None], per_minute: int, concurrency: int
) -> float:
    """Return the mean lag in seconds while `concurrency` are always in flight, without a daily quota."""
    spent, slot_time = list[tuple[float, float]](), 0.0  # `spent`: the (w, h) above
    for project_type, number in Counter(project_types).items():
        share = number / len(project_types)
        for status in LIFECYCLE:
            spent += [
                (share * seconds, hazard) for seconds, hazard in sojourns.time_per_bin(project_type, status)
            ]
        slot_time += share * mean_hold(sojourns, project_type)
    requests = slot_time * per_minute / 60 / concurrency  # of each production
    polls = max(requests * _MIN_POLL_SHARE, requests - REQUESTS_BESIDES_POLLS)
    c = min(_MAX_C, polls / sum(seconds * math.sqrt(hazard) for seconds, hazard in spent))
    delay = sum(
        seconds * hazard / (2 * min(c * math.sqrt(hazard), 1 / _MIN_INTERVAL)) for seconds, hazard in spent
    )
    return delay / sum(seconds * hazard for seconds, hazard in spent)
