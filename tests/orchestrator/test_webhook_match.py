"""Webhooks about productions that no job knows decide what a submit without a response has created."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve

from jarai_async import (
    Finished,
    InvalidRequestError,
    JaraiClient,
    Orchestrator,
    Outcome,
    OutcomeState,
    Production,
    ProductionRequest,
    Status,
    Submitted,
)
from jarai_async._api.codec import body_of
from jarai_async._api.models import parse_id
from jarai_async._journal.entries import Intent, Stage
from jarai_async._journal.journal import SqliteJournal
from jarai_async._orchestrator.webhook_match import WebhookMatcher
from jarai_async._orchestrator.webhook_router import WebhookRouter
from jarai_async.simulator import Deliverability, FaultKind, Simulator
from jarai_async.webhooks import ProductionPublished, ProductionQueued
from tests.support.journals import intent
from tests.support.scenarios import request_for
from tests.support.webhook_events import webhook_event
from tests.support.webhook_scenarios import with_webhooks

SOON, LATE = Deliverability(delay=1.0), Deliverability(delay=300.0)


async def run(orchestrator: Orchestrator, simulator: Simulator, *topics: str) -> list[Outcome]:
    """Submit a request for each topic so that all responses are lost."""
    simulator.faults.add("reset_after", on="submit", times=len(topics))
    requests = [request_for(simulator, topic=topic, reference=f"r{n}") for n, topic in enumerate(topics)]
    return [event.outcome async for event in orchestrator.run(requests) if isinstance(event, Finished)]


async def test_webhook_decides_a_submit_whose_response_was_lost(tmp_path: Path) -> None:
    """Its production is read, fits this submit alone, and is watched: nothing is uncertain."""
    async with with_webhooks(SOON) as (simulator, client, receiver):
        await client.accounts()
        async with Orchestrator(client, webhooks=receiver, journal=tmp_path / "journal") as orchestrator:
            outcomes = await run(orchestrator, simulator, "tides", "bees")
        created = {production.body["topic"]: id_ for id_, production in simulator.productions.items()}
        assert len(created) == 2
        for outcome in outcomes:
            assert outcome.ok
            assert outcome.production is not None
            assert outcome.production.id == created[outcome.request.topic]


@pytest.mark.parametrize("restarted", [True, False])
async def test_webhook_that_arrives_after_the_outcome_is_used(tmp_path: Path, *, restarted: bool) -> None:
    """The production is watched to its end, also by a process that was not given the request.

    No reader got its events, so the next run that is given the request reports them all.
    """
    async with with_webhooks(LATE) as (simulator, client, receiver):
        await client.accounts()
        async with Orchestrator(client, webhooks=receiver, journal=tmp_path / "journal") as orchestrator:
            (outcome,) = await run(orchestrator, simulator, "tides")
            assert outcome.state is OutcomeState.UNCERTAIN
            await asyncio.sleep(0 if restarted else 4 * 3600)
            finished = orchestrator.statistics().finished
        async with Orchestrator(client, webhooks=receiver, journal=tmp_path / "journal") as orchestrator:
            await asyncio.sleep(4 * 3600)
            finished += orchestrator.statistics().finished
        assert finished == 2
        async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
            events = [event async for event in orchestrator.run([outcome.request])]
    assert isinstance(events[0], Submitted)
    assert [event.sequence for event in events] == [*range(2, 2 + len(events))]
    assert isinstance(events[-1], Finished)
    assert events[-1].outcome.ok


@pytest.mark.parametrize("as_iterable", [list, iter])
async def test_webhook_about_a_request_that_is_still_to_be_drawn_leaves_it_to_its_job(
    as_iterable: Callable[[list[ProductionRequest]], Iterable[ProductionRequest]], tmp_path: Path
) -> None:
    """The reader of the batch gets every event of it, although it was decided before its job started."""
    async with with_webhooks(LATE) as (simulator, client, receiver):
        await client.accounts()
        async with Orchestrator(client, webhooks=receiver, journal=tmp_path / "journal") as orchestrator:
            (outcome,) = await run(orchestrator, simulator, "tides")
        assert outcome.state is OutcomeState.UNCERTAIN
        requests = [request_for(simulator, topic="bees", reference="r1"), outcome.request]
        async with Orchestrator(
            client, concurrency=1, webhooks=receiver, journal=tmp_path / "journal"
        ) as orchestrator:
            events = [event async for event in orchestrator.run(as_iterable(requests))]
    mine = [event for event in events if event.reference == "r0"]
    assert isinstance(mine[0], Submitted)
    assert isinstance(mine[-1], Finished)
    assert mine[-1].outcome.ok


@pytest.mark.parametrize("delay", [SOON, LATE])
async def test_productions_that_fit_two_submits_are_only_proposed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, delay: Deliverability
) -> None:
    """The complete command is in the log and, if it is known by then, in the text of the outcome's error."""
    async with with_webhooks(delay) as (simulator, client, receiver):
        await client.accounts()
        path = tmp_path / "my journal"
        async with Orchestrator(client, webhooks=receiver, journal=path) as orchestrator:
            outcomes = await run(orchestrator, simulator, "tides", "tides")
            await asyncio.sleep(3600)
        assert {outcome.state for outcome in outcomes} == {OutcomeState.UNCERTAIN}
        assert len({*simulator.productions}) == 2
        for id_ in simulator.productions:
            command = f"`jarai resolve '{path}' r1 --production-id {id_}`"
            assert command in caplog.text
            if delay is SOON:
                assert command in str(outcomes[1].error)


async def test_many_productions_that_fit_many_submits_are_few_lines_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A person cannot choose among them by their ids: three are proposed, and the others are counted."""
    async with with_webhooks(SOON) as (simulator, client, receiver):
        await client.accounts()
        async with Orchestrator(client, webhooks=receiver, journal=tmp_path / "journal") as orchestrator:
            outcomes = await run(orchestrator, simulator, *["tides"] * 8)
            await asyncio.sleep(4 * 3600)
    assert {outcome.state for outcome in outcomes} == {OutcomeState.UNCERTAIN}
    lines = Counter(line.split()[0] for line in caplog.messages if " is in doubt. " in line)
    assert {*lines} == {outcome.reference for outcome in outcomes}
    assert max(lines.values()) <= 3
    error = str(outcomes[-1].error)
    assert error.count("--production-id") == 3
    assert "` (5 more fit); if not" in error


async def test_log_says_once_what_a_webhook_has_decided(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Events that arrive at once, or while the submit is decided, do not propose what it has created."""
    async with with_webhooks(LATE) as (simulator, client, receiver):
        await client.accounts()
        async with Orchestrator(client, webhooks=receiver, journal=tmp_path / "journal") as orchestrator:
            (outcome,) = await run(orchestrator, simulator, "tides")
            assert outcome.state is OutcomeState.UNCERTAIN
            event = webhook_event(ProductionQueued, created := next(iter(simulator.productions)))
            event = evolve(event, account_id=parse_id(simulator.account_id), timestamp=None)
            for _ in range(200):
                await orchestrator.context.router.dispatch(event)
                await asyncio.sleep(0)
            await asyncio.sleep(10)
        said = [message for message in caplog.messages if message.startswith("r0 ")]
    assert [message.partition(" (")[0] for message in said] == [
        f"r0 is not in doubt any more, and nobody has to decide: it has created production {created}"
    ]


async def test_production_of_another_program_is_not_taken(tmp_path: Path) -> None:
    """Its topic differs. It is read once, however many events arrive about it."""
    async with with_webhooks(SOON) as (simulator, client, receiver):
        other = await client.submit(request_for(simulator, topic="What bees know"))
        simulator.faults.add("hang_before", on="submit")
        before = simulator.count("fetch")
        async with Orchestrator(client, webhooks=receiver, journal=tmp_path / "journal") as orchestrator:
            outcome = await orchestrator.submit(request_for(simulator, topic="tides"))
            await asyncio.sleep(4 * 3600)
        assert outcome.state is OutcomeState.UNCERTAIN
        assert other.id not in str(outcome.error)
        assert simulator.count("fetch") - before == 1


async def test_production_without_a_topic_is_only_proposed(tmp_path: Path) -> None:
    """Another program may have created it: account and time do not prove that it is this submit's."""
    async with with_webhooks(SOON) as (simulator, client, receiver):

        def bare(response: Any, _: object) -> Any:
            (id_,) = simulator.productions
            return evolve(response, payload={"productionId": id_, "status": "Producing"})

        await client.accounts()
        simulator.faults.kinds["bare"] = FaultKind(bare, executes=True)
        simulator.faults.add("bare", on="fetch", times=None)
        async with Orchestrator(client, webhooks=receiver, journal=tmp_path / "journal") as orchestrator:
            (outcome,) = await run(orchestrator, simulator, "tides")
        assert outcome.state is OutcomeState.UNCERTAIN
        assert next(iter(simulator.productions)) in str(outcome.error)


async def test_production_that_could_not_be_read_is_read_after_a_later_event(tmp_path: Path) -> None:
    """An outage may lose the response to a submit, and then those to reads."""
    async with with_webhooks(SOON) as (simulator, client, receiver):
        await client.accounts()
        simulator.faults.add("gateway_html", on="fetch", times=None)
        asyncio.get_running_loop().call_later(180, simulator.faults.clear)
        async with Orchestrator(client, webhooks=receiver, journal=tmp_path / "journal") as orchestrator:
            (outcome,) = await run(orchestrator, simulator, "tides")
            assert outcome.state is OutcomeState.UNCERTAIN
            await asyncio.sleep(4 * 3600)
            stored = await orchestrator.context.journal.find("r0")
        assert stored is not None
        assert stored.outcome_state == OutcomeState.PUBLISHED


async def test_production_before_a_retry_is_not_taken_for_the_new_one(tmp_path: Path) -> None:
    """Its webhook is repeated in a later process, while the second submit is in doubt."""
    async with with_webhooks(SOON) as (simulator, client, receiver):
        async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
            ticket = orchestrator.submit(request_for(simulator, reference="a"))
            await asyncio.sleep(5)
            await ticket.cancel()
            first = (await ticket).production
        assert first is not None
        simulator.faults.add("hang_before", on="submit")
        async with Orchestrator(client, webhooks=receiver, journal=tmp_path / "journal") as orchestrator:
            ticket = await orchestrator.retry("a")
            event = webhook_event(ProductionQueued, first.id)
            account = parse_id(simulator.account_id)
            await orchestrator.context.router.dispatch(evolve(event, account_id=account, timestamp=None))
            outcome = await ticket
            with pytest.raises(InvalidRequestError, match="of an earlier submit of 'a'"):
                await orchestrator.resolve("a", production_id=first.id)
        assert outcome.state is OutcomeState.UNCERTAIN
        assert first.id not in str(outcome.error)


async def test_leaving_does_not_wait_for_webhooks(tmp_path: Path) -> None:
    """The submit stays in doubt, and the next process can decide it."""
    async with with_webhooks(LATE) as (simulator, client, receiver):
        loop = asyncio.get_running_loop()
        await client.accounts()
        simulator.faults.add("reset_after", on="submit")
        async with Orchestrator(client, webhooks=receiver, journal=tmp_path / "journal") as orchestrator:
            ticket = orchestrator.submit(request_for(simulator))
            await asyncio.sleep(5)
            leaving_at = loop.time()
        assert loop.time() - leaving_at < 1
        assert (await ticket).state is OutcomeState.UNCERTAIN


async def test_production_is_read_once_and_only_if_the_submit_may_have_created_it(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """Not if a job or another request has it, nor by an old event; at most a hundred at one look."""
    known, owned = [(await client.submit(request_for(simulator))).id for _ in range(2)]
    unreadable = [str(UUID(int=n, version=4)) for n in range(101)]
    journal, router = await SqliteJournal.open(tmp_path / "journal"), WebhookRouter(has_receiver=True)
    await journal.save(intent("other", production=Production(owned, Status.QUEUED), stage=Stage.ACCEPTED))
    for id_ in (known, owned, *unreadable):
        await router.dispatch(event := webhook_event(ProductionPublished, id_))
    matcher = WebhookMatcher(client.engine, router, {known})
    submit = Intent("mine", event.account_id, body_of(request_for(simulator)), "a key", stage=Stage.IN_DOUBT)
    journal.put(submit)
    assert event.timestamp is not None
    reads = []
    for seconds in (601, 599, 599, 599):  # a clock may be wrong by ten minutes
        submit.sent_at = event.timestamp.timestamp() + seconds
        await router.dispatch(event)  # without another event, there is nothing to look for
        before = simulator.count("fetch")
        assert [await matcher.find(journal, submit) for _ in range(2)] == [None, None]
        reads.append(simulator.count("fetch") - before)
    assert reads == [0, 99, 2, 0]
    await router.dispatch(webhook_event(ProductionPublished, str(UUID(int=200, version=4))))
    simulator.faults.add("reset_before", on="fetch", times=None)
    assert await matcher.find(journal, submit) is None  # an error of the network is none of this submit
    simulator.faults.clear()
    before = simulator.count("fetch")
    for seconds, count in ((29, 0), (1, 1)):  # after an error, no production is read for half a minute
        await asyncio.sleep(seconds)
        await router.dispatch(event)
        assert await matcher.find(journal, submit) is None
        assert simulator.count("fetch") - before == count
    await journal.close()
