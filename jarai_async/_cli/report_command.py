"""`jarai report`: writes the report of a journal as one HTML page and, where asked for, as CSV and JSON."""

import argparse
import asyncio
from pathlib import Path

from jarai_async import _clock
from jarai_async._cli import output
from jarai_async._cli.options import Commands, add_command
from jarai_async._locations import is_database
from jarai_async._report.text import size
from jarai_async._report.writer import write_report


def add_report(commands: Commands) -> None:
    """Add the command."""
    details = (
        "Writes one HTML page that loads nothing: totals, diagrams over time, problems with the commands "
        "that decide them, and a timeline. A program may have the journal open. Needs the extra `report`."
    )
    report = add_command(commands, "report", "write a report of a journal as a web page", details)
    report.add_argument("journal", metavar="JOURNAL", help="journal file of `jarai run`, or URL of a queue")
    report.add_argument(
        "--output",
        metavar="FILE",
        help="where to write the page (default: JOURNAL.html, or jarai-report.html for a URL)",
    )
    csv_help = "also write a table with a line for each request"
    report.add_argument("--csv", metavar="FILE", help=csv_help)
    report.add_argument("--json", metavar="FILE", help="also write all facts as JSON")


async def run(options: argparse.Namespace) -> int:
    """Write the files and name them. Raises ConfigurationError, JournalError, OSError."""
    files = await asyncio.to_thread(
        write_report,
        options.journal,
        _clock.wall(),
        html=Path(
            options.output
            or ("jarai-report.html" if is_database(options.journal) else f"{options.journal}.html")
        ),
        csv=None if options.csv is None else Path(options.csv),
        json=None if options.json is None else Path(options.json),
    )
    for file in files:
        output.print_message(f"wrote {file} ({size(file.stat().st_size)})")
    return 0
