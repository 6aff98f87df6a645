"""The simulator against its contract, over real HTTP and on simulated time."""

import asyncio
import base64
import hashlib
import json
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import _clock
from jarai_async.simulator import Kind, Simulator, usual_durations
from jarai_async.simulator._answers import Answer
from jarai_async.simulator._fates import TERMINAL, Recipe, draw_fate
from jarai_async.simulator._kinds import KINDS
from jarai_async.simulator._limits import TIERS, DailyQuota, MonthlyCeiling, RollingWindow
from jarai_async.simulator._submission import read_submission

INFINITY = float("inf")
MISSING = str(uuid.UUID(int=7, version=4))


def quick(_: random.Random, __: str) -> list[tuple[str, float]]:
    return [("Queued", 10.0), ("Producing", 145.0), ("AwaitingApproval", 100.0), ("Distributing", 50.0)]


@frozen
class Reply:
    status: int
    headers: Any
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def error(self) -> str:
        assert set(self.json) == {"error", "message", "retryAfterSeconds"}
        return str(self.json["error"])


class Caller:
    """A client that knows HTTP and nothing else."""

    def __init__(self, simulator: Simulator, session: aiohttp.ClientSession) -> None:
        self.simulator = simulator
        self.session = session

    async def get(self, path: str, **options: Any) -> Reply:
        return await self.call("GET", path, **options)

    async def call(self, method: str, path: str, *, key: str | None = "", **options: Any) -> Reply:
        headers = dict(options.pop("headers", {}))
        if key is not None:
            headers["X-API-Key"] = key or self.simulator.api_key
        return await self.fetch(method, self.simulator.base_url + path, headers=headers, **options)

    async def fetch(self, method: str, url: str, **options: Any) -> Reply:
        options = {"allow_redirects": False, **options}
        async with self.session.request(method, url, **options) as response:
            return Reply(response.status, response.headers, await response.read())

    async def submit(self, *, account: str = "", **fields: Any) -> Reply:
        options: dict[str, Any] = {
            name: fields.pop(name) for name in ("key", "headers", "data") if name in fields
        }
        if "data" not in options:
            options["json"] = {**submission(self.simulator), **fields}
        account = account or self.simulator.account_id
        return await self.call("POST", f"/accounts/{account}/productions", **options)

    async def start(self, **fields: Any) -> str:
        reply = await self.submit(**fields)
        assert reply.status == 202
        return str(reply.json["productionId"])

    async def status(self, production_id: str) -> str:
        return str((await self.get(f"/productions/{production_id}")).json["status"])

    async def listed(self, production_id: str) -> dict[str, dict[str, Any]]:
        reply = await self.get(f"/productions/{production_id}/deliverables")
        assert reply.status == 200
        return {one["fileName"]: one for one in reply.json["deliverables"]}


def submission(simulator: Simulator) -> dict[str, Any]:
    return {
        "topic": "Tides",
        "languageId": simulator.language_id,
        "countryId": simulator.country_id,
        "avatarId": simulator.avatar_id,
    }


@asynccontextmanager
async def open_world(**options: Any) -> AsyncIterator[tuple[Simulator, Caller]]:
    options = {"latency": 0.0, "failure_rate": 0.0, "durations": quick, **options}
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        Simulator(**options) as simulator,
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
    ):
        yield simulator, Caller(simulator, session)


# ---- the endpoints -----------------------------------------------------------------------------------


async def test_accounts_give_what_a_submission_needs() -> None:
    """The list names each account with its avatars and connected platforms."""
    async with open_world(accounts=2) as (simulator, api):
        accounts = (await api.get("/accounts")).json["accounts"]
    assert [one["accountId"] for one in accounts] == [one.account_id for one in simulator.accounts]
    assert accounts[0]["avatars"][0] == {"avatarId": simulator.avatar_id}
    assert accounts[0]["languages"] == [{"languageId": simulator.language_id}]
    assert accounts[0]["countries"] == [{"countryId": simulator.country_id}]
    assert accounts[0]["connectedPlatforms"]


async def test_a_submission_is_accepted_with_identifier_and_location() -> None:
    """A submission is answered 202 with `productionId` and a Location that leads to the status."""
    async with open_world() as (simulator, api):
        reply = await api.submit(mood="calm", metadataMD="# Notes")
        production_id = reply.json["productionId"]
        assert reply.status == 202
        assert reply.json["status"] == "Queued"
        assert reply.headers["Location"] == f"/v1/partner/productions/{production_id}"
        assert await api.status(production_id) == "Queued"
        production = simulator.productions[production_id]
    assert production.body == {**submission(simulator), "mood": "calm", "metadataMD": "# Notes"}
    assert production.polls == 1


async def test_a_production_passes_through_its_statuses_at_the_true_moments() -> None:
    """The status follows the timeline exactly, and the steps advance from 1 to 15 while it is produced."""
    async with open_world() as (simulator, api):
        production_id = await api.start()
        assert simulator.productions[production_id].timeline == (
            (0.0, "Queued"),
            (10.0, "Producing"),
            (155.0, "AwaitingApproval"),
            (255.0, "Distributing"),
            (305.0, "Published"),
        )
        seen: list[str] = []
        steps: list[Any] = []
        while not seen or seen[-1] != "Published":
            body = (await api.get(f"/productions/{production_id}")).json
            seen.append(body["status"])
            steps.append(body["currentStep"])
            await asyncio.sleep(5)
    assert seen == [
        *["Queued"] * 2,
        *["Producing"] * 29,
        *["AwaitingApproval"] * 20,
        *["Distributing"] * 10,
        "Published",
    ]
    assert steps[:3] == [None, None, 1]
    assert all(before <= after for before, after in pairwise(steps[2:]))
    assert set(steps[2:]) >= {1, 5, 8, 15}
    assert steps[-1] == 15


async def test_the_status_body_is_complete() -> None:
    """The status carries identifiers, times in ISO 8601 and the default project type."""
    async with open_world() as (simulator, api):
        production_id = await api.start()
        await asyncio.sleep(20)
        body = (await api.get(f"/productions/{production_id}")).json
    assert body == {
        "productionId": production_id,
        "accountId": simulator.account_id,
        "status": "Producing",
        "topic": "Tides",
        "projectTypeSlug": "social-video-30s",
        "currentStep": 3,  # 10 of 145 seconds are a minute of the usual 14.5, and Write 1.5 of them
        "createdAt": "2026-01-01T09:00:00.000Z",
        "updatedAt": "2026-01-01T09:00:10.000Z",
        "expiresAt": "2026-01-01T09:10:00.000Z",
    }


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"topic": ""}, "topic"),
        ({"topic": "x" * 501}, "topic"),
        ({"topic": 5}, "topic"),
        ({"avatarId": "someone"}, "avatarId"),
        ({"languageId": None}, "languageId"),
        ({"countryId": MISSING + "\n"}, "countryId"),
        ({"metadataMD": "x" * 4097}, "metadataMD"),
        ({"projectTypeSlug": 30}, "projectTypeSlug"),
    ],
)
async def test_a_wrong_field_is_an_invalid_request(fields: dict[str, Any], complaint: str) -> None:
    """A field outside of its documented bounds is refused with 400 and named."""
    async with open_world() as (simulator, api):
        reply = await api.submit(**fields)
    assert (reply.status, reply.error) == (400, "INVALID_REQUEST")
    assert complaint in reply.json["message"]
    assert not simulator.productions


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff"])
async def test_a_body_that_is_no_object_is_an_invalid_request(data: bytes) -> None:
    """Bytes that are not a JSON object are refused with 400."""
    async with open_world() as (_, api):
        reply = await api.submit(data=data)
    assert (reply.status, reply.error) == (400, "INVALID_REQUEST")


@given(st.text(min_size=1, max_size=500), st.text(max_size=4096) | st.none())
def test_every_topic_within_bounds_is_accepted(topic: str, metadata: str | None) -> None:
    """Any text of 1 to 500 characters is a topic, any of at most 4,096 is metadata."""
    body: dict[str, str | None] = dict.fromkeys(("languageId", "countryId", "avatarId"), MISSING)
    body |= {"topic": topic, "metadataMD": metadata}
    assert read_submission(json.dumps(body).encode()) == body


async def test_a_body_over_64_kib_is_too_large() -> None:
    """More than 64 KiB is refused with 413, without a code."""
    async with open_world() as (_, api):
        exact = json.dumps({**submission(api.simulator), "notes": ""}).encode()
        fill = b"x" * (64 * 1024 - len(exact))
        fits = await api.submit(data=exact[:-2] + fill + exact[-2:])
        over = await api.submit(data=exact[:-2] + fill + b"x" + exact[-2:])
    assert fits.status == 202
    assert over.status == 413
    assert over.json["error"] is None


async def test_unknown_things_have_their_answers() -> None:
    """An unknown account is 403, an unknown production or path 404, a wrong method 405."""
    async with open_world() as (_, api):
        account = await api.submit(account=MISSING)
        missing = [
            await api.get(f"/productions/{MISSING}"),
            await api.call("DELETE", f"/productions/{MISSING}"),
            await api.get(f"/productions/{MISSING}/deliverables"),
            await api.get(f"/productions/{MISSING}/performance"),
            await api.get("/productions/not-a-uuid"),
            await api.get("/productions"),
            await api.get("/nothing/here/at/all"),
        ]
        method = await api.call("PUT", f"/productions/{MISSING}")
    assert (account.status, account.error) == (403, "INSUFFICIENT_SCOPE")
    assert [(one.status, one.error) for one in missing] == [(404, "NOT_FOUND")] * 7
    assert (method.status, method.error) == (405, "METHOD_NOT_ALLOWED")
    assert method.headers["Allow"] == "GET, DELETE"


async def test_every_answer_has_its_headers() -> None:
    """A correlation id and the simulated date are always there, rate headers only on 2xx and 429."""
    async with open_world(tier="free") as (_, api):
        fine = await api.get("/accounts")
        absent = await api.get(f"/productions/{MISSING}")
        nobody = await api.get("/accounts", key=None)
        for _ in range(8):
            await api.get("/accounts")
        limited = await api.get("/accounts")
    replies = (fine, absent, nobody, limited)
    assert [one.status for one in replies] == [200, 404, 401, 429]
    assert len({uuid.UUID(one.headers["X-Correlation-Id"]) for one in replies}) == 4
    assert {one.headers["Date"] for one in replies} == {"Thu, 01 Jan 2026 09:00:00 GMT"}
    assert ["X-RateLimit-Limit" in one.headers for one in replies] == [True, False, False, True]


async def test_performance_grows_after_publication() -> None:
    """Figures are zero until a production is published, and then never fall."""
    async with open_world() as (_, api):
        production_id = await api.start()
        views = []
        for _ in range(4):
            reply = await api.get(f"/productions/{production_id}/performance")
            views.append(reply.json["views"])
            await asyncio.sleep(86_400)
    assert views[0] == 0
    assert views[0] < views[1] < views[2] < views[3]


async def test_usage_counts_productions_and_requests() -> None:
    """Usage tells the requests of the day and the productions of the month per account."""
    async with open_world(tier="standard") as (simulator, api):
        await api.start()
        usage = (await api.get("/usage")).json
    assert usage["requestsToday"] == 2
    assert usage["requestsPerMinuteLimit"] == 60
    assert usage["accounts"] == [{"accountId": simulator.account_id, "productionsThisMonth": 1}]


# ---- keys and the sandbox ----------------------------------------------------------------------------


async def test_only_valid_keys_are_let_in() -> None:
    """A missing, a wrong and a revoked key get 401, and no place in the budget."""
    async with open_world() as (simulator, api):
        extra = simulator.add_key("accounts:read")
        assert (await api.get("/accounts", key=extra)).status == 200
        simulator.revoke(extra)
        replies = [await api.get("/accounts", key=key) for key in (None, "jarai_live_wrong", extra)]
        with pytest.raises(KeyError) as caught:
            simulator.revoke(extra)
    assert [(one.status, one.error) for one in replies] == [(401, "UNAUTHORIZED")] * 3
    assert sum(record.admitted for record in simulator.requests) == 1
    assert extra not in str(caught.value)


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        ("accounts:read", {"accounts"}),
        ("productions:read", {"fetch"}),
        ("productions:write", {"submit", "fetch", "cancel"}),
        ("deliverables:read", {"deliverables"}),
        ("analytics:read", {"performance", "usage"}),
        ("logs:read", set()),
    ],
)
async def test_a_scope_opens_its_endpoints_and_no_other(scope: str, allowed: set[str]) -> None:
    """A key may call what its scopes name, writing includes reading, all else is 403."""
    async with open_world() as (simulator, api):
        production_id = await api.start()
        key = simulator.add_key(scope)
        one = f"/productions/{production_id}"
        replies = {
            "accounts": await api.get("/accounts", key=key),
            "fetch": await api.get(one, key=key),
            "deliverables": await api.get(f"{one}/deliverables", key=key),
            "performance": await api.get(f"{one}/performance", key=key),
            "usage": await api.get("/usage", key=key),
            "submit": await api.submit(key=key),
            "cancel": await api.call("DELETE", one, key=key),
        }
    refused = {name for name, reply in replies.items() if reply.status == 403}
    assert set(replies) - refused == allowed
    assert {replies[name].error for name in refused} == {"PERMISSION_DENIED"}


async def test_an_unknown_scope_cannot_be_granted() -> None:
    """A scope that the API does not have is a mistake in the test that asks for it."""
    with pytest.raises(ValueError, match="productions:delete"):
        Simulator().add_key("productions:delete")


async def test_the_sandbox_answers_and_nothing_runs() -> None:
    """A test key, or a live one that asks for it, gets flagged answers and starts no production."""
    async with open_world(tier="standard") as (simulator, api):
        key = simulator.add_key("accounts:read", "productions:write", "deliverables:read", sandbox=True)
        made = await api.submit(headers={"X-JARAI-Test": "true"})
        path = f"/productions/{made.json['productionId']}"
        replies = [
            made,
            await api.submit(key=key),
            await api.get("/accounts", key=key),
            await api.get(path, key=key),
            await api.get(f"{path}/deliverables", key=key),
            await api.get(f"{path}/performance", headers={"X-JARAI-Test": "true"}),
            await api.call("DELETE", path, key=key),
        ]
        invalid = await api.submit(key=key, topic="")
        url = replies[4].json["deliverables"][0]["sasUrl"]
        assert (await api.fetch("GET", url)).status == 200
        assert (await api.get(path)).status == 404
    assert key.startswith("jarai_test_")
    assert simulator.api_key.startswith("jarai_live_")
    assert [one.json["sandbox"] for one in replies] == [True] * 7
    assert replies[3].json["status"] == "Published"
    assert replies[6].json["status"] == "Cancelled"
    assert made.json["productionId"] != replies[1].json["productionId"]
    assert invalid.error == "INVALID_REQUEST"
    assert not simulator.productions


# ---- limits ------------------------------------------------------------------------------------------


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
        refused = quota.refusal(wall)
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


# ---- idempotency, cancelling, approval, failures -----------------------------------------------------


async def test_a_repeated_key_gets_the_first_answer_where_keys_are_honoured() -> None:
    """With `idempotency_keys` a resubmission starts nothing, and another body is refused."""
    async with open_world(idempotency_keys=True) as (simulator, api):
        headers = {"Idempotency-Key": "k1"}
        first = await api.submit(headers=headers)
        await asyncio.sleep(3600)
        second = await api.submit(headers=headers)
        other = await api.submit(headers=headers, topic="Else")
        fresh = await api.submit(headers={"Idempotency-Key": "k2"})
    assert second.json == first.json
    assert second.headers["Location"] == first.headers["Location"]
    assert (other.status, other.error) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert fresh.json["productionId"] != first.json["productionId"]
    assert [one.idempotency_key for one in simulator.productions.values()] == ["k1", "k2"]


async def test_a_repeated_key_means_nothing_where_keys_are_not_honoured() -> None:
    """By default the same key starts a second production, as the API may well do."""
    async with open_world() as (simulator, api):
        for _ in range(2):
            await api.start(headers={"Idempotency-Key": "k1"})
    assert len(simulator.productions) == 2


@pytest.mark.parametrize("moment", [0.0, 10.0, 154.9, 200.0, 304.9])
async def test_cancelling_ends_what_is_not_over(moment: float) -> None:
    """Whatever a production is doing, cancelling ends it at that moment and for good."""
    async with open_world() as (simulator, api):
        production_id = await api.start()
        await asyncio.sleep(moment)
        reply = await api.call("DELETE", f"/productions/{production_id}")
        again = await api.call("DELETE", f"/productions/{production_id}")
        await asyncio.sleep(1000)
        assert await api.status(production_id) == "Cancelled"
    assert [(one.status, one.json["status"]) for one in (reply, again)] == [(200, "Cancelled")] * 2
    assert simulator.productions[production_id].timeline[-1] == (moment, "Cancelled")


async def test_cancelling_comes_too_late_for_what_is_published() -> None:
    """A terminal status never changes: cancelling gets 409."""
    async with open_world() as (_, api):
        production_id = await api.start()
        await asyncio.sleep(305)
        reply = await api.call("DELETE", f"/productions/{production_id}")
        assert await api.status(production_id) == "Published"
    assert (reply.status, reply.error) == (409, "PRODUCTION_NOT_CANCELLABLE")


async def test_cancelling_comes_too_late_for_what_has_failed() -> None:
    """A failed production keeps its failure."""
    async with open_world(failure_rate=1.0) as (simulator, api):
        production_id = await api.start()
        await asyncio.sleep(305)
        before = simulator.productions[production_id].timeline
        reply = await api.call("DELETE", f"/productions/{production_id}")
        assert await api.status(production_id) == "Failed"
    assert (reply.status, reply.error) == (409, "PRODUCTION_NOT_CANCELLABLE")
    assert simulator.productions[production_id].timeline == before


async def test_a_production_waits_for_its_person() -> None:
    """With `approval="person"` nothing happens until it is approved, and then the rest does."""
    async with open_world(approval="person", durations=usual_durations) as (simulator, api):
        production_id = await api.start()
        with pytest.raises(ValueError, match="Queued"):
            simulator.approve(production_id)
        await asyncio.sleep(7 * 86_400)
        assert await api.status(production_id) == "AwaitingApproval"
        simulator.approve(production_id)
        assert await api.status(production_id) == "Distributing"
        await asyncio.sleep(1000)
        assert await api.status(production_id) == "Published"
        with pytest.raises(KeyError):
            simulator.approve(MISSING)


async def test_approval_is_mostly_quick_when_mixed_and_always_when_automatic() -> None:
    """Some 70 % of mixed approvals and all automatic ones take seconds."""
    waits: dict[str, list[float]] = {"mixed": [], "auto": []}
    for approval, seen in waits.items():
        async with open_world(approval=approval, durations=usual_durations) as (simulator, api):
            for _ in range(200):
                await api.start()
            for production in simulator.productions.values():
                moments = {status: moment for moment, status in production.timeline}
                seen.append(moments["Distributing"] - moments["AwaitingApproval"])
    assert max(waits["auto"]) <= 15
    assert 0.6 <= sum(wait <= 15 for wait in waits["mixed"]) / 200 <= 0.8
    assert max(waits["mixed"]) > 1200


async def test_an_expired_production_says_so() -> None:
    """A production that nobody picks up fails after ten minutes with PRODUCTION_EXPIRED."""
    async with open_world(expiry_rate=1.0) as (_, api):
        production_id = await api.start()
        await asyncio.sleep(599)
        assert await api.status(production_id) == "Queued"
        await asyncio.sleep(1)
        body = (await api.get(f"/productions/{production_id}")).json
    assert (body["status"], body["errorCode"]) == ("Failed", "PRODUCTION_EXPIRED")


async def test_a_failed_production_says_why() -> None:
    """One that fails on the way does so while it is produced, with a code and a message."""
    async with open_world(failure_rate=1.0) as (simulator, api):
        production_id = await api.start()
        await asyncio.sleep(155)
        body = (await api.get(f"/productions/{production_id}")).json
        refused = await api.get(f"/productions/{production_id}/deliverables")
    moment, status = simulator.productions[production_id].timeline[-1]
    assert status == "Failed"
    assert 10 <= moment < 155
    assert body["errorCode"] == "PIPELINE_STEP_FAILED"
    assert str(body["currentStep"]) in body["errorMessage"]
    assert refused.error == "DELIVERABLES_NOT_READY"


async def test_durations_may_decide_the_end_and_use_any_status() -> None:
    """A last stage that is terminal holds, and a status that nobody has heard of is passed through."""
    stages = [("Queued", 5.0), ("Rendering", 5.0), ("Producing", 5.0), ("Failed", 0.0)]
    async with open_world(durations=lambda _, __: stages) as (simulator, api):
        production = simulator.productions[await api.start()]
    assert production.timeline == (
        (0, "Queued"),
        (5, "Rendering"),
        (10, "Producing"),
        (15, "Failed"),
    )


@pytest.mark.parametrize(
    ("kind", "typical"), [("social-video-30s", 18 * 60), ("podcast", 105 * 60), ("book", 105 * 60)]
)
def test_the_usual_durations_are_the_documented_ones(kind: str, typical: float) -> None:
    """Short videos take about 18 minutes, long form 1 to 3 hours, in nine of ten cases."""
    rng = random.Random(5)
    drawn = sorted(dict(usual_durations(rng, kind))["Producing"] for _ in range(1000))
    assert drawn[500] == pytest.approx(typical, rel=0.05)
    assert drawn[50] > typical * 0.6
    assert drawn[950] < typical * 1.6


@pytest.mark.parametrize(
    ("stages", "complaint"),
    [
        ([], "no stage"),
        ([("Queued", -1.0)], "cannot last"),
        ([("Queued", float("nan"))], "cannot last"),
        ([("Published", 1.0), ("Queued", 1.0)], "terminal"),
    ],
)
def test_stages_that_make_no_sense_are_refused(stages: list[tuple[str, float]], complaint: str) -> None:
    """Whoever writes durations learns of a mistake rather than of a strange world."""
    recipe = Recipe(lambda _, __: stages)
    with pytest.raises(ValueError, match=complaint):
        draw_fate(random.Random(1), "article", recipe)


@given(st.integers(), st.floats(0, 1), st.floats(0, 1), st.sampled_from(["auto", "mixed", "person"]))
def test_every_fate_ends_or_waits(seed: int, failure: float, expiry: float, approval: Any) -> None:
    """Whatever the options, a fate ends in one terminal status, and passes through nothing after it."""
    recipe = Recipe(usual_durations, failure, expiry, approval)
    stages = draw_fate(random.Random(seed), "article", recipe).stages
    assert stages[-1] in (("Published", INFINITY), ("Failed", INFINITY))
    assert TERMINAL.isdisjoint(status for status, _ in stages[:-1])
    assert stages[0][0] == "Queued"
    assert 0 <= stages[0][1] <= 600
    waits = [seconds for status, seconds in stages if status == "AwaitingApproval"]
    assert len(waits) == (stages[-1][0] == "Published")
    assert (waits == [INFINITY]) == (approval == "person" and waits != [])


async def test_a_client_that_leaves_finds_its_submission_executed_or_not() -> None:
    """Every submission that arrived was executed, whether or not its answer was waited for."""
    async with open_world(latency=1.0) as (simulator, api):

        async def hasty() -> bool:
            try:
                async with asyncio.timeout(0.8):
                    return (await api.submit()).status == 202
            except TimeoutError:
                return False

        answered = sum(await asyncio.gather(*(hasty() for _ in range(200))))
        await asyncio.sleep(60)
    assert 0 < answered < len(simulator.productions) < 200
    assert len(simulator.productions) == simulator.count("submit") > simulator.count("submit", 202)


async def test_the_same_seed_is_the_same_world() -> None:
    """Identifiers, fates and keys depend on the seed and the ordinal, not on who asks how often."""

    async def world(seed: int, polls: int) -> tuple[Any, ...]:
        async with open_world(seed=seed, latency=0.05, durations=usual_durations, failure_rate=0.3) as (
            simulator,
            api,
        ):
            for _ in range(5):
                production_id = await api.start()
                for _ in range(polls):
                    await api.status(production_id)
            fates = [(one.production_id, one.fate) for one in simulator.productions.values()]
            return simulator.api_key, simulator.accounts, fates

    assert await world(1, 0) == await world(1, 3)
    assert await world(1, 0) != await world(2, 0)


async def test_latency_is_as_asked() -> None:
    """The mean time to an answer is about the latency that was asked for."""
    async with open_world(latency=0.2) as (_, api):
        for _ in range(250):
            await api.get("/accounts")
        assert 0.15 < _clock.monotonic() / 250 < 0.25


# ---- deliverables ------------------------------------------------------------------------------------


async def test_deliverables_can_be_fetched_from_awaiting_approval_on() -> None:
    """Before that they get a 409; from then on they have a size, a checksum and a URL that holds them."""
    async with open_world() as (simulator, api):
        production_id = await api.start()
        await asyncio.sleep(154)
        early = await api.get(f"/productions/{production_id}/deliverables")
        await asyncio.sleep(1)
        listed = await api.listed(production_id)
        for one in listed.values():
            reply = await api.fetch("GET", one["sasUrl"])
            digest = base64.b64encode(hashlib.md5(reply.raw, usedforsecurity=False).digest()).decode()
            assert (len(reply.raw), digest) == (one["sizeBytes"], one["contentMd5"])
            assert reply.headers["Content-MD5"] == digest
            assert reply.headers["Content-Type"] == one["contentType"]
            assert reply.headers["Accept-Ranges"] == "bytes"
            assert uuid.UUID(one["deliverableId"])
        origin = urlsplit(next(iter(listed.values()))["sasUrl"]).port
    assert (early.status, early.error) == (409, "DELIVERABLES_NOT_READY")
    assert {"Video", "ClosedCaptions", "Attribution"} <= {one["type"] for one in listed.values()}
    assert origin != urlsplit(simulator.base_url).port
    assert simulator.count("download", 200) == len(listed)
    assert simulator.leaks == []


async def test_a_preliminary_list_differs_from_the_final_one() -> None:
    """After publication the attribution has other bytes, and the old URL still gives the old ones."""
    async with open_world() as (_, api):
        production_id = await api.start()
        await asyncio.sleep(200)
        before = await api.listed(production_id)
        await asyncio.sleep(200)
        after = await api.listed(production_id)
        changed = {name for name in after if after[name]["contentMd5"] != before[name]["contentMd5"]}
        old = await api.fetch("GET", before["attribution.json"]["sasUrl"])
        new = await api.fetch("GET", after["attribution.json"]["sasUrl"])
    assert changed == {"attribution.json"}
    assert old.json == {**new.json, "preliminary": True}


async def test_a_signed_url_is_valid_for_an_hour() -> None:
    """The URL works for 3,600 seconds and not one more, and only as it was signed."""
    async with open_world() as (_, api):
        production_id = await api.start()
        await asyncio.sleep(305)
        url = (await api.listed(production_id))["captions.vtt"]["sasUrl"]
        other = await api.fetch("GET", url.replace("captions.vtt", "thumbnail.png"))
        longer = await api.fetch("GET", url.replace("T10%3A", "T11%3A"))
        unsigned = await api.fetch("GET", url.split("?")[0])
        wrong_method = await api.fetch("PUT", url)
        await asyncio.sleep(3599)
        last = await api.fetch("GET", url)
        await asyncio.sleep(1)
        expired = await api.fetch("GET", url)
        fresh = (await api.listed(production_id))["captions.vtt"]["sasUrl"]
        assert (await api.fetch("GET", fresh)).raw == last.raw
    assert parse_qs(urlsplit(url).query)["se"] == ["2026-01-01T10:05:05Z"]
    assert [one.status for one in (other, longer, unsigned, last, expired)] == [403, 403, 403, 200, 403]
    assert wrong_method.status == 405
    assert expired.headers["Content-Type"] == "application/xml"
    assert b"<Code>AuthenticationFailed</Code>" in expired.raw


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("bytes=0-9", slice(0, 10)),
        ("bytes=100-", slice(100, None)),
        ("bytes=-7", slice(-7, None)),
        ("bytes=10-99999999", slice(10, None)),
    ],
)
async def test_a_range_is_served(wanted: str, part: slice) -> None:
    """A range of a file comes as 206, with its place in the whole."""
    async with open_world() as (_, api):
        production_id = await api.start()
        await asyncio.sleep(305)
        url = (await api.listed(production_id))["attribution.json"]["sasUrl"]
        whole = await api.fetch("GET", url)
        same = {"If-Match": whole.headers["ETag"], "If-Range": whole.headers["ETag"]}
        reply = await api.fetch("GET", url, headers={"Range": wanted, **same})
    size = len(whole.raw)
    start, stop, _ = part.indices(size)
    assert (reply.status, reply.raw) == (206, whole.raw[part])
    assert reply.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{size}"
    assert reply.headers["Content-Length"] == str(stop - start)


async def test_ranges_and_conditions_that_cannot_be_met() -> None:
    """A range beyond the end is 416, a stale If-Match 412, a stale If-Range the whole file."""
    async with open_world() as (_, api):
        production_id = await api.start()
        await asyncio.sleep(305)
        one = (await api.listed(production_id))["captions.vtt"]
        size = one["sizeBytes"]
        beyond = await api.fetch("GET", one["sasUrl"], headers={"Range": f"bytes={size}-"})
        stale = await api.fetch("GET", one["sasUrl"], headers={"If-Match": '"other"'})
        whole = await api.fetch("GET", one["sasUrl"], headers={"Range": "bytes=5-", "If-Range": '"other"'})
        several = await api.fetch("GET", one["sasUrl"], headers={"Range": "bytes=0-1,3-4"})
        backwards = await api.fetch("GET", one["sasUrl"], headers={"Range": "bytes=4-1"})
        head = await api.fetch("HEAD", one["sasUrl"])
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{size}")
    assert stale.status == 412
    assert [(one.status, len(one.raw)) for one in (whole, several, backwards)] == [(200, size)] * 3
    assert (head.raw, head.headers["Content-Length"]) == (b"", str(size))


# ---- faults ------------------------------------------------------------------------------------------

ANSWERED = {
    "internal_error": (500, "INTERNAL_ERROR"),
    "internal_error_after": (500, "INTERNAL_ERROR"),
    "unavailable": (503, "SERVICE_UNAVAILABLE"),
    "unauthorized": (401, "UNAUTHORIZED"),
    "not_found": (404, "NOT_FOUND"),
    "rate_limited": (429, "RATE_LIMIT_EXCEEDED"),
}


@pytest.mark.parametrize("kind", ANSWERED)
async def test_a_fault_can_be_an_error_of_the_api(kind: str) -> None:
    """Such a fault answers with the documented envelope, once, and is counted."""
    async with open_world() as (simulator, api):
        simulator.faults.add(kind, seconds=17)
        reply = await api.submit()
        assert (await api.submit()).status == 202
    assert (reply.status, reply.error) == ANSWERED[kind]
    assert reply.json["retryAfterSeconds"] == (17 if kind == "rate_limited" else None)
    assert simulator.faults.fired == {kind: 1}
    assert len(simulator.productions) == 1 + KINDS[kind].executes
    if kind == "rate_limited":
        reset = datetime.fromisoformat("2026-01-01T09:00:17Z").timestamp()
        assert reply.headers["X-RateLimit-Remaining"] == "0"
        assert float(reply.headers["X-RateLimit-Reset"]) == reset
    assert simulator.requests[0].admitted == (kind not in ("rate_limited", "unauthorized"))
    assert simulator.rate_limited == 0


@pytest.mark.parametrize(("kind", "status"), [("gateway_html", 502), ("unavailable_html", 503)])
async def test_a_fault_can_be_a_gateway(kind: str, status: int) -> None:
    """A gateway answers in HTML and knows nothing of correlation ids."""
    async with open_world() as (simulator, api):
        simulator.faults.add(kind)
        reply = await api.submit()
    assert reply.status == status
    assert reply.headers["Content-Type"] == "text/html"
    assert reply.raw.startswith(b"<html>")
    assert "X-Correlation-Id" not in reply.headers
    assert len(simulator.productions) == KINDS[kind].executes


@pytest.mark.parametrize("kind", ["reset_before", "reset_after", "cut_body"])
async def test_a_fault_can_break_the_connection(kind: str) -> None:
    """The client sees its connection end; whether the submission was executed depends on the kind."""
    async with open_world() as (simulator, api):
        simulator.faults.add(kind)
        with pytest.raises(aiohttp.ClientError) as caught:
            await api.submit()
        assert simulator.requests[0].status == (202 if kind == "cut_body" else None)
    expected = aiohttp.ClientPayloadError if kind == "cut_body" else aiohttp.ClientOSError
    assert isinstance(caught.value, expected)
    assert len(simulator.productions) == KINDS[kind].executes
    assert simulator.faults.fired == {kind: 1}


@pytest.mark.parametrize("kind", ["hang_before", "hang"])
async def test_a_fault_can_hang_until_the_client_leaves(kind: str) -> None:
    """No answer comes, however long the client stays, and its handler ends when it leaves."""
    async with open_world() as (simulator, api):
        before = len(asyncio.all_tasks())
        simulator.faults.add(kind)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(86_400):
                await api.submit()
        await asyncio.sleep(1)
        assert len(asyncio.all_tasks()) == before
        assert simulator.requests[0].status is None
    assert len(simulator.productions) == KINDS[kind].executes


async def test_a_fault_can_spoil_the_body() -> None:
    """Each of these executes the submission, answers 202, and gives a body that is of no use."""
    replies = {}
    kinds = ("truncated_json", "wrong_json", "empty_body", "huge_body", "missing_id")
    async with open_world() as (simulator, api):
        for kind in (*kinds, "missing_id_and_location", "other_production", "unknown_status"):
            simulator.faults.add(kind)
            replies[kind] = await api.submit()
        true_ids = list(simulator.productions)
    assert {one.status for one in replies.values()} == {202}
    assert len(true_ids) == len(replies) == 8
    with pytest.raises(json.JSONDecodeError):
        assert replies["truncated_json"].json
    assert replies["wrong_json"].json == []
    assert replies["empty_body"].raw == b""
    assert 8 * 1024**2 < len(replies["huge_body"].raw) < 9 * 1024**2
    assert replies["huge_body"].json["productionId"] == true_ids[3]
    assert "productionId" not in replies["missing_id"].json
    assert replies["missing_id"].headers["Location"].endswith(true_ids[4])
    assert "productionId" not in replies["missing_id_and_location"].json
    assert "Location" not in replies["missing_id_and_location"].headers
    assert replies["other_production"].json["productionId"] not in true_ids
    assert replies["unknown_status"].json["status"] == "Rendering"


async def test_a_redirect_leads_to_a_trap_that_sees_the_key() -> None:
    """Following it with the key is a leak, and is taken down."""
    async with open_world() as (simulator, api):
        simulator.faults.add("redirect", on="fetch", times=2)
        stays = await api.get(f"/productions/{MISSING}")
        assert simulator.leaks == []
        follows = await api.get(f"/productions/{MISSING}", allow_redirects=True)
    assert (stays.status, follows.status) == (307, 403)
    assert urlsplit(stays.headers["Location"]).port != urlsplit(simulator.base_url).port
    assert simulator.leaks == ["GET /trap"]


async def test_a_fault_can_spoil_a_download() -> None:
    """A download may expire early, be too short, differ in one bit, be slow, or break off."""
    async with open_world() as (simulator, api):
        production_id = await api.start()
        await asyncio.sleep(305)
        one = (await api.listed(production_id))["captions.vtt"]
        whole = (await api.fetch("GET", one["sasUrl"])).raw
        replies = {}
        for kind in ("expired", "wrong_length", "bit_flip", "slow", "unavailable"):
            simulator.faults.add(kind, on="download", seconds=30)
            before = _clock.monotonic()
            replies[kind] = await api.fetch("GET", one["sasUrl"])
            assert _clock.monotonic() - before == (30 if kind == "slow" else 0)
        simulator.faults.add("cut_body", on="download")
        with pytest.raises(aiohttp.ClientPayloadError):
            await api.fetch("GET", one["sasUrl"])
    assert (replies["expired"].status, replies["expired"].raw[:5]) == (403, b"<?xml")
    assert (replies["unavailable"].status, replies["unavailable"].raw[:5]) == (503, b"<?xml")
    assert replies["wrong_length"].raw == whole[: len(whole) // 2]
    assert replies["slow"].raw == whole
    flipped = replies["bit_flip"]
    assert sum((a ^ b).bit_count() for a, b in zip(flipped.raw, whole, strict=True)) == 1
    assert flipped.headers["Content-MD5"] == one["contentMd5"]
    assert simulator.faults.fired["bit_flip"] == 1


async def test_faults_strike_when_and_where_they_were_ordered() -> None:
    """`after`, `times`, `on` and "any" select the requests; `clear` ends what is left."""
    async with open_world() as (simulator, api):
        simulator.faults.add("internal_error", on="accounts", after=2, times=2)
        statuses = [(await api.get("/accounts")).status for _ in range(6)]
        simulator.faults.add("unavailable", on="any", times=None)
        elsewhere = [(await api.get(path)).status for path in ("/usage", "/accounts", "/usage")]
        storage = await api.fetch("GET", simulator.faults.trap_url)
        simulator.faults.clear()
        assert (await api.get("/usage")).status == 200
    assert statuses == [200, 200, 500, 500, 200, 200]
    assert elsewhere == [503] * 3
    assert storage.status == 403  # "any" does not mean downloads
    assert simulator.faults.fired == {"internal_error": 2, "unavailable": 3}


async def test_a_probability_is_kept_and_seeded() -> None:
    """About as many requests fail as were asked to, and the same ones each time."""

    async def struck(seed: int) -> list[int]:
        async with open_world(seed=seed) as (simulator, api):
            simulator.faults.add("unavailable", on="usage", times=None, probability=0.3)
            return [(await api.get("/usage")).status for _ in range(200)]

    first = await struck(3)
    assert 40 <= first.count(503) <= 80
    assert first == await struck(3) != await struck(4)


async def test_the_table_of_faults_is_open() -> None:
    """A kind of one's own is one entry in the table."""
    async with open_world() as (simulator, api):
        simulator.faults.kinds["teapot"] = Kind(lambda _, __: Answer(418, {"tea": True}), executes=False)
        simulator.faults.add("teapot", on="usage")
        reply = await api.get("/usage")
    assert (reply.status, reply.json) == (418, {"tea": True})
    assert "teapot" not in KINDS


@pytest.mark.parametrize(
    ("options", "complaint"),
    [({"kind": "gremlin"}, "gremlin"), ({"on": "lunch"}, "lunch"), ({"probability": 1.5}, "between")],
)
def test_a_fault_that_cannot_be_is_refused(options: dict[str, Any], complaint: str) -> None:
    """A misspelt kind or route would silently test nothing."""
    with pytest.raises(ValueError, match=complaint):
        Simulator().faults.add(**{"kind": "hang", **options})


def test_every_kind_of_fault_is_described() -> None:
    """The table in the docstring and the table of kinds have the same entries."""
    from jarai_async.simulator import _kinds  # noqa: PLC0415

    lines = (_kinds.__doc__ or "").splitlines()
    assert {line.split()[0] for line in lines if line.startswith("    ")} == set(KINDS)


# ---- the simulator itself ----------------------------------------------------------------------------


async def test_nothing_is_left_after_the_end() -> None:
    """Idle, hanging and slow clients alike are let go at once; no task, no socket stays behind."""
    loop: Any = asyncio.get_running_loop()
    tasks, sockets = asyncio.all_tasks(), len(loop._selector.get_map())
    async with aiohttp.ClientSession() as session:
        async with Simulator(latency=0) as simulator:
            api = Caller(simulator, session)
            simulator.faults.add("hang", on="usage")
            hanging = asyncio.create_task(api.get("/usage"))
            await api.get("/accounts")
            await asyncio.sleep(5)
            before = _clock.monotonic()
        assert _clock.monotonic() - before < 0.05
        with pytest.raises(aiohttp.ClientError):
            await hanging
        with pytest.raises(aiohttp.ClientConnectorError):
            await api.get("/accounts")
    await asyncio.sleep(1)
    assert asyncio.all_tasks() == tasks
    assert len(loop._selector.get_map()) == sockets


async def test_a_port_that_is_taken_leaves_nothing_behind() -> None:
    """Where the API cannot be bound, the blob storage that already was is closed again."""
    loop: Any = asyncio.get_running_loop()
    async with Simulator() as first:
        sockets = len(loop._selector.get_map())
        second = Simulator(port=urlsplit(first.base_url).port or 0)
        with pytest.raises(OSError, match="address already in use"):
            await second.__aenter__()
        assert len(loop._selector.get_map()) == sockets


async def test_the_simulator_describes_itself_without_its_key() -> None:
    """`repr` says what happened so far; before the start there is no address."""
    idle = Simulator(tier="free", seed="tide")
    with pytest.raises(RuntimeError, match="async with"):
        assert idle.base_url
    async with open_world(tier="standard") as (simulator, api):
        await api.start()
        text = repr(simulator)
    assert "1 productions, 1 requests" in text
    assert simulator.base_url in text
    assert simulator.api_key not in text
    assert repr(idle).startswith("<Simulator seed='tide' tier=free at no address yet")


async def test_records_name_the_key_but_do_not_hold_it() -> None:
    """A record says when, what, by which key and how it was answered."""
    async with open_world() as (simulator, api):
        production_id = await api.start()
        await asyncio.sleep(12)
        await api.status(production_id)
        await api.get("/nowhere")
    records = simulator.requests
    assert [(one.arrived, one.method, one.route, one.status) for one in records] == [
        (0.0, "POST", "submit", 202),
        (12.0, "GET", "fetch", 200),
        (12.0, "GET", "unknown", 404),
    ]
    assert records[1].target == production_id
    assert {one.key for one in records} == {"live-1"}
    assert simulator.api_key not in repr(records)


@pytest.mark.parametrize(
    "options",
    [
        {"tier": "gold"},
        {"approval": "maybe"},
        {"latency": -1.0},
        {"latency": INFINITY},
        {"failure_rate": 1.1},
        {"expiry_rate": -0.1},
        {"accounts": 0},
    ],
)
def test_options_outside_of_their_range_are_refused(options: dict[str, Any]) -> None:
    """A mistake in an option is found when the simulator is made."""
    with pytest.raises(ValueError, match=r".+"):
        Simulator(**options)


def test_the_tiers_are_the_documented_ones() -> None:
    """Requests a minute, requests a day, productions a day and account."""
    from attrs import astuple  # noqa: PLC0415

    assert {name: astuple(tier) for name, tier in TIERS.items()} == {
        "free": (10, 100, 3),
        "standard": (60, 2000, 20),
        "enterprise": (300, None, None),
    }
