"""The page of the web applications in Chromium, where that is installed."""

import asyncio
import signal
import time
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

from jarai_async.simulator import Simulator, Stage, run
from tests.support import chromium
from tests.support.applications import Application, fields_for, http_session

_SPEED = 30.0
_COUNT, _SHORT, _SLOTS = 300, 30, 100  # productions, those that end soon, and those that run at a time
_TIMEOUT = 120 * _SPEED  # simulated seconds: then the test has failed
_TOPIC = "<img src=x onerror='window.wasRun = true'>"
_ROWS = "[...document.querySelectorAll('#rows tr')]"
_LONG = "long"  # their project type
_STATES = f"{_ROWS}.map(({{ cells }}) => [cells[0].textContent, cells[2].textContent])"
_UNTIL_AS_LISTED = f"""(async () => {{
    for (;;) {{
        const {{ productions }} = await (await fetch("productions")).json();
        const listed = productions.map(({{ reference, outcome, status }}) =>
            [reference, outcome ?? status ?? "not submitted yet"]);
        if (JSON.stringify(listed.sort()) === JSON.stringify({_STATES}.sort())) return;
        await new Promise((resolve) => setTimeout(resolve, 200));
    }}
}})()"""

pytestmark = pytest.mark.skipif(chromium.PATH is None, reason="Chromium is not installed")


def _durations(random: Random, project_type: str) -> list[Stage]:
    producing = 1e6 if project_type == _LONG else random.uniform(20, 60)
    return [("Queued", 5.0), ("Producing", producing), ("Distributing", 5.0)]


def test_page_continues_after_a_kill_of_the_server_and_its_buttons_work(tmp_path: Path) -> None:
    """It shows hundreds of productions as the API has them, without a reload; text stays text."""
    epoch = time.time()
    run(_use_page(tmp_path, epoch), speed=_SPEED, epoch=epoch)


async def _use_page(folder: Path, epoch: float) -> None:
    async with (
        asyncio.timeout(_TIMEOUT),
        Simulator(durations=_durations, approval="auto", failure_rate=0.0) as simulator,
    ):
        application = Application("fastapi_app", simulator, folder, speed=_SPEED, epoch=epoch)
        async with http_session(application.url) as session:
            try:
                await application.start()
                await application.serves(session)
                await _post(session, fields_for(simulator, reference="a/ü?", project_type=_LONG))
                async with chromium.open_page(application.url, folder) as page:
                    async with asyncio.TaskGroup() as group:
                        for number in range(_COUNT - 1):
                            kind = {} if number < _SHORT else {"project_type": _LONG}
                            fields = fields_for(simulator, reference=str(number), topic=_TOPIC, **kind)
                            group.create_task(_post(session, fields))
                    await page.until(f"{_count('published')} > 0")
                    await page.evaluate("window.wasNotReloaded = true")
                    assert await application.stop(signal.SIGKILL) == -signal.SIGKILL
                    await application.start()
                    await application.serves(session)
                    ended = f"{_count('published')} + {_count('uncertain')}"  # some by the kill, perhaps
                    await page.until(f"{ended} >= {_SHORT} && {_count('Producing')} === {_SLOTS}")
                    await page.evaluate(_UNTIL_AS_LISTED)
                    await _use_buttons(page)
            finally:
                await application.stop(signal.SIGKILL)


async def _use_buttons(page: chromium.Page) -> None:
    row = f"{_ROWS}.find(({{ cells }}) => cells[0].textContent === 'a/ü?')"
    assert await page.evaluate(f"{row}.cells[1].textContent") == "Tides"
    await page.evaluate(f"{row}.querySelector('button').click()")
    await page.until(f"{row}.cells[2].textContent === 'cancelled'")
    await page.evaluate(f"{row}.querySelector('button').click()")
    await page.until(f"{row}.cells[2].textContent === 'not submitted yet'")  # it waits for a slot
    await page.until(f"{row}.cells[3].textContent.startsWith('waits for slot: place ')")
    assert await page.evaluate("[window.wasRun ?? null, window.wasNotReloaded]") == [None, True]
    assert await page.evaluate(f"{_ROWS}[1].cells[1].textContent") == _TOPIC
    fetched = "fetch(document.querySelector('#rows a').href).then((response) => response.status)"
    assert await page.evaluate(fetched) == 200


def _count(state: str) -> str:
    return f"{_STATES}.filter(([_, state]) => state === '{state}').length"


async def _post(session: aiohttp.ClientSession, fields: dict[str, Any]) -> None:
    async with session.post("/productions", json=fields) as response:
        assert response.status == 202
