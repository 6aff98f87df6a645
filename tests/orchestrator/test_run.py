"""`Orchestrator.run`: where requests come from, and how the iteration over events ends."""

import asyncio
import gc
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from jarai_async import (
    ClosedError,
    Finished,
    InvalidRequestError,
    JaraiClient,
    Orchestrator,
    ProductionRequest,
)
from jarai_async._journal.journal import SqliteJournal
from jarai_async.simulator import Simulator
from tests.support.orchestrators import events_by_reference, outcomes_of, statuses
from tests.support.scenarios import request_for, requests_for


async def test_empty_batch_ends_at_once(client: JaraiClient) -> None:
    """Nothing is sent."""
    assert await events_by_reference(Orchestrator(client), []) == {}


async def test_break_stops_drawing_requests(simulator: Simulator, client: JaraiClient) -> None:
    """After a `break` no further request is submitted, although the block continues."""
    drawn: list[ProductionRequest] = []

    def source() -> Iterator[ProductionRequest]:
        for request in requests_for(simulator, 50):
            drawn.append(request)
            yield request

    async with Orchestrator(client, concurrency=2) as orchestrator:
        async for _ in orchestrator.run(source()):
            break
        gc.collect()
        await asyncio.sleep(4 * 3600)
        assert len(drawn) == len(simulator.productions) == 2
        assert statuses(simulator) == {"Published"}


async def test_aclose_stops_drawing_requests(simulator: Simulator, client: JaraiClient) -> None:
    """For an iterator that a variable refers to, `aclose` does what `break` does otherwise."""
    async with Orchestrator(client, concurrency=2) as orchestrator:
        run = orchestrator.run(requests_for(simulator, 50))
        await anext(run)
        await run.aclose()
        await asyncio.sleep(4 * 3600)
        assert len(simulator.productions) == 2


async def test_exception_of_the_iterable_is_raised_after_the_drawn_requests_have_finished(
    simulator: Simulator, client: JaraiClient
) -> None:
    """The iteration raises the iterable's own exception, after the outcomes."""

    def source() -> Iterator[ProductionRequest]:
        yield request_for(simulator)
        raise LookupError("no more")

    async with Orchestrator(client) as orchestrator:
        run = orchestrator.run(source())
        events = [await anext(run)]
        while not isinstance(events[-1], Finished):
            events.append(await anext(run))
        with pytest.raises(LookupError, match="no more"):
            await anext(run)


async def test_exception_of_the_reader_is_raised_unchanged(simulator: Simulator, client: JaraiClient) -> None:
    """It is neither wrapped in an exception group nor lost, and cancels no production."""
    with pytest.raises(ZeroDivisionError):
        async with Orchestrator(client) as orchestrator:
            async for _ in orchestrator.run(requests_for(simulator, 5)):
                raise ZeroDivisionError
    assert statuses(simulator) <= {"Queued", "Producing"}


async def test_run_ends_when_the_block_is_left(simulator: Simulator, client: JaraiClient) -> None:
    """An iteration that is left unread raises ClosedError where requests were not drawn."""
    for requests in (requests_for(simulator, 3), _never_yields()):
        async with Orchestrator(client) as orchestrator:
            run = orchestrator.run(requests)
            await asyncio.sleep(0)
        with pytest.raises(ClosedError):
            await anext(run)


async def _never_yields() -> AsyncIterator[ProductionRequest]:
    await asyncio.sleep(1e9)
    yield  # type: ignore[misc]  # not reached


async def test_item_that_is_not_a_request_is_an_error(client: JaraiClient) -> None:
    """The error names the type."""
    async with Orchestrator(client) as orchestrator:
        with pytest.raises(InvalidRequestError, match="dict"):
            orchestrator.submit({"topic": "x"})  # type: ignore[arg-type]
        with pytest.raises(InvalidRequestError, match="dict"):
            await anext(orchestrator.run([{"topic": "x"}]))  # type: ignore[list-item]


async def test_run_takes_an_iterable(simulator: Simulator, client: JaraiClient) -> None:
    """A single request is an error."""
    async with Orchestrator(client) as orchestrator:
        with pytest.raises(InvalidRequestError, match="iterable"):
            orchestrator.run(request_for(simulator))  # type: ignore[arg-type]


async def test_next_event_comes_after_the_one_before_is_acknowledged_on_disk(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """The program may crash at any event: a restart begins with that one."""
    handled = 0
    async with Orchestrator(client, journal=tmp_path / "journal.db") as orchestrator:
        run = orchestrator.run(requests_for(simulator, 1))
        await asyncio.sleep(4 * 3600)  # so that every event is ready to be read
        async for event in run:
            (tmp_path / "crashed").mkdir(exist_ok=True)
            for path in tmp_path.glob("journal.db*"):
                shutil.copy(path, tmp_path / "crashed")
            crashed = await SqliteJournal.open(tmp_path / "crashed" / "journal.db")
            (kept,) = await crashed.intents()
            await crashed.close()
            assert kept.acknowledged == handled
            handled = event.sequence
    assert handled > 3


@pytest.mark.parametrize("has_journal", [True, False])
async def test_request_whose_files_are_there_already_is_warned_about(
    simulator: Simulator,
    client: JaraiClient,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    *,
    has_journal: bool,
) -> None:
    """The journal was lost or is another one, so the request is paid for again. A known request is not."""
    files, requests = tmp_path / "files", requests_for(simulator, 3)

    async def warnings_of(journal: str, count: int) -> list[str]:
        caplog.clear()
        path = tmp_path / journal if has_journal else None
        await outcomes_of(Orchestrator(client, journal=path, download_to=files), requests[:count])
        return [record.getMessage() for record in caplog.records if "paid for again" in record.getMessage()]

    assert await warnings_of("journal", 2) == []
    (files / "other").mkdir()
    (files / "other" / "manifest.json").write_text("[1, {")
    (files / "deep").mkdir()
    (files / "deep" / "manifest.json").write_text("[" * 100_000)
    (files / "pipe").mkdir()
    os.mkfifo(files / "pipe" / "manifest.json")
    (warning,) = await warnings_of("another journal", 3)
    assert f"{files} has files of 2 of these requests" in warning
    assert warning.endswith("item-0, item-1")
    if has_journal:
        assert await warnings_of("another journal", 3) == []


async def test_new_journal_beside_files_is_warned_about_once(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As the first request is submitted. A journal that is known, and a folder without files, are not."""
    files = tmp_path / "files"
    for journal, warnings in (("journal", 0), ("journal", 0), ("mistyped", 1), ("mistyped", 0)):
        caplog.clear()
        async with Orchestrator(client, journal=tmp_path / journal, download_to=files) as orchestrator:
            for _ in range(2):
                assert (await orchestrator.submit(request_for(simulator))).ok
        assert caplog.text.count(f"productions, but the journal {tmp_path / journal} is new") == warnings
    async with Orchestrator(client, journal=tmp_path / "third", download_to=files) as orchestrator:
        await asyncio.gather(*(orchestrator.submit(one) for one in requests_for(simulator, 2)))
    caplog.clear()
    async with Orchestrator(client, journal=tmp_path / "fourth", download_to=files) as orchestrator:
        run = orchestrator.run(requests_for(simulator, 1))
        await anext(run)
        assert (await orchestrator.submit(request_for(simulator))).ok
    assert caplog.text.count("paid for again") == 1
    caplog.clear()
    await outcomes_of(
        Orchestrator(client, journal=tmp_path / "fifth", download_to=files), iter(requests_for(simulator, 1))
    )
    assert caplog.text.count("paid for again") == 1
