"""Shared by the benchmarks: requests, clients, a server in its own process, and lags of status changes."""

import asyncio
import csv
import multiprocessing
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from attrs import define, field

from jarai_async import JaraiClient, ProductionRequest, RateLimit, StatusChanged
from jarai_async.simulator import Simulator
from jarai_async.simulator._event_loop import START_OF_SIMULATED_TIME

_TOPICS = Path(__file__).with_name("topics.csv")
IDS = ("account_id", "language_id", "country_id", "avatar_id")
NO_DAILY_QUOTA = RateLimit(per_day=10**9)


def read_topics(count: int, ids: Mapping[str, str]) -> list[ProductionRequest]:
    """Read this many requests from the file of topics, from its start again when it ends."""
    with _TOPICS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    requests = []
    for n in range(count):
        lap, row = divmod(n, len(rows))
        values: dict[str, Any] = {**rows[row], **ids}
        values |= {name: f"{values[name]} ({lap + 1})" for name in ("reference", "topic")}
        requests.append(ProductionRequest(**values))
    return requests


def requests_for(simulator: Simulator, count: int) -> list[ProductionRequest]:
    """Read this many requests, with the identifiers of the simulator."""
    return read_topics(count, {name: getattr(simulator, name) for name in IDS})


def open_client(
    simulator: Simulator, rate_limit: RateLimit = NO_DAILY_QUOTA, random: Random | None = None
) -> JaraiClient:
    """Make a client of the simulator."""
    return JaraiClient(simulator.api_key, base_url=simulator.base_url, rate_limit=rate_limit, random=random)


@contextmanager
def serving(serve: Callable[["Connection[Any, None]"], None]) -> Iterator[Any]:
    """Run a server in its own process, and yield what it sends when it is ready."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    theirs.close()  # so that `recv` raises EOFError if the server ends
    try:
        yield ours.recv()
    finally:
        server.terminate()
        server.join()


async def limit_in_flight(
    requests: Iterable[ProductionRequest], slots: asyncio.Semaphore
) -> AsyncIterator[ProductionRequest]:
    """Yield each request as soon as a slot is free."""
    for request in requests:
        await slots.acquire()
        yield request


class Lag(NamedTuple):
    """How late one status change was noticed, in seconds."""

    left: str
    entered: str
    seconds: float


@define
class StatusLog:
    """The status changes that were noticed, each with its simulated time, by production and in order."""

    changes: dict[str, list[tuple[float, str]]] = field(factory=dict)

    def add(self, event: StatusChanged) -> None:
        """Record an event."""
        at = event.observed_at.timestamp() - START_OF_SIMULATED_TIME
        self.changes.setdefault(event.production.id, []).append((at, str(event.status)))

    def lags(self, simulator: Simulator) -> Iterator[Lag]:
        """Yield the lag of each status change that was noticed, by its status or by a later one."""
        for production_id, changes in self.changes.items():
            timeline = simulator.productions[production_id].timeline
            order = {status: n for n, (_, status) in enumerate(timeline)}
            for n, ((_, left), (changed_at, entered)) in enumerate(pairwise(timeline), start=1):
                noticed_at = next((at for at, status in changes if order[status] >= n), None)
                if noticed_at is not None:
                    yield Lag(left, entered, noticed_at - changed_at)
