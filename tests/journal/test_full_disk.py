"""A full disk: what was sent is recorded, what cannot be recorded is not sent, and the next run continues."""

import asyncio
import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from attrs import evolve

from jarai_async import Finished, JaraiClient, JournalError, Orchestrator, OutcomeState, Submitted
from jarai_async._api.codec import body_of
from jarai_async._journal.entries import Stage
from jarai_async._journal.journal import SqliteJournal
from jarai_async.simulator import Simulator
from tests.support.journals import intent
from tests.support.orchestrators import outcomes_of
from tests.support.scenarios import request_for, requests_for


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


@contextmanager
def no_more_space(folder: Path) -> Iterator[None]:
    """Let no file of this process become larger than the largest one in the folder is now."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(sizes(folder).values()), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("topic", ["How tides work", "\U0001f30a" * 500])
@pytest.mark.parametrize("at_once", [1, 7])
async def test_response_needs_no_more_space_than_the_submit(
    tmp_path: Path, simulator: Simulator, client: JaraiClient, at_once: int, topic: str
) -> None:
    """The row that says that a submit is being sent has room for the production, and for later changes."""
    request = request_for(simulator, topic=topic)
    (outcome,) = await outcomes_of(Orchestrator(client), [request])
    production = outcome.production
    assert production is not None
    journal = await SqliteJournal.open(tmp_path / "journal")
    intents = [evolve(intent(f"item {n}"), body=body_of(request)) for n in range(70)]
    for one in intents:
        journal.plan(one)
    await journal.flush()
    for one in intents:
        one.stage, one.sent_at = Stage.SENDING, 1767225600.125
        await journal.save(one)
    before = sizes(tmp_path)
    with no_more_space(tmp_path):
        for first in range(0, 70, at_once):
            for one in intents[first : first + at_once]:
                one.stage, one.submitted_at, one.since = Stage.ACCEPTED, 1767225601.5, 1767225601.5
                one.production = evolve(production, raw={})
            await asyncio.gather(*(journal.save(one) for one in intents[first : first + at_once]))
        assert sizes(tmp_path)["journal"] == before["journal"]
        if at_once == 1:
            assert sizes(tmp_path) == before
    assert journal.failure is None
    await journal.close()
    journal = await SqliteJournal.open(tmp_path / "journal")
    assert Counter(one.stage for one in await journal.intents()) == {Stage.ACCEPTED: 70}
    await journal.close()


async def test_disk_that_fills_up_in_a_run_makes_nothing_uncertain(
    tmp_path: Path, simulator: Simulator, client: JaraiClient
) -> None:
    """Productions that were accepted are followed. Other requests are not sent: the next run submits them."""
    path, requests = tmp_path / "journal", requests_for(simulator, 12)
    orchestrator = Orchestrator(client, journal=path, concurrency=4)
    states: Counter[OutcomeState] = Counter()
    with suppress(JournalError), ExitStack() as disk:
        async with orchestrator:
            async for event in orchestrator.run(requests):
                if not states and isinstance(event, Submitted):
                    states[OutcomeState.PUBLISHED] = 0
                    disk.enter_context(no_more_space(tmp_path))
                if isinstance(event, Finished):
                    states[event.outcome.state] += 1
                    assert event.outcome.state is OutcomeState.PUBLISHED or not event.outcome.request_count
    assert states.keys() == {OutcomeState.PUBLISHED, OutcomeState.REJECTED}
    assert len(simulator.productions) == states[OutcomeState.PUBLISHED]
    outcomes = await outcomes_of(Orchestrator(client, journal=path), requests)
    assert {outcome.state for outcome in outcomes} == {OutcomeState.PUBLISHED}
    assert len(simulator.productions) == 12
