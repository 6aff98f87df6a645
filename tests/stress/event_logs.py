"""The recorded event logs of fixed worlds: a change of structure must reproduce every one of them.

Each world is a seed of the campaign, some of them with crashes, some with webhooks. Its log holds every event
that the program received, by reference, with its time, and how often each route answered with which status.
Only a digest of each log is kept in `event_logs.txt`. To see what a change did to a world, print its log
before and after the change (`python -m tests.stress logs --show WORLD`) and compare the two.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from jarai_async import DeliverablesReady, Downloaded, Event, Finished, StatusChanged
from tests.stress.campaign import scenario_of
from tests.stress.worlds import Played, play, scratch

RECORDED = Path(__file__).with_name("event_logs.txt")
_CRASH_STEPS = (12, 40, 77, 120)

World = tuple[str, tuple[int, ...]]  # a seed, and the steps at which the program crashes


def worlds() -> Iterator[World]:
    """Give every recorded world."""
    for seed in range(100):
        yield f"seed-{seed}", ()
    for seed in range(10):
        for step in _CRASH_STEPS:
            yield f"crash-{seed}", (step,)
            yield f"crash-{seed}", (step, step // 3)


def name_of(world: World) -> str:
    """Give the name under which a world is recorded."""
    seed, crashes = world
    return "-".join([seed, *map(str, crashes)])


def event_log(world: World) -> str:
    """Run a world and give its log."""
    seed, crashes = world
    with scratch() as folder:
        return "".join(f"{line}\n" for line in _lines(play(scenario_of(seed), folder, *crashes)))


def digest(log: str) -> str:
    """Give what is recorded of a log."""
    return hashlib.sha256(log.encode()).hexdigest()[:16]


def recorded() -> dict[str, str]:
    """Give the recorded digest of each world, by its name."""
    return dict(line.split() for line in RECORDED.read_text(encoding="utf-8").splitlines())


def _lines(played: Played) -> Iterator[str]:
    for number, seen in enumerate(played.seen):
        yield f"run {number}{', crashed' if seen.died else ''}"
        by_reference = sorted(seen.events, key=lambda event: event.reference)  # stable: in order for each
        yield from map(_line, by_reference)
    statuses = Counter((str(one.route), str(one.status)) for one in played.simulator.requests)
    yield from (f"{route} {status}: {count}" for (route, status), count in sorted(statuses.items()))


def _line(event: Event) -> str:
    production_id = event.production.id if event.production else "-"
    what = f"{event.reference} {event.sequence} {event.observed_at.isoformat()} {production_id}"
    return f"{what} {type(event).__name__} {_details(event)}".rstrip()


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
