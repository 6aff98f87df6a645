"""Download from servers that this project did not write, and kill each in the middle of its work.

- `azurite`: Azure's blob storage, with SAS links that expire during the run.
- `moto`: S3, with presigned links.
- `nginx`: plain files without ETags.

A client downloads files of 0 bytes to 200 MiB through signed links from the list of deliverables. The server
is killed and started again until it was interrupted as often as asked for. Each file must be complete in the
end, whatever was interrupted.

- `proxy`: nginx in front of the simulator, killed while an orchestrator submits and polls productions. No
  production may be lost or doubled.
- `proxy-without-keys`: the same without idempotency keys. A submit whose response is lost ends as uncertain.

Everything runs in real time. A server that is not installed is named, and the exit code is 2.
"""

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from aiohttp import web
from attrs import define, field

from jarai_async import DownloadError, Finished, JaraiClient, Orchestrator, OutcomeState, Polling, RateLimit
from jarai_async._downloads.download import Progress
from jarai_async.simulator import Simulator
from tests.stress.real_servers import Azurite, Moto, Nginx, NginxProxy, NotInstalledError, RealServer
from tests.support.figures import Figure, show
from tests.support.scenarios import request_for

PRODUCTION = "11111111-1111-4111-8111-111111111111"
SIZES = (0, 1, 65_536, 1 << 20, 20 << 20, 200 << 20)  # bytes
LINKS_VALID = 75.0  # seconds; the list is read again at most once a minute
_SERVERS: dict[str, type[RealServer]] = {"azurite": Azurite, "moto": Moto, "nginx": Nginx}
_RATE_LIMIT = RateLimit(per_minute=10**6, per_day=10**9)
_ATTEMPTS = 3  # calls of `download`: each gives up after half a minute without progress
_PROXIED = 150  # productions


@define
class Downloads:
    """Downloads of the same files, again and again. `waiting` is set once `goal` bytes have arrived."""

    files: dict[str, bytes]
    received: int = 0
    goal: int = 0
    waiting: asyncio.Event = field(factory=asyncio.Event)
    result: Counter[str] = field(factory=Counter)

    def counter(self) -> Progress:
        """Return a function that counts the bytes of one download."""
        before = 0

        def count(received: int, _: int | None) -> None:
            nonlocal before
            self.received += max(0, received - before)  # after a restart it begins again
            before = received
            if self.received >= self.goal:
                self.waiting.set()

        return count

    async def all_files(self, client: JaraiClient, folder: Path) -> None:
        """Download every file once, and compare it with what the server has."""
        listed = await client.deliverables(PRODUCTION)

        async def one(n: int) -> None:
            name = listed[n].file_name or ""
            path = None
            for _ in range(_ATTEMPTS):
                try:
                    path = await client.download(listed[n], folder / name, progress=self.counter())
                    break
                except DownloadError as error:
                    self.result["given up, downloaded again"] += 1
                    print(f"  {name}: {error}")
            if path is None:
                self.result["error"] += 1
                return
            self.result["whole" if path.read_bytes() == self.files[name] else "corrupt"] += 1
            path.unlink()

        await asyncio.gather(*map(one, range(len(listed))))
        self.result["left"] += len(list(folder.iterdir()))


@asynccontextmanager
async def api(server: RealServer, names: Sequence[str], valid: float) -> AsyncIterator[tuple[str, list[str]]]:
    """Serve the list of deliverables, each time with fresh links. Yield the base URL and the requests."""
    requests: list[str] = []

    async def deliverables(request: web.Request) -> web.Response:
        requests.append(request.path)
        listed = [
            {"type": "Video", "fileName": name, "sasUrl": await asyncio.to_thread(server.link, name, valid)}
            for name in names
        ]
        return web.json_response({"deliverables": listed})

    application = web.Application()
    application.router.add_get("/v1/partner/productions/{id}/deliverables", deliverables)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1/partner", requests
    finally:
        await runner.cleanup()


async def interrupt_downloads(
    server: RealServer, folder: Path, sizes: tuple[int, ...], interruptions: int, valid: float
) -> Counter[str]:
    """Download all files until the server was killed so often. Return the results, counted."""
    random = Random(interruptions)
    downloads = Downloads({f"file {size}.bin": random.randbytes(size) for size in sizes})
    try:
        await server.start()
        await server.store(downloads.files)
        async with (
            api(server, list(downloads.files), valid) as (base_url, requests),
            JaraiClient("jarai_test_x", base_url=base_url, rate_limit=_RATE_LIMIT) as client,
        ):
            while downloads.result["interruptions"] < interruptions or not downloads.result["rounds"]:
                round_ = asyncio.create_task(downloads.all_files(client, folder))
                while not round_.done() and downloads.result["interruptions"] < interruptions:
                    await _interrupt(server, downloads, round_, random)
                await round_
                downloads.result["rounds"] += 1
            downloads.result["lists"] = len(requests)
    finally:
        await server.stop()
    return downloads.result


async def _interrupt(
    server: RealServer, downloads: Downloads, round_: "asyncio.Task[None]", random: Random
) -> None:
    """Kill the server once a random number of bytes has arrived, and start it again."""
    in_all = sum(map(len, downloads.files.values()))
    downloads.goal = downloads.received + random.randint(1, 1 + 2 * in_all)
    downloads.waiting.clear()
    waiting = asyncio.create_task(downloads.waiting.wait())
    await asyncio.wait({waiting, round_}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not round_.done():
        await server.stop()
        downloads.result["interruptions"] += 1
        await server.start()


async def interrupt_proxy(folder: Path, interruptions: int, *, keys: bool) -> Counter[str]:
    """Run a batch through a proxy that is killed so often. Return the results, counted."""
    result: Counter[str] = Counter()
    stages = [("Queued", 1.0), ("Producing", 2.0), ("Distributing", 1.0)]
    async with Simulator(
        durations=lambda _, __: stages, failure_rate=0, approval="auto", idempotency_keys=keys
    ) as simulator:
        proxy = NginxProxy(folder, simulator.base_url.removesuffix("/v1/partner"))
        await proxy.start()  # if this raises, no process is left
        client = JaraiClient(simulator.api_key, base_url=f"{proxy.origin}/v1/partner", idempotency_keys=keys)
        batch = asyncio.create_task(_run_batch(simulator, client, folder, result))
        random = Random(interruptions)
        try:
            while not batch.done() and result["interruptions"] < interruptions:
                await asyncio.wait({batch}, timeout=random.uniform(0.2, 3.0))
                await proxy.stop()
                await proxy.start()
                result["interruptions"] += 1
            await batch
        finally:
            batch.cancel()
            await proxy.stop()
        topics = Counter(str(production.body["topic"]) for production in simulator.productions.values())
        result["doubled"] = sum(count - 1 for count in topics.values())
        result["lost"] = (
            _PROXIED - result[OutcomeState.PUBLISHED] - (not keys) * result[OutcomeState.UNCERTAIN]
        )
    return result


async def _run_batch(simulator: Simulator, client: JaraiClient, folder: Path, result: Counter[str]) -> None:
    requests = [request_for(simulator, topic=f"Topic {n}", reference=f"item-{n}") for n in range(_PROXIED)]
    async with (
        client,
        Orchestrator(
            client,
            journal=folder / "journal.db",
            download_to=folder / "out",
            polling=Polling(min_interval=1.0),
        ) as orchestrator,
    ):
        async for event in orchestrator.run(requests):
            if isinstance(event, Finished):
                result[event.outcome.state] += 1
                result["published, not ok"] += (
                    event.outcome.state is OutcomeState.PUBLISHED and not event.outcome.ok
                )


def main(arguments: list[str]) -> int:
    """Print the results. Return 1 if a goal was missed, 2 if the server is not installed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.stress servers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("server", choices=[*_SERVERS, "proxy", "proxy-without-keys"])
    parser.add_argument("--interruptions", type=int, default=50, help="(%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file as well")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        try:
            result = asyncio.run(_result(options.server, Path(name), options.interruptions))
        except NotInstalledError as error:
            print(error)
            return 2
    goals = (
        ("lost", "doubled", "published, not ok")
        if options.server.startswith("proxy")
        else ("corrupt", "left", "error")
    )
    figures = [Figure(key, f"{value:,}") for key, value in sorted(result.items()) if key not in goals]
    figures += [Figure(key, str(result[key]), "0", result[key] == 0) for key in goals]
    figures.append(Figure("seconds", f"{time.monotonic() - started:.0f}"))
    show(f"{options.server}, interrupted {result['interruptions']} times", figures, options.json)
    return int(any(figure.met is False for figure in figures))


async def _result(name: str, folder: Path, interruptions: int) -> Counter[str]:
    if name.startswith("proxy"):
        return await interrupt_proxy(folder, interruptions, keys=name == "proxy")
    (folder / "server").mkdir()
    (folder / "out").mkdir()
    server = _SERVERS[name](folder / "server")
    sizes = SIZES[:-1] if name == "moto" else SIZES  # moto keeps them in memory: each start stores them
    return await interrupt_downloads(server, folder / "out", sizes, interruptions, LINKS_VALID)
