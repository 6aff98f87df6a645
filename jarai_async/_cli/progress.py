"""How far a batch is, on standard error: a bar on a terminal, else a line every few minutes.

A task updates the texts, because the figures belong to its event loop. Rich draws them in a thread.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from datetime import datetime
from typing import Final

from jarai_async import _clock
from jarai_async._cli.durations import describe_duration
from jarai_async._cli.output import print_message
from jarai_async._cli.report import BatchReport
from jarai_async._orchestrator.statistics import Statistics
from jarai_async._tasks import start, stop

_LINE_INTERVAL: Final = 300.0  # real seconds between two lines where there is no bar


class Progress:
    """The texts of the progress display."""

    def __init__(self, report: BatchReport) -> None:
        self.total = report.total
        self.finished, self.states = report.finished, report.progress()
        self.figures = ""
        self._report = report
        self._due: datetime | None = (
            None  # when everything was expected to be finished, once all was submitted
        )

    def update(self) -> None:
        """Take the state of the batch from its report."""
        self.finished, self.states = self._report.finished, self._report.progress()

    def update_figures(self, statistics: Statistics) -> None:
        """Take the figures of the orchestrator or of all workers."""
        if not statistics.per_minute:
            self.figures = "no worker is running"
            return
        day = "" if statistics.left_today is None else f" ({statistics.left_today:,} today)"
        lag = "" if statistics.lag is None else f", lag {statistics.lag:.0f} s"
        self.figures = (
            f"{statistics.free_now}/{statistics.per_minute} requests free{day}{lag}{self._end(statistics)}"
        )

    def _end(self, statistics: Statistics) -> str:
        end, now = statistics.expected_finish, _clock.utc()
        if end is None or self.finished == self.total:
            return ""
        if statistics.waiting > self._report.to_submit:  # requests of the journal that were not resumed yet
            return ""
        if self._due is None and not statistics.waiting:
            self._due = end
        is_late = self._due is not None and now > self._due
        left = max(0.0, (end - now).total_seconds())
        about = f"about {describe_duration(left)}" if left >= 60 else "a minute"
        return f", ends in {about}{', later than expected' if is_late else ''}"

    def __str__(self) -> str:
        parts = (f"{self.finished}/{self.total} finished", self.states, self.figures)
        return "; ".join(filter(None, parts))


@asynccontextmanager
async def shown(
    progress: Progress, read: Callable[[], Awaitable[Statistics]], interval: float, *, quiet: bool
) -> AsyncIterator[None]:
    """Show the progress of a batch meanwhile. `interval`: seconds of the loop between two updates."""
    if quiet:
        yield
        return
    bar = _bar(progress)
    task = start(
        _update, progress, read, interval, _LINE_INTERVAL if bar is None else None, name="jarai progress"
    )
    try:
        with bar or nullcontext():
            yield
    finally:
        await stop([task])


async def _update(
    progress: Progress,
    read: Callable[[], Awaitable[Statistics]],
    interval: float,
    line_interval: float | None,
) -> None:
    """Update the figures, at most once in a real second: a simulated clock may run faster.

    To read them takes some ten milliseconds.
    """
    next_update = next_line = 0.0
    while True:
        now = time.monotonic()
        if now >= next_update:
            progress.update_figures(await read())
            next_update = now + 0.9
        if line_interval is not None and now >= next_line:
            progress.update()
            print_message(str(progress))
            next_line = now + line_interval
        await asyncio.sleep(interval)


def _bar(progress: Progress) -> AbstractContextManager[object] | None:
    if not sys.stderr.isatty() or os.environ.get("TERM", "") in ("dumb", "unknown"):
        return None
    try:
        from jarai_async._cli.progress_bar import draw  # noqa: PLC0415  # Rich is an optional extra
    except ImportError:
        print_message("no progress bar, because rich is not installed: pip install 'jarai-async[cli]'")
        return None
    return draw(progress)
