"""Writing to disk: a file is written under a temporary name, made durable, and then renamed to its target.

All of it runs in threads, so that a slow disk never blocks the event loop. OSErrors become FileWriteError.
Checksums are computed in threads of their own, so that a file is hashed while its next bytes are written.

A temporary file that has not changed for a day was left by a crashed process. No process resumes it, and the
next one that writes into the same folder removes it. In the folder of a production an orchestrator does so at
once: the production has one journal, and the journal one owner.
"""

import asyncio
import contextlib
import errno
import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from stat import S_ISREG
from threading import Lock
from typing import IO, TypeVar
from uuid import uuid4

from jarai_async._errors import FileWriteError
from jarai_async._events import SavedFile
from jarai_async._tasks import uninterrupted

T = TypeVar("T")

_log = logging.getLogger("jarai_async")

_THREADS = 8  # at a time: as many as files that an orchestrator downloads at the same time
_HASH_THREADS = min(_THREADS, os.cpu_count() or 1)
_SEARCH_INTERVAL = 3600.0  # seconds
_MAX_SEARCHED = 1000  # folders
_DELAYS_WHILE_FULL = (0.5, 1, 2, 4, 8, 16)  # seconds between attempts to get a file descriptor
_ABANDONED_AFTER = 24 * 3600.0  # seconds; a running download waits at most two hours between two attempts


class Disk:
    """The threads in which one client uses the disk.

    They are its own: in the event loop's default executor a slow disk would delay the look-up of host names,
    and so all requests, and the other way round.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._searched: dict[Path, float] = {}  # folders, and when, by the file system's clock
        self._open()

    def _open(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="jarai disk")
        self._hash_threads = ThreadPoolExecutor(_HASH_THREADS, thread_name_prefix="jarai hash")

    async def run(self, work: Callable[[], T]) -> T:
        """Run a short operation in a thread; a cancellation is raised only after the operation has ended.

        While too many files are open it is repeated, for half a minute. Raises FileWriteError for any other
        OSError, and for a path that the file system cannot encode.
        """
        delays = iter(_DELAYS_WHILE_FULL)
        while True:
            try:
                # a future, not a task: code that cancels all tasks must not separate this one from its thread
                return await uninterrupted(asyncio.get_running_loop().run_in_executor(self._threads, work))
            except OSError as error:
                delay = next(delays, None) if error.errno in (errno.EMFILE, errno.ENFILE) else None
                if delay is None:
                    name = f": {error.filename}" if error.filename else ""
                    raise FileWriteError(f"{error.strerror or error}{name}") from None
            except ValueError as error:  # a null byte, or a character that the file system cannot encode
                raise FileWriteError(f"the path is not possible on this machine: {error}") from None
            await asyncio.sleep(delay)

    def close(self) -> None:
        """Let the threads end once they have nothing more to do. A later operation starts new ones."""
        with self._lock:
            for threads in (self._threads, self._hash_threads):
                threads.shutdown(wait=False)
            self._open()

    def remove_abandoned_files(self, folder: Path, now: float) -> None:
        """Remove abandoned files in a folder, at most once an hour: it may have many files. Blocking."""
        if now - self._searched.get(folder, -math.inf) < _SEARCH_INTERVAL:
            return
        if len(self._searched) >= _MAX_SEARCHED:
            self._searched.clear()
        self._searched[folder] = now
        remove_partial_files(folder, before=now - _ABANDONED_AFTER)

    def start_hashing(self, work: Callable[[], None]) -> Future[None]:
        """Start to compute checksums in a thread. Can be called in any thread."""
        with self._lock:
            return self._hash_threads.submit(work)

    async def make_folder(self, folder: Path) -> None:
        """Create a folder and its parents if they do not exist. Raises FileWriteError."""
        await self.run(lambda: folder.mkdir(parents=True, exist_ok=True))

    async def write_text(self, target: Path, text: str) -> None:
        """Write a small file, completely or not at all. Raises FileWriteError."""
        await self.run(lambda: _write_text(PartialFile(target, self), text))


def _write_text(partial_file: "PartialFile", text: str) -> None:
    try:
        partial_file.write([text.encode()])
        partial_file.finish()
    finally:
        partial_file.discard()


def is_whole(path: Path, saved: SavedFile) -> bool:
    """Return whether a file is as it was saved. Blocking.

    If its modification time differs, it is read and compared with its MD5; without one it is not whole.
    """
    try:
        found = path.stat()
        if not S_ISREG(found.st_mode) or found.st_size != saved.size:
            return False
        is_unchanged = found.st_mtime_ns == saved.modified
        if is_unchanged or saved.md5 is None:
            return is_unchanged
        with path.open("rb") as file:
            return hashlib.file_digest(file, partial(_new_hash, "md5")).hexdigest() == saved.md5
    except (OSError, ValueError):  # ValueError: the path cannot be encoded
        return False


def _new_hash(name: str) -> "hashlib._Hash":
    return hashlib.new(name, usedforsecurity=False)


class PartialFile:
    """A temporary file in the target's folder. Blocking: use it in a thread. Methods raise OSError."""

    def __init__(self, target: Path, disk: Disk) -> None:
        self._target = target
        self._path = _temporary_path(target)
        self._disk = disk
        self._file: IO[bytes] | None = None
        self.exists = False
        self.hash_with(())

    def hash_with(self, algorithms: Iterable[str]) -> None:
        """Compute these digests from now on."""
        self._hashes = {name: _new_hash(name) for name in algorithms}
        self._hashing: Future[None] | None = None

    def digests(self, algorithms: Iterable[str]) -> dict[str, bytes]:
        """Return these digests of all bytes written so far. The file is read for those not computed yet."""
        self._wait_for_hashing()
        self.open().flush()
        for name in {*algorithms} - {*self._hashes}:
            with self._path.open("rb") as file:
                self._hashes[name] = hashlib.file_digest(file, partial(_new_hash, name))
        return {name: self._hashes[name].digest() for name in algorithms}

    def open(self) -> IO[bytes]:
        """Create the file, or reopen it to append."""
        if self._file is None:
            _check_target(self._target)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab" if self.exists else "xb")
        if not self.exists:
            self.exists = True
            self._disk.remove_abandoned_files(self._path.parent, self._path.stat().st_mtime)
        return self._file

    def write(self, pieces: Sequence[bytes]) -> None:
        """Append bytes. Their checksums are computed while those of the next call are written."""
        self.open().writelines(pieces)
        self._wait_for_hashing()
        if self._hashes:
            self._hashing = self._disk.start_hashing(partial(_update, [*self._hashes.values()], pieces))

    def _wait_for_hashing(self) -> None:
        if self._hashing is not None:
            self._hashing.result()

    def close(self) -> None:
        """Close the file until the next write: waiting downloads must not use up the file descriptors."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def finish(self) -> int:
        """Make the file durable and rename it to its target. Return its modification time in nanoseconds."""
        file = self.open()
        file.flush()
        os.fsync(file.fileno())
        modified = os.fstat(file.fileno()).st_mtime_ns
        self.close()
        self._path.replace(self._target)
        self.exists = False
        _sync_folder(self._target.parent)
        return modified

    def discard(self) -> None:
        """Remove the temporary file, if there is one. Writing may then start again from the first byte."""
        with contextlib.suppress(OSError):  # closing fails too if the disk is full
            self.close()
        if self.exists:
            with contextlib.suppress(OSError):  # `remove_abandoned_files` tries again
                self._path.unlink(missing_ok=True)
        self._path = _temporary_path(self._target)
        self.exists = False
        self.hash_with(())


def _update(hashes: Iterable["hashlib._Hash"], pieces: Iterable[bytes]) -> None:
    for computed in hashes:
        for piece in pieces:
            computed.update(piece)


def _check_target(target: Path) -> None:
    """Raise FileExistsError if renaming a file to `target` would replace anything but a file."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return
    if not S_ISREG(mode):
        raise FileExistsError(errno.EEXIST, "a folder, a device or a pipe has this name", str(target))


def _temporary_path(target: Path) -> Path:
    return target.with_name(f".jarai-{uuid4().hex}.part")


def remove_partial_files(folder: Path, *, before: float = math.inf) -> None:
    """Remove the temporary files in a folder that were last changed before a Unix time. Blocking."""
    for path in folder.glob(".jarai-*.part"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < before:
                path.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut. Only POSIX lets a program open a folder for that."""
    if os.name != "posix":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:  # the file is complete, and in its place
        _log.warning("%s could not be synced, its new files may be lost in a power cut: %s", folder, error)
