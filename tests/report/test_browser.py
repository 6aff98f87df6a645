"""The page in Chromium, where that is installed."""

import asyncio
from pathlib import Path

import pytest

from jarai_async._printable import printable
from jarai_async._report.writer import write_report
from tests.report.conftest import STATES, Batch
from tests.report.pages import HOSTILE
from tests.support import chromium

pytestmark = pytest.mark.skipif(chromium.PATH is None, reason="Chromium is not installed")

_ROWS = "[...document.querySelectorAll('#requests tbody tr')]"
_SHOWN = f"{_ROWS}.filter((row) => row.checkVisibility()).map((row) => row.querySelector('b').textContent)"
_VIEWS = f"{_ROWS}.map((row) => row.querySelector('svg').getAttribute('viewBox').split(' ').map(Number))"


def test_page_sorts_filters_and_runs_nothing_from_outside(batch: Batch, tmp_path: Path) -> None:
    """By reference, by duration, by state and by text; and nothing is an error."""
    asyncio.run(_use_page(batch, tmp_path))


async def _use_page(batch: Batch, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    write_report(str(batch.journal), 0.0, html=report)
    references = list(map(printable, STATES))
    async with chromium.open_page(report.as_uri(), tmp_path) as page:
        assert await page.evaluate(_SHOWN) == references
        await _click(page, "th:nth-child(1) button")
        ascending = await page.evaluate(_SHOWN)
        assert [one for one in ascending if one.isalpha()] == ["doubt", "failing", "first", "waiting"]
        await _click(page, "th:nth-child(1) button")
        assert await page.evaluate(_SHOWN) == ascending[::-1]
        await _click(page, "th:nth-child(4) button")
        by_duration = await page.evaluate(_SHOWN)
        assert by_duration[0] == "failing"
        assert set(by_duration[-3:]) == {"doubt", "over budget", "waiting"}  # without a duration
        await _enter(page, "state", "published")
        assert sorted(await page.evaluate(_SHOWN)) == sorted(["-second", "first", printable(HOSTILE)])
        await _enter(page, "text", "ABOUT FIRST")
        assert await page.evaluate(_SHOWN) == ["first"]
        assert await page.evaluate("document.getElementById('shown').textContent") == "1 of 7"
        await _click(page, "input[value=own]")
        views = await page.evaluate(_VIEWS)
        assert len({length for _, _, length, _ in views}) == 1
        starts = f"{_ROWS}.map((row) => Number(row.querySelector('svg').dataset.start))"
        assert [start for start, *_ in views] == await page.evaluate(starts)
        assert await page.evaluate("window.wasRun ?? null") is None
        assert await page.problems() == []
        await page.evaluate(
            "document.body.append(Object.assign(document.createElement('img'), { src: 'x' }))"
        )
        assert len(await page.problems()) == 1  # which the policy forbids


async def _click(page: chromium.Page, selector: str) -> None:
    await page.evaluate(f"document.querySelector('{selector}').click()")


async def _enter(page: chromium.Page, id_: str, value: str) -> None:
    field = f"document.getElementById('{id_}')"
    await page.evaluate(f"{field}.value = {value!r}")
    for event in ("input", "change"):
        await page.evaluate(f"{field}.dispatchEvent(new Event('{event}'))")
