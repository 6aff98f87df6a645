"""CPU time of `client.fetch`, compared with a plain aiohttp GET and `json.loads`.

Both read the same status from the same URL with the same request headers, over keep-alive connections to
loopback, in one process. The server is another process, so `time.process_time` (user and system, all threads)
counts only the client side. The rounds of the two alternate, each pair of rounds gives a ratio, and the first
pair is discarded.

Included is everything that one call costs the client: waiting for its slot in the rate limit, building and
sending the request, reading the response, the rate limit headers, JSON, a validated `Production`. TLS,
opening connections and idle time are not included. The plain GET is what one would write by hand: a session
with its defaults, `response.read()` and `json.loads`; it checks neither the status nor any field. No call has
to wait for the rate limit, because the server announces one that no round reaches.

    python -m benchmarks.fetch
"""

import asyncio
import gc
import json
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection

import aiohttp
from aiohttp import web

from benchmarks._bench import serving
from jarai_async import JaraiClient
from tests.support.figures import Figure, options, quantile, show

_KEY = "jarai_test_benchmark"
_ID = "7f1b2c1e-58a6-4a43-9c3a-2f8f6f0d7a11"
_HEADERS = {"X-API-Key": _KEY, "Accept": "application/json"}  # what the client sends, besides aiohttp's own
_STATUS = {
    "productionId": _ID,
    "accountId": "0b8a3f0e-2d49-4d0c-8f52-6f2f1e3f8c55",
    "status": "Producing",
    "topic": "How tides work, in one minute",
    "projectTypeSlug": "explainer-video-3m",
    "currentStep": 7,
    "createdAt": "2026-01-01T09:00:00.000Z",
    "updatedAt": "2026-01-01T09:03:20.000Z",
    "expiresAt": "2026-01-01T09:10:00.000Z",
}
_RATE_LIMIT = {
    "X-RateLimit-Limit": "999999",
    "X-RateLimit-Remaining": "999999",
    "X-RateLimit-Reset": "1767258060",
    "X-Correlation-Id": "4be5f0c2-7a58-4a5e-9d7c-53bb2b0b34f7",
}
_Call = Callable[[], Awaitable[object]]


def serve(port: "Connection[int, None]") -> None:
    """Respond to every request with the same status, in a process of its own."""

    async def respond(_: web.BaseRequest) -> web.Response:
        body = json.dumps(_STATUS).encode()
        return web.Response(body=body, headers=_RATE_LIMIT, content_type="application/json")

    async def main() -> None:
        runner = web.ServerRunner(web.Server(respond, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(main())


async def cpu_of(call: _Call, calls: int, at_once: int) -> float:
    """Return the CPU microseconds of one call when this many are made at once."""

    async def one_after_the_other() -> None:
        for _ in range(calls // at_once):
            await call()

    gc.collect()
    start = time.process_time()
    if at_once == 1:
        await one_after_the_other()
    else:
        await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
    return (time.process_time() - start) / calls * 1e6


async def compare(plain: _Call, fetch: _Call, rounds: int, calls: int, at_once: int) -> list[Figure]:
    """Measure the two in pairs; the one that goes first alternates."""
    costs: dict[_Call, list[float]] = {plain: [], fetch: []}
    for n in range(rounds + 1):
        for call in (plain, fetch) if n % 2 else (fetch, plain):
            costs[call].append(await cpu_of(call, calls, at_once))
    pairs = list(zip(costs[fetch], costs[plain], strict=True))[1:]
    ratios = [ours / theirs for ours, theirs in pairs]
    median, low, high = (quantile(ratios, share) for share in (0.5, 0.25, 0.75))
    goal = 1.15 if at_once == 1 else 1.3
    ours, theirs = (quantile([pair[side] for pair in pairs], 0.5) for side in (0, 1))
    return [
        Figure(f"{at_once} at a time: ratio, median", f"{median:.2f}", f"<= {goal:.2f}", median <= goal),
        Figure("  its middle half", f"{low:.2f} to {high:.2f}"),
        Figure("  its extremes", f"{min(ratios):.2f} to {max(ratios):.2f}"),
        Figure("  client.fetch", f"{ours:.0f} us"),
        Figure("  plain GET and json.loads", f"{theirs:.0f} us"),
    ]


async def measure(port: int, rounds: int, calls: int) -> list[Figure]:
    base_url = f"http://127.0.0.1:{port}/v1/partner"
    url = f"{base_url}/productions/{_ID}"
    async with JaraiClient(_KEY, base_url=base_url) as client, aiohttp.ClientSession() as session:

        async def plain() -> object:
            async with session.get(url, headers=_HEADERS) as response:
                return json.loads(await response.read())

        async def fetch() -> object:
            return await client.fetch(_ID)

        figures = []
        for at_once in (1, 20):
            figures += await compare(plain, fetch, rounds, calls, at_once)
    return figures


def main() -> None:
    chosen = options(__doc__, rounds=40, calls=400)
    with serving(serve) as port:
        figures = asyncio.run(measure(port, chosen.rounds, chosen.calls))
    show(f"CPU of client.fetch over a plain GET: {chosen.rounds} rounds", figures, chosen.json)


if __name__ == "__main__":
    main()
