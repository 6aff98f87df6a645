"""A blob storage of 24 faults, byte for byte on a socket: what `downloads.py` has files fetched from.

It is the API, too, as far as a client needs one that fetches a file: it lists the one deliverable, each time
under a fresh link. Storage itself is as Azure's: strong ETag, ranges, `If-Match`, MD5 of the whole. Each
fault spoils one answer, or every one that it fits, at a given byte of the file.
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

SIZE = (1 << 20) + 300_001  # bytes: more than the client writes at a time
PRODUCTION = "11111111-1111-4111-8111-111111111111"
OLD, NEW = (random.Random(name).randbytes(SIZE) for name in ("old", "new"))
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, with no time to linger
_PAGE = b"<html><body>Please sign in to the network.</body></html>"
Framing = Literal["length", "chunks", "none"]
Ending = Literal["close", "reset", "hang", "drip"]


@frozen
class Asked:
    """A request for the file: where it begins, and on which condition."""

    start: int | None
    etag: str | None
    link: int


@frozen
class Reply:
    """An answer; `sent` is how much of the body comes before it ends as `ending` says, None for all."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(factory=dict)
    framing: Framing = "length"
    sent: int | None = None
    ending: Ending = "close"


Spoil = Callable[["Storage", Asked, Reply], Reply]


@define
class Storage:
    """One file under one fault; `fired` counts the answers that were spoilt."""

    fault: "Fault"
    cut: int
    always: bool
    tells: bool  # whether the list gives the size and the checksum
    data: bytes = OLD
    replaced: bool = False
    expired: int = 0  # links up to this one are refused
    links: int = 0
    answered: int = 0
    fired: int = 0

    def deliverable(self, origin: str) -> dict[str, object]:
        self.links += 1
        facts = {"sizeBytes": SIZE, "contentMd5": _md5(self.data)} if self.tells else {}
        link = f"{origin}/blob/{self.links}?sig=secret"
        return {"deliverableId": "1", "type": "Video", "fileName": "video.mp4", "sasUrl": link, **facts}

    def answer(self, asked: Asked) -> Reply:
        self.answered += 1
        reply = honest(asked, self.data, expired=self.expired, conditions=True)
        if self.fault.cut_first and asked.start is None and (self.always or self.answered == 1):
            return _cut(self, asked, reply)
        if (self.fault.cut_first and asked.start is None) or (self.fired and not self.always):
            return reply
        self.fired += 1
        return self.fault.apply(self, asked, reply)


@frozen
class Fault:
    """What becomes of an answer; with `cut_first`, of the one that goes on with what was cut off."""

    apply: Spoil
    cut_first: bool = False


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _etag(data: bytes) -> str:
    return f'"0x{data[:8].hex().upper()}"'


def honest(asked: Asked, data: bytes, *, expired: int, conditions: bool) -> Reply:
    if asked.link <= expired:
        return Reply(403)
    if conditions and asked.etag not in (None, _etag(data)):
        return Reply(412)
    headers = {"ETag": _etag(data), "x-ms-blob-content-md5": _md5(data)}
    if asked.start is None:
        return Reply(200, data, headers)
    headers["Content-Range"] = f"bytes {asked.start}-{SIZE - 1}/{SIZE}"
    return Reply(206, data[asked.start :], headers)


def _cut(storage: Storage, asked: Asked, reply: Reply) -> Reply:
    return evolve(reply, sent=max(0, storage.cut - (asked.start or 0)))


def _ends(ending: Ending) -> Spoil:
    return lambda storage, asked, reply: evolve(_cut(storage, asked, reply), ending=ending)


def _thrice(storage: Storage, _: Asked, reply: Reply) -> Reply:
    """Cut what is missing at the same share of it, again and again."""
    if not storage.always and storage.answered < 3:
        storage.fired = 0  # once more
    return evolve(reply, sent=len(reply.body) * storage.cut // SIZE)


def _whole(storage: Storage, asked: Asked, _: Reply) -> Reply:
    return honest(evolve(asked, start=None), storage.data, expired=0, conditions=True)


def _later(_: Storage, asked: Asked, reply: Reply) -> Reply:
    headers = _range(reply, f"{(asked.start or 0) + 1}-{SIZE - 1}/{SIZE}")
    return evolve(reply, body=reply.body[1:], headers=headers)


def _other_total(_: Storage, asked: Asked, reply: Reply) -> Reply:
    return evolve(reply, headers=_range(reply, f"{asked.start}-{SIZE - 1}/{SIZE + 1}"))


def _range(reply: Reply, text: str) -> dict[str, str]:
    return reply.headers | {"Content-Range": f"bytes {text}"}


def _other_bytes(storage: Storage, _: Asked, reply: Reply) -> Reply:
    return evolve(reply, body=storage.data[: len(reply.body)])


def _replaced(*, conditions: bool, etag: str | None = None) -> Spoil:
    def apply(storage: Storage, asked: Asked, _: Reply) -> Reply:
        storage.data = NEW if storage.data is OLD else OLD
        reply = honest(asked, storage.data, expired=0, conditions=conditions)
        return evolve(reply, headers=reply.headers | ({"ETag": asked.etag or ""} if etag else {}))

    return apply


def _expired(storage: Storage, asked: Asked, _: Reply) -> Reply:
    storage.expired = asked.link
    return Reply(403)


def _busy(storage: Storage, _: Asked, __: Reply) -> Reply:
    if not storage.always and storage.answered < 4:
        storage.fired = 0  # twice more
    return Reply(503)


def _ended_early(framing: Framing) -> Spoil:
    """End a body as if that were all of it, with nothing to tell it by."""

    def apply(storage: Storage, _: Asked, reply: Reply) -> Reply:
        headers = {"ETag": reply.headers["ETag"]}
        return evolve(reply, body=reply.body[: storage.cut], headers=headers, framing=framing)

    return apply


def _shorter(storage: Storage, _: Asked, reply: Reply) -> Reply:
    return evolve(reply, body=reply.body[: storage.cut])


def _flipped(storage: Storage, _: Asked, reply: Reply) -> Reply:
    body = bytearray(reply.body)
    body[storage.cut] ^= 1 << storage.cut % 8
    return evolve(reply, body=bytes(body))


def _encoded(_: Storage, __: Asked, reply: Reply) -> Reply:
    headers = reply.headers | {"Content-Encoding": "gzip"}
    return evolve(reply, body=gzip.compress(reply.body, 0), headers=headers)


_SIGN_IN = Reply(200, _PAGE, {"Content-Type": "text/html"})
DISK_FULL = "the disk is full"

FAULTS: dict[str, Fault] = {
    "cut": Fault(_ends("close")),
    "reset": Fault(_ends("reset")),
    "cut three times": Fault(_thrice),
    "a stall": Fault(_ends("hang")),
    "a drip": Fault(_ends("drip")),
    "cut, then all of it": Fault(_whole, cut_first=True),
    "cut, then a part one byte later": Fault(_later, cut_first=True),
    "cut, then the bytes of another part": Fault(_other_bytes, cut_first=True),
    "cut, then a part of another length": Fault(_other_total, cut_first=True),
    "cut, then replaced": Fault(_replaced(conditions=True), cut_first=True),
    "cut, then replaced, If-Match ignored": Fault(_replaced(conditions=False), cut_first=True),
    "cut, then replaced, the ETag kept": Fault(_replaced(conditions=False, etag="kept"), cut_first=True),
    "cut, then the link has expired": Fault(_expired, cut_first=True),
    "cut, then three times 503": Fault(_busy, cut_first=True),
    "cut, then 416": Fault(lambda *_: Reply(416), cut_first=True),
    "cut, then a gateway's page as 200": Fault(lambda *_: _SIGN_IN, cut_first=True),
    "a gateway's page as 200": Fault(lambda *_: _SIGN_IN),
    "no length, ended early": Fault(_ended_early("none")),
    "chunks, ended early": Fault(_ended_early("chunks")),
    "shorter than its checksum": Fault(_shorter),
    "longer than its checksum": Fault(
        lambda storage, _, reply: evolve(reply, body=reply.body + NEW[: storage.cut + 1])
    ),
    "one bit flipped": Fault(_flipped),
    "an encoding": Fault(_encoded),
    DISK_FULL: Fault(lambda _, __, reply: reply),
}


@asynccontextmanager
async def serving(storage: Storage) -> AsyncIterator[str]:
    """Serve it; gives its origin."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.update(filter(None, [asyncio.current_task()]))
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            await _respond(writer, _reply(storage, head, origin))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield origin
    finally:
        server.close()
        await asyncio.sleep(0.1)  # who was just let in is answered, or at least begun with
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _reply(storage: Storage, head: str, origin: str) -> Reply:
    blob = re.match(r"GET /blob/(\d+)", head)
    if blob is None:
        return Reply(200, json.dumps([storage.deliverable(origin)]).encode())
    start = re.search(r"\r\nRange: bytes=(\d+)-\r\n", head)
    condition = re.search(r"\r\nIf-Match: (.+)\r\n", head)
    etag = condition[1] if condition else None
    return storage.answer(Asked(int(start[1]) if start else None, etag, int(blob[1])))


async def _respond(writer: asyncio.StreamWriter, reply: Reply) -> None:
    headers = {**reply.headers, "Connection": "close"}
    if reply.framing == "length":
        headers["Content-Length"] = str(len(reply.body))
    elif reply.framing == "chunks":
        headers["Transfer-Encoding"] = "chunked"
    lines = [f"HTTP/1.1 {reply.status} So", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    writer.write("\r\n".join(lines).encode())
    body = reply.body if reply.sent is None else reply.body[: reply.sent]
    for piece in _pieces(body, reply.framing):
        writer.write(piece)
        await writer.drain()
    await _end(writer, reply.ending)


def _pieces(body: bytes, framing: Framing) -> Iterator[bytes]:
    if framing != "chunks":
        yield body
        return
    for start in range(0, len(body), 1 << 16):
        piece = body[start : start + (1 << 16)]
        yield b"%x\r\n%s\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


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
