"""The simulator's rate limits and quotas, over real HTTP and on simulated time."""

import asyncio
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import _clock
from jarai_async.simulator._api.rate_limits import DailyQuota, MonthlyCeiling, RollingWindow
from tests.support.raw_client import open_world


async def test_the_301st_request_of_a_minute_is_refused_until_it_is_time() -> None:
    """Within 60 seconds 300 are admitted; the next is told when to come, and is admitted then."""
    async with open_world() as (simulator, api):
        first = await api.get("/accounts")
        await asyncio.sleep(20)
        replies = await asyncio.gather(*(api.get("/accounts") for _ in range(299)))
        refused = await api.get("/accounts")
        assert (refused.status, refused.error) == (429, "RATE_LIMIT_EXCEEDED")
        assert refused.json["retryAfterSeconds"] == 40
        assert refused.headers["X-RateLimit-Remaining"] == "0"
        assert int(refused.headers["X-RateLimit-Reset"]) == _clock.wall() + 40
        await asyncio.sleep(39.5)
        assert (await api.get("/accounts")).status == 429
        await asyncio.sleep(0.5)
        assert (await api.get("/accounts")).status == 200
        assert (await api.get("/accounts")).status == 429  # only one place has become free
    assert first.headers["X-RateLimit-Limit"] == "300"
    assert first.headers["X-RateLimit-Remaining"] == "299"
    assert {one.status for one in replies} == {200}
    assert simulator.rate_limited == simulator.count(status=429) == 3
    assert simulator.count("accounts", 200) == 301


async def test_all_keys_share_one_window() -> None:
    """A second key of the partner finds what the first has spent."""
    async with open_world(tier="free") as (simulator, api):
        key = simulator.add_key("accounts:read")
        statuses = [(await api.get("/accounts", key=use)).status for use in (key, "") * 6]
    assert statuses == [200] * 10 + [429] * 2


@given(
    st.integers(1, 5),
    st.lists(st.floats(0, 90) | st.sampled_from([0.0, 12.0, 20.0, 60.0]), max_size=60),
)
def test_no_rolling_minute_admits_more_than_its_limit(limit: int, gaps: list[float]) -> None:
    """Wherever 60 seconds begin, no more than the limit are admitted; whoever waits as told is."""
    window, now, admitted = RollingWindow(limit), 0.0, []
    for gap in gaps:
        now += gap
        if window.remaining(now) > 0:
            window.count(now)
            admitted.append(now)
            continue
        assert sum(moment + 60 > now for moment in admitted) == limit  # no refusal without reason
        wait = window.seconds_to_end(now)
        assert admitted[-limit] + 60 <= now + wait < admitted[-limit] + 61 + 1e-6
    for begin in admitted:
        assert sum(begin <= moment < begin + 60 for moment in admitted) <= limit


async def test_a_day_of_requests_ends_at_midnight_utc() -> None:
    """The daily quota refuses until midnight of the simulated day, and then begins anew."""
    async with open_world(tier="free") as (_, api):
        for number in range(100):
            assert (await api.get("/accounts")).status == 200
            await asyncio.sleep(10 if number < 99 else 0)
        await asyncio.sleep(60)
        refused = await api.get("/accounts")
        assert refused.status == 429
        wait = refused.json["retryAfterSeconds"]
        assert _clock.wall() + wait == datetime.fromisoformat("2026-01-02T00:00:00Z").timestamp()
        assert refused.headers["X-RateLimit-Reset"] == str(int(_clock.wall() + wait))
        await asyncio.sleep(wait - 1)
        assert (await api.get("/accounts")).status == 429
        await asyncio.sleep(1)
        assert (await api.get("/accounts")).status == 200


async def test_a_day_of_productions_counts_per_account() -> None:
    """The fourth production of a day on the free tier is refused, for that account alone."""
    async with open_world(tier="free", accounts=2) as (simulator, api):
        for _ in range(3):
            await api.start()
        refused = await api.submit()
        other = await api.submit(account=simulator.accounts[1].account_id)
        await asyncio.sleep(refused.json["retryAfterSeconds"])
        again = await api.submit()
    assert (refused.status, refused.error) == (429, "RATE_LIMIT_EXCEEDED")
    assert refused.json["retryAfterSeconds"] == 15 * 3600
    assert refused.headers["X-RateLimit-Limit"] == "3"
    assert (other.status, again.status) == (202, 202)
    assert simulator.rate_limited == 1


async def test_without_daily_quotas_only_the_minute_counts() -> None:
    """`daily_quotas=False` leaves the rolling window alone in charge."""
    async with open_world(tier="free", daily_quotas=False) as (simulator, api):
        for _ in range(11):
            replies = [await api.submit() for _ in range(10)]
            assert {one.status for one in replies} == {202}
            await asyncio.sleep(60)
    assert len(simulator.productions) == 110


async def test_the_spend_ceiling_lasts_for_the_month() -> None:
    """Beyond its ceiling an account gets 409 until a new month begins."""
    async with open_world(spend_ceiling=1) as (_, api):
        await api.start()
        refused = await api.submit()
        await asyncio.sleep(31 * 86_400)
        again = await api.submit()
    assert (refused.status, refused.error) == (409, "BUDGET_GATE_1_FAILED")
    assert refused.json["retryAfterSeconds"] is None
    assert again.status == 202


@given(st.integers(1, 4), st.lists(st.floats(0, 10**6), min_size=1, max_size=50).map(sorted))
def test_a_daily_quota_admits_its_limit_each_day(limit: int, moments: list[float]) -> None:
    """As many as came are admitted each day, up to the limit, and a refusal points to midnight."""
    quota = DailyQuota(limit)
    admitted: dict[int, int] = {}
    for wall in moments:
        day = int(wall // 86_400)
        refused = quota.error_from(wall)
        if refused is None:
            quota.count(wall)
            admitted[day] = admitted.get(day, 0) + 1
            continue
        assert admitted[day] == limit
        assert refused.reset == (day + 1) * 86_400
        assert refused.retry_after is not None
        assert quota.limit == refused.limit
        assert wall + refused.retry_after >= refused.reset
    assert all(spent <= limit for spent in admitted.values())


def test_no_ceiling_is_never_reached() -> None:
    """None means that nothing is refused, however much was spent."""
    ceiling = MonthlyCeiling(None)
    for _ in range(1000):
        ceiling.count("account", 0.0)
    assert not ceiling.reached("account", 0.0)
    assert ceiling.spent("account", 0.0) == 1000
    assert ceiling.spent("account", 40 * 86_400) == 0


async def test_utilisation_is_the_share_of_the_budget_that_was_used() -> None:
    """Half as many requests as the tier allows are a utilisation of a half."""
    async with open_world(tier="standard") as (simulator, api):
        for _ in range(60):
            await api.get("/accounts")
            await asyncio.sleep(2)
        assert simulator.utilisation(0, 120) == 0.5
        with pytest.raises(ValueError, match="before"):
            simulator.utilisation(5, 5)
