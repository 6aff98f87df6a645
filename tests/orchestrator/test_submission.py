"""Submits of an orchestrator that fail: what becomes of their jobs, and of the other jobs."""

import asyncio
import re
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jarai_async import (
    BudgetExceededError,
    ClosedError,
    JaraiClient,
    NotSentError,
    Orchestrator,
    OutcomeState,
    UncertainSubmitError,
    _clock,
    read_journal,
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


async def test_submit_in_doubt_is_an_uncertain_outcome(
    simulator: Simulator, client: JaraiClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A submit whose response was lost is not sent again, and the other jobs continue. It is logged, once."""
    simulator.faults.add("reset_after", on="submit")
    outcomes = await outcomes_of(Orchestrator(client), requests_for(simulator, 3))
    assert len(simulator.productions) == 3
    uncertain = [outcome for outcome in outcomes if outcome.state is OutcomeState.UNCERTAIN]
    assert len(uncertain) == 1
    assert isinstance(uncertain[0].error, UncertainSubmitError)
    assert sum(outcome.ok for outcome in outcomes) == 2
    assert [record.getMessage() for record in caplog.records] == [str(uncertain[0].error)]


@pytest.mark.parametrize("restarted", [False, True])
async def test_error_of_a_submit_in_doubt_says_what_to_look_for_and_how_to_decide(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, *, restarted: bool
) -> None:
    """Also after a restart: the request, the time, the reason, the correlation id and both commands."""
    journal, request = (
        tmp_path / "my journal",
        request_for(simulator, topic="How tides " * 20, reference="it's"),
    )
    await client.accounts()
    simulator.faults.add("internal_error", on="submit")
    began = f"{_clock.utc():%Y-%m-%d %H:%M}"
    for _ in range(1 + restarted):
        (outcome,) = await outcomes_of(Orchestrator(client, journal=journal), [request])
        await asyncio.sleep(3600)
    error, command = outcome.error, f"`jarai resolve '{journal}' 'it'\"'\"'s'"
    assert isinstance(error, UncertainSubmitError)
    assert error.correlation_id is not None
    assert error.code == "INTERNAL_ERROR"
    text = str(error)
    assert f'the submit of {"How tides " * 8!r} (reference "it\'s", account {simulator.account_id})' in text
    assert f", sent {began}" in text
    facts = f"(500, INTERNAL_ERROR, correlation id {error.correlation_id})"
    assert f"may have been accepted: An unexpected error occurred {facts}" in text
    assert f"{command} --production-id ID`" in text
    assert f"{command} --resubmit`" in text
    assert text.count("`Orchestrator.resolve`") == 1


async def test_submit_in_doubt_of_an_earlier_process_ends_without_a_slot(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """It needs none, because it is not sent: a person learns of it at once."""
    path = tmp_path / "journal"
    async with Orchestrator(client, journal=path) as orchestrator:
        orchestrator.submit(request_for(simulator, reference="busy"))
        await asyncio.sleep(1)
        simulator.faults.add("reset_after", on="submit")
        await orchestrator.submit(request_for(simulator, reference="lost"))
    async with Orchestrator(client, journal=path, concurrency=1) as orchestrator:
        tickets = {ticket.reference: ticket for ticket in await orchestrator.resume()}
        assert (await tickets["lost"]).state is OutcomeState.UNCERTAIN
        assert not tickets["busy"].done


async def test_time_of_a_submit_in_doubt_is_not_that_of_an_earlier_attempt_that_created_nothing(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """A person looks for the production at that time in JARAI Studio, also after a restart."""
    path, request = tmp_path / "journal", request_for(simulator)
    await client.accounts()
    simulator.faults.add("unavailable", on="submit", times=3)
    simulator.faults.add("reset_after", on="submit")
    (first,) = await outcomes_of(Orchestrator(client, journal=path), [request])
    (again,) = await outcomes_of(Orchestrator(client, journal=path), [request])
    (production,) = simulator.productions.values()
    assert production.submitted_at > 1
    sent = re.findall(r", sent (\S+ \S+)", f"{first.error} {again.error}")
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert sent[0] == f"{datetime.fromtimestamp(production.submitted_wall, UTC):%Y-%m-%d %H:%M:%S}"


async def test_journal_forgets_the_doubt_of_a_submit_that_is_accepted_in_the_end(tmp_path: Path) -> None:
    """A repetition with the same key was answered, so its request has no error."""
    async with (
        Simulator(idempotency_keys=True, failure_rate=0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, idempotency_keys=True) as client,
        Orchestrator(client, journal=tmp_path / "journal") as orchestrator,
    ):
        simulator.faults.add("reset_after", on="submit")
        ticket = orchestrator.submit(request_for(simulator))
        await anext(ticket.events())
        (entry,) = read_journal(tmp_path / "journal")
    assert (entry.stage, entry.error) == ("accepted", None)
    assert simulator.count("submit") == 2


async def test_error_of_a_submit_in_doubt_names_no_command_without_a_journal(
    simulator: Simulator, client: JaraiClient
) -> None:
    """A command cannot decide it, and a client without an orchestrator has nothing to resolve."""
    await client.accounts()
    simulator.faults.add("reset_after", on="submit", times=2)
    with pytest.raises(
        UncertainSubmitError, match=r"'How tides work' \(account .* before you submit it again"
    ):
        await client.submit(request_for(simulator))
    (outcome,) = await outcomes_of(Orchestrator(client), requests_for(simulator, 1))
    assert "created, then call `Orchestrator.resolve`" in str(outcome.error)
    assert "jarai resolve" not in str(outcome.error)


async def test_base_url_that_was_never_reached_rejects_the_requests(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is probably wrong: the jobs do not wait as in an outage, and the log says what submits them."""
    async with Simulator() as simulator:
        requests = requests_for(simulator, 2)
    async with JaraiClient("jarai_test_x", base_url="http://127.0.0.1:9/v1/partner") as client:
        outcomes = await outcomes_of(Orchestrator(client), requests)
    assert {outcome.state for outcome in outcomes} == {OutcomeState.REJECTED}
    assert {type(outcome.error) for outcome in outcomes} == {NotSentError}
    outage, *ends = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "an outage of JARAI (submit) began" in outage
    assert [text.rpartition("base URL, then try again.")[2] for text in ends] == [
        " Nothing was created: the next run, `resume` after a restart, or `retry` submits it."
    ] * 2


async def test_request_that_was_not_sent_at_the_first_start_is_submitted_by_the_next_run(
    tmp_path: Path,
) -> None:
    """The base URL was right after all: nothing has to be retried by hand."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    simulator, path = Simulator(port=port, failure_rate=0), tmp_path / "journal"
    async with JaraiClient(simulator.api_key, base_url=f"http://127.0.0.1:{port}/v1/partner") as client:
        (first,) = await outcomes_of(Orchestrator(client, journal=path), [request_for(simulator)])
        assert (first.state, first.is_final) == (OutcomeState.REJECTED, False)
        async with simulator:
            (again,) = await outcomes_of(Orchestrator(client, journal=path), [request_for(simulator)])
    assert again.ok
    assert len(simulator.productions) == 1


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
