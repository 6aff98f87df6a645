"""The rate limit that workers share: together they never exceed it, whatever happens to each. Pure."""

import math
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from jarai_async import RateLimit
from jarai_async._api.calls import Kind
from jarai_async._api.responses import RateLimitState
from jarai_async._ratelimit.limiter import WINDOW, RateLimiter
from jarai_async._ratelimit.shared_model import LONGEST_RECHECK, USABLE
from jarai_async.simulator._api.rate_limits import RollingWindow
from tests.support.limiters import DAY, NOON
from tests.support.shared_models import DIED, LEASE, LOST, NEVER_SENT, SENT, Request, Row, Worker, World

HALF_A_DAY = DAY / 2

RESULTS = [*[SENT] * 4, LOST, NEVER_SENT, DIED]


def request_of(worker: int, draw: Random) -> Request:
    """Return a request in a world that is busy enough to use the limit all the time."""

    def seconds(*longest: float) -> float:
        return draw.choice([0.0, *(draw.uniform(0, most) for most in longest)])

    return Request(
        worker=worker,
        pause=seconds(2.0, 5.0, 20.0) if draw.random() < 0.9 else draw.uniform(0, 150),
        wanted=draw.randint(0, 3),
        result=draw.choice(RESULTS),
        used=seconds(USABLE + 2),
        latency=seconds(0.5, LEASE - USABLE),
        share=draw.choice([0.0, 1.0, draw.random()]),
        reported=seconds(2.0, 100.0),
        repeated=draw.choice([None, None, None, seconds(2.0, 100.0)]),
        backwards=draw.choice([*[0.0] * 20, draw.uniform(0, 3600)]),
    )


@given(
    st.integers(0, 200),
    st.builds(Random, st.integers(0, 10**6)),
    st.sampled_from([(1, 1), (2, 2), (3, 3), (7, 7), (10, None)]),
)
@settings(max_examples=300)
def test_workers_never_exceed_the_rolling_window(
    length: int, draw: Random, limits: tuple[int, int | None]
) -> None:
    """No order of grants, arrivals, deaths, late reports and repeated transactions exceeds the rate limit."""
    server_limit, user_limit = limits
    row = Row(RateLimit(user_limit, 10**9))
    world = World(row, RollingWindow(server_limit), [Worker(f"worker {n}", row) for n in range(3)])
    world.run([request_of(draw.randrange(3), draw) for _ in range(length)])
    assert world.fewest_remaining >= 0
    model = row.model(world.now)
    assert model.limiter.others_seen_at == -math.inf, "it took its own requests for those of other programs"
    Worker("another", row).ask(world.now)
    later = row.model(world.now + LEASE + WINDOW)
    assert later.limiter.used_slots(later.now) == 0


steps = st.tuples(
    st.one_of(st.just(0.0), st.floats(0, 3), st.floats(0, 40)),
    st.sampled_from(["ask"] * 5 + ["respond", "respond", "fail", "release", "pause"]),
    st.sampled_from([(None, None), (10, 9), (10, 3), (10, 0), (7, 5)]),
    st.one_of(st.none(), st.none(), st.none(), st.none(), st.floats(1, 100), st.just(5000.0)),
)


@given(st.lists(steps, max_size=80), st.sampled_from([3, 10, None]), st.sampled_from([20, 10**9]))
def test_one_worker_alone_gets_the_decisions_of_a_client_without_a_database(
    each: list[tuple[float, str, tuple[int | None, int | None], float | None]],
    per_minute: int | None,
    per_day: int,
) -> None:
    """The same rules in the same order, with every time as exact as it was, through JSON."""
    rate_limit = RateLimit(per_minute, per_day)
    local, row = RateLimiter(rate_limit), Row(rate_limit)
    worker, now, held = Worker("alone", row), HALF_A_DAY - 100, 0
    local_random = Random(1)
    for pause, step, (limit, remaining), retry_after in each:
        now += pause
        wall = NOON + now
        state = RateLimitState(limit, remaining, retry_after)
        if step == "ask":
            may_send = local.earliest_send(Kind.READ, wall, wall) <= wall
            if may_send:
                returned = local.acquire(Kind.READ, wall, wall)
            reply = worker.ask(now, 1)
            assert len(reply.granted) == may_send
            assert not may_send or reply.slots_returned == returned
            held += may_send
        elif step == "pause":
            local.pause_until(wall + 30)
            worker.ask(now, pause=30)
        elif held and step == "release":
            local.release(0)
            worker.ask(now, released=1)
            held -= 1
        elif held and step == "respond":
            local.record_response(state, worker.returned, wall, local_random)
            worker.respond(0, state)
            worker.ask(now)
            held -= 1
        elif held and step == "fail":
            local.failed(0, wall)
            worker.respond(0)
            worker.ended[-1] = type(worker.ended[-1])(0, worker.returned)
            worker.ask(now)
            held -= 1
        else:
            worker.ask(now)
        stored = row.model(now).limiter
        for kind in (Kind.CANCEL, Kind.READ):
            assert stored.earliest_send(kind, wall, wall) == local.earliest_send(kind, wall, wall)
        assert stored.quota_returns(Kind.POLL, wall, wall) == local.quota_returns(Kind.POLL, wall, wall)
        assert stored.used_slots(wall) == local.used_slots(wall)
        assert stored.left_today(wall) == local.left_today(wall)


def full(*workers: Worker, limit: int = 10) -> None:
    """Let the workers, in turn, use a limit completely at time 0."""
    workers[0].ask(0, 1)
    workers[0].respond(0, RateLimitState(limit, limit - 1))
    for n in range(limit - 1):
        workers[n % len(workers)].ask(0, 1)
    assert sum(worker.held for worker in workers) == limit - 1  # and one slot has its response


def rows(count: int = 2) -> tuple[Row, list[Worker]]:
    row = Row()
    return row, [Worker(f"worker {n}", row) for n in range(count)]


def test_slots_of_a_dead_worker_return_a_minute_after_they_expire() -> None:
    """Until then its requests may be on their way."""
    _row, (dead, other) = rows()
    full(dead)
    dead.ask(1)  # it reports, and dies
    expires_at = 1 + LEASE
    assert other.ask(expires_at + WINDOW - 0.1, 10).granted == [Kind.READ]  # that with a response
    assert len(other.ask(expires_at + WINDOW, 10).granted) == 9


def test_worker_that_reports_keeps_its_slots() -> None:
    """However long a request takes, such as a submit of two minutes."""
    row, (slow, other) = rows()
    full(slow)
    for time in range(0, 200, 20):
        slow.ask(time)
        assert not other.ask(time, 10).granted or time >= WINDOW
    assert row.model(200).limiter.in_flight == slow.held + other.held == 10


def test_worker_that_was_stopped_learns_that_its_slots_are_lost() -> None:
    """A response that it received before is added to what others use by then."""
    row, (stopped, other) = rows()
    full(stopped)
    stopped.ask(0)
    later = LEASE + WINDOW + 1
    assert len(other.ask(later, 8).granted) == 8
    stopped.respond(age=10)
    reply = stopped.ask(later, 8)
    assert reply.is_lost
    assert len(reply.granted) == 1
    assert row.model(later).limiter.used_slots(NOON + later) == 10


def test_reply_is_repeated_when_its_transaction_was_committed_but_not_confirmed() -> None:
    row, (worker, _) = rows()
    full(worker)
    for age in (0, 1, 2):
        worker.respond(age)
    message = worker.message(2, released=1)
    first = row.exchange(message, 5)
    assert row.exchange(message, 9) == first
    assert first.at == NOON + 5
    assert len(first.granted) == 1
    assert row.model(9).limiter.in_flight == 10 - 3 - 1 - 1 + 1


def test_report_counts_from_the_time_of_its_response() -> None:
    """It waited with the worker while the database was away."""
    _row, (worker, other) = rows()
    full(worker)
    for _ in range(9):
        worker.respond(age=30)
    worker.ask(50)
    assert len(other.ask(79, 10).granted) == 1  # that of the first response
    assert len(other.ask(80, 10).granted) == 9


def test_clock_of_the_database_that_goes_back_gives_no_slot_earlier_and_none_much_later() -> None:
    row, (worker, other) = rows()
    full(worker)
    for _ in range(9):
        worker.respond()
    worker.ask(10)
    row.clock -= 3600
    assert not other.ask(11, 10).granted  # as if no time had passed since the transaction before
    assert not other.ask(60.9, 10).granted
    assert len(other.ask(11 + WINDOW, 10).granted) == 10


def test_urgent_requests_of_other_workers_go_first() -> None:
    """A poll gets what they leave; after three that went before it, it gets one slot."""
    _row, (polling, submitting) = rows()
    full(polling)
    for n in range(9):
        polling.respond(age=9 - n)
    polling.ask(10)  # slots return one by one, from 61 on
    submitting.ask(60.5, {Kind.SUBMIT: 20})
    order: list[Kind] = []
    for n in range(9):
        for worker, kind in ((polling, Kind.POLL), (submitting, Kind.SUBMIT), (polling, Kind.POLL)):
            order += worker.ask(61 + n, {kind: 20 if kind is Kind.SUBMIT else 1}).granted
    assert order == ([Kind.SUBMIT] * 3 + [Kind.POLL]) * 2 + [Kind.SUBMIT]


def test_each_kind_of_request_gets_a_slot_when_it_waits_alone() -> None:
    """Also a cancel, whose number is 0."""
    for kind in Kind:
        _row, (worker, _other) = rows()
        assert worker.ask(0, {kind: 1}).granted == [kind]


def test_wishes_of_a_dead_worker_vanish() -> None:
    row, (polling, dead) = rows()
    full(polling)
    for _ in range(9):
        polling.respond()
    polling.ask(0)
    dead.ask(40, {Kind.SUBMIT: 20})
    assert not polling.ask(60, {Kind.POLL: 1}).granted
    assert row.model(60).ask_at(Kind.POLL, polling.name) <= NOON + 62
    assert polling.ask(62.1, {Kind.POLL: 1}).granted == [Kind.POLL]


def test_workers_that_wait_are_sent_to_different_slots() -> None:
    """Else all would ask at the same time for one slot."""
    row, each = rows(4)
    full(*each)
    for n, worker in enumerate(each):
        worker.respond(age=4 - n)
        worker.ask(5)
    for worker in each:
        worker.ask(6, 3)
    model = row.model(6)
    asks_at = [model.ask_at(Kind.READ, worker.name) - NOON for worker in each]
    assert asks_at == [6 + LONGEST_RECHECK] * 4
    for worker in each:
        worker.ask(40, 3)
    model = row.model(40)
    assert sorted(model.ask_at(Kind.READ, worker.name) - NOON for worker in each) == [60, 61, 62, 63]


def test_429_of_one_worker_pauses_all_once() -> None:
    row, (one, two) = rows()
    full(one, two)
    one.respond(0, RateLimitState(10, 0, 20.0))
    two.respond(0, RateLimitState(10, 0, 20.0))
    one.ask(0)
    paused_until = row.model(0).limiter.paused_until
    two.ask(0)
    assert NOON + 20 <= paused_until <= row.model(0).limiter.paused_until <= NOON + 22
    assert row.model(0).ask_at(Kind.CANCEL, two.name) >= NOON + 20


def test_key_that_is_rejected_pauses_all_and_a_single_request_tests_it() -> None:
    _row, (one, two) = rows()
    one.ask(0, 1)
    one.respond(0, RateLimitState(10, 9))
    one.ask(0, pause=30.0)
    assert not two.ask(29, 5).granted
    assert len(two.ask(30, 5).granted) == 1
    assert not one.ask(31, 5).granted


def test_quota_of_a_day_is_one_for_all_workers() -> None:
    """Nine tenths of it for polls. It counts anew from midnight on."""
    row, each = Row(RateLimit(1000, 20)), []
    each = [Worker(f"worker {n}", row) for n in range(3)]
    each[0].ask(0, 1)
    each[0].respond(0, RateLimitState(1000, 999))
    each[0].ask(0)
    granted = [len(worker.ask(1, {Kind.POLL: 9}).granted) for worker in each]
    assert granted == [9, 8, 0]
    granted = [len(worker.ask(2, {Kind.SUBMIT: 2}).granted) for worker in each]
    assert granted == [2, 0, 0]
    for worker in each:
        worker.ended, worker.held = [], 0
    assert len(Worker("tomorrow", row).ask(HALF_A_DAY + 1, 5).granted) == 5


def test_accounts_are_blocked_and_counted_for_all_workers() -> None:
    row, (one, two) = rows()
    one.ask(0, accepted={"a": 2})
    two.ask(1, accepted={"a": 1, "b": 1})
    two.ask(2, blocked={"a": 100.0})
    one.ask(3, blocked={"a": 50.0})
    model = row.model(101)
    assert model.accepted_today("a") == 3
    assert model.accounts["a"].blocked_until == NOON + 102
    tomorrow = HALF_A_DAY + 1
    one.ask(tomorrow, accepted={"a": 1})
    assert row.model(tomorrow).accepted_today("a") == 1
    assert "b" not in row.model(tomorrow).accounts


def test_requests_of_other_programs_take_slots_from_all_workers() -> None:
    row, (one, two) = rows()
    one.ask(0, 1)
    one.respond(0, RateLimitState(10, 4))
    one.ask(0)
    assert row.model(0).limiter.used_slots(NOON) == 6
    assert not two.ask(2.9, 5).granted
    assert len(two.ask(3, 5).granted) == 1  # spaced, while other programs send
    assert row.model(3).ask_at(Kind.READ, two.name) == NOON + 3 + 3
