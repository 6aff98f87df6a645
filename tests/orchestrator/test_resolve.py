"""`Orchestrator.resolve`: the user decides what a submit in doubt has created."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from jarai_async import (
    ClosedError,
    Finished,
    InvalidRequestError,
    JaraiClient,
    Orchestrator,
    OutcomeState,
    Production,
    Status,
)
from jarai_async._api.codec import body_of
from jarai_async._api.models import parse_id
from jarai_async._journal.entries import Intent, Stage
from jarai_async._journal.journal import SqliteJournal
from jarai_async._orchestrator.decisions import check_decision
from jarai_async.simulator import FaultKind, Simulator
from tests.support.journals import intent
from tests.support.orchestrators import outcomes_of
from tests.support.scenarios import request_for
from tests.support.strategies import ID, OTHER
from tests.support.strategies import request as make_request


async def leave_in_doubt(simulator: Simulator, client: JaraiClient, journal: Path, **changes: Any) -> str:
    """Submit the request `a` so that its response is lost; return the id of the production it created."""
    simulator.faults.add("reset_after", on="submit")
    request = request_for(simulator, **{"reference": "a"} | changes)
    (outcome,) = await outcomes_of(Orchestrator(client, journal=journal), [request])
    assert outcome.state is OutcomeState.UNCERTAIN
    return [*simulator.productions][-1]


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("restarted", [True, False])
async def test_production_of_another_reference_is_refused(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, *, running: bool, restarted: bool
) -> None:
    """It has one outcome and one folder, also if both requests have the same content."""
    journal = tmp_path / "journal"
    await client.accounts()
    created = await leave_in_doubt(simulator, client, journal)
    async with Orchestrator(client, journal=journal) as orchestrator:
        other = orchestrator.submit(request_for(simulator, reference="b"))
        await asyncio.sleep(5) if running else await other
        if not restarted:
            with pytest.raises(InvalidRequestError, match="belongs to the reference 'b'"):
                await orchestrator.resolve("a", production_id=other.production_id)
    assert other.production_id is not None
    async with Orchestrator(client, journal=journal) as orchestrator:
        with pytest.raises(InvalidRequestError, match="belongs to the reference 'b'"):
            await orchestrator.resolve("a", production_id=other.production_id)
        outcome = await (await orchestrator.resolve("a", production_id=created))
        assert outcome.ok
        assert outcome.production is not None
        assert outcome.production.id == created


async def test_exchange_is_refused_where_the_other_production_does_not_fit() -> None:
    """The first decision was made while JARAI did not report the topic of the production."""
    journal, production = await SqliteJournal.open(None), Production(parse_id(ID), Status.PRODUCING)
    other = evolve(production, id=parse_id(OTHER), topic=intent().request().topic)
    journal.put(intent("a", stage=Stage.ACCEPTED, resolved=True, production=other))
    bees = body_of(make_request(topic="How bees dance"))
    second = Intent("b", ID, bees, "a key", Stage.ACCEPTED, production=production, resolved=True)
    await journal.save(second)
    with pytest.raises(InvalidRequestError, match="does not fit the reference 'b'"):
        await check_decision(journal, "a", production, {})
    with pytest.raises(InvalidRequestError, match="the journal has no request with the reference 'c'"):
        await check_decision(journal, "c", production, {})
    await journal.close()


async def test_running_production_of_another_reference_is_refused_without_a_journal(
    simulator: Simulator, client: JaraiClient
) -> None:
    """Also after it has ended, in the same process."""
    await client.accounts()
    async with Orchestrator(client) as orchestrator:
        other = await orchestrator.submit(request_for(simulator, reference="b"))
        assert other.production is not None
        simulator.faults.add("reset_after", on="submit")
        await orchestrator.submit(request_for(simulator, reference="a"))
        with pytest.raises(InvalidRequestError, match="belongs to the reference 'b'"):
            await orchestrator.resolve("a", production_id=other.production.id)


async def test_production_with_another_topic_or_time_is_refused(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """The error shows both values."""
    await client.accounts()
    early = await client.submit(request_for(simulator))
    await asyncio.sleep(3600)
    await leave_in_doubt(simulator, client, tmp_path / "journal")
    later = await client.submit(request_for(simulator, topic="What bees know"))
    async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
        with pytest.raises(
            InvalidRequestError, match="topic is 'What bees know', the request's is 'How tides"
        ):
            await orchestrator.resolve("a", production_id=later.id)
        with pytest.raises(InvalidRequestError, match=r"creation time is '.*', the request's is '"):
            await orchestrator.resolve("a", production_id=early.id)
        intent = await orchestrator.context.journal.find("a")
    assert intent is not None
    assert intent.stage is Stage.IN_DOUBT


async def test_production_that_the_server_describes_with_an_id_and_a_status_is_accepted(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """The other fields are inferred: what is not there is not compared."""
    await client.accounts()
    created = await leave_in_doubt(simulator, client, tmp_path / "journal")
    simulator.faults.kinds["bare"] = FaultKind(
        lambda response, _: evolve(response, payload={"productionId": created, "status": "Producing"}),
        executes=True,
    )
    simulator.faults.add("bare", on="fetch")
    async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
        assert (await (await orchestrator.resolve("a", production_id=created))).ok


@pytest.mark.parametrize("restarted", [True, False])
async def test_decision_can_be_changed_until_the_request_has_ended(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, *, restarted: bool
) -> None:
    """The ticket of the earlier decision is closed, and nothing of the wrong production is kept."""
    journal = tmp_path / "journal"
    await client.accounts()
    created = await leave_in_doubt(simulator, client, journal)
    wrong = await client.submit(request_for(simulator))  # of another program, with the same topic
    async with Orchestrator(client, journal=journal) as orchestrator:
        first = await orchestrator.resolve("a", production_id=wrong.id)
        await asyncio.sleep(60)
        if not restarted:
            second = await orchestrator.resolve("a", production_id=created)
            with pytest.raises(ClosedError):
                await first
    async with Orchestrator(client, journal=journal) as orchestrator:
        if restarted:
            second = await orchestrator.resolve("a", production_id=created)
        else:
            second = orchestrator.submit(request_for(simulator, reference="a"))
        outcome = await second
        assert outcome.ok
        assert outcome.production is not None
        assert outcome.production.id == created
        with pytest.raises(InvalidRequestError, match="'a' has ended as published"):
            await orchestrator.resolve("a", production_id=wrong.id)


async def test_production_of_a_changed_decision_can_be_of_another_request(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """The one that was decided first had the production of the other."""
    journal = tmp_path / "journal"
    await client.accounts()
    created = [await leave_in_doubt(simulator, client, journal, reference=name) for name in ("a", "b")]
    async with Orchestrator(client, journal=journal) as orchestrator:
        await orchestrator.resolve("a", production_id=created[1])
        await asyncio.sleep(60)
        first = await orchestrator.resolve("a", production_id=created[0])
        second = await orchestrator.resolve("b", production_id=created[1])
        assert [(await ticket).ok for ticket in (first, second)] == [True, True]


@pytest.mark.parametrize("restarted", [True, False])
@pytest.mark.parametrize("order", ["ab", "a"])
async def test_productions_that_were_assigned_the_wrong_way_round_are_exchanged(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, *, order: str, restarted: bool
) -> None:
    """By the right decision for either request; the same for the other one changes nothing."""
    journal = tmp_path / "journal"
    await client.accounts()
    created = {name: await leave_in_doubt(simulator, client, journal, reference=name) for name in "ab"}
    async with AsyncExitStack() as stack:
        orchestrator = await stack.enter_async_context(Orchestrator(client, journal=journal))
        wrong = [await orchestrator.resolve(a, production_id=created[b]) for a, b in ("ab", "ba")]
        await asyncio.sleep(60)
        if restarted:
            await stack.aclose()
            orchestrator = await stack.enter_async_context(Orchestrator(client, journal=journal))
        for name in order:
            await orchestrator.resolve(name, production_id=created[name])
        assert [type(error) for error in await asyncio.gather(*wrong, return_exceptions=True)] == [
            ClosedError
        ] * 2
        stored = {
            intent.reference: intent.production for intent in await orchestrator.context.journal.intents()
        }
        assert {name: one.id for name, one in stored.items() if one is not None} == created
        await asyncio.sleep(0 if restarted else 6 * 3600)
        ended = [intent.stage for intent in await orchestrator.context.journal.intents()]
    assert ended == ([Stage.ACCEPTED] * 2 if restarted else [Stage.ENDED] * 2)


@pytest.mark.parametrize("kept", [True, False])
async def test_one_of_two_simultaneous_decisions_is_used(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, *, kept: bool
) -> None:
    """A request has one job, and a production one request, whatever an application does at once."""
    await client.accounts()
    async with Orchestrator(client, journal=tmp_path / "journal" if kept else None) as orchestrator:
        simulator.faults.add("reset_after", on="submit", times=2)
        for reference in ("a", "b"):
            await orchestrator.submit(request_for(simulator, reference=reference))
        created = next(iter(simulator.productions))
        decisions = [orchestrator.resolve(reference, production_id=created) for reference in "aabb"]
        tickets = await asyncio.gather(*decisions, return_exceptions=True)
        assert len({job.state.reference for job in orchestrator.jobs}) == 1
        assert len(orchestrator.jobs) == 1
        assert sum(isinstance(ticket, InvalidRequestError) for ticket in tickets) == 2


async def test_decision_to_resubmit_can_be_changed_until_it_is_sent(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """Nothing was created by it, so it can be taken back; later that would leave a production unwatched."""
    await client.accounts()
    created = await leave_in_doubt(simulator, client, tmp_path / "journal")
    async with Orchestrator(client, concurrency=1, journal=tmp_path / "journal") as orchestrator:
        orchestrator.submit(request_for(simulator, reference="b"))  # has the only slot
        await asyncio.sleep(1)
        await orchestrator.resolve("a", resubmit=True)
        await asyncio.sleep(1)
        ticket = await orchestrator.resolve("a", production_id=created)
        assert (await ticket).ok
    assert len(simulator.productions) == 2
    other = await leave_in_doubt(simulator, client, tmp_path / "journal", reference="c")
    async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
        await orchestrator.resolve("c", resubmit=True)
        await asyncio.sleep(70)  # after a second doubt in a row no submit is sent for a minute
        with pytest.raises(InvalidRequestError, match="still running"):
            await orchestrator.resolve("c", production_id=other)


async def test_decision_while_the_outcome_is_being_read_is_kept(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """The reader takes the next event after the decision: that does not put the submit in doubt again."""
    await client.accounts()
    simulator.faults.add("reset_after", on="submit")
    async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
        async for event in orchestrator.run([request_for(simulator, reference="a")]):
            if isinstance(event, Finished):
                (created,) = simulator.productions
                await orchestrator.resolve("a", production_id=created)
        (stored,) = await orchestrator.context.journal.intents()
    assert stored.stage is Stage.ACCEPTED
    assert stored.production is not None
