"""Requests within the rate limit: which of them use a slot, which are counted, and which are retried."""

import asyncio
import socket
from collections import Counter
from itertools import pairwise

import aiohttp
import pytest

from jarai_async import ConfigurationError, JaraiClient, NotSentError, RateLimit, ServerError, _clock
from jarai_async._api import endpoints
from jarai_async._http.request_log import RequestLog
from jarai_async.simulator import Simulator
from tests.support.limiters import NO_DAILY_QUOTA
from tests.support.scenarios import request_for

HOUR = 3600.0
MIDNIGHT = 15 * HOUR  # on the simulated clock, whose day begins at nine


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


# --- Retries ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["internal_error", "gateway_html", "reset_before", "truncated_json", "empty_body"]
)
async def test_read_is_retried(simulator: Simulator, client: JaraiClient, kind: str) -> None:
    """Reading again is safe, whatever happened to the first response."""
    simulator.faults.add(kind, on="accounts", times=2)
    assert len(await client.accounts()) == 1
    assert simulator.faults.fired[kind] == 2


async def test_read_is_attempted_four_times(simulator: Simulator, client: JaraiClient) -> None:
    """The last error is raised."""
    simulator.faults.add("internal_error", on="accounts", times=None)
    with pytest.raises(ServerError):
        await client.accounts()
    assert simulator.faults.fired["internal_error"] == 4


async def test_submit_that_was_never_sent_is_retried() -> None:
    """While nothing listens, a submit uses no slot of the rate limit; later it is carried out once."""
    port = free_port()
    async with Simulator(port=port) as simulator:
        request, url, key = request_for(simulator), simulator.base_url, simulator.api_key
    async with JaraiClient(key, base_url=url) as client:
        submit = asyncio.create_task(client.submit(request))
        await asyncio.sleep(0.3)
        assert client.engine.limiter.used_slots(_clock.monotonic()) == 0
        assert not client.engine.sender.reached
        async with Simulator(port=port) as simulator:
            production = await submit
            assert list(simulator.productions) == [production.id]
            assert client.engine.sender.reached


# --- Slots of the rate limit -----------------------------------------------------------------------


async def test_request_that_was_never_sent_uses_no_slot() -> None:
    """Neither a refused connection nor a closed session uses a slot or counts as a request."""
    log = RequestLog()
    async with JaraiClient("jarai_test_key", base_url=f"http://127.0.0.1:{free_port()}") as client:
        with pytest.raises(NotSentError):
            await client.engine.sender.execute(endpoints.accounts(), log)
        assert client.engine.limiter.used_slots(_clock.monotonic()) == 0
    async with aiohttp.ClientSession() as session:
        client = JaraiClient("jarai_test_key", base_url="http://127.0.0.1:1", session=session)
    with pytest.raises(ConfigurationError):
        await client.engine.sender.execute(endpoints.accounts(), log)
    assert client.engine.limiter.used_slots(_clock.monotonic()) == 0
    assert log.count == 0


async def test_permission_to_submit_that_is_not_used_gives_back_its_slot(
    simulator: Simulator, client: JaraiClient
) -> None:
    """The journal could not be written, or the caller was cancelled."""
    sender, limiter = client.engine.sender, client.engine.limiter
    async with sender.submit_slot(simulator.account_id, sender.account_queues.new_place()):
        assert limiter.used_slots(_clock.monotonic()) == 1
    assert limiter.used_slots(_clock.monotonic()) == 0


async def test_every_request_is_counted(simulator: Simulator, client: JaraiClient) -> None:
    """The log counts responses, 429s, and requests whose response was lost."""
    log = RequestLog()
    simulator.faults.add("reset_after", on="accounts")
    simulator.faults.add("rate_limited", on="accounts", seconds=5)
    await client.engine.sender.execute(endpoints.accounts(), log)
    assert log.count == simulator.count("accounts") == 3


async def test_cancelled_request_keeps_its_slot_for_a_minute(
    simulator: Simulator, client: JaraiClient
) -> None:
    """The server may have counted a request that was cancelled in flight, so the log counts it too."""
    await client.accounts()
    await asyncio.sleep(100)
    simulator.faults.add("hang", on="accounts")
    log = RequestLog()
    call = asyncio.create_task(client.engine.sender.execute(endpoints.accounts(), log))
    await asyncio.sleep(1)
    assert client.engine.limiter.in_flight == 1
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert log.count == 1
    assert client.engine.limiter.in_flight == 0
    now = _clock.monotonic()
    assert [client.engine.limiter.used_slots(now + seconds) for seconds in (59, 61)] == [1, 0]


async def test_reads_on_closed_connections_cause_no_429() -> None:
    """Each attempt has its own slot of the rate limit; aiohttp does not retry on its own."""
    async with (
        Simulator(tier="free", daily_quotas=False) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        production = await client.submit(request_for(simulator))
        simulator.faults.add("reset_before", on="fetch", times=None, probability=0.5)
        await asyncio.gather(*(client.fetch(production.id) for _ in range(40)), return_exceptions=True)
        assert simulator.rate_limited == 0


async def test_429_for_the_day_pauses_all_requests_until_midnight() -> None:
    """After midnight (UTC) requests resume within the limit of the minute, and cause no further 429."""
    rate_limit = RateLimit(per_day=NO_DAILY_QUOTA)
    async with (
        Simulator(tier="free") as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, rate_limit=rate_limit) as client,
    ):
        await asyncio.gather(*(client.accounts() for _ in range(130)))
        arrivals = [request.arrived for request in simulator.requests]
        rejected = simulator.rate_limited
        assert 1 <= rejected <= 10
        assert len(arrivals) == 130 + rejected
        assert [later - earlier > HOUR for earlier, later in pairwise(arrivals)].count(True) == 1
        assert Counter(at >= MIDNIGHT for at in arrivals)[True] == 30
        assert all(request.status == 200 for request in simulator.requests if request.arrived >= MIDNIGHT)
