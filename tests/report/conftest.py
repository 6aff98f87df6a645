"""The journal of a real batch, in which requests end in every way that a report shows."""

import asyncio
import math
from pathlib import Path
from random import Random
from typing import Any

import pytest
from attrs import frozen

from jarai_async import JaraiClient, Orchestrator, ProductionRequest, Status, StatusChanged
from jarai_async._report.writer import write_report
from jarai_async.simulator import SimulatedProduction, Simulator, Stage, run
from tests.report.pages import HOSTILE
from tests.support.scenarios import request_for

STATES = {
    "doubt": "uncertain",
    "first": "published",
    "-second": "published",
    "failing": "failed",
    HOSTILE: "published",
    "waiting": "AwaitingApproval",
    "over budget": "rejected",
}


@frozen
class Batch:
    """A journal, and what the simulator knows: the productions and when each of their statuses began."""

    journal: Path
    folder: Path
    productions: dict[str, SimulatedProduction]
    written_in_use: bytes


def _durations(_: Random, project_type: str) -> list[Stage]:
    start: list[Stage] = [("Queued", 30.0), ("Producing", 600.0)]
    if project_type == "failing":
        return [*start, ("Failed", math.inf)]
    wait = math.inf if project_type == "waiting" else 20.0
    return [*start, ("AwaitingApproval", wait), ("Distributing", 30.0), ("Published", math.inf)]


@pytest.fixture(scope="session")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    return run(_run_batch(tmp_path_factory.mktemp("report")))


async def _run_batch(folder: Path) -> Batch:
    journal, html = folder / "batch.db", folder / "in-use.html"
    async with Simulator(durations=_durations, failure_rate=0.0, spend_ceiling=6) as simulator:
        simulator.faults.add("reset_after", on="submit")
        async with (
            JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
            Orchestrator(client, journal=journal, download_to=folder / "files") as orchestrator,
        ):
            tickets = [orchestrator.submit(request) for request in _requests(simulator)]
            async for event in tickets[[*STATES].index("waiting")].events():
                if isinstance(event, StatusChanged) and event.status == Status.AWAITING_APPROVAL:
                    break
            for ticket in tickets:
                if ticket.reference != "waiting":
                    async for _ in ticket.events():  # to the last one, which is then in the journal
                        pass
            await asyncio.to_thread(write_report, str(journal), 0.0, html=html)
        return Batch(journal, folder / "files", dict(simulator.productions), html.read_bytes())


def _requests(simulator: Simulator) -> list[ProductionRequest]:
    def request(reference: str) -> ProductionRequest:
        fields: dict[str, Any] = {"topic": f"About {reference}"[:500]}
        if reference in ("failing", "waiting"):
            fields["project_type"] = reference
        return request_for(simulator, reference=reference, **fields)

    return [request(reference) for reference in STATES]
