"""Each kind of fault does what its description says, over real HTTP and on simulated time."""

import asyncio
import inspect
import json
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from jarai_async import _clock
from jarai_async.simulator import FaultKind, Faults, Simulator, run
from jarai_async.simulator._api.fault_kinds import KINDS
from jarai_async.simulator._api.responses import Response
from tests.support.raw_client import UNKNOWN_ID, RawResponse, open_simulator

API_ERRORS = {
    "internal_error": (500, "INTERNAL_ERROR"),
    "internal_error_after": (500, "INTERNAL_ERROR"),
    "unavailable": (503, "SERVICE_UNAVAILABLE"),
    "unauthorized": (401, "UNAUTHORIZED"),
    "forbidden": (403, "PARTNER_NOT_ACTIVE"),
    "not_found": (404, "NOT_FOUND"),
    "rate_limited": (429, "RATE_LIMIT_EXCEEDED"),
}


@pytest.mark.parametrize("kind", API_ERRORS)
async def test_fault_with_an_error_of_the_api(kind: str) -> None:
    """The fault affects one request, whose response has the documented envelope."""
    async with open_simulator() as (simulator, api):
        simulator.faults.add(kind, seconds=17)
        response = await api.submit()
        assert (await api.submit()).status == 202
    assert (response.status, response.error) == API_ERRORS[kind]
    assert response.json["retryAfterSeconds"] == (17 if kind == "rate_limited" else None)
    assert simulator.faults.fired == {kind: 1}
    assert len(simulator.productions) == 1 + KINDS[kind].executes
    if kind == "rate_limited":
        reset = datetime.fromisoformat("2026-01-01T09:00:17Z").timestamp()
        assert response.headers["X-RateLimit-Remaining"] == "0"
        assert float(response.headers["X-RateLimit-Reset"]) == reset
    assert simulator.requests[0].admitted == (kind not in ("rate_limited", "unauthorized"))
    assert simulator.rate_limited == 0


@pytest.mark.parametrize(("kind", "status"), [("gateway_html", 502), ("unavailable_html", 503)])
async def test_fault_with_an_error_of_a_gateway(kind: str, status: int) -> None:
    """A gateway responds in HTML and without a correlation id."""
    async with open_simulator() as (simulator, api):
        simulator.faults.add(kind)
        response = await api.submit()
    assert response.status == status
    assert response.headers["Content-Type"] == "text/html"
    assert response.body.startswith(b"<html>")
    assert "X-Correlation-Id" not in response.headers
    assert len(simulator.productions) == KINDS[kind].executes


@pytest.mark.parametrize("kind", ["reset_before", "reset_after", "cut_body"])
async def test_fault_that_breaks_the_connection(kind: str) -> None:
    """The client receives a connection error, whether or not the API executed the submission."""
    async with open_simulator() as (simulator, api):
        simulator.faults.add(kind)
        with pytest.raises(aiohttp.ClientError) as caught:
            await api.submit()
        assert simulator.requests[0].status == (202 if kind == "cut_body" else None)
    expected = aiohttp.ClientPayloadError if kind == "cut_body" else aiohttp.ClientOSError
    assert isinstance(caught.value, expected)
    assert len(simulator.productions) == KINDS[kind].executes
    assert simulator.faults.fired == {kind: 1}


@pytest.mark.parametrize("kind", ["hang_before", "hang"])
async def test_fault_that_hangs_until_the_client_disconnects(kind: str) -> None:
    """No response arrives, however long the client waits; its handler ends when it disconnects."""
    async with open_simulator() as (simulator, api):
        before = len(asyncio.all_tasks())
        simulator.faults.add(kind)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(86_400):
                await api.submit()
        await asyncio.sleep(1)
        assert len(asyncio.all_tasks()) == before
        assert simulator.requests[0].status is None
    assert len(simulator.productions) == KINDS[kind].executes


async def test_faults_that_change_the_body() -> None:
    """These faults execute the submission and respond with 202, but with a wrong body."""
    responses = {}
    kinds = ("truncated_json", "wrong_json", "empty_body", "huge_body", "missing_id")
    async with open_simulator() as (simulator, api):
        for kind in (*kinds, "missing_id_and_location", "other_production", "unknown_status"):
            simulator.faults.add(kind)
            responses[kind] = await api.submit()
        true_ids = list(simulator.productions)
    assert {response.status for response in responses.values()} == {202}
    assert len(true_ids) == len(responses) == 8
    with pytest.raises(json.JSONDecodeError):
        assert responses["truncated_json"].json
    assert responses["wrong_json"].json == []
    assert responses["empty_body"].body == b""
    assert 8 * 1024**2 < len(responses["huge_body"].body) < 9 * 1024**2
    assert responses["huge_body"].json["productionId"] == true_ids[3]
    assert "productionId" not in responses["missing_id"].json
    assert responses["missing_id"].headers["Location"].endswith(true_ids[4])
    assert "productionId" not in responses["missing_id_and_location"].json
    assert "Location" not in responses["missing_id_and_location"].headers
    assert responses["other_production"].json["productionId"] not in true_ids
    assert responses["unknown_status"].json["status"] == "Rendering"


async def test_redirect_with_the_key_is_recorded_as_a_leak() -> None:
    """A client that follows the redirect and sends its key to the other origin leaks it."""
    async with open_simulator() as (simulator, api):
        simulator.faults.add("redirect", on="fetch", times=2)
        not_followed = await api.get(f"/productions/{UNKNOWN_ID}")
        assert simulator.leaks == []
        followed = await api.get(f"/productions/{UNKNOWN_ID}", allow_redirects=True)
    assert (not_followed.status, followed.status) == (307, 403)
    assert urlsplit(not_followed.headers["Location"]).port != urlsplit(simulator.base_url).port
    assert simulator.leaks == ["GET /trap"]


async def test_faults_of_downloads() -> None:
    """A download can expire early, be too short, differ in one bit, be slow, or break off."""
    async with open_simulator() as (simulator, api):
        production_id = await api.start_production()
        await asyncio.sleep(305)
        captions = (await api.deliverables(production_id))["captions.vtt"]
        complete = (await api.request_url("GET", captions["sasUrl"])).body
        responses = {}
        for kind in ("expired", "wrong_length", "bit_flip", "slow", "unavailable"):
            simulator.faults.add(kind, on="download", seconds=30)
            before = _clock.monotonic()
            responses[kind] = await api.request_url("GET", captions["sasUrl"])
            assert _clock.monotonic() - before == (30 if kind == "slow" else 0)
        simulator.faults.add("cut_body", on="download")
        with pytest.raises(aiohttp.ClientPayloadError):
            await api.request_url("GET", captions["sasUrl"])
    assert (responses["expired"].status, responses["expired"].body[:5]) == (403, b"<?xml")
    assert (responses["unavailable"].status, responses["unavailable"].body[:5]) == (503, b"<?xml")
    assert responses["wrong_length"].body == complete[: len(complete) // 2]
    assert responses["slow"].body == complete
    flipped = responses["bit_flip"]
    assert sum((a ^ b).bit_count() for a, b in zip(flipped.body, complete, strict=True)) == 1
    assert flipped.headers["Content-MD5"] == captions["contentMd5"]
    assert simulator.faults.fired["bit_flip"] == 1


async def test_after_times_and_on_select_the_requests() -> None:
    """A fault affects the requests that `after`, `times` and `on` select, until `clear`."""
    async with open_simulator() as (simulator, api):
        simulator.faults.add("internal_error", on="accounts", after=2, times=2)
        statuses = [(await api.get("/accounts")).status for _ in range(6)]
        simulator.faults.add("unavailable", on="any", times=None)
        other_routes = [(await api.get(path)).status for path in ("/usage", "/accounts", "/usage")]
        storage = await api.request_url("GET", simulator.faults.trap_url)
        simulator.faults.clear()
        assert (await api.get("/usage")).status == 200
    assert statuses == [200, 200, 500, 500, 200, 200]
    assert other_routes == [503] * 3
    assert storage.status == 403  # "any" does not mean downloads
    assert simulator.faults.fired == {"internal_error": 2, "unavailable": 3}


async def test_probability_depends_on_the_seed() -> None:
    """About the configured share of the requests fails, and the same ones for the same seed."""

    async def statuses(seed: int) -> list[int]:
        async with open_simulator(seed=seed) as (simulator, api):
            simulator.faults.add("unavailable", on="usage", times=None, probability=0.3)
            return [(await api.get("/usage")).status for _ in range(200)]

    first = await statuses(3)
    assert 40 <= first.count(503) <= 80
    assert first == await statuses(3) != await statuses(4)


async def test_custom_kind_of_fault() -> None:
    """A test can add its own kind to the table of one simulator."""
    async with open_simulator() as (simulator, api):
        simulator.faults.kinds["teapot"] = FaultKind(
            lambda _, __: Response(418, {"tea": True}), executes=False
        )
        simulator.faults.add("teapot", on="usage")
        response = await api.get("/usage")
    assert (response.status, response.json) == (418, {"tea": True})
    assert "teapot" not in KINDS


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kind": "gremlin"}, "gremlin"), ({"on": "lunch"}, "lunch"), ({"probability": 1.5}, "between")],
)
def test_unknown_kind_or_route_is_rejected(options: dict[str, Any], message: str) -> None:
    """A misspelt kind or route raises an error, because its fault would never affect a request."""
    with pytest.raises(ValueError, match=message):
        Simulator().faults.add(**{"kind": "hang", **options})


ROUTES_OF = {
    **dict.fromkeys(("expired", "wrong_length", "bit_flip"), "download"),
    **dict.fromkeys(("odd_items", "empty_list", "not_ready"), "deliverables"),
}


async def observed_with(kind: str | None, route: str) -> object:
    """What a client sees of one request, with this kind of fault or without a fault."""
    async with open_simulator() as (simulator, api):
        production_id = await api.start_production()
        await asyncio.sleep(305)
        captions = (await api.deliverables(production_id))["captions.vtt"]["sasUrl"]
        requests: dict[str, Callable[[], Awaitable[RawResponse]]] = {
            "submit": api.submit,
            "deliverables": lambda: api.get(f"/productions/{production_id}/deliverables"),
            "download": lambda: api.request_url("GET", captions),
        }
        if kind is not None:
            simulator.faults.add(kind, on=route)
        begin = _clock.monotonic()
        try:
            async with asyncio.timeout(300):
                response = await requests[route]()
        except (aiohttp.ClientError, TimeoutError) as error:
            return type(error)
        headers = {
            name: text for name, text in response.headers.items() if name.lower() != "x-correlation-id"
        }
        body = re.sub(rb":\d+/", b"/", response.body)  # the port of blob storage
        return response.status, headers, body, _clock.monotonic() - begin


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_fault_changes_what_a_client_sees(kind: str) -> None:
    """The same request differs from one without a fault; a fault without effect would test nothing."""
    route = ROUTES_OF.get(kind, "submit")
    first, second = run(observed_with(None, route)), run(observed_with(None, route))
    assert first == second
    assert run(observed_with(kind, route)) != first


def test_every_kind_of_fault_is_described() -> None:
    """The docstring of `Faults` lists every kind once."""
    lines = inspect.cleandoc(Faults.__doc__ or "").splitlines()
    assert sorted(line.split()[0] for line in lines if line.startswith(" " * 4)) == sorted(KINDS)
