"""How well the client uses the rate limit: 429s, and the share that is used while there is work.

200 productions are submitted at once with a key that nothing else uses, at each tier, in simulated time: the
real client and orchestrator against the simulator over loopback HTTP. No files are downloaded, because that
does not count against the rate limit.

- *429s* are those of the simulator, which has a true rolling window.
- There is *work* while requests wait to be submitted, or while the polls of all unfinished productions, at
  the documented intervals (10 s while Queued, else 30 s), would use up the rate limit. The *utilisation* is
  that of the rolling minutes that had work throughout, sampled each second. It cannot exceed 100 %, and it
  does not depend on which polls the client takes to be useful.
- The *lag* of a status change is the time from the change to the `observed_at` of the first event with its
  status or a later one.

Daily quotas are off, in the server and in the client, because Standard's 2,000 requests would be used up in
34 minutes. Two tables have them on: one UTC day with the documented quotas and one account (the second day,
because the first begins at nine), and a batch of as many productions as an account may submit in a day.

*Round the clock* keeps this many productions in flight for 24 hours. *Two on one key* are two clients that do
not know of each other, each with half as many productions, for two hours.

    python -m benchmarks.rate_limit
"""

import asyncio
import logging
import math
import multiprocessing
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, get_args

from benchmarks._bench import NO_DAILY_QUOTA, StatusLog, open_client, requests_for
from jarai_async import Orchestrator, RateLimit, StatusChanged
from jarai_async.simulator import SimulatedProduction, Simulator, run
from jarai_async.simulator._api.rate_limits import TIERS, WINDOW_SECONDS, TierName
from jarai_async.simulator._event_loop import START_OF_SIMULATED_TIME
from tests.support.figures import Figure, options, quantile, show

_DAY = 86_400.0
_ENDS = ("Published", "Failed", "Cancelled")
_INTERVALS = {"Queued": 10.0}  # seconds between polls, as documented; 30 in any other status
_ENDLESS = 100_000  # productions: more than can be submitted in a day
_TWO_HOURS = 7_200.0
_Scenario = Callable[..., Coroutine[Any, Any, list[Figure]]]


async def follow(
    simulator: Simulator,
    count: int,
    rate_limit: RateLimit = NO_DAILY_QUOTA,
    *,
    seconds: float | None = None,
    in_flight: int | None = None,
) -> tuple[StatusLog, float]:
    """Run this many productions, to the end or for some seconds. Return the log, and when that was over."""
    log = StatusLog()
    async with open_client(simulator, rate_limit) as client:
        async with Orchestrator(client, concurrency=in_flight or count) as orchestrator:
            try:
                async with asyncio.timeout(seconds):
                    async for event in orchestrator.run(requests_for(simulator, count)):
                        if isinstance(event, StatusChanged):
                            log.add(event)
            except TimeoutError:
                pass
        return log, asyncio.get_running_loop().time()


def utilisations(simulator: Simulator, limit: int) -> list[float]:
    """Return the share of the limit that each minute with work throughout has used, one for each second."""
    arrivals = [record.arrived for record in simulator.requests if record.admitted]
    productions = list(simulator.productions.values())
    all_submitted_at = max(production.submitted_at for production in productions)
    shares, busy = [], 0
    for second in range(math.ceil(arrivals[0]), int(arrivals[-1])):
        has_work = second < all_submitted_at or _demand(productions, second) * WINDOW_SECONDS >= limit
        busy = busy + 1 if has_work else 0
        if busy > WINDOW_SECONDS:
            used = bisect_right(arrivals, second) - bisect_left(arrivals, second - WINDOW_SECONDS)
            shares.append(used / limit)
    return shares


def _demand(productions: Sequence[SimulatedProduction], now: float) -> float:
    """Return the polls a second of all unfinished productions at the documented intervals."""
    statuses = (item.status_at(now) for item in productions if item.submitted_at <= now)
    return sum(1 / _INTERVALS.get(status, 30.0) for status in statuses if status not in _ENDS)


def _lag(log: StatusLog, simulator: Simulator, statuses: Collection[str] = ()) -> str:
    """Return the mean and the 95th percentile, of the changes to these statuses or of all."""
    lags = [lag.seconds for lag in log.lags(simulator) if not statuses or lag.entered in statuses]
    return f"{sum(lags) / len(lags):.1f} s, {quantile(lags, 0.95):.1f} s" if lags else "no changes seen"


async def all_at_once(tier: TierName, count: int, seed: int) -> list[Figure]:
    """Run a batch with daily quotas off."""
    async with Simulator(tier=tier, seed=seed, daily_quotas=False) as simulator:
        log, ended_at = await follow(simulator, count)
        shares = utilisations(simulator, TIERS[tier].requests_per_minute)
        mean = sum(shares) / len(shares)
        return [
            Figure(f"{tier}: 429s caused", str(simulator.rate_limited), "0", simulator.rate_limited == 0),
            Figure(f"{tier}: utilisation, mean", f"{mean:.1%}", ">= 95 %", mean >= 0.95),
            Figure("  of the least used minute", f"{min(shares):.1%}"),
            Figure("  minutes with work, of all", f"{len(shares) / 60:.0f} of {ended_at / 60:.0f}"),
            Figure("  requests", f"{len(simulator.requests)}"),
            Figure("  lag, mean and 95th percentile", _lag(log, simulator)),
        ]


async def one_day(tier: TierName, count: int, seed: int) -> list[Figure]:
    """Run one UTC day, from midnight to midnight, with the documented quotas."""
    midnight = _DAY - START_OF_SIMULATED_TIME % _DAY
    async with Simulator(tier=tier, seed=seed) as simulator:
        log, ended_at = await follow(simulator, count, RateLimit(), seconds=midnight + _DAY)
        begin = min(midnight, max(0.0, ended_at - _DAY))
        requests = [record for record in simulator.requests if record.arrived >= begin]
        submitted = sum(record.route == "submit" and record.status == 202 for record in requests)
        over_productions = sum(record.admitted and record.status == 429 for record in requests)
        over_requests = sum(record.status == 429 for record in requests) - over_productions
        changes = [change for changes in log.changes.values() for change in changes]
        ended = sum(status in _ENDS and at >= begin for at, status in changes)
        used = sum(record.admitted for record in requests)
        return [
            Figure(f"{tier}: productions submitted, ended", f"{submitted}, {ended}"),
            Figure("  requests used", f"{used} of {TIERS[tier].requests_per_day or 'unlimited'}"),
            Figure("  429s: for requests; for productions", f"{over_requests}; {over_productions}"),
            Figure("  lag, mean and 95th percentile", _lag(log, simulator)),
        ]


async def daily_batch(tier: TierName, seed: int) -> list[Figure]:
    """Run as many productions as an account may submit in a day, with the documented quotas."""
    limits = TIERS[tier]
    count, quota = limits.productions_per_day, limits.requests_per_day
    if count is None or quota is None:
        return []
    async with Simulator(tier=tier, seed=seed) as simulator:
        log, ended_at = await follow(simulator, count, RateLimit())
        ended = sum(any(status in _ENDS for _, status in changes) for changes in log.changes.values())
        requests = len(simulator.requests)
        fits = ended == count and requests <= quota and not simulator.rate_limited
        return [
            Figure(f"{tier}: productions ended", f"{ended} of {count}", "all", fits),
            Figure("  requests used; 429s", f"{requests} of {quota}; {simulator.rate_limited}"),
            Figure("  lag, mean and 95th percentile", _lag(log, simulator)),
            Figure("  of the ends alone", _lag(log, simulator, _ENDS)),
            Figure("  all seen after", f"{ended_at / 60:.0f} min"),
        ]


async def round_the_clock(tier: TierName, count: int, seed: int) -> list[Figure]:
    """Keep this many productions in flight for 24 hours."""
    async with Simulator(tier=tier, seed=seed, daily_quotas=False) as simulator:
        await follow(simulator, _ENDLESS, seconds=_DAY, in_flight=count)
        sent, rejected = len(simulator.requests), simulator.rate_limited
        return [Figure(f"{tier}: 429s, of all requests", f"{rejected} of {sent:,}", "0", rejected == 0)]


async def two_on_one_key(tier: TierName, count: int, seed: int) -> list[Figure]:
    """Run two clients that share nothing but the key."""
    async with Simulator(tier=tier, seed=seed, daily_quotas=False) as simulator:
        half = max(count // 2, 1)
        clients = (follow(simulator, _ENDLESS, seconds=_TWO_HOURS, in_flight=half) for _ in range(2))
        await asyncio.gather(*clients)
        sent, rejected = len(simulator.requests), simulator.rate_limited
        share = f"{rejected} of {sent:,}: {rejected / sent:.2%}"
        return [Figure(f"{tier}: 429s, of all requests", share, "<= 1 %", rejected <= 0.01 * sent)]


def measure(scenario: _Scenario, *arguments: Any) -> list[Figure]:
    """Run one scenario, in a process of a pool."""
    logging.disable()  # warnings that submits wait for the next day are expected
    return run(scenario(*arguments))


def main() -> None:
    chosen = options(__doc__, productions=200, seed=1)
    size, seed, tiers = chosen.productions, chosen.seed, get_args(TierName)
    tables: list[tuple[str, str, list[tuple[_Scenario, Any]]]] = [
        ("DAILY QUOTAS OFF", f"{size} at once", [(all_at_once, (tier, size, seed)) for tier in tiers]),
        ("DAILY QUOTAS ON", "a UTC day", [(one_day, (tier, size, seed)) for tier in tiers]),
        ("A BATCH OF A DAY", "quotas on", [(daily_batch, (tier, seed)) for tier in tiers]),
        ("ROUND THE CLOCK", f"{size} in flight", [(round_the_clock, (tier, size, seed)) for tier in tiers]),
        ("TWO ON ONE KEY", f"{size} in flight", [(two_on_one_key, (tier, size, seed)) for tier in tiers]),
    ]
    figures: list[Figure] = []
    with multiprocessing.get_context("spawn").Pool() as pool:
        pending = [
            (
                Figure(title, value),
                [pool.apply_async(measure, (scenario, *arguments)) for scenario, arguments in scenarios],
            )
            for title, value, scenarios in tables
        ]
        for heading, results in pending:
            figures += [heading, *(figure for result in results for figure in result.get())]
    show("The rate limit, in simulated time", figures, chosen.json)


if __name__ == "__main__":
    main()
