"""Renews the signed URLs of one production's files, and reads its list of deliverables rarely for that.

A list brings a fresh URL for every file. It is read at most once a minute, however many files fail and for
whatever reason: a failing download must not use up the rate limit.
"""

import asyncio
import math
from collections.abc import Sequence
from random import Random

from jarai_async import _clock
from jarai_async._api import endpoints
from jarai_async._api.calls import may_repeat
from jarai_async._api.listing import find_again
from jarai_async._api.models import Deliverable
from jarai_async._errors import DownloadError, IncompleteDownloadError, JaraiError
from jarai_async._http.request_log import RequestLog
from jarai_async._http.retry import Retrier, Retry
from jarai_async._http.sender import RequestSender

_MIN_INTERVAL = 60.0  # seconds between two reads of the list
_ONCE = Retrier(Retry(attempts=1), Random(0))  # it never waits, so it draws nothing


class Links:
    """The signed URLs of the files of one production."""

    def __init__(self, sender: RequestSender, production_id: str) -> None:
        self._sender = sender
        self._call = endpoints.deliverables(production_id)
        self._lock = asyncio.Lock()
        self._read_at = -math.inf
        self._listed: Sequence[Deliverable] = ()

    async def renewed(self, deliverable: Deliverable, log: RequestLog) -> Deliverable | None:
        """Return the deliverable as a newer list has it; None if the list was read less than a minute ago.

        Raises DownloadError if it is not in the list any more, IncompleteDownloadError if the list cannot be
        read now, ApiError or InvalidResponseError if it cannot be read at all.
        """
        async with self._lock:
            known, now = find_again(deliverable, self._listed), _clock.monotonic()
            if known is not None and known.url != deliverable.url:
                return known  # the list was read for another file
            if now - self._read_at < _MIN_INTERVAL:
                return None
            self._read_at = now
            self._listed = await self._read(log)
            fresh = find_again(deliverable, self._listed)
        if fresh is None:
            raise DownloadError(f"the {deliverable.type} is no longer among the deliverables")
        return fresh

    async def _read(self, log: RequestLog) -> Sequence[Deliverable]:
        try:
            return await self._sender.execute(self._call, log, _ONCE)
        except JaraiError as error:
            if not may_repeat(self._call, error, idempotency_keys=False):
                raise
            raise IncompleteDownloadError(f"the signed URL was not renewed: {error.message}") from error
