"""What a batch will take at a tier, and what its days allow."""

import math
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import JaraiClient, Orchestrator, ProductionRequest, StatusChanged
from jarai_async._forecast import plan as plan_module
from jarai_async._forecast.forecast import CHAIN
from jarai_async._forecast.plan import GOOD_LAG, Plan, plan
from jarai_async._forecast.quotas import Quotas, enough_for, limits, starts
from jarai_async._polling import poll_queue
from jarai_async._polling.sojourn import Sojourns
from jarai_async._ratelimit import limiter
from jarai_async._ratelimit.limiter import DAY
from jarai_async.simulator import Simulator, run
from jarai_async.simulator._event_loop import START_OF_SIMULATED_TIME
from tests.support.scenarios import requests_for
from tests.support.strategies import ID, OTHER, request

NOON = DAY / 2
HOUR = 3600.0


def batch(number: int, account: str = ID) -> list[ProductionRequest]:
    return [request(account_id=account)] * number


def planned(number: int, tier: str, concurrency: int | None = None) -> Plan:
    return plan(batch(number), tier, concurrency=concurrency, wall=NOON)


def test_a_batch_that_fits_the_day_has_no_warning() -> None:
    """The documented tiers: 20 productions a day at the standard one, any number at the largest."""
    for number, tier in ((20, "standard"), (200, "enterprise")):
        foreseen = planned(number, tier)
        assert (foreseen.days, foreseen.warnings) == (1, [])
        assert foreseen.concurrency == foreseen.recommended == number
        assert 0.5 * HOUR < foreseen.duration < 5 * HOUR


def test_one_that_does_not_fit_says_how_many_days_it_needs() -> None:
    """65 productions of one account at the standard tier: today, and after three midnights."""
    foreseen = planned(65, "standard")
    assert foreseen.days == 4
    assert foreseen.warnings == ["needs 4 days: 20 productions a day for one account, 2,000 requests a day"]
    assert 2.5 * DAY < foreseen.duration < 2.75 * DAY
    halves = [*batch(33), *batch(32, OTHER)]
    assert plan(halves, "standard", concurrency=None, wall=NOON).days == 2


def test_requests_a_day_bound_what_many_accounts_may_do() -> None:
    """At the free tier 100 requests are enough for 25 productions a day, polled every 15 minutes or so."""
    accounts = [f"0b0e2b1c-9f4e-4d5c-8a57-{n:012}" for n in range(20)]
    requests = [one for account in accounts for one in batch(3, account)]
    assert plan(requests, "free", concurrency=None, wall=NOON).days == 3


def test_too_many_in_flight_is_said() -> None:
    """What is recommended keeps the lag low; all at once does not."""
    good, thin = planned(1200, "enterprise"), planned(1200, "enterprise", 1200)
    assert 100 < good.recommended < 600
    assert good.lag <= GOOD_LAG
    assert good.warnings == []
    assert thin.lag > 2 * good.lag
    assert thin.warnings == [
        f"1200 in flight are many for 300 requests a minute: {thin.lag:.0f} s late on average"
    ]
    assert planned(8, "free").warnings[-1].startswith("a day's requests are few")


@given(st.integers(1, 60), st.sampled_from(["free", "standard", "enterprise"]), st.integers(1, 100))
def test_any_plan_makes_sense(number: int, tier: str, concurrency: int) -> None:
    """At least a submit, a poll and a list of deliverables each; a lag that no floor undercuts."""
    foreseen = planned(number, tier, concurrency)
    assert 1 <= foreseen.recommended <= number
    assert foreseen.requests >= 3 * number
    assert foreseen.lag >= 2.5
    assert foreseen.duration > 0
    assert foreseen.days == (1 + (number - 1) // {"free": 3, "standard": 20}.get(tier, math.inf))


def test_it_knows_of_polling_and_of_the_budget_what_they_do() -> None:
    """The constants are theirs."""
    assert plan_module._LEAST_GAIN == poll_queue.LEAST_GAIN
    assert plan_module._DAY_HORIZON == limiter.DAY_HORIZON
    assert plan_module._DAY_FOR_POLLS == 1 - limiter.DAY_RESERVE


def by_the_table(random: Random, _: str) -> list[tuple[str, float]]:
    """Durations as the plan takes them to be."""
    sojourns = Sojourns()
    return [(str(status), sojourns.stay(None, status, 0.0, random.expovariate(1))) for status in CHAIN]


@pytest.mark.parametrize(("tier", "number"), [("standard", 20), ("free", 3), ("enterprise", 60)])
def test_the_simulator_agrees(tier: str, number: int) -> None:
    """Requests and lag of a day come out as foreseen, or nearly."""
    late: list[float] = []

    async def batch_run() -> int:
        simulator = Simulator(seed=1, tier=tier, durations=by_the_table, failure_rate=0)  # type: ignore[arg-type]
        async with (
            simulator,
            JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
            Orchestrator(client) as orchestrator,
        ):
            async for event in orchestrator.run(requests_for(simulator, number)):
                if isinstance(event, StatusChanged):
                    moments = {s: m for m, s in simulator.productions[event.production.id].timeline}
                    moment = START_OF_SIMULATED_TIME + moments[event.status]
                    late.append(event.observed_at.timestamp() - moment)
        return simulator.count()

    sent, foreseen = run(batch_run()), planned(number, tier, number)
    assert sent == pytest.approx(foreseen.requests, rel=0.3)
    assert sum(late) / len(late) == pytest.approx(foreseen.lag, rel=0.4)


# --- Days ------------------------------------------------------------------------------------------


accounts = st.lists(st.sampled_from("abc"), max_size=60)
some = st.integers(1, 5) | st.just(math.inf)


@given(accounts, some, st.integers(1, 9) | st.just(math.inf), st.integers(0, 5), st.integers(0, 9))
def test_no_day_takes_more_than_it_may(
    accounts: list[str], per_account: float, in_all: float, left: int, left_in_all: int
) -> None:
    """Neither of an account nor in all, today or later; and each account keeps its order."""
    quotas = Quotas(
        per_account=per_account,
        in_all=in_all,
        account_today=lambda _: left,
        in_all_today=left_in_all,
    )
    days = quotas.days(accounts)
    for day, number in Counter(days).items():
        assert number <= (in_all if day else left_in_all)
    for account in set(accounts):
        of_account = [day for day, whose in zip(days, accounts, strict=True) if whose == account]
        assert of_account == sorted(of_account)
        for day, number in Counter(of_account).items():
            assert number <= (per_account if day else left)


def test_without_limits_all_begin_today() -> None:
    """The largest tier has none."""
    assert Quotas.untouched(math.inf, math.inf).days(["a"] * 5) == [0] * 5
    assert Quotas.untouched(2, math.inf).days(["a", "a", "b", "a"]) == [0, 0, 0, 1]
    assert Quotas.untouched(math.inf, 2).days(["a", "b", "c"]) == [0, 0, 1]


def test_a_later_day_begins_at_midnight() -> None:
    """UTC; today has begun."""
    assert [starts(day, 5 * DAY + NOON) for day in (0, 1, 2)] == [0, DAY / 2, 1.5 * DAY]


def test_requests_are_enough_for_what_is_polled_as_rarely_as_may_be() -> None:
    """A production of 20 minutes that may go unseen for ten: a submit, two polls, a list."""
    assert enough_for(100, whole=1200, ceiling=600) == 25
    assert enough_for(math.inf, whole=1200, ceiling=600) == math.inf
    assert enough_for(3, whole=1200, ceiling=600) == 0


def test_limits_are_named() -> None:
    """Those that there are."""
    assert limits(3, 100) == "3 productions a day for one account, 100 requests a day"
    assert limits(math.inf, math.inf) == ""
