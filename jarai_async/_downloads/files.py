"""The door to the disk: a file is written beside its target, made durable, and only then renamed.

All of it is done in threads, so that a slow disk never stops the loop. A part to which nothing was added for
a day belongs to a process that died: nobody will go on with it, and whoever next writes into its folder
removes it. What goes wrong here is a FileWriteError.
"""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeVar
from uuid import uuid4

from jarai_async._errors import FileWriteError

T = TypeVar("T")

_DEAD = 24 * 3600.0  # seconds; who lives never waits for longer than two hours between two attempts


async def in_thread(work: Callable[[], T]) -> T:
    """Do a short piece of work on the disk, to its end: a cancellation waits until it is done.

    Raises FileWriteError for any OSError.
    """
    # no task: whoever cancels all tasks would cut this one loose from its thread
    job = asyncio.get_running_loop().run_in_executor(None, work)
    interruption = None
    while not job.done():
        try:
            await asyncio.wait({job})
        except asyncio.CancelledError as error:
            interruption = error
    failure = job.exception()
    if interruption is not None:
        raise interruption
    if isinstance(failure, OSError):
        name = f": {failure.filename}" if failure.filename else ""
        raise FileWriteError(f"{failure.strerror or failure}{name}") from None
    return job.result()


async def make_folder(folder: Path) -> None:
    """Make a folder, unless it is there. Raises FileWriteError."""
    await in_thread(lambda: folder.mkdir(parents=True, exist_ok=True))


async def write_text(target: Path, text: str) -> None:
    """Write a small file whole or not at all. Raises FileWriteError."""
    await in_thread(lambda: _write_text(target, text))


def _write_text(target: Path, text: str) -> None:
    part = PartialFile(target)
    try:
        part.write(text.encode())
        part.finish()
    finally:
        part.abandon()


class PartialFile:
    """A file beside its target, until it is whole; not for the loop's own thread. Raises OSError."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._path = _beside(target)
        self._file: IO[bytes] | None = None
        self._exists = False
        self._md5 = hashlib.md5(usedforsecurity=False)  # what blob storage offers

    @property
    def md5(self) -> bytes:
        """The digest of all that was written."""
        return self._md5.digest()

    def open(self) -> IO[bytes]:
        """Make it, or go on with it."""
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab" if self._exists else "xb")
        if not self._exists:
            self._exists = True
            _sweep(self._path)
        return self._file

    def write(self, data: bytes | bytearray) -> None:
        """Add to its end."""
        self.open().write(data)
        self._md5.update(data)

    def close(self) -> None:
        """Let go of it for now: who waits must not hold one of the few files that may be open."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def finish(self) -> None:
        """Make it durable, and give it its name."""
        file = self.open()
        file.flush()
        os.fsync(file.fileno())
        self.close()
        self._path.replace(self._target)
        _sync_folder(self._target.parent)

    def abandon(self) -> None:
        """Leave nothing behind; after `finish` there is nothing left. It may be written to anew."""
        with contextlib.suppress(OSError):  # on a full disk closing it fails, too
            self.close()
        if self._exists:
            with contextlib.suppress(OSError):  # one that cannot be removed now will be swept away
                self._path.unlink(missing_ok=True)
        self._path = _beside(self._target)
        self._exists = False
        self._md5 = hashlib.md5(usedforsecurity=False)


def _beside(target: Path) -> Path:
    return target.with_name(f".jarai-{uuid4().hex}.part")


def _sweep(new: Path) -> None:
    """Remove the dead parts beside a new one, whose age says what time it is on this file system."""
    now = new.stat().st_mtime
    for path in new.parent.glob(".jarai-*.part"):
        with contextlib.suppress(OSError):
            if now - path.stat().st_mtime > _DEAD:
                path.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut; not every system lets a folder be opened for it."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
