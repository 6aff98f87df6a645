"""A log of the requests that arrived, for tests and benchmarks to inspect."""

from bisect import bisect_left
from operator import attrgetter
from typing import get_args

from attrs import define, field

from jarai_async.simulator._api.rate_limits import LimitName
from jarai_async.simulator._api.routes import RouteName
from jarai_async.simulator._common import check_name


@define
class RequestRecord:
    """One request; `arrived` is in seconds on the loop's clock.

    `route` is the name of the route ("submit", "fetch", ..., "download" or "unknown"). `status` is None if no
    response was sent: the connection was reset, the request was left hanging, or the client disconnected.
    `admitted` says whether the request counted against the rate limit. `key` is a label of the key, never
    the key itself. `target` is the identifier in the path: of a download, that of its production.

    `limit` is the limit that a 429 is due to: "minute" or "day" (requests), or "productions" (of the account,
    a day). It is None for other statuses, and for a 429 of a fault. Near midnight (UTC) a 429 of a daily
    quota has a short `retryAfterSeconds` as well, so only this says which limit it was.
    """

    arrived: float
    method: str
    route: str
    key: str | None = None
    admitted: bool = False
    status: int | None = None
    target: str = ""
    limit: LimitName | None = None


@define
class RequestLog:
    """Every request in order of arrival, the number of 429s caused by a limit, and leaked keys."""

    requests: list[RequestRecord] = field(factory=list)
    rate_limited: int = 0
    leaks: list[str] = field(factory=list)

    def count(self, route: str | None, status: int | None) -> int:
        """Return the number of requests with this route and status; None matches all. Raises ValueError."""
        if route is not None:
            check_name("route", route, (*(name for name in get_args(RouteName) if name != "any"), "unknown"))
        return sum(
            route in (None, record.route) and status in (None, record.status) for record in self.requests
        )

    def admitted(self, since: float, until: float) -> int:
        """Return the number of requests admitted in [since, until)."""
        arrival = attrgetter("arrived")
        first = bisect_left(self.requests, since, key=arrival)
        last = bisect_left(self.requests, until, key=arrival)
        return sum(record.admitted for record in self.requests[first:last])
