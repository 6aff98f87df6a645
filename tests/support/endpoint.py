"""A plain HTTP endpoint for webhooks that records every request."""

import asyncio
import hmac
import json
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from attrs import define, field, frozen


@frozen
class Arrival:
    """One request; `at` is when it arrived, on the loop's clock."""

    at: float
    headers: Any
    body: bytes

    @property
    def event(self) -> Any:
        return json.loads(self.body)

    @property
    def name(self) -> tuple[str, int]:
        """The type and sequence number of the event."""
        return self.event["eventType"], self.event["sequenceNumber"]

    def is_signed(self, secret: str) -> bool:
        key = urlsafe_b64decode(secret + "=" * (-len(secret) % 4))
        signature = "sha256=" + hmac.new(key, self.body, "sha256").hexdigest()
        return bool(self.headers.getall("X-JARAI-Signature") == [signature])


@define
class Endpoint:
    """The endpoint; `status_for` returns the status for the first request, the second, and so on."""

    url: str
    status_for: Callable[[int], int]
    arrivals: list[Arrival] = field(factory=list)

    async def handle(self, request: web.BaseRequest) -> web.Response:
        at, body = asyncio.get_running_loop().time(), await request.read()
        self.arrivals.append(Arrival(at, request.headers, body))
        status = self.status_for(len(self.arrivals))
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status // 100 == 3 else None)

    @property
    def names(self) -> list[tuple[str, int]]:
        return [arrival.name for arrival in self.arrivals]


@asynccontextmanager
async def open_endpoint(status_for: Callable[[int], int] = lambda _: 204) -> AsyncIterator[Endpoint]:
    endpoint = Endpoint("", status_for)
    runner = web.ServerRunner(web.Server(endpoint.handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    endpoint.url = f"http://{host}:{port}/hook"
    try:
        yield endpoint
    finally:
        await runner.cleanup()
