"""SIGKILL for the processes of the two web applications, under load, with a reader of their events.

Requests arrive by POST all the time, and are posted again where the response was lost. The reader connects
again after each kill, with the id of the last event that it has. In the end it must have every event exactly
once, and no request may be lost or paid for twice.
"""

import argparse
import asyncio
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from jarai_async.simulator import Simulator, Stage, run
from tests.stress.worlds import scratch_folder
from tests.support.applications import (
    NAMES,
    SECRET,
    Application,
    fields_for,
    http_session,
    messages,
    productions,
)
from tests.support.figures import Figure, show

_SPEED = 30.0
_KILLS = 10  # of one server
_REQUESTS = 40
_LONGEST = 60.0  # simulated seconds until a process is killed: two of real time
_SERVING = 0.8  # of the processes serve before these seconds begin
_TIMEOUT = 600.0  # seconds, for one server


def main(arguments: Sequence[str]) -> int:
    """Print the results. Return 1 if a goal was missed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.stress applications",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=200, help="(%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file as well")
    options = parser.parse_args(arguments)
    started, total, number = time.monotonic(), Counter[str](), 0
    while total["kills"] < options.kills:
        with scratch_folder() as folder:
            kills = min(_KILLS, options.kills - total["kills"])
            total += kill_again_and_again(NAMES[number % 2], folder, kills=kills, seed=number)
        number += 1
    goals = ("events lost", "events doubled", "requests lost", "requests doubled")
    figures = [Figure(name, f"{total[name]:,}") for name in sorted(total) if name not in goals]
    figures += [Figure(name, str(total[name]), "0", not total[name]) for name in goals]
    figures.append(Figure("seconds", f"{time.monotonic() - started:.0f}"))
    show("Applications that are killed under load", figures, options.json)
    return int(any(total[name] for name in goals))


def kill_again_and_again(
    name: str, folder: Path, *, kills: int, requests: int = _REQUESTS, seed: int = 0
) -> Counter[str]:
    """Kill an application so often, and return what was counted."""
    epoch = time.time()
    main = _kill(name, folder, kills=kills, requests=requests, random=Random(seed), epoch=epoch)
    return run(main, speed=_SPEED, epoch=epoch)


def _short(random: Random, _: str) -> list[Stage]:
    return [("Queued", 5.0), ("Producing", random.uniform(20, 120)), ("Distributing", 5.0)]


async def _kill(
    name: str, folder: Path, *, kills: int, requests: int, random: Random, epoch: float
) -> Counter[str]:
    async with (
        asyncio.timeout(_TIMEOUT * _SPEED),
        Simulator(
            durations=_short, approval="auto", failure_rate=0.1, seed=str(random.random())
        ) as simulator,
    ):
        application = Application(name, simulator, folder, speed=_SPEED, epoch=epoch)
        simulator.add_webhook(
            f"{application.url}/jarai",
            ["deliverable.ready", "production.published", "production.failed"],
            signing_secret=SECRET,
        )
        async with http_session(application.url) as session:
            reader = Reader(session)
            await application.start()
            try:
                async with asyncio.TaskGroup() as group:
                    reading = group.create_task(reader.run())
                    between = _LONGEST * kills / requests
                    posts = [
                        group.create_task(_post(session, n * between, fields_for(simulator, **_names(n))))
                        for n in range(requests)
                    ]
                    for _ in range(kills):
                        if random.random() < _SERVING:
                            await application.serves(session)
                        await asyncio.sleep(random.uniform(0, _LONGEST))
                        assert await application.stop(signal.SIGKILL) == -signal.SIGKILL, application.log
                        await application.start()
                    await application.serves(session)
                    await asyncio.wait(posts)
                    cursor, listed = await _all_ended(session, requests)
                    await reader.reached(cursor)
                    reading.cancel()
                history = await _history(session, cursor)
            finally:
                await application.stop(signal.SIGKILL)
        return _compare(reader, history, listed, simulator, requests) + Counter(kills=kills)


def _names(number: int) -> dict[str, str]:
    return {"reference": f"item-{number}", "topic": f"item-{number}"}


async def _post(session: aiohttp.ClientSession, after: float, fields: dict[str, Any]) -> None:
    """Post a request until it is accepted."""
    await asyncio.sleep(after)
    while True:
        with suppress(aiohttp.ClientError):
            async with session.post("/productions", json=fields) as response:
                assert response.status == 202, await response.text()
                return
        await asyncio.sleep(1)


class Reader:
    """Reads the events like a browser: it connects again, with the id of the last one."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.events: list[dict[str, Any]] = []
        self._session = session
        self._last: int | None = None
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Read for ever."""
        while True:
            with suppress(aiohttp.ClientError):
                async with aclosing(messages(self._session, last_event_id=self._last)) as stream:
                    async for message in stream:
                        self._add(*message)
            await asyncio.sleep(1)

    def _add(self, identifier: int, event: dict[str, Any]) -> None:
        self._last = identifier
        self.events.append(event)
        self._changed.set()

    async def reached(self, cursor: int) -> None:
        """Wait until it has read the event with this cursor."""
        while self._last is None or self._last < cursor:
            self._changed.clear()
            await self._changed.wait()


async def _all_ended(session: aiohttp.ClientSession, count: int) -> tuple[int, dict[str, dict[str, Any]]]:
    """Wait until all requests have ended, and return the cursor of the last event, and what is listed."""
    while True:
        cursor, listed = await productions(session)
        if len(listed) == count and all(one["outcome"] for one in listed.values()):
            return cursor, listed
        await asyncio.sleep(_SPEED)


async def _history(session: aiohttp.ClientSession, cursor: int) -> list[dict[str, Any]]:
    """Return all events up to this cursor."""
    events: list[dict[str, Any]] = []
    async with aclosing(messages(session)) as stream:
        async for identifier, event in stream:
            events.append(event)
            if identifier >= cursor:
                break
    return events


def _compare(
    reader: Reader,
    history: list[dict[str, Any]],
    listed: dict[str, dict[str, Any]],
    simulator: Simulator,
    requests: int,
) -> Counter[str]:
    read = Counter(event["cursor"] for event in reader.events)
    numbers = [(event["reference"], event["sequence"]) for event in history]
    created = Counter(production.body["topic"] for production in simulator.productions.values())
    outcomes = Counter(f"outcome {one['outcome']}" for one in listed.values())
    known = {reference for reference, one in listed.items() if one["outcome"] in ("published", "failed")}
    return outcomes + Counter(
        {
            "requests": requests,
            "events": len(reader.events),
            "events lost": sum(event not in reader.events for event in history),
            "events doubled": read.total() - len(read) + len(numbers) - len({*numbers}),
            "requests lost": requests - len(listed) + len(known - created.keys()),
            "requests doubled": sum(count > 1 for count in created.values()),
        }
    )
