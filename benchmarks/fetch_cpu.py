"""CPU time of `client.fetch`, over that of a plain aiohttp GET with `json.loads`.

Both read the same status from the same URL with the same request headers, over keep-alive connections to
loopback, in one process; the server is another, so that `time.process_time` (user and system, all threads)
counts the client's side alone. Rounds of both alternate, each pair gives a ratio, and the first is discarded.

In: all that one call costs the client: the turn in the budget, building the request, sending it, reading the
answer, the rate headers, JSON, a checked `Production`. Out: TLS, opening connections, and waiting.
The plain GET is what one would write by hand: a session with its defaults, `response.read()`, `json.loads`,
and neither a status nor a field is looked at. The budget never makes anybody wait: the server announces a
limit that no round reaches.
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
_HEADERS = {"X-API-Key": _KEY, "Accept": "application/json"}  # what the client sends, the rest is aiohttp's
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
_RATE = {
    "X-RateLimit-Limit": "999999",
    "X-RateLimit-Remaining": "999999",
    "X-RateLimit-Reset": "1767258060",
    "X-Correlation-Id": "4be5f0c2-7a58-4a5e-9d7c-53bb2b0b34f7",
}
_Call = Callable[[], Awaitable[object]]


def serve(port: "Connection[int, None]") -> None:
    """Answer every request with the same status; runs in a process of its own."""

    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(body=json.dumps(_STATUS).encode(), headers=_RATE, content_type="application/json")

    async def main() -> None:
        runner = web.ServerRunner(web.Server(answer, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(main())


async def cpu_of(call: _Call, calls: int, at_once: int) -> float:
    """CPU microseconds of one call, when so many are made at a time."""

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
    """Measure both in turn, the first one alternating."""
    costs: dict[_Call, list[float]] = {plain: [], fetch: []}
    for n in range(rounds + 1):
        for call in (plain, fetch) if n % 2 else (fetch, plain):
            costs[call].append(await cpu_of(call, calls, at_once))
    pairs = list(zip(costs[fetch], costs[plain], strict=True))[1:]
    ratios = [ours / theirs for ours, theirs in pairs]
    median, low, high = (quantile(ratios, share) for share in (0.5, 0.25, 0.75))
    ours, theirs = (quantile([pair[side] for pair in pairs], 0.5) for side in (0, 1))
    return [
        Figure(f"{at_once} at a time: ratio, median", f"{median:.2f}", "<= 1.30", median <= 1.3),
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
