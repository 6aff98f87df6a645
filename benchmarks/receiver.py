"""Deliver webhooks to the receiver at an even rate, in real time, while others hold connections open.

The receiver runs in a process of its own. Each delivery is planned for its moment and timed from there, over
50 connections that are kept. The hostile ones say nothing, or a byte of their headers or of their body a
second, or send forged events as fast as they are answered; what is ended is opened again. Lost is
what was answered with anything but 204, and what never reached `on_event`.
"""

import asyncio
import itertools
import json
import sys
import time
from multiprocessing.connection import Connection
from typing import Any
from uuid import UUID

from attrs import define, field

from benchmarks._bench import serving
from jarai_async.receiver import Receiver
from jarai_async.webhooks import sign
from tests.support.figures import Figure, options, quantile, show

_SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"  # noqa: S105  # of this benchmark
_KEPT = 50  # connections of JARAI
_FORGERS = 10  # of the hostile ones
_CONNECTING = 5.0  # seconds over which they connect: the same who are ended together would return together
_HEAD = b"POST / HTTP/1.1\r\nHost: receiver\r\nContent-Type: application/json\r\n"


def delivery(number: int) -> bytes:
    """One whole request, of a new event."""
    event = {
        "eventId": str(UUID(int=number)),
        "eventType": "production.step.complete",
        "productionId": str(UUID(int=number // 15 + 1)),
        "accountId": str(UUID(int=1)),
        "timestamp": "2026-01-01T09:00:00.000Z",
        "sequenceNumber": number % 15,
        "correlationId": str(UUID(int=number)),
        "truncated": False,
        "data": {"step": number % 15 + 1},
    }
    body = json.dumps(event).encode()
    (signature,) = sign(body, _SECRET).values()
    return _HEAD + f"Content-Length: {len(body)}\r\nX-JARAI-Signature: {signature}\r\n\r\n".encode() + body


def serve(pipe: "Connection[Any, None]") -> None:
    """Receive at one port, and at another tell how many events were handed on."""
    asyncio.run(_serve(pipe))


async def _serve(pipe: "Connection[Any, None]") -> None:
    handed_on: set[str] = set()

    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"{len(handed_on)} {time.process_time()}".encode())
        writer.close()

    async with (
        Receiver(_SECRET, lambda event: handed_on.add(event.event_id)) as receiver,
        receiver.serve() as url,
        await asyncio.start_server(tell, "127.0.0.1", 0) as teller,
    ):
        port = int(url.rstrip("/").rpartition(":")[2])
        pipe.send((port, teller.sockets[0].getsockname()[1]))
        await teller.serve_forever()


async def told(port: int) -> tuple[int, float]:
    """Ask how many events were handed on, and how many seconds of CPU time the receiver has used."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number, seconds = (await reader.read()).split()
    writer.close()
    return int(number), float(seconds)


@define
class Load:
    """What is sent, and what comes back; moments are seconds on the loop's clock."""

    port: int
    seconds: list[float] = field(factory=list)
    refused: int = 0
    forged: int = 0
    ended: int = 0

    async def deliver(self, requests: "asyncio.Queue[tuple[float, bytes]]") -> None:
        """Send what is due over one connection, each timed from when it was due."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        loop = asyncio.get_running_loop()
        while True:
            due, request = await requests.get()
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            self.seconds.append(loop.time() - due)
            self.refused += not answer.startswith(b"HTTP/1.1 204")

    async def annoy(self, request: bytes, begin: int, after: float) -> None:
        """Hold a connection open: send so much, and then a byte a second."""
        await asyncio.sleep(after)
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(request[:begin])
                for place in range(begin, len(request)):
                    await asyncio.sleep(1)
                    writer.write(request[place : place + 1])
                    await writer.drain()
                await asyncio.sleep(3_600)
            except OSError:
                self.ended += 1

    async def forge(self, request: bytes) -> None:
        """Send what JARAI did not sign, again and again."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while True:
            writer.write(request[:-1] + b" ")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 401")  # noqa: S101
            self.forged += 1
            await asyncio.sleep(0.1)


async def load(port: int, rate: int, seconds: int, hostile: int) -> Load:
    """Send so many deliveries a second."""
    found, loop = Load(port), asyncio.get_running_loop()
    requests: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
    ready = [delivery(number) for number in range(rate * seconds)]
    slow = itertools.cycle([0, 20, ready[0].index(b"\r\n\r\n") + 4])
    silent = max(0, hostile - _FORGERS)
    tasks = [found.annoy(ready[0], next(slow), _CONNECTING * n / silent) for n in range(silent)]
    tasks += [found.forge(ready[0]) for _ in range(min(hostile, _FORGERS))]
    tasks += [found.deliver(requests) for _ in range(_KEPT)]
    running = [asyncio.create_task(task) for task in tasks]
    await asyncio.sleep(_CONNECTING)
    begin = loop.time()
    for number, request in enumerate(ready):
        due = begin + number / rate
        if due > loop.time():
            await asyncio.sleep(due - loop.time())
        requests.put_nowait((due, request))
    for _ in range(100):
        if len(found.seconds) == len(ready):
            break
        await asyncio.sleep(0.1)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return found


def main() -> None:
    chosen = options(__doc__, rate=1_000, seconds=10, hostile=300)
    sent = chosen.rate * chosen.seconds
    with serving(serve) as (port, teller):
        _, before = asyncio.run(told(teller))
        found = asyncio.run(load(port, chosen.rate, chosen.seconds, chosen.hostile))
        handed_on, after = asyncio.run(told(teller))
    late = quantile(found.seconds, 0.99) * 1000
    lost = sent - min(len(found.seconds) - found.refused, handed_on)
    figures = [
        Figure("deliveries", f"{sent:,}"),
        Figure("lost", f"{lost:,}", "0", lost == 0),
        Figure("median", f"{quantile(found.seconds, 0.5) * 1000:.1f} ms"),
        Figure("99th percentile", f"{late:.1f} ms", "<= 50 ms", late <= 50),
        Figure("slowest", f"{max(found.seconds, default=0) * 1000:.1f} ms"),
        Figure("CPU time of each in the receiver", f"{(after - before) / sent * 1e6:.0f} us"),
        Figure("forged, all refused", f"{found.forged:,}"),
        Figure("slow connections ended", f"{found.ended:,}"),
    ]
    show(f"{chosen.rate:,} deliveries a second for {chosen.seconds} s", figures, chosen.json)
    sys.exit(bool(lost))


if __name__ == "__main__":
    main()
