"""Webhooks for programs that crash: a server that stays up and passes deliveries to the running program.

It responds as a reverse proxy would: 503 while no program is running, and 504 if the program crashes before
it has handled the delivery.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from attrs import define, field

from jarai_async.receiver import Receiver
from jarai_async.simulator import Simulator

_EVENT_TYPES = (
    *("production.queued", "production.step.complete", "deliverable.ready"),
    *("production.published", "production.failed"),
)
_SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"  # noqa: S105  # of these tests only
_TIMEOUT = 5.0  # seconds

_Delivery = tuple[bytes, Any, asyncio.Future[int]]  # body, headers, and the status of the response


@define(eq=False)
class WebhookProxy:
    """The endpoint that the simulator delivers to. The running program, if there is one, reads `queue`."""

    queue: "asyncio.Queue[_Delivery] | None" = field(default=None, init=False)

    @asynccontextmanager
    async def receiver(self) -> AsyncIterator[Receiver]:
        """Pass deliveries to a new receiver, in the process of the caller."""
        async with Receiver(_SECRET) as receiver:
            queue: asyncio.Queue[_Delivery] = asyncio.Queue()
            self.queue = queue
            task = asyncio.create_task(_receive(queue, receiver))
            try:
                yield receiver
            finally:
                self.queue = None
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Pass on one delivery."""
        status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self.queue is None:
            return web.Response(status=503)
        self.queue.put_nowait((await request.read(), request.headers, status))
        try:
            return web.Response(status=await asyncio.wait_for(status, _TIMEOUT))
        except TimeoutError:
            return web.Response(status=504)

    @asynccontextmanager
    async def serve(self, simulator: Simulator) -> AsyncIterator[None]:
        """Start the server and subscribe it, without a request that would count against the rate limit."""
        runner = web.ServerRunner(web.Server(self.handle, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        simulator.add_webhook(f"http://{host}:{port}/", _EVENT_TYPES, signing_secret=_SECRET)
        try:
            yield
        finally:
            await runner.cleanup()


async def _receive(queue: asyncio.Queue[_Delivery], receiver: Receiver) -> None:
    while True:
        body, headers, response_status = await queue.get()
        status = await receiver.receive(body, headers)
        if not response_status.done():
            response_status.set_result(status)
