"""What an outcome decides: recorded ones are returned again, and `retry` submits them again when asked."""

from pathlib import Path
from typing import Any

import pytest

from jarai_async import (
    BudgetExceededError,
    InvalidRequestError,
    JaraiClient,
    Orchestrator,
    Outcome,
    OutcomeState,
    Polling,
)
from jarai_async._journal.journal import SqliteJournal
from jarai_async._orchestrator.decisions import retry
from jarai_async.simulator import FaultKind, Simulator
from jarai_async.simulator._api.responses import error_response
from tests.support.journals import execute, intent
from tests.support.orchestrators import outcomes_of
from tests.support.scenarios import request_for


def reject_one_submit(simulator: Simulator, status: int, code: str) -> None:
    response = error_response(status, code, "Not possible.")
    simulator.faults.kinds["rejected"] = FaultKind(lambda _, __: response, executes=False)
    simulator.faults.add("rejected", on="submit")


async def outcome_of(simulator: Simulator, journal: Path, **changes: Any) -> Outcome:
    """Return the outcome of the request `a`, as a program sees it that is started again."""
    async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
        request = request_for(simulator, reference="a", **changes)
        (outcome,) = await outcomes_of(Orchestrator(client, journal=journal), [request])
        return outcome


async def test_rejected_request_is_not_sent_again_unless_asked(simulator: Simulator, tmp_path: Path) -> None:
    """The next start returns the recorded outcome, with JARAI's error and how to try again."""
    reject_one_submit(simulator, 409, "BUDGET_GATE_1_FAILED")
    first = await outcome_of(simulator, tmp_path / "journal")
    again = await outcome_of(simulator, tmp_path / "journal")
    assert simulator.count("submit") == 1
    assert first.state is again.state is OutcomeState.REJECTED
    assert first.is_final
    assert again.is_final
    assert isinstance(again.error, BudgetExceededError)
    assert str(again.error) == str(first.error)
    assert (again.error.status, again.error.code) == (409, "BUDGET_GATE_1_FAILED")
    assert again.error.correlation_id
    assert "To submit it again, use `jarai retry`, or `Orchestrator.retry` in a program." in str(again)


async def test_retry_submits_a_rejected_request_again(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """With a new key; its events continue behind those of the first submit."""
    reject_one_submit(simulator, 409, "BUDGET_GATE_1_FAILED")
    path = tmp_path / "journal"
    first = await outcome_of(simulator, path)
    assert isinstance(first.error, BudgetExceededError)
    async with Orchestrator(client, journal=path) as orchestrator:
        ticket = await orchestrator.retry("a")
        numbers = [event.sequence async for event in ticket.events()]
        assert (await ticket).ok
        with pytest.raises(InvalidRequestError, match="'a' ended as published"):
            await orchestrator.retry("a")
        with pytest.raises(InvalidRequestError, match="no request with the reference 'b'"):
            await orchestrator.retry("b")
    assert numbers == [*range(1, 1 + len(numbers))]
    assert (await outcome_of(simulator, path)).ok
    assert simulator.count("submit") == 2


async def test_retry_replaces_a_failed_production(tmp_path: Path) -> None:
    """The failed one was paid for; a second one is created only because the user asks for it."""
    async with Simulator(failure_rate=1.0, approval="auto") as simulator:
        path = tmp_path / "journal"
        failed = await outcome_of(simulator, path)
        assert failed.state is OutcomeState.FAILED
        assert failed.is_final
        assert (await outcome_of(simulator, path)).state is OutcomeState.FAILED
        assert len(simulator.productions) == 1
        async with (
            JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
            Orchestrator(client, journal=path) as orchestrator,
        ):
            outcome = await (await orchestrator.retry("a"))
        assert len(simulator.productions) == 2
        assert outcome.production is not None
        assert outcome.production.id == [*simulator.productions][1]
        recorded = await outcome_of(simulator, path)
        assert recorded.production is not None
        assert recorded.production.id == outcome.production.id
        assert len(simulator.productions) == 2


async def test_retry_of_an_expired_production_allows_another_expired_retry(tmp_path: Path) -> None:
    """Those of the submits before it do not count."""
    async with (
        Simulator(expiry_rate=1.0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client, journal=tmp_path / "journal", polling=Polling(min_interval=300)) as orchestrator,
    ):
        assert (await orchestrator.submit(request_for(simulator, reference="a"))).state is OutcomeState.FAILED
        assert len(simulator.productions) == 2
        await (await orchestrator.retry("a"))
        assert len(simulator.productions) == 4


@pytest.mark.parametrize("fault", ["reset_after", "not_found"])
async def test_retry_refuses_what_may_still_be_running(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, fault: str
) -> None:
    """A submit in doubt is resolved; a production that is not found is looked for by the next run."""
    simulator.faults.add(fault, on="submit" if fault == "reset_after" else "fetch", times=None)
    path = tmp_path / "journal"
    outcome = await outcome_of(simulator, path)
    assert outcome.state in (OutcomeState.UNCERTAIN, OutcomeState.NOT_FOUND)
    assert not outcome.is_final
    async with Orchestrator(client, journal=path) as orchestrator:
        with pytest.raises(InvalidRequestError, match="cannot be submitted again"):
            await orchestrator.retry("a")


async def test_retry_submits_at_once_what_a_wrong_key_had_rejected(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """The next run would submit it; a program that goes on running needs no restart."""
    simulator.faults.add("unauthorized", times=1)
    async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
        outcome = await orchestrator.submit(request_for(simulator, reference="a"))
        assert outcome.state is OutcomeState.REJECTED
        assert not outcome.is_final
        assert (await (await orchestrator.retry("a"))).ok
    assert len(simulator.productions) == 1


async def test_rejected_request_may_be_corrected(simulator: Simulator, tmp_path: Path) -> None:
    """Nothing was created, so other content under its reference is a new request."""
    reject_one_submit(simulator, 400, "INVALID_REQUEST")
    assert (await outcome_of(simulator, tmp_path / "journal")).state is OutcomeState.REJECTED
    corrected = await outcome_of(simulator, tmp_path / "journal", topic="How bees dance")
    assert corrected.ok
    assert [production.body["topic"] for production in simulator.productions.values()] == ["How bees dance"]


async def test_production_that_is_not_found_is_asked_for_again_and_may_be_resolved(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """The key may have been another partner's; or the user names another production."""
    path = tmp_path / "journal"
    simulator.faults.add("not_found", on="fetch", times=None)
    assert (await outcome_of(simulator, path)).state is OutcomeState.NOT_FOUND
    simulator.faults.clear()
    other = await client.submit(request_for(simulator))
    async with Orchestrator(client, journal=path) as orchestrator:
        outcome = await (await orchestrator.resolve("a", production_id=other.id))
    assert outcome.state is OutcomeState.PUBLISHED
    assert outcome.production is not None
    assert outcome.production.id == other.id


async def test_production_that_was_not_found_is_published_in_the_next_run(
    simulator: Simulator, tmp_path: Path
) -> None:
    """Also where an earlier version recorded that as final, by either of its names."""
    path = tmp_path / "journal"
    for state in (None, "vanished", "not_found"):
        simulator.faults.add("not_found", on="fetch", times=None)
        assert (await outcome_of(simulator, path)).state is OutcomeState.NOT_FOUND
        simulator.faults.clear()
        if state is not None:
            fields = f"json_set(kept, '$.outcome', json('{{\"state\": \"{state}\"}}'))"
            execute(path, f"UPDATE intents SET stage = 'ended', kept = {fields}")  # noqa: S608
        assert (await outcome_of(simulator, path)).state is OutcomeState.PUBLISHED
        path.unlink()


async def test_retry_drops_the_cancel_of_a_request_that_is_not_submitted_yet() -> None:
    """`jarai resolve --resubmit` has left both in the journal; the later decision counts."""
    journal = await SqliteJournal.open(None)
    await journal.save(intent("a", cancel_requested=True))
    assert not (await retry(journal, "a")).cancel_requested
    await journal.close()
