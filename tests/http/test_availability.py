"""The log of an outage: one line when it begins and one when it ends, however many productions it affects."""

import asyncio
import logging
from functools import partial
from pathlib import Path
from random import Random

import pytest

from jarai_async import JaraiClient, NotFoundError, Orchestrator
from jarai_async._api.models import NIL_ID
from jarai_async.simulator import Simulator
from tests.support.logs import besides_events
from tests.support.orchestrators import outcomes_of
from tests.support.scenarios import request_for, requests_for

PRODUCTIONS = 6
OUTAGE = 600.0  # seconds


def minutes(_: Random, __: str) -> list[tuple[str, float]]:
    return [("Queued", 60), ("Producing", 240), ("Distributing", 60)]


async def lines_of_outage(
    caplog: pytest.LogCaptureFixture, folder: Path, kind: str, *routes: str, begin: float = 100.0
) -> list[logging.LogRecord]:
    """Run a batch with an outage of ten minutes, and return what is logged of it."""
    caplog.set_level(logging.INFO, logger="jarai_async")
    async with (
        Simulator(approval="auto", failure_rate=0, durations=minutes) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, random=Random(1)) as client,
    ):
        loop = asyncio.get_running_loop()
        for route in routes:
            loop.call_at(begin, partial(simulator.faults.add, kind, on=route, times=None))
        loop.call_at(begin + OUTAGE, simulator.faults.clear)
        orchestrator = Orchestrator(client, download_to=folder, concurrency=PRODUCTIONS)
        outcomes = await outcomes_of(orchestrator, requests_for(simulator, PRODUCTIONS))
    assert {outcome.state for outcome in outcomes} == {"published"}
    return besides_events(caplog.records)


@pytest.mark.parametrize("kind", ["unavailable", "reset_before", "hang_before", "redirect"])
@pytest.mark.parametrize("routes", [("any", "download"), ("fetch",)])
async def test_outage_of_many_productions_is_logged_once_at_its_begin_and_once_at_its_end(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, kind: str, routes: tuple[str, ...]
) -> None:
    """Also if only polls fail. The lines have its time, its length and the number of productions."""
    begin, end = await lines_of_outage(caplog, tmp_path, kind, *routes)
    assert begin.levelno == logging.WARNING
    assert begin.getMessage().startswith("an outage of JARAI (poll) began at ")
    assert end.levelno == logging.WARNING
    assert f"it affected {PRODUCTIONS} productions" in end.getMessage()


async def test_outage_of_submits_is_logged_once(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """The request that is sent as a probe is another one each time."""
    begin, end = await lines_of_outage(caplog, tmp_path, "unavailable", "submit", begin=0.0)
    assert begin.getMessage().startswith("an outage of JARAI (submit) began at ")
    assert "the outage of JARAI has ended after 6" in end.getMessage()


async def test_outage_of_lists_is_logged_once(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    begin, end = await lines_of_outage(caplog, tmp_path, "unavailable", "deliverables")
    assert begin.getMessage().startswith("an outage of JARAI (deliverables) began at ")
    assert f"it affected {PRODUCTIONS} productions" in end.getMessage()


@pytest.mark.parametrize("kind", ["unavailable", "reset_before"])
async def test_outage_of_blob_storage_is_logged_once(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, kind: str
) -> None:
    """It names the host, without the signed URL."""
    begin, end = await lines_of_outage(caplog, tmp_path, kind, "download")
    assert begin.getMessage().startswith("an outage of blob storage (127.0.0.1) began at ")
    assert "sig=" not in caplog.text
    assert end.getMessage().startswith("the outage of blob storage has ended after ")


async def test_answer_that_is_an_error_ends_an_outage(
    simulator: Simulator, client: JaraiClient, caplog: pytest.LogCaptureFixture
) -> None:
    """JARAI responds again, although it does not know the production."""
    caplog.set_level(logging.INFO, logger="jarai_async")
    simulator.faults.add("reset_before", on="fetch", times=3)
    with pytest.raises(NotFoundError):
        await client.fetch(NIL_ID)
    begin, end = [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]
    assert begin.startswith("an outage of JARAI (read) began at ")
    assert end.startswith("the outage of JARAI has ended after ")


async def test_single_failures_are_no_outage(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """Two requests of each kind fail, and others are answered in between."""
    caplog.set_level(logging.INFO, logger="jarai_async")
    async with (
        Simulator(approval="auto", failure_rate=0, durations=minutes) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, random=Random(1)) as client,
    ):
        for route, after in (("submit", 5), ("fetch", 9), ("deliverables", 5), ("download", 7)):
            simulator.faults.add("unavailable", on=route, times=2, after=after)
        await outcomes_of(Orchestrator(client, download_to=tmp_path), requests_for(simulator, PRODUCTIONS))
        assert simulator.faults.fired["unavailable"] == 8
    assert [record.getMessage() for record in besides_events(caplog.records)] == []


async def test_production_whose_polls_are_refused_for_minutes_is_named(
    simulator: Simulator, client: JaraiClient, caplog: pytest.LogCaptureFixture
) -> None:
    """JARAI answers, so it is no outage."""
    simulator.faults.add("forbidden", on="fetch", times=5)
    async with Orchestrator(client) as orchestrator:
        outcome = await orchestrator.submit(request_for(simulator))
    assert outcome.production is not None
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert line.startswith(f"polling {outcome.production.id} failed (5 in a row)")
