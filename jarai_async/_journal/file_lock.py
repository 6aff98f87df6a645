"""The lock that gives a journal one owner at a time.

SQLite's own POSIX locks cannot do that: a process loses them when it closes any descriptor of the file, such
as that of a copy it makes. This lock belongs to one open descriptor instead, and ends when that is closed,
also by the end of the process. It belongs to the file, whatever path leads there. It covers the bytes that
SQLite locks, so it keeps out every other program that uses SQLite, too.

Readers in other processes share the file with its owner, but not while it commits. Two further bytes are
locked for that, on Linux only. PAGES is locked by the owner during each transaction, and shared by readers.
ENTRY is held by an owner that waits, and passed by each reader, so that many readers cannot keep it waiting.
A process may be stopped while it reads. So what was read counts only if it took less than `_LEASE` seconds,
and the owner waits for readers twice as long at most.
"""

import os
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakSet

from jarai_async._errors import JournalError

_OWNER = (0x40000000, 512)  # start and length; SQLite locks these bytes, and never writes there
_ENTRY = (0x40000200, 1)
_PAGES = (0x40000201, 1)
_LEASE = 0.5  # seconds
_PAUSE = 0.0005  # seconds between two attempts to lock
_COMMIT_SECONDS = 10.0  # after which a reader no longer waits for the owner


class JournalInUseError(JournalError):
    """Another process, or another orchestrator of this one, has the journal open."""

    advice = (
        "Until it is closed, only the program that has it open can change it: with `run`, `resume`, "
        "`retry`, `resolve` or `forget` of its orchestrator. `Orchestrator(journal_wait=seconds)` waits for "
        "it."
    )


class _OpenFile:
    """A file that is open until `close`. Methods raise OSError."""

    def __init__(self, path: Path, flags: int) -> None:
        """Open a file. Raises JournalError where it is not a file."""
        self._path = path.absolute()
        self._descriptor = os.open(path, flags, 0o600)  # for the owner only: it holds topics
        _open_files.add(self)
        try:
            _check_regular(self._descriptor, path)
        except BaseException:
            self.close()
            raise

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


class FileLock(_OpenFile):
    """An open and locked file. Methods raise OSError."""

    def __init__(self, path: Path, *, create: bool) -> None:
        """Open and lock a file. Raises JournalInUseError if it is locked, JournalError if it is no file."""
        super().__init__(path, os.O_RDWR | (os.O_CREAT if create else 0))
        try:
            _lock_for_owner(self._descriptor, path)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep readers of other processes out. Blocking."""
        if sys.platform != "linux":
            yield
            return
        import fcntl  # noqa: PLC0415  # not on Windows

        for lock in (_ENTRY, _PAGES):
            _wait_for(self._descriptor, fcntl.F_WRLCK, lock, 2 * _LEASE)
        try:
            yield
        finally:
            for lock in (_PAGES, _ENTRY):
                _set_lock(self._descriptor, fcntl.F_UNLCK, lock)


class FileReader(_OpenFile):
    """A file that is read while its owner may write it. Methods raise OSError.

    Where the system has no such locks (macOS, BSD), it is locked as by an owner; on Windows SQLite locks it.
    """

    def __init__(self, path: Path) -> None:
        """Open a file. Raises JournalError where it is not a file, JournalInUseError as `FileLock`."""
        self._lock: FileLock | None = None
        super().__init__(path, os.O_RDONLY)
        try:
            if sys.platform not in ("linux", "win32"):
                self._lock = FileLock(path, create=False)
        except BaseException:
            self.close()
            raise

    @property
    def has_owner(self) -> bool:
        """Whether a process has the file open as its owner."""
        if sys.platform != "linux":
            return False
        import fcntl  # noqa: PLC0415  # not on Windows

        found = fcntl.fcntl(self._descriptor, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, _OWNER))
        return bool(struct.unpack_from("h", found)[0] != fcntl.F_UNLCK)

    @contextmanager
    def reading(self) -> Iterator[Callable[[], bool]]:
        """Keep the owner from writing; yield whether it still does. Blocking.

        Raises JournalError where the owner does not end its transaction.
        """
        if sys.platform != "linux":
            yield lambda: True
            return
        import fcntl  # noqa: PLC0415  # not on Windows

        begin = entered = time.monotonic()
        while not self._enter():
            if entered > begin + _COMMIT_SECONDS:
                raise JournalError(f"the journal {self._path} cannot be read: its owner does not respond")
            time.sleep(_PAUSE)
            entered = time.monotonic()
        try:
            yield lambda: time.monotonic() < entered + _LEASE
        finally:
            _set_lock(self._descriptor, fcntl.F_UNLCK, _PAGES)

    def _enter(self) -> bool:
        """Share PAGES unless the owner has it or waits for it."""
        if sys.platform != "linux":
            return True
        import fcntl  # noqa: PLC0415  # not on Windows

        if not _set_lock(self._descriptor, fcntl.F_RDLCK, _ENTRY):
            return False
        has_entered = _set_lock(self._descriptor, fcntl.F_RDLCK, _PAGES)
        _set_lock(self._descriptor, fcntl.F_UNLCK, _ENTRY)
        return has_entered

    def close(self) -> None:
        """Close the file, and with that unlock it."""
        super().close()
        if self._lock is not None:
            self._lock.close()


def _check_regular(descriptor: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise JournalError(f"the journal {path} cannot be used: it is not a regular file")


def _lock_for_owner(descriptor: int, path: Path) -> None:
    """Lock an open file. Raises JournalInUseError."""
    if sys.platform == "win32":
        return  # there SQLite's own locks belong to its open file, and need no help
    import fcntl  # noqa: PLC0415  # not on Windows

    try:
        if sys.platform == "linux":
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, _OWNER))
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # on macOS and BSD it excludes POSIX locks
    except (BlockingIOError, PermissionError):
        raise JournalInUseError(
            f"the journal {path} cannot be used: it is open already, in this process or another"
        ) from None


def _flock(kind: int, lock: tuple[int, int]) -> bytes:
    return struct.pack("hhqqi", kind, os.SEEK_SET, *lock, 0)


def _set_lock(descriptor: int, kind: int, lock: tuple[int, int]) -> bool:
    """Lock or unlock some bytes of an open file on Linux; return whether that was possible."""
    if sys.platform != "linux":
        return False
    import fcntl  # noqa: PLC0415  # not on Windows

    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(kind, lock))
    except (BlockingIOError, PermissionError):
        return False
    return True


def _wait_for(descriptor: int, kind: int, lock: tuple[int, int], seconds: float) -> None:
    """Lock some bytes, or give up after some seconds."""
    end = time.monotonic() + seconds
    while not _set_lock(descriptor, kind, lock) and time.monotonic() < end:
        time.sleep(_PAUSE)


# A forked child shares the descriptors, and with them the locks: it must not outlive the owner with them.
_open_files: WeakSet[_OpenFile] = WeakSet()


def _close_all() -> None:
    for file in list(_open_files):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all)
