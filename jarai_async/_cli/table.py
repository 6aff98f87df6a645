"""Tables of results. A long text continues in the next line of its column; identifiers stay whole."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jarai_async._cli.results import Column, Columns
from jarai_async._printable import printable

_ID_LENGTH = 36  # of a UUID


def draw(columns: Columns, rows: list[dict[str, Any]]) -> None:
    """Print a table without the columns that are empty in each row."""
    cells = {heading: [_cell(row, column) for row in rows] for heading, column in columns.items()}
    table = Table(box=None, pad_edge=False, header_style="bold")
    filled = {heading: texts for heading, texts in cells.items() if any(text.plain for text in texts)}
    for heading, texts in filled.items():
        longest = max(text.cell_len for text in texts)
        table.add_column(heading, overflow="fold", no_wrap=longest <= _ID_LENGTH)
    for row in zip(*filled.values(), strict=True):
        table.add_row(*row)
    Console(file=sys.stdout, highlight=False).print(table)


def _cell(row: dict[str, Any], column: Column) -> Text:
    if callable(column):
        value: Any = column(row)
    else:
        value = next((row[key] for key in column if row.get(key) not in (None, [], ())), "")
    values = value if isinstance(value, list | tuple) else [value]
    return Text("\n".join(printable(str(one)) for one in values))
