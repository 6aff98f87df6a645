"""A thousand productions in flight in one process: for how long the event loop is blocked, and their memory.

The real client and orchestrator, with the simulator in another process, both on a clock that runs 30 times as
fast as the world's; the server's work does not count. Every production is submitted, polled, listed, written
down in a journal and downloaded, into a temporary folder; all of them are in flight together for some minutes
of simulated time.

- *Blocked* is in real time: a task sleeps a millisecond, again and again, and notes by how much it came late.
  At 30 times the speed the loop has 30 times the work, so this errs on the safe side. A machine that is busy
  with other things makes it late as well, so the loop's own CPU time in the same gap is given beside it: what
  the library does without letting go of the loop shows in both.
- *Memory* is what tracemalloc knows of, after a collection, with all in flight and each polled, less what it
  was with none and the connections open; in a process of its own, for tracing makes everything slow. The
  requests themselves are in it. Resident memory is that of the process that was not traced.
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
from multiprocessing.connection import Connection
from pathlib import Path

from attrs import define, field

from benchmarks._bench import serving, topics
from jarai_async import Event, Finished, JaraiClient, Orchestrator, Submitted
from jarai_async.simulator import Simulator, run
from tests.support.figures import Figure, options, quantile, show

_SPEED = 30.0
_TICK = 0.001  # real seconds
_SETTLE = 240.0  # simulated seconds after the last submit, in which each is polled
_IDS = ("account_id", "language_id", "country_id", "avatar_id")
_Access = Mapping[str, str]
_Watch = Callable[[Event | None], bool]


def stages(rng: random.Random, _: str) -> list[tuple[str, float]]:
    """Take so long that the first still runs when the last has been submitted and polled."""
    return [
        ("Queued", rng.uniform(10, 40)),
        ("Producing", rng.uniform(720, 1_200)),
        ("Distributing", rng.uniform(20, 60)),
    ]


def serve(port: "Connection[_Access, None]") -> None:
    """Be the Partner API, in a process of its own."""

    async def main() -> None:
        async with Simulator(durations=stages, approval="auto", failure_rate=0.0) as simulator:
            port.send({name: getattr(simulator, name) for name in ("api_key", "base_url", *_IDS)})
            await asyncio.Event().wait()

    run(main(), speed=_SPEED)


def follow(access: _Access, count: int, watch: _Watch) -> None:
    """Run so many productions, as long as `watch` agrees; it is told None when all is ready to begin."""

    async def main(folder: str) -> None:
        async with JaraiClient(access["api_key"], base_url=access["base_url"]) as client:
            await client.accounts()
            files, journal = Path(folder, "files"), Path(folder, "journal")
            async with Orchestrator(
                client, concurrency=count, download_to=files, journal=journal
            ) as orchestrator:
                watch(None)
                requests = topics(count, {name: access[name] for name in _IDS})
                async for event in orchestrator.run(requests):
                    if not watch(event):
                        break

    with tempfile.TemporaryDirectory(prefix="jarai-") as folder:  # removed when the loop is no longer watched
        run(main(folder), speed=_SPEED)


@define
class Observer:
    """Notes how late the loop is, from the moment at which the caller's requests are made."""

    count: int
    gaps: list[tuple[float, float]] = field(factory=list)  # lateness and CPU of the loop, in seconds
    pauses: list[float] = field(factory=list)  # of the garbage collector, in seconds
    resident: list[int] = field(factory=list)  # bytes, with none and with all in flight
    submitted: int = 0
    complete: int = 0
    files: int = 0
    _ticker: "asyncio.Task[None] | None" = None
    _paused_at: float = 0.0

    def watch(self, event: Event | None) -> bool:
        """Take in an event."""
        if event is None:
            self._ticker = asyncio.create_task(self._tick())  # its first step comes after this one's
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
        """Note how long a garbage collection took."""
        if phase == "start":
            self._paused_at = time.perf_counter()
        else:
            self.pauses.append(time.perf_counter() - self._paused_at)


def responsiveness(access: _Access, count: int) -> list[Figure]:
    """Measure how late the loop is from the first submit to the last download."""
    observer = Observer(count)
    gc.callbacks.append(observer.note_collection)
    start = time.perf_counter()
    follow(access, count, observer.watch)
    real = time.perf_counter() - start
    late = [gap for gap, _ in observer.gaps]
    cpu = [cpu for _, cpu in observer.gaps]
    tail = ", ".join(f"{quantile(late, share) * 1e3:.1f}" for share in (0.99, 0.999))
    usual = quantile(late, 0.99)
    each = (observer.resident[1] - observer.resident[0]) / count / 1024
    return [
        Figure("loop blocked, at most", f"{max(late) * 1e3:.1f} ms", "<= 50 ms", max(late) <= 0.05),
        Figure("  CPU time of the loop in a gap, at most", f"{max(cpu) * 1e3:.1f} ms"),
        Figure("  99 and 99.9 % of the gaps, within", f"{tail} ms", "99 %: <= 5", usual <= 0.005),
        Figure("  gaps over 50 ms; in CPU time; of all", _over(late, cpu)),
        Figure("  longest garbage collection", f"{max(observer.pauses, default=0.0) * 1e3:.1f} ms"),
        Figure("productions complete; files", f"{observer.complete} of {count}; {observer.files}"),
        Figure("  real time; CPU time", f"{real:.0f} s; {time.process_time():.0f} s"),
        Figure("resident memory for each in flight", f"{each:.1f} KiB"),
    ]


def _over(late: list[float], cpu: list[float]) -> str:
    return f"{sum(gap > 0.05 for gap in late)}; {sum(gap > 0.05 for gap in cpu)}; {len(late)}"


def memory(access: _Access, count: int) -> list[Figure]:
    """Measure what all of them take together while they are in flight, divided by their number."""
    sizes: list[int] = []
    submitted, last = 0, 0.0

    def watch(event: Event | None) -> bool:
        nonlocal submitted, last
        now = asyncio.get_running_loop().time()
        if isinstance(event, Submitted):
            submitted, last = submitted + 1, now
        settled = submitted == count and now > last + _SETTLE
        if event is None or settled:
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
        return not settled

    tracemalloc.start()
    logging.disable()  # of productions that are left before their end
    follow(access, count, watch)
    each = (sizes[1] - sizes[0]) / count / 1024
    return [Figure("traced memory for each in flight", f"{each:.2f} KiB", "<= 6 KiB", each <= 6)]


def _resident() -> int:
    """Bytes of this process that are in memory; 0 where the system does not say it in this way."""
    statm = Path("/proc/self/statm")
    pages = int(statm.read_text(encoding="ascii").split()[1]) if statm.exists() else 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    chosen = options(__doc__, productions=1_000)
    figures: list[Figure] = []
    for measure in (responsiveness, memory):
        with serving(serve) as access, multiprocessing.get_context("spawn").Pool(1) as pool:
            figures += pool.apply(measure, (access, chosen.productions))
    show(f"{chosen.productions} productions in flight in one process", figures, chosen.json)


if __name__ == "__main__":
    main()
