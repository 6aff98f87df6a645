"""While submits get no usable response, few are sent: each of them would become uncertain."""

import asyncio
import logging
from collections import Counter
from random import Random

import pytest

from jarai_async import JaraiClient, Orchestrator, ProductionRequest, UncertainSubmitError
from jarai_async.simulator import Simulator
from tests.support.orchestrators import outcomes_of
from tests.support.scenarios import request_for, requests_for

IN_FLIGHT = 20
SECONDS = 180.0  # of the fault
PROBES = 3  # at most one a minute
KINDS = ["gateway_html", "internal_error", "reset_before", "hang_before", "redirect", "timeout_html"]


def short(_: Random, __: str) -> list[tuple[str, float]]:
    return [("Queued", 1), ("Producing", 5), ("AwaitingApproval", 1), ("Distributing", 1)]


def add_faults(
    simulator: Simulator, kind: str, *routes: str, probability: float = 1.0, seconds: float = SECONDS
) -> None:
    """Let a fault affect the requests of these routes from now on."""
    for route in routes:
        simulator.faults.add(kind, on=route, times=None, probability=probability)
    asyncio.get_running_loop().call_later(seconds, simulator.faults.clear)


async def final_states(client: JaraiClient, requests: list[ProductionRequest]) -> Counter[str]:
    outcomes = await outcomes_of(Orchestrator(client, concurrency=IN_FLIGHT), requests)
    return Counter(str(outcome.state) for outcome in outcomes)


@pytest.mark.parametrize(("accounts", "routes"), [(5, ("submit",)), (1, ("submit", "fetch", "accounts"))])
@pytest.mark.parametrize("kind", KINDS)
async def test_few_submits_become_uncertain_in_an_outage(
    accounts: int, kind: str, routes: tuple[str, ...]
) -> None:
    """Only those that were already on their way, and one a minute; all others are published."""
    async with (
        Simulator(approval="auto", failure_rate=0, durations=short, accounts=accounts) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        await client.accounts()
        add_faults(simulator, kind, *routes)
        requests = [
            request_for(simulator, account_id=simulator.accounts[n % accounts].account_id) for n in range(50)
        ]
        states = await final_states(client, requests)
        assert 0 < states["uncertain"] <= IN_FLIGHT + PROBES
        assert states["published"] == 50 - states["uncertain"]


async def test_few_submits_become_uncertain_where_half_are_lost_at_random() -> None:
    """For ten minutes: an accepted probe does not release all others, because the next may be lost again."""
    async with (
        Simulator(approval="auto", failure_rate=0, durations=short) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        add_faults(simulator, "gateway_html", "submit", probability=0.5, seconds=600)
        states = await final_states(client, requests_for(simulator, 200))
        assert 0 < states["uncertain"] <= IN_FLIGHT + 10
        assert states["published"] == 200 - states["uncertain"]


async def test_no_submit_becomes_uncertain_with_idempotency_keys() -> None:
    """The submits are sent again with the same key once JARAI responds again."""
    async with (
        Simulator(idempotency_keys=True, approval="auto", failure_rate=0, durations=short) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, idempotency_keys=True) as client,
    ):
        add_faults(simulator, "gateway_html", "any")
        assert await final_states(client, requests_for(simulator, 80)) == {"published": 80}
        assert len(simulator.productions) == 80


async def test_submit_waits_until_a_read_is_answered(
    simulator: Simulator, client: JaraiClient, caplog: pytest.LogCaptureFixture
) -> None:
    """One read a minute finds out whether JARAI responds. The beginning and the end are logged once each."""
    caplog.set_level(logging.INFO)
    await client.accounts()
    add_faults(simulator, "gateway_html", "submit", "accounts")
    with pytest.raises(UncertainSubmitError):
        await client.submit(request_for(simulator))
    await asyncio.gather(*(client.submit(request_for(simulator)) for _ in range(5)))
    assert simulator.count("submit") == 1 + 5
    assert 1 + 3 <= simulator.count("accounts") <= 1 + 5
    assert asyncio.get_running_loop().time() < SECONDS + 70
    assert caplog.text.count("an outage of JARAI (submit, read) began at") == 1
    assert caplog.text.count("the outage of JARAI has ended") == 1
    assert "(502)" in caplog.text
    assert "repeat a read" not in caplog.text  # advice for the caller: the client does so by itself


async def test_answered_poll_is_the_read_that_submits_wait_for(
    simulator: Simulator, client: JaraiClient
) -> None:
    """While productions are polled, no further read is sent."""
    production = await client.submit(request_for(simulator))
    waiting = asyncio.create_task(client.wait(production.id))
    await asyncio.sleep(10)
    simulator.faults.add("gateway_html", on="submit", times=2)
    for _ in range(2):
        with pytest.raises(UncertainSubmitError):
            await client.submit(request_for(simulator))
    reads = simulator.count("accounts")
    await client.submit(request_for(simulator))
    assert simulator.count("accounts") == reads
    assert (await waiting).status == "Published"


async def test_cancelled_submit_is_followed_by_a_single_one(
    simulator: Simulator, client: JaraiClient
) -> None:
    """A submit that its caller gives up is as uncertain as one whose response is lost."""
    await client.accounts()
    add_faults(simulator, "hang", "submit")

    async def submit() -> None:
        async with asyncio.timeout(20):
            await client.submit(request_for(simulator))

    await asyncio.gather(*(submit() for _ in range(10)), return_exceptions=True)
    await asyncio.gather(*(submit() for _ in range(10)), return_exceptions=True)
    assert simulator.count("submit") == 10 + 1
