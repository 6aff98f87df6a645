"""The simulator's rate limits and quotas, over real HTTP and on simulated time."""

import asyncio
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import _clock
from jarai_async.simulator._api.rate_limits import DailyQuota, MonthlyCeiling, RollingWindow
from tests.support.raw_client import open_simulator


async def test_request_beyond_the_rate_limit_is_rejected_until_a_slot_is_free() -> None:
    """Within 60 seconds 300 requests are admitted, and one more after the `retryAfterSeconds` of the 429."""
    async with open_simulator() as (simulator, api):
        first = await api.get("/accounts")
        await asyncio.sleep(20)
        responses = await asyncio.gather(*(api.get("/accounts") for _ in range(299)))
        rejected = await api.get("/accounts")
        assert (rejected.status, rejected.error) == (429, "RATE_LIMIT_EXCEEDED")
        assert rejected.json["retryAfterSeconds"] == 40
        assert rejected.headers["X-RateLimit-Remaining"] == "0"
        assert int(rejected.headers["X-RateLimit-Reset"]) == _clock.wall() + 40
        await asyncio.sleep(39.5)
        assert (await api.get("/accounts")).status == 429
        await asyncio.sleep(0.5)
        assert (await api.get("/accounts")).status == 200
        assert (await api.get("/accounts")).status == 429  # only one slot has become free
    assert first.headers["X-RateLimit-Limit"] == "300"
    assert first.headers["X-RateLimit-Remaining"] == "299"
    assert {each.status for each in responses} == {200}
    assert simulator.rate_limited == simulator.count(status=429) == 3
    assert simulator.count("accounts", 200) == 301


async def test_all_keys_share_one_rate_limit() -> None:
    """The requests of one key of the partner count against the rate limit of another."""
    async with open_simulator(tier="free") as (simulator, api):
        key = simulator.add_key("accounts:read")
        statuses = [(await api.get("/accounts", key=each)).status for each in (key, "") * 6]
    assert statuses == [200] * 10 + [429] * 2


@given(
    st.integers(1, 5),
    st.lists(st.floats(0, 90) | st.sampled_from([0.0, 12.0, 20.0, 60.0]), max_size=60),
)
def test_no_rolling_minute_admits_more_than_its_limit(limit: int, gaps: list[float]) -> None:
    """Wherever 60 seconds begin, the window admits at most its limit, and a 429 names the right wait."""
    window, now, admitted = RollingWindow(limit), 0.0, []
    for gap in gaps:
        now += gap
        if window.remaining(now) > 0:
            window.count(now)
            admitted.append(now)
            continue
        assert sum(time + 60 > now for time in admitted) == limit  # rejected only at the limit
        wait = window.seconds_to_end(now)
        assert admitted[-limit] + 60 <= now + wait < admitted[-limit] + 61 + 1e-6
    for begin in admitted:
        assert sum(begin <= time < begin + 60 for time in admitted) <= limit


async def test_daily_quota_of_requests_resets_at_midnight_utc() -> None:
    """An exhausted daily quota rejects requests until midnight of the simulated day."""
    async with open_simulator(tier="free") as (_, api):
        for number in range(100):
            assert (await api.get("/accounts")).status == 200
            await asyncio.sleep(10 if number < 99 else 0)
        await asyncio.sleep(60)
        rejected = await api.get("/accounts")
        assert rejected.status == 429
        wait = rejected.json["retryAfterSeconds"]
        assert _clock.wall() + wait == datetime.fromisoformat("2026-01-02T00:00:00Z").timestamp()
        assert rejected.headers["X-RateLimit-Reset"] == str(int(_clock.wall() + wait))
        await asyncio.sleep(wait - 1)
        assert (await api.get("/accounts")).status == 429
        await asyncio.sleep(1)
        assert (await api.get("/accounts")).status == 200


async def test_daily_quota_of_productions_counts_per_account() -> None:
    """The fourth production of a day on the free tier is rejected, for that account only."""
    async with open_simulator(tier="free", accounts=2) as (simulator, api):
        for _ in range(3):
            await api.start_production()
        rejected = await api.submit()
        other = await api.submit(account=simulator.accounts[1].account_id)
        await asyncio.sleep(rejected.json["retryAfterSeconds"])
        again = await api.submit()
    assert (rejected.status, rejected.error) == (429, "RATE_LIMIT_EXCEEDED")
    assert rejected.json["retryAfterSeconds"] == 15 * 3600
    assert rejected.headers["X-RateLimit-Limit"] == "3"
    assert (other.status, again.status) == (202, 202)
    assert simulator.rate_limited == 1


async def test_daily_quotas_can_be_switched_off() -> None:
    """With `daily_quotas=False` only the limit per minute applies."""
    async with open_simulator(tier="free", daily_quotas=False) as (simulator, api):
        for _ in range(11):
            responses = [await api.submit() for _ in range(10)]
            assert {each.status for each in responses} == {202}
            await asyncio.sleep(60)
    assert len(simulator.productions) == 110


async def test_spend_ceiling_resets_with_the_month() -> None:
    """An account at its spend ceiling receives a 409 until a new month begins."""
    async with open_simulator(spend_ceiling=1) as (_, api):
        await api.start_production()
        rejected = await api.submit()
        await asyncio.sleep(31 * 86_400)
        again = await api.submit()
    assert (rejected.status, rejected.error) == (409, "BUDGET_GATE_1_FAILED")
    assert rejected.json["retryAfterSeconds"] is None
    assert again.status == 202


@given(st.integers(1, 4), st.lists(st.floats(0, 10**6), min_size=1, max_size=50).map(sorted))
def test_daily_quota_admits_its_limit_each_day(limit: int, times: list[float]) -> None:
    """Each day admits requests up to the limit, and a rejection names the next midnight."""
    quota = DailyQuota(limit, "day")
    admitted: dict[int, int] = {}
    for wall in times:
        day = int(wall // 86_400)
        rejected = quota.exceeded(wall)
        if rejected is None:
            quota.count(wall)
            admitted[day] = admitted.get(day, 0) + 1
            continue
        assert admitted[day] == limit
        assert rejected.reset == (day + 1) * 86_400
        assert rejected.retry_after is not None
        assert quota.limit == rejected.limit
        assert wall + rejected.retry_after >= rejected.reset
    assert all(count <= limit for count in admitted.values())


def test_no_ceiling_is_never_reached() -> None:
    """A ceiling of None counts productions and rejects none."""
    ceiling = MonthlyCeiling(None)
    for _ in range(1000):
        ceiling.count("account", 0.0)
    assert not ceiling.reached("account", 0.0)
    assert ceiling.spent("account", 0.0) == 1000
    assert ceiling.spent("account", 40 * 86_400) == 0


async def test_utilisation_is_the_used_share_of_the_rate_limit() -> None:
    """Half as many requests as the tier allows are a utilisation of a half."""
    async with open_simulator(tier="standard") as (simulator, api):
        for _ in range(60):
            await api.get("/accounts")
            await asyncio.sleep(2)
        assert simulator.utilisation(0, 120) == 0.5
        with pytest.raises(ValueError, match="before"):
            simulator.utilisation(5, 5)
