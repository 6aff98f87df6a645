"""One file, downloaded over several attempts and verified before it is moved to its target.

`Downloader` decides when to make another attempt and when to renew the signed URL. `Download` keeps the
bytes received so far between attempts and requests the missing ones. `blob_storage` interprets the response
headers; `PartialFile` is the file on disk.

Three limits end a download: the retry policy, which counts attempts in a row that made no progress; three
restarts from the first byte because a file was wrong; and two minutes in which blob storage rejects the
signed URL, also a fresh one. A URL may become valid soon (inferred): the clocks of two hosts differ, or the
file is published later than its list.

No other process resumes a partial file: after a power cut it may have a hole.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from attrs import evolve

from jarai_async import _clock, _urls
from jarai_async._api.models import Deliverable
from jarai_async._downloads import blob_storage
from jarai_async._downloads.checksums import Checksum
from jarai_async._downloads.files import Disk, PartialFile
from jarai_async._errors import (
    DownloadError,
    IncompleteDownloadError,
    InvalidResponseError,
    NoResponseError,
    NotSentError,
)
from jarai_async._events import SavedFile
from jarai_async._http.request_log import RequestLog, log_download
from jarai_async._http.transport import Transport
from jarai_async._secret import Secret

_log = logging.getLogger("jarai_async")

Progress = Callable[[int, int | None], object]
"""Called with the bytes of the file received so far and its size in bytes, None if the size is not known."""

_PIECE = 1 << 20  # bytes: writing less at a time costs more for the change of thread than for the writing
_PROGRESS_INTERVAL = 0.1  # seconds
_MIN_SPEED = 1024  # bytes a second, on average over:
_SPEED_WINDOW = 30.0  # seconds
_MIN_PROGRESS = 1 << 16  # bytes
_MAX_RESTARTS = 3
_MAX_REFUSED = 120.0  # seconds
_MAX_UNKNOWN_SIZE = 20 << 30  # bytes, if no size is known: an endless body must be stopped


class Download:
    """One file on its way to `target`; the `Sink` of its responses.

    With `https`, a URL with another scheme is rejected. The caller calls `attempt` until it succeeds, `renew`
    when the list was read again, and at the end, in any case, `discard`.
    """

    def __init__(
        self,
        deliverable: Deliverable,
        target: Path,
        disk: Disk,
        log: RequestLog,
        *,
        https: bool,
        progress: Progress | None,
    ) -> None:
        self.deliverable = deliverable
        self.furthest = 0  # bytes of the file that were received in the best attempt
        self.is_list_outdated = False  # whether blob storage seems to have a different file than the list
        self.is_host_down = False  # whether the last attempt got no connection: no other URL would help
        self.is_url_refused = False  # whether blob storage rejected the URL in the last attempt
        self._refused_since: float | None = None
        self._is_fresh = False  # whether the URL was renewed and not tried since
        self._disk = disk
        self._purpose = log
        self._status: int | None = None  # of the response in this attempt
        self._received = 0  # bytes, in this attempt
        self._https = https
        self._progress = progress
        self._next_progress = -math.inf
        self._partial_file = PartialFile(target, disk)
        self._chunks: list[bytes] = []  # received, and not written yet
        self._chunks_size = 0  # bytes
        self._offset = 0  # bytes of the file received so far
        self._expected = blob_storage.expected_from_list(deliverable)
        self._restarts = 0
        self._window_start, self._offset_before_window = 0.0, 0

    def made_progress(self, *, since: int) -> bool:
        """Return whether `furthest` has grown by 64 KiB since it had the given value."""
        return self.furthest - since >= _MIN_PROGRESS

    async def renew(self, deliverable: Deliverable) -> None:
        """Continue with a fresh signed URL; restart if it is for a different file."""
        replaced = blob_storage.is_replaced(self.deliverable, deliverable)
        self.deliverable = deliverable
        self.is_list_outdated = False
        self._is_fresh = True
        if replaced:
            await self._discard_received()

    async def attempt(self, transport: Transport) -> SavedFile:
        """Download the missing bytes, verify the file, and move it to its target.

        Raises IncompleteDownloadError if another attempt may succeed, DownloadError if not (with the `status`
        of blob storage if that was the reason), and FileWriteError.
        """
        url = Secret(_urls.percent_encoded(self.deliverable.url))  # never a local variable as text
        if not _urls.is_http_url(url.reveal(), https_only=self._https):
            raise DownloadError(f"the {self.deliverable.type} has no valid https URL")
        await self._disk.run(self._partial_file.open)
        try:
            await self._fetch(transport, url)
        except IncompleteDownloadError:
            await self._disk.run(self._pause)
            raise
        modified, digests = await self._disk.run(self._finish)
        if modified is None:
            await self._restart("the file does not match its checksum")
        self._ignore(self._mismatches(digests))
        self._report_progress()
        return SavedFile(
            deliverable=self.deliverable,
            size=self._offset,
            md5=digests["md5"].hex() if "md5" in digests else None,
            modified=modified,
            verified_by=self._expected.verified_by,
            content_encoding=self._expected.encoding or None,
        )

    async def discard(self) -> None:
        """Remove the partial file. A file that is already at its target stays."""
        if self._partial_file.exists:
            await self._disk.run(self._partial_file.discard)

    async def _fetch(self, transport: Transport, url: Secret) -> None:
        if self._offset and self._offset == self._expected.size:
            return  # the connection broke after the last byte
        headers = blob_storage.request_headers(self._expected, self._offset)
        self.is_host_down = self.is_url_refused = False
        try:
            await self._request(transport, url, headers)
        except (NotSentError, NoResponseError, InvalidResponseError) as error:
            self.is_host_down, self._refused_since = isinstance(error, NotSentError), None
            raise IncompleteDownloadError(f"blob storage: {error.message}") from error
        if self._expected.size not in (None, self._offset):
            raise IncompleteDownloadError(f"only {self._offset} of {self._expected.size} bytes were received")

    async def _request(self, transport: Transport, url: Secret, headers: Mapping[str, str]) -> None:
        """Read the URL once, and log it with the status, or the name of the error that came instead."""
        self._status, self._received, began_at = None, 0, _clock.monotonic()
        result = ""
        try:
            await transport.read_blob(url, headers, self)
        except BaseException as error:
            result = type(error).__name__
            raise
        finally:
            log_download(url, self._status or result, began_at, self._received, self._purpose)

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Accept or reject a response."""
        self._status = status
        resuming = bool(blob_storage.request_headers(self._expected, self._offset))
        if blob_storage.is_refusal(status, resuming=resuming):
            raise self._refusal(status)
        self._refused_since = None
        blob_storage.check_status(status, headers, resuming=resuming)
        self.is_list_outdated = True  # until the response turns out to be about the same file
        expected = None
        if status == 200:
            try:
                expected = blob_storage.expected_from_full_response(self.deliverable, headers)
            except IncompleteDownloadError as error:
                await self._restart(error.message)
            if self._offset:
                await self._discard_received()  # without a strong ETag or a checksum it is not resumed
        elif status == 206:
            expected = blob_storage.expected_from_partial_response(self._expected, self._offset, headers)
        if expected is None:
            await self._restart(f"the download could not be resumed at byte {self._offset}")
        if status == 200:
            self._partial_file.hash_with({checksum.algorithm for checksum in expected.checksums})
        self._expected = expected
        self.is_list_outdated = False
        self._window_start, self._offset_before_window = _clock.monotonic(), self._offset

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes of a response."""
        self._chunks.append(chunk)
        self._received += len(chunk)
        self._chunks_size += len(chunk)
        self._offset += len(chunk)
        self.furthest = max(self.furthest, self._offset)
        now = _clock.monotonic()
        self._check_speed(now)
        size = self._expected.size
        if size is None and self._offset > _MAX_UNKNOWN_SIZE:
            raise DownloadError(f"the file does not end after {_MAX_UNKNOWN_SIZE} bytes")
        if size is not None and self._offset > size:
            await self._restart(f"the file does not end after the expected {size} bytes")
        if self._chunks_size >= _PIECE:
            # meanwhile the next bytes arrive in aiohttp's buffer; once that is full, the socket has to wait
            await self._disk.run(self._write)
        if now >= self._next_progress:
            self._next_progress = now + _PROGRESS_INTERVAL
            self._report_progress()

    def _report_progress(self) -> None:
        if self._progress is not None:
            # scheduled, so that an exception of the callback goes to the loop's handler, not to the download
            asyncio.get_running_loop().call_soon(self._progress, self._offset, self._expected.size)

    def _refusal(self, status: int) -> DownloadError:
        """Return the error for a rejected URL. It is final after two minutes, if a fresh URL was rejected."""
        self.is_url_refused = True
        now = _clock.monotonic()
        if self._refused_since is None:
            self._refused_since = now
        is_final = now - self._refused_since >= _MAX_REFUSED and self._is_fresh
        self._is_fresh = False
        kind = DownloadError if is_final else IncompleteDownloadError
        return kind(f"blob storage rejected the signed URL with status {status}", status=status)

    def _check_speed(self, now: float) -> None:
        """Stop a response that is too slow: it would hold its slot for days."""
        if now - self._window_start < _SPEED_WINDOW:
            return
        if self._offset - self._offset_before_window < _MIN_SPEED * _SPEED_WINDOW:
            raise IncompleteDownloadError(f"blob storage sent less than {_MIN_SPEED} bytes a second")
        self._window_start, self._offset_before_window = now, self._offset

    def _pause(self) -> None:
        self._write()
        self._partial_file.close()

    def _finish(self) -> tuple[int | None, dict[str, bytes]]:
        """Write the last bytes, and move the file to its target unless a checksum shows that it is wrong.

        Return its modification time, None if it is wrong, and its digests.
        """
        self._write()
        digests = self._partial_file.digests({checksum.algorithm for checksum in self._expected.checksums})
        is_right = all(checksum.is_guess for checksum in self._mismatches(digests))
        return self._partial_file.finish() if is_right else None, digests

    def _write(self) -> None:
        if self._chunks:
            self._partial_file.write(self._chunks)
            self._chunks, self._chunks_size = [], 0

    def _mismatches(self, digests: Mapping[str, bytes]) -> frozenset[Checksum]:
        checksums = self._expected.checksums
        return frozenset(checksum for checksum in checksums if checksum.digest != digests[checksum.algorithm])

    def _ignore(self, guesses: frozenset[Checksum]) -> None:
        self._expected = evolve(self._expected, checksums=self._expected.checksums - guesses)
        for checksum in guesses:
            what = f"a checksum of the {self.deliverable.type}"
            _log.warning("%s is ignored: %s is not its %s", what, checksum.digest.hex(), checksum.algorithm)

    async def _restart(self, reason: str) -> NoReturn:
        """End this attempt; the next one requests the complete file, unless that has happened too often."""
        self.is_list_outdated = True
        await self._discard_received()
        self._restarts += 1
        if self._restarts > _MAX_RESTARTS:
            raise DownloadError(f"{reason}; gave up after {_MAX_RESTARTS} restarts from the first byte")
        raise IncompleteDownloadError(reason)

    async def _discard_received(self) -> None:
        self._offset = 0
        self._expected = blob_storage.expected_from_list(self.deliverable)
        self._chunks, self._chunks_size = [], 0
        await self.discard()
