"""Downloads deliverables: when to try again, and when to read the list again for a fresh link."""

import math
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from random import Random

from jarai_async._api import endpoints
from jarai_async._api.calls import may_repeat
from jarai_async._api.models import Deliverable
from jarai_async._downloads.download import Download, Progress
from jarai_async._errors import DownloadError, IncompleteDownloadError, JaraiError
from jarai_async._http.request_log import RequestLog
from jarai_async._http.retry import Retrier, Retry
from jarai_async._http.sender import RequestSender
from jarai_async._http.transport import Transport
from jarai_async._urls import valid_until

_RETRY = Retry(attempts=5, base=1.0, cap=30.0)
_NO_SLOT: AbstractAsyncContextManager[None] = nullcontext()
_LINK_REFUSED = (401, 403)  # what blob storage answers to a signed URL that has expired
_LINK_ENDING = 120.0  # seconds that it may still have when it is renewed before it is used


class Downloader:
    """Downloads deliverables."""

    def __init__(self, sender: RequestSender, transport: Transport, random: Random, *, https: bool) -> None:
        self.retrier = Retrier(_RETRY, random)
        self._sender = sender
        self._transport = transport
        self._https = https

    async def download(
        self,
        wanted: Deliverable,
        target: Path,
        log: RequestLog,
        *,
        retrier: Retrier | None = None,
        slot: AbstractAsyncContextManager[None] = _NO_SLOT,
        progress: Progress | None = None,
    ) -> None:
        """Fetch a file; the slot is held while bytes flow, and not while waiting to try again."""
        download = Download(wanted, target, https=self._https, progress=progress)

        async def attempt() -> None:
            async with slot:
                await self._advance(download, log)

        def is_stuck(error: JaraiError) -> bool:
            return isinstance(error, IncompleteDownloadError) and not download.has_headway(before)

        try:
            while True:
                before = download.received
                try:
                    return await (retrier or self.retrier)(attempt, is_stuck)
                except IncompleteDownloadError:
                    if not download.has_headway(before):
                        raise
        finally:
            await download.abandon()

    async def _advance(self, download: Download, log: RequestLog) -> None:
        until = valid_until(download.deliverable.url) or math.inf
        stale = download.in_doubt or until - self._transport.server_time < _LINK_ENDING
        renewed = stale and download.deliverable.production_id is not None
        if renewed:
            await download.renew(await self._renewed(download.deliverable, log))
        try:
            await download.attempt(self._transport)
        except DownloadError as error:
            if renewed or error.status not in _LINK_REFUSED:
                raise
            await download.renew(await self._renewed(download.deliverable, log))
            await download.attempt(self._transport)

    async def _renewed(self, deliverable: Deliverable, log: RequestLog) -> Deliverable:
        if deliverable.production_id is None:
            raise DownloadError("the signed URL was refused, and its production is not known")

        def identity(one: Deliverable) -> object:
            return one.id or (one.type, one.platform, one.file_name)

        call = endpoints.deliverables(deliverable.production_id)
        try:
            found = await self._sender.execute(call, log)
        except JaraiError as error:
            if not may_repeat(call, error, idempotency_keys=False):
                raise
            raise IncompleteDownloadError(f"its signed URL was not renewed: {error.message}") from error
        for fresh in found:
            if identity(fresh) == identity(deliverable):
                return fresh
        raise DownloadError(f"the {deliverable.type} is no longer among the deliverables")
