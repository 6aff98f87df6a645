"""An outage: one submit at a time finds out whether JARAI can be reached again; the others wait."""

import asyncio
from itertools import pairwise
from random import Random

import pytest

from jarai_async import (
    BadRequestError,
    JaraiClient,
    JaraiError,
    NoResponseError,
    NotSentError,
    Orchestrator,
    ServiceUnavailableError,
    _clock,
)
from jarai_async._http.outage import Outage
from jarai_async.simulator import Simulator
from tests.support.scenarios import request_for

UNAVAILABLE = ServiceUnavailableError("maintenance", status=503)


async def seconds_at_gate(outage: Outage) -> float:
    """Pass the gate, and return how long that took."""
    before = _clock.monotonic()
    async with outage.gate(asyncio.sleep):
        return _clock.monotonic() - before


async def test_gate_is_open_without_an_outage() -> None:
    """Any number of submits pass at once."""
    outage = Outage(Random(1))
    async with outage.gate(asyncio.sleep), outage.gate(asyncio.sleep):
        assert _clock.monotonic() == 0


class LongestPause(Random):
    """Always draws the upper bound."""

    def uniform(self, _: float, b: float) -> float:
        return b


@pytest.mark.parametrize("error", [NotSentError("no connection"), UNAVAILABLE])
async def test_pauses_between_submits_grow_to_a_minute(error: JaraiError) -> None:
    """After n failures the pause is between half of 2^n seconds and 2^n, and a minute at most."""
    outage, longest_outage = Outage(Random(1)), Outage(LongestPause())
    for longest in (2, 4, 8, 16, 32, 60, 60, 60):
        outage.record(error)
        assert longest / 2 <= await seconds_at_gate(outage) <= longest
        longest_outage.record(error)
        assert await seconds_at_gate(longest_outage) == pytest.approx(longest)


async def test_retry_after_is_the_shortest_pause() -> None:
    """No submit is sent before the time that JARAI asks for."""
    outage = Outage(Random(1))
    outage.record(ServiceUnavailableError("maintenance", status=503, retry_after=500))
    assert await seconds_at_gate(outage) == pytest.approx(500)


async def test_one_submit_at_a_time_is_sent_during_an_outage() -> None:
    """The others wait for its result: each failure begins another pause."""
    outage, sent_at = Outage(Random(1)), []
    outage.record(UNAVAILABLE)

    async def submit() -> None:
        async with outage.gate(asyncio.sleep):
            sent_at.append(_clock.monotonic())
            await asyncio.sleep(10)
            outage.record(UNAVAILABLE)

    await asyncio.gather(*(submit() for _ in range(5)))
    gaps = [later - earlier for earlier, later in pairwise(sent_at)]
    assert all(gap >= 10 + shortest for gap, shortest in zip(gaps, (2, 4, 8, 16), strict=True))


@pytest.mark.parametrize("result", [None, BadRequestError("wrong", status=400), NoResponseError("lost")])
async def test_success_or_another_error_ends_the_outage(result: JaraiError | None) -> None:
    """All submits that wait are sent at once when one succeeds or fails for another reason."""
    outage = Outage(Random(1))
    outage.record(UNAVAILABLE)

    async def submit() -> None:
        async with outage.gate(asyncio.sleep):
            outage.record(result)

    await asyncio.gather(*(submit() for _ in range(5)))
    assert _clock.monotonic() <= 2
    async with asyncio.timeout(1), outage.gate(asyncio.sleep), outage.gate(asyncio.sleep):
        pass  # several submits at a time


# --- Through an orchestrator -----------------------------------------------------------------------


async def test_outage_costs_few_requests() -> None:
    """15 jobs send at most 100 submits in 45 minutes, and all continue soon after the outage."""
    async with (
        Simulator(tier="standard", failure_rate=0) as simulator,
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
