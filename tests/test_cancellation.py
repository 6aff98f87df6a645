"""Cancellation at every await, once and twice: nothing is lost, paid twice, leaked or half written."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest

from jarai_async import ClosedError, JaraiClient, Orchestrator, Outcome, Production
from jarai_async._journal.entries import Intent
from jarai_async._journal.journal import SqliteJournal
from jarai_async.simulator import Simulator, Stage
from tests.support.leaks import open_descriptors
from tests.support.orchestrators import library_tasks
from tests.support.scenarios import request_for
from tests.support.stepping import Stepper, times_to_cancel
from tests.support.strategies import ID


def _short(_: Random, __: str) -> list[Stage]:
    return [("Queued", 5.0), ("Producing", 5.0), ("Distributing", 1.0)]


def _cancel_all(_: asyncio.Task[Any]) -> None:
    """Cancel as the end of `asyncio.run` does."""
    for task in asyncio.all_tasks():
        if task.get_name().startswith("jarai"):
            task.cancel()


@pytest.mark.parametrize("cancel", [asyncio.Task.cancel, _cancel_all])
async def test_orchestrator_that_is_cancelled_anywhere_pays_once(
    cancel: Callable[[asyncio.Task[Any]], object], tmp_path: Path
) -> None:
    """The same request is run again with the journal until it has its outcome: one production, or none."""
    async with Simulator(durations=_short, approval="auto", failure_rate=0.0, latency=0.5) as simulator:
        request = request_for(simulator, reference="tides")
        files = tmp_path / "files"

        async def program(path: Path) -> Outcome | None:
            async with (
                JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
                Orchestrator(client, journal=path, download_to=files) as orchestrator,
            ):
                with contextlib.suppress(ClosedError):  # all tasks were cancelled
                    return await orchestrator.submit(request)
            return None

        whole = Stepper()
        await whole.run(lambda: program(tmp_path / "whole"))
        assert whole.suspensions > 30
        for number, at in enumerate(times_to_cancel(whole.suspensions)):
            before, descriptors = len(simulator.productions), open_descriptors()
            path = tmp_path / str(number)
            outcome = await Stepper(at, cancel).run(lambda path=path: program(path))  # type: ignore[misc]
            assert library_tasks() == [], at
            again = await program(path)
            assert again is not None
            created = len(simulator.productions) - before
            assert (again.state, created) in {("published", 1), ("uncertain", 1), ("uncertain", 0)}, at
            if cancel is not _cancel_all:  # else the submit itself was cancelled
                assert again.state == "published", at
            assert outcome is None or outcome.state == again.state
            assert open_descriptors() <= descriptors, at
        assert not [*files.rglob(".jarai-*")]


async def test_submit_that_is_cancelled_anywhere_is_logged_if_it_may_have_created_a_production(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The rate limit gets its slot back, and the connection is closed."""
    async with Simulator(failure_rate=0.0, latency=0.5) as simulator:
        request = request_for(simulator)
        returned: list[Production] = []

        async def submit() -> None:
            async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
                try:
                    returned.append(await client.submit(request))
                finally:
                    assert client.engine.limiter.in_flight == 0

        whole = Stepper()
        await whole.run(submit)
        for at in times_to_cancel(whole.suspensions):
            caplog.clear()
            returned.clear()
            before, descriptors = len(simulator.productions), open_descriptors()
            await Stepper(at).run(submit)
            await asyncio.sleep(60)
            assert library_tasks() == [], at
            created = list(simulator.productions.values())[before:]
            assert len(created) <= 1
            if created and not returned:
                logged = [record for record in caplog.records if record.levelno == logging.WARNING]
                assert len(logged) == 1, at
                assert str(created[0].idempotency_key) in logged[0].getMessage()
            assert open_descriptors() <= descriptors, at


async def test_download_that_is_cancelled_anywhere_leaves_a_whole_file_or_none(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    production = await client.submit(request_for(simulator))
    await client.wait(production.id)
    video = next(file for file in await client.deliverables(production.id) if file.type == "Video")
    whole = Stepper()
    await whole.run(lambda: client.download(video, tmp_path / "whole"))
    size, descriptors = (tmp_path / "whole").stat().st_size, open_descriptors()
    assert whole.suspensions > 5
    for number, at in enumerate(times_to_cancel(whole.suspensions)):
        folder = tmp_path / str(number)
        path = await Stepper(at).run(lambda folder=folder: client.download(video, folder / "file"))  # type: ignore[misc]
        await asyncio.sleep(1)
        left = [(file.name, file.stat().st_size) for file in folder.iterdir()] if folder.exists() else []
        assert left in ([], [("file", size)]), at
        assert left or path is None
        assert open_descriptors() <= descriptors + 1, at  # one idle connection


async def test_journal_that_is_cancelled_anywhere_opens_again(tmp_path: Path) -> None:
    """An entry whose `save` returned is there; the file is closed."""

    async def write(path: Path, saved: list[str]) -> None:
        journal = await SqliteJournal.open(path)
        try:
            for reference in ("a", "b"):
                await journal.save(Intent(reference, ID, b"{}", str(uuid4())))
                saved.append(reference)
        finally:
            await journal.close()

    whole = Stepper()
    await whole.run(lambda: write(tmp_path / "whole", []))
    descriptors = open_descriptors()
    for number, at in enumerate(times_to_cancel(whole.suspensions)):
        saved: list[str] = []
        path = tmp_path / str(number)
        await Stepper(at).run(lambda path=path, saved=saved: write(path, saved))  # type: ignore[misc]
        journal = await SqliteJournal.open(path)
        references = [intent.reference for intent in await journal.intents()]
        await journal.close()
        assert references[: len(saved)] == saved, at
        assert open_descriptors() <= descriptors, at
