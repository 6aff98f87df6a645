"""The transport, against servers that send exactly the bytes that a test needs."""

import asyncio
import gzip
import math
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET

import aiohttp
import pytest
from yarl import URL

from jarai_async import JaraiClient, ProductionRequest, UncertainSubmitError, _clock
from jarai_async._api.calls import Call, Kind
from jarai_async._api.responses import Response
from jarai_async._errors import (
    ConfigurationError,
    InvalidResponseError,
    JaraiError,
    NoResponseError,
    NotSentError,
    TransportError,
)
from jarai_async._http.sessions import Attempts
from jarai_async._http.transport import Transport
from jarai_async._secret import Secret
from jarai_async.simulator import Simulator
from tests.support.certificates import server_context
from tests.support.raw_server import reply_with, server
from tests.support.strategies import ID

KEY = "jarai_live_c2VjcmV0"
REQUEST = ProductionRequest(topic="Tides", account_id=ID, language_id=ID, country_id=ID, avatar_id=ID)


@asynccontextmanager
async def opened(base_url: str) -> AsyncIterator[Transport]:
    transport = Transport(base_url)
    try:
        yield transport
    finally:
        await transport.close()


async def submit(transport: Transport) -> Response:
    call = Call(Kind.SUBMIT, "POST", "/x", lambda response: response, body=b"{}")
    return complete(await transport.send(call, Secret(KEY), Attempts()))


async def read(transport: Transport) -> Response:
    call = Call(Kind.READ, "GET", "/x", lambda response: response)
    return complete(await transport.send(call, Secret(KEY), Attempts()))


def complete(response: Response) -> Response:
    """Return the response, or raise the failure of its body."""
    if response.failure is not None:
        raise response.failure
    return response


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def never_respond(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def respond_slowly(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _n in range(100):
        writer.write(b"x")
        await asyncio.sleep(5)


OK = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}"
IN_DOUBT = {
    "connection reset": (reset, NoResponseError),
    "connection closed": (reply_with(b""), NoResponseError),
    "no response": (never_respond, NoResponseError),
    "a byte every five seconds": (respond_slowly, NoResponseError),
    "half a status line": (reply_with(b"HTTP/1.1 20"), JaraiError),
    "garbage": (reply_with(b"\x00\xff garbage\r\n\r\n"), InvalidResponseError),
    "a header that is too long": (
        reply_with(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n"),
        InvalidResponseError,
    ),
    "two lengths": (
        reply_with(b"HTTP/1.1 202 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
        InvalidResponseError,
    ),
    "incomplete body": (reply_with(b"HTTP/1.1 202 OK\r\nContent-Length: 50\r\n\r\n{"), NoResponseError),
    "incomplete chunk": (
        reply_with(b"HTTP/1.1 202 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\n{"),
        NoResponseError,
    ),
    "wrong content encoding": (
        reply_with(b"HTTP/1.1 202 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"),
        JaraiError,
    ),
}


@pytest.mark.parametrize("fault", IN_DOUBT)
async def test_request_that_was_sent_is_never_reported_as_not_sent(fault: str) -> None:
    """Once a submit has been sent, no failure is a NotSentError, and none has an HTTP status."""
    script, expected = IN_DOUBT[fault]
    async with server(script) as (url, received), opened(url) as transport:
        with pytest.raises(expected) as failure:
            await submit(transport)
        assert not isinstance(failure.value, NotSentError)
        assert failure.value.status is None
        assert len(received) == 1


@pytest.mark.parametrize("fault", IN_DOUBT)
async def test_no_error_leaks_the_api_key(fault: str) -> None:
    """Neither the text of an error nor an exception that it is chained to contains the key."""
    async with server(IN_DOUBT[fault][0]) as (url, _), opened(url) as transport:
        with pytest.raises(JaraiError) as failure:
            await submit(transport)
    assert failure.value.__cause__ is None
    assert failure.value.__context__ is None
    assert KEY not in repr(failure.value) + str(failure.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://nowhere.invalid"])
async def test_request_without_a_connection_was_not_sent(url: str) -> None:
    """A refused connection, or a name that cannot be looked up, proves that nothing was sent."""
    async with opened(url) as transport:
        with pytest.raises(NotSentError):
            await submit(transport)


async def test_request_without_a_tls_handshake_was_not_sent() -> None:
    """A TLS handshake that fails comes before the request."""
    script = reply_with(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    async with server(script) as (url, _), opened(url.replace("http:", "https:")) as transport:
        with pytest.raises(NotSentError):
            await submit(transport)


async def test_certificate_that_is_not_trusted_is_an_outage_once_the_server_was_reached(
    tmp_path: Path,
) -> None:
    """At first contact it is an error of the configuration; later it may pass. Nothing is sent."""
    (before, trusted), (after, _) = (server_context(tmp_path, name) for name in ("before", "after"))
    tls = ssl.create_default_context(cafile=trusted)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls, force_close=True)) as session:
        async with server(reply_with(OK), ssl_context=before) as (url, _):
            transport = Transport(url, session)
            await submit(transport)
        async with server(reply_with(OK), ssl_context=after, port=URL(url).port or 0) as (_, received):
            for send in (submit, read):
                with pytest.raises(NotSentError, match="certificate"):
                    await send(transport)
                with pytest.raises(ConfigurationError, match="certificate"):
                    await send(Transport(url, session))
            assert received == []


async def test_error_that_is_not_of_the_network_is_not_reported_as_one() -> None:
    """A middleware of the user's session fails: the text is not shown, since it may contain the key."""

    async def fail(request: aiohttp.ClientRequest, _: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        raise RuntimeError(request.headers["X-API-Key"])

    async with server(reply_with(OK)) as (url, _), aiohttp.ClientSession(middlewares=(fail,)) as session:
        with pytest.raises(JaraiError, match="not of the network") as raised:
            await submit(Transport(url, session))
        assert not isinstance(raised.value, TransportError | ConfigurationError)
        assert raised.value.__context__ is None
        async with JaraiClient(KEY, base_url=url, session=session) as client:
            with pytest.raises(UncertainSubmitError):  # a middleware may fail after the response
                await client.submit(REQUEST)


@pytest.mark.parametrize("headers", [b"X-%d: 1\r\n", b"X-%d: " + b"a" * 20_000 + b"\r\n"])
async def test_response_with_many_or_long_headers_is_read(headers: bytes) -> None:
    """The body decides, not what a gateway adds."""
    many = b"".join(headers % n for n in range(150 if len(headers) < 100 else 5))
    script = reply_with(b"HTTP/1.1 202 OK\r\n" + many + b"Content-Length: 2\r\n\r\n{}")
    async with server(script) as (url, _), opened(url) as transport, aiohttp.ClientSession() as session:
        for used in (transport, Transport(url, session)):
            assert (await submit(used)).body == (await read(used)).body == b"{}"


async def test_head_of_a_response_counts_although_its_body_is_lost() -> None:
    """An end of the connection, a timeout and a body without end: status and headers are known."""
    for script in (IN_DOUBT["incomplete chunk"][0], respond_slowly, IN_DOUBT["wrong content encoding"][0]):
        async with server(script) as (url, _), opened(url) as transport:
            call = Call(Kind.SUBMIT, "POST", "/x", lambda response: response, body=b"{}")
            response = await transport.send(call, Secret(KEY), Attempts())
            assert response.status // 100 == 2
            assert isinstance(response.failure, NoResponseError)
            assert transport.reached


async def test_each_submit_uses_a_new_connection() -> None:
    """On a pooled connection that the server is just closing, the response could be lost."""
    async with server(reply_with(OK)) as (url, received), opened(url) as transport:
        for _ in range(3):
            assert (await submit(transport)).status == 202
        assert len(received) == 3
        assert all(b"connection: close" in head.lower() for head in received)


async def test_aiohttp_does_not_retry_a_read_on_a_closed_connection() -> None:
    """aiohttp would send it again without a slot of the rate limit."""

    async def respond_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await reader.readuntil(b"\r\n\r\n")  # the next request on this connection gets no response

    async with server(respond_once) as (url, received), opened(url) as transport:
        await read(transport)
        with pytest.raises(NoResponseError):
            await read(transport)
        assert len(received) == 1
        await read(transport)


async def test_redirect_is_not_followed() -> None:
    """The redirect is returned as the response, so the API key never reaches another server."""
    async with server(reply_with(OK)) as (other_url, received_by_other):
        head = f"HTTP/1.1 307 Elsewhere\r\nLocation: {other_url}/\r\nContent-Length: 0\r\n\r\n"
        async with server(reply_with(head.encode())) as (url, _), opened(url) as transport:
            assert (await read(transport)).status == 307
        assert received_by_other == []


async def test_decompression_bomb_is_rejected() -> None:
    """A small body that decompresses to 64 MiB is an error as soon as it is too large."""
    body = gzip.compress(bytes(64 << 20))
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with server(reply_with(head + body)) as (url, _), opened(url) as transport:
        with pytest.raises(InvalidResponseError, match="larger than"):
            await read(transport)


@pytest.mark.parametrize(("kind", "seconds"), [(Kind.SUBMIT, 120), (Kind.READ, 60)])
async def test_response_that_never_ends_is_given_up(kind: Kind, seconds: float) -> None:
    """However regularly a byte arrives, a submit takes at most four timeouts, and a read two."""
    method = "POST" if kind is Kind.SUBMIT else "GET"
    call = Call(kind, method, "/x", lambda response: response)
    async with server(respond_slowly) as (url, _), opened(url) as transport:
        with pytest.raises(NoResponseError):
            complete(await transport.send(call, Secret(KEY), Attempts()))
    assert _clock.monotonic() == pytest.approx(seconds, abs=1)


async def test_connection_that_is_not_accepted_in_time_was_not_sent() -> None:
    """The server's queue of connections is full, so none is made within ten seconds."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with socket.create_connection(listener.getsockname()):
            async with opened(url) as transport:
                for send in (submit, read):
                    before = _clock.monotonic()
                    with pytest.raises(NotSentError):
                        await send(transport)
                    assert _clock.monotonic() - before == pytest.approx(10, abs=1)


async def test_cookies_are_not_sent_back() -> None:
    """A cookie would tie requests to one server, and could reach the host of the files."""
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\n{}"
    async with (
        server(reply_with(head)) as (url, received),
        opened(url.replace("127.0.0.1", "localhost")) as transport,
    ):
        for send in (read, read, submit, submit):
            await send(transport)
    assert len(received) == 4
    assert not any(b"cookie" in request.lower() for request in received)


@pytest.mark.parametrize("rounded", [False, True])
async def test_cancellation_at_the_moment_of_a_timeout_is_not_lost(
    simulator: Simulator, client: JaraiClient, *, rounded: bool
) -> None:
    """aiohttp's own total timeout, which is rounded up to a second, took it for its own."""
    simulator.faults.add("hang_before", on="fetch", seconds=1000.0)
    begin = asyncio.get_running_loop().time()
    end = math.ceil(begin + 60) if rounded else begin + 60
    waiter = asyncio.create_task(client.fetch(ID))
    asyncio.get_running_loop().call_at(end, waiter.cancel)
    await asyncio.wait([waiter])
    assert waiter.cancelled()
