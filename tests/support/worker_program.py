"""The processes of a program with several workers; each ends with the process that has started it.

The first line of standard input has the settings, the end of it ends the process. SIGTERM lets it leave its
blocks, as a deployment does.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from random import Random
from typing import Any, Literal

from attrs import asdict, field, frozen

from jarai_async import Event, JaraiClient, JournalError, Orchestrator, ProductionRequest
from jarai_async.receiver import Receiver
from jarai_async.simulator import run
from jarai_async.workers import Queue, Worker

_RECONNECT_AFTER = (5.0, 60.0)  # seconds


@frozen
class Settings:
    """What one process does, with the clock that all of them share.

    - "worker" takes requests from the queue, and may download to a `folder`.
    - "reader" writes every event to a `file`, and connects again and again with the cursor of the last one.
    - "receiver" hands the webhooks that arrive at a `port` to the workers.
    - "orchestrator" runs all `requests` in one process, and writes the events to a `file`.
    """

    role: Literal["worker", "reader", "receiver", "orchestrator"]
    name: str
    speed: float
    epoch: float
    url: str = ""
    api_key: str = field(default="", repr=False)
    base_url: str = ""
    idempotency_keys: bool = False
    concurrency: int = 100
    folder: str | None = None
    file: str = ""
    port: int = 0
    secret: str = field(default="", repr=False)
    requests: tuple[dict[str, Any], ...] = ()


async def start(settings: Settings, log: Path) -> asyncio.subprocess.Process:
    """Start a process, which appends what it prints to a file."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", __name__), stdin=asyncio.subprocess.PIPE, stdout=output, stderr=output
        )
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(settings)).encode() + b"\n")
    with contextlib.suppress(ConnectionError):
        await process.stdin.drain()
    return process


def main() -> None:
    """Run what the settings say."""
    settings = Settings(**json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.basicConfig(
        level=logging.WARNING, format=f"{settings.name} %(created).2f %(levelname)s %(message)s"
    )
    roles = {"worker": _work, "reader": _read, "receiver": _receive, "orchestrator": _orchestrate}
    with contextlib.suppress(asyncio.CancelledError):
        run(_until_sigterm(roles[settings.role](settings)), speed=settings.speed, epoch=settings.epoch)


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # not of the buffer: the interpreter locks it when it ends
    os._exit(0)


async def _until_sigterm(role: Any) -> None:
    task = asyncio.ensure_future(role)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await task


def _client(settings: Settings) -> JaraiClient:
    return JaraiClient(
        settings.api_key,
        base_url=settings.base_url,
        idempotency_keys=settings.idempotency_keys,
        random=Random(settings.name),
    )


async def _work(settings: Settings) -> None:
    async with (
        _client(settings) as client,
        Worker(
            client,
            settings.url,
            concurrency=settings.concurrency,
            download_to=settings.folder,
            name=settings.name,
        ) as worker,
    ):
        await worker.run()


async def _orchestrate(settings: Settings) -> None:
    requests = [ProductionRequest.from_dict(each) for each in settings.requests]
    async with (
        _client(settings) as client,
        Orchestrator(client, concurrency=settings.concurrency, journal=f"{settings.file}.db") as orchestrator,
    ):
        with Path(settings.file).open("ab") as file:  # noqa: ASYNC230  # a program of its own
            async for event in orchestrator.run(requests):
                file.write(_line(event))
                file.flush()


async def _read(settings: Settings) -> None:
    random, last = Random(settings.name), 0
    with Path(settings.file).open("ab") as file:  # noqa: ASYNC230  # a program of its own
        while True:
            try:
                async with (
                    asyncio.timeout(random.uniform(*_RECONNECT_AFTER)),
                    Queue(settings.url) as queue,
                ):
                    async for event in queue.events(after=last):
                        file.write(_line(event))
                        file.flush()
                        last = event.cursor
            except (TimeoutError, JournalError):
                await asyncio.sleep(1)


def _line(event: Event) -> bytes:
    return json.dumps(event.to_dict()).encode() + b"\n"


async def _receive(settings: Settings) -> None:
    async with Queue(settings.url) as queue, Receiver(settings.secret) as receiver:
        queue.listen(receiver)
        async with receiver.serve(port=settings.port):
            await asyncio.Event().wait()


if __name__ == "__main__":
    main()
