"""Webhooks for programs that die: a server that lives on, and hands what comes to whoever is alive.

As behind a proxy: while nobody is there the answer is 503, and 504 where the program dies before it has
given one.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from attrs import define, field

from jarai_async.receiver import Receiver
from jarai_async.simulator import SimulatedWebhook, Simulator

_TYPES = (
    *("production.queued", "production.step.complete", "deliverable.ready"),
    *("production.published", "production.failed"),
)
_SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"  # noqa: S105  # of these worlds
_ANSWER_SECONDS = 5.0

_Letter = tuple[bytes, Any, asyncio.Future[int]]


@define(eq=False)
class Mailbox:
    """Where the simulator delivers; `alive` is the box of the program that lives now."""

    alive: "asyncio.Queue[_Letter] | None" = field(default=None, init=False)

    @asynccontextmanager
    async def emptied(self) -> AsyncIterator[Receiver]:
        """Let a receiver have what comes, in the life of whoever calls this."""
        async with Receiver(_SECRET) as receiver:
            box: asyncio.Queue[_Letter] = asyncio.Queue()
            self.alive = box
            empties = asyncio.create_task(self._empty(box, receiver))
            try:
                yield receiver
            finally:
                self.alive = None
                empties.cancel()
                await asyncio.gather(empties, return_exceptions=True)

    async def _empty(self, box: asyncio.Queue[_Letter], receiver: Receiver) -> None:
        while True:
            body, headers, answer = await box.get()
            status = await receiver.receive(body, headers)
            if not answer.done():
                answer.set_result(status)

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Take a letter."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self.alive is None:
            return web.Response(status=503)
        self.alive.put_nowait((await request.read(), request.headers, answer))
        try:
            return web.Response(status=await asyncio.wait_for(answer, _ANSWER_SECONDS))
        except TimeoutError:
            return web.Response(status=504)

    @asynccontextmanager
    async def subscribed(self, simulator: Simulator) -> AsyncIterator[None]:
        """Have a simulator deliver here, without a request that would count."""
        runner = web.ServerRunner(web.Server(self.handle, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        nobody = "00000000-0000-0000-0000-000000000001"
        url = f"http://{host}:{port}/"
        simulator._emitter.add(SimulatedWebhook(nobody, 1, url, _TYPES, (), None, _SECRET, 0.0))
        try:
            yield
        finally:
            await runner.cleanup()
