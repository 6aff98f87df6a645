"""The request budget, pure: against a true rolling window, and against others."""

import heapq
import math
from collections.abc import Iterator
from itertools import count
from random import Random

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import RateLimit
from jarai_async._api.calls import Kind
from jarai_async._api.responses import RateLimitState
from jarai_async._ratelimit.limiter import WINDOW, RateLimiter
from jarai_async.simulator._api.rate_limits import RollingWindow
from tests.support.limiters import DAY, NO_DAY, NOON, send, send_slowly, used_up

ANSWERED, LOST, NEVER_SENT, NO_HEADERS = "answered", "lost", "never sent", "no headers"


@define
class World:
    """A client that sends whenever it may, and a server that counts arrivals and refuses nothing."""

    budget: RateLimiter
    window: RollingWindow
    random: Random = field(factory=lambda: Random(1))
    now: float = 0.0
    order: Iterator[int] = field(factory=count)
    agenda: list[tuple[float, int, str, dict[str, int]]] = field(factory=list)
    sent: int = 0
    worst: int = 10**9

    def run(self, fates: list[tuple[Kind, str, float, float, float]]) -> None:
        for kind, fate, pause, latency, share in fates:
            self.advance(self.now + pause)
            self.wait_for_a_turn(kind)
            slot = self.budget.acquire(kind, self.now, NOON + self.now)
            self.sent += 1
            request = {"slot": slot}
            if fate != NEVER_SENT:
                self.at(self.now + latency * share, "arrives", request)
            self.at(self.now + latency, fate, request)
        while self.agenda:
            self.step()

    def at(self, moment: float, what: str, request: dict[str, int]) -> None:
        heapq.heappush(self.agenda, (moment, next(self.order), what, request))

    def wait_for_a_turn(self, kind: Kind) -> None:
        while (at := self.budget.earliest_send(kind, self.now, NOON + self.now)) > self.now:
            if self.agenda and self.agenda[0][0] <= at:
                self.step()
            else:
                assert at < math.inf, "nothing is on its way, and yet it waits for ever"
                self.now = at

    def advance(self, moment: float) -> None:
        while self.agenda and self.agenda[0][0] <= moment:
            self.step()
        self.now = max(self.now, moment)

    def step(self) -> None:
        self.now, _, what, request = heapq.heappop(self.agenda)
        if what == "arrives":
            self.window.count(self.now)
            request["remaining"] = self.window.remaining(self.now)
            self.worst = min(self.worst, request["remaining"])
        elif what == LOST:
            self.budget.failed(self.now)
        elif what == NEVER_SENT:
            self.budget.release()
        else:
            rate = (
                RateLimitState(self.window.limit, max(0, request["remaining"]))
                if what == ANSWERED
                else RateLimitState()
            )
            self.budget.record_response(rate, request["slot"], self.now, self.random)


latencies = st.one_of(st.floats(0, 0.5), st.floats(0, 100), st.sampled_from([0.0, 59.999, 60.0]))
fates = st.tuples(
    st.sampled_from(list(Kind)),
    st.sampled_from([ANSWERED] * 6 + [LOST, NEVER_SENT, NO_HEADERS]),
    st.one_of(st.just(0.0), st.floats(0, 70)),
    latencies,
    st.floats(0, 1),
)


@given(st.lists(fates, max_size=60), st.sampled_from([(1, 1), (2, 2), (3, 3), (7, 7), (10, None)]))
def test_a_sole_client_never_exceeds_the_servers_window(
    fates: list[tuple[Kind, str, float, float, float]], limits: tuple[int, int | None]
) -> None:
    """However sends, answers, losses and arrivals interleave, a true rolling window never sees too many."""
    limit, given_limit = limits
    world = World(RateLimiter(RateLimit(given_limit, NO_DAY)), RollingWindow(limit))
    world.run(fates)
    assert world.worst >= 0
    assert world.budget.others_seen_at == -math.inf, "took its own requests for others'"
    assert world.budget.used_slots(world.now + WINDOW + 1) == 0
    assert world.budget.in_flight == 0


def test_the_whole_limit_is_used_and_comes_back_after_a_minute() -> None:
    """Alone on the key, all of the limit may be spent at once, and each slot again 60 s after its answer."""
    budget = used_up(60)
    assert send(budget, 1) == 59
    budget.record_response(RateLimitState(60, 0), 0, 2, Random(1))
    assert budget.earliest_send(Kind.READ, 3, NOON) == WINDOW
    assert send(budget, WINDOW) == 1
    assert budget.earliest_send(Kind.READ, WINDOW, NOON) == 2 + WINDOW


@pytest.mark.parametrize("how", [LOST, NEVER_SENT])
def test_the_first_request_goes_alone(how: str) -> None:
    """Until an answer has told the limit only one request is on its way at a time."""
    budget = RateLimiter(RateLimit(per_minute=100))
    assert send(budget, 0) == 1
    assert budget.earliest_send(Kind.CANCEL, 5, NOON) == math.inf
    if how == LOST:
        budget.failed(5)
    else:
        budget.release()
    assert send(budget, 5) == 1
    budget.record_response(RateLimitState(), 0, 6, Random(1))
    assert send(budget, 6) > 1


def test_what_others_spent_is_charged_for_a_minute() -> None:
    """Requests that the server counts and we did not make take slots here too, and two are kept back."""
    budget = used_up(60, remaining=19)  # 41 counted, 40 of them not ours
    assert budget.used_slots(0) == 41
    assert send_slowly(budget, 1) == 60 - 41 - 2
    assert budget.used_slots(WINDOW) == 60 - 41 - 2
    assert send(used_up(60, remaining=59), 1) == 59
    assert used_up(60, remaining=0).earliest_send(Kind.READ, 1, NOON) == WINDOW


def test_while_others_are_about_requests_go_one_after_the_other() -> None:
    """Half of an even spread apart, so that the answer to each tells the next; then all at once again."""
    budget = used_up(60, remaining=57)
    assert [send(budget, 1 + tenth / 10) for tenth in range(11)] == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    assert send(budget, 700) == 60 - 3


def test_the_reserve_ends_when_others_have_been_gone_for_long() -> None:
    """Two slots are kept back for ten minutes after others were noticed, and then used again."""
    budget = used_up(10, remaining=8)
    assert send_slowly(budget, 560, 1) == 8
    budget = used_up(10, remaining=8)
    assert send(budget, 600) == 10


def test_others_are_charged_once() -> None:
    """A second answer that counts the same foreign requests charges nothing again."""
    budget = used_up(60, remaining=39)
    slot = budget.acquire(Kind.READ, 1, NOON)
    budget.record_response(RateLimitState(60, 38), slot, 2, Random(1))
    assert budget.used_slots(2) == 22


def test_others_are_noticed_whenever_they_come() -> None:
    """Whatever has come back before, and for a minute from the answer that told of them."""
    budget = used_up(60)
    slot = budget.acquire(Kind.READ, 70, NOON)
    budget.record_response(RateLimitState(60, 30), slot, 71, Random(1))
    assert [budget.used_slots(now) for now in (71, 130.9, 131)] == [30, 30, 0]
    budget = used_up(60)
    slot = budget.acquire(Kind.READ, 30, NOON)
    budget.record_response(RateLimitState(60, 18), slot, 31, Random(1))
    assert [budget.used_slots(now) for now in (31, 61, 90.9, 91)] == [42, 41, 41, 0]


def test_what_came_back_while_a_request_was_on_its_way_may_have_been_counted() -> None:
    """The server counts it still, if the request arrived before that; what exceeds it is others'."""
    for others in (0, 1):
        budget = used_up(60)
        slot = budget.acquire(Kind.READ, 59, NOON)
        budget.record_response(RateLimitState(60, 58 - others), slot, 61, Random(1))
        assert budget.used_slots(61) == 1 + others


@pytest.mark.parametrize(("limit", "second"), [(1, 0), (2, 0), (3, 0), (4, 1)])
def test_a_small_limit_is_not_all_kept_back(limit: int, second: int) -> None:
    """While others are about one request may be on its way, however few there are."""
    budget = used_up(10, remaining=5)
    budget.record_response(RateLimitState(limit, 0), budget.acquire(Kind.READ, 1, NOON), 2, Random(1))
    assert send(budget, 100) == 1
    assert send(budget, 140) == second


def test_a_limit_of_ones_own_bounds_ones_own_requests_only() -> None:
    """`Budget(per_minute=30)` leaves 30 of 60 to others, and is not eaten by what they spend of theirs."""
    budget = used_up(60, per_minute=30, remaining=30)  # 29 of 30 counted are others'
    assert send_slowly(budget, 1) == 60 - 30 - 2
    budget = used_up(60, per_minute=20, remaining=30)
    assert send_slowly(budget, 1) == 19


def test_a_limit_that_falls_is_obeyed_at_once() -> None:
    """A header with a smaller limit holds for the next request already; so does a larger one."""
    budget = used_up(60)
    slots = [budget.acquire(Kind.READ, 1, NOON) for _ in range(20)]
    budget.record_response(RateLimitState(10, 0), slots[0], 2, Random(1))
    assert budget.limit == 10
    assert send(budget, 2) == 0
    budget.record_response(RateLimitState(300, 279), slots[1], 3, Random(1))
    assert send(budget, 3) == 300 - 21


@given(st.floats(1, 100_000), st.lists(st.floats(10, 50), max_size=5), st.integers(0, 99))
def test_a_429_pauses_every_kind(seconds: float, later: list[float], seed: int) -> None:
    """Nothing is sent before Retry-After is over, with a tenth or 5 s of jitter on top, however many 429s."""
    budget, random = used_up(300), Random(seed)
    ends = 10 + seconds
    slots = [budget.acquire(Kind.READ, 9, NOON) for _ in [0.0, *later]]
    for slot, now in zip(slots, sorted([10.0, *later]), strict=True):  # what was on its way is refused, too
        budget.record_response(RateLimitState(retry_after=seconds), slot, now, random)
        ends = now + seconds
    for kind in Kind:
        assert ends <= budget.earliest_send(kind, now, NOON) <= ends + min(5, seconds / 10)


def test_after_a_429_not_all_processes_come_back_together() -> None:
    """Over a tenth of the time that they were asked to wait."""
    ends = []
    for seed in range(200):
        budget = used_up(300)
        budget.record_response(
            RateLimitState(retry_after=20), budget.acquire(Kind.READ, 1, NOON), 1, Random(seed)
        )
        ends.append(budget.paused_until)
    assert 21 <= min(ends) < 21.1
    assert 22.9 < max(ends) <= 23


def test_a_429_for_the_day_does_not_speak_of_the_minute() -> None:
    """Its limit and remainder may be the day's: a hundred a day is not a hundred a minute."""
    budget = used_up(10)
    slot = budget.acquire(Kind.READ, 1, NOON)
    budget.record_response(RateLimitState(100, 0, retry_after=40_000), slot, 1, Random(1))
    assert budget.limit == 10
    assert budget.used_slots(2) == 2
    assert send(budget, 40_010, wall=NOON + DAY) == 10


def test_a_429_of_up_to_two_minutes_speaks_of_the_minute() -> None:
    """What is longer cannot be about a window of one."""
    for seconds, limit in ((120, 60), (121, 10)):
        budget = used_up(10)
        budget.record_response(
            RateLimitState(60, 0, retry_after=seconds), budget.acquire(Kind.READ, 1, NOON), 1, Random(1)
        )
        assert budget.limit == limit


def test_a_request_that_was_sent_twice_takes_two_slots() -> None:
    """Each attempt on the wire counts, in the minute and in the day."""
    budget = RateLimiter(RateLimit(per_day=10))
    slot = budget.acquire(Kind.READ, 0, NOON)
    budget.record_response(RateLimitState(10, 8), slot, 0, Random(1), attempts=2)
    assert budget.used_slots(1) == 2
    assert send(budget, WINDOW) == 8


def test_polls_are_spread_evenly() -> None:
    """Polls come one by one over the window, with at most three at once after a pause."""
    budget = used_up(60)
    assert send(budget, 1000, Kind.POLL) == 3
    assert budget.earliest_send(Kind.POLL, 1000, NOON) == pytest.approx(1001)
    assert send(budget, 1000, Kind.READ) == 57
