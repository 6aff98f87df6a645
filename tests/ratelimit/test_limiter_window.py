"""A client that is alone on its key never exceeds the server's rolling window, and uses all of it."""

import heapq
import math
from collections.abc import Iterator
from itertools import count
from random import Random

from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import RateLimit
from jarai_async._api.calls import Kind
from jarai_async._api.responses import RateLimitState
from jarai_async._ratelimit.limiter import WINDOW, RateLimiter
from jarai_async.simulator._api.rate_limits import RollingWindow
from tests.support.limiters import NO_DAILY_QUOTA, NOON, limiter_at, send_all

ARRIVAL = "arrival"  # at the server; all other events are at the client
RESPONSE, RESPONSE_WITHOUT_HEADERS, LOST, NEVER_SENT = "response", "without headers", "lost", "never sent"

# Kind, result, seconds since the previous request, latency, and its share before the arrival.
_Request = tuple[Kind, str, float, float, float]


@define
class Exchange:
    """One client, which sends whenever it may, and a server that counts arrivals and rejects nothing."""

    limiter: RateLimiter
    server: RollingWindow
    now: float = 0.0
    fewest_remaining: int = 10**9
    _random: Random = field(factory=lambda: Random(1))
    _events: list[tuple[float, int, str, dict[str, int]]] = field(factory=list)
    _order: Iterator[int] = field(factory=count)

    def run(self, requests: list[_Request]) -> None:
        for kind, result, pause, latency, share in requests:
            self._advance(self.now + pause)
            self._wait_for_slot(kind)
            request = {"slot": self.limiter.acquire(kind, self.now, NOON + self.now)}
            if result != NEVER_SENT:
                self._schedule(self.now + latency * share, ARRIVAL, request)
            self._schedule(self.now + latency, result, request)
        while self._events:
            self._step()

    def _schedule(self, time: float, event: str, request: dict[str, int]) -> None:
        heapq.heappush(self._events, (time, next(self._order), event, request))

    def _wait_for_slot(self, kind: Kind) -> None:
        while (at := self.limiter.earliest_send(kind, self.now, NOON + self.now)) > self.now:
            if self._events and self._events[0][0] <= at:
                self._step()
            else:
                assert at < math.inf, "no response is expected, and yet the request waits for ever"
                self.now = at

    def _advance(self, time: float) -> None:
        while self._events and self._events[0][0] <= time:
            self._step()
        self.now = max(self.now, time)

    def _step(self) -> None:
        self.now, _, event, request = heapq.heappop(self._events)
        if event == ARRIVAL:
            self.server.count(self.now)
            request["remaining"] = self.server.remaining(self.now)
            self.fewest_remaining = min(self.fewest_remaining, request["remaining"])
        elif event == LOST:
            self.limiter.failed(request["slot"], self.now)
        elif event == NEVER_SENT:
            self.limiter.release(request["slot"])
        else:
            state = RateLimitState()
            if event == RESPONSE:
                state = RateLimitState(self.server.limit, max(0, request["remaining"]))
            self.limiter.record_response(state, request["slot"], self.now, self._random)


requests_of_all_kinds = st.tuples(
    st.sampled_from(list(Kind)),
    st.sampled_from([RESPONSE] * 6 + [LOST, NEVER_SENT, RESPONSE_WITHOUT_HEADERS]),
    st.one_of(st.just(0.0), st.floats(0, 70)),
    st.one_of(st.floats(0, 0.5), st.floats(0, 100), st.sampled_from([0.0, 59.999, 60.0])),
    st.floats(0, 1),
)


@given(
    st.lists(requests_of_all_kinds, max_size=60),
    st.sampled_from([(1, 1), (2, 2), (3, 3), (7, 7), (10, None)]),
)
def test_sole_client_never_exceeds_the_rolling_window(
    requests: list[_Request], limits: tuple[int, int | None]
) -> None:
    """No order of sends, arrivals, responses and losses makes a sole client exceed the rate limit."""
    server_limit, user_limit = limits
    limiter = RateLimiter(RateLimit(user_limit, NO_DAILY_QUOTA))
    exchange = Exchange(limiter, RollingWindow(server_limit))
    exchange.run(requests)
    assert exchange.fewest_remaining >= 0
    assert limiter.others_seen_at == -math.inf, "it took its own requests for those of other programs"
    assert limiter.used_slots(exchange.now + WINDOW + 1) == 0
    assert limiter.in_flight == 0


def test_complete_limit_may_be_used_at_once() -> None:
    """A sole client may use every slot, and each again 60 s after its response."""
    limiter = limiter_at(60)
    assert send_all(limiter, 1) == 59
    limiter.record_response(RateLimitState(60, 0), 0, 2, Random(1))
    assert limiter.earliest_send(Kind.READ, 3, NOON) == WINDOW
    assert send_all(limiter, WINDOW) == 1
    assert limiter.earliest_send(Kind.READ, WINDOW, NOON) == 2 + WINDOW
