"""Reading a journal while another process has it open: complete rows, no waiting owner, nothing written."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import chain, count, repeat
from pathlib import Path

import pytest

from jarai_async import (
    BudgetExceededError,
    Finished,
    JaraiClient,
    JournalError,
    NoResponseError,
    Orchestrator,
    read_journal,
)
from jarai_async._journal.entries import Stage
from jarai_async._journal.events import error_fields
from jarai_async._journal.file_lock import FileReader
from jarai_async._journal.journal import SqliteJournal
from jarai_async._journal.reader import SqliteReader
from jarai_async.simulator import Simulator
from tests.support.journals import intent
from tests.support.leaks import open_descriptors
from tests.support.scenarios import requests_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems lock the whole file")

REQUESTS = 150  # several pages of the file, all changed by each commit
WRITER = f"""
import asyncio, sys
from pathlib import Path
from jarai_async._journal.journal import SqliteJournal
from jarai_async._journal.reader import SqliteReader
from tests.support.journals import intent

async def write():
    journal = await SqliteJournal.open(Path(sys.argv[1]))
    number = 0
    while True:
        number += 1
        await asyncio.gather(*(journal.save(intent(str(n), f"{{number}}")) for n in range({REQUESTS})))
        print(number, flush=True)

asyncio.run(write())
"""
READER = """
import sys, time
from pathlib import Path
from jarai_async._journal.file_lock import FileReader

with FileReader(Path(sys.argv[1])).reading():
    print("reading", flush=True)
    time.sleep(600)
"""
KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from jarai_async._journal.database import open_database

database = open_database(Path(sys.argv[1]), None, create=False)
database.execute("PRAGMA cache_size = 1")  # so that pages are written before the commit
with database.transaction():
    database.execute("UPDATE intents SET key = 'uncommitted'")
    print("writing", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@contextlib.contextmanager
def other_process(program: str, path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run a program on a journal, until its first line of output at least."""
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def keys(path: Path) -> list[str]:
    """Return the idempotency keys, which the writer changes all at once."""
    return [one.key for one, _ in SqliteReader(path).entries()]


def test_other_process_that_commits_is_read_between_two_commits(tmp_path: Path) -> None:
    """All rows of one read are of one commit, and the reader sees later commits."""
    path = tmp_path / "journal"
    with other_process(WRITER, path) as writer:
        seen = set[str]()
        while len(seen) < 20:
            found = keys(path)
            assert len(found) == REQUESTS
            assert len(set(found)) == 1
            seen.update(found)
        assert writer.poll() is None


async def test_owner_that_was_killed_during_a_commit_is_recovered_and_read(tmp_path: Path) -> None:
    """What it had written of that commit is undone, and a request that was being sent is in doubt."""
    path = tmp_path / "journal"
    journal = await SqliteJournal.open(path)
    for n in range(REQUESTS):
        await journal.save(intent(str(n), "committed", stage=Stage.SENDING))
    assert {entry.stage for entry in read_journal(path)} == {"sending"}
    await journal.close()
    assert {entry.stage for entry in read_journal(path)} == {"in doubt"}
    with other_process(KILLED_WRITER, path) as writer:
        assert writer.wait(timeout=60) == -signal.SIGKILL
    assert b"uncommitted" in path.read_bytes()
    assert keys(path) == ["committed"] * REQUESTS
    assert b"uncommitted" not in path.read_bytes()


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGSTOP])
async def test_reader_that_is_killed_or_stopped_does_not_stop_the_owner(
    tmp_path: Path, ending: signal.Signals
) -> None:
    """A commit waits for a stopped reader for a second at most. That reader then reads again."""
    path = tmp_path / "journal"
    journal = await SqliteJournal.open(path)
    with other_process(READER, path) as reader:
        reader.send_signal(ending)
        await journal.save(intent())
    assert keys(path) == ["a key"]
    await journal.close()


async def test_what_was_read_for_too_long_is_not_used(tmp_path: Path) -> None:
    """The owner has not waited for it."""
    path = tmp_path / "journal"
    journal = await SqliteJournal.open(path)
    with contextlib.closing(FileReader(path)) as file, file.reading() as is_valid:
        assert is_valid()
        await journal.save(intent())
        assert not is_valid()
    await journal.close()


async def test_read_that_took_too_long_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For ten seconds."""
    path = tmp_path / "journal"
    journal = await SqliteJournal.open(path)
    await journal.save(intent())
    await journal.close()
    times = chain([0.0, 0.0, 1.0], repeat(1.0))  # the clock after the first read is a second later
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: next(times))
        assert keys(path) == ["a key"]
    clock = count(0.0, 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: next(clock))
        with pytest.raises(JournalError, match="takes too long on this disk"):
            keys(path)
    assert 10 < next(clock) < 20


async def test_entry_has_the_error_of_the_outcome_or_of_the_doubt(tmp_path: Path) -> None:
    rejected = {"state": "rejected", "error": error_fields(BudgetExceededError("too expensive", status=409))}
    journal = await SqliteJournal.open(tmp_path / "journal")
    journal.put(intent("a", stage=Stage.IN_DOUBT, doubt=NoResponseError("lost")))
    journal.put(intent("b", stage=Stage.ENDED, outcome=rejected))
    await journal.save(intent("c"))
    await journal.close()
    entries = list(read_journal(tmp_path / "journal"))
    assert [entry.state for entry in entries] == ["uncertain", "rejected", None]
    assert [entry.is_final for entry in entries] == [False, True, False]
    in_doubt, ended, planned = (entry.error for entry in entries)
    assert isinstance(in_doubt, NoResponseError)
    assert in_doubt.message == "lost"
    assert isinstance(ended, BudgetExceededError)
    assert (ended.message, ended.status) == ("too expensive", 409)
    assert planned is None


async def test_owner_reads_its_own_open_journal_with_all_events(
    tmp_path: Path, simulator: Simulator, client: JaraiClient
) -> None:
    """The entries are those of the outcomes, the lock of the owner stays, and nothing else is opened."""
    path = tmp_path / "journal"
    async with Orchestrator(client, journal=path) as orchestrator:
        events = [event async for event in orchestrator.run(requests_for(simulator, 3))]
        descriptors = open_descriptors()
        entries = list(read_journal(path))
        assert open_descriptors() == descriptors
        with pytest.raises(JournalError, match="open already"):
            await SqliteJournal.open(path)
    assert [(entry.reference, entry.stage) for entry in entries] == [(f"item-{n}", "ended") for n in range(3)]
    assert {entry.state for entry in entries} <= {"published", "failed"}
    outcomes = {event.reference: event.outcome for event in events if isinstance(event, Finished)}
    for entry in entries:
        outcome = outcomes[entry.reference]
        assert entry.production
        assert (entry.submitted_at, entry.ended_at) == (outcome.submitted_at, outcome.finished_at)
        assert entry.sent_at
        assert entry.submitted_at
        assert entry.sent_at < entry.submitted_at
    found = {event.cursor: event for entry in entries for event in entry.events}
    assert {cursor: type(event) for cursor, event in found.items()} == {
        event.cursor: type(event) for event in events
    }


def test_path_without_a_journal_is_an_error(tmp_path: Path) -> None:
    """A missing file, a folder, and a file of another kind; none is created or changed."""
    text = tmp_path / "text"
    text.write_text("topic,account_id\n" * 100)
    for path in (tmp_path / "missing", tmp_path, text):
        with pytest.raises(JournalError):
            list(read_journal(path))
    assert [path.name for path in tmp_path.iterdir()] == ["text"]
