"""`jarai report`: writes the report of a journal as one HTML page and, where asked for, as CSV and JSON."""

import argparse
import asyncio
from pathlib import Path

from jarai_async import _clock
from jarai_async._cli import output
from jarai_async._report.text import size
from jarai_async._report.writer import write_report


async def run(options: argparse.Namespace) -> int:
    """Write the files and name them. Raises ConfigurationError, JournalError, OSError."""
    files = await asyncio.to_thread(
        write_report,
        options.journal,
        _clock.wall(),
        html=Path(options.output or f"{options.journal}.html"),
        csv=None if options.csv is None else Path(options.csv),
        json=None if options.json is None else Path(options.json),
    )
    for file in files:
        output.print_message(f"wrote {file} ({size(file.stat().st_size)})")
    return 0
