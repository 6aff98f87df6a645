"""The Partner API in the form of other APIs, so that their clients can wait for its productions.

Each request becomes one request to the simulator. The response has the same status and the same
`X-RateLimit-` headers, and is not delayed. JARAI says only in the body of a 429 how long to wait; the adapter
copies that to a `Retry-After` header, where other clients read it. A lost response is lost here, too.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web
from attrs import define

from jarai_async.simulator import Simulator

Shape = Callable[[str, str], dict[str, Any]]  # from a production's identifier and status to a response body


@define
class Adapter:
    """Sends each request on to the simulator; `shape` makes the body of the response."""

    simulator: Simulator
    session: aiohttp.ClientSession
    shape: Shape

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Send a request on and return the response, or close the connection if there is none."""
        try:
            if request.method == "POST":
                call = self.session.post(submit_url(self.simulator), json=submission(self.simulator))
            else:
                production_id = request.path.rpartition("/")[2]
                call = self.session.get(f"{self.simulator.base_url}/productions/{production_id}")
            async with call as response:
                return self._translate(request, response, await response.json())
        except aiohttp.ClientConnectionError:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()  # which is not sent

    def _translate(
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
    """Serve the simulator's API in another form, and yield the URL."""
    async with open_session(simulator) as session:
        server = web.Server(Adapter(simulator, session, shape).handle, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
            yield "http://{}:{}".format(*runner.addresses[0][:2])
        finally:
            await runner.cleanup()


def open_session(simulator: Simulator, **settings: Any) -> aiohttp.ClientSession:
    """Open a plain session with the API key and without a limit of connections."""
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(connector=connector, headers={"X-API-Key": simulator.api_key}, **settings)


def submit_url(simulator: Simulator) -> str:
    """Return the URL of submits."""
    return f"{simulator.base_url}/accounts/{simulator.account_id}/productions"


def submission(simulator: Simulator) -> dict[str, str]:
    """Return a request body that the API accepts."""
    ids = {"languageId": simulator.language_id, "countryId": simulator.country_id}
    return {"topic": "How tides work", "avatarId": simulator.avatar_id, **ids}
