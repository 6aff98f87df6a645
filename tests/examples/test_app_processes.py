"""The two web applications as processes that are killed and stopped."""

import asyncio
import signal
from contextlib import aclosing, suppress
from pathlib import Path

import aiohttp
import pytest

from jarai_async.simulator import Simulator
from tests.stress.applications import kill_again_and_again
from tests.support.applications import NAMES, Application, fields_for, http_session, messages


@pytest.mark.parametrize("name", NAMES)
def test_killed_application_loses_and_doubles_no_event_and_no_request(tmp_path: Path, name: str) -> None:
    """A reader that connects again after each SIGKILL has every event once; all requests have an outcome."""
    counts = kill_again_and_again(name, tmp_path, kills=2, requests=10)
    assert counts["events"] > 10
    wrong = ("events lost", "events doubled", "requests lost", "requests doubled")
    assert {what: counts[what] for what in wrong} == dict.fromkeys(wrong, 0)


@pytest.mark.parametrize("name", NAMES)
def test_sigterm_ends_application_within_ten_seconds_while_pages_are_open(tmp_path: Path, name: str) -> None:
    """Also where they never close their event streams; the orchestrator is left before."""
    asyncio.run(_stop_with_open_pages(name, tmp_path))


async def _stop_with_open_pages(name: str, folder: Path) -> None:
    async with Simulator() as simulator:
        application = Application(name, simulator, folder)
        async with http_session(application.url) as session:
            try:
                await application.start()
                async with asyncio.timeout(60):
                    await application.serves(session)
                    opened = [asyncio.Event() for _ in range(3)]
                    pages = [asyncio.create_task(_read(session, one)) for one in opened]
                    async with session.post("/productions", json=fields_for(simulator)) as response:
                        assert response.status == 202
                    await asyncio.gather(*(one.wait() for one in opened))
                async with asyncio.timeout(10):
                    assert await application.stop(signal.SIGTERM) in (0, -signal.SIGTERM), application.log
                    await asyncio.gather(*pages)
            finally:
                await application.stop(signal.SIGKILL)
        assert (folder / "app.db").exists()
        assert not (folder / "app.db-journal").exists()  # the orchestrator was left properly


async def _read(session: aiohttp.ClientSession, opened: asyncio.Event) -> None:
    """Read events until the server ends the stream."""
    with suppress(aiohttp.ClientPayloadError):
        async with aclosing(messages(session)) as stream:
            async for _ in stream:
                opened.set()
