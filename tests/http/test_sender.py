"""One call, from its turn to its result: accounting, quotas, and what is sent again."""

import asyncio
import socket
from collections import Counter
from itertools import pairwise

import aiohttp
import pytest

from jarai_async import (
    AuthenticationError,
    ConfigurationError,
    JaraiClient,
    JaraiError,
    NoResponseError,
    NotSentError,
    RateLimit,
    ServerError,
    ServiceUnavailableError,
    UncertainSubmitError,
    _clock,
)
from jarai_async._api import endpoints
from jarai_async._http.request_log import RequestLog
from jarai_async.simulator import Simulator
from tests.support.scenarios import request_for

HOUR = 3600.0
MIDNIGHT = 15 * HOUR  # on the simulated loop, whose day begins at nine
NO_QUOTA = 10**9
REFUSED = {"unavailable", "unauthorized", "not_found", "rate_limited", "rate_limited_html"}
LOCATED = {
    "deep_json",
    "no_number",
    "wrong_type",
    "truncated_json",
    "wrong_json",
    "empty_body",
    "missing_id",
    "unknown_status",
    "slow",
}
IN_DOUBT = {
    "internal_error", "internal_error_after", "unavailable_html", "gateway_html", "reset_before",
    "reset_after", "hang_before", "hang", "cut_body", "huge_body", "missing_id_and_location", "redirect",
    "other_production", "other_location", "timeout_html",
}  # fmt: skip


def idle(client: JaraiClient) -> bool:
    """Whether no slot is taken by a request that is not on its way any more."""
    return client.engine.limiter.in_flight == 0


@pytest.mark.parametrize("kind", sorted(IN_DOUBT))
async def test_a_post_is_never_repeated_in_doubt(
    simulator: Simulator, client: JaraiClient, kind: str
) -> None:
    """Whatever happens to it, a submit that may have been carried out is sent once."""
    simulator.faults.add(kind)
    with pytest.raises(UncertainSubmitError) as caught:
        await client.submit(request_for(simulator), idempotency_key="mine")
    assert simulator.count("submit") == 1
    assert caught.value.idempotency_key == "mine"
    assert isinstance(caught.value.__cause__, JaraiError)
    assert idle(client)


@pytest.mark.parametrize("kind", sorted(REFUSED | LOCATED))
async def test_a_post_creates_one_production_or_none(
    simulator: Simulator, client: JaraiClient, kind: str
) -> None:
    """A submit that was provably refused is repeated where that helps; an accepted one never is."""
    simulator.faults.add(kind, seconds=5)
    outcome = await asyncio.gather(client.submit(request_for(simulator)), return_exceptions=True)
    repeated = kind in ("unavailable", "rate_limited", "rate_limited_html")
    assert simulator.count("submit") == (2 if repeated else 1)
    assert len(simulator.productions) == (0 if kind in ("unauthorized", "not_found") else 1)
    assert isinstance(outcome[0], JaraiError) == (not simulator.productions)
    assert idle(client)


@pytest.mark.parametrize("then", ["unauthorized", "not_found"])
async def test_a_refusal_after_a_doubt_proves_nothing(then: str) -> None:
    """With keys honoured: a first attempt in doubt, then a refusal, is still uncertain."""
    async with (
        Simulator(idempotency_keys=True) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, idempotency_keys=True) as client,
    ):
        simulator.faults.add("reset_after")
        simulator.faults.add(then)
        with pytest.raises(UncertainSubmitError) as caught:
            await client.submit(request_for(simulator), idempotency_key="mine")
        assert len(simulator.productions) == 1
        assert simulator.count("submit") == 2
        assert isinstance(caught.value.__cause__, NoResponseError)
        assert caught.value.idempotency_key == "mine"


async def test_a_refusal_without_a_doubt_is_the_refusal() -> None:
    """Where nothing was in doubt before, a refusal is raised as what it is."""
    async with (
        Simulator() as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, idempotency_keys=True) as client,
    ):
        simulator.faults.add("unavailable")
        simulator.faults.add("unauthorized")
        with pytest.raises(AuthenticationError):
            await client.submit(request_for(simulator))


async def test_a_doubt_that_a_repetition_resolves_is_none() -> None:
    """With keys honoured: the same key again brings the production that the first attempt created."""
    async with (
        Simulator(idempotency_keys=True) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, idempotency_keys=True) as client,
    ):
        simulator.faults.add("reset_after", times=2)
        simulator.faults.add("unavailable")
        production = await client.submit(request_for(simulator))
        assert list(simulator.productions) == [production.id]
        assert simulator.count("submit") == 4


async def test_a_submit_that_stays_in_doubt_is_given_up_after_eight_attempts() -> None:
    """With keys honoured: attempts are bounded, and the last doubt is the cause."""
    async with (
        Simulator(idempotency_keys=True) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, idempotency_keys=True) as client,
    ):
        simulator.faults.add("internal_error", times=None)
        with pytest.raises(UncertainSubmitError) as caught:
            await client.submit(request_for(simulator))
        assert simulator.count("submit") == 8
        assert isinstance(caught.value.__cause__, ServerError)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def test_what_was_never_sent_is_sent_again() -> None:
    """While nothing listens a submit is repeated, costs no budget, and is carried out once in the end."""
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


async def test_an_attempt_that_never_left_costs_nothing() -> None:
    """Neither a refused connection nor a closed session takes a slot or counts as a request."""
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


async def test_every_request_is_counted(simulator: Simulator, client: JaraiClient) -> None:
    """The log counts what was sent: answers, 429s, and what was lost on its way."""
    log = RequestLog()
    simulator.faults.add("reset_after", on="accounts")
    simulator.faults.add("rate_limited", on="accounts", seconds=5)
    await client.engine.sender.execute(endpoints.accounts(), log)
    assert log.count == simulator.count("accounts") == 3


async def test_a_call_that_is_cancelled_on_its_way_keeps_its_slot_for_a_minute(
    simulator: Simulator, client: JaraiClient
) -> None:
    """The server may have counted it; and it is counted as sent."""
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
    assert idle(client)
    now = _clock.monotonic()
    assert [client.engine.limiter.used_slots(now + more) for more in (59, 61)] == [1, 0]


async def test_a_503_is_repeated_and_then_raised(simulator: Simulator, client: JaraiClient) -> None:
    """JARAI's own 503 created nothing: a submit is tried eight times, and the 503 itself comes out."""
    simulator.faults.add("unavailable", times=None)
    with pytest.raises(ServiceUnavailableError):
        await client.submit(request_for(simulator))
    assert simulator.count("submit") == 8


async def test_an_accounts_quota_freezes_its_submits_only() -> None:
    """When an account has no productions left, its submits wait for midnight; all else goes on."""
    budget = RateLimit(per_day=NO_QUOTA)
    async with (
        Simulator(tier="standard", accounts=2) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, rate_limit=budget) as client,
    ):
        other = simulator.accounts[1]
        for _ in range(20):
            production = await client.submit(request_for(simulator))
        late = [asyncio.create_task(client.submit(request_for(simulator))) for _ in range(8)]
        await asyncio.sleep(300)
        refused = simulator.count("submit", 429)
        assert 1 <= refused <= 8
        assert client.engine.limiter.limit == 60
        assert client.engine.limiter.others_seen_at < 0
        there = {"account_id": other.account_id, "avatar_id": other.avatar_ids[0]}
        ids = {"language_id": other.language_ids[0], "country_id": other.country_ids[0]}
        before = _clock.monotonic()
        await client.submit(request_for(simulator, **there, **ids))
        await client.fetch(production.id)
        assert _clock.monotonic() - before < 5
        further = asyncio.create_task(client.submit(request_for(simulator)))
        await asyncio.gather(*late, further)
        assert simulator.count("submit", 429) == refused
        accepted = [one.submitted_at for one in simulator.productions.values()]
        assert len(accepted) == 20 + 1 + 9
        assert all(at < HOUR or MIDNIGHT <= at < MIDNIGHT + 200 for at in accepted)


async def test_submits_that_waited_for_a_turn_find_their_account_frozen(
    simulator: Simulator, client: JaraiClient
) -> None:
    """One 429 with hours to wait holds back all submits of the account, also those that were next."""
    simulator.faults.add("rate_limited", seconds=2 * HOUR)
    submits = [asyncio.create_task(client.submit(request_for(simulator))) for _ in range(10)]
    await asyncio.sleep(HOUR)
    assert simulator.count("submit") == 1
    assert idle(client)
    await asyncio.gather(*submits)
    assert min(one.submitted_at for one in simulator.productions.values()) >= 2 * HOUR
    assert simulator.count("submit") == 11


async def test_the_partners_quota_pauses_everything_until_midnight_without_a_herd() -> None:
    """A day's 429 on a read stops all requests; after midnight they begin within the minute's limit."""
    budget = RateLimit(per_day=NO_QUOTA)
    async with (
        Simulator(tier="free") as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, rate_limit=budget) as client,
    ):
        await asyncio.gather(*(client.accounts() for _ in range(130)))
        arrivals = [one.arrived for one in simulator.requests]
        refused = simulator.rate_limited
        assert 1 <= refused <= 10
        assert len(arrivals) == 130 + refused
        assert [later - earlier > HOUR for earlier, later in pairwise(arrivals)].count(True) == 1
        assert Counter(at >= MIDNIGHT for at in arrivals)[True] == 30
        assert all(one.status == 200 for one in simulator.requests if one.arrived >= MIDNIGHT)
