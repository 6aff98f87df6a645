"""What the benchmarks share: topics as requests, and a server in a process of its own."""

import csv
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from jarai_async import ProductionRequest

_TOPICS = Path(__file__).with_name("topics.csv")


def topics(count: int, ids: Mapping[str, str]) -> list[ProductionRequest]:
    """Give so many requests from the file of topics, again from its start where it is too short."""
    with _TOPICS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    requests = []
    for n in range(count):
        lap, row = divmod(n, len(rows))
        values: dict[str, Any] = {**rows[row], **ids}
        values |= {name: f"{values[name]} ({lap + 1})" for name in ("reference", "topic")}
        requests.append(ProductionRequest(**values))
    return requests


@contextmanager
def serving(serve: Callable[["Connection[Any, None]"], None]) -> Iterator[Any]:
    """Run a server in a process of its own; gives what it sends once it is ready."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    theirs.close()  # so that a server that dies is an EOFError here, rather than silence
    try:
        yield ours.recv()
    finally:
        server.terminate()
        server.join()
