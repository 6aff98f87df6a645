"""Programs of a queue in processes of their own: a worker, a reader of events, a receiver of webhooks.

    python -m tests.support.worker_program SETTINGS

SETTINGS is JSON: `program`, `speed` and `epoch` of the clock, `database`, and what the program needs. Each
ends when its standard input does, so with its parent.
"""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from jarai_async import JaraiClient, JaraiError
from jarai_async.receiver import Receiver
from jarai_async.simulator import run
from jarai_async.workers import Queue, Worker

SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"  # noqa: S105  # of these tests only
_CONNECTED = 120.0  # seconds for which the reader stays connected


async def work(settings: Mapping[str, Any]) -> None:
    """Run a worker."""
    client = JaraiClient(
        settings["api_key"], base_url=settings["base_url"], idempotency_keys=settings["keys"]
    )
    async with (
        client,
        Worker(
            client,
            settings["database"],
            name=settings["name"],
            lease=settings["lease"],
            concurrency=settings["concurrency"],
        ) as worker,
    ):
        await worker.run()


async def read(settings: Mapping[str, Any]) -> None:
    """Append the cursor, reference and number of each event to a file; connect again all the time."""
    cursor = 0
    with Path(settings["file"]).open("a") as file:  # noqa: ASYNC230
        while True:
            with suppress(JaraiError, TimeoutError):
                async with Queue(settings["database"]) as queue, asyncio.timeout(_CONNECTED):
                    async for event in queue.events(after=cursor):
                        file.write(f"{event.cursor} {event.reference} {event.sequence}\n")
                        file.flush()
                        cursor = event.cursor
            await asyncio.sleep(1)


async def receive(settings: Mapping[str, Any]) -> None:
    """Hand webhooks to the workers."""
    async with Queue(settings["database"]) as queue, Receiver(SECRET) as receiver:
        queue.listen(receiver)
        async with receiver.serve(port=settings["port"]):
            await asyncio.Event().wait()


_PROGRAMS: Mapping[str, Callable[[Mapping[str, Any]], Awaitable[None]]] = {
    "work": work,
    "read": read,
    "receive": receive,
}


async def main(settings: Mapping[str, Any]) -> None:
    """Run the program until the parent ends."""
    asyncio.get_running_loop().add_reader(0, os._exit, 0)
    await _PROGRAMS[settings["program"]](settings)


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s")
    given = json.loads(sys.argv[1])
    run(main(given), speed=given["speed"], epoch=given["epoch"])
