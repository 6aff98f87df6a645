"""The API requests that were sent for one purpose."""

from datetime import datetime

from attrs import define


@define(eq=False)
class RequestLog:
    """The API requests that were sent for one purpose, such as one production.

    `last_sent_at` is when the last one was sent (UTC): its response describes that time or a later one. With
    `waits_for_key` a request waits while the API key is rejected, instead of failing.
    """

    count: int = 0
    last_sent_at: datetime | None = None
    waits_for_key: bool = False
