"""A journal of an earlier format is continued, and nothing is paid for again."""

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

from jarai_async import Finished, JaraiClient, Orchestrator, OutcomeState
from jarai_async._api.codec import body_of
from jarai_async._journal.journal import SqliteJournal
from jarai_async.simulator import Simulator
from tests.support.journals import execute
from tests.support.orchestrators import outcomes_of
from tests.support.scenarios import request_for

SCHEMA_2 = """
CREATE TABLE intents (
    reference TEXT PRIMARY KEY, account_id TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL,
    stage TEXT NOT NULL, kept TEXT NOT NULL
) STRICT;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
PRAGMA application_id = 1245794889;
PRAGMA user_version = 2;
"""


async def as_format_2(path: Path) -> None:
    """Write a journal as the version before events were kept did."""
    journal = await SqliteJournal.open(path)
    rows = []
    for intent in await journal.intents():
        reference, account_id, key, body, stage, _, _, kept = intent.row()
        fields: dict[str, Any] = {
            name: value for name, value in json.loads(kept).items() if name not in ("hasFiles", "unread")
        }
        files = await journal.files(intent)
        if files:
            fields["files"] = {
                str(path): {
                    "deliverable": {"type": saved.deliverable.type, "deliverableId": saved.deliverable.id},
                    "size": saved.size,
                    "md5": saved.md5,
                    "modified": saved.modified,
                    "verifiedBy": saved.verified_by,
                    "final": saved.final,
                }
                for path, saved in files.items()
            }
        event = await journal.last_event(intent)
        if isinstance(event, Finished) and event.outcome.is_final:
            fields["outcome"] |= {
                "deliverables": [
                    {"type": one.type, "deliverableId": one.id} for one in event.outcome.deliverables
                ],
                "submittedAt": event.outcome.submitted_at and event.outcome.submitted_at.isoformat(),
                "finishedAt": event.outcome.finished_at.isoformat(),
                "requests": event.outcome.request_count,
            }
            del fields["outcome"]["files"]
        rows.append((reference, account_id, key, body, stage, json.dumps(fields)))
    await journal.close()
    path.unlink()
    database = sqlite3.connect(path)
    database.executescript(SCHEMA_2)
    database.executemany("INSERT INTO intents VALUES (?, ?, ?, ?, ?, ?)", rows)
    database.commit()
    database.close()


async def test_journal_of_format_2_is_continued(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """Outcomes and files are known, and what has not ended is watched again."""
    path, requests = tmp_path / "journal", [request_for(simulator, reference=name) for name in "ab"]
    async with Orchestrator(client, journal=path, download_to=tmp_path / "files") as orchestrator:
        first = await orchestrator.submit(requests[0])
        orchestrator.submit(requests[1])
        await asyncio.sleep(60)
    assert len(simulator.productions) == 2
    await as_format_2(path)
    assert execute(path, "PRAGMA user_version") == [2]
    before = len(simulator.requests)
    async with Orchestrator(client, journal=path, download_to=tmp_path / "files") as orchestrator:
        again = await orchestrator.submit(requests[0])
        assert len(simulator.requests) == before  # no file was downloaded again
        assert (again.ok, again.finished_at) == (True, first.finished_at)
        assert again.files.keys() == first.files.keys()
        assert [ticket.reference for ticket in await orchestrator.tickets(OutcomeState.PUBLISHED)] == ["a"]
        (resumed,) = await orchestrator.resume()
        assert (await resumed).ok
        assert await orchestrator.forget("a") == ["a"]
    assert len(simulator.productions) == 2
    assert execute(path, "PRAGMA user_version", "PRAGMA auto_vacuum", "PRAGMA page_size") == [3, 2, 1024]


async def test_damaged_entry_of_format_2_prevents_no_other(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """It is named when it is read, as in the present format."""
    path, request = tmp_path / "journal", request_for(simulator, reference="a")
    database = sqlite3.connect(path)
    database.executescript(SCHEMA_2)
    for reference, kept in (("x", "{"), ("y", '{"outcome": 5}'), ("z", '{"files": {"a": 5}}')):
        row = (reference, request.account_id, "key", body_of(request), "ended", kept)
        database.execute("INSERT INTO intents VALUES (?, ?, ?, ?, ?, ?)", row)
    database.commit()
    database.close()
    (outcome,) = await outcomes_of(Orchestrator(client, journal=path), [request])
    assert outcome.ok
