"""A blob storage server with 24 faults, written on a raw socket, for `tests/stress/downloads.py`.

It also serves the one API call that a download needs: the list of deliverables, which has one file and, each
time, a fresh signed URL. The storage behaves like Azure's: strong ETag, ranges, `If-Match`, MD5 of the
complete file. Each fault corrupts one response, or every one to which it applies, at a given byte of the
file.
"""

import asyncio
import base64
import contextlib
import gzip
import hashlib
import json
import random
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Literal

from attrs import define, evolve, field, frozen

SIZE = (1 << 20) + 300_001  # bytes: more than the client buffers before it writes to disk
PRODUCTION = "11111111-1111-4111-8111-111111111111"
OLD, NEW = (random.Random(name).randbytes(SIZE) for name in ("old", "new"))
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on with a timeout of 0: closing sends a RST
Framing = Literal["length", "chunks", "none"]
Ending = Literal["close", "reset", "hang", "drip"]


@frozen
class Request:
    """A request for the file: the start of its `Range`, its `If-Match`, and the number of its signed URL."""

    start: int | None
    etag: str | None
    link: int


@frozen
class Response:
    """A response. The first `sent` bytes of the body are sent (None: all), then it ends with `ending`."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(factory=dict)
    framing: Framing = "length"
    sent: int | None = None
    ending: Ending = "close"


Corrupt = Callable[["Storage", Request, Response], Response]


@define
class Storage:
    """One file with one fault. `fired` counts the corrupted responses, `responses` all of them."""

    fault: "Fault"
    position: int  # the byte of the file at which the fault strikes
    always: bool  # whether it strikes each time
    full_list: bool  # whether the list gives the size and the checksum
    data: bytes = OLD
    expired_links: int = 0  # the signed URLs up to this number are rejected
    links: int = 0  # signed URLs made so far: one for each time that the list was read
    responses: int = 0
    fired: int = 0

    def deliverable(self, origin: str) -> dict[str, object]:
        self.links += 1
        details = {"sizeBytes": SIZE, "contentMd5": _md5(self.data)} if self.full_list else {}
        link = f"{origin}/blob/{self.links}?sig=secret"
        return {"deliverableId": "1", "type": "Video", "fileName": "video.mp4", "sasUrl": link, **details}

    def respond(self, request: Request) -> Response:
        self.responses += 1
        response = _correct_response(request, self.data, expired_links=self.expired_links, check_etag=True)
        if self.fault.on_resume and request.start is None:
            is_cut = self.always or self.responses == 1
            return _cut(self, request, response) if is_cut else response
        if self.fired and not self.always:
            return response
        self.fired += 1
        return self.fault.corrupt(self, request, response)


@frozen
class Fault:
    """How a response is corrupted. With `on_resume` the full response is cut, and the next one corrupted."""

    corrupt: Corrupt
    on_resume: bool = False


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _etag(data: bytes) -> str:
    return f'"0x{data[:8].hex().upper()}"'


def _correct_response(request: Request, data: bytes, *, expired_links: int, check_etag: bool) -> Response:
    if request.link <= expired_links:
        return Response(403)
    if check_etag and request.etag not in (None, _etag(data)):
        return Response(412)
    headers = {"ETag": _etag(data), "x-ms-blob-content-md5": _md5(data)}
    if request.start is None:
        return Response(200, data, headers)
    headers["Content-Range"] = f"bytes {request.start}-{SIZE - 1}/{SIZE}"
    return Response(206, data[request.start :], headers)


def _cut(storage: Storage, request: Request, response: Response) -> Response:
    return evolve(response, sent=max(0, storage.position - (request.start or 0)))


def _end_with(ending: Ending) -> Corrupt:
    return lambda storage, request, response: evolve(_cut(storage, request, response), ending=ending)


def _cut_three_times(storage: Storage, _: Request, response: Response) -> Response:
    """Cut each response at the same share of its body."""
    if not storage.always and storage.responses < 3:
        storage.fired = 0  # so that the fault strikes again
    return evolve(response, sent=len(response.body) * storage.position // SIZE)


def _complete_file(storage: Storage, request: Request, _: Response) -> Response:
    return _correct_response(evolve(request, start=None), storage.data, expired_links=0, check_etag=True)


def _one_byte_later(_: Storage, request: Request, response: Response) -> Response:
    headers = _with_range(response, f"{(request.start or 0) + 1}-{SIZE - 1}/{SIZE}")
    return evolve(response, body=response.body[1:], headers=headers)


def _other_length(_: Storage, request: Request, response: Response) -> Response:
    return evolve(response, headers=_with_range(response, f"{request.start}-{SIZE - 1}/{SIZE + 1}"))


def _with_range(response: Response, text: str) -> dict[str, str]:
    return response.headers | {"Content-Range": f"bytes {text}"}


def _other_bytes(storage: Storage, _: Request, response: Response) -> Response:
    return evolve(response, body=storage.data[: len(response.body)])


def _replace_file(*, check_etag: bool, keep_etag: bool = False) -> Corrupt:
    def corrupt(storage: Storage, request: Request, _: Response) -> Response:
        storage.data = NEW if storage.data is OLD else OLD
        response = _correct_response(request, storage.data, expired_links=0, check_etag=check_etag)
        return evolve(
            response, headers=response.headers | ({"ETag": request.etag or ""} if keep_etag else {})
        )

    return corrupt


def _expire_link(storage: Storage, request: Request, _: Response) -> Response:
    storage.expired_links = request.link
    return Response(403)


def _unavailable(storage: Storage, _: Request, __: Response) -> Response:
    if not storage.always and storage.responses < 4:
        storage.fired = 0  # so that the fault strikes again
    return Response(503)


def _end_early(framing: Framing) -> Corrupt:
    """End the body early, with no length and no checksum: only chunks have an end that is then missing."""

    def corrupt(storage: Storage, _: Request, response: Response) -> Response:
        headers = {"ETag": response.headers["ETag"]}
        return evolve(response, sent=storage.position, headers=headers, framing=framing)

    return corrupt


def _flip_bit(storage: Storage, _: Request, response: Response) -> Response:
    body = bytearray(response.body)
    body[storage.position] ^= 1 << storage.position % 8
    return evolve(response, body=bytes(body))


def _encode(_: Storage, __: Request, response: Response) -> Response:
    headers = response.headers | {"Content-Encoding": "gzip"}
    return evolve(response, body=gzip.compress(response.body, 0), headers=headers)


_SIGN_IN_PAGE = Response(200, b"<html><body>Please sign in.</body></html>", {"Content-Type": "text/html"})
DISK_FULL = "the disk is full"

FAULTS: dict[str, Fault] = {
    "cut": Fault(_end_with("close")),
    "reset": Fault(_end_with("reset")),
    "cut three times": Fault(_cut_three_times),
    "a stall": Fault(_end_with("hang")),
    "a drip": Fault(_end_with("drip")),
    "cut, then all of it": Fault(_complete_file, on_resume=True),
    "cut, then a part one byte later": Fault(_one_byte_later, on_resume=True),
    "cut, then the bytes of another part": Fault(_other_bytes, on_resume=True),
    "cut, then a part of another length": Fault(_other_length, on_resume=True),
    "cut, then replaced": Fault(_replace_file(check_etag=True), on_resume=True),
    "cut, then replaced, If-Match ignored": Fault(_replace_file(check_etag=False), on_resume=True),
    "cut, then replaced, the ETag kept": Fault(
        _replace_file(check_etag=False, keep_etag=True), on_resume=True
    ),
    "cut, then the link has expired": Fault(_expire_link, on_resume=True),
    "cut, then three times 503": Fault(_unavailable, on_resume=True),
    "cut, then 416": Fault(lambda *_: Response(416), on_resume=True),
    "cut, then a gateway's page as 200": Fault(lambda *_: _SIGN_IN_PAGE, on_resume=True),
    "a gateway's page as 200": Fault(lambda *_: _SIGN_IN_PAGE),
    "no length, ended early": Fault(_end_early("none")),
    "chunks, ended early": Fault(_end_early("chunks")),
    "shorter than its checksum": Fault(
        lambda storage, _, response: evolve(response, body=response.body[: storage.position])
    ),
    "longer than its checksum": Fault(
        lambda storage, _, response: evolve(response, body=response.body + NEW[: storage.position + 1])
    ),
    "one bit flipped": Fault(_flip_bit),
    "an encoding": Fault(_encode),
    DISK_FULL: Fault(lambda _, __, response: response),
}


@asynccontextmanager
async def serving(storage: Storage) -> AsyncIterator[str]:
    """Serve the storage. Yield its origin."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.update(filter(None, [asyncio.current_task()]))
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            await _send(writer, _handle(storage, head, origin))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield origin
    finally:
        server.close()
        await asyncio.sleep(0.1)  # connections that were just accepted start their task
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _handle(storage: Storage, head: str, origin: str) -> Response:
    blob = re.match(r"GET /blob/(\d+)", head)
    if blob is None:
        return Response(200, json.dumps([storage.deliverable(origin)]).encode())
    start = re.search(r"\r\nRange: bytes=(\d+)-\r\n", head)
    condition = re.search(r"\r\nIf-Match: (.+)\r\n", head)
    return storage.respond(Request(start and int(start[1]), condition and condition[1], int(blob[1])))


async def _send(writer: asyncio.StreamWriter, response: Response) -> None:
    headers = {**response.headers, "Connection": "close"}
    if response.framing == "length":
        headers["Content-Length"] = str(len(response.body))
    elif response.framing == "chunks":
        headers["Transfer-Encoding"] = "chunked"
    lines = [f"HTTP/1.1 {response.status} X", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    body = response.body if response.sent is None else response.body[: response.sent]
    for piece in _pieces(body, response.framing):
        writer.write(piece)
        await writer.drain()
    if response.framing == "chunks" and response.sent is None:
        writer.write(b"0\r\n\r\n")
    await _end(writer, response.ending)


def _pieces(body: bytes, framing: Framing) -> Iterator[bytes]:
    if framing != "chunks":
        yield body
        return
    for start in range(0, len(body), 1 << 16):
        piece = body[start : start + (1 << 16)]
        yield b"%x\r\n%s\r\n" % (len(piece), piece)


async def _end(writer: asyncio.StreamWriter, ending: Ending) -> None:
    if ending == "hang":
        await asyncio.sleep(3600)
    while ending == "drip":
        await asyncio.sleep(10)
        writer.write(b"x")
        await writer.drain()
    if ending == "reset":
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()
