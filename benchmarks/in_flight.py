"""1,000 and 5,000 productions in flight in one process: how long the event loop is blocked, how much memory.

The real client and orchestrator run in one process and the simulator in another, both on a clock that runs
30 times as fast as real time; the work of the server does not count. Every production is submitted, polled,
listed, written to a journal, and downloaded into a temporary folder. For some minutes of simulated time all
of them are in flight together. `--few 100 --many 200` takes a few
minutes.

- *Blocked* is in real time. A task sleeps for a millisecond again and again, and records how late it wakes
  up. At 30 times the speed the loop has 30 times the work, so the figure is on the safe side. A machine that
  is busy with other things delays the task as well. So the CPU time of the loop in the same gap is also
  shown: work that blocks the loop appears in both.
- *Traced memory* is what tracemalloc counts after a garbage collection, with all productions in flight and
  polled, less what it counts with none and the connections open. It includes the requests themselves. It is
  measured in processes of their own, because tracing slows everything down: without a journal's file, and
  with one.
- *Resident memory* is that of the process without tracing, with a journal and downloads, so it includes what
  SQLite and the connections use.

    python -m benchmarks.in_flight
"""

import asyncio
import gc
import logging
import multiprocessing
import os
import random
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path

from attrs import define, field

from benchmarks._bench import IDS, read_topics, serving
from jarai_async import Event, Finished, JaraiClient, Orchestrator, Submitted
from jarai_async.simulator import Simulator, run
from tests.support.figures import Figure, options, quantile, show

_SPEED = 30.0
_TICK = 0.001  # real seconds
_SUBMIT = 0.2  # simulated seconds from one to the next, by the rate limit
_SETTLE = 240.0  # simulated seconds after the last submit, in which each production is polled
_Access = Mapping[str, str]  # the simulator's key, URL and identifiers
_Watch = Callable[[Event | None], bool]


def serve(count: int, port: "Connection[_Access, None]") -> None:
    """Run the simulator, in a process of its own, for so many productions."""

    def stages(rng: random.Random, _: str) -> list[tuple[str, float]]:
        """Make productions so long that the first is still running when the last has been polled."""
        return [
            ("Queued", rng.uniform(10, 40)),
            ("Producing", count * _SUBMIT + rng.uniform(520, 1_000)),
            ("Distributing", rng.uniform(20, 60)),
        ]

    async def main() -> None:
        async with Simulator(durations=stages, approval="auto", failure_rate=0.0) as simulator:
            port.send({name: getattr(simulator, name) for name in ("api_key", "base_url", *IDS)})
            await asyncio.Event().wait()

    run(main(), speed=_SPEED)


def follow(access: _Access, count: int, watch: _Watch, *, writes_files: bool) -> None:
    """Run this many productions until `watch` returns False; its first call, with None, comes before them."""

    async def main(folder: str) -> None:
        async with JaraiClient(access["api_key"], base_url=access["base_url"]) as client:
            await client.accounts()
            files, journal = (
                (Path(folder, "files"), Path(folder, "journal")) if writes_files else (None, None)
            )
            async with Orchestrator(
                client, concurrency=count, download_to=files, journal=journal
            ) as orchestrator:
                watch(None)
                requests = read_topics(count, {name: access[name] for name in IDS})
                async for event in orchestrator.run(requests):
                    if not watch(event):
                        break

    with tempfile.TemporaryDirectory(prefix="jarai-") as folder:  # removed after the measurement
        run(main(folder), speed=_SPEED)


@define
class Observer:
    """Records how late the loop is, from the time at which the requests are made."""

    count: int
    gaps: list[tuple[float, float]] = field(factory=list)  # lateness and CPU time of the loop, in seconds
    pauses: list[float] = field(factory=list)  # of the garbage collector, in seconds
    resident: list[int] = field(factory=list)  # bytes, with none and with all in flight
    submitted: int = 0
    complete: int = 0
    files: int = 0
    _ticker: "asyncio.Task[None] | None" = None
    _paused_at: float = 0.0

    def watch(self, event: Event | None) -> bool:
        """Record an event."""
        if event is None:
            self._ticker = asyncio.create_task(self._tick())  # its first step comes after this one
            self.resident.append(_resident())
        elif isinstance(event, Submitted):
            self.submitted += 1
            if self.submitted == self.count:
                self.resident.append(_resident())
        elif isinstance(event, Finished):
            self.complete += event.outcome.ok
            self.files += len(event.outcome.files)
        return True

    async def _tick(self) -> None:
        while True:
            wall, cpu = time.perf_counter(), time.thread_time()
            await asyncio.sleep(_TICK * _SPEED)
            self.gaps.append((time.perf_counter() - wall - _TICK, time.thread_time() - cpu))

    def note_collection(self, phase: str, _: Mapping[str, int]) -> None:
        """Record how long a garbage collection took."""
        if phase == "start":
            self._paused_at = time.perf_counter()
        else:
            self.pauses.append(time.perf_counter() - self._paused_at)


def responsiveness(access: _Access, count: int) -> list[Figure]:
    """Measure how late the loop is, from the first submit to the last download."""
    observer = Observer(count)
    gc.callbacks.append(observer.note_collection)
    start = time.perf_counter()
    follow(access, count, observer.watch, writes_files=True)
    real = time.perf_counter() - start
    late = [gap for gap, _ in observer.gaps]
    cpu = [cpu for _, cpu in observer.gaps]
    most = quantile(late, 0.99)
    tail = ", ".join(f"{quantile(late, share) * 1e3:.1f}" for share in (0.99, 0.999))
    over = [sum(gap > 0.05 for gap in gaps) for gaps in (late, cpu)]
    longest = max(observer.pauses, default=0.0)
    each = (observer.resident[1] - observer.resident[0]) / count / 1024
    return [
        Figure(f"{count} in flight", ""),
        Figure("  loop blocked, at most", f"{max(late) * 1e3:.1f} ms", "<= 50 ms", max(late) <= 0.05),
        Figure("  CPU time of the loop in a gap, at most", f"{max(cpu) * 1e3:.1f} ms"),
        Figure("  99 and 99.9 % of the gaps, within", f"{tail} ms", "99 %: <= 5", most <= 0.005),
        Figure("  gaps over 50 ms; in CPU time; of all", f"{over[0]}; {over[1]}; {len(late)}"),
        Figure("  longest garbage collection", f"{longest * 1e3:.1f} ms", "<= 50 ms", longest <= 0.05),
        Figure("  productions complete; files", f"{observer.complete} of {count}; {observer.files}"),
        Figure("  real time; CPU time", f"{real:.0f} s; {time.process_time():.0f} s"),
        Figure("  resident memory for each", f"{each:.1f} KiB", "<= 8 KiB", each <= 8),
    ]


def memory(access: _Access, count: int, *, writes_files: bool) -> list[Figure]:
    """Measure the memory of all productions while they are in flight, divided by their number."""
    sizes: list[int] = []
    submitted, last_submit = 0, 0.0

    def watch(event: Event | None) -> bool:
        nonlocal submitted, last_submit
        now = asyncio.get_running_loop().time()
        if isinstance(event, Submitted):
            submitted, last_submit = submitted + 1, now
        settled = submitted == count and now > last_submit + _SETTLE
        if event is None or settled:
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
        return not settled

    tracemalloc.start()
    logging.disable()  # warnings about unfinished productions are expected
    follow(access, count, watch, writes_files=writes_files)
    if len(sizes) < 2:
        raise RuntimeError("some were not submitted or ended early: the machine is too busy for this speed")
    each = (sizes[1] - sizes[0]) / count / 1024
    goal, name = (6, "with") if writes_files else (5, "without")
    return [
        Figure(
            f"  traced memory for each, {name} a journal", f"{each:.2f} KiB", f"<= {goal} KiB", each <= goal
        )
    ]


def _resident() -> int:
    """Return the resident memory of this process in bytes; 0 on systems without /proc."""
    statm = Path("/proc/self/statm")
    pages = int(statm.read_text(encoding="ascii").split()[1]) if statm.exists() else 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    chosen = options(__doc__, few=1_000, many=5_000)
    figures: list[Figure] = []
    measures: tuple[Callable[[_Access, int], list[Figure]], ...] = (
        responsiveness,
        partial(memory, writes_files=False),
        partial(memory, writes_files=True),
    )
    for count, measure in product((chosen.few, chosen.many), measures):
        with serving(partial(serve, count)) as access, multiprocessing.get_context("spawn").Pool(1) as pool:
            figures += pool.apply(measure, (access, count))
    show("Productions in flight in one process", figures, chosen.json)


if __name__ == "__main__":
    main()
