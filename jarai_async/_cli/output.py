"""Printing: JSON lines on standard output for programs, messages on standard error for people."""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final

from jarai_async._cli.durations import describe_duration
from jarai_async._cli.json_lines import DURATIONS_NOTE, plan_line
from jarai_async._cli.report import failure
from jarai_async._cli.signals import interrupted
from jarai_async._cli.streams import BackgroundStream, OutputError, background
from jarai_async._cli.wrapping import columns, wrap, wrap_command, wrap_items
from jarai_async._errors import (
    AuthenticationError,
    ConfigurationError,
    JaraiError,
)
from jarai_async._events import Event, Finished
from jarai_async._forecast.plan import TARGET_LAG, Plan
from jarai_async._printable import printable

_GRACE: Final = 5.0  # seconds for writing the rest of the output after an interrupt


ShowEvent = Callable[[Event], Awaitable[None]]


async def print_line(line: dict[str, Any]) -> None:
    """Print a JSON line, and wait until it is written. Raises OutputError."""
    _write(line)
    await background(sys.stdout).written()


async def check_output() -> None:
    """Check that standard output can be written, by a space, which no reader of JSON notices.

    Raises ConfigurationError.
    """
    sys.stdout.write(" ")
    try:
        await background(sys.stdout).written()
    except OutputError as error:
        raise ConfigurationError(f"{error}: nothing was sent") from None


def finish(code: int) -> int:
    """Wait until the output is written, after an interrupt only briefly, and return the exit code."""
    timeout = _GRACE if interrupted.is_set() else None
    try:
        background(sys.stdout).finish(timeout)
    except OutputError as error:
        print_message(error)
        code = code or 1
    with suppress(OutputError):
        background(sys.stderr).finish(timeout)
    return code


def _write(line: dict[str, Any]) -> None:
    sys.stdout.write(_json(line) + "\n")


def _json(line: dict[str, Any]) -> str:
    """Return a line as JSON in ASCII, without control characters."""
    return json.dumps(line).replace("\x7f", "\\u007f")


def print_message(message: JaraiError | str) -> None:
    """Print a message on standard error, without waiting."""
    text = str(message) if isinstance(message, JaraiError) else printable(message)  # errors are printable
    lines = (wrap(line, columns()) for line in f"jarai: {text}".split("\n"))
    sys.stderr.write("\n".join(lines) + "\n")


def print_command(purpose: str, command: str) -> None:
    """Print a command that the user may copy, as `print_message` prints."""
    sys.stderr.write(f"{wrap_command(f'jarai: {purpose}', printable(command), columns())}\n")


@contextmanager
def log_messages(verbose: int, *, shows_ends: bool = False, is_simulated: bool = False) -> Iterator[None]:
    """Print what the library logs: warnings, with `verbose` also what happens (1) and details (2).

    `shows_ends` is whether the command prints by itself how requests ended that did not end well. In a
    simulation nothing is paid for again.
    """
    log = logging.getLogger("jarai_async")
    handler = _MessageHandler(shows_ends=shows_ends, is_simulated=is_simulated)
    level = log.level
    handlers = log.handlers
    log.handlers = [handler]
    log.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)])
    try:
        yield
    finally:
        log.handlers = handlers
        log.setLevel(level)


class _MessageHandler(logging.Handler):
    def __init__(self, *, shows_ends: bool, is_simulated: bool) -> None:
        super().__init__()
        self._is_simulated = is_simulated
        self._shows_ends = shows_ends

    def emit(self, record: logging.LogRecord) -> None:
        if self._shows_ends and _is_bad_end(record):
            return
        if self._is_simulated and "collected" in getattr(record, "jarai", {}):
            return
        for line in self.format(record).split("\n"):
            print_message(line)


def _is_bad_end(record: logging.LogRecord) -> bool:
    """Whether a record is about a request that did not end well, of which `print_event` prints a line."""
    return getattr(record, "jarai", {}).get("ok") is False


def reason(error: OSError) -> str:
    """Return the system's description of an error, such as "No space left on device"."""
    return error.strerror or str(error)


async def print_each(
    ids: Sequence[str],
    request: Callable[[str], Awaitable[dict[str, Any]]],
    show: Callable[[dict[str, Any]], Awaitable[None]] = print_line,
) -> int:
    """Send a request for each ID, even after an error; show each result, and return the exit code.

    Raises AuthenticationError if the first request is answered so: the others would be, too.
    """
    code, unwritten, problem = 0, [], ""
    for number, id_ in enumerate(ids):
        line = None
        try:
            line = await request(id_)
            await show(line)
        except asyncio.CancelledError:
            print_message(f"interrupted during {id_}; not tried: {', '.join(ids[number + 1 :]) or 'none'}")
            raise
        except JaraiError as error:
            if isinstance(error, AuthenticationError) and number == 0:
                raise
            code = 1
            if line is None:
                print_message(f"{id_}: {error}")
            else:
                problem = str(error)
                unwritten.append(id_)
    if unwritten:  # without the results: they may have signed URLs
        results = "1 result was" if len(unwritten) == 1 else f"{len(unwritten)} results were"
        print_message(f"{problem}: {results} not written: {', '.join(unwritten)}")
    return code


# --- Plans ---------------------------------------------------------------------------------------


async def print_plan(plan: Plan, *, recommended: bool) -> None:
    """Print a plan: as a table on a terminal, else as a JSON line."""
    if not sys.stdout.isatty():
        await print_line(plan_line(plan))
        return
    why = f", recommended: the largest with a mean lag of about {TARGET_LAG:.0f} s or less"
    rows = {
        "productions": f"{plan.productions:,}",
        "tier": plan.tier,
        "concurrency": f"{plan.concurrency:,}{why if recommended else ''}",
        "expected finish": f"{describe_duration(plan.duration)} after the start",
        "requests": f"about {plan.requests:,}",
        "mean lag": f"{plan.lag:.0f} s from a status change to its event",
    }
    lines = [f"{name:<17}{value}" for name, value in rows.items()]
    for line in [*lines, *(f"{'warning':<17}{text}" for text in plan.warnings), f"({DURATIONS_NOTE})"]:
        sys.stdout.write(f"{wrap(printable(line), columns(sys.stdout), ' ' * 17)}\n")


# --- Batches -------------------------------------------------------------------------------------


@contextmanager
def shown_events(path: str | None) -> Iterator[ShowEvent]:
    """Return what shows an event, and appends it to a file if there is a path. Raises OSError.

    Showing an event raises OutputError.
    """
    if path is None:
        yield print_event
        return
    with Path(path).open("a+b") as file:
        stream = BackgroundStream(TextIOWrapper(file, "utf-8", write_through=True))
        if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) and file.read() != b"\n":
            stream.write("\n")  # an earlier process was killed while it wrote

        async def show(event: Event) -> None:
            stream.write(f"{_json(event.to_dict())}\n")
            try:
                await stream.written()
            except OutputError as error:
                raise OutputError(f"{path}: {error}") from None
            await print_event(event)

        try:
            yield show
        finally:
            with suppress(OutputError):  # was raised where the event was shown
                stream.finish(_GRACE)


async def print_event(event: Event) -> None:
    """Print an event as a JSON line if a program reads standard output, and a failure for people as well.

    Raises OutputError.
    """
    if isinstance(event, Finished) and not event.outcome.ok:
        sys.stderr.write(f"{wrap(failure(event.outcome), columns())}\n")
    if not sys.stdout.isatty():
        await print_line(event.to_dict())


def print_summary(lines: Iterable[str], summary: str, **facts: Any) -> None:
    """Print the last lines for people and, if a program reads standard output, the summary there.

    Does not wait until they are written.
    """
    for line in lines:
        sys.stderr.write(f"{wrap(printable(line), columns(), ' ' * 7)}\n")
    sys.stderr.write(f"{wrap_items(printable(summary), columns())}\n")
    if not sys.stdout.isatty():
        _write({"event": "Summary", "summary": summary, **facts})
