"""One world: a simulator with planned faults, and the runs of a program in it.

A seed decides everything about a world. `scenario_of` draws a scenario from it, and `run_world` runs the
scenario and returns what the program observed together with the simulator, which knows what really happened.
`invariants` compares the two.
"""

import asyncio
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Literal

from attrs import asdict, define, evolve, field, frozen

from jarai_async import Event, Finished, OutcomeState, ProductionRequest
from jarai_async.simulator import BlobStorage, Deliverability, Layout, Simulator
from jarai_async.simulator._api.fault_kinds import KINDS
from jarai_async.simulator._api.rate_limits import TierName
from tests.stress.crashes import CrashableLoop, CrashableProcess, Machine
from tests.stress.program import LeaveBy, Program, RunPlan, RunRecord
from tests.stress.webhook_proxy import WebhookProxy
from tests.support.scenarios import request_for

RECORDED_WORLDS = {"seed": 100, "crash": 10}  # how many worlds of each kind have a recorded event log

_MEMORY = Path("/dev/shm")  # noqa: S108  # a file system in memory: the disk is not what is tested
_ONLY_API = {"missing_id", "missing_id_and_location", "other_production", "unknown_status", "unauthorized"}
_ONLY_API |= {"forbidden", "odd_fields"}
_ONLY_ON = {"odd_items": "deliverables", "empty_list": "deliverables", "not_ready": "deliverables"}
_ONLY_ON |= {"only_location": "submit"}
_ONLY_FILES = {"expired", "wrong_length", "bit_flip"}  # as documented: TLS keeps them out of the API
_CUT_FILES = {"expired", "cut_body", "cut_chunks", "reset_before", "reset_after", "unavailable"}
_NAMES_BY_TYPE = (
    "Article.md",
    "Article.html",
    "Attribution.json",
)  # of an article whose files are listed without names
_ROUTES = ("submit", "submit", "submit", "fetch", "fetch", "deliverables", "cancel")
_LEAVE_BY: tuple[LeaveBy, ...] = ("break", "timeout", "raise")
_LEAVE_TICKETS_BY: tuple[LeaveBy, ...] = ("end", "break", "timeout")
_TIERS: tuple[TierName, ...] = ("enterprise",) * 4 + ("standard",) * 2
_LAYOUTS: tuple[Layout | None, ...] = (None, "reversed", "wrapped", "without_step")
_LONGEST_WORLD = 200.0  # seconds in which clocks and servers change


@frozen
class PlannedFault:
    """The arguments of one `simulator.faults.add`."""

    kind: str
    on: str
    times: int | None
    after: int
    seconds: float
    probability: float = 1.0


@frozen
class ClockChange:
    """What the program's machine does `at` so many seconds: set its wall clock, or sleep."""

    at: float
    kind: Literal["set", "sleep", "sleep without its clock"]
    seconds: float


@frozen
class Release:
    """The arguments of one `simulator.deploy`, `at` so many seconds."""

    at: float
    tier: TierName | None
    idempotency_keys: bool | None
    blob_storage: BlobStorage | None
    layout: Layout | None


@frozen
class Scenario:
    """Everything that is decided before a world starts."""

    seed: str
    references: tuple[str, ...]
    concurrency: int
    server_keys: bool
    client_keys: bool
    tickets: bool
    tier: TierName
    latency: float
    spend_ceiling: int | None
    failure_rate: float
    expiry_rate: float
    faults: tuple[PlannedFault, ...]
    plans: tuple[RunPlan, ...]
    deliverability: Deliverability | None
    blob_storage: BlobStorage = BlobStorage()  # noqa: RUF009  # frozen
    clock_changes: tuple[ClockChange, ...] = ()
    releases: tuple[Release, ...] = ()

    def uses_keys(self, now: float) -> bool:
        """Whether a run that begins now relies on idempotency keys: as soon as the server honours them."""
        return self.client_keys or any(each.idempotency_keys and each.at <= now for each in self.releases)


@define
class WorldResult:
    """What happened in a world: `runs` and `steps` have one item for each run of the program."""

    scenario: Scenario
    simulator: Simulator
    folder: Path
    runs: list[RunRecord] = field(factory=list)
    steps: list[int] = field(factory=list)
    log: list[str] = field(factory=list)
    problems: list[str] = field(factory=list)
    naps: list[tuple[float, float]] = field(factory=list)  # when the program's machine slept
    ended_at: float = 0.0

    def files(self, production_id: str) -> dict[str, bytes]:
        """Return the final files of a production by the name that they must have on the disk."""
        files = dict(self.simulator.files(production_id))
        if self.scenario.blob_storage.documented_only:
            return dict(zip(_NAMES_BY_TYPE, files.values(), strict=True))
        return files


def scenario_of(seed: str) -> Scenario:
    """Draw a scenario. That of a "crash-N" seed is small, and its program reads events without delay.

    In some of these, it cancels tickets.
    """
    kind, _, number = seed.rpartition("-")
    is_recorded = int(number) < RECORDED_WORLDS.get(kind, 0)
    if kind == "crash":
        cancels = 0 if is_recorded else Random(f"{seed}:cancels").choice((0, 0, 1, 3))
        scenario = evolve(_draw(seed, 2, 3), tickets=cancels > 0, plans=(RunPlan(cancels=cancels),))
    else:
        scenario = _draw(seed, 4, 6)
    if is_recorded:
        return scenario
    return evolve(
        scenario,
        clock_changes=_draw_clock_changes(Random(f"{seed}:clocks")),
        releases=_draw_releases(Random(f"{seed}:releases"), scenario),
    )


def _draw(seed: str, fewest: int, most: int) -> Scenario:
    random = Random(seed)
    server_keys = random.random() < 0.5
    count = random.randint(fewest, most)
    tickets = random.random() < 0.15
    plans = [_draw_plan(random, count, tickets=tickets) for _ in range(random.choice((0, 0, 1, 2)))]
    faults = [_draw_fault(random) for _ in range(random.randint(1, 7))]
    if random.random() < 0.1:
        kind = random.choice(
            ("unavailable", "reset_after", "hang_before", "internal_error_after", "rate_limited")
        )
        faults.append(PlannedFault(kind, "any", None, random.randint(0, 9), 20.0, 0.4))
    return Scenario(
        seed=seed,
        references=_draw_references(Random(f"{seed}:references"), count),
        concurrency=random.choice((1, 2, 3, 10)),
        server_keys=server_keys,
        client_keys=server_keys and random.random() < 0.8,
        tickets=tickets,
        tier=random.choice(_TIERS),
        latency=random.choice((0.0, 0.05, 1.0)),
        spend_ceiling=count - 1 if random.random() < 0.1 else None,
        failure_rate=random.choice((0.0, 0.2)),
        expiry_rate=random.choice((0.0, 0.0, 0.3)),
        faults=tuple(faults),
        plans=(*plans, RunPlan(read_delay=random.choice((0.0, 0.0, 0.1, 20.0)))),
        deliverability=_draw_deliverability(Random(f"{seed}:webhooks")),
        blob_storage=_draw_storage(Random(f"{seed}:storage"), faults),
    )


def _draw_storage(random: Random, faults: Sequence[PlannedFault]) -> BlobStorage:
    """Draw a make, Azure's in most worlds.

    It has checksums if only they can show that a file is corrupt, and names if a fault hides the types.
    """
    is_corrupt = any(fault.on == "download" and fault.kind not in _CUT_FILES for fault in faults)
    has_types = all(fault.kind != "odd_items" for fault in faults)
    md5: Literal["base64", "hexadecimal", "none"] = random.choice(("base64", "hexadecimal", "none", "none"))
    make = BlobStorage(
        etag=random.choice(("strong", "weak", "none")),
        md5="base64" if is_corrupt and md5 == "none" else md5,
        ranges=random.random() < 0.5,
        encoding="" if md5 == "none" else random.choice(("", "gzip")),  # it is rejected without a checksum
        documented_only=random.random() < 0.5 and has_types,
        raw_links=random.random() < 0.2,
    )
    return make if random.random() < 0.25 else BlobStorage()


def _draw_clock_changes(random: Random) -> tuple[ClockChange, ...]:
    changes = []
    for _ in range(random.choice((0, 0, 0, 1, 2))):
        at = random.uniform(0, _LONGEST_WORLD)
        if random.random() < 0.5:
            seconds = random.choice((-1, 1)) * random.choice((2.0, 50.0, 3700.0, 90_000.0))
            changes.append(ClockChange(at, "set", seconds))
        else:
            seconds = random.choice((2.0, 40.0, 300.0, 4000.0))
            changes.append(ClockChange(at, random.choice(("sleep", "sleep without its clock")), seconds))
    return tuple(changes)


def _draw_releases(random: Random, scenario: Scenario) -> tuple[Release, ...]:
    return tuple(
        Release(
            at=random.uniform(0, _LONGEST_WORLD),
            tier=random.choice((None, None, *_TIERS)),
            idempotency_keys=random.choice((None, True)),
            blob_storage=_draw_next_storage(random, scenario),
            layout=random.choice(_LAYOUTS),
        )
        for _ in range(random.choice((0, 0, 0, 1, 2)))
    )


def _draw_next_storage(random: Random, scenario: Scenario) -> BlobStorage | None:
    """Draw another make, which lists the same names."""
    if random.random() < 0.5:
        return None
    make = _draw_storage(random, scenario.faults)
    return evolve(make, documented_only=scenario.blob_storage.documented_only)


def _draw_deliverability(random: Random) -> Deliverability | None:
    deliverability = Deliverability(
        delay=random.choice((0.01, 1.0, 20.0)),
        loss=random.choice((0.0, 0.0, 0.3, 1.0)),
        duplication=random.choice((0.0, 0.5)),
        reordering=random.choice((0.0, 0.3)),
        odd=random.choice((0.0, 0.2)),
    )
    return deliverability if random.random() < 0.4 else None


def _draw_references(random: Random, count: int) -> tuple[str, ...]:
    """Draw names; some would be equal as names of folders if each were made a valid one."""
    if random.random() < 0.8:
        return tuple(f"item-{n}" for n in range(count))
    prefix = random.choice(("", "x" * 200))
    return tuple(f"{prefix}{mark}{n // 3}" for n, mark in zip(range(count), "?:*" * count, strict=False))


def _draw_plan(random: Random, count: int, *, tickets: bool) -> RunPlan:
    cancels = random.choice((0, 1, count))
    read_delay = random.choice((0.0, 0.0, 0.1, 20.0))
    if tickets:
        return RunPlan(random.choice(_LEAVE_TICKETS_BY), random.randint(1, 60), cancels)
    leave_by, after = random.choice(_LEAVE_BY), random.randint(1, 6 * count)
    return RunPlan(leave_by, after, read_delay=read_delay, cancel_on_exit=random.random() < 0.2)


def _draw_fault(random: Random) -> PlannedFault:
    kind = random.choice(sorted(KINDS))
    on = random.choice(_ROUTES)
    if kind in _ONLY_FILES or (kind not in _ONLY_API and random.random() < 0.2):
        on = "download"
    on = _ONLY_ON.get(kind, on)
    if kind == "wrong_json" and on == "deliverables":
        on = "fetch"  # an empty list is a valid response there, and no deliverables would be the truth
    times, after = random.randint(1, 2), random.choice((0, 0, 1, 2, 5))
    return PlannedFault(kind, on, times, after, random.choice((1.0, 20.0, 90.0)))


def durations(random: Random, _: str) -> list[tuple[str, float]]:
    """Return the stages of a short production."""
    return [("Queued", random.uniform(1, 15)), ("Producing", random.uniform(5, 60)), ("Distributing", 10.0)]


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a temporary folder, in memory if the system has a file system for that."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as name:
        yield Path(name)


def run_world(scenario: Scenario, folder: Path, *crash_steps: int) -> WorldResult:
    """Run a scenario: one run that crashes for each of these steps, the planned runs, one without faults."""
    with asyncio.Runner(loop_factory=CrashableLoop) as runner:
        return runner.run(_run_world(scenario, folder, *crash_steps))


async def _run_world(scenario: Scenario, folder: Path, *crash_steps: int) -> WorldResult:
    loop = asyncio.get_running_loop()
    plans: list[tuple[RunPlan, int | None]] = [(scenario.plans[-1], step) for step in crash_steps]
    plans += [(plan, None) for plan in scenario.plans]
    proxy = WebhookProxy() if scenario.deliverability else None
    log: list[str] = []
    with capture_log(log):
        async with make_simulator(scenario) as simulator, proxy.serve(simulator) if proxy else nullcontext():
            assert isinstance(loop, CrashableLoop)  # for the type checker
            machine = Machine(loop)
            result = WorldResult(scenario, simulator, folder, log=log, naps=machine.naps)
            _plan_changes(scenario, loop, machine, simulator)
            loop.set_exception_handler(lambda _, context: result.problems.append(_loop_problem(context)))
            processes = [await _run(result, plan, crash_at, proxy, machine) for plan, crash_at in plans]
            simulator.faults.clear()
            await _run(result, RunPlan(), None, proxy, machine)
            await asyncio.sleep(1)
            result.ended_at = loop.time()
            loop.set_exception_handler(lambda _, __: None)
            for process in processes:
                await process.drain()
    return result


def _plan_changes(scenario: Scenario, loop: CrashableLoop, machine: Machine, simulator: Simulator) -> None:
    """Let the clocks and the server change when the scenario says so."""
    for change in scenario.clock_changes:
        if change.kind == "set":
            loop.call_at(change.at, machine.set_clock, change.seconds)
        else:
            stops_clock = change.kind == "sleep without its clock"
            loop.call_at(change.at, partial(machine.sleep, change.seconds, stops_clock=stops_clock))
    for release in scenario.releases:
        options = asdict(release, recurse=False)
        loop.call_at(options.pop("at"), partial(simulator.deploy, **options))


def _loop_problem(context: dict[str, Any]) -> str:
    return f"the event loop reports: {context.get('message')} {context.get('exception')!r}"


def make_simulator(scenario: Scenario) -> Simulator:
    """Make the simulator of a scenario, with its faults."""
    simulator = Simulator(
        seed=scenario.seed,
        tier=scenario.tier,
        daily_quotas=False,
        idempotency_keys=scenario.server_keys,
        durations=durations,
        failure_rate=scenario.failure_rate,
        expiry_rate=scenario.expiry_rate,
        approval="auto",
        spend_ceiling=scenario.spend_ceiling,
        latency=scenario.latency,
        deliverability=scenario.deliverability or Deliverability(),
        blob_storage=scenario.blob_storage,
    )
    for fault in scenario.faults:
        simulator.faults.add(
            fault.kind,
            on=fault.on,
            times=fault.times,
            after=fault.after,
            seconds=fault.seconds,
            probability=fault.probability,
        )
    return simulator


def make_requests(simulator: Simulator, references: Sequence[str]) -> list[ProductionRequest]:
    """Make requests whose topic is their reference, so that the simulator's productions show it."""
    return [
        request_for(simulator, topic=reference, reference=reference, project_type="article")
        for reference in references
    ]


def _cursors(result: WorldResult) -> dict[str, int]:
    """Return the cursor of the last event that each reader handled; some outcomes are read again."""
    return {
        event.reference: event.cursor
        for record in result.runs
        for event in record.events
        if not is_written_once(event)
    }


def is_written_once(event: Event) -> bool:
    """Whether a run that changes nothing ends with this event again, in place of a new one."""
    if not isinstance(event, Finished):
        return False
    return event.outcome.is_final or event.outcome.state is OutcomeState.UNCERTAIN


async def _run(
    result: WorldResult, plan: RunPlan, crash_at: int | None, proxy: WebhookProxy | None, machine: Machine
) -> CrashableProcess:
    scenario, loop = result.scenario, asyncio.get_running_loop()
    assert isinstance(loop, CrashableLoop)  # for the type checker
    process = CrashableProcess(machine, loop, crash_at)
    program = Program(
        api_key=result.simulator.api_key,
        base_url=result.simulator.base_url,
        requests=make_requests(result.simulator, scenario.references),
        folder=result.folder,
        idempotency_keys=scenario.uses_keys(loop.time()),
        concurrency=scenario.concurrency,
        tickets=scenario.tickets,
        seed=f"{scenario.seed}:{len(result.runs)}",
        webhooks=proxy,
        cursors=_cursors(result),
    )
    record = RunRecord(plan, lambda: process.steps, loop.server_time, loop.time())
    result.runs.append(record)
    await process.run(program.run(plan, record))
    record.crashed = process.crashed
    result.steps.append(process.steps)
    if not process.crashed:
        await asyncio.sleep(0.5)  # until the connections are closed
        if not machine.awake.is_set():
            await machine.awake.wait()
            await asyncio.sleep(0.5)
        left: list[object] = [task for task in process.tasks if not task.done()]
        left += [transport for transport in process.transports if not transport.is_closing()]
        result.problems += [f"leaked: {leak!r}" for leak in left]
        if record.free_slots not in (0, scenario.concurrency):
            result.problems.append(f"{record.free_slots} of {scenario.concurrency} slots were released")
    return process


@contextmanager
def capture_log(messages: list[str]) -> Iterator[None]:
    """Append everything that is logged to `messages`."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler, root = Handler(), logging.getLogger()
    root.addHandler(handler)
    level = root.level
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
