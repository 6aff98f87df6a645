"""The report as CSV, for spreadsheets, and as JSON, for programs. Pure."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from jarai_async._printable import printable
from jarai_async._report.rows import Row
from jarai_async._report.totals import Totals, in_order
from jarai_async._urls import without_queries

_FORMULA: Final = ("=", "+", "-", "@")  # a spreadsheet runs a cell that begins with one of these


def csv_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Return a line for each request, and before them the names of the columns.

    Text is made printable, and an apostrophe is put before text that a spreadsheet would take for a formula.
    """
    statuses = [*in_order({phase.status: 0 for row in rows for phase in row.phases})]
    names = list(_csv_cells(rows[0], statuses)) if rows else ["reference"]
    yield _csv_line(names)
    for row in rows:
        yield _csv_line(_csv_cells(row, statuses).values())


def _csv_cells(row: Row, statuses: Sequence[str]) -> dict[str, object]:
    seconds = dict.fromkeys(statuses, 0.0)
    for phase in row.phases:
        if phase.end is not None:
            seconds[phase.status] += phase.end - phase.start
    return {
        "reference": row.reference,
        "state": row.state,
        "status": row.status,
        "productionId": row.production_id,
        "productionsCreated": len(row.production_ids),
        "accountId": row.account_id,
        "projectType": row.project_type,
        "topic": row.topic,
        "submittedAt": _iso(row.submitted_at),
        "finishedAt": _iso(row.ended_at),
        "seconds": None if row.duration is None else round(row.duration),
        **{f"seconds{status[:1].upper()}{status[1:]}": round(seconds[status]) for status in statuses},
        "files": len(row.files),
        "bytes": row.bytes,
        "requests": row.requests,
        **_error(row),
        "correlationId": row.correlation_id,
    }


def _error(row: Row) -> dict[str, str | None]:
    """Return the keys of an outcome's error."""
    if row.error is None:
        return {"error": None, "errorCode": None}
    return {"error": without_queries(str(row.error)), "errorCode": row.error.code}


def _csv_line(cells: Any) -> str:
    line = io.StringIO()
    csv.writer(line).writerow([_cell(cell) if isinstance(cell, str) else cell for cell in cells])
    return line.getvalue()


def _cell(text: str) -> str:
    text = printable(text)
    return f"'{text}" if text.startswith(_FORMULA) else text


def json_lines(rows: Sequence[Row], totals: Totals, journal: str, written_at: float) -> Iterator[str]:
    """Return one JSON object with the totals, and a line for each request. Its text is exact."""
    head = {
        "journal": journal,
        "writtenAt": _iso(written_at),
        "first": _iso(totals.first),
        "last": _iso(totals.last),
        "states": totals.states,
        "productionsCreated": totals.productions,
        "files": totals.files,
        "bytes": totals.bytes,
        "requests": totals.requests,
        "withoutKnownRequests": totals.unknown_requests,
    }
    yield f'{json.dumps(head)[:-1]}, "productions": [\n'
    for number, row in enumerate(rows, 1):
        yield f"{json.dumps(_json_object(row))}{',' if number < len(rows) else ''}\n"
    yield "]}\n"


def _json_object(row: Row) -> dict[str, Any]:
    return {
        "reference": row.reference,
        "topic": row.topic,
        "accountId": row.account_id,
        "projectType": row.project_type,
        "productionId": row.production_id,
        "productionIds": row.production_ids,
        "status": row.status,
        "state": row.state,
        "outcome": row.outcome,
        "isFinal": row.is_final,
        "sentAt": _iso(row.sent_at),
        "submittedAt": _iso(row.submitted_at),
        "finishedAt": _iso(row.ended_at),
        "phases": [
            {"status": phase.status, "from": _iso(phase.start), "to": _iso(phase.end)} for phase in row.phases
        ],
        "changes": [{"after": _iso(change.after), "seenAt": _iso(change.seen)} for change in row.changes],
        "files": len(row.files),
        "downloaded": [{"type": file.type, "path": str(file.path), "size": file.size} for file in row.files],
        "requests": row.requests,
        **_error(row),
        "correlationId": row.correlation_id or None,
    }


def _iso(time: float | None) -> str | None:
    return None if time is None else datetime.fromtimestamp(time, UTC).isoformat()
