"""Productions that a poller watches, on a simulator."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from jarai_async import JaraiClient, Polling, Production
from jarai_async._api import endpoints
from jarai_async._api.codec import body_of
from jarai_async._http.request_log import RequestLog
from jarai_async._polling.watch import Watch
from jarai_async.simulator import Simulator
from tests.support.scenarios import request_for


async def submit(client: JaraiClient, simulator: Simulator, key: str, log: RequestLog) -> Production:
    """Submit a production, and record the request in `log`, as a watch needs it."""
    request = request_for(simulator)
    call = endpoints.submit(request.account_id, body_of(request), key)
    return await client.engine.sender.submit_with_retries(call, "a request", log)


@asynccontextmanager
async def watched(
    simulator: Simulator, min_interval: float = 5.0
) -> AsyncIterator[tuple[JaraiClient, Watch]]:
    """Open a client that has just submitted one production; yield it and a watch of that production."""
    async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
        log = RequestLog()
        production = await submit(client, simulator, "key", log)
        yield client, client.engine.poller.watch(production, Polling(min_interval=min_interval), log)
