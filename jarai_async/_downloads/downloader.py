"""Decides when a download is tried again, and when its signed URL is renewed."""

import asyncio
import math
import os
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from random import Random
from weakref import WeakValueDictionary

from jarai_async import _clock
from jarai_async._api.models import Deliverable
from jarai_async._downloads.download import Download, Progress
from jarai_async._downloads.file_names import file_name
from jarai_async._downloads.files import Disk
from jarai_async._downloads.links import Links
from jarai_async._errors import IncompleteDownloadError, JaraiError
from jarai_async._events import SavedFile
from jarai_async._http.availability import Availability, is_unavailable
from jarai_async._http.request_log import RequestLog
from jarai_async._http.retry import Retrier, Retry
from jarai_async._http.sender import RequestSender
from jarai_async._http.transport import Transport
from jarai_async._urls import url_parts, valid_until

_RETRY = Retry(attempts=7, base=1.0, cap=30.0)  # half a minute on average
_MIN_VALIDITY = 120.0  # seconds; a signed URL that expires sooner is renewed before it is used
FILES_AT_ONCE = 8
"""How many files are read at a time: enough to use the bandwidth, few enough to complete some soon.

It bounds the memory (up to 4 MiB for each) and how long one pass of the event loop takes."""


class Downloader:
    """Downloads deliverables, with retries and renewed signed URLs.

    With `https`, a signed URL with another scheme is rejected. `retrier` is the default retry policy.
    """

    def __init__(
        self, sender: RequestSender, transport: Transport, random: Random, disk: Disk, *, https: bool
    ) -> None:
        self._sender = sender
        self._transport = transport
        self._https = https
        self._disk = disk
        self._links: WeakValueDictionary[str, Links] = WeakValueDictionary()  # by production
        self._slots = asyncio.Semaphore(FILES_AT_ONCE)
        self.retrier: Retrier = Retrier(_RETRY, random)
        self.availability: Availability = Availability("blob storage")
        """Whether blob storage responds."""

    async def target_path(self, path: str | os.PathLike[str], deliverable: Deliverable) -> Path:
        """Return `path`, or the deliverable's own name in it if `path` is a folder or ends with a slash."""
        is_folder = os.fspath(path).endswith(("/", os.sep))
        if not is_folder:
            async with self._slots:  # one pass of the event loop must not start a thousand operations
                is_folder = await self._disk.run(Path(path).is_dir)
        return Path(path) / file_name(deliverable) if is_folder else Path(path)

    async def download(
        self,
        deliverable: Deliverable,
        target: Path,
        log: RequestLog,
        *,
        retrier: Retrier | None = None,
        slot: AbstractAsyncContextManager[None] | None = None,
        progress: Progress | None = None,
    ) -> SavedFile:
        """Download a file to `target` and verify it. A failed or cancelled download leaves nothing behind.

        The retry policy limits the attempts in a row that make no progress: seven by default. It starts again
        where the last of them showed that the signed URL had expired, and the URL was renewed. `slot` (by
        default one of eight) is held only while bytes flow, not while waiting to try again or for the list of
        deliverables.
        Raises DownloadError, IncompleteDownloadError when out of attempts, FileWriteError; ApiError or
        InvalidResponseError if the list of deliverables cannot be read again to renew the signed URL; and
        ConfigurationError or ClosedError if the client is closed.
        """
        retrier = retrier or self.retrier
        download = Download(deliverable, target, self._disk, log, https=self._https, progress=progress)
        links = self._links_of(deliverable.production_id)

        async def attempt() -> SavedFile:
            return await self._attempt(download, links, log, slot or self._slots)

        def made_no_progress(error: JaraiError) -> bool:
            return isinstance(error, IncompleteDownloadError) and not download.made_progress(since=before)

        try:
            while True:
                before = download.furthest
                try:
                    return await retrier(attempt, made_no_progress, log)
                except IncompleteDownloadError:
                    if not download.made_progress(since=before):
                        raise  # out of attempts; after progress the next follows immediately
        finally:
            await download.discard()

    def _links_of(self, production_id: str | None) -> Links | None:
        """Return the links that all running downloads of a production share."""
        if production_id is None:
            return None
        links = self._links.get(production_id) or Links(self._sender, production_id)
        self._links[production_id] = links
        return links

    async def _attempt(
        self,
        download: Download,
        links: Links | None,
        log: RequestLog,
        slot: AbstractAsyncContextManager[None],
    ) -> SavedFile:
        """Make one attempt. Renew the signed URL if that can help: not while the host cannot be reached."""
        expires = valid_until(download.deliverable.url) or math.inf
        expires_soon = expires - self._transport.server_time < _MIN_VALIDITY
        if links and not download.is_host_down and (download.is_list_outdated or expires_soon):
            await _renew(download, links, log)
        before = download.deliverable
        try:
            return await self._attempt_once(download, log, slot)
        except IncompleteDownloadError:
            if links and download.is_url_refused:
                await _renew(download, links, log)
            if download.deliverable.url == before.url:
                raise
        return await self._attempt_once(download, log, slot)  # an expired URL is no failed attempt

    async def _attempt_once(
        self, download: Download, log: RequestLog, slot: AbstractAsyncContextManager[None]
    ) -> SavedFile:
        """Make one attempt, and record whether blob storage responds."""
        host = url_parts(download.deliverable.url).hostname or ""
        async with slot:
            sent_at = _clock.monotonic()
            try:
                saved = await download.attempt(self._transport)
            except IncompleteDownloadError as error:
                if is_unavailable(error):
                    self.availability.failed(host, error, sent_at, log)
                elif error.status is not None:
                    self.availability.answered(host)
                raise
        self.availability.answered(host)
        return saved


async def _renew(download: Download, links: Links, log: RequestLog) -> None:
    if fresh := await links.renewed(download.deliverable, log):
        await download.renew(fresh)
