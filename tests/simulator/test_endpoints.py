"""The simulator's endpoints against their contract, over real HTTP and on simulated time."""

import asyncio
import json
import uuid
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarai_async.simulator._api.validation import read_submission
from tests.support.raw_client import UNKNOWN_ID, open_simulator, submission


async def test_accounts_contain_what_a_submission_needs() -> None:
    """The list has each account with its avatars, languages, countries and connected platforms."""
    async with open_simulator(accounts=2) as (simulator, api):
        accounts = (await api.get("/accounts")).json["accounts"]
    assert [each["accountId"] for each in accounts] == [each.account_id for each in simulator.accounts]
    assert accounts[0]["avatars"][0] == {"avatarId": simulator.avatar_id}
    assert accounts[0]["languages"] == [{"languageId": simulator.language_id}]
    assert accounts[0]["countries"] == [{"countryId": simulator.country_id}]
    assert accounts[0]["connectedPlatforms"]


async def test_submission_is_accepted_with_identifier_and_location() -> None:
    """The response is 202 with `productionId` and the Location of the status."""
    async with open_simulator() as (simulator, api):
        response = await api.submit(mood="calm", metadataMD="# Notes")
        production_id = response.json["productionId"]
        assert response.status == 202
        assert response.json["status"] == "Queued"
        assert response.headers["Location"] == f"/v1/partner/productions/{production_id}"
        assert await api.status(production_id) == "Queued"
        production = simulator.productions[production_id]
    assert production.body == {**submission(simulator), "mood": "calm", "metadataMD": "# Notes"}
    assert production.polls == 1


async def test_status_follows_the_timeline() -> None:
    """Each status begins exactly at its time, and the steps advance from 1 to 15 during Producing."""
    async with open_simulator() as (simulator, api):
        production_id = await api.start_production()
        assert simulator.productions[production_id].timeline == (
            (0.0, "Queued"),
            (10.0, "Producing"),
            (155.0, "AwaitingApproval"),
            (255.0, "Distributing"),
            (305.0, "Published"),
        )
        statuses: list[str] = []
        steps: list[Any] = []
        while not statuses or statuses[-1] != "Published":
            body = (await api.get(f"/productions/{production_id}")).json
            statuses.append(body["status"])
            steps.append(body["currentStep"])
            await asyncio.sleep(5)
    assert statuses == [
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


async def test_status_body_is_complete() -> None:
    """The status has identifiers, times in ISO 8601 and the default project type."""
    async with open_simulator() as (simulator, api):
        production_id = await api.start_production()
        await asyncio.sleep(20)
        body = (await api.get(f"/productions/{production_id}")).json
    assert body == {
        "productionId": production_id,
        "accountId": simulator.account_id,
        "status": "Producing",
        "topic": "Tides",
        "projectTypeSlug": "social-video-30s",
        "currentStep": 3,  # 10 of 145 s are 1 of 14.5 minutes; the first 4 steps take 1.5 minutes
        "createdAt": "2026-01-01T09:00:00.000Z",
        "updatedAt": "2026-01-01T09:00:10.000Z",
        "expiresAt": "2026-01-01T09:10:00.000Z",
    }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"topic": ""}, "topic"),
        ({"topic": "x" * 501}, "topic"),
        ({"topic": 5}, "topic"),
        ({"avatarId": "someone"}, "avatarId"),
        ({"languageId": None}, "languageId"),
        ({"countryId": UNKNOWN_ID + "\n"}, "countryId"),
        ({"metadataMD": "x" * 4097}, "metadataMD"),
        ({"metadataMD": 5}, "metadataMD"),
        ({"projectTypeSlug": 30}, "projectTypeSlug"),
    ],
)
async def test_invalid_field_is_rejected(fields: dict[str, Any], message: str) -> None:
    """A field outside its documented bounds returns 400, and the message names the field."""
    async with open_simulator() as (simulator, api):
        response = await api.submit(**fields)
    assert (response.status, response.error) == (400, "INVALID_REQUEST")
    assert message in response.json["message"]
    assert not simulator.productions


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff"])
async def test_body_that_is_not_an_object_is_rejected(data: bytes) -> None:
    """Bytes that are not a JSON object return 400."""
    async with open_simulator() as (_, api):
        response = await api.submit(data=data)
    assert (response.status, response.error) == (400, "INVALID_REQUEST")


@given(st.text(min_size=1, max_size=500), st.text(max_size=4096) | st.none())
def test_every_topic_within_bounds_is_accepted(topic: str, metadata: str | None) -> None:
    """A topic is any text of 1 to 500 characters, and metadata any text of at most 4,096."""
    body: dict[str, str | None] = dict.fromkeys(("languageId", "countryId", "avatarId"), UNKNOWN_ID)
    body |= {"topic": topic, "metadataMD": metadata}
    assert read_submission(json.dumps(body).encode()) == body


async def test_body_over_64_kib_is_rejected() -> None:
    """A body of more than 64 KiB returns 413, without an error code."""
    async with open_simulator() as (_, api):
        empty = json.dumps({**submission(api.simulator), "notes": ""}).encode()
        notes = b"x" * (64 * 1024 - len(empty))
        accepted = await api.submit(data=empty[:-2] + notes + empty[-2:])
        too_large = await api.submit(data=empty[:-2] + notes + b"x" + empty[-2:])
    assert accepted.status == 202
    assert too_large.status == 413
    assert too_large.json["error"] is None


async def test_unknown_accounts_productions_paths_and_methods() -> None:
    """An unknown account is 403, an unknown production or path 404, a wrong method 405."""
    async with open_simulator() as (_, api):
        account = await api.submit(account=UNKNOWN_ID)
        missing = [
            await api.get(f"/productions/{UNKNOWN_ID}"),
            await api.request("DELETE", f"/productions/{UNKNOWN_ID}"),
            await api.get(f"/productions/{UNKNOWN_ID}/deliverables"),
            await api.get(f"/productions/{UNKNOWN_ID}/performance"),
            await api.get("/productions/not-a-uuid"),
            await api.get("/productions"),
            await api.get("/nothing/here/at/all"),
        ]
        method = await api.request("PUT", f"/productions/{UNKNOWN_ID}")
    assert (account.status, account.error) == (403, "INSUFFICIENT_SCOPE")
    assert [(each.status, each.error) for each in missing] == [(404, "NOT_FOUND")] * 7
    assert (method.status, method.error) == (405, "METHOD_NOT_ALLOWED")
    assert method.headers["Allow"] == "GET, DELETE"


async def test_headers_of_responses() -> None:
    """All have a correlation id and the simulated date; only 2xx and 429 have rate limit headers."""
    async with open_simulator(tier="free") as (_, api):
        success = await api.get("/accounts")
        not_found = await api.get(f"/productions/{UNKNOWN_ID}")
        no_key = await api.get("/accounts", key=None)
        for _ in range(8):
            await api.get("/accounts")
        limited = await api.get("/accounts")
    responses = (success, not_found, no_key, limited)
    assert [each.status for each in responses] == [200, 404, 401, 429]
    assert len({uuid.UUID(each.headers["X-Correlation-Id"]) for each in responses}) == 4
    assert {each.headers["Date"] for each in responses} == {"Thu, 01 Jan 2026 09:00:00 GMT"}
    assert ["X-RateLimit-Limit" in each.headers for each in responses] == [True, False, False, True]


async def test_performance_grows_after_publication() -> None:
    """The figures are zero until the production is published, and then grow."""
    async with open_simulator() as (_, api):
        production_id = await api.start_production()
        views = []
        for _ in range(4):
            response = await api.get(f"/productions/{production_id}/performance")
            views.append(response.json["views"])
            await asyncio.sleep(86_400)
    assert views[0] == 0
    assert views[0] < views[1] < views[2] < views[3]


async def test_usage_counts_productions_and_requests() -> None:
    """Usage has the requests of the day, and the productions of the month per account."""
    async with open_simulator(tier="standard") as (simulator, api):
        await api.start_production()
        usage = (await api.get("/usage")).json
    assert usage["requestsToday"] == 2
    assert usage["requestsPerMinuteLimit"] == 60
    assert usage["accounts"] == [{"accountId": simulator.account_id, "productionsThisMonth": 1}]
