"""How a client is configured: API key, base URL, timeout, and a session of the user."""

import asyncio
import warnings
from pathlib import Path

import aiohttp
import pytest

from jarai_async import (
    ClosedError,
    ConfigurationError,
    Deliverable,
    JaraiClient,
    ProductionRequest,
    UncertainSubmitError,
)
from jarai_async.simulator import Simulator
from tests.support.raw_server import server
from tests.support.scenarios import request_for
from tests.support.strategies import ID


def test_key_and_base_url_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No argument is needed where the environment has them; the key is not shown."""
    monkeypatch.setenv("JARAI_API_KEY", "jarai_live_from-the-environment")
    monkeypatch.setenv("JARAI_BASE_URL", "https://mock.example/v1/partner/")
    client = JaraiClient()
    assert "https://mock.example/v1/partner," in repr(client)
    assert "environment" not in repr(client)


@pytest.mark.parametrize("key", ["", "jarai_live_a b", "jarai_live_a\n", "jarai_live_\u00e9"])
def test_key_that_no_header_can_carry_is_rejected(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """A key with a line break, as copied from a file, is an error that does not show the key."""
    monkeypatch.delenv("JARAI_API_KEY", raising=False)
    with pytest.raises(ConfigurationError) as rejected:
        JaraiClient(key)
    assert "jarai_live" not in str(rejected.value)


def test_key_must_be_a_string() -> None:
    """The error names the type."""
    with pytest.raises(ConfigurationError, match="must be a string"):
        JaraiClient(5)  # type: ignore[arg-type]


def test_key_of_another_service_causes_a_warning() -> None:
    """A key without JARAI's prefix may be of another service; it is used all the same."""
    with pytest.warns(UserWarning, match="jarai_"):
        JaraiClient("sk-something")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        JaraiClient("jarai_older-key")


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "https://", "https://user@host/", "https://host/?a=1", "nonsense", "http://[::1"]
)
def test_invalid_base_url_is_rejected(url: str) -> None:
    """The URL is checked before the key is sent to it."""
    with pytest.raises(ConfigurationError, match="base_url"):
        JaraiClient("jarai_test_x", base_url=url)


# --- Timeout ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_timeout_must_be_positive(timeout: float) -> None:
    """Zero, a negative number and NaN are configuration errors."""
    with pytest.raises(ConfigurationError, match="timeout must be more than 0 seconds"):
        JaraiClient("jarai_test_x", timeout=timeout)


async def respond_after_20_seconds(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(20)
    body = b'{"productionId": "%s", "status": "Queued"}' % ID.encode()
    writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


REQUEST = ProductionRequest(topic="Tides", account_id=ID, language_id=ID, country_id=ID, avatar_id=ID)


async def test_submit_without_a_response_within_the_timeout_is_uncertain() -> None:
    """A submit that gets its response too late may have created a production, and is not sent again."""
    async with (
        server(respond_after_20_seconds) as (url, received),
        JaraiClient("jarai_test_x", base_url=url, timeout=10) as client,
    ):
        with pytest.raises(UncertainSubmitError):
            await client.submit(REQUEST)
        assert asyncio.get_running_loop().time() == pytest.approx(10, abs=0.1)
        assert len(received) == 1


async def test_longer_timeout_waits_for_a_slow_response() -> None:
    """The same response is in time for a client with a longer timeout."""
    async with (
        server(respond_after_20_seconds) as (url, _),
        JaraiClient("jarai_test_x", base_url=url, timeout=25) as client,
    ):
        assert (await client.submit(REQUEST)).id == ID


async def test_timeout_applies_to_reads_and_to_the_first_byte_of_a_file(tmp_path: Path) -> None:
    """A server that takes 31 seconds is in time for a client that waits for 40."""

    async def respond_after_31_seconds(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(31)
        body = b'{"productionId": "%s", "status": "Queued"}' % ID.encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    async with (
        server(respond_after_31_seconds) as (url, received),
        JaraiClient("jarai_test_x", base_url=url, timeout=40) as client,
    ):
        assert (await client.submit(REQUEST)).id == ID
        assert (await client.fetch(ID)).id == ID
        await client.download(Deliverable("Text", url), tmp_path)
        assert len(received) == 3


# --- Sessions --------------------------------------------------------------------------------------


async def test_session_of_the_user_is_used_and_stays_open(simulator: Simulator) -> None:
    """The client closes only its own sessions; the API key does not leak to blob storage."""
    async with aiohttp.ClientSession() as session:
        async with JaraiClient(simulator.api_key, base_url=simulator.base_url, session=session) as client:
            production = await client.submit(request_for(simulator))
            await client.wait(production.id)
            for deliverable in await client.deliverables(production.id):
                assert deliverable.url
        assert not session.closed
    assert simulator.leaks == []


async def test_options_of_a_session_do_not_change_the_client(simulator: Simulator) -> None:
    """A session of the user may raise for error statuses and have middlewares: a 429 is still retried."""
    methods = []

    async def middleware(
        request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        methods.append(request.method)
        return await send(request)

    simulator.faults.add("rate_limited", on="submit", seconds=5)
    async with (
        aiohttp.ClientSession(raise_for_status=True, middlewares=(middleware,)) as session,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, session=session) as client,
    ):
        production = await client.submit(request_for(simulator))
        await client.fetch(production.id)
    assert methods == ["POST", "POST", "GET"]


async def test_closed_client_raises_closed_error(simulator: Simulator) -> None:
    """A client cannot be used after its `async with` block."""
    async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
        pass
    with pytest.raises(ClosedError, match="closed"):
        await client.accounts()
