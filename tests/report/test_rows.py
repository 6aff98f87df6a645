"""Requests that end more than once, or not yet, and statuses that this version does not know."""

import asyncio
import json
import math
import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest

from jarai_async import JaraiClient, Orchestrator, Outcome, Ticket, read_journal
from jarai_async._report.rows import row_of
from jarai_async._report.writer import write_report
from jarai_async.simulator import Simulator, Stage
from tests.support.scenarios import request_for


def report_of(journal: Path) -> dict[str, Any]:
    """Return the only request of a report."""
    path = journal.with_suffix(".json")
    write_report(str(journal), 0.0, html=journal.with_suffix(".html"), json=path)
    (row,) = json.loads(path.read_bytes())["productions"]
    assert isinstance(row, dict)
    return row


async def recorded_outcome(ticket: Ticket) -> Outcome:
    """Return the outcome of a request once the journal has its last event."""
    async for _ in ticket.events():
        pass
    return await ticket


def statuses(row: dict[str, Any]) -> list[str]:
    return [phase["status"] for phase in row["phases"]]


async def test_retried_request_shows_both_productions(tmp_path: Path) -> None:
    """Its state is that of the second one, as are its files; requests are those of both."""
    ends = ["Failed", "Published"]

    def durations(_: Random, __: str) -> list[Stage]:
        return [("Queued", 60.0), ("Producing", 600.0), (ends.pop(0), math.inf)]

    journal = tmp_path / "batch.db"
    async with (
        Simulator(durations=durations, approval="auto", failure_rate=0.0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        async with Orchestrator(client, journal=journal, download_to=tmp_path / "files") as orchestrator:
            failed = await recorded_outcome(orchestrator.submit(request_for(simulator, reference="mine")))
            first = report_of(journal)
            ticket = await orchestrator.retry("mine")
            await ticket.recorded()
            published = await recorded_outcome(ticket)
        row = report_of(journal)
    assert first["state"] == "failed"
    assert row["state"] == "published"
    assert statuses(first) == ["Queued", "Producing"]
    assert statuses(row)[:4] == ["Queued", "Producing", "Queued", "Producing"]
    assert row["phases"][1]["to"] < row["phases"][2]["from"]
    assert row["requests"] == failed.request_count + published.request_count
    assert {file["path"] for file in row["downloaded"]} == set(map(str, published.files))
    assert row["error"] is None
    assert row["productionIds"] == [*simulator.productions]


async def test_request_that_is_to_be_retried_is_not_submitted(tmp_path: Path) -> None:
    """The failure of the earlier production is not one of the next."""
    journal = tmp_path / "batch.db"
    async with (
        Simulator(failure_rate=1.0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        async with Orchestrator(client, journal=journal) as orchestrator:
            await recorded_outcome(orchestrator.submit(request_for(simulator, reference="mine")))
            simulator.faults.add("unavailable", on="submit", times=None)
            await (await orchestrator.retry("mine")).recorded()
        row = report_of(journal)
    assert (row["state"], row["error"], row["finishedAt"]) == ("not_submitted", None, None)
    assert statuses(row) == ["Queued", "Producing"]


async def test_outcome_that_is_not_final_is_shown_until_the_production_goes_on(tmp_path: Path) -> None:
    """And an unknown status is shown as JARAI sent it."""

    def durations(_: Random, __: str) -> list[Stage]:
        return [("Queued", 60.0), ("Producing", 600.0), ("Rendering", math.inf)]

    journal = tmp_path / "batch.db"
    async with (
        Simulator(durations=durations) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        async with Orchestrator(client, journal=journal) as orchestrator:
            request = request_for(simulator, reference="mine")
            await recorded_outcome(orchestrator.submit(request, deadline=300))
            timed_out = report_of(journal)
        async with Orchestrator(client, journal=journal) as orchestrator:
            orchestrator.submit(request, deadline=3_600)
            await asyncio.sleep(1_200)
            running = report_of(journal)
    assert timed_out["state"] == "timed_out"
    assert not timed_out["isFinal"]
    assert timed_out["finishedAt"] > timed_out["submittedAt"]
    assert statuses(timed_out) == ["Queued", "Producing"]
    assert running["state"] == running["status"] == "Rendering"
    assert statuses(running) == ["Queued", "Producing", "Rendering"]
    assert running["phases"][1]["to"] == running["phases"][2]["from"]
    assert [phase["to"] is None for phase in running["phases"]] == [False, False, True]


async def test_files_that_are_downloaded_again_change_neither_the_end_nor_the_files(
    tmp_path: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the later run names their folder by another path. Its API requests are added."""
    monkeypatch.chdir(tmp_path)
    journal, reports, requests = tmp_path / "batch.db", [], []
    for folder in (Path("files"), tmp_path / "files"):
        async with (
            JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
            Orchestrator(client, journal=journal, download_to=folder) as orchestrator,
        ):
            ticket = orchestrator.submit(request_for(simulator, reference="mine"))
            requests.append((await recorded_outcome(ticket)).request_count)
        reports.append(report_of(journal))
        shutil.rmtree("files")
        await asyncio.sleep(3_600)
    first, second = reports
    assert second == first | {"requests": sum(requests)}
    assert requests[1] > 0
    (entry,) = read_journal(journal)
    assert [end.state for end in row_of(entry).ends] == ["published"]
