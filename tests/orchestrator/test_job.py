"""How the jobs of a batch end: none of them raises, and none affects another."""

import asyncio
from pathlib import Path

import pytest

from jarai_async import (
    DeadlineExceededError,
    JaraiClient,
    Orchestrator,
    OutcomeState,
    PermissionDeniedError,
    ProductionFailedError,
)
from jarai_async.simulator import Simulator
from tests.support.orchestrators import outcomes_of
from tests.support.scenarios import requests_for


async def test_failed_production_is_an_outcome() -> None:
    """Its error has the server's code."""
    async with (
        Simulator(expiry_rate=1.0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        (outcome,) = await outcomes_of(Orchestrator(client), requests_for(simulator, 1))
    assert outcome.state is OutcomeState.FAILED
    assert isinstance(outcome.error, ProductionFailedError)
    assert outcome.error.code == "PRODUCTION_EXPIRED"


async def test_exceeded_deadline_is_an_outcome(simulator: Simulator, client: JaraiClient) -> None:
    """The production is no longer watched, and continues at JARAI."""
    (outcome,) = await outcomes_of(Orchestrator(client, deadline=120), requests_for(simulator, 1))
    assert outcome.state is OutcomeState.TIMED_OUT
    assert isinstance(outcome.error, DeadlineExceededError)
    assert outcome.production is not None
    actual = simulator.productions[outcome.production.id]
    assert actual.status_at(asyncio.get_running_loop().time()) == "Producing"


async def test_production_that_is_not_found_any_more_is_an_outcome(
    simulator: Simulator, client: JaraiClient
) -> None:
    """404s are waited out at first, and then end the job."""
    simulator.faults.add("not_found", on="fetch", times=None)
    (outcome,) = await outcomes_of(Orchestrator(client), requests_for(simulator, 1))
    assert outcome.state is OutcomeState.NOT_FOUND
    assert outcome.error is not None
    assert outcome.error.status == 404


async def test_production_that_jarai_refuses_to_show_is_an_outcome_that_is_not_final(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """403s are waited out for an hour. The production continues, so the next run polls it again."""
    journal, requests = tmp_path / "journal.db", requests_for(simulator, 1)
    simulator.faults.add("forbidden", on="fetch", times=None)
    (outcome,) = await outcomes_of(Orchestrator(client, journal=journal), requests)
    assert outcome.state is OutcomeState.INACCESSIBLE
    assert isinstance(outcome.error, PermissionDeniedError)
    assert outcome.error.code == "PARTNER_NOT_ACTIVE"
    simulator.faults.clear()
    (outcome,) = await outcomes_of(Orchestrator(client, journal=journal), requests)
    assert outcome.state is OutcomeState.PUBLISHED
    assert len(simulator.productions) == 1


@pytest.mark.parametrize(
    "kind", ["internal_error", "gateway_html", "not_found", "truncated_json", "unknown_status"]
)
async def test_failed_poll_does_not_end_a_job(simulator: Simulator, client: JaraiClient, kind: str) -> None:
    """The production is polled again."""
    simulator.faults.add(kind, on="fetch", times=2)
    outcomes = await outcomes_of(Orchestrator(client), requests_for(simulator, 2))
    assert all(outcome.ok for outcome in outcomes)
    assert simulator.faults.fired[kind] == 2
