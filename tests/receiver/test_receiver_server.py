"""The server of the receiver: slow and idle connections are closed, and do not block others."""

import asyncio
import logging
from contextlib import suppress

import pytest

from jarai_async import receiver
from jarai_async.webhooks import sign
from tests.support.deliveries import SECRET, numbered, run_pending_tasks, running_receiver

HEAD = b"POST / HTTP/1.1\r\nHost: h\r\n"
INCOMPLETE = {
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


@pytest.mark.parametrize("name", INCOMPLETE)
async def test_incomplete_request_is_closed_after_ten_seconds(name: str) -> None:
    """The timeout starts with the connection, whether or not a part of the request arrived."""
    loop = asyncio.get_running_loop()
    async with running_receiver() as (url, _):
        reader, writer = await connect(url)
        writer.write(INCOMPLETE[name])
        with suppress(ConnectionResetError):
            assert b"204" not in await reader.read()
        writer.close()
        assert loop.time() == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize("name", [*INCOMPLETE, "garbage"])
async def test_aborted_connection_logs_no_error(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Anyone can abort any number of connections, so these do not fill the log."""
    caplog.set_level(logging.INFO)
    async with running_receiver() as (url, session):
        _, writer = await connect(url)
        writer.write(INCOMPLETE.get(name, b"\x16\x03\x01\x02\x00\x01\xfc" * 9 + b"\r\n\r\n"))
        await run_pending_tasks()
        writer.transport.abort()
        await run_pending_tasks()
        async with session.post(url, data=numbered(1), headers=sign(numbered(1), SECRET)) as response:
            assert response.status == 204
    assert caplog.records == []


async def test_connection_is_kept_alive() -> None:
    """Each request on a connection has its own 10 seconds."""
    async with running_receiver() as (url, _):
        reader, writer = await connect(url)
        for number in range(4):
            content = numbered(number)
            head = HEAD + f"Content-Length: {len(content)}\r\n".encode()
            signature = sign(content, SECRET)["X-JARAI-Signature"]
            writer.write(head + f"X-JARAI-Signature: {signature}\r\n\r\n".encode() + content)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
            await asyncio.sleep(8)
        writer.close()


async def test_idle_connections_do_not_block_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """If there are too many connections, the server closes the one that has been idle the longest."""
    monkeypatch.setattr(receiver, "_MAX_CONNECTIONS", 50)
    seen: list[int] = []
    async with running_receiver(lambda event: seen.append(event.sequence_number)) as (url, session):
        idle = []
        for number in range(120):
            idle.append(await connect(url))
            content = numbered(number)
            async with session.post(url, data=content, headers=sign(content, SECRET)) as response:
                assert response.status == 204
        closed = [reader.at_eof() or reader.exception() is not None for reader, _ in idle]
        assert closed == [True] * 71 + [False] * 49
        for _, writer in idle:
            writer.close()
    assert seen == list(range(120))


@pytest.mark.parametrize(("expect", "interim"), [("100-continue", True), ("100-Continue", True), ("", False)])
async def test_client_that_waits_for_100_continue_gets_it_before_the_response(
    expect: str,
    interim: bool,  # noqa: FBT001
) -> None:
    """The body is sent only after the interim response, so without it the request would time out."""
    content = numbered(1)
    async with running_receiver() as (url, _):
        reader, writer = await connect(url)
        signature = sign(content, SECRET)["X-JARAI-Signature"]
        head = f"Expect: {expect}\r\nX-JARAI-Signature: {signature}\r\nContent-Length: {len(content)}\r\n\r\n"
        writer.write(HEAD + head.encode())
        if interim:
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(content)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
        writer.close()


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"POST /other HTTP/1.1\r\n", b"404"),
        (b"GET / HTTP/1.1\r\n", b"405"),
        (b"POST / HTTP/1.1\r\nContent-Encoding: gzip\r\n", b"415"),
        (b"POST / HTTP/1.1\r\nContent-Length: 999999\r\n", b"413"),
        (b"POST / HTTP/1.0\r\nContent-Length: 0\r\n", b"401"),
    ],
)
async def test_request_that_is_rejected_by_its_head_gets_no_100_continue(line: bytes, status: bytes) -> None:
    """The final status comes at once. HTTP/1.0 does not know the interim response."""
    async with running_receiver() as (url, _):
        reader, writer = await connect(url)
        writer.write(line + b"Host: h\r\nExpect: 100-continue\r\n\r\n")
        assert (await reader.readline()).split()[1] == status
        writer.close()
