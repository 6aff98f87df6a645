"""What came in: the requests as they were, for tests and benchmarks to reckon with afterwards."""

from bisect import bisect_left
from operator import attrgetter

from attrs import define, field


@define
class RequestRecord:
    """One request as it arrived, and what became of it; `arrived` is seconds on the loop's clock.

    `route` is the name of what was called ("submit", "fetch", ... or "unknown"), `status` the one that was
    sent, None for as long as nothing was: a connection that was reset, a request left hanging, a client that
    left. `admitted` says whether it took a place in the request budget. `key` is a label, never the key.
    """

    arrived: float
    method: str
    route: str
    key: str | None = None
    admitted: bool = False
    status: int | None = None
    target: str = ""


@define
class RequestLog:
    """Every request in order of arrival, and what else deserves counting."""

    requests: list[RequestRecord] = field(factory=list)
    rate_limited: int = 0
    leaks: list[str] = field(factory=list)

    def count(self, route: str | None, status: int | None) -> int:
        """How many requests fit; None fits all."""
        return sum(
            route in (None, record.route) and status in (None, record.status) for record in self.requests
        )

    def admitted(self, since: float, until: float) -> int:
        """How many were admitted in [since, until)."""
        arrival = attrgetter("arrived")
        first = bisect_left(self.requests, since, key=arrival)
        last = bisect_left(self.requests, until, key=arrival)
        return sum(record.admitted for record in self.requests[first:last])
