"""A journal that another process has open: waiting for its end, as a rolling deploy needs it."""

import asyncio
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from jarai_async import JaraiClient, JournalError, Orchestrator
from jarai_async._journal.journal import SqliteJournal
from jarai_async.simulator import Simulator
from tests.support.scenarios import request_for

_OWNER = """
import asyncio, sys
from pathlib import Path
from jarai_async._journal.journal import SqliteJournal

async def main():
    journal = await SqliteJournal.open(Path(sys.argv[1]))
    print("open", flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


def test_journal_is_opened_when_the_process_that_has_it_is_killed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In real time. One line is logged when the wait begins; then the process is killed."""
    path = tmp_path / "journal"
    caplog.set_level(logging.INFO, logger="jarai_async")

    async def wait() -> None:
        await (await SqliteJournal.open(path, wait=60)).close()

    def kill_owner(_: logging.LogRecord) -> bool:
        owner.kill()
        return True

    command = [sys.executable, "-c", _OWNER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "open\n"
            caplog.handler.addFilter(kill_owner)
            asyncio.run(wait())
        finally:
            owner.kill()
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"the journal {path} is in use: waiting until ")


async def test_wait_for_a_journal_ends_after_its_time(tmp_path: Path) -> None:
    """Without a wait the error is raised at once."""
    path = tmp_path / "journal"
    journal = await SqliteJournal.open(path)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(JournalError, match="it is open already"):
        await SqliteJournal.open(path)
    assert loop.time() == began
    with pytest.raises(JournalError, match="it is open already"):
        await SqliteJournal.open(path, wait=30)
    assert loop.time() == pytest.approx(began + 30)
    await journal.close()


async def test_journal_is_opened_as_soon_as_its_owner_closes_it(tmp_path: Path) -> None:
    """It is tried ten times a second."""
    path = tmp_path / "journal"
    journal = await SqliteJournal.open(path)
    loop = asyncio.get_running_loop()
    opening = asyncio.create_task(SqliteJournal.open(path, wait=30))
    await asyncio.sleep(10)
    await journal.close()
    closed_at = loop.time()
    await (await opening).close()
    assert loop.time() - closed_at < 0.2


async def test_orchestrator_waits_for_the_one_before(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """Then it has everything that the other one has written."""
    path = tmp_path / "journal"

    async def follow() -> list[str]:
        async with Orchestrator(client, journal=path, journal_wait=60) as orchestrator:
            return [ticket.reference for ticket in await orchestrator.resume()]

    async with Orchestrator(client, journal=path) as orchestrator:
        orchestrator.submit(request_for(simulator, reference="mine"))
        following = asyncio.create_task(follow())
        await asyncio.sleep(30)
        assert not following.done()
        with pytest.raises(JournalError, match="it is open already"):
            await Orchestrator(client, journal=path).__aenter__()
    assert await following == ["mine"]
