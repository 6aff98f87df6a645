"""The results of a command: a table for people on a terminal, else JSON lines for programs."""

import argparse
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from jarai_async._cli.output import print_line, print_message
from jarai_async._report.text import words


class Show(Protocol):
    """Shows a result."""

    async def __call__(self, line: dict[str, Any], **more: str) -> None:
        """Show a JSON line; a table has `more`, too."""


Column = tuple[str, ...] | Callable[[dict[str, Any]], str]
Columns = Mapping[str, Column]
"""By heading: the keys of the JSON line, of which the first that has a value is shown, or what returns it."""


def _state(line: dict[str, Any]) -> str:
    return words(line["state"])


PRODUCTIONS: Final[Columns] = {
    "production": ("productionId",),
    "status": ("status",),
    "error": ("errorCode",),
    "reason": ("error",),
}
INTENTS: Final[Columns] = {
    "reference": ("reference",),
    "state": _state,
    "files": ("files",),
    "reason": ("reason",),
}
DELIVERABLES: Final[Columns] = {
    "type": ("type",),
    "platform": ("platform",),
    "bytes": ("size",),
    "path": ("path",),
}
ACCOUNTS: Final[Columns] = {"account": ("accountId",), "name": ("name",), "avatars": ("avatars",)}
WEBHOOKS: Final[Columns] = {
    "webhook": ("webhookId",),
    "endpoint": ("endpointUrl",),
    "events": ("eventTypes",),
    "accounts": ("accountIds", "accountScopeId"),
}


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    json_help = "print JSON lines on a terminal, too, instead of a table"
    parser.add_argument("--json", action="store_true", help=json_help)


@asynccontextmanager
async def shown_results(columns: Columns, options: argparse.Namespace) -> AsyncIterator[Show]:
    """Return what shows a result: at once as a JSON line, or as a row of a table that is printed at the end.

    Showing a JSON line raises OutputError.
    """
    draw = None if options.json or not sys.stdout.isatty() else _table()
    if draw is None:
        yield _print
        return
    rows: list[dict[str, Any]] = []

    async def add(line: dict[str, Any], **more: str) -> None:
        rows.append(line | more)

    try:
        yield add
    finally:
        if rows:
            draw(columns, rows)


async def _print(line: dict[str, Any], **_: str) -> None:
    await print_line(line)


def _table() -> Callable[[Columns, list[dict[str, Any]]], None] | None:
    try:
        from jarai_async._cli.table import draw  # noqa: PLC0415  # Rich is an optional extra
    except ImportError:
        print_message("no table, because rich is not installed: pip install 'jarai-async[cli]'")
        return None
    return draw
