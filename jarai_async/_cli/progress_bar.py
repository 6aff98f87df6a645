"""The progress bar: the count, the bar and the states, below them the figures."""

import sys

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jarai_async._cli.progress import Progress
from jarai_async._cli.wrapping import wrap_items

_SHORTEST_BAR = 10  # columns; with less beside it, the states have lines of their own
_LONGEST_BAR = 40


def draw(progress: Progress) -> Live:
    """Return a context manager that draws the progress at the bottom of the terminal, and removes it."""
    # Rich shows on the terminal what it redirects, so standard output is left alone: it may be a file.
    console = Console(file=sys.stderr)
    return Live(_Bar(progress), console=console, transient=True, redirect_stdout=False)


class _Bar:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._longest = 0  # of the states so far, in columns: what has a line of its own stays there

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        progress = self._progress
        count, states = Text(f"{progress.finished}/{progress.total}"), Text(progress.states)
        below = wrap_items(progress.states, options.max_width)
        figures = Text(wrap_items(progress.figures, options.max_width))
        self._longest = max(self._longest, states.cell_len)
        room = options.max_width - len(f"{progress.total}/{progress.total} ")
        beside = room - self._longest - 1
        has_one_line = beside >= _SHORTEST_BAR
        width = min(_LONGEST_BAR, beside if has_one_line else room)
        bar = ProgressBar(total=progress.total, completed=progress.finished, width=width)
        line = Table.grid(padding=(0, 1, 0, 0))
        line.add_row(count, bar, states if has_one_line else "")
        yield Group(line, *([] if has_one_line else [Text(below)]), figures)
