"""The Partner API in the shape of other APIs, so that their own clients can wait for its productions.

Each request becomes one request to the simulator, and its answer comes back with the same status and the same
`X-RateLimit-` headers, without delay. What JARAI says in the body of a 429 only, how long to wait, is a
`Retry-After` header as well, for that is where other clients look. An answer that was lost is lost here, too.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web
from attrs import define

from jarai_async.simulator import Simulator

Shape = Callable[[str, str], dict[str, Any]]  # from identifier and status to another API's answer


@define
class Adapter:
    """The Partner API in the shape of another: one request for each, the same status, the same limits."""

    simulator: Simulator
    session: aiohttp.ClientSession
    shape: Shape

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Pass a request on, and its answer back; where there is none, give none."""
        try:
            if request.method == "POST":
                answer = self.session.post(submit_url(self.simulator), json=submission(self.simulator))
            else:
                production_id = request.path.rpartition("/")[2]
                answer = self.session.get(f"{self.simulator.base_url}/productions/{production_id}")
            async with answer as response:
                return self._translated(request, response, await response.json())
        except aiohttp.ClientConnectionError:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()  # to nobody

    def _translated(
        self, request: web.BaseRequest, response: aiohttp.ClientResponse, body: dict[str, Any]
    ) -> web.Response:
        headers = {name: value for name, value in response.headers.items() if name.startswith("X-RateLimit-")}
        if body.get("retryAfterSeconds") is not None:
            headers["Retry-After"] = str(body["retryAfterSeconds"])
        if response.ok:
            headers["Operation-Location"] = str(request.url)
            body = self.shape(body["productionId"], body["status"])
        return web.json_response(body, status=response.status, headers=headers)


@asynccontextmanager
async def adapter(simulator: Simulator, shape: Shape) -> AsyncIterator[str]:
    """Serve the simulator's API in another shape; gives the URL."""
    async with session_of(simulator) as session:
        server = web.Server(Adapter(simulator, session, shape).handle, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
            yield "http://{}:{}".format(*runner.addresses[0][:2])
        finally:
            await runner.cleanup()


def session_of(simulator: Simulator, **settings: Any) -> aiohttp.ClientSession:
    """Open a bare session with the key, which as many may use at once as like."""
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(connector=connector, headers={"X-API-Key": simulator.api_key}, **settings)


def submit_url(simulator: Simulator) -> str:
    """Give where productions are submitted."""
    return f"{simulator.base_url}/accounts/{simulator.account_id}/productions"


def submission(simulator: Simulator) -> dict[str, str]:
    """Give a body that is accepted."""
    ids = {"languageId": simulator.language_id, "countryId": simulator.country_id}
    return {"topic": "How tides work", "avatarId": simulator.avatar_id, **ids}
