"""What becomes of the request budget: 429s caused, and how much of the minute is used while there is work.

200 productions are submitted at once, alone on the key, at each tier, in simulated time: the real client and
orchestrator against the real simulator over loopback HTTP. No files are downloaded (they cost no budget).

- *429s* are those that the simulator gave: its window is a true rolling one.
- *There is work* while submits are outstanding, or the productions that are truly unfinished, polled as
  JARAI documents (each 10 s while Queued, else each 30 s), would want the whole budget or more. The
  *utilisation* is that of the rolling minutes in which there was work throughout, sampled each second: it
  cannot exceed 100 %, and the client's own idea of what is worth a poll has no part in it.
- The *lag* of a transition runs from the moment at which it truly happened to the `observed_at` of the
  first event that tells of this status or a later one.

Daily quotas are off (Standard's 2,000 requests would be spent in 34 minutes), on the server and in the
client, but for two tables: what a whole UTC day brings with the documented ones and one account, the second
day, for the first begins at nine; and a batch of as many productions as an account may have a day.

*Round the clock* keeps as many in flight for 24 hours. *Two on one key* are two clients that know nothing of
each other, with half as many each, for two hours.
"""

import asyncio
import logging
import math
import multiprocessing
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, get_args

from attrs import define, field

from benchmarks._bench import topics
from jarai_async import JaraiClient, Orchestrator, RateLimit, StatusChanged
from jarai_async.simulator import SimulatedProduction, Simulator, run
from jarai_async.simulator._api.rate_limits import TIERS, WINDOW_SECONDS, TierName
from jarai_async.simulator._event_loop import START_OF_SIMULATED_TIME
from tests.support.figures import Figure, options, quantile, show

_DAY = 86_400.0
_NO_QUOTA = 10**9
_ENDS = ("Published", "Failed", "Cancelled")
_EVERY = {"Queued": 10.0}  # seconds between polls, as documented; 30 otherwise
_ENDLESS = 100_000  # productions: more than a day can take
_TOGETHER = 7_200.0  # seconds
_Scenario = Callable[..., Coroutine[Any, Any, list[Figure]]]
_IDS = ("account_id", "language_id", "country_id", "avatar_id")


@define
class Seen:
    """What the orchestrator told: moments on the simulated clock, by production and in order."""

    changes: dict[str, list[tuple[float, str]]] = field(factory=dict)
    ended: float = math.inf

    def add(self, event: StatusChanged) -> None:
        """Take in a change, by when it was seen."""
        moment = event.observed_at.timestamp() - START_OF_SIMULATED_TIME
        self.changes.setdefault(event.production.id, []).append((moment, str(event.status)))


async def follow(
    simulator: Simulator, count: int, budget: RateLimit, seconds: float = math.inf, *, in_flight: int = 0
) -> Seen:
    """Run so many productions, all at once unless it is said how many, to the end or for a while."""
    seen = Seen()
    ids = {name: getattr(simulator, name) for name in _IDS}
    async with JaraiClient(simulator.api_key, base_url=simulator.base_url, rate_limit=budget) as client:
        async with Orchestrator(client, concurrency=in_flight or count) as orchestrator:
            try:
                async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                    async for event in orchestrator.run(topics(count, ids)):
                        if isinstance(event, StatusChanged):
                            seen.add(event)
            except TimeoutError:
                pass
        seen.ended = asyncio.get_running_loop().time()
    return seen


def lags(simulator: Simulator, seen: Seen, statuses: Collection[str] = ()) -> list[float]:
    """Seconds by which each transition that was told of, or passed over, was late; to these, or to all."""
    late = []
    for production_id, changes in seen.changes.items():
        timeline = simulator.productions[production_id].timeline
        place = {status: n for n, (_, status) in enumerate(timeline)}
        for n, (moment, new) in enumerate(timeline[1:], start=1):
            told = (at for at, status in changes if place[status] >= n)
            late += [at - moment for at in told if not statuses or new in statuses][:1]
    return late


def utilisations(simulator: Simulator, limit: int) -> list[float]:
    """Share of the budget that each rolling minute with work throughout has used, each second."""
    arrivals = [record.arrived for record in simulator.requests if record.admitted]
    productions = list(simulator.productions.values())
    submitted = max(production.submitted_at for production in productions)
    shares, busy = [], 0
    for second in range(math.ceil(arrivals[0]), int(arrivals[-1])):
        working = second < submitted or _demand(productions, second) * WINDOW_SECONDS >= limit
        busy = busy + 1 if working else 0
        if busy > WINDOW_SECONDS:
            used = bisect_right(arrivals, second) - bisect_left(arrivals, second - WINDOW_SECONDS)
            shares.append(used / limit)
    return shares


def _demand(productions: Sequence[SimulatedProduction], now: float) -> float:
    """Polls a second that all that is unfinished wants at the documented intervals."""
    statuses = (one.status_at(now) for one in productions if one.submitted_at <= now)
    return sum(1 / _EVERY.get(status, 30.0) for status in statuses if status not in _ENDS)


async def a_batch(tier: TierName, count: int, seed: int) -> list[Figure]:
    """All of a batch, with the daily quotas off."""
    async with Simulator(tier=tier, seed=seed, daily_quotas=False) as simulator:
        seen = await follow(simulator, count, RateLimit(per_day=_NO_QUOTA))
        shares = utilisations(simulator, TIERS[tier].requests_per_minute)
        late = lags(simulator, seen)
        mean = sum(shares) / len(shares)
        return [
            Figure(f"{tier}: 429s caused", str(simulator.rate_limited), "0", simulator.rate_limited == 0),
            Figure(f"{tier}: utilisation, mean", f"{mean:.1%}", ">= 95 %", mean >= 0.95),
            Figure("  of the least used minute", f"{min(shares):.1%}"),
            Figure("  minutes with work, of all", f"{len(shares) / 60:.0f} of {seen.ended / 60:.0f}"),
            Figure("  requests", f"{len(simulator.requests)}"),
            Figure("  lag, mean and 95th percentile", _lag(late)),
        ]


def _lag(late: Sequence[float]) -> str:
    return f"{sum(late) / len(late):.1f} s, {quantile(late, 0.95):.1f} s" if late else "none seen"


async def a_day(tier: TierName, count: int, seed: int) -> list[Figure]:
    """One whole UTC day with the documented quotas, from midnight to midnight."""
    midnight = _DAY - START_OF_SIMULATED_TIME % _DAY
    async with Simulator(tier=tier, seed=seed) as simulator:
        seen = await follow(simulator, count, RateLimit(), midnight + _DAY)
        begin = min(midnight, max(0.0, seen.ended - _DAY))
        today = [record for record in simulator.requests if record.arrived >= begin]
        submitted = sum(record.route == "submit" and record.status == 202 for record in today)
        quota = sum(record.admitted and record.status == 429 for record in today)
        over = sum(record.status == 429 for record in today) - quota
        ended = [c for changes in seen.changes.values() for c in changes if c[1] in _ENDS and c[0] >= begin]
        used = f"{sum(record.admitted for record in today)} of {TIERS[tier].requests_per_day or 'unlimited'}"
        return [
            Figure(f"{tier}: productions submitted, ended", f"{submitted}, {len(ended)}"),
            Figure("  requests used", used),
            Figure("  429s: for requests; for productions", f"{over}; {quota}"),
            Figure("  lag, mean and 95th percentile", _lag(lags(simulator, seen))),
        ]


async def a_batch_of_a_day(tier: TierName, seed: int) -> list[Figure]:
    """As many productions as an account may have a day, with the documented quotas."""
    limits = TIERS[tier]
    count, quota = limits.productions_per_day, limits.requests_per_day
    if count is None or quota is None:
        return []
    async with Simulator(tier=tier, seed=seed) as simulator:
        seen = await follow(simulator, count, RateLimit())
        ended = sum(any(status in _ENDS for _, status in changes) for changes in seen.changes.values())
        requests = len(simulator.requests)
        fits = ended == count and requests <= quota and not simulator.rate_limited
        return [
            Figure(f"{tier}: productions ended", f"{ended} of {count}", "all", fits),
            Figure("  requests used; 429s", f"{requests} of {quota}; {simulator.rate_limited}"),
            Figure("  lag, mean and 95th percentile", _lag(lags(simulator, seen))),
            Figure("  of the ends alone", _lag(lags(simulator, seen, _ENDS))),
            Figure("  all seen after", f"{seen.ended / 60:.0f} min"),
        ]


async def round_the_clock(tier: TierName, count: int, seed: int) -> list[Figure]:
    """A day and a night with as many in flight, alone on the key."""
    async with Simulator(tier=tier, seed=seed, daily_quotas=False) as simulator:
        await follow(simulator, _ENDLESS, RateLimit(per_day=_NO_QUOTA), _DAY, in_flight=count)
        used, refused = len(simulator.requests), simulator.rate_limited
        return [Figure(f"{tier}: 429s, of all requests", f"{refused} of {used:,}", "0", refused == 0)]


async def two_on_one_key(tier: TierName, count: int, seed: int) -> list[Figure]:
    """Two clients that share nothing but the key."""
    async with Simulator(tier=tier, seed=seed, daily_quotas=False) as simulator:
        budget = RateLimit(per_day=_NO_QUOTA)
        half = (
            follow(simulator, _ENDLESS, budget, _TOGETHER, in_flight=max(count // 2, 1)) for _ in range(2)
        )
        await asyncio.gather(*half)
        used, refused = len(simulator.requests), simulator.rate_limited
        share = f"{refused} of {used:,}: {refused / used:.2%}"
        return [Figure(f"{tier}: 429s, of all requests", share, "<= 1 %", refused <= 0.01 * used)]


def measured(scenario: _Scenario, *arguments: Any) -> list[Figure]:
    """Run one in a process of its own."""
    logging.disable()  # that submits wait for the next day is what is measured
    return run(scenario(*arguments))


def main() -> None:
    chosen = options(__doc__, productions=200, seed=1)
    size, seed, tiers = chosen.productions, chosen.seed, get_args(TierName)
    tables: list[tuple[str, str, list[tuple[_Scenario, Any]]]] = [
        ("DAILY QUOTAS OFF", f"{size} at once", [(a_batch, (tier, size, seed)) for tier in tiers]),
        ("DAILY QUOTAS ON", "a UTC day", [(a_day, (tier, size, seed)) for tier in tiers]),
        ("A BATCH OF A DAY", "quotas on", [(a_batch_of_a_day, (tier, seed)) for tier in tiers]),
        ("ROUND THE CLOCK", f"{size} in flight", [(round_the_clock, (tier, size, seed)) for tier in tiers]),
        ("TWO ON ONE KEY", f"{size} in flight", [(two_on_one_key, (tier, size, seed)) for tier in tiers]),
    ]
    figures: list[Figure] = []
    with multiprocessing.get_context("spawn").Pool() as pool:
        started = [
            (
                Figure(title, what),
                [pool.apply_async(measured, (one, *arguments)) for one, arguments in scenarios],
            )
            for title, what, scenarios in tables
        ]
        for heading, results in started:
            figures += [heading, *(figure for result in results for figure in result.get())]
    show("The request budget, in simulated time", figures, chosen.json)


if __name__ == "__main__":
    main()
