"""Files, whole or not at all: written beside the target, verified, made durable, then renamed.

All work on the disk is done in threads, a mebibyte at a time, so that a slow disk never stops the loop.
"""

import asyncio
import base64
import binascii
import hashlib
import mimetypes
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

from jarai_async import _clock
from jarai_async._errors import (
    DownloadError,
    FileWriteError,
    IncompleteDownloadError,
    InvalidAnswerError,
    NoAnswerError,
    NotSentError,
)
from jarai_async._models import Deliverable
from jarai_async._names import safe_name
from jarai_async._secret import Secret
from jarai_async._transport import Transport

T = TypeVar("T")

_BUFFER = 1 << 20  # bytes
_LEAST_SPEED = 1024  # bytes a second, over each of these seconds:
_SPEED_WINDOW = 30.0
_PASSING = (408, 429)  # and 5xx: what blob storage answers when it may be asked again
_LARGEST_FILE = 20 << 30  # bytes, where no size is known: an endless body must end


async def download(transport: Transport, deliverable: Deliverable, target: Path, *, https: bool) -> None:
    """Fetch a deliverable's signed URL into `target`, replacing what is there.

    Raises DownloadError, with the blob store's `status` where that refused, and FileWriteError. With
    `https`, a URL of another kind is refused.
    """
    if not _is_allowed(deliverable.url, https=https):
        raise DownloadError(f"the {deliverable.type} has no URL of https to a plain host")
    part = target.with_name(f".{uuid4().hex}.part")
    sink = _FileSink(part, deliverable)
    try:
        await _in_thread(sink.open)
        await transport.read_blob(Secret(deliverable.url), sink)
        await _in_thread(lambda: sink.finish(target))
    except (NotSentError, NoAnswerError, InvalidAnswerError) as error:
        raise IncompleteDownloadError(f"blob storage: {error.message}") from error
    finally:
        await _in_thread(sink.abandon)


async def destination(path: str | os.PathLike[str], deliverable: Deliverable) -> Path:
    """Where a file goes: `path` itself, or its own name in it where that is a folder or ends with a slash."""
    folder = os.fspath(path).endswith(("/", os.sep)) or await _in_thread(Path(path).is_dir)
    return Path(path) / file_name(deliverable) if folder else Path(path)


async def make_folder(folder: Path) -> None:
    """Make a folder, unless it is there. Raises FileWriteError."""
    await _in_thread(lambda: folder.mkdir(parents=True, exist_ok=True))


async def write_text(target: Path, text: str) -> None:
    """Write a small file whole or not at all. Raises FileWriteError."""
    await _in_thread(lambda: _write_text(target, text))


def _write_text(target: Path, text: str) -> None:
    part = target.with_name(f".{uuid4().hex}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


async def _in_thread(work: Callable[[], T]) -> T:
    """Do a short piece of work on the disk, to its end: a cancellation waits until it is done."""
    job = asyncio.ensure_future(asyncio.to_thread(work))
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
        raise FileWriteError(f"{failure.strerror or failure}: {failure.filename}") from None
    return job.result()


def file_name(deliverable: Deliverable) -> str:
    """Name a deliverable's file: as the server does, or by what it is."""
    if deliverable.file_name:
        return safe_name(deliverable.file_name)
    stem = "-".join(filter(None, (deliverable.type, deliverable.platform)))
    return safe_name(stem + (mimetypes.guess_extension(deliverable.content_type or "") or ""))


def _is_allowed(url: str, *, https: bool) -> bool:
    try:
        parts = urlsplit(url)
        plain = bool(parts.hostname) and parts.username is None and parts.port != 0
    except ValueError:
        return False
    return plain and parts.scheme in (("https",) if https else ("https", "http"))


class _FileSink:
    """Receives a body into a file beside the target, and vouches for it at the end."""

    def __init__(self, part: Path, deliverable: Deliverable) -> None:
        self._part = part
        self._deliverable = deliverable
        self._file: IO[bytes] | None = None
        self._buffer = bytearray()
        self._received = 0
        self._received_before, self._since = 0, _clock.monotonic()
        self._expected: int | None = deliverable.size
        self._checksums = [deliverable.content_md5]
        self._digest = hashlib.md5(usedforsecurity=False)  # what blob storage offers (Content-MD5)

    def open(self) -> None:
        self._part.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("xb")

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        if status != 200:
            kind = IncompleteDownloadError if status in _PASSING or status >= 500 else DownloadError
            raise kind(f"blob storage answered {status}", status=status)
        if headers.get("Content-Encoding", "identity") != "identity":
            raise DownloadError("blob storage sent an encoding that was not asked for", status=status)
        length = headers.get("Content-Length", "")
        if length.isdecimal():
            self._expect(int(length))
        self._checksums.append(headers.get("Content-MD5"))
        vouched = self._expected is not None or any(self._checksums)
        if not vouched and "chunked" not in headers.get("Transfer-Encoding", ""):
            raise DownloadError("neither a length nor a checksum tells where the file ends", status=status)

    def _expect(self, length: int) -> None:
        if self._expected not in (None, length):
            raise IncompleteDownloadError(f"{length} bytes are offered, {self._expected} were announced")
        self._expected = length

    async def write(self, chunk: bytes) -> None:
        self._buffer += chunk
        self._received += len(chunk)
        self._check_speed()
        if self._received > (_LARGEST_FILE if self._expected is None else self._expected):
            raise DownloadError("the file does not end where it should")
        if len(self._buffer) >= _BUFFER:
            await _in_thread(self._flush)

    def _check_speed(self) -> None:
        """Give up what merely drips: it would hold its place for days."""
        now = _clock.monotonic()
        if now - self._since < _SPEED_WINDOW:
            return
        if self._received - self._received_before < _LEAST_SPEED * _SPEED_WINDOW:
            raise IncompleteDownloadError(f"less than {_LEAST_SPEED} bytes a second came")
        self._since, self._received_before = now, self._received

    def _flush(self) -> None:
        if self._file is not None:
            self._file.write(self._buffer)
        self._digest.update(self._buffer)
        self._buffer.clear()

    def finish(self, target: Path) -> None:
        """Verify, make durable, and only then give the file its name."""
        self._flush()
        self._verify()
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        self._part.replace(target)
        _sync_folder(target.parent)

    def _verify(self) -> None:
        if self._expected not in (None, self._received):
            raise IncompleteDownloadError(f"{self._received} bytes came of {self._expected}")
        for checksum in self._checksums:
            if checksum and _decoded(checksum) != self._digest.digest():
                raise IncompleteDownloadError("the file does not match its checksum")

    def abandon(self) -> None:
        """Leave nothing behind; after `finish` there is nothing left."""
        if self._file is not None:
            self._file.close()
        self._part.unlink(missing_ok=True)


def _decoded(checksum: str) -> bytes:
    try:
        return base64.b64decode(checksum, validate=True)
    except (binascii.Error, ValueError):
        return b""  # not a checksum: nothing matches it


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut; not every system lets a folder be opened for it."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
