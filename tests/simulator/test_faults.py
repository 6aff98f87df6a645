"""The simulator's faults, each as it is described, over real HTTP and on simulated time."""

import asyncio
import json
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from jarai_async import _clock
from jarai_async.simulator import Kind, Simulator
from jarai_async.simulator._api.fault_kinds import KINDS
from jarai_async.simulator._api.responses import Response
from tests.support.raw_client import MISSING, open_world

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
        simulator.faults.kinds["teapot"] = Kind(lambda _, __: Response(418, {"tea": True}), executes=False)
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
    from jarai_async.simulator._api import fault_kinds  # noqa: PLC0415

    lines = (fault_kinds.__doc__ or "").splitlines()
    assert {line.split()[0] for line in lines if line.startswith("    ")} == set(KINDS)
