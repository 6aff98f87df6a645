"""Ctrl-C, SIGTERM and the hang-up of a terminal: commands stop in an orderly way.

SIGQUIT stays what it is, the way to end a process at once.
"""

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final


class Interruption:
    """The first signal that asked the command to stop."""

    def __init__(self) -> None:
        self._signal = 0

    def set(self, number: int) -> None:
        """Record a signal."""
        self._signal = self._signal or number

    def clear(self) -> None:
        """Forget it, for the next command in this process."""
        self._signal = 0

    def is_set(self) -> bool:
        """Whether there was a signal."""
        return self._signal != 0

    @property
    def exit_code(self) -> int:
        """The exit code of a command that it stopped: 128 and the number of the signal, as in a shell."""
        return 128 + self._signal


interrupted: Final = Interruption()


def on_interrupt(callback: Callable[[], object]) -> None:
    """Call `callback` on every Ctrl-C, SIGTERM and SIGHUP. Does nothing on Windows.

    A signal that the parent process chose to ignore, as nohup does, stays ignored. asyncio's own handler
    raises KeyboardInterrupt on the second Ctrl-C, in the middle of the shutdown.
    """

    def handle(number: int) -> None:
        interrupted.set(number)
        callback()

    if sys.platform != "win32":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, handle, number)


def stop_event() -> asyncio.Event:
    """Return an event that these signals set. Create it before telling the user to press Ctrl-C."""
    stop = asyncio.Event()
    on_interrupt(stop.set)
    return stop


async def wait_for(stop: asyncio.Event) -> None:
    """Wait until `stop` is set, or until Ctrl-C cancels this task where there are no signal handlers."""
    with suppress(asyncio.CancelledError):
        await stop.wait()
