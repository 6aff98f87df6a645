"""Submits of an orchestrator that fail: what becomes of their jobs, and of the other jobs."""

import asyncio

import pytest

from jarai_async import (
    BudgetExceededError,
    ClosedError,
    JaraiClient,
    NotSentError,
    Orchestrator,
    OutcomeState,
    UncertainSubmitError,
)
from jarai_async.simulator import Simulator
from tests.support.orchestrators import outcomes_of
from tests.support.scenarios import request_for, requests_for


async def test_rejected_request_is_an_outcome() -> None:
    """Where the budget is exceeded, only the requests that JARAI rejects end as rejected."""
    async with (
        Simulator(spend_ceiling=2, failure_rate=0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        outcomes = await outcomes_of(Orchestrator(client), requests_for(simulator, 5))
    states = [outcome.state for outcome in outcomes]
    assert states.count(OutcomeState.PUBLISHED) == 2
    assert states.count(OutcomeState.REJECTED) == 3
    rejected = [outcome for outcome in outcomes if outcome.state is OutcomeState.REJECTED]
    assert {type(outcome.error) for outcome in rejected} == {BudgetExceededError}
    assert {outcome.production for outcome in rejected} == {None}


async def test_submit_in_doubt_is_an_uncertain_outcome(simulator: Simulator, client: JaraiClient) -> None:
    """A submit whose response was lost is not sent again, and the other jobs continue."""
    simulator.faults.add("reset_after", on="submit")
    outcomes = await outcomes_of(Orchestrator(client), requests_for(simulator, 3))
    assert len(simulator.productions) == 3
    uncertain = [outcome for outcome in outcomes if outcome.state is OutcomeState.UNCERTAIN]
    assert len(uncertain) == 1
    assert isinstance(uncertain[0].error, UncertainSubmitError)
    assert sum(outcome.ok for outcome in outcomes) == 2


async def test_base_url_that_was_never_reached_rejects_the_requests(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is probably wrong: one warning is logged, and the jobs do not wait as in an outage."""
    async with Simulator() as simulator:
        requests = requests_for(simulator, 2)
    async with JaraiClient("jarai_test_x", base_url="http://127.0.0.1:9/v1/partner") as client:
        outcomes = await outcomes_of(Orchestrator(client), requests)
    assert {outcome.state for outcome in outcomes} == {OutcomeState.REJECTED}
    assert {type(outcome.error) for outcome in outcomes} == {NotSentError}
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_closing_the_client_is_not_a_rejection(simulator: Simulator) -> None:
    """Tickets of submits that wait raise ClosedError, which is not an outcome."""
    client = JaraiClient(simulator.api_key, base_url=simulator.base_url)
    async with Orchestrator(client, concurrency=400) as orchestrator:
        tickets = [orchestrator.submit(request_for(simulator)) for _ in range(320)]
        await asyncio.sleep(30)
        await client.close()
        results = await asyncio.gather(*tickets, return_exceptions=True)
    assert {type(result) for result in results} == {ClosedError}


@pytest.mark.parametrize("orchestrated", [True, False])
async def test_failed_submit_goes_behind_the_others_of_its_account(*, orchestrated: bool) -> None:
    """A request that fails each time does not hold them back."""
    async with (
        Simulator(tier="standard", failure_rate=0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        await client.accounts()
        simulator.faults.add("unavailable", on="submit", times=2)
        requests = [request_for(simulator, topic=topic) for topic in "abc"]
        if orchestrated:
            async with Orchestrator(client) as orchestrator:
                _ = [orchestrator.submit(request) for request in requests]
                await asyncio.sleep(60)
        else:
            await asyncio.gather(*map(client.submit, requests))
        accepted = sorted(simulator.productions.values(), key=lambda production: production.submitted_at)
    assert accepted[0].body["topic"] == "c"
