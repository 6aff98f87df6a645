"""What blob storage may answer: each body is a whole file, or none."""

import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from jarai_async import Deliverable, DownloadError, IncompleteDownloadError, JaraiClient
from tests.support.raw_server import reply_with, server

DATA = bytes(range(256)) * 10_000  # more than the mebibyte that is written at a time
MD5 = base64.b64encode(hashlib.md5(DATA, usedforsecurity=False).digest()).decode()


@pytest.fixture
async def client() -> AsyncIterator[JaraiClient]:
    async with JaraiClient("jarai_test_x", base_url="http://127.0.0.1:9/v1/partner") as client:
        yield client


def answer(headers: str, body: bytes = DATA) -> bytes:
    return f"HTTP/1.1 200 OK\r\n{headers}\r\n\r\n".encode() + body


CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(DATA), DATA)
WHOLE: dict[str, tuple[bytes, dict[str, Any]]] = {
    "a length, from storage": (answer(f'Content-Length: {len(DATA)}\r\nETag: W/"x"'), {}),
    "a length": (answer(f"Content-Length: {len(DATA)}"), {"size": len(DATA)}),
    "chunks and a checksum": (answer(f"Transfer-Encoding: chunked\r\nContent-MD5: {MD5}", CHUNKED), {}),
    "chunks and an announced size": (answer("Transfer-Encoding: chunked", CHUNKED), {"size": len(DATA)}),
    "Azure's checksum": (answer(f"x-ms-blob-content-md5: {MD5}"), {}),
    "a checksum and the end of the connection": (answer(f"Content-MD5: {MD5}"), {}),
    "an announced size and the end of the connection": (answer("X: y"), {"size": len(DATA)}),
    "an announced checksum": (answer(f"Content-Length: {len(DATA)}"), {"content_md5": MD5}),
}
BROKEN: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "nothing tells where it ends": (answer("X: y"), {}, "neither a length"),
    "chunks that anybody may have ended": (
        answer("Transfer-Encoding: chunked", CHUNKED),
        {},
        "neither a length",
    ),
    "another file, by Azure's checksum": (
        answer(f"Content-Length: {len(DATA)}\r\nx-ms-blob-content-md5: {MD5}", DATA[::-1]),
        {},
        "checksum",
    ),
    "nothing tells who answers": (answer(f"Content-Length: {len(DATA)}"), {}, "neither an ETag"),
    "an encoding": (answer(f"Content-Length: {len(DATA)}\r\nContent-Encoding: gzip"), {}, "encoding"),
    "another length": (answer(f"Content-Length: {len(DATA)}"), {"size": 5}, "were announced"),
    "too little": (answer("X: y", DATA[:-1]), {"size": len(DATA)}, "broke off"),
    "too much": (answer("X: y"), {"size": len(DATA) - 1}, "does not end"),
    "another file": (answer(f"Content-MD5: {MD5}", DATA[1:]), {}, "checksum"),
    "no checksum at all": (answer(f"Content-Length: {len(DATA)}\r\nContent-MD5: nope!"), {}, "checksum"),
    "part of a file": (b"HTTP/1.1 206 Partial\r\nContent-Length: 1\r\n\r\nx", {}, "206"),
    "a redirect": (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", {}, "302"),
}


@pytest.mark.parametrize("case", WHOLE)
async def test_a_whole_file_is_kept(client: JaraiClient, tmp_path: Path, case: str) -> None:
    """Whichever way its end is told."""
    data, facts = WHOLE[case]
    async with server(reply_with(data)) as (url, _):
        path = await client.download(Deliverable("Video", url, **facts), tmp_path / "video.mp4")
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("case", BROKEN)
async def test_what_is_not_a_whole_file_is_not_kept(client: JaraiClient, tmp_path: Path, case: str) -> None:
    """It is named, and the folder stays empty."""
    data, facts, says_why = BROKEN[case]
    async with server(reply_with(data)) as (url, _):
        with pytest.raises(DownloadError, match=says_why):
            await client.download(Deliverable("Video", url, **facts), tmp_path / "video.mp4")
    assert list(tmp_path.iterdir()) == []


async def test_a_refused_url_of_no_production_cannot_be_renewed(client: JaraiClient, tmp_path: Path) -> None:
    """Whoever made the deliverable by hand is told what is missing."""
    refused = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    async with server(reply_with(refused)) as (url, _):
        with pytest.raises(DownloadError, match="production is not known"):
            await client.download(Deliverable("Video", url), tmp_path / "video.mp4")


async def test_a_store_that_fails_is_asked_again_and_then_named(client: JaraiClient, tmp_path: Path) -> None:
    """Five attempts, then the status."""
    failing = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
    async with server(reply_with(failing)) as (url, received):
        with pytest.raises(IncompleteDownloadError, match="503"):
            await client.download(Deliverable("Video", url), tmp_path / "video.mp4")
    assert len(received) == 5
