"""What the command line shows: progress where a person watches, JSON lines where a program reads."""

import json
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jarai_async._api.models import Account, Deliverable, Production, Status
from jarai_async._errors import JaraiError
from jarai_async._events import (
    DeliverablesReady,
    Downloaded,
    Event,
    Finished,
    OutcomeState,
    StatusChanged,
)
from jarai_async._forecast.plan import TARGET_LAG, Plan
from jarai_async._journal.entries import Intent, Stage

_STAGES: tuple[str, ...] = (
    Status.QUEUED,
    Status.PRODUCING,
    Status.AWAITING_APPROVAL,
    Status.DISTRIBUTING,
    Status.PUBLISHED,
)
_DURATIONS = "durations are those of the documented phase times; yours may differ"
_NOTES = 20  # lines at most before the last one
_USUAL = (OutcomeState.PUBLISHED, OutcomeState.FAILED, OutcomeState.REJECTED)


class Tally:
    """Counts what became of a batch."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.running: dict[str, Production] = {}
        self.ends: Counter[OutcomeState] = Counter()
        self.incomplete = 0
        self.notes: list[str] = []
        """One line for each request that is not all right."""
        self._known: set[str] = set()
        self._begun: set[str] = set()

    @property
    def begun(self) -> int:
        """How many were submitted, by this process or an earlier one."""
        return len(self._begun)

    def add(self, event: Event) -> None:
        """Count one event."""
        if event.production is not None:
            self._known.add(event.production.id)
            self.running[event.reference] = event.production
            self._begun.add(event.reference)
        if isinstance(event, Finished):
            outcome = event.outcome
            self.running.pop(event.reference, None)
            self.ends[outcome.state] += 1
            if outcome.state in (OutcomeState.REJECTED, OutcomeState.UNCERTAIN):
                self._begun.add(event.reference)
            self.incomplete += outcome.state is OutcomeState.PUBLISHED and not outcome.ok
            if not outcome.ok:
                self.notes.append(str(outcome))

    @property
    def ok(self) -> bool:
        """Whether everything was published and collected."""
        return self.ends[OutcomeState.PUBLISHED] == self.total and not self.incomplete

    def summary(self, *, interrupted: bool, created: Collection[str] = ()) -> str:
        """Say it in one line.

        Lost is what was accepted, but has no outcome though the batch has ended; and what was created
        without being known here, where a simulator tells that.
        """
        lost = len(set(created) - self._known) + (0 if interrupted else len(self.running))
        others = [state for state in OutcomeState if state not in _USUAL and self.ends[state]]
        counts = [f"{self.ends[state]} {state.replace('_', ' ')}" for state in (*_USUAL, *others)]
        if self.incomplete:
            counts.append(f"{self.incomplete} with files missing")
        if interrupted:
            counts += [f"{len(self.running)} still running", f"{self.total - self.begun} not submitted"]
        return f"{self.begun} submitted, {self.ends.total()} finished: {', '.join(counts)}, {lost} lost"


def event_line(event: Event) -> dict[str, Any]:
    """Give an event as JSON values: camelCase like the API's, and without signed URLs."""
    line: dict[str, Any] = {"event": type(event).__name__, "reference": event.reference}
    if event.production is not None:
        line |= {"productionId": event.production.id, "status": event.production.status}
    line |= {"sequence": event.sequence, "observedAt": event.observed_at.isoformat()}
    match event:
        case StatusChanged():
            line |= {"previous": event.previous, "changedAfter": event.changed_after.isoformat()}
        case DeliverablesReady():
            line |= {"final": event.final, "deliverables": [one.type for one in event.deliverables]}
        case Downloaded():
            line |= {"type": event.deliverable.type, "path": str(event.path)}
        case Finished():
            outcome = event.outcome
            line |= {"outcome": outcome.state, "files": len(outcome.files), "requests": outcome.request_count}
            line |= {"error": str(outcome.error) if outcome.error else None}
    return line


def intent_line(intent: Intent) -> dict[str, Any]:
    """Give an entry of the journal as JSON values; the key only where it may be needed to look it up."""
    line: dict[str, Any] = {"reference": intent.reference, "stage": intent.stage}
    if intent.production is not None:
        line |= {"productionId": intent.production.id, "status": intent.production.status}
    if intent.sent_at is not None:
        line |= {"sentAt": datetime.fromtimestamp(intent.sent_at, UTC).isoformat()}
    if intent.stage is Stage.IN_DOUBT:
        line |= {"accountId": intent.account_id, "idempotencyKey": intent.key}
    if intent.outcome is not None:
        line |= {"outcome": intent.outcome.get("state"), "files": len(intent.files)}
    return line


def production_line(production: Production) -> dict[str, Any]:
    """Give a production as JSON values."""
    return {"productionId": production.id, "status": production.status, "errorCode": production.error_code}


def deliverable_line(deliverable: Deliverable, path: Path | None) -> dict[str, Any]:
    """Give a deliverable as JSON values: with its path once it is fetched, else with its signed URL."""
    line = {"type": deliverable.type, "platform": deliverable.platform, "size": deliverable.size}
    return line | ({"path": str(path)} if path else {"url": deliverable.url})


def account_line(account: Account) -> dict[str, Any]:
    """Give an account as JSON values."""
    return {"accountId": account.id, "name": account.name, "avatars": [one.id for one in account.avatars]}


def plan_line(plan: Plan) -> dict[str, Any]:
    """Give a plan as JSON values; times are in seconds."""
    return {
        "productions": plan.productions,
        "tier": plan.tier,
        "concurrency": plan.concurrency,
        "recommendedConcurrency": plan.recommended,
        "expectedSeconds": round(plan.duration),
        "days": plan.days,
        "requests": plan.requests,
        "meanLagSeconds": round(plan.lag, 1),
        "warnings": plan.warnings,
        "durations": _DURATIONS,
    }


def print_plan(plan: Plan, *, recommended: bool) -> None:
    """Print a plan: a table for a person, one JSON line for a program."""
    if not sys.stdout.isatty():
        print_line(plan_line(plan))
        return
    why = f", recommended: the most whose changes are seen within about {TARGET_LAG:.0f} s on average"
    rows = {
        "productions": f"{plan.productions:,}",
        "tier": plan.tier,
        "concurrency": f"{plan.concurrency:,}{why if recommended else ''}",
        "expected finish": f"{_duration(plan.duration)} after the start",
        "requests": f"about {plan.requests:,}",
        "mean lag": f"{plan.lag:.0f} s from a change to its event",
    }
    lines = [f"{name:<17}{value}" for name, value in rows.items()]
    for line in [*lines, *(f"{'warning':<17}{text}" for text in plan.warnings), f"({_DURATIONS})"]:
        print(line)  # noqa: T201


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


def print_line(line: dict[str, Any]) -> None:
    """Print one JSON line, at once: a program may be waiting for it."""
    print(json.dumps(line), flush=True)  # noqa: T201


def print_error(error: JaraiError | str) -> None:
    """Tell a person."""
    print(f"jarai: {error}", file=sys.stderr, flush=True)  # noqa: T201


def abandon_output() -> None:
    """Write nowhere from now on, where nobody reads: Python would fail again on leaving, and say so."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def conclude(notes: list[str], summary: str) -> None:
    """Give the last lines: for a person, and where a program reads for that program, too."""
    terminal = sys.stdout.isatty()
    if not terminal:
        try:
            print_line({"event": "Summary", "summary": summary})
        except OSError:
            abandon_output()
    more = [f"and {len(notes) - _NOTES} more"] if len(notes) > _NOTES else []
    for line in [*notes[:_NOTES], *more, summary]:
        print(line, file=sys.stdout if terminal else sys.stderr, flush=True)


Shown = Callable[[Event], None]


def progress(tally: Tally, finish: Callable[[], datetime | None]) -> AbstractContextManager[Shown]:
    """Show events as they come: a progress bar on a terminal (with rich), JSON lines elsewhere."""
    if not sys.stdout.isatty():
        return _json_lines()
    try:
        import rich.progress
    except ImportError:
        print_error("for a progress bar: pip install 'jarai-async[cli]'")
        return _json_lines()
    return _progress_bar(rich.progress, tally, finish)


@contextmanager
def _json_lines() -> Iterator[Shown]:
    yield lambda event: print_line(event_line(event))


@contextmanager
def _progress_bar(rich: Any, tally: Tally, finish: Callable[[], datetime | None]) -> Iterator[Shown]:
    columns = (
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TextColumn("{task.description}"),
        rich.TimeElapsedColumn(),
    )
    with rich.Progress(*columns) as bar:
        task = bar.add_task("submitting", total=tally.total)
        due, until = 0.0, ""

        def show(_: Event) -> None:
            nonlocal due, until
            if bar.get_time() >= due:  # once a second: it takes some ten milliseconds
                due = bar.get_time() + 1.0
                moment = finish()
                until = f"until {moment:%b %d %H:%M} UTC: " if moment else ""
            bar.update(task, completed=tally.ends.total(), description=until + _description(tally))

        yield show


def _description(tally: Tally) -> str:
    """Say how many are still to be submitted, where the others stand, and how many are not all right."""
    statuses: Counter[str] = Counter(production.status for production in tally.running.values())
    counts = {"to submit": tally.total - tally.begun}
    counts |= {stage: statuses.pop(stage, 0) for stage in _STAGES} | dict(statuses)
    counts["not published"] = len(tally.notes)
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count > 0)


async def for_each(ids: Sequence[str], ask: Callable[[str], Awaitable[dict[str, Any]]]) -> int:
    """Print a line for each, and give the exit code; one that fails keeps no other from being asked."""
    code = 0
    for one in ids:
        try:
            print_line(await ask(one))
        except JaraiError as error:
            print_error(f"{one}: {error}")
            code = 1
    return code
