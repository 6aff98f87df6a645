"""The door to the network, against servers that say exactly what a test wants said."""

import asyncio
import gzip
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from socket import SO_LINGER, SOL_SOCKET

import aiohttp
import pytest

from jarai_async._api.calls import Call, Kind
from jarai_async._api.responses import Response
from jarai_async._errors import (
    ConfigurationError,
    InvalidResponseError,
    JaraiError,
    NoResponseError,
    NotSentError,
)
from jarai_async._http.transport import Attempts, Transport, _translated
from jarai_async._secret import Secret
from tests.support.raw_server import reply_with, server

KEY = "jarai_live_c2VjcmV0"


def call(method: str = "POST", kind: Kind = Kind.SUBMIT) -> Call[Response]:
    return Call(kind, method, "/x", lambda answer: answer, body=b"{}" if method == "POST" else None)


@asynccontextmanager
async def transport(base_url: str) -> AsyncIterator[Transport]:
    transport = Transport(base_url)
    try:
        yield transport
    finally:
        await transport.close()


async def resets(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def never_answers(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def drips(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _n in range(100):
        writer.write(b"x")
        await asyncio.sleep(5)


OK = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}"
AMBIGUOUS = {
    "reset": (resets, NoResponseError),
    "closed without a word": (reply_with(b""), NoResponseError),
    "no answer": (never_answers, NoResponseError),
    "a drip": (drips, NoResponseError),
    "half a status line": (reply_with(b"HTTP/1.1 20"), JaraiError),
    "garbage": (reply_with(b"\x00\xff garbage\r\n\r\n"), InvalidResponseError),
    "an endless header": (
        reply_with(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n"),
        InvalidResponseError,
    ),
    "two lengths": (
        reply_with(b"HTTP/1.1 202 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
        InvalidResponseError,
    ),
    "a body cut short": (reply_with(b"HTTP/1.1 202 OK\r\nContent-Length: 50\r\n\r\n{"), NoResponseError),
    "a chunk cut short": (
        reply_with(b"HTTP/1.1 202 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\n{"),
        NoResponseError,
    ),
    "not what it says it is": (
        reply_with(b"HTTP/1.1 202 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"),
        JaraiError,
    ),
}


@pytest.mark.parametrize("fault", AMBIGUOUS)
async def test_what_may_have_been_carried_out_is_never_called_unsent(fault: str) -> None:
    """Once the request has left, no failure is a NotSentError, nor has it a status."""
    script, expected = AMBIGUOUS[fault]
    async with server(script) as (url, received), transport(url) as door:
        with pytest.raises(expected) as failure:
            await door.send(call(), Secret(KEY), Attempts())
        assert not isinstance(failure.value, NotSentError)
        assert failure.value.status is None
        assert len(received) == 1


async def test_a_refused_connection_was_not_sent() -> None:
    """There is proof: no byte could leave."""
    async with transport("http://127.0.0.1:9") as door:
        with pytest.raises(NotSentError):
            await door.send(call(), Secret(KEY), Attempts())


async def test_a_name_that_is_not_known_was_not_sent() -> None:
    """A look-up that fails comes before any byte."""
    async with transport("http://nowhere.invalid") as door:
        with pytest.raises(NotSentError):
            await door.send(call(), Secret(KEY), Attempts())


async def test_tls_to_a_plain_port_was_not_sent() -> None:
    """A handshake that fails comes before any request."""
    script = reply_with(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    async with server(script) as (url, _), transport(url.replace("http:", "https:")) as door:
        with pytest.raises(NotSentError):
            await door.send(call(), Secret(KEY), Attempts())


async def test_an_untrusted_certificate_is_a_mistake_to_correct() -> None:
    """It is not retried, and not worked around."""
    failure = ssl.SSLCertVerificationError("self-signed")
    error = aiohttp.ClientConnectorCertificateError(None, failure)  # type: ignore[arg-type]  # no key needed
    assert isinstance(_translated(error, Attempts()), ConfigurationError)


async def test_every_submit_has_a_connection_of_its_own() -> None:
    """A pooled connection may be closing just then, and the answer be lost with it."""
    async with server(reply_with(OK)) as (url, received), transport(url) as door:
        for _ in range(3):
            assert (await door.send(call(), Secret(KEY), Attempts())).status == 202
        assert len(received) == 3
        assert all(b"connection: close" in head.lower() for head in received)


async def test_a_get_on_a_connection_that_had_gone_is_not_sent_again_by_itself() -> None:
    """aiohttp would; but every request needs a turn of its own in the budget."""

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await reader.readuntil(b"\r\n\r\n")  # the next request on this connection gets no answer

    async with server(once) as (url, received), transport(url) as door:
        await door.send(call("GET", Kind.READ), Secret(KEY), Attempts())
        with pytest.raises(NoResponseError):
            await door.send(call("GET", Kind.READ), Secret(KEY), Attempts())
        assert len(received) == 1
        await door.send(call("GET", Kind.READ), Secret(KEY), Attempts())


async def test_a_redirect_is_an_answer_and_the_key_stays_here() -> None:
    """Nobody else ever sees the key."""
    async with server(reply_with(OK)) as (trap, trapped):
        head = f"HTTP/1.1 307 Elsewhere\r\nLocation: {trap}/\r\nContent-Length: 0\r\n\r\n"
        async with server(reply_with(head.encode())) as (url, _), transport(url) as door:
            assert (await door.send(call("GET", Kind.READ), Secret(KEY), Attempts())).status == 307
        assert trapped == []


async def test_a_bomb_of_zeros_is_given_up() -> None:
    """A small body that unpacks to 64 MiB is refused once it is too large."""
    body = gzip.compress(bytes(64 << 20))
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with server(reply_with(head + body)) as (url, _), transport(url) as door:
        with pytest.raises(InvalidResponseError, match="larger than"):
            await door.send(call("GET", Kind.READ), Secret(KEY), Attempts())


@pytest.mark.parametrize("fault", AMBIGUOUS)
async def test_no_failure_shows_or_holds_the_key(fault: str) -> None:
    """Neither its text nor what it is chained to."""
    async with server(AMBIGUOUS[fault][0]) as (url, _), transport(url) as door:
        with pytest.raises(JaraiError) as failure:
            await door.send(call(), Secret(KEY), Attempts())
    assert failure.value.__cause__ is None
    assert failure.value.__context__ is None
    assert KEY not in repr(failure.value) + str(failure.value)
