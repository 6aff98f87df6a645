"""Files, whole or not at all: fetched in as many attempts as it takes, verified, and only then named.

What came before a connection broke is kept for as long as the download lasts, and gone on with by range; how
storage's answers are read is in `_storage`, what happens on the disk in `_files`. Two counts bound the work:
the attempts in a row that brought less than 64 KiB, which whoever calls counts, and waits after; and the
times that what is here is thrown away, three at most.

A part is never gone on with by another process: a power cut may leave a hole in it.
"""

import asyncio
import mimetypes
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from jarai_async import _clock, _urls
from jarai_async._api.models import Deliverable
from jarai_async._downloads import blob_storage
from jarai_async._downloads.file_names import safe_name
from jarai_async._downloads.files import PartialFile, in_thread
from jarai_async._errors import (
    DownloadError,
    IncompleteDownloadError,
    InvalidResponseError,
    NoResponseError,
    NotSentError,
)
from jarai_async._http.transport import Transport
from jarai_async._secret import Secret

Progress = Callable[[int, int | None], object]
"""Takes how many bytes of a file are here, and how many it has: None where that is not known."""

_BUFFER = 1 << 20  # bytes
_LEAST_SPEED = 1024  # bytes a second, over each of these seconds:
_SPEED_WINDOW = 30.0
_STEP = 1 << 16  # bytes; who sends less in one go makes no headway
_NEW_BEGINNINGS = 3
_LARGEST_FILE = 20 << 30  # bytes, where no size is known: an endless body must end


async def destination(path: str | os.PathLike[str], deliverable: Deliverable) -> Path:
    """Where a file goes: `path` itself, or its own name in it where that is a folder or ends with a slash."""
    folder = os.fspath(path).endswith(("/", os.sep)) or await in_thread(Path(path).is_dir)
    return Path(path) / file_name(deliverable) if folder else Path(path)


def file_name(deliverable: Deliverable) -> str:
    """Name a deliverable's file: as the server does, or by what it is."""
    if deliverable.file_name:
        return safe_name(deliverable.file_name)
    stem = "-".join(filter(None, (deliverable.type, deliverable.platform)))
    return safe_name(stem + (mimetypes.guess_extension(deliverable.content_type or "") or ""))


class Download:
    """One file on its way into `target`, over any number of attempts; a `Sink` for what comes.

    With `https`, a URL of another kind is refused. What comes next is for the caller to say:
    `attempt` again, `renew` it from the list, and at last `abandon`, in any case.
    """

    def __init__(
        self, deliverable: Deliverable, target: Path, *, https: bool, progress: Progress | None
    ) -> None:
        self.received = 0  # bytes, also those that were thrown away
        self.deliverable = deliverable
        self.in_doubt = False  # whether storage seems to have another file than the list says
        self._target = target
        self._https = https
        self._progress = progress
        self._part = PartialFile(target)
        self._buffer = bytearray()
        self._done = 0  # bytes of the file that are here
        self._claim = blob_storage.listed(deliverable)
        self._beginnings = 0
        self._received_before, self._since = 0, 0.0

    @property
    def _is_here(self) -> bool:
        return self._done > 0 and self._done == self._claim.size

    def has_headway(self, since: int) -> bool:
        """Whether enough came since so many bytes were `received` to call it that."""
        return self.received - since >= _STEP

    async def renew(self, deliverable: Deliverable) -> None:
        """Go on with a fresh link; anew, where it is to another file."""
        changed = blob_storage.contradicts(self.deliverable, deliverable)
        self.deliverable = deliverable
        self.in_doubt = False
        if changed and self._done:
            await self._forget("the file was replaced")
        self._claim = blob_storage.listed(deliverable) if changed else self._claim

    async def attempt(self, transport: Transport) -> None:
        """Fetch what is missing, and give the file its name.

        Raises IncompleteDownloadError where another attempt may help, DownloadError, with the blob
        store's `status` where that refused, where it will not, and FileWriteError.
        """
        if not _urls.is_http_url(self.deliverable.url, https_only=self._https):
            raise DownloadError(f"the {self.deliverable.type} has no URL of https to a plain host")
        await in_thread(self._part.open)
        try:
            await self._fetch(transport)
            await in_thread(self._flush)
            await self._verify()
        except IncompleteDownloadError:
            await in_thread(self._pause)
            raise
        await in_thread(self._part.finish)

    async def abandon(self) -> None:
        """Leave nothing behind but the whole file, or what was there before."""
        await in_thread(self._part.abandon)

    async def _fetch(self, transport: Transport) -> None:
        if self._is_here:
            return
        headers = blob_storage.request_headers(self._claim, self._done)
        try:
            await transport.read_blob(Secret(self.deliverable.url), headers, self)
        except (NotSentError, NoResponseError, InvalidResponseError) as error:
            raise IncompleteDownloadError(f"blob storage: {error.message}") from error

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Accept or refuse the answer to a request."""
        resuming = bool(blob_storage.request_headers(self._claim, self._done))
        usable = blob_storage.check_status(status, resuming=resuming)
        self.in_doubt = True  # until the answer has proved to be about the file that is known here
        if usable and status == 200:
            claim = blob_storage.whole(blob_storage.listed(self.deliverable), headers)
            if self._done:
                await self._forget(
                    "it broke off, and blob storage sends no part of it, or has another file now"
                )
            self._claim = claim
        else:
            continued = blob_storage.rest(self._claim, self._done, headers) if usable else None
            if continued is None:
                await self._begin_anew("what is here is no part of what blob storage has now")
            else:
                self._claim = continued
        self.in_doubt = False
        self._received_before, self._since = self.received, _clock.monotonic()

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._buffer += chunk
        self._done += len(chunk)
        self.received += len(chunk)
        self._check_speed()
        if self._claim.size is None and self._done > _LARGEST_FILE:
            raise DownloadError("the file does not end")
        if self._claim.size is not None and self._done > self._claim.size:
            await self._begin_anew("the file does not end where it should")
        if len(self._buffer) >= _BUFFER:
            await in_thread(self._flush)
        if self._progress is not None:
            # what it raises is for the loop to report: it ends no download
            asyncio.get_running_loop().call_soon(self._progress, self._done, self._claim.size)

    def _check_speed(self) -> None:
        """Give up what merely drips: it would hold its place for days."""
        now = _clock.monotonic()
        if now - self._since < _SPEED_WINDOW:
            return
        if self.received - self._received_before < _LEAST_SPEED * _SPEED_WINDOW:
            raise IncompleteDownloadError(f"less than {_LEAST_SPEED} bytes a second came")
        self._since, self._received_before = now, self.received

    def _pause(self) -> None:
        self._flush()
        self._part.close()

    def _flush(self) -> None:
        self._part.write(self._buffer)
        self._buffer.clear()

    async def _verify(self) -> None:
        if self._claim.size not in (None, self._done):
            raise IncompleteDownloadError(f"{self._done} bytes came of {self._claim.size}")
        if not self._claim.checksums <= {self._part.md5}:
            await self._begin_anew("the file does not match its checksum")

    async def _begin_anew(self, reason: str) -> None:
        self.in_doubt = True
        await self._forget(reason)
        raise IncompleteDownloadError(reason)

    async def _forget(self, reason: str) -> None:
        """Throw away what is here. Raises DownloadError where that was done often enough."""
        self._beginnings += 1
        if self._beginnings > _NEW_BEGINNINGS:
            raise DownloadError(f"{reason}, also after {_NEW_BEGINNINGS} new beginnings")
        self._done = 0
        self._claim = blob_storage.listed(self.deliverable)
        self._buffer.clear()
        await in_thread(self._part.abandon)
