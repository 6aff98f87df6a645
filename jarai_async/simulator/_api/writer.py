"""Send a response to the client: complete, cut off, slowly, or not at all.

aiohttp cancels a handler when its client disconnects; that ends a request that was left hanging.
"""

import asyncio
import socket
import struct
from email.utils import formatdate

from aiohttp import web

from jarai_async.simulator._api.responses import Response

_PIECES = 10  # of a slow body
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, with no time to linger


class ResponseWriter:
    """Sends responses; `close` ends the requests that were left hanging."""

    def __init__(self) -> None:
        self._closing = asyncio.Event()
        self._date = (-1, "")

    def close(self) -> None:
        """End every request that was left hanging."""
        self._closing.set()

    def date(self, wall: float) -> str:
        """Return the Date header by the simulated clock; aiohttp would send the real date."""
        second = int(wall)
        if second != self._date[0]:
            self._date = (second, formatdate(second, usegmt=True))
        return self._date[1]

    async def send(
        self, request: web.BaseRequest, response: Response, headers: dict[str, str]
    ) -> web.StreamResponse:
        """Send a response in its `send_mode`."""
        headers["Content-Type"] = response.content_type
        if response.send_mode == "complete":
            return web.Response(status=response.status, body=response.body(), headers=headers)
        if response.send_mode == "slow":
            return await _send_slowly(request, response, headers)
        if response.send_mode in ("cut", "cut_chunks"):
            await _send_half(request, response, headers)
        elif response.send_mode == "reset":
            _reset(request)
        await self._closing.wait()  # or until aiohttp cancels this handler because the client disconnected
        _reset(request)
        return web.Response()  # never sent


async def _send_slowly(
    request: web.BaseRequest, response: Response, headers: dict[str, str]
) -> web.StreamResponse:
    body = response.body()
    stream = await _begin(request, response.status, headers, len(body))
    size = max(1, -(-len(body) // _PIECES))
    for start in range(0, len(body), size):
        await asyncio.sleep(response.seconds / _PIECES)
        await stream.write(body[start : start + size])
    await stream.write_eof()
    return stream


async def _send_half(request: web.BaseRequest, response: Response, headers: dict[str, str]) -> None:
    body = response.body()
    length = len(body) if response.send_mode == "cut" else None
    stream = await _begin(request, response.status, headers, length)
    await stream.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()


async def _begin(
    request: web.BaseRequest, status: int, headers: dict[str, str], length: int | None
) -> web.StreamResponse:
    stream = web.StreamResponse(status=status, headers=headers)
    stream.content_length = length
    await stream.prepare(request)
    return stream


def _reset(request: web.BaseRequest) -> None:
    transport = request.transport
    if transport is None:  # the client has disconnected
        return
    raw = transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
