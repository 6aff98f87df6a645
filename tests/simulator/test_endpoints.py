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
from tests.support.raw_client import MISSING, open_world, submission


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
