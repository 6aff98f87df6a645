"""Several workers on one PostgreSQL database, in real processes that are killed, stopped and cut off.

The clocks of all processes, of the simulator in this one and of PostgreSQL run equally fast. A worker gets a
SIGKILL every two minutes, the database crashes, workers are stopped for three leases, and connections are
closed or go silent. A reader connects again and again with its cursor, and webhooks arrive at a process of
their own. In the end, what all of them have recorded is compared with what the simulator knows.

The lag of a status change is the time from the change to the `observed_at` of the first event with its status
or a later one. Without --no-baseline, an `Orchestrator` in one process runs the same requests first.
"""

import argparse
import asyncio
import json
import os
import signal
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

from attrs import define, field

from jarai_async import _clock
from jarai_async._postgres.database import Database
from jarai_async.simulator import Simulator, Stage, run
from jarai_async.workers import Queue
from tests.stress.worlds import scratch_folder
from tests.support import worker_program
from tests.support.fast_postgres import FastPostgres, fast_postgres
from tests.support.figures import Figure, quantile, show
from tests.support.scenarios import request_for
from tests.support.silent_proxy import SilentProxy, unused_port
from tests.support.worker_program import Settings

_BETWEEN_KILLS = 120.0  # simulated seconds
_LEASE = 15.0  # seconds: the default of a worker
_MOST_RESPAWNS = 200
_PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes
_SECRET = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"  # noqa: S105  # of these tests only
_EVENT_TYPES = ("production.queued", "production.step.complete", "production.published", "production.failed")
_ENDS = ("Published", "Failed", "Cancelled")
_OPEN = "SELECT count(*) FROM jarai.requests WHERE stage <> 'ended' AND NOT is_settled"
_NOT_TAKEN_OVER = """
SELECT count(*) FROM jarai.requests WHERE stage <> 'ended' AND NOT is_settled AND (
    worker = %s OR worker IS NULL AND stage IN ('sending', 'in doubt', 'accepted'))
"""
_ID = "SELECT id FROM jarai.workers WHERE name = %s"
_RECORDED = """
SELECT cursor, reference, sequence FROM jarai.events JOIN jarai.requests ON requests.id = events.request
"""
_CONNECTIONS = """
SELECT application_name, count(*) FROM pg_stat_activity WHERE application_name LIKE 'worker-%' GROUP BY 1
"""
_OWNED = """
SELECT name, count(*) FROM jarai.requests JOIN jarai.workers ON workers.id = requests.worker GROUP BY name
"""
_TRANSACTIONS = """
SELECT sum(xact_commit + xact_rollback)::bigint FROM pg_stat_database WHERE datname = current_database()
"""
_IDLE = 60.0  # seconds without work
_ENOUGH = 250  # productions of one worker, for their memory to count
_GOALS = {
    "lost": 0,
    "created twice": 0,
    "misreported": 0,
    "429s": 0,
    "events lost": 0,
    "events doubled": 0,
    "events out of order": 0,
    "files damaged": 0,
    "rows left open": 0,
}


def main(arguments: Sequence[str]) -> int:
    """Print the results. Return 1 if a goal was missed."""
    options = _parser().parse_args(arguments)
    epoch = time.time()
    baseline = (
        None if options.no_baseline else run(_baseline(options, epoch), speed=options.speed, epoch=epoch)
    )
    result = run(_workers(options, epoch), speed=options.speed, epoch=epoch)
    figures = _figures(result, baseline)
    show(f"{options.workers} workers that are killed, and a database that crashes", figures, options.json)
    return int(any(figure.met is False for figure in figures))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.stress workers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    numbers = {"productions": 2000, "workers": 4, "speed": 20, "seed": 0, "seconds": 1200}
    numbers |= {"crashes": 2, "stops": 0, "cuts": 0, "drains": 0}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="(%(default)s)")
    parser.add_argument("--no-kills", action="store_true", help="no SIGKILL")
    parser.add_argument("--keys", action="store_true", help="the server honours idempotency keys")
    parser.add_argument("--webhooks", action="store_true", help="webhooks arrive at a process of their own")
    parser.add_argument("--download", action="store_true", help="the workers download all files")
    parser.add_argument("--no-baseline", action="store_true", help="no run in one process")
    parser.add_argument("--log", type=Path, metavar="FILE", help="keep what the processes print")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file as well")
    return parser


def _minutes(random: Random, _: str) -> list[Stage]:
    return [
        ("Queued", random.uniform(20, 60)),
        ("Producing", random.uniform(150, 600)),
        ("Distributing", random.uniform(30, 60)),
    ]


@asynccontextmanager
async def _simulated(options: argparse.Namespace) -> AsyncIterator[Simulator]:
    async with Simulator(
        seed=str(options.seed),
        durations=_minutes,
        approval="auto",
        failure_rate=0.1,
        idempotency_keys=options.keys,
        daily_quotas=False,
        latency=0.3,
    ) as simulator:
        yield simulator


def _requests(simulator: Simulator, count: int) -> list[Any]:
    return [request_for(simulator, reference=f"item-{n}", topic=f"item-{n}") for n in range(count)]


@define
class Result:
    """What was counted and measured."""

    counts: Counter[str] = field(factory=Counter)
    lags: list[float] = field(factory=list)
    end_lags: list[float] = field(factory=list)
    takeovers: list[float] = field(factory=list)
    webhook_delays: list[float] = field(factory=list)
    worst_window: int = 0
    use: float = 0.0
    connections: int = 0
    memory: float = 0.0  # KiB for each production that a worker owns
    idle_transactions: float = 0.0  # in a second, of all workers
    took: float = 0.0


# --- One process ---------------------------------------------------------------------------------------


async def _baseline(options: argparse.Namespace, epoch: float) -> Result:
    with scratch_folder() as folder:
        async with _simulated(options) as simulator:
            file, result = folder / "events", Result()
            requests = [each.to_dict() for each in _requests(simulator, options.productions)]
            settings = Settings(
                role="orchestrator",
                name="one",
                speed=options.speed,
                epoch=epoch,
                api_key=simulator.api_key,
                base_url=simulator.base_url,
                idempotency_keys=options.keys,
                concurrency=_concurrency(options) * options.workers,
                file=str(file),
                requests=tuple(requests),
            )
            began = asyncio.get_running_loop().time()
            process = await worker_program.start(settings, folder / "log")
            if await process.wait():
                raise RuntimeError((folder / "log").read_text(encoding="utf-8")[-2000:])
            _measure(result, simulator, _read(file), began)
            return result


def _concurrency(options: argparse.Namespace) -> int:
    return max(1, int(options.productions) // int(options.workers))


# --- Several -------------------------------------------------------------------------------------------


async def _workers(options: argparse.Namespace, epoch: float) -> Result:
    with scratch_folder() as folder:
        async with (
            fast_postgres(speed=options.speed, epoch=epoch) as postgres,
            _simulated(options) as simulator,
            _database(postgres) as database,
            SilentProxy(postgres.url) as proxy,
        ):
            world = World(options, epoch, folder, postgres, database, simulator, proxy)
            try:
                await world.run()
            finally:
                await world.stop_all()
                if options.log:
                    options.log.write_bytes(world.log.read_bytes())
            return world.result


@asynccontextmanager
async def _database(postgres: FastPostgres) -> AsyncIterator[Database]:
    database = Database(postgres.url, connections=4)
    await database.open()
    await postgres.prepare(database)
    try:
        yield database
    finally:
        await database.close()


@define
class World:
    """All processes, and what happens to them."""

    options: argparse.Namespace
    epoch: float
    folder: Path
    postgres: FastPostgres
    database: Database
    simulator: Simulator
    proxy: SilentProxy
    result: Result = field(factory=Result)
    processes: dict[str, asyncio.subprocess.Process] = field(factory=dict)
    _random: Random = field(init=False)
    _number: int = 0
    _tasks: list[asyncio.Task[None]] = field(factory=list)
    _stopped: set[str] = field(factory=set)
    _memory_before: dict[str, float] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self._random = Random(self.options.seed)

    @property
    def log(self) -> Path:
        """What the processes have printed."""
        return self.folder / "log"

    async def run(self) -> None:
        """Run all requests, and compare."""
        options, loop = self.options, asyncio.get_running_loop()
        async with Queue(self.postgres.url) as queue:
            for request in _requests(self.simulator, options.productions):
                await queue.submit(request)
        began = loop.time()
        for _ in range(options.workers):
            await self._start_worker()
        await self._start(self._settings("reader", "reader", file=str(self.folder / "events")))
        if options.webhooks:
            await self._start_receiver()
        self._tasks = [asyncio.create_task(each) for each in self._disturbances()]
        async with asyncio.timeout(options.seconds * options.speed):
            while (await self.database.read(_OPEN))[0][0]:
                await asyncio.sleep(5)
                for task in self._tasks:
                    if task.done():
                        task.result()
                await self._measure_connections()
                await self._measure_memory()
        await self._calm_down()
        await self._compare(began)

    def _settings(self, role: Any, name: str, **more: Any) -> Settings:
        url = f"{self.postgres.url}&application_name={name}"
        return Settings(
            role=role, name=name, speed=self.options.speed, epoch=self.epoch, **{"url": url} | more
        )

    async def _start(self, settings: Settings) -> None:
        self.processes[settings.name] = await worker_program.start(settings, self.log)

    async def _start_worker(self) -> None:
        self._number += 1
        name = f"worker-{self._number}"
        await self._start(
            self._settings(
                "worker",
                name,
                url=await self.proxy.open(name),
                api_key=self.simulator.api_key,
                base_url=self.simulator.base_url,
                idempotency_keys=self.options.keys,
                concurrency=_concurrency(self.options),
                folder=str(self.folder / "files") if self.options.download else None,
            )
        )

    async def _start_receiver(self) -> None:
        port = unused_port()
        await self._start(self._settings("receiver", "receiver", port=port, secret=_SECRET))
        self.simulator.add_webhook(f"http://127.0.0.1:{port}/", _EVENT_TYPES, signing_secret=_SECRET)

    async def stop_all(self) -> None:
        """Kill all processes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    # --- What happens to them ----------------------------------------------------------------------

    def _disturbances(self) -> Iterator[Any]:
        options = self.options
        yield self._respawn()
        yield self._age_heartbeats()
        if not options.no_kills:
            yield self._kill()
        yield self._again_and_again(self._crash_database, options.crashes, 300.0)
        yield self._again_and_again(self._stop_worker, options.stops, 60.0)
        yield self._again_and_again(self._cut_worker, options.cuts, 60.0)
        yield self._again_and_again(self._drain_worker, options.drains, 90.0)

    async def _again_and_again(self, disturb: Any, times: int, seconds: float) -> None:
        for _ in range(times):
            await asyncio.sleep(self._random.uniform(0.5, 1.5) * seconds)
            await disturb()

    def _alive(self) -> list[str]:
        return [
            name
            for name, process in self.processes.items()
            if name.startswith("worker") and process.returncode is None and name not in self._stopped
        ]

    async def _respawn(self) -> None:
        while True:
            await asyncio.sleep(1)
            ended = [
                name
                for name, one in self.processes.items()
                if name.startswith("worker") and one.returncode is not None
            ]
            for name in ended:
                self.result.counts[f"exit code {self.processes.pop(name).returncode}"] += 1
                if self._number >= _MOST_RESPAWNS:
                    raise RuntimeError("too many workers have ended")
                await self._start_worker()

    async def _age_heartbeats(self) -> None:
        while True:
            await asyncio.sleep(10)
            await self.postgres.age_heartbeats(self.database)

    async def _kill(self) -> None:
        while True:
            await asyncio.sleep(self._random.uniform(0.5, 1.5) * _BETWEEN_KILLS)
            if alive := self._alive():
                name = self._random.choice(alive)
                rows = await self.database.read(_ID, (name,))
                self.processes[name].kill()
                self.result.counts["SIGKILLs"] += 1
                if rows:
                    self._tasks.append(asyncio.create_task(self._measure_takeover(rows[0][0])))

    async def _measure_takeover(self, worker: Any) -> None:
        began = asyncio.get_running_loop().time()
        while (await self.database.read(_NOT_TAKEN_OVER, (worker,)))[0][0]:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
        self.result.takeovers.append(asyncio.get_running_loop().time() - began)

    async def _crash_database(self) -> None:
        self.result.counts["database crashes"] += 1
        await self.postgres.crash()

    async def _stop_worker(self) -> None:
        if alive := self._alive():
            name = self._random.choice(alive)
            self._stopped.add(name)
            self.processes[name].send_signal(signal.SIGSTOP)
            self.result.counts["SIGSTOPs"] += 1
            await asyncio.sleep(3 * _LEASE)
            self.processes[name].send_signal(signal.SIGCONT)
            self._stopped.discard(name)

    async def _cut_worker(self) -> None:
        if not (alive := self._alive()):
            return
        name = self._random.choice(alive)
        if self._random.random() < 0.5:
            self.result.counts["connections closed"] += 1
            self.proxy.abort(name)
        else:
            self.result.counts["silent cuts"] += 1
            await self.proxy.silence(name, 3 * _LEASE)

    async def _drain_worker(self) -> None:
        if alive := self._alive():
            name = self._random.choice(alive)
            self.processes[name].terminate()
            self.result.counts["SIGTERMs"] += 1

    async def _measure_connections(self) -> None:
        rows = await self.database.read(_CONNECTIONS.replace("%", "%%"), ())
        self.result.connections = max([self.result.connections, *(count for _, count in rows)])

    async def _measure_memory(self) -> None:
        """Compare the memory of each worker with that which it had before it owned anything."""
        for name, owned in await self.database.read(_OWNED, ()):
            process = self.processes.get(name)
            if process is None or (resident := _resident(process.pid)) is None:
                continue
            before = self._memory_before.setdefault(name, resident)
            if owned >= _ENOUGH:
                self.result.memory = max(self.result.memory, (resident - before) / owned)

    async def _measure_idle_transactions(self) -> None:
        before, began = (await self.database.read(_TRANSACTIONS))[0][0], asyncio.get_running_loop().time()
        await asyncio.sleep(_IDLE)
        after = (await self.database.read(_TRANSACTIONS))[0][0]
        self.result.idle_transactions = (after - before) / (asyncio.get_running_loop().time() - began)

    async def _calm_down(self) -> None:
        """Let all processes come to rest."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(_IDLE)
        await self._measure_idle_transactions()
        for name in self._alive():
            self.processes[name].terminate()
            await self.processes[name].wait()
            self.result.counts[f"exit code {self.processes[name].returncode}"] += 1
        await asyncio.sleep(60)

    # --- The truth ---------------------------------------------------------------------------------

    async def _compare(self, began: float) -> None:
        counts, recorded = self.result.counts, await self.database.read(_RECORDED)
        last = max(cursor for cursor, _, _ in recorded)
        while last not in (read := [event["cursor"] for event in _read(self.folder / "events")]):  # noqa: ASYNC110
            await asyncio.sleep(5)
        counts["events"] = len(recorded)
        counts["events lost"] = len({cursor for cursor, _, _ in recorded}.difference(read))
        counts["events doubled"] = len(read) - len(set(read))
        counts["events out of order"] = _out_of_order(recorded)
        counts["rows left open"] = (
            await self.database.read("SELECT count(*) FROM jarai.requests WHERE worker IS NOT NULL")
        )[0][0]
        counts["429s"] = self.simulator.rate_limited
        async with Queue(self.postgres.url) as queue:
            outcomes = {ticket.reference: ticket.known_outcome for ticket in await queue.tickets()}
        self._compare_outcomes(outcomes)
        _measure(self.result, self.simulator, _read(self.folder / "events"), began)

    def _compare_outcomes(self, outcomes: dict[str, Any]) -> None:
        counts, now = self.result.counts, asyncio.get_running_loop().time()
        created = defaultdict(list)
        for production in self.simulator.productions.values():
            created[production.body["topic"]].append(production)
        counts["created twice"] = sum(len(each) > 1 for each in created.values())
        for n in range(self.options.productions):
            outcome = outcomes.get(f"item-{n}")
            mine = created[f"item-{n}"]
            counts[f"outcome {outcome and outcome.state}"] += 1
            if outcome is None:
                counts["lost"] += 1
            elif outcome.state == "uncertain":
                counts["uncertain, and created"] += bool(mine)
                counts["misreported"] += self.options.keys
            elif not mine or mine[0].status_at(now).lower() != outcome.state:
                counts["misreported"] += 1
            elif self.options.download:
                counts["files"] += len(outcome.files)
                counts["files damaged"] += not self._is_whole(outcome)

    def _is_whole(self, outcome: Any) -> bool:
        expected = sorted(self.simulator.files(str(outcome.production.id)).values())
        return not outcome.ok or sorted(path.read_bytes() for path in outcome.files) == expected


def _read(file: Path) -> list[dict[str, Any]]:
    lines = file.read_bytes().splitlines() if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith(b"}")]


def _out_of_order(recorded: list[tuple[Any, ...]]) -> int:
    sequences = defaultdict(list)
    for _, reference, sequence in sorted(recorded):
        sequences[reference].append(sequence)
    return sum(each != list(range(1, len(each) + 1)) for each in sequences.values())


def _measure(result: Result, simulator: Simulator, events: list[dict[str, Any]], began: float) -> None:
    """Measure the lags, the delays of webhooks, and the use of the limit."""
    loop = asyncio.get_running_loop()
    wall = _clock.wall() - loop.time()
    seen = defaultdict(list)
    for event in events:
        if event["productionId"] is not None:
            at = datetime.fromisoformat(event["observedAt"]).timestamp() - wall
            seen[event["productionId"]].append((at, event["status"]))
    for production_id, changes in seen.items():
        timeline = simulator.productions[production_id].timeline
        order = {status: n for n, (_, status) in enumerate(timeline)}
        for n, (changed_at, entered) in enumerate(timeline[1:], start=1):
            noticed = [at for at, status in changes if order.get(status, -1) >= n]
            if noticed:
                (result.end_lags if entered in _ENDS else result.lags).append(min(noticed) - changed_at)
    result.lags += result.end_lags
    admitted = sorted(one.arrived for one in simulator.requests if one.admitted)
    first = 0
    for n, at in enumerate(admitted):
        while admitted[first] <= at - 60:
            first += 1
        result.worst_window = max(result.worst_window, n + 1 - first)
    submits = [one.arrived for one in simulator.requests if one.route == "submit" and one.admitted]
    result.use = simulator.utilisation(submits[0] + 60, max(submits[0] + 61, submits[-1]))
    result.took = max(admitted) - began
    result.counts["requests"] = len(admitted)
    _measure_webhooks(result, simulator)


def _measure_webhooks(result: Result, simulator: Simulator) -> None:
    """Measure the time from the arrival of each end to the next GET, unless a GET was between them."""
    fetches = defaultdict(list)
    for one in simulator.requests:
        if one.route == "fetch":
            fetches[one.target].append(one.arrived)
    for delivery in simulator.deliveries:
        production_id = delivery.event.production_id
        ended_at = simulator.productions[production_id].timeline[-1][0]
        arrived = delivery.delivered_at
        later = [at for at in fetches[production_id] if at >= ended_at]
        if arrived is not None and arrived >= ended_at and later and later[0] >= arrived:
            result.webhook_delays.append(later[0] - arrived)


def _resident(pid: int) -> float | None:
    """Return the KiB of memory that a process uses; None where the system does not tell it."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE / 1024
    except OSError:
        return None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _figures(result: Result, baseline: Any) -> list[Figure]:
    counts = result.counts
    figures = [Figure(name, f"{counts[name]:,}", "0", not counts[name]) for name in _GOALS]
    figures += [Figure(name, f"{counts[name]:,}") for name in sorted(counts) if name not in _GOALS]
    rows = [("several workers", result)] + ([("one process", baseline)] if baseline else [])
    for name, one in rows:
        figures += [
            Figure(f"mean lag, {name}", f"{_mean(one.lags):.1f} s"),
            Figure(f"mean lag of ends, {name}", f"{_mean(one.end_lags):.1f} s"),
            Figure(f"worst rolling window, {name}", str(one.worst_window), "300", one.worst_window <= 300),
            Figure(f"use of the limit while submitting, {name}", f"{one.use:.0%}", "97%", one.use >= 0.97),
            Figure(f"minutes, {name}", f"{one.took / 60:.0f}"),
        ]
    if baseline:
        all_changes = _mean(result.lags) / _mean(baseline.lags)
        ends = _mean(result.end_lags) / _mean(baseline.end_lags)
        figures += [
            Figure("mean lag, several over one", f"{all_changes:.2f}", "1.15", all_changes <= 1.15),
            Figure("mean lag of ends, several over one", f"{ends:.2f}", "1.08", ends <= 1.08),
        ]
    longest, webhook = max(result.takeovers, default=0.0), quantile(result.webhook_delays, 0.95)
    return [
        *figures,
        Figure("takeovers measured", str(len(result.takeovers))),
        Figure("takeover, mean", f"{_mean(result.takeovers):.1f} s"),
        Figure("takeover, longest", f"{longest:.1f} s", f"{_LEASE + 2:.0f} s", longest <= _LEASE + 2),
        Figure("webhook of an end to the GET, 95 %", f"{webhook:.1f} s", "1 s", not webhook > 1),
        Figure("connections a worker", str(result.connections), "4", result.connections <= 4),
        Figure("memory a production", f"{result.memory:.1f} KiB", "20 KiB", result.memory <= 20),
        Figure(
            "transactions a second, all workers idle",
            f"{result.idle_transactions:.1f}",
            "5",
            result.idle_transactions <= 5,
        ),
    ]
