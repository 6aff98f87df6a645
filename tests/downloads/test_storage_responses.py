"""Responses of blob storage: the client keeps a complete file, and rejects everything else."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from jarai_async import Deliverable, DownloadError, IncompleteDownloadError, JaraiClient
from jarai_async._http.request_log import RequestLog
from tests.support.raw_server import reply_with, server

DATA = bytes(range(256)) * 10_000  # more than the mebibyte that the client writes at a time
MD5 = base64.b64encode(hashlib.md5(DATA, usedforsecurity=False).digest()).decode()


@pytest.fixture
async def client() -> AsyncIterator[JaraiClient]:
    async with JaraiClient("jarai_test_x", base_url="http://127.0.0.1:9/v1/partner") as client:
        yield client


def response(headers: str, body: bytes = DATA) -> bytes:
    return f"HTTP/1.1 200 OK\r\n{headers}\r\n\r\n".encode() + body


CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(DATA), DATA)
COMPLETE: dict[str, tuple[bytes, dict[str, Any]]] = {
    "a length, with an ETag": (response(f'Content-Length: {len(DATA)}\r\nETag: W/"x"'), {}),
    "a length": (response(f"Content-Length: {len(DATA)}"), {"size": len(DATA)}),
    "chunks and a checksum": (response(f"Transfer-Encoding: chunked\r\nContent-MD5: {MD5}", CHUNKED), {}),
    "chunks and an announced size": (response("Transfer-Encoding: chunked", CHUNKED), {"size": len(DATA)}),
    "Azure's checksum": (response(f"x-ms-blob-content-md5: {MD5}"), {}),
    "a checksum and the end of the connection": (response(f"Content-MD5: {MD5}"), {}),
    "an announced size and the end of the connection": (response("X: y"), {"size": len(DATA)}),
    "a length, from a host without ETags": (response(f"Content-Length: {len(DATA)}"), {}),
    "chunks": (response("Transfer-Encoding: chunked", CHUNKED), {}),
    "the end of the connection, and an announced SHA-256": (
        response("X: y"),
        {"content_md5": hashlib.sha256(DATA).hexdigest()},
    ),
    "a page, where one was announced": (
        response(f"Content-Length: {len(DATA)}\r\nContent-Type: text/html"),
        {"file_name": "article.HTML"},
    ),
    "no encoding": (response(f"Content-Length: {len(DATA)}\r\nContent-Encoding:"), {}),
    "the identity encoding": (response(f"Content-Length: {len(DATA)}\r\nContent-Encoding: Identity, "), {}),
    "a stored encoding, with a checksum": (response(f"Content-Encoding: gzip\r\nContent-MD5: {MD5}"), {}),
    "a stored encoding of the announced size": (
        response(f"Content-Length: {len(DATA)}\r\nContent-Encoding: gzip"),
        {"size": len(DATA)},
    ),
    "a stored encoding, with a length": (
        response(f"Content-Length: {len(DATA)}\r\nContent-Encoding: gzip"),
        {},
    ),
    "the end of the connection, and a checksum that may be MD5": (
        response("X: y"),
        {"raw": {"checksum": hashlib.md5(DATA, usedforsecurity=False).hexdigest()}},
    ),
    "another checksum that may be MD5, with a length": (
        response(f"Content-Length: {len(DATA)}"),
        {"raw": {"checksum": "00" * 16, "hash": "ff" * 32}},
    ),
    "another checksum that may be MD5, with a checksum that is": (
        response(f"Content-MD5: {MD5}"),
        {"content_md5": "00" * 32, "raw": {"hash": "00" * 16}},
    ),
    "an announced checksum": (response(f"Content-Length: {len(DATA)}"), {"content_md5": MD5}),
}
REJECTED: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "neither length nor checksum": (response("X: y"), {}, "neither a length"),
    "chunks without an end": (
        response("Transfer-Encoding: chunked", CHUNKED[:-5]),
        {},
        "no complete response",
    ),
    "another protocol": (b"SSH-2.0-OpenSSH\r\n", {}, "not valid HTTP"),
    "less than its length": (response(f"Content-Length: {len(DATA) + 1}"), {}, "no complete response"),
    "another file, by Azure's checksum": (
        response(f"Content-Length: {len(DATA)}\r\nx-ms-blob-content-md5: {MD5}", DATA[::-1]),
        {},
        "checksum",
    ),
    "a gateway's page": (
        response(f"Content-Length: {len(DATA)}\r\nContent-Type: text/html; charset=x"),
        {},
        "gateway's web page",
    ),
    "a gateway's page, by a checksum that may be MD5": (
        response(f"Content-Length: {len(DATA)}\r\nContent-Type: text/html"),
        {"raw": {"hash": "00" * 16}},
        "checksum",
    ),
    "the end of the connection, by a checksum that may be MD5": (
        response("X: y", DATA[1:]),
        {"raw": {"hash": MD5}},
        "checksum",
    ),
    "another file, by a named checksum": (
        response(f"Content-Length: {len(DATA)}"),
        {"raw": {"hash": f"md5:{'00' * 16}"}},
        "checksum",
    ),
    "another length": (response(f"Content-Length: {len(DATA)}"), {"size": 5}, "were announced"),
    "too short": (response("X: y", DATA[:-1]), {"size": len(DATA)}, "only 2559999 of 2560000"),
    "too long": (response("X: y"), {"size": len(DATA) - 1}, "does not end"),
    "another file": (response(f"Content-MD5: {MD5}", DATA[1:]), {}, "checksum"),
    "part of a file": (b"HTTP/1.1 206 Partial\r\nContent-Length: 1\r\n\r\nx", {}, "206"),
    "a redirect to nowhere": (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", {}, "302"),
}


@pytest.mark.parametrize("case", COMPLETE)
async def test_complete_file_is_kept(client: JaraiClient, tmp_path: Path, case: str) -> None:
    """The client accepts every way in which a response can show that it is complete."""
    data, fields = COMPLETE[case]
    async with server(reply_with(data)) as (url, _):
        path = await client.download(Deliverable("Video", url, **fields), tmp_path / "video.mp4")
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("case", REJECTED)
async def test_incomplete_or_wrong_file_is_rejected(client: JaraiClient, tmp_path: Path, case: str) -> None:
    """The error says what is wrong, and no file is left in the folder."""
    data, fields, message = REJECTED[case]
    async with server(reply_with(data)) as (url, _):
        with pytest.raises(DownloadError, match=message):
            await client.download(Deliverable("Video", url, **fields), tmp_path / "video.mp4")
    assert list(tmp_path.iterdir()) == []


async def test_checksum_that_does_not_match_by_a_guess_is_logged(
    client: JaraiClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The file is verified by its length. The guess alone does not allow to resume a download."""
    answers = iter([response(f"Content-Length: {len(DATA)}", DATA[:-1]), COMPLETE["a length"][0]])

    async def storage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reply_with(next(answers))(reader, writer)

    async with server(storage) as (url, received):
        deliverable = Deliverable("Video", url, raw={"hash": "00" * 16})
        saved = await client.engine.downloader.download(deliverable, tmp_path / "video.mp4", RequestLog())
    assert saved.verified_by == "length"
    assert len(received) == 2
    assert not any(b"Range" in head for head in received)
    assert "00000000" in caplog.text


@pytest.mark.parametrize("framing", ["length", "chunks", "a checksum"])
@pytest.mark.parametrize(
    ("lines", "encoding"),
    [
        *(
            (line, None)
            for line in ("", "none", "Binary", "utf-8", "identity", "aws-chunked", "?", "a=b;c", ",")
        ),
        *(
            (line, "gzip")
            for line in ("GZIP", "gzip, aws-chunked", "identity,gzip ,", "utf-8\r\nContent-Encoding: gzip")
        ),
        *((line, line) for line in ("x-gzip", "br", "deflate", "zstd", "compress", "gzip, br")),
    ],
)
async def test_file_of_any_content_encoding_is_saved_as_it_is_stored(
    client: JaraiClient, tmp_path: Path, lines: str, encoding: str | None, framing: str
) -> None:
    """Also if only the end of the chunks shows where it ends."""
    head = {"length": f"Content-Length: {len(DATA)}", "chunks": "Transfer-Encoding: chunked"}
    headers = f"{head.get(framing, f'Content-MD5: {MD5}')}\r\nContent-Encoding: {lines}"
    async with server(reply_with(response(headers, CHUNKED if framing == "chunks" else DATA))) as (url, _):
        download = client.engine.downloader.download(Deliverable("Video", url), tmp_path / "a", RequestLog())
        assert (await download).content_encoding == encoding
    assert (tmp_path / "a").read_bytes() == DATA


async def test_rejected_url_of_an_unknown_production_is_tried_again(
    client: JaraiClient, tmp_path: Path
) -> None:
    """It cannot be renewed, but it may be valid soon."""
    forbidden = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    async with server(reply_with(forbidden)) as (url, received):
        with pytest.raises(DownloadError, match="rejected the signed URL with status 403"):
            await client.download(Deliverable("Video", url), tmp_path / "video.mp4")
    assert len(received) == 7


async def test_storage_error_is_retried_and_then_raised(client: JaraiClient, tmp_path: Path) -> None:
    """After seven attempts the error contains the status."""
    failing = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
    async with server(reply_with(failing)) as (url, received):
        with pytest.raises(IncompleteDownloadError, match="503"):
            await client.download(Deliverable("Video", url), tmp_path / "video.mp4")
    assert len(received) == 7


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ("Retry-After: 45", 45),
        ("Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nRetry-After: Thu, 01 Jan 2026 00:01:10 GMT", 70),
        ("Retry-After: 86400", 300),
    ],
)
async def test_storage_that_names_a_time_is_not_asked_sooner(
    client: JaraiClient, tmp_path: Path, status: int, headers: str, wait: int
) -> None:
    """In seconds or as a date, but five minutes at most."""
    busy = f"HTTP/1.1 {status} Busy\r\n{headers}\r\nContent-Length: 0\r\n\r\n".encode()
    answers = iter([busy, COMPLETE["a length"][0]])
    times: list[float] = []

    async def storage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        times.append(asyncio.get_running_loop().time())
        await reply_with(next(answers))(reader, writer)

    async with server(storage) as (url, _):
        await client.download(Deliverable("Video", url), tmp_path / "video.mp4")
    assert wait <= times[1] - times[0] <= wait + 2
