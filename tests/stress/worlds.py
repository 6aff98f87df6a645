"""One world of the campaign: a simulator with faults, and the lives of a program in it.

`draw` makes a scenario of a seed, `play` lives it and gives what was seen and what was truly the case;
whether both agree is `_truth`'s to say.
"""

import asyncio
import logging
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random
from typing import Any

from attrs import define, field, frozen

from jarai_async import ProductionRequest
from jarai_async.simulator import Deliverability, Simulator
from jarai_async.simulator._api.fault_kinds import KINDS
from jarai_async.simulator._api.rate_limits import TierName
from tests.stress.crashes import CrashableLoop
from tests.stress.crashes import Life as CrashableProcess
from tests.stress.mailbox import Mailbox
from tests.stress.program import Leaving, Life, Program, Seen

_MEMORY = Path("/dev/shm")  # noqa: S108  # a disk that is one by name only: what is tested is not the disk
_ONLY_API = {"missing_id", "missing_id_and_location", "other_production", "unknown_status", "unauthorized"}
_ONLY_FILES = {"expired", "wrong_length", "bit_flip"}  # as described: TLS does not let them into the API
_ROUTES = ("submit", "submit", "submit", "fetch", "fetch", "deliverables", "cancel")
_LEAVINGS: tuple[Leaving, ...] = ("break", "timeout", "raise")
_TICKET_LEAVINGS: tuple[Leaving, ...] = ("end", "break", "timeout")
_TIERS: tuple[TierName, ...] = ("enterprise",) * 4 + ("standard",) * 2


@frozen
class Trouble:
    """One order for a fault."""

    kind: str
    on: str
    times: int | None
    after: int
    seconds: float
    probability: float = 1.0


@frozen
class Scenario:
    """All that is decided before a world begins."""

    seed: str
    count: int
    concurrency: int
    server_keys: bool
    client_keys: bool
    tickets: bool
    tier: TierName
    latency: float
    ceiling: int | None
    failure_rate: float
    expiry_rate: float
    troubles: tuple[Trouble, ...]
    lives: tuple[Life, ...]
    deliverability: Deliverability | None


@define
class Played:
    """What came of a scenario."""

    scenario: Scenario
    simulator: Simulator
    folder: Path
    seen: list[Seen]
    steps: list[int]
    log: list[str]
    faults: list[str] = field(factory=list)
    now: float = 0.0

    @property
    def fired(self) -> Counter[str]:
        """How often each kind of fault struck."""
        return self.simulator.faults.fired


def draw(seed: str, *, count: tuple[int, int] = (4, 6)) -> Scenario:
    """Decide a scenario by its seed."""
    random = Random(seed)
    server_keys = random.random() < 0.5
    number = random.randint(*count)
    tickets = random.random() < 0.15
    lives = [_life(random, number, tickets=tickets) for _ in range(random.choice((0, 0, 1, 2)))]
    troubles = [_trouble(random) for _ in range(random.randint(1, 7))]
    if random.random() < 0.1:
        kind = random.choice(
            ("unavailable", "reset_after", "hang_before", "internal_error_after", "rate_limited")
        )
        troubles.append(Trouble(kind, "any", None, random.randint(0, 9), 20.0, 0.4))
    return Scenario(
        seed=seed,
        count=number,
        concurrency=random.choice((1, 2, 3, 10)),
        server_keys=server_keys,
        client_keys=server_keys and random.random() < 0.8,
        tickets=tickets,
        tier=random.choice(_TIERS),
        latency=random.choice((0.0, 0.05, 1.0)),
        ceiling=number - 1 if random.random() < 0.1 else None,
        failure_rate=random.choice((0.0, 0.2)),
        expiry_rate=random.choice((0.0, 0.0, 0.3)),
        troubles=tuple(troubles),
        lives=(*lives, Life(slow=random.choice((0.0, 0.0, 0.1, 20.0)))),
        deliverability=_deliverability(Random(f"{seed}:webhooks")),
    )


def _deliverability(random: Random) -> Deliverability | None:
    how = Deliverability(
        delay=random.choice((0.01, 1.0, 20.0)),
        loss=random.choice((0.0, 0.0, 0.3, 1.0)),
        duplication=random.choice((0.0, 0.5)),
        reordering=random.choice((0.0, 0.3)),
    )
    return how if random.random() < 0.4 else None


def _life(random: Random, count: int, *, tickets: bool) -> Life:
    cancels = random.choice((0, 1, count))
    slow = random.choice((0.0, 0.0, 0.1, 20.0))
    if tickets:
        return Life(random.choice(_TICKET_LEAVINGS), random.randint(1, 60), cancels)
    leaving = random.choice(_LEAVINGS)
    return Life(leaving, random.randint(1, 6 * count), 0, slow, cancel_on_exit=random.random() < 0.2)


def _trouble(random: Random) -> Trouble:
    kind = random.choice(sorted(KINDS))
    on = random.choice(_ROUTES)
    if kind in _ONLY_FILES or (kind not in _ONLY_API and random.random() < 0.2):
        on = "download"
    if kind == "wrong_json" and on == "deliverables":
        on = "fetch"  # a bare list is a list of deliverables, and an empty one is the truth about some
    return Trouble(
        kind, on, random.randint(1, 2), random.choice((0, 0, 1, 2, 5)), random.choice((1.0, 20.0, 90.0))
    )


def durations(random: Random, _: str) -> list[tuple[str, float]]:
    """Give the stages of a short production."""
    return [("Queued", random.uniform(1, 15)), ("Producing", random.uniform(5, 60)), ("Distributing", 10.0)]


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder, in memory where that can be had."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as name:
        yield Path(name)


def play(scenario: Scenario, folder: Path, *deaths: int) -> Played:
    """Live it: the first lives die at these steps, those of the scenario follow, then one without faults."""
    with asyncio.Runner(loop_factory=CrashableLoop) as runner:
        return runner.run(_play(scenario, folder, deaths))


async def _play(scenario: Scenario, folder: Path, deaths: Sequence[int]) -> Played:
    log: list[str] = []
    lives: list[tuple[Life, int | None]] = [(scenario.lives[-1], dies_at) for dies_at in deaths]
    lives += [(life, None) for life in scenario.lives]
    with listening(log):
        mailbox = Mailbox() if scenario.deliverability else None
        subscribed = mailbox.subscribed if mailbox else _unsubscribed
        async with simulator_of(scenario) as simulator, subscribed(simulator):
            played = Played(scenario, simulator, folder, [], [], log)
            _complain_to(played)
            dead = [await _live(played, life, dies_at, mailbox) for life, dies_at in lives]
            simulator.faults.clear()
            await _live(played, Life(), None, mailbox)
            await asyncio.sleep(1)
            played.now = asyncio.get_running_loop().time()
            asyncio.get_running_loop().set_exception_handler(lambda _, __: None)
            for one in dead:
                await one.drain()
        return played


@asynccontextmanager
async def _unsubscribed(_: Simulator) -> AsyncIterator[None]:
    yield


def simulator_of(scenario: Scenario) -> Simulator:
    """Make the world of a scenario, with its faults."""
    simulator = Simulator(
        seed=scenario.seed,
        tier=scenario.tier,
        daily_quotas=False,
        idempotency_keys=scenario.server_keys,
        durations=durations,
        failure_rate=scenario.failure_rate,
        expiry_rate=scenario.expiry_rate,
        approval="auto",
        spend_ceiling=scenario.ceiling,
        latency=scenario.latency,
        deliverability=scenario.deliverability or Deliverability(),
    )
    for one in scenario.troubles:
        simulator.faults.add(
            one.kind,
            on=one.on,
            times=one.times,
            after=one.after,
            seconds=one.seconds,
            probability=one.probability,
        )
    return simulator


def requests_for(simulator: Simulator, count: int) -> list[ProductionRequest]:
    """Make requests whose topic is their reference, so that the truth can be told by it."""
    return [
        ProductionRequest(
            topic=f"item-{n}",
            account_id=simulator.account_id,
            language_id=simulator.language_id,
            country_id=simulator.country_id,
            avatar_id=simulator.avatar_id,
            project_type="article",
            reference=f"item-{n}",
        )
        for n in range(count)
    ]


async def _live(played: Played, life: Life, dies_at: int | None, mailbox: Mailbox | None) -> CrashableProcess:
    scenario, simulator = played.scenario, played.simulator
    loop = asyncio.get_running_loop()
    assert isinstance(loop, CrashableLoop)  # for the type checker
    mortal = CrashableProcess(loop, dies_at)
    program = Program(
        simulator.api_key,
        simulator.base_url,
        requests_for(simulator, scenario.count),
        played.folder,
        scenario.client_keys,
        scenario.concurrency,
        scenario.tickets,
        f"{scenario.seed}:{len(played.seen)}",
        mailbox,
    )
    seen = Seen(life, lambda: mortal.steps)
    played.seen.append(seen)
    seen.died = not await mortal.live(program.run(life, seen))
    played.steps.append(mortal.steps)
    if not seen.died:
        await asyncio.sleep(0.5)  # connections take a moment to close
        left: list[object] = [task for task in mortal.tasks if not task.done()]
        left += [one for one in mortal.sockets if not one.is_closing()]
        played.faults += [f"left behind: {one!r}" for one in left]
        if seen.permits not in (0, scenario.concurrency):
            played.faults.append(f"{seen.permits} of {scenario.concurrency} places came back")
    return mortal


def _complain_to(played: Played) -> None:
    def complain(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        played.faults.append(f"the loop complains: {context.get('message')} {context.get('exception')!r}")

    asyncio.get_running_loop().set_exception_handler(complain)


@contextmanager
def listening(log: list[str]) -> Iterator[None]:
    """Take down all that is logged."""

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            log.append(record.getMessage())

    listener, root = Listener(), logging.getLogger()
    root.addHandler(listener)
    level = root.level
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(listener)
