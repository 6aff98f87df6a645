"""The lock that gives a journal one owner at a time.

SQLite's own POSIX locks cannot do that: a process loses them when it closes any descriptor of the file, such
as that of a copy it makes. This lock belongs to one open descriptor instead, and ends when that is closed,
also by the end of the process. It belongs to the file, whatever path leads there. It covers the bytes that
SQLite locks, so it keeps out every other program that uses SQLite, too.
"""

import os
import stat
import struct
import sys
from pathlib import Path
from weakref import WeakSet

from jarai_async._errors import JournalError

_LOCKED_BYTES = (0x40000000, 512)  # start and length; SQLite locks them, and never writes there


class FileLock:
    """An open and locked file. Methods raise OSError."""

    def __init__(self, path: Path, *, create: bool) -> None:
        """Open and lock a file. Raises JournalError where it is locked, or not a file."""
        self._path = path.absolute()
        flags = os.O_RDWR | (os.O_CREAT if create else 0)
        self._descriptor = os.open(path, flags, 0o600)  # for the owner only: it holds topics
        try:
            reason = _lock(self._descriptor)
        except BaseException:
            self.close()
            raise
        if reason is not None:
            self.close()
            raise JournalError(f"the journal {path} cannot be used: {reason}")
        _locks.add(self)

    def check(self) -> None:
        """Raise JournalError where the path does not lead to this file any more."""
        try:
            is_there = os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except FileNotFoundError:
            is_there = False
        if not is_there:
            raise JournalError(f"the journal {self._path} was deleted, moved or replaced while it was open")

    def close(self) -> None:
        """Close the file, and with that unlock it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _lock(descriptor: int) -> str | None:
    """Lock an open file, or return why that is not possible."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return "it is not a regular file"
    if sys.platform == "win32":
        return None  # there SQLite's own locks belong to its open file, and need no help
    import fcntl  # noqa: PLC0415  # not on Windows

    try:
        if sys.platform == "linux":
            start, length = _LOCKED_BYTES
            lock = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # on macOS and BSD it excludes POSIX locks
    except (BlockingIOError, PermissionError):
        return "it is open already, in this process or another"
    return None


# A forked child shares the descriptors, and with them the locks: it must not outlive the owner with them.
_locks: WeakSet[FileLock] = WeakSet()


def _close_all() -> None:
    for lock in list(_locks):
        lock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all)
