"""Throughput of `client.download`, compared with aiohttp writing to a file.

A server in another process sends files from memory as fast as it can. The client's side is one process. Each
round downloads the same files in every way, in changing order, over keep-alive connections to loopback:

- *client*: `client.download`, which verifies the file, makes it durable and renames it.
- *thread*: aiohttp in pieces of 1 MiB, each written (and hashed) in a thread.
- *loop*: aiohttp in pieces of any size, written (and hashed) on the event loop.

Each round gives a ratio of throughputs. With an MD5 the goal is the hash's own speed, measured in each round
too: one thread for each file, but not more than the machine has CPUs. CPU is that of the client's process, in
all threads. A block is the wall time of one pass of the event loop, in which nothing else can run; on a busy
machine it has also the time for which the process had to wait for a CPU, so its CPU time is shown beside it.

    python -m benchmarks.downloads
"""

import asyncio
import hashlib
import os
import selectors
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
from attrs import define, frozen

from benchmarks._bench import serving
from jarai_async import Deliverable, JaraiClient
from tests.support.figures import Figure, options, quantile, show

_MIB = 1 << 20
_MEMORY = Path("/dev/shm")  # noqa: S108  # where there is none, a temporary folder
_WAYS = ("client", "thread", "loop")
_Save = Callable[[str, Path], Awaitable[object]]


@frozen
class Load:
    """So many files of so many MiB at once."""

    files: int
    size: int

    @property
    def path(self) -> str:
        """The name of the file, which is the same for all."""
        return f"{self.size}.bin"

    def __str__(self) -> str:
        return f"{self.files} x {self.size} MiB"


LOADS = (Load(1, 200), Load(4, 50), Load(200, 1))


def serve(folder: Path, port: "Connection[int, None]") -> None:
    """Send the files in a folder, those under `/md5/` with their MD5, in a process of its own."""
    digests = {path.name: path.with_suffix(".md5").read_text() for path in folder.glob("*.bin")}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _, kind, name = self.path.split("/")
            with (folder / name).open("rb") as file:
                self.send_response(200)
                self.send_header("Content-Length", str(os.fstat(file.fileno()).st_size))
                if kind == "md5":
                    self.send_header("Content-MD5", digests[name])
                self.end_headers()
                self.connection.sendfile(file)

        def log_message(self, *_: Any) -> None:
            pass

    ThreadingHTTPServer.request_queue_size = 1000
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        port.send(server.server_address[1])
        server.serve_forever()


class _TimedSelector(selectors.DefaultSelector):
    """Measures how long the event loop takes from one look at its sockets to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.longest, self.longest_cpu = 0.0, 0.0  # seconds
        self._left, self._left_cpu = time.perf_counter(), time.thread_time()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.longest = max(self.longest, time.perf_counter() - self._left)
        self.longest_cpu = max(self.longest_cpu, time.thread_time() - self._left_cpu)
        ready = super().select(timeout)
        self._left, self._left_cpu = time.perf_counter(), time.thread_time()
        return ready


@frozen
class Cost:
    """What one round of one way cost: seconds, CPU seconds, and the longest block of the loop."""

    seconds: float
    cpu: float
    block: float
    block_cpu: float


@define
class Ways:
    """The ways to save a URL to a path. `hashing` is whether MD5 is to be computed."""

    session: aiohttp.ClientSession
    client: JaraiClient

    def save(self, way: str, *, hashing: bool) -> _Save:
        """Return the function that downloads one file in this way."""
        functions: dict[str, _Save] = {
            "client": self._client,
            "thread": partial(self._thread, hashing=hashing),
            "loop": partial(self._loop, hashing=hashing),
        }
        return functions[way]

    async def _client(self, url: str, path: Path) -> object:
        return await self.client.download(Deliverable("Video", url), path)

    async def _thread(self, url: str, path: Path, *, hashing: bool) -> None:
        digest = hashlib.md5(usedforsecurity=False)
        with path.open("wb") as file:

            def write(chunk: bytes) -> None:
                file.write(chunk)
                if hashing:
                    digest.update(chunk)

            async with self.session.get(url) as response:
                async for chunk in response.content.iter_chunked(_MIB):
                    await asyncio.to_thread(write, chunk)

    async def _loop(self, url: str, path: Path, *, hashing: bool) -> None:
        digest = hashlib.md5(usedforsecurity=False)
        with path.open("wb") as file:
            async with self.session.get(url) as response:
                async for chunk in response.content.iter_any():
                    file.write(chunk)
                    if hashing:
                        digest.update(chunk)


@asynccontextmanager
async def opened(origin: str) -> AsyncIterator[Ways]:
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        JaraiClient("jarai_test_x", base_url=f"{origin}/v1/partner") as client,
    ):
        yield Ways(session, client)


async def cost_of(save: _Save, url: str, load: Load, folder: Path, selector: _TimedSelector) -> Cost:
    """Download the files of a load at once, and remove them."""
    paths = [folder / f"{n}.out" for n in range(load.files)]
    await asyncio.sleep(0)
    selector.longest = selector.longest_cpu = 0.0
    start, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(save(url, path) for path in paths))
    cost = Cost(
        time.perf_counter() - start, time.process_time() - cpu, selector.longest, selector.longest_cpu
    )
    for path in paths:
        if path.stat().st_size != load.size * _MIB:
            raise AssertionError(path)
        path.unlink()
    return cost


def hash_seconds(load: Load) -> float:
    """Return how long MD5 takes for the bytes of a load, in memory and in pieces of 1 MiB."""
    piece = bytes(_MIB)

    def hash_file(_: int) -> None:
        digest = hashlib.md5(usedforsecurity=False)
        for _ in range(load.size):
            digest.update(piece)

    with ThreadPoolExecutor(min(load.files, os.cpu_count() or 1)) as threads:
        start = time.perf_counter()
        list(threads.map(hash_file, range(load.files)))
        return time.perf_counter() - start


def ratio(name: str, ours: Sequence[float], theirs: Sequence[float], goal: float | None = None) -> Figure:
    """Return the ratio of two throughputs: its median over the rounds, and its middle half."""
    ratios = [them / us for us, them in zip(ours, theirs, strict=True)]
    low, median, high = (quantile(ratios, share) for share in (0.25, 0.5, 0.75))
    value = f"{median:.2f} ({low:.2f} to {high:.2f})"
    return Figure(name, value) if goal is None else Figure(name, value, f">= {goal:.2f}", median >= goal)


def figures_of(load: Load, costs: dict[str, list[Cost]], hashed: list[float] | None) -> list[Figure]:
    """Return the figures of one load. `hashed` has the seconds of the hash alone, if it was computed."""
    seconds = {way: [cost.seconds for cost in costs[way]] for way in _WAYS}
    is_timed = load.files <= 4
    figures = [
        Figure(f"{load}, {'no checksum' if hashed is None else 'MD5'}", ""),
        *(
            ratio(
                f"  throughput over {way}",
                seconds["client"],
                seconds[way],
                0.9 if hashed is None and is_timed else None,
            )
            for way in ("thread", "loop")
        ),
    ]
    if hashed is not None:
        figures.append(ratio("  over the hash's own", seconds["client"], hashed, 0.9 if is_timed else None))
    total = load.files * load.size
    for way in _WAYS:
        speed = total / quantile(seconds[way], 0.5)
        cpu = quantile([cost.cpu for cost in costs[way]], 0.5) / total * 1e3
        figures.append(Figure(f"  {way}", f"{speed:.0f} MiB/s, {cpu:.2f} ms CPU a MiB"))
    for way in _WAYS:
        block, block_cpu = (
            quantile([getattr(cost, name) for cost in costs[way]], 0.5) * 1e3
            for name in ("block", "block_cpu")
        )
        value = f"{block:.1f} ms, {block_cpu:.1f} ms of it CPU"
        is_ours = way == "client"
        figures.append(
            Figure(
                f"  longest block, {way}",
                value,
                "<= 5.0 ms" if is_ours else "",
                block <= 5 if is_ours else None,
            )
        )
    return figures


async def measure(port: int, folder: Path, rounds: int, selector: _TimedSelector) -> list[Figure]:
    origin = f"http://127.0.0.1:{port}"
    figures: list[Figure] = []
    async with opened(origin) as ways:
        for load in LOADS:
            for kind in ("plain", "md5"):
                costs: dict[str, list[Cost]] = {way: [] for way in _WAYS}
                hashed: list[float] = []
                for n in range(rounds + 1):  # the first one opens the connections
                    for way in _WAYS[n % 3 :] + _WAYS[: n % 3]:
                        save = ways.save(way, hashing=kind == "md5")
                        costs[way].append(
                            await cost_of(save, f"{origin}/{kind}/{load.path}", load, folder, selector)
                        )
                    if kind == "md5":
                        hashed.append(hash_seconds(load))
                kept = {way: costs[way][1:] for way in _WAYS}
                figures += figures_of(load, kept, hashed[1:] if hashed else None)
    return figures


def make_files(folder: Path) -> None:
    for load in LOADS:
        data = os.urandom(load.size * _MIB)
        (folder / load.path).write_bytes(data)
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        (folder / load.path).with_suffix(".md5").write_text(digest)


def main() -> None:
    chosen = options(__doc__, rounds=12)
    folder = Path(tempfile.mkdtemp(dir=_MEMORY if _MEMORY.is_dir() else None))
    selector = _TimedSelector()
    try:
        make_files(folder)
        with (
            serving(partial(serve, folder)) as port,
            asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner,
        ):
            figures = runner.run(measure(port, folder, chosen.rounds, selector))
    finally:
        shutil.rmtree(folder)
    show(f"Downloads over aiohttp into a file: {chosen.rounds} rounds", figures, chosen.json)


if __name__ == "__main__":
    main()
