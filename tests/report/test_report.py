"""The facts of a report, against the simulator that knows the truth."""

import asyncio
import csv
import json
import re
from contextlib import redirect_stdout
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from jarai_async import Finished
from jarai_async._cli.commands import main
from jarai_async._cli.json_lines import intent_line
from jarai_async._journal.entries import Stage
from jarai_async._journal.events import decode_event
from jarai_async._journal.journal import SqliteJournal
from jarai_async._journal.reader import SqliteReader
from jarai_async._printable import printable
from jarai_async._report.writer import write_report
from tests.cli.test_results import Terminal
from tests.report.conftest import STATES, Batch
from tests.report.pages import HOSTILE


@pytest.fixture
def facts(batch: Batch, tmp_path: Path) -> dict[str, Any]:
    """The JSON of the batch's report."""
    path = tmp_path / "report.json"
    write_report(str(batch.journal), 0.0, html=path.with_suffix(".html"), json=path)
    facts: dict[str, Any] = json.loads(path.read_bytes())
    return facts


def test_each_request_has_the_state_in_which_it_ended(batch: Batch, facts: dict[str, Any]) -> None:
    """A production that goes on has its status; the order is that of the journal."""
    assert {row["reference"]: row["state"] for row in facts["productions"]} == STATES
    assert facts["states"] == {
        "published": 3,
        "AwaitingApproval": 1,
        "failed": 1,
        "rejected": 1,
        "uncertain": 1,
    }
    known = {row["productionId"] for row in facts["productions"]} - {None}
    assert len(known) == 5
    assert known < batch.productions.keys()
    assert facts["productionsCreated"] == 5


def test_every_true_change_lies_within_the_interval_of_the_report(
    batch: Batch, facts: dict[str, Any]
) -> None:
    """So the lag is at most what the report says, and a phase begins in that interval."""
    checked = 0
    for row in facts["productions"]:
        if row["productionId"] is None:
            continue
        production = batch.productions[row["productionId"]]
        changes = [production.wall(start) for start, _ in production.timeline[1 : len(row["changes"]) + 1]]
        phases = [phase["status"] for phase in row["phases"]]
        statuses = [status for _, status in production.timeline[: len(phases)]]
        assert [phase.replace("collecting", "Published") for phase in phases] == statuses
        for true, change in zip(changes, row["changes"], strict=True):
            assert _time(change["after"]) <= true <= _time(change["seenAt"])
            checked += 1
        for phase, change in zip(row["phases"][1:], row["changes"], strict=False):
            assert _time(change["after"]) <= _time(phase["from"]) <= _time(change["seenAt"])
    assert checked == 3 * 4 + 2 + 2


def test_totals_are_those_of_the_files_and_the_requests(batch: Batch, facts: dict[str, Any]) -> None:
    """The bytes are those on the disk, without the manifests, which are not deliverables."""
    saved = [path for path in batch.folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    assert facts["files"] == len(saved)
    assert facts["bytes"] == sum(path.stat().st_size for path in saved)
    files = [file for row in facts["productions"] for file in row["downloaded"]]
    assert {file["path"] for file in files} == set(map(str, saved))
    assert facts["requests"] == sum(row["requests"] or 0 for row in facts["productions"]) > 20
    assert facts["withoutKnownRequests"] == 1  # the one that waits for a person


def test_failures_have_reason_code_and_correlation_id(facts: dict[str, Any]) -> None:
    """As far as JARAI sent them."""
    rows = {row["reference"]: row for row in facts["productions"]}
    assert rows["failing"]["errorCode"] == "PIPELINE_STEP_FAILED"
    assert "could not be completed" in rows["failing"]["error"]
    assert rows["over budget"]["errorCode"] == "BUDGET_GATE_1_FAILED"
    assert rows["over budget"]["correlationId"]
    assert rows["doubt"]["errorCode"] is None
    assert rows["doubt"]["error"]
    assert rows["first"]["error"] is None


def test_same_facts_have_the_same_names_in_reports_journals_and_events(
    batch: Batch, facts: dict[str, Any]
) -> None:
    """And the same values: what one command prints can be joined with what another has written."""
    rows = {row["reference"]: row for row in facts["productions"]}
    for intent, events in SqliteReader(batch.journal).entries():
        row, line = rows[intent.reference], intent_line(intent, events)
        assert row["state"] == line["state"] == STATES[intent.reference]
        common = (row.keys() & line.keys()) - {"files", "productionIds"}
        assert {"outcome", "isFinal", "error", "errorCode", "submittedAt", "finishedAt"} < common
        assert {name: row[name] for name in common} == {name: line[name] for name in common}
        last = decode_event(events[-1])
        if isinstance(last, Finished):
            end = last.to_dict()
            common = (row.keys() & end.keys()) - {"downloaded", "requests"}
            if intent.stage is Stage.IN_DOUBT:  # the journal has the cause, and the event what to do
                common -= {"error"}
            assert {name: row[name] for name in common} == {name: end[name] for name in common}


def test_table_of_a_journal_shows_the_reason_first(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the ID of the production, which would fill the column, and not the advice."""
    monkeypatch.setenv("COLUMNS", "120")
    with redirect_stdout(terminal := Terminal()):
        assert main(["journal", str(batch.journal), "--state", "failed"]) == 0
    _, row = terminal.getvalue().splitlines()
    assert re.fullmatch(r"failing +failed +0 +Step \d+ of \d+ could not be completed \(PIPELINE_\w+\) *", row)


def test_csv_is_safe_in_a_spreadsheet_and_json_is_exact(batch: Batch, tmp_path: Path) -> None:
    """No cell begins as a formula does, and each request has one line of printable text."""
    table, exact = tmp_path / "report.csv", tmp_path / "report.json"
    write_report(str(batch.journal), 0.0, html=tmp_path / "report.html", csv=table, json=exact)
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["reference"].removeprefix("'") for row in rows] == [printable(one) for one in STATES]
    assert [row["reference"] for row in rows if row["reference"].endswith("-second")] == ["'-second"]
    assert [row["state"] for row in rows] == list(STATES.values())
    published = next(row for row in rows if row["reference"] == "first")
    assert 550 < float(published["secondsProducing"]) < 650
    seconds = _time(published["finishedAt"]) - _time(published["submittedAt"])
    assert float(published["seconds"]) == round(seconds)
    assert sum(int(row["productionsCreated"]) for row in rows) == 5
    assert "<b>5</b> productions created" in (tmp_path / "report.html").read_text(encoding="utf-8")
    references = [row["reference"] for row in json.loads(exact.read_bytes())["productions"]]
    assert HOSTILE in references


def test_empty_journal_has_a_report(tmp_path: Path) -> None:
    """All its totals are zero, and nothing is left out silently."""

    async def create() -> None:
        await (await SqliteJournal.open(tmp_path / "empty.db")).close()

    asyncio.run(create())
    html, table, exact = (tmp_path / f"report.{kind}" for kind in ("html", "csv", "json"))
    write_report(str(tmp_path / "empty.db"), 0.0, html=html, csv=table, json=exact)
    assert json.loads(exact.read_bytes())["productions"] == []
    assert table.read_bytes() == b"reference\r\n"
    assert "<b>0</b> requests" in html.read_text()


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
