"""Webhooks delivered to the receiver at an even rate, in real time, while hostile clients keep it busy.

The receiver runs in a process of its own. Each delivery has a planned time and is timed from there; there are
50 keep-alive connections. A hostile client sends nothing, or one byte of its headers or of its body a second,
or forged events as fast as they get a response. It connects again whenever its connection is closed. A
delivery is lost if its response is anything but 204, or if the event does not reach `on_event`.

    python -m benchmarks.receiver
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
_CONNECTIONS = 50  # of JARAI
_FORGERS = 10  # of the hostile clients
_CONNECTING = 5.0  # seconds over which the hostile clients connect, so that they do not reconnect all at once
_HEAD = b"POST / HTTP/1.1\r\nHost: receiver\r\nContent-Type: application/json\r\n"


def delivery(number: int) -> bytes:
    """Return one complete HTTP request with a new event."""
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
    """Run the receiver on one port, and on another a server that reports what has been received."""
    asyncio.run(_serve(pipe))


async def _serve(pipe: "Connection[Any, None]") -> None:
    received: set[str] = set()

    async def report(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"{len(received)} {time.process_time()}".encode())
        writer.close()

    async with (
        Receiver(_SECRET, lambda event: received.add(event.event_id)) as receiver,
        receiver.serve() as url,
        await asyncio.start_server(report, "127.0.0.1", 0) as reporter,
    ):
        port = int(url.rstrip("/").rpartition(":")[2])
        pipe.send((port, reporter.sockets[0].getsockname()[1]))
        await reporter.serve_forever()


async def read_report(port: int) -> tuple[int, float]:
    """Return how many events reached `on_event`, and the seconds of CPU time that the receiver has used."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number, seconds = (await reader.read()).split()
    writer.close()
    return int(number), float(seconds)


@define
class Load:
    """What was sent, and the results; times are seconds on the loop's clock."""

    port: int
    seconds: list[float] = field(factory=list)
    rejected: int = 0
    forged: int = 0
    closed: int = 0

    async def deliver(self, requests: "asyncio.Queue[tuple[float, bytes]]") -> None:
        """Send what is due over one connection, and time each delivery from when it was due."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        loop = asyncio.get_running_loop()
        while True:
            due, request = await requests.get()
            writer.write(request)
            response = await reader.readuntil(b"\r\n\r\n")
            self.seconds.append(loop.time() - due)
            self.rejected += not response.startswith(b"HTTP/1.1 204")

    async def send_slowly(self, request: bytes, begin: int, delay: float) -> None:
        """Hold a connection open: send the first `begin` bytes at once, and then one byte a second."""
        await asyncio.sleep(delay)
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(request[:begin])
                for position in range(begin, len(request)):
                    await asyncio.sleep(1)
                    writer.write(request[position : position + 1])
                    await writer.drain()
                await asyncio.sleep(3_600)
            except OSError:
                self.closed += 1

    async def forge(self, request: bytes) -> None:
        """Send a request with a wrong signature again and again."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while True:
            writer.write(request[:-1] + b" ")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 401")  # noqa: S101
            self.forged += 1
            await asyncio.sleep(0.1)


async def load(port: int, rate: int, seconds: int, hostile: int) -> Load:
    """Send this many deliveries a second, beside this many hostile clients."""
    result, loop = Load(port), asyncio.get_running_loop()
    requests: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
    deliveries = [delivery(number) for number in range(rate * seconds)]
    begins = itertools.cycle([0, 20, deliveries[0].index(b"\r\n\r\n") + 4])
    slow = max(0, hostile - _FORGERS)
    tasks = [result.send_slowly(deliveries[0], next(begins), _CONNECTING * n / slow) for n in range(slow)]
    tasks += [result.forge(deliveries[0]) for _ in range(min(hostile, _FORGERS))]
    tasks += [result.deliver(requests) for _ in range(_CONNECTIONS)]
    running = [asyncio.create_task(task) for task in tasks]
    await asyncio.sleep(_CONNECTING)
    begin = loop.time()
    for number, request in enumerate(deliveries):
        due = begin + number / rate
        if due > loop.time():
            await asyncio.sleep(due - loop.time())
        requests.put_nowait((due, request))
    for _ in range(100):
        if len(result.seconds) == len(deliveries):
            break
        await asyncio.sleep(0.1)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return result


def main() -> None:
    chosen = options(__doc__, rate=1_000, seconds=10, hostile=300)
    sent = chosen.rate * chosen.seconds
    with serving(serve) as (port, report_port):
        _, cpu_before = asyncio.run(read_report(report_port))
        result = asyncio.run(load(port, chosen.rate, chosen.seconds, chosen.hostile))
        received, cpu_after = asyncio.run(read_report(report_port))
    late = quantile(result.seconds, 0.99) * 1000
    lost = sent - min(len(result.seconds) - result.rejected, received)
    figures = [
        Figure("deliveries", f"{sent:,}"),
        Figure("lost", f"{lost:,}", "0", lost == 0),
        Figure("median", f"{quantile(result.seconds, 0.5) * 1000:.1f} ms"),
        Figure("99th percentile", f"{late:.1f} ms", "<= 50 ms", late <= 50),
        Figure("slowest", f"{max(result.seconds, default=0) * 1000:.1f} ms"),
        Figure("CPU time of each in the receiver", f"{(cpu_after - cpu_before) / sent * 1e6:.0f} us"),
        Figure("forged, all rejected", f"{result.forged:,}"),
        Figure("slow connections closed", f"{result.closed:,}"),
    ]
    show(f"{chosen.rate:,} deliveries a second for {chosen.seconds} s", figures, chosen.json)
    sys.exit(bool(lost))


if __name__ == "__main__":
    main()
