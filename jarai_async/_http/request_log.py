"""The API requests that were sent for one purpose."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from attrs import define, field

from jarai_async import _clock
from jarai_async._api.calls import Call, Kind
from jarai_async._errors import JaraiError
from jarai_async._secret import Secret
from jarai_async._urls import host_and_path

_log = logging.getLogger("jarai_async")


@define(eq=False)
class Repetition:
    """A request that failed with `error` and is repeated; `pause` ends before the next attempt."""

    error: JaraiError
    pause: _clock.Deadline | None = None


@define(eq=False)
class RequestLog:
    """The API requests that were sent for one purpose, such as one production.

    `last_sent_at` is when the last one was sent (UTC): its response describes that time or a later one. With
    `waits_for_key` a request waits while the API key is rejected, instead of failing. `name` names the
    purpose in messages. `queued` are the kinds of the requests that wait for a slot of the rate limit, and
    `repeated` those that failed and are sent again.
    """

    count: int = 0
    last_sent_at: datetime | None = None
    waits_for_key: bool = False
    name: str = "a request"
    queued: list[Kind] = field(factory=list)
    repeated: list[Repetition] = field(factory=list)

    @contextmanager
    def repeating(self, error: JaraiError) -> Iterator[Repetition]:
        """Record that a request is repeated after this error."""
        repetition = Repetition(error)
        self.repeated.append(repetition)
        try:
            yield repetition
        finally:
            self.repeated.remove(repetition)


def log_request(call: Call[Any], result: int | str, began_at: float, purpose: RequestLog) -> None:
    """Log a request with its status, or the name of the error that came instead of a response."""
    if not _log.isEnabledFor(logging.DEBUG):
        return
    milliseconds = (_clock.monotonic() - began_at) * 1000
    facts = {
        "event": "Request",
        "kind": call.kind.name.lower(),
        "method": call.method,
        "path": call.path,
        "result": result,
        "milliseconds": milliseconds,
        "purpose": purpose.name,
    }
    message = "%s %s: %s after %.0f ms"
    _log.debug(message, call.method, call.path, result, milliseconds, extra={"jarai": facts})


def log_download(url: Secret, result: int | str, began_at: float, size: int, purpose: RequestLog) -> None:
    """Log an attempt to read a signed URL as `log_request` does; `size` is in bytes that were received."""
    if not _log.isEnabledFor(logging.DEBUG):
        return
    host, path = host_and_path(url.reveal())
    milliseconds = (_clock.monotonic() - began_at) * 1000
    facts = {
        "event": "Download",
        "kind": "download",
        "method": "GET",
        "host": host,
        "path": path,
        "result": result,
        "milliseconds": milliseconds,
        "size": size,
        "purpose": purpose.name,
    }
    message = "GET %s%s: %s, %d bytes after %.0f ms"
    _log.debug(message, host, path, result, size, milliseconds, extra={"jarai": facts})
