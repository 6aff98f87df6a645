"""Whether what a program was told is the truth, and all of it: the invariants that must hold in every world.

Each function gives the violations that it finds, as sentences; the simulator knows what was truly the case.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from jarai_async import Event, Finished, Outcome, OutcomeState, Submitted
from jarai_async.simulator import SimulatedProduction
from tests.stress.program import FILES, JOURNAL, Seen
from tests.stress.worlds import Played


def violations(played: Played) -> list[str]:
    """All that is not as it must be."""
    return [*played.faults, *lasting(played), *_about_events(played), *_about_limits(played)]


def lasting(played: Played) -> list[str]:
    """What is not as it must be at the end, whatever was told on the way."""
    found = [*_about_submits(played), *_about_outcomes(played)]
    return [*found, *_about_files(played), *_about_secrets(played)]


def executions(played: Played) -> dict[str, list[SimulatedProduction]]:
    """What was truly created for each reference, in order."""
    made = defaultdict(list)
    for one in played.simulator.productions.values():
        made[one.body["topic"]].append(one)
    return made


def _about_submits(played: Played) -> Iterator[str]:
    """None twice, but in the place of one that was never begun."""
    for reference, made in executions(played).items():
        if len(made) > 2:
            yield f"{reference} was created {len(made)} times"
        for before, after in pairwise(made):
            error = before.error_at(after.submitted_at)
            if error is None or error[0] != "PRODUCTION_EXPIRED":
                yield f"{reference} was created twice"


def _about_outcomes(played: Played) -> Iterator[str]:
    """None missing, none untrue."""
    last, made = played.seen[-1], executions(played)
    for n in range(played.scenario.count):
        reference = f"item-{n}"
        outcome = last.outcomes.get(reference)
        if outcome is None:
            yield f"{reference} is lost"
        elif outcome.state is OutcomeState.UNCERTAIN:
            if played.scenario.client_keys and played.scenario.ceiling is None:
                yield f"{reference} is still uncertain: {outcome.error}"
        else:
            yield from _lies(played, outcome, made[reference])
    for seen in played.seen:
        yield from _false_refusals(seen, made)
        for event in seen.events:
            if event.production is None:
                continue
            true = played.simulator.productions.get(event.production.id)
            if true is None or true.body["topic"] != event.reference:
                yield f"{event.reference} was told of a production of another: {event}"


def _false_refusals(seen: Seen, made: dict[str, list[SimulatedProduction]]) -> Iterator[str]:
    """Find, in any life, what was called refused although it had been created by then."""
    for outcome in seen.outcomes.values():
        if outcome.state is OutcomeState.REJECTED and outcome.production is None:
            for one in made.get(outcome.reference, []):
                age = outcome.finished_at.timestamp() - one.submitted_wall
                error = one.error_at(one.submitted_at + age)
                if age > 0 and (error is None or error[0] != "PRODUCTION_EXPIRED"):
                    yield f"{outcome}, but it had been created"


def _lies(played: Played, outcome: Outcome, made: list[SimulatedProduction]) -> Iterator[str]:
    if outcome.production is None:
        true = not made or made[-1].error_at(played.now) == (
            "PRODUCTION_EXPIRED",
            "The production was not picked up in time.",
        )
        if outcome.state not in (OutcomeState.REJECTED, OutcomeState.CANCELLED) or not true:
            yield f"{outcome}, but {len(made)} were created"
        return
    if not made or made[-1].production_id != outcome.production.id:
        yield f"{outcome}, but it is about {outcome.production.id}, not the one that was made last"
        return
    status = made[-1].status_at(played.now)
    if status != outcome.production.status or status.lower() != outcome.state:
        yield f"{outcome}, but it is {status}"
    if outcome.state is OutcomeState.PUBLISHED and not outcome.ok:
        yield f"{outcome} without any fault"


def _about_files(played: Played) -> Iterator[str]:
    """Whole, each of them, and nothing that looks like one and is not."""
    for outcome in played.seen[-1].outcomes.values():
        if not outcome.ok or outcome.production is None:
            continue
        true = played.simulator._blobs.blobs(outcome.production.id, "final")
        folders = {path.parent for path in outcome.files}
        if len(outcome.files) != len(true) or len(folders) != 1:
            yield f"{outcome}, but there are {len(true)}"
            continue
        (folder,) = folders
        for name, blob in true.items():
            if not (folder / name).is_file() or (folder / name).read_bytes() != blob.data:
                yield f"{outcome}, but {name} is not what it should be"
        names = {path.name for path in folder.iterdir() if not path.name.endswith(".part")}
        if names != {*true, "manifest.json"}:
            yield f"{outcome}, but there are {sorted(names)}"


def _about_events(played: Played) -> Iterator[str]:
    """In order and once each; again only the last one that a life dealt with, before it could say so."""
    for number, seen in enumerate(played.seen, start=1):
        for events in _by_reference(seen).values():
            yield from (f"life {number}: {one}" for one in _disorder(events))
        if seen.complete and len(seen.outcomes) != played.scenario.count:
            yield f"life {number}: {len(seen.outcomes)} outcomes"
    if not played.scenario.tickets:  # whose events count as told at once
        yield from _about_lives(played)
        yield from _unannounced(played)


def _about_lives(played: Played) -> Iterator[str]:
    """Each goes on where the one before it had come to."""
    told: Counter[str] = Counter()  # the number of the last event that was dealt with, by reference
    last: set[tuple[str, int]] = set()  # what each life dealt with last
    over: set[str] = set()
    for number, seen in enumerate(played.seen, start=1):
        for reference, events in _by_reference(seen).items():
            first = events[0]
            if reference in over:
                if not isinstance(first, Finished):
                    yield f"life {number}: {reference} had ended, and was told {first}"
            elif first.sequence != told[reference] + 1 and (reference, first.sequence) not in last:
                yield f"life {number}: {reference} goes on at {first.sequence} after {told[reference]}"
        for event in seen.events[: seen.done]:
            told[event.reference] = max(told[event.reference], event.sequence)
            if isinstance(event, Finished) and _is_over(event.outcome):
                over.add(event.reference)
        if seen.done:
            event = seen.events[seen.done - 1]
            last.add((event.reference, event.sequence))


def _is_over(outcome: Outcome) -> bool:
    """Whether a next life has nothing to go on with: it has, where one that expired was refused anew."""
    if outcome.error is not None and "submitting it again failed" in outcome.error.message:
        return False
    return outcome.ok or outcome.state in (OutcomeState.FAILED, OutcomeState.CANCELLED)


def _by_reference(seen: Seen) -> dict[str, list[Event]]:
    sorted_out = defaultdict(list)
    for event in seen.events:
        sorted_out[event.reference].append(event)
    return sorted_out


def _disorder(events: list[Event]) -> Iterator[str]:
    numbers = [event.sequence for event in events]
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        yield f"{events[0].reference} came as {numbers}"
    if any(isinstance(event, Finished) for event in events[:-1]):
        yield f"{events[0].reference} went on after its end"


def _unannounced(played: Played) -> Iterator[str]:
    """Find those that ended, and whose submit was never told of."""
    events = [event for seen in played.seen for event in seen.events]
    submitted = {event.production.id for event in events if isinstance(event, Submitted)}
    for outcome in played.seen[-1].outcomes.values():
        if outcome.production is not None and outcome.production.id not in submitted:
            yield f"{outcome}, and its submit was never told of"


def _about_limits(played: Played) -> Iterator[str]:
    """No more requests than the API takes, where none was made by a process that could not tell of it."""
    if played.simulator.rate_limited and not any(seen.died for seen in played.seen):
        yield f"{played.simulator.rate_limited} requests were over the limit"


def _about_secrets(played: Played) -> Iterator[str]:
    """Neither the key nor a signed URL is anywhere but in the requests that need them."""
    yield from (f"a key went astray: {leak}" for leak in played.simulator.leaks)
    shown = {"the log": "\n".join(played.log)}
    shown["an event"] = "\n".join(f"{event!r}" for seen in played.seen for event in seen.events)
    for path in _kept(played.folder):
        shown[path.name] = str(path) + path.read_bytes().decode("latin-1")
    for where, text in shown.items():
        for secret in (re.escape(played.simulator.api_key), "[?&]sig="):  # base64 may end in "sig=", too
            if found := re.search(secret, text):
                yield f"a secret is in {where}: ...{text[found.start() - 60 :][:90]!r}"


def _kept(folder: Path) -> list[Path]:
    return [*folder.glob(f"{JOURNAL}*"), *(folder / FILES).glob("*/manifest.json")]
