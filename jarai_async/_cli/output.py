"""Printing: JSON lines on standard output for programs, messages on standard error for people."""

import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any, Final

from jarai_async._cli.json_lines import DURATIONS_NOTE, event_line, plan_line
from jarai_async._cli.report import BatchReport
from jarai_async._errors import JaraiError
from jarai_async._events import Event
from jarai_async._forecast.plan import TARGET_LAG, Plan

_MAX_PROBLEMS: Final = 20  # printed above the summary

ShowEvent = Callable[[Event], None]
ExpectedFinish = Callable[[], datetime | None]


def print_line(line: dict[str, Any]) -> None:
    """Print a JSON line and flush it: a program may be waiting for it."""
    print(json.dumps(line), flush=True)  # noqa: T201


def print_message(message: JaraiError | str) -> None:
    """Print a message on standard error."""
    print(f"jarai: {message}", file=sys.stderr, flush=True)  # noqa: T201


def reason(error: OSError) -> str:
    """Return the system's description of an error, such as "No space left on device"."""
    return error.strerror or str(error)


def discard_output() -> None:
    """Redirect standard output to the null device after it failed: Python would fail to flush it on exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def print_each(ids: Sequence[str], request: Callable[[str], Awaitable[dict[str, Any]]]) -> int:
    """Send a request for each ID, even after an error; print each result, and return the exit code."""
    code = 0
    for id_ in ids:
        try:
            print_line(await request(id_))
        except JaraiError as error:
            print_message(f"{id_}: {error}")
            code = 1
    return code


# --- Plans ---------------------------------------------------------------------------------------


def print_plan(plan: Plan, *, recommended: bool) -> None:
    """Print a plan: as a table on a terminal, else as a JSON line."""
    if not sys.stdout.isatty():
        print_line(plan_line(plan))
        return
    why = f", recommended: the largest with a mean lag of about {TARGET_LAG:.0f} s or less"
    rows = {
        "productions": f"{plan.productions:,}",
        "tier": plan.tier,
        "concurrency": f"{plan.concurrency:,}{why if recommended else ''}",
        "expected finish": f"{_duration(plan.duration)} after the start",
        "requests": f"about {plan.requests:,}",
        "mean lag": f"{plan.lag:.0f} s from a status change to its event",
    }
    lines = [f"{name:<17}{value}" for name, value in rows.items()]
    for line in [*lines, *(f"{'warning':<17}{text}" for text in plan.warnings), f"({DURATIONS_NOTE})"]:
        print(line)  # noqa: T201


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


# --- Batches -------------------------------------------------------------------------------------


def progress(report: BatchReport, expected_finish: ExpectedFinish) -> AbstractContextManager[ShowEvent]:
    """Return a context manager whose value shows an event: in a progress bar on a terminal, else as JSON."""
    if not sys.stdout.isatty():
        return _json_lines()
    try:
        import rich.progress  # noqa: PLC0415  # an optional extra
    except ImportError:
        print_message("no progress bar, because rich is not installed: pip install 'jarai-async[cli]'")
        return _json_lines()
    return _progress_bar(rich.progress, report, expected_finish)


@contextmanager
def _json_lines() -> Iterator[ShowEvent]:
    yield lambda event: print_line(event_line(event))


@contextmanager
def _progress_bar(rich: Any, report: BatchReport, expected_finish: ExpectedFinish) -> Iterator[ShowEvent]:
    columns = (
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TextColumn("{task.description}"),
        rich.TimeElapsedColumn(),
    )
    with rich.Progress(*columns) as bar:
        task = bar.add_task("submitting", total=report.total)
        next_estimate, eta = 0.0, ""

        def show(_: Event) -> None:
            nonlocal next_estimate, eta
            if bar.get_time() >= next_estimate:  # at most once a second: an estimate takes about 10 ms
                next_estimate = bar.get_time() + 1.0
                finish = expected_finish()
                eta = f"ETA {finish:%b %d %H:%M} UTC: " if finish else ""
            bar.update(task, completed=report.finished, description=eta + report.progress())

        yield show


def print_summary(problems: list[str], summary: str) -> None:
    """Print the last lines for people and, if a program reads standard output, the summary there too."""
    on_terminal = sys.stdout.isatty()
    if not on_terminal:
        try:
            print_line({"event": "Summary", "summary": summary})
        except OSError:
            discard_output()
    omitted = len(problems) - _MAX_PROBLEMS
    more = [f"and {omitted} more"] if omitted > 0 else []
    for line in [*problems[:_MAX_PROBLEMS], *more, summary]:
        print(line, file=sys.stdout if on_terminal else sys.stderr, flush=True)
