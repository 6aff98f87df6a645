"""What the commands have in common: to ask for each of many, and to stop in order."""

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import suppress


def on_signals(react: Callable[[], object]) -> None:
    """Let Ctrl-C and SIGTERM do this, however often they come.

    Left to asyncio, a second Ctrl-C is raised in the middle of whatever runs, and leaves it half done.
    """
    if sys.platform != "win32":
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, react)


def stopping() -> asyncio.Event:
    """Give what is set by Ctrl-C and SIGTERM. Say only afterwards that they may be sent."""
    stop = asyncio.Event()
    on_signals(stop.set)
    return stop


async def until(stop: asyncio.Event) -> None:
    """Wait until it is set."""
    with suppress(asyncio.CancelledError):  # a Ctrl-C where a loop has no handlers of signals
        await stop.wait()
