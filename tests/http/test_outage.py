"""An outage: one submit at a time finds out whether JARAI can be reached again; the others wait."""

import asyncio
from itertools import pairwise
from random import Random

import pytest

from jarai_async import (
    AuthenticationError,
    BadRequestError,
    JaraiClient,
    JaraiError,
    NoResponseError,
    NotFoundError,
    NotSentError,
    Orchestrator,
    RateLimit,
    ServiceUnavailableError,
    _clock,
)
from jarai_async._http.outage import Outage
from jarai_async._http.submit_gate import SubmitGate
from jarai_async._ratelimit.limiter import RateLimiter
from jarai_async._ratelimit.scheduler import Scheduler
from jarai_async.simulator import Simulator
from tests.support.scenarios import request_for

UNAVAILABLE = ServiceUnavailableError("maintenance", status=503, code="SERVICE_UNAVAILABLE")
LOST = NoResponseError("lost")
REJECTED = BadRequestError("wrong", status=400, code="INVALID_REQUEST")


# --- The pauses ------------------------------------------------------------------------------------


class LongestPause(Random):
    """Always draws the upper bound."""

    def uniform(self, _: float, b: float) -> float:
        return b


def test_pauses_between_refused_submits_grow_to_a_minute() -> None:
    """After n refusals the pause is between half of 2^n seconds and 2^n, and a minute at most."""
    outage, longest_outage, now = Outage(Random(1)), Outage(LongestPause()), 0.0
    for longest in (2, 4, 8, 16, 32, 60, 60, 60):
        outage.record_refusal(now, 0, is_current=True)
        assert longest / 2 <= outage.next_at - now <= longest
        longest_outage.record_refusal(now, 0, is_current=True)
        assert longest_outage.next_at - now == longest
        now += 100


def test_pauses_between_submits_in_doubt_grow_from_a_minute_to_five() -> None:
    """Each of them may have created a production, so at most one a minute is sent."""
    outage, now = Outage(Random(1)), 0.0
    outage.record_doubt(now, is_current=True)
    assert 1 <= outage.next_at <= 2
    for pause in (60, 120, 240, 300, 300):
        outage.record_doubt(now, is_current=True)
        assert pause <= outage.next_at - now <= 1.1 * pause
        now += 1000


def test_retry_after_is_the_shortest_pause() -> None:
    """No submit is sent before the time that JARAI asks for; a shorter one does not cut a longer one."""
    outage = Outage(Random(1))
    outage.record_refusal(0, 500, is_current=True)
    outage.record_refusal(10, 20, is_current=False)
    assert outage.next_at == 500
    outage.record_answer(is_accepted=False, is_current=True)
    assert outage.next_at < 0


def test_submits_that_were_already_sent_do_not_make_the_pause_longer() -> None:
    """Twenty submits that fail together are one failure."""
    outage = Outage(Random(1))
    for n in range(20):
        outage.record_refusal(0, 0, is_current=n == 0)
    for _ in range(20):
        outage.record_doubt(0, is_current=False)
    assert outage.next_at <= 2
    assert outage.needs_read


def test_read_that_was_sent_before_the_doubt_proves_nothing() -> None:
    """Only a later one shows that JARAI responds again; after one that fails the next is a minute later."""
    outage = Outage(Random(1))
    outage.record_doubt(10, is_current=True)
    outage.record_read(11, 9, answered=True)
    assert outage.needs_read
    outage.record_read(12, 11, answered=False)
    assert 12 + 60 <= outage.next_at <= 12 + 66
    outage.record_read(13, 12, answered=True)
    assert not outage.needs_read
    assert outage.next_at <= 12


def test_each_success_lets_one_more_submit_be_sent_at_once_and_a_doubt_only_a_probe() -> None:
    """At least a minute after the doubt before. After 20 successes in a row the outage is over."""
    outage = Outage(Random(1))
    outage.record_doubt(0, is_current=True)
    outage.record_doubt(100, is_current=True)
    for window in range(2, 21):
        outage.record_answer(is_accepted=True, is_current=True)
        outage.record_answer(is_accepted=True, is_current=False)
        outage.record_answer(is_accepted=False, is_current=True)
        assert outage.window == window
    outage.record_doubt(130, is_current=True)
    assert outage.window == 1
    assert 160 <= outage.next_at <= 166
    outage.record_answer(is_accepted=True, is_current=True)
    outage.record_doubt(1000, is_current=True)
    assert outage.window == 1
    assert 1001 <= outage.next_at <= 1002
    for _ in range(20):
        outage.record_answer(is_accepted=True, is_current=True)
    assert outage.is_over
    outage.record_doubt(2000, is_current=True)
    assert 2001 <= outage.next_at <= 2002


# --- The gates -------------------------------------------------------------------------------------


class Gate:
    """A gate whose reads are always answered, and the times at which submits passed it."""

    def __init__(self) -> None:
        self.passed_at: list[float] = []
        self.reads = 0
        self.gate = SubmitGate(
            Random(1), Scheduler(RateLimiter(RateLimit()), Random(1)), self._read, idempotency_keys=True
        )

    async def _read(self) -> bool:
        self.reads += 1
        return True

    async def submit(self, error: BaseException | None, seconds: float = 0, account: str = "a") -> None:
        """Pass the gate with a submit that ends in this error after so many seconds."""
        async with self.gate.enter(account) as admission:
            self.passed_at.append(_clock.monotonic())
            await asyncio.sleep(seconds)
            self.gate.record(admission, error, in_doubt=isinstance(error, NoResponseError))


async def test_twenty_submits_are_on_their_way_at_once_without_an_outage() -> None:
    """That many a crash leaves in doubt, however many were submitted together. None waits for an outage."""
    gate = Gate()
    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(gate.submit(None, 10))
        await asyncio.sleep(5)
        assert gate.gate.waits("a") is None
    assert gate.passed_at == [0] * 20 + [10] * 20 + [20] * 10


async def test_no_submit_is_sent_before_the_time_that_jarai_asks_for() -> None:
    """Those of other accounts wait as well."""
    gate, code = Gate(), "SERVICE_UNAVAILABLE"
    await gate.submit(ServiceUnavailableError("maintenance", status=503, code=code, retry_after=500))
    await gate.submit(None, account="b")
    assert gate.passed_at == [0, 500]


@pytest.mark.parametrize("error", [NotSentError("no connection"), UNAVAILABLE, LOST])
async def test_one_submit_at_a_time_is_sent_during_an_outage(error: JaraiError) -> None:
    """The others wait for its result: each failure begins another pause."""
    gate = Gate()
    await gate.submit(error)
    await asyncio.gather(*(gate.submit(error, 10) for _ in range(5)))
    gaps = [later - earlier for earlier, later in pairwise(gate.passed_at[1:])]
    shortest = (60, 120, 240, 300) if error is LOST else (2, 4, 8, 16)
    assert all(gap >= 10 + pause for gap, pause in zip(gaps, shortest, strict=True))
    assert gate.reads == (5 if error is LOST else 0)


@pytest.mark.parametrize(
    ("begun_by", "result", "steps"),
    [
        (UNAVAILABLE, None, [1] * 7),
        (UNAVAILABLE, REJECTED, [1] * 7),
        (LOST, None, [1, 1, 2, 2, 2, 2, 3]),
        (LOST, REJECTED, [1, 2, 3, 4, 5, 6, 7]),  # it may be rejected before the step that fails
    ],
)
async def test_submits_are_sent_again_as_they_are_accepted(
    begun_by: JaraiError, result: JaraiError | None, steps: list[int]
) -> None:
    """After a doubt one, two, four, ... at once; after a refusal all at once, as nothing is at stake."""
    gate = Gate()
    await gate.submit(begun_by)
    await asyncio.gather(*(gate.submit(result, 10) for _ in range(8)))
    first, *others = gate.passed_at[1:]
    assert others == [first + 10 * step for step in steps]


async def test_submit_in_doubt_after_the_outage_is_followed_by_a_single_one() -> None:
    """Those that have passed but not left yet are not sent either; the next probe is a minute later."""
    gate = Gate()
    await gate.submit(LOST)
    await asyncio.gather(*(gate.submit(None) for _ in range(3)))
    async with gate.gate.enter("a") as admission:
        await gate.submit(LOST)
        assert not admission.is_valid
        waiting = [asyncio.create_task(gate.submit(LOST, 10)) for _ in range(3)]
        before = _clock.monotonic()
        await asyncio.sleep(70)
        assert gate.passed_at[-1] <= before, "one is still on its way"
    await asyncio.sleep(5)
    assert gate.passed_at[-1] == before + 70
    await asyncio.gather(*waiting)
    assert gate.passed_at[-2] - gate.passed_at[-3] >= 70


@pytest.mark.parametrize("result", [NotFoundError("a gateway", status=404), asyncio.CancelledError()])
async def test_response_of_a_gateway_does_not_end_the_outage(result: BaseException) -> None:
    """Only JARAI's own words show that JARAI carries out submits."""
    gate = Gate()
    await gate.submit(LOST)
    await asyncio.gather(*(gate.submit(result, 10) for _ in range(3)))
    assert [later - earlier for earlier, later in pairwise(gate.passed_at[1:])] == [10, 10]


async def test_success_of_a_submit_sent_before_the_doubt_does_not_end_the_outage() -> None:
    """It does not show what happens to the submits after it."""
    gate = Gate()
    early = asyncio.create_task(gate.submit(None, 0.5))
    await asyncio.sleep(0)
    await gate.submit(LOST)
    await early
    await asyncio.gather(*(gate.submit(AuthenticationError("wrong", status=401), 10) for _ in range(2)))
    assert gate.passed_at[3] - gate.passed_at[2] == 10


async def test_admission_ends_when_an_outage_begins() -> None:
    """A submit that waits for its slot of the rate limit is not sent any more."""
    gate = Gate()
    async with gate.gate.enter("a") as admission:
        assert admission.is_valid
        await gate.submit(LOST, account="b")
        assert not admission.is_valid


async def test_account_whose_submits_all_fail_does_not_stop_the_others() -> None:
    """Its submits are sent one at a time, with growing pauses; those of another account are sent freely."""
    gate = Gate()
    await gate.submit(LOST, account="bad")
    await gate.submit(None, account="good")
    bad = asyncio.create_task(gate.submit(LOST, account="bad"))
    bad_later = asyncio.create_task(gate.submit(LOST, account="bad"))
    await bad
    before = _clock.monotonic()
    await asyncio.gather(*(gate.submit(None, 10, account="good") for _ in range(6)))
    assert _clock.monotonic() == before + 20  # two, then four
    await bad_later
    assert gate.passed_at[-1] >= before + 60
    await asyncio.gather(*(gate.submit(None, 10, account="good") for _ in range(6)))
    assert len({*gate.passed_at[-6:]}) == 1


# --- Through an orchestrator -----------------------------------------------------------------------


async def test_outage_costs_few_requests() -> None:
    """15 jobs send at most 100 submits in 45 minutes, and all continue soon after the outage."""
    stages = [("Queued", 5.0), ("Producing", 60.0), ("Distributing", 5.0)]
    async with (
        Simulator(tier="standard", failure_rate=0, durations=lambda *_: stages) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        await client.accounts()
        simulator.faults.add("unavailable", on="submit", times=None)
        async with Orchestrator(client) as orchestrator:
            tickets = [orchestrator.submit(request_for(simulator)) for _ in range(15)]
            await asyncio.sleep(2700)
            assert simulator.count("submit") <= 100
            simulator.faults.clear()
            await asyncio.sleep(180)
            assert len(simulator.productions) == 15
            assert all(outcome.ok for outcome in await asyncio.gather(*tickets))


async def test_outage_from_the_first_request_on_is_waited_out(
    simulator: Simulator, client: JaraiClient
) -> None:
    """The rate limit is not known yet, and nothing is assumed that would last until midnight."""
    simulator.faults.add("unavailable", on="submit", times=None)
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(1200)
        simulator.faults.clear()
        await asyncio.sleep(120)
        assert ticket.production_id in simulator.productions


async def test_outage_rejects_no_request(simulator: Simulator, client: JaraiClient) -> None:
    """Once JARAI has responded, maintenance only delays submits: their attempts are not limited."""
    simulator.faults.add("unavailable", on="submit", times=20)
    async with Orchestrator(client) as orchestrator:
        tickets = [orchestrator.submit(request_for(simulator)) for _ in range(2)]
        assert all(outcome.ok for outcome in await asyncio.gather(*tickets))
    assert simulator.faults.fired["unavailable"] == 20
