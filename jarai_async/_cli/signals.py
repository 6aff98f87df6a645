"""Ctrl-C and SIGTERM: long-running commands stop in an orderly way."""

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import suppress


def on_interrupt(callback: Callable[[], object]) -> None:
    """Call `callback` on every Ctrl-C and SIGTERM. Does nothing on Windows.

    asyncio's own handler raises KeyboardInterrupt on the second Ctrl-C, in the middle of the shutdown.
    """
    if sys.platform != "win32":
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, callback)


def stop_event() -> asyncio.Event:
    """Return an event that Ctrl-C and SIGTERM set. Create it before telling the user to press Ctrl-C."""
    stop = asyncio.Event()
    on_interrupt(stop.set)
    return stop


async def wait_for(stop: asyncio.Event) -> None:
    """Wait until `stop` is set, or until Ctrl-C cancels this task where there are no signal handlers."""
    with suppress(asyncio.CancelledError):
        await stop.wait()
