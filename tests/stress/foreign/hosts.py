"""An HTTP/1.1 server on asyncio's streams. It can be restarted, and closes connections when it likes."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from urllib.parse import urlsplit

_LINGER = struct.pack("ii", 1, 0)  # closing resets the connection


@dataclass
class Request:
    method: str
    target: str  # as it was sent
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    framing: str = "length"  # or "chunked", or "close": only the end of the connection ends the body
    cut: float | None = None  # the connection is reset after this share of the body
    delay: float = 0.0  # seconds


class ConnectionLostError(Exception):
    """The connection is reset instead of a reply."""


class Host:
    """A server on a free port of this machine, which keeps the port when it is restarted."""

    def __init__(self, handle: Callable[[Request], Awaitable[Reply]], random: Random, *, lower: bool) -> None:
        self.port = 0
        self._handle, self._random, self._lower = handle, random, lower
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._open):
            _reset(writer)

    async def restart(self, pause: float) -> None:
        await self.stop()
        await asyncio.sleep(pause)
        await self.start()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        replies_left = self._random.choice(
            [1, 2, 5, 20, 1000]
        )  # then the connection is closed without a word
        try:
            while replies_left > 0:
                request = await asyncio.wait_for(_read(reader), self._random.uniform(2, 20))
                reply = await self._handle(request)
                await asyncio.sleep(reply.delay)
                await self._write(writer, reply)
                replies_left = 0 if reply.framing == "close" else replies_left - 1
        except (ConnectionLostError, ConnectionError):
            _reset(writer)
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # cancelled: the test has ended
        finally:
            self._open.discard(writer)
            writer.close()

    async def _write(self, writer: asyncio.StreamWriter, reply: Reply) -> None:
        framing = {
            "length": {"Content-Length": str(len(reply.body))},
            "chunked": {"Transfer-Encoding": "chunked"},
            "close": {"Connection": "close"},
        }
        headers = (reply.headers | framing[reply.framing]).items()
        lines = [f"{name.lower() if self._lower else name}: {value}" for name, value in headers]
        writer.write("\r\n".join([f"HTTP/1.1 {reply.status} Status", *lines, "", ""]).encode("latin-1"))
        body = reply.body
        end = len(body) if reply.cut is None else int(len(body) * reply.cut)
        step = self._random.choice([700, 16_384, 65_536])
        for start in range(0, end, step):
            part = body[start : min(start + step, end)]
            writer.write(b"%x;ext=1\r\n%b\r\n" % (len(part), part) if reply.framing == "chunked" else part)
            await writer.drain()
        if reply.cut is not None:
            await asyncio.sleep(0.05)  # so that these bytes arrive before the reset
            raise ConnectionLostError
        if reply.framing == "chunked":
            writer.write(b"0\r\n\r\n")
        await writer.drain()


async def _read(reader: asyncio.StreamReader) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, target, _ = first.split(" ", 2)
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    return Request(method, target, headers, await reader.readexactly(int(headers.get("content-length", 0))))


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
    writer.transport.abort()
