"""The plan of a batch on a tier, and the daily quotas."""

import math
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jarai_async import JaraiClient, Orchestrator, ProductionRequest, StatusChanged
from jarai_async._forecast.forecast import LIFECYCLE
from jarai_async._forecast.plan import TARGET_LAG, Plan, plan
from jarai_async._forecast.quotas import Quotas, affordable_productions, describe_quotas, seconds_until
from jarai_async._polling.sojourn import Sojourns
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


def test_batch_within_the_daily_quota_has_no_warning() -> None:
    """Documented: 20 productions a day on the standard tier, any number on the enterprise tier."""
    for number, tier in ((20, "standard"), (200, "enterprise")):
        result = planned(number, tier)
        assert (result.days, result.warnings) == (1, [])
        assert result.concurrency == result.recommended == number
        assert 0.5 * HOUR < result.duration < 5 * HOUR


def test_batch_beyond_the_daily_quota_warns_how_many_days_it_needs() -> None:
    """65 productions of one account on the standard tier: today, and after three midnights."""
    result = planned(65, "standard")
    assert result.days == 4
    assert result.warnings == ["needs 4 days: 20 productions a day for one account, 2,000 requests a day"]
    assert 2.5 * DAY < result.duration < 2.75 * DAY
    halves = [*batch(33), *batch(32, OTHER)]
    assert plan(halves, "standard", concurrency=None, wall=NOON).days == 2


def test_requests_a_day_limit_productions_of_many_accounts() -> None:
    """On the free tier 100 requests are enough for 25 productions a day, polled about every 15 minutes."""
    accounts = [f"0b0e2b1c-9f4e-4d5c-8a57-{n:012}" for n in range(20)]
    requests = [request for account in accounts for request in batch(3, account)]
    assert plan(requests, "free", concurrency=None, wall=NOON).days == 3


def test_high_concurrency_and_low_quota_warn_of_late_changes() -> None:
    """The recommended concurrency keeps the lag low; running all at once does not."""
    recommended, maximum = planned(1200, "enterprise"), planned(1200, "enterprise", 1200)
    assert 100 < recommended.recommended < 600
    assert recommended.lag <= TARGET_LAG
    assert recommended.warnings == []
    assert maximum.lag > 2 * recommended.lag
    late = f"changes are noticed {maximum.lag:.0f} s late on average"
    assert maximum.warnings == [f"a concurrency of 1200 is high for 300 requests a minute: {late}"]
    assert planned(8, "free").warnings[-1].startswith("the quota of 100 requests a day is low: changes")


@pytest.mark.parametrize(
    ("tier", "concurrency", "lag", "warning"),
    [
        ("enterprise", 2, 15.0, ""),
        ("enterprise", 2, 15.1, "a concurrency of 2 is high"),
        ("enterprise", 1, 15.1, ""),
        ("standard", 1, 15.0, ""),
        ("standard", 1, 15.1, "the quota of 2,000 requests a day is low"),
        ("standard", 2, 15.1, "a concurrency of 2 is high"),
    ],
)
def test_late_changes_have_one_reason(tier: str, concurrency: int, lag: float, warning: str) -> None:
    """A concurrency above the recommended one, else a low daily quota; and none up to 15 seconds."""
    forecast = Plan(
        productions=9,
        tier=tier,
        concurrency=concurrency,
        recommended=1,
        duration=3600,
        days=1,
        requests=99,
        lag=lag,
    )
    assert [text[: len(warning)] for text in forecast.warnings] == ([warning] if warning else [])


@settings(max_examples=30)  # each is a forecast of a whole batch
@given(st.integers(1, 60), st.sampled_from(["free", "standard", "enterprise"]), st.integers(1, 100))
def test_every_plan_is_within_bounds(number: int, tier: str, concurrency: int) -> None:
    """Each production needs a submit, a poll and a list of deliverables; polls are 5 s apart or more."""
    result = planned(number, tier, concurrency)
    assert 1 <= result.recommended <= number
    assert result.requests >= 3 * number
    assert result.lag >= 2.5
    assert result.duration > 0
    assert result.days == (1 + (number - 1) // {"free": 3, "standard": 20}.get(tier, math.inf))


def sampled_from_the_prior(random: Random, _: str) -> list[tuple[str, float]]:
    """Durations as the plan expects them."""
    sojourns = Sojourns()
    return [
        (str(status), sojourns.sample_remaining(None, status, 0.0, random.expovariate(1)))
        for status in LIFECYCLE
    ]


@pytest.mark.parametrize(("tier", "number"), [("standard", 20), ("free", 3), ("enterprise", 10)])
def test_plan_agrees_with_the_simulator(tier: str, number: int) -> None:
    """Requests within 30 %, lag within 40 %, for a server that reports no steps."""
    late: list[float] = []

    async def batch_run() -> int:
        simulator = Simulator(seed=1, tier=tier, durations=sampled_from_the_prior, failure_rate=0)  # type: ignore[arg-type]
        simulator.deploy(layout="without_step")
        async with (
            simulator,
            JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
            Orchestrator(client) as orchestrator,
        ):
            async for event in orchestrator.run(requests_for(simulator, number)):
                if isinstance(event, StatusChanged):
                    times = {
                        status: time for time, status in simulator.productions[event.production.id].timeline
                    }
                    changed_at = START_OF_SIMULATED_TIME + times[event.status]
                    late.append(event.observed_at.timestamp() - changed_at)
        return simulator.count()

    sent, result = run(batch_run()), planned(number, tier, number)
    assert sent == pytest.approx(result.requests, rel=0.3)
    assert sum(late) / len(late) == pytest.approx(result.lag, rel=0.4)


# --- Daily quotas ----------------------------------------------------------------------------------


accounts = st.lists(st.sampled_from("abc"), max_size=60)


@given(
    accounts,
    st.integers(1, 5) | st.just(math.inf),
    st.integers(1, 9) | st.just(math.inf),
    st.integers(0, 5),
    st.integers(0, 9),
)
def test_no_day_exceeds_its_quotas(
    accounts: list[str], per_account: float, total: float, account_today: int, total_today: int
) -> None:
    """Neither of an account nor in total, today or later; the productions of an account keep their order."""
    quotas = Quotas(
        per_account=per_account,
        total=total,
        account_today=lambda _: account_today,
        total_today=total_today,
    )
    days = quotas.assign_days(accounts)
    for day, number in Counter(days).items():
        assert number <= (total if day else total_today)
    for account in set(accounts):
        of_account = [day for day, owner in zip(days, accounts, strict=True) if owner == account]
        assert of_account == sorted(of_account)
        for day, number in Counter(of_account).items():
            assert number <= (per_account if day else account_today)


def test_without_quotas_all_start_today() -> None:
    """The enterprise tier has none."""
    assert Quotas.unused(math.inf, math.inf).assign_days(["a"] * 5) == [0] * 5
    assert Quotas.unused(2, math.inf).assign_days(["a", "a", "b", "a"]) == [0, 0, 0, 1]
    assert Quotas.unused(math.inf, 2).assign_days(["a", "b", "c"]) == [0, 0, 1]


def test_later_days_start_at_midnight_utc() -> None:
    """Today has already started."""
    assert [seconds_until(day, 5 * DAY + NOON) for day in (0, 1, 2)] == [0, DAY / 2, 1.5 * DAY]


def test_affordable_productions_are_polled_as_rarely_as_allowed() -> None:
    """Four requests for one of 20 minutes, polled every 10 minutes: a submit, two polls, a list."""
    assert affordable_productions(100, mean_duration=1200, max_interval=600) == 25
    assert affordable_productions(math.inf, mean_duration=1200, max_interval=600) == math.inf
    assert affordable_productions(3, mean_duration=1200, max_interval=600) == 0


def test_description_names_the_quotas_that_exist() -> None:
    """It is empty if there are none."""
    assert describe_quotas(3, 100) == "3 productions a day for one account, 100 requests a day"
    assert describe_quotas(math.inf, math.inf) == ""
