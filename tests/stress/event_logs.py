"""Recorded event logs of fixed worlds: a change that keeps the behaviour must reproduce every one of them.

Some of the worlds have crashes, some have webhooks. The log of a world has every event that the program
received, by reference, with its time, and how often each route responded with which status. The file
`event_logs.txt` keeps a digest of each log. To see what a change did to a world, print the log of the world
before and after the change (`python -m tests.stress logs --show WORLD`) and compare the two.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from jarai_async import DeliverablesReady, Downloaded, Event, Finished, StatusChanged
from tests.stress.worlds import RECORDED_WORLDS, WorldResult, run_world, scenario_of, scratch_folder

RECORDED = Path(__file__).with_name("event_logs.txt")
_CRASH_STEPS = (12, 40, 77, 120)

World = tuple[str, tuple[int, ...]]  # a seed, and the steps at which the program crashes


def worlds() -> Iterator[World]:
    """Yield every recorded world."""
    for seed in range(RECORDED_WORLDS["seed"]):
        yield f"seed-{seed}", ()
    for seed in range(RECORDED_WORLDS["crash"]):
        for step in _CRASH_STEPS:
            yield f"crash-{seed}", (step,)
            yield f"crash-{seed}", (step, step // 3)


def worlds_to_check() -> list[World]:
    """Return the worlds whose logs are the same on this version of Python as on 3.11.

    From Python 3.12 on aiohttp starts its tasks eagerly, so a request takes fewer steps of the event loop.
    That moves the later crashes to other places of the program. And in world seed-98 it changes which of two
    submits is sent first, after both have waited for the same second.
    """
    if sys.version_info < (3, 12):
        return list(worlds())
    return [(seed, steps) for seed, steps in worlds() if seed != "seed-98" and (not steps or steps[0] <= 40)]


def name_of(world: World) -> str:
    """Return the name of a world in the recorded file, and on the command line."""
    seed, steps = world
    return "-".join([seed, *map(str, steps)])


def world_of(name: str) -> World:
    """Return the world of a name. Raises ValueError."""
    kind, number, *steps = name.split("-")
    return f"{kind}-{number}", tuple(map(int, steps))


def event_log(world: World) -> str:
    """Run a world and return its log."""
    seed, steps = world
    with scratch_folder() as folder:
        return "".join(f"{line}\n" for line in _lines(run_world(scenario_of(seed), folder, *steps)))


def digest(log: str) -> str:
    """Return what is recorded of a log."""
    return hashlib.sha256(log.encode()).hexdigest()[:16]


def named_digest(world: World) -> tuple[str, str]:
    """Run a world and return its name and what is to be recorded of it."""
    return name_of(world), digest(event_log(world))


def recorded() -> dict[str, str]:
    """Return the recorded digest of each world, by name."""
    return dict(line.split() for line in RECORDED.read_text(encoding="utf-8").splitlines())


def record(digests: Mapping[str, str]) -> None:
    """Write the file of recorded digests again."""
    lines = [f"{name} {digest}\n" for name, digest in digests.items()]
    RECORDED.write_text("".join(lines), encoding="utf-8")


def how_to_compare(name: str) -> str:
    """Return what to do about a log that differs from the recorded one."""
    return (
        f"The event log of {name} has changed. Print it with and without your change, and compare the two:"
        f" `python -m tests.stress logs --show {name}`. If the new behaviour is intended, record it:"
        " `python -m tests.stress logs --record`."
    )


def _lines(result: WorldResult) -> Iterator[str]:
    for number, record in enumerate(result.runs):
        yield f"run {number}{', crashed' if record.crashed else ''}"
        by_reference = sorted(record.events, key=lambda event: event.reference)  # stable: in order for each
        yield from map(_line, by_reference)
    statuses = Counter((str(request.route), str(request.status)) for request in result.simulator.requests)
    yield from (f"{route} {status}: {count}" for (route, status), count in sorted(statuses.items()))


def _line(event: Event) -> str:
    production_id = event.production.id if event.production else "-"
    fields = f"{event.reference} {event.sequence} {event.observed_at.isoformat()} {production_id}"
    return f"{fields} {type(event).__name__} {_details(event)}".rstrip()


def _details(event: Event) -> str:
    match event:
        case StatusChanged(previous=previous, status=status, changed_after=changed_after):
            return f"{previous} -> {status} after {changed_after.isoformat()}"
        case DeliverablesReady(deliverables=deliverables, final=final):
            return f"{len(deliverables)}{' final' if final else ''}"
        case Downloaded(path=path):
            return path.name
        case Finished(outcome=outcome):
            return f"{outcome.state}, {len(outcome.files)} files, {outcome.request_count} requests"
    return ""
