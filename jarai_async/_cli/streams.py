"""Standard output and standard error that never stop the event loop.

A program that reads the output may pause, and a terminal can be stopped with Ctrl-S. So a thread writes, and
the commands only add to its queue.
"""

import asyncio
import errno
import io
import os
import select
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, TextIO, TypeVar, cast

from jarai_async._errors import JaraiError

T = TypeVar("T")

_MAX_QUEUED: Final = 10_000  # texts; then the oldest are dropped: progress bars and messages do not wait


class OutputError(JaraiError):
    """Standard output cannot be written: it is closed, its reader has exited, or the disk is full."""

    is_unread: bool = False
    """Whether its reader has exited."""


@contextmanager
def background_streams() -> Iterator[None]:
    """Replace standard output and standard error by background streams."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("TextIO", BackgroundStream(stream)) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def background(stream: TextIO) -> "BackgroundStream":
    """Return `sys.stdout` or `sys.stderr` as what `background_streams` made it."""
    if not isinstance(stream, BackgroundStream):
        raise TypeError("use this within background_streams()")
    return stream


class BackgroundStream(io.TextIOBase):
    """A text stream that a thread writes to `stream`. Writing to it neither waits nor fails."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._thread = _DaemonThread()
        self._texts: deque[str] = deque(maxlen=_MAX_QUEUED)
        self._error: OSError | None = None
        self._error_was_raised = False

    @property
    def encoding(self) -> str:  # type: ignore[override]  # cannot be set
        """The encoding; a character that it does not have is written as its escape sequence."""
        return self._stream.encoding or "utf-8"

    def fileno(self) -> int:
        """Return the file descriptor of the stream behind it."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Whether the stream behind it is a terminal."""
        return self._stream.isatty()

    def write(self, text: str, /) -> int:
        """Add text to the queue, which drops its oldest text if it is very long."""
        self._texts.append(text)
        if self._thread.waiting < _MAX_QUEUED:  # else those calls write this text, too
            self._thread.submit(self._write_queued)
        return len(text)

    async def written(self) -> None:
        """Wait until everything is written. Raises OutputError if that is not possible."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._check)

    def finish(self, timeout: float | None) -> None:
        """Wait until everything is written, at most `timeout` seconds, and end the thread.

        Raises OutputError if something was not written, and no OutputError was raised before.
        """
        last = self._thread.submit(self._check)
        self._thread.shutdown()
        already_raised = self._error_was_raised
        try:
            last.result(timeout)
        except TimeoutError:
            raise OutputError("the output is incomplete, because it is not read") from None
        except OutputError:
            if not already_raised:
                raise

    def _check(self) -> None:
        if self._error is not None:
            self._error_was_raised = True
            reason = self._error.strerror or str(self._error)
            error = OutputError(f"the output cannot be written: {reason}")
            error.is_unread = isinstance(self._error, BrokenPipeError)
            raise error from None

    def _write_queued(self) -> None:
        try:
            while self._texts and self._error is None:
                self._write_now(self._texts.popleft())
        except OSError as error:
            self._error = error
        except ValueError:  # Python's streams raise it after they were closed
            self._error = OSError(errno.EBADF, os.strerror(errno.EBADF))

    def _write_now(self, text: str) -> None:
        buffer = getattr(self._stream, "buffer", None)
        if buffer is None:  # not a file, such as a StringIO
            self._stream.write(text)
            return
        # Not through the buffer: the interpreter flushes it when it exits, and would wait for its lock.
        raw = getattr(buffer, "raw", buffer)
        content = memoryview(text.encode(self.encoding, "backslashreplace"))
        while content:
            written = raw.write(content)
            if written is None:  # a full pipe that is set not to block
                select.select([], [raw], [])
            content = content[written or 0 :]


class _DaemonThread(Executor):
    """Calls functions one after the other, in a thread that does not keep the interpreter from exiting."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        Thread(target=self._run, name="jarai output", daemon=True).start()

    @property
    def waiting(self) -> int:
        """The number of calls that have not begun."""
        return self._calls.qsize()

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Add a call."""
        future: Future[T] = Future()
        self._calls.put((future, partial(function, *args, **kwargs)))
        return future

    def shutdown(self, *_: object, **__: object) -> None:
        """End the thread after the calls that were added, without waiting for it."""
        self._calls.put(None)

    def _run(self) -> None:
        for future, call in iter(self._calls.get, None):
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except Exception as error:  # noqa: BLE001  # raised where the result is awaited
                    future.set_exception(error)
