"""The invariants that must hold in every world: what the program observed is true and complete.

Each function returns the violations that it finds, as sentences. The simulator knows what really happened.
"""

import json
import math
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from jarai_async import Downloaded, Event, Finished, Outcome, OutcomeState, Submitted
from jarai_async._http.submit_retry import KEY_VALID
from jarai_async.simulator import SimulatedProduction
from jarai_async.simulator._api.request_log import RequestRecord
from tests.stress.program import FILES, JOURNAL, RunRecord
from tests.stress.worlds import WorldResult, is_written_once

_EXPIRED = "PRODUCTION_EXPIRED"
MANIFEST = "manifest.json"

_SELECT_OUTCOMES = """
SELECT reference, sequence FROM events JOIN intents ON intents.id = events.intent WHERE kind = 'Finished'
"""


def violations(result: WorldResult) -> list[str]:
    """Return all violations."""
    return [
        *result.problems,
        *final_violations(result),
        *_check_events(result),
        *_check_cancels(result),
        *_check_rate_limit(result),
        *_check_lists(result),
        *_check_submits_in_doubt(result),
    ]


def final_violations(result: WorldResult) -> list[str]:
    """Return the violations that the last run and what it leaves behind show."""
    return [
        *_check_submits(result),
        *_check_outcomes(result),
        *_check_files(result),
        *_check_disk(result),
        *_check_secrets(result),
    ]


def productions_of(result: WorldResult) -> dict[str, list[SimulatedProduction]]:
    """Return the productions that were created for each reference, in order."""
    created = defaultdict(list)
    for production in result.simulator.productions.values():
        created[production.body["topic"]].append(production)
    return created


def _check_submits(result: WorldResult) -> Iterator[str]:
    """No request is submitted twice, except to replace a production that had expired."""
    for reference, created in productions_of(result).items():
        if len(created) > 2:
            yield f"{reference} was created {len(created)} times"
        for first, second in pairwise(created):
            if not _has_expired(first, second.submitted_at):
                yield f"{reference} was created twice"


def _has_expired(production: SimulatedProduction, now: float) -> bool:
    error = production.error_at(now)
    return error is not None and error[0] == _EXPIRED


def _check_outcomes(result: WorldResult) -> Iterator[str]:
    """Every request has an outcome, and it is true."""
    last, created = result.runs[-1], productions_of(result)
    for reference in result.scenario.references:
        outcome = last.outcomes.get(reference)
        if outcome is None:
            yield f"{reference} is lost"
        elif outcome.state is OutcomeState.UNCERTAIN:
            keys_expired = any(change.seconds > KEY_VALID for change in result.scenario.clock_changes)
            must_be_known = result.scenario.client_keys and result.scenario.spend_ceiling is None
            plans = result.scenario.plans
            cancels = max((plan.cancels for plan in plans), default=0)  # which end the submits, too
            if must_be_known and not keys_expired and reference not in result.scenario.references[:cancels]:
                yield f"{reference} is still uncertain: {outcome.error}"
        else:
            yield from _check_outcome(outcome, created[reference], result.ended_at)
    for record in result.runs:
        yield from _check_rejections(record, created)
        for event in record.events:
            if event.production is None:
                continue
            production = result.simulator.productions.get(event.production.id)
            if production is None or production.body["topic"] != event.reference:
                yield f"{event.reference} got an event of another production: {event}"


def _check_rejections(record: RunRecord, created: dict[str, list[SimulatedProduction]]) -> Iterator[str]:
    """No request is reported as rejected after a production was created for it."""
    for outcome in record.outcomes.values():
        if outcome.state is OutcomeState.REJECTED and outcome.production is None:
            for production in created.get(outcome.reference, []):
                ended_at = record.ended_at[outcome.reference]
                if production.submitted_at < ended_at and not _has_expired(production, ended_at):
                    yield f"{outcome}, but it had been created"


def _check_outcome(outcome: Outcome, created: list[SimulatedProduction], now: float) -> Iterator[str]:
    if outcome.production is None:
        nothing_exists = not created or _has_expired(created[-1], now)
        if outcome.state not in (OutcomeState.REJECTED, OutcomeState.CANCELLED) or not nothing_exists:
            yield f"{outcome}, but {len(created)} were created"
        return
    if not created or created[-1].production_id != outcome.production.id:
        yield f"{outcome}, but {outcome.production.id} is not the production that was created last"
        return
    status = created[-1].status_at(now)
    if status != outcome.production.status or status.lower() != outcome.state:
        yield f"{outcome}, but it is {status}"
    if outcome.state is OutcomeState.PUBLISHED and not outcome.ok:
        yield f"{outcome} is incomplete, although the last run has no faults"


def _check_cancels(result: WorldResult) -> Iterator[str]:
    """A request whose cancel has returned is cancelled in the end, whatever happened afterwards."""
    for reference in {reference for record in result.runs for reference in record.cancelled}:
        outcome = result.runs[-1].outcomes.get(reference)
        if outcome is not None and outcome.state is not OutcomeState.CANCELLED:
            yield f"{outcome}, but its cancel had returned"


def _check_files(result: WorldResult) -> Iterator[str]:
    """Every file is complete, and nothing else is in its folder but partial downloads."""
    for outcome in result.runs[-1].outcomes.values():
        if not outcome.ok or outcome.production is None:
            continue
        files = result.files(outcome.production.id)
        folders = {path.parent for path in outcome.files}
        if len(outcome.files) != len(files) or len(folders) != 1:
            yield f"{outcome}, but there are {len(files)} files"
            continue
        (folder,) = folders
        for name, data in files.items():
            if not (folder / name).is_file() or (folder / name).read_bytes() != data:
                yield f"{outcome}, but {name} is wrong or missing"
        names = {path.name for path in folder.iterdir() if not path.name.endswith(".part")}
        if names != {*files, MANIFEST}:
            yield f"{outcome}, but the folder has {sorted(names)}"


def _check_disk(result: WorldResult) -> Iterator[str]:
    """What was reported as downloaded is there, and each folder has complete files of one production only."""
    everything = {name: result.files(name) for name in result.simulator.productions}
    for record in result.runs:
        for event in record.events:
            if isinstance(event, Downloaded) and not _is_one_of(event.path, everything[event.production.id]):
                yield f"{event}, but it is not there"
    for folder in (result.folder / FILES).glob("*"):
        paths = [path for path in folder.iterdir() if path.name != MANIFEST and path.suffix != ".part"]
        owners = list(everything)
        if (folder / MANIFEST).exists():
            owners = [json.loads((folder / MANIFEST).read_text("utf-8"))["productionId"]]
        if not any(all(_is_one_of(path, everything[owner]) for path in paths) for owner in owners):
            yield f"{folder.name} has files that are not of {owners}: {sorted(path.name for path in paths)}"


def _is_one_of(path: Path, files: Mapping[str, bytes]) -> bool:
    return path.is_file() and path.read_bytes() == files.get(path.name)


def _check_events(result: WorldResult) -> Iterator[str]:
    """The events of each run are in order and without gaps, and each run continues where the last ended."""
    left_out = _outcomes_in_journal(result)
    for number, record in enumerate(result.runs, start=1):
        for events in _by_reference(record).values():
            found = _check_order(events, left_out, is_run=not result.scenario.tickets)
            yield from (f"run {number}: {violation}" for violation in found)
        if record.complete and len(record.outcomes) != len(result.scenario.references):
            yield f"run {number}: {len(record.outcomes)} outcomes"
    if result.scenario.tickets:
        yield from _check_cursors(result)
    else:
        yield from _check_resumed(result, left_out)
        yield from _check_submitted_events(result)


def _check_cursors(result: WorldResult) -> Iterator[str]:
    """A reader that continues behind its cursor misses no event, and receives none twice."""
    handled: Counter[str] = Counter()
    for number, record in enumerate(result.runs, start=1):
        for reference, (first, *others) in _by_reference(record).items():
            last = others[-1] if others else first
            if first.sequence != handled[reference] + 1:
                before = handled[reference]
                yield f"run {number}: the cursor of {reference} led from {before} to {first.sequence}"
            handled[reference] = last.sequence - is_written_once(last)


def _check_resumed(result: WorldResult, left_out: set[tuple[str, int]]) -> Iterator[str]:
    """A run repeats no event that an earlier run had handled.

    The exceptions are the last event that a run handled, as it may have ended before it acknowledged that,
    and the outcome of a submit that is still in doubt. A run may leave out outcomes that were not final.
    """
    handled: Counter[str] = Counter()  # the number of the last event that was handled, by reference
    last: set[tuple[str, int]] = set()  # the events that may be repeated
    over: set[str] = set()
    for number, record in enumerate(result.runs, start=1):
        for reference, events in _by_reference(record).items():
            first = events[0]
            if reference in over:
                if not isinstance(first, Finished):
                    yield f"run {number}: {reference} had ended, but got {first}"
            elif (reference, first.sequence) not in last and not (
                left_out >= {(reference, n) for n in range(handled[reference] + 1, first.sequence)}
                and first.sequence > handled[reference]
            ):
                yield f"run {number}: {reference} got event {first.sequence} after {handled[reference]}"
        acknowledged = record.handled if record.complete else record.handled - 1
        for position, event in enumerate(record.events[: record.handled]):
            handled[event.reference] = max(handled[event.reference], event.sequence)
            if position < acknowledged and isinstance(event, Finished) and event.outcome.is_final:
                over.add(event.reference)
            elif is_written_once(event):
                last.add((event.reference, event.sequence))
        if record.handled:
            event = record.events[record.handled - 1]
            last.add((event.reference, event.sequence))


def _outcomes_in_journal(result: WorldResult) -> set[tuple[str, int]]:
    """Return the number of each `Finished` in the journal."""
    with closing(sqlite3.connect(result.folder / JOURNAL)) as database:
        return {*database.execute(_SELECT_OUTCOMES)}


def _by_reference(record: RunRecord) -> dict[str, list[Event]]:
    events = defaultdict(list)
    for event in record.events:
        events[event.reference].append(event)
    return events


def _check_order(events: list[Event], left_out: set[tuple[str, int]], *, is_run: bool) -> Iterator[str]:
    """Check the events of one request. Only the reader of a ticket sees the outcomes that were not final."""
    numbers = [event.sequence for event in events]
    missing = {(events[0].reference, number) for number in range(numbers[0], numbers[-1])}
    missing -= {(event.reference, event.sequence) for event in events}
    if numbers != sorted({*numbers}) or not missing <= left_out:
        yield f"{events[0].reference} got the events {numbers}"
    if any(isinstance(event, Finished) and (is_run or event.outcome.is_final) for event in events[:-1]):
        yield f"{events[0].reference} got events after Finished"


def _check_submitted_events(result: WorldResult) -> Iterator[str]:
    """Every production with an outcome had a Submitted event."""
    events = [event for record in result.runs for event in record.events]
    submitted = {event.production.id for event in events if isinstance(event, Submitted)}
    for outcome in result.runs[-1].outcomes.values():
        if outcome.production is not None and outcome.production.id not in submitted:
            yield f"{outcome}, without a Submitted event"


def _check_rate_limit(result: WorldResult) -> Iterator[str]:
    """The client causes no 429. It may after a crash, which loses the record of what was sent."""
    if result.simulator.rate_limited and not any(record.crashed for record in result.runs):
        yield f"{result.simulator.rate_limited} requests exceeded the rate limit"


def _check_lists(result: WorldResult) -> Iterator[str]:
    """However its downloads fail, the files of a production are listed twice a minute at most.

    More often only where the list itself fails, or where a new run lists it again: as it begins, a request of
    each process that crashed just before may arrive, too.
    """
    failing = [fault.times for fault in result.scenario.faults if fault.on in ("deliverables", "any")]
    most = math.inf if None in failing else 2 + sum(times for times in failing if times)
    crashed_before = 0
    for record, requests in _requests_by_run(result):
        listed = defaultdict(list)
        for request in requests:
            if request.route == "deliverables":
                listed[request.target].append(request.arrived)
        for target, times in listed.items():
            for first in times:
                if sum(first <= time < first + 60 for time in times) > most + crashed_before:
                    yield f"{target} was listed too often: {times}"
                    break
        crashed_before = crashed_before + 1 if record.crashed else 0


def _check_submits_in_doubt(result: WorldResult) -> Iterator[str]:
    """After a submit in doubt none is sent until a read is answered, so an outage leaves few in doubt."""
    latency = result.scenario.latency
    for record, requests in _requests_by_run(result):
        answered_at = -math.inf  # when the last read arrived that was answered
        sent_at = in_doubt_at = -math.inf  # when the last submit in doubt arrived, and its response left
        for request in requests:
            if request.route == "submit":
                on_its_way = request.arrived <= in_doubt_at + 0.1 + 8 * latency  # some take long
                if answered_at < sent_at and not on_its_way:
                    yield f"submitted at {request.arrived}, in doubt since {in_doubt_at}: {record.plan}"
                if request.status in (500, 502):
                    sent_at = request.arrived
                    in_doubt_at = _when_awake(request.arrived + latency, result.naps)
            elif request.method == "GET" and request.route != "download" and (request.status or 500) < 500:
                answered_at = request.arrived


def _when_awake(time: float, naps: list[tuple[float, float]]) -> float:
    """Return when the program could know what happened at a time."""
    return max([time, *(end for start, end in naps if start <= time < end)])


def _requests_by_run(result: WorldResult) -> Iterator[tuple[RunRecord, list[RequestRecord]]]:
    ends = [*(record.began_at for record in result.runs[1:]), math.inf]
    for record, end in zip(result.runs, ends, strict=True):
        requests = result.simulator.requests
        yield record, [request for request in requests if record.began_at <= request.arrived < end]


def _check_secrets(result: WorldResult) -> Iterator[str]:
    """The API key and signed URLs are in the requests that need them, and nowhere else."""
    yield from (f"an API key was sent to another origin: {leak}" for leak in result.simulator.leaks)
    texts = {"the log": "\n".join(result.log)}
    texts["an event"] = "\n".join(f"{event!r}" for record in result.runs for event in record.events)
    for path in _written_files(result.folder):
        texts[path.name] = str(path) + path.read_bytes().decode("latin-1")
    for place, text in texts.items():
        for secret in (re.escape(result.simulator.api_key), "[?&]sig="):  # base64 may end in "sig=", too
            if match := re.search(secret, text):
                yield f"a secret is in {place}: ...{text[match.start() - 60 :][:90]!r}"


def _written_files(folder: Path) -> list[Path]:
    return [*folder.glob(f"{JOURNAL}*"), *(folder / FILES).glob("*/manifest.json")]
