"""The rate limit that workers share: together they never exceed it, whatever happens to each. Pure."""

import math
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from jarai_async import RateLimit
from jarai_async._api.calls import Kind
from jarai_async._api.responses import RateLimitState
from jarai_async._ratelimit.limiter import WINDOW, RateLimiter
from jarai_async._ratelimit.shared_model import USABLE
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
