"""Decides when a download is tried again, and when its signed URL is renewed."""

import math
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from random import Random

from jarai_async._api import endpoints
from jarai_async._api.calls import may_repeat
from jarai_async._api.models import Deliverable
from jarai_async._downloads.download import Download, Progress
from jarai_async._downloads.files import Disk
from jarai_async._errors import DownloadError, IncompleteDownloadError, JaraiError
from jarai_async._http.request_log import RequestLog
from jarai_async._http.retry import Retrier, Retry
from jarai_async._http.sender import RequestSender
from jarai_async._http.transport import Transport
from jarai_async._urls import valid_until

_RETRY = Retry(attempts=5, base=1.0, cap=30.0)
_URL_REJECTED = (401, 403)  # the status for a signed URL that has expired
_MIN_VALIDITY = 120.0  # seconds; a signed URL that expires sooner is renewed before it is used


class Downloader:
    """Downloads deliverables, with retries and renewed signed URLs.

    With `https`, a signed URL with another scheme is rejected. `retrier` is the default retry policy,
    and `disk` the threads that write the files.
    """

    def __init__(self, sender: RequestSender, transport: Transport, random: Random, *, https: bool) -> None:
        self._sender = sender
        self._transport = transport
        self._https = https
        self.disk = Disk()
        self.retrier = Retrier(_RETRY, random)

    async def download(
        self,
        deliverable: Deliverable,
        target: Path,
        log: RequestLog,
        *,
        retrier: Retrier | None = None,
        slot: AbstractAsyncContextManager[None] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Download a file to `target` and verify it. A failed or cancelled download leaves nothing behind.

        The retry policy limits the attempts in a row that make no progress: five by default. `slot` is held
        only while bytes flow, not while waiting to try again.
        Raises DownloadError, IncompleteDownloadError when out of attempts, FileWriteError; ApiError or
        InvalidResponseError if the list of deliverables cannot be read again to renew the signed URL; and
        ConfigurationError or ClosedError if the client is closed.
        """
        retrier = retrier or self.retrier
        download = Download(deliverable, target, self.disk, https=self._https, progress=progress)

        async def attempt() -> None:
            async with slot or nullcontext():
                await self._attempt(download, log)

        def made_no_progress(error: JaraiError) -> bool:
            return isinstance(error, IncompleteDownloadError) and not download.made_progress(since=before)

        try:
            while True:
                before = download.received
                try:
                    return await retrier(attempt, made_no_progress)
                except IncompleteDownloadError:
                    if not download.made_progress(since=before):
                        raise  # out of attempts; after progress the next attempt follows immediately
        finally:
            await download.discard()

    async def _attempt(self, download: Download, log: RequestLog) -> None:
        """Make one attempt.

        Renew the signed URL if it expires soon or is rejected, or if the list seems to be outdated.
        """
        expires = valid_until(download.deliverable.url) or math.inf
        expires_soon = expires - self._transport.server_time < _MIN_VALIDITY
        can_renew = download.deliverable.production_id is not None
        renewed = can_renew and (download.is_list_outdated or expires_soon)
        if renewed:
            await self._renew(download, log)
        try:
            await download.attempt(self._transport)
        except DownloadError as error:
            if renewed or error.status not in _URL_REJECTED:
                raise
            await self._renew(download, log)
            await download.attempt(self._transport)

    async def _renew(self, download: Download, log: RequestLog) -> None:
        """Read the list of deliverables again, and continue with the fresh signed URL in it."""
        deliverable = download.deliverable
        if deliverable.production_id is None:
            raise DownloadError("the signed URL was rejected and not renewed: its production is not known")
        call = endpoints.deliverables(deliverable.production_id)
        try:
            listed = await self._sender.execute(call, log)
        except JaraiError as error:
            if not may_repeat(call, error, idempotency_keys=False):
                raise
            raise IncompleteDownloadError(f"the signed URL was not renewed: {error.message}") from error
        for fresh in listed:
            if _identity(fresh) == _identity(deliverable):
                return await download.renew(fresh)
        raise DownloadError(f"the {deliverable.type} is no longer among the deliverables")


def _identity(deliverable: Deliverable) -> object:
    return deliverable.id or (deliverable.type, deliverable.platform, deliverable.file_name)
