"""The receiver by itself: connections that get nowhere are ended, and keep nobody out."""

import asyncio
import logging
from contextlib import suppress

import pytest

from jarai_async import receiver
from jarai_async.webhooks import sign
from tests.support.deliveries import SECRET, numbered, served, settled

HEAD = b"POST / HTTP/1.1\r\nHost: h\r\n"
HALVES = {
    "nothing": b"",
    "half a line": b"POST / HT",
    "half the headers": HEAD + b"X: y\r\n",
    "no body": HEAD + b"Content-Length: 9\r\n\r\n",
    "half a body": HEAD + b"Content-Length: 9\r\n\r\nxxx",
    "half a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\nxxx",
}


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = url.removeprefix("http://").rstrip("/").partition(":")
    return await asyncio.open_connection(host, int(port))


@pytest.mark.parametrize("name", HALVES)
async def test_a_request_that_never_ends_is_ended(name: str) -> None:
    """Ten seconds after the connection began, drop by drop or not at all."""
    loop = asyncio.get_running_loop()
    async with served() as (url, _):
        reader, writer = await connect(url)
        writer.write(HALVES[name])
        with suppress(ConnectionResetError):
            assert b"204" not in await reader.read()
        writer.close()
        assert loop.time() == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize("name", [*HALVES, "garbage"])
async def test_a_client_that_leaves_leaves_nothing_behind(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No error, no log of one that anybody could fill."""
    caplog.set_level(logging.INFO)
    async with served() as (url, session):
        _, writer = await connect(url)
        writer.write(HALVES.get(name, b"\x16\x03\x01\x02\x00\x01\xfc" * 9 + b"\r\n\r\n"))
        await settled()
        writer.transport.abort()
        await settled()
        async with session.post(url, data=numbered(1), headers=sign(numbered(1), SECRET)) as response:
            assert response.status == 204
    assert caplog.records == []


async def test_a_connection_is_kept_for_the_next_request() -> None:
    """Each has its own ten seconds."""
    async with served() as (url, _):
        reader, writer = await connect(url)
        for number in range(4):
            content = numbered(number)
            head = HEAD + f"Content-Length: {len(content)}\r\n".encode()
            signature = sign(content, SECRET)["X-JARAI-Signature"]
            writer.write(head + f"X-JARAI-Signature: {signature}\r\n\r\n".encode() + content)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
            await asyncio.sleep(8)
        writer.close()


async def test_silent_connections_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are too many, the one that has been silent for longest has to go."""
    monkeypatch.setattr(receiver, "_CONNECTIONS", 50)
    seen: list[int] = []
    async with served(lambda event: seen.append(event.sequence_number)) as (url, session):
        silent = []
        for number in range(120):
            silent.append(await connect(url))
            content = numbered(number)
            async with session.post(url, data=content, headers=sign(content, SECRET)) as response:
                assert response.status == 204
        ended = [reader.at_eof() or reader.exception() is not None for reader, _ in silent]
        assert ended == [True] * 71 + [False] * 49
        for _, writer in silent:
            writer.close()
    assert seen == list(range(120))
