"""Bring an answer to the client, in one of the ways in which a network does, or does not.

Handlers are cancelled by aiohttp when their client has left: that is how a hanging one ends.
"""

import asyncio
import socket
import struct
from email.utils import formatdate

from aiohttp import web

from jarai_async.simulator._api.responses import Response

_PIECES = 10  # of a slow body
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, with no time to linger


class Wire:
    """The way from an answer to a socket; `close` lets go of the clients that were left hanging."""

    def __init__(self) -> None:
        self._closing = asyncio.Event()
        self._date = (-1, "")

    def close(self) -> None:
        """End every hanging answer."""
        self._closing.set()

    def date(self, wall: float) -> str:
        """The Date header, from the simulated clock; aiohttp would send the real one."""
        second = int(wall)
        if second != self._date[0]:
            self._date = (second, formatdate(second, usegmt=True))
        return self._date[1]

    async def send(
        self, request: web.BaseRequest, answer: Response, headers: dict[str, str]
    ) -> web.StreamResponse:
        """Send, or fail to in the way that the answer asks for."""
        headers["Content-Type"] = answer.content_type
        if answer.delivery == "whole":
            return web.Response(status=answer.status, body=answer.body(), headers=headers)
        if answer.delivery == "slow":
            return await self._trickle(request, answer, headers)
        if answer.delivery == "cut":
            await self._cut(request, answer, headers)
        elif answer.delivery == "reset":
            _reset(request)
        await self._closing.wait()  # ends as well, by cancellation, when the client leaves
        _reset(request)
        return web.Response()  # to nobody

    async def _trickle(
        self, request: web.BaseRequest, answer: Response, headers: dict[str, str]
    ) -> web.StreamResponse:
        body = answer.body()
        response = await _begin(request, answer.status, headers, len(body))
        size = max(1, -(-len(body) // _PIECES))
        for start in range(0, len(body), size):
            await asyncio.sleep(answer.seconds / _PIECES)
            await response.write(body[start : start + size])
        await response.write_eof()
        return response

    async def _cut(self, request: web.BaseRequest, answer: Response, headers: dict[str, str]) -> None:
        body = answer.body()
        response = await _begin(request, answer.status, headers, len(body))
        await response.write(body[: len(body) // 2])
        if request.transport is not None:
            request.transport.close()


async def _begin(
    request: web.BaseRequest, status: int, headers: dict[str, str], length: int
) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = length
    await response.prepare(request)
    return response


def _reset(request: web.BaseRequest) -> None:
    transport = request.transport
    if transport is None:  # the client was faster
        return
    raw = transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
