"""Reading and writing the journal: what was saved is read back, and an unusable file costs no money."""

import asyncio
import contextlib
import gc
import itertools
import sqlite3
import stat
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jarai_async import JaraiClient, JournalError, Orchestrator
from jarai_async._api.codec import body_of
from jarai_async._journal.entries import Intent, Stage
from jarai_async._journal.journal import SqliteJournal
from jarai_async.simulator import Simulator, run
from tests.support.journals import execute, intent, opened_connections
from tests.support.scenarios import requests_for
from tests.support.strategies import ID, OTHER, request


async def stages(path: Path) -> dict[str, Stage]:
    journal = await SqliteJournal.open(path)
    stages = {intent.reference: intent.stage for intent in await journal.intents()}
    await journal.close()
    return stages


async def test_saved_intents_are_read_back_after_reopening(tmp_path: Path) -> None:
    """All fields, in the order in which the requests were first written."""
    journal = await SqliteJournal.open(tmp_path / "journal")
    for reference in ("b", "a"):
        await journal.save(intent(reference))
    await journal.save(intent("b", "another key", stage=Stage.ACCEPTED, sequence=3, since=12.5, expired=[ID]))
    await journal.close()
    journal = await SqliteJournal.open(tmp_path / "journal")
    first, second = await journal.intents()
    assert (first.reference, first.stage, first.sequence, first.since) == ("b", Stage.ACCEPTED, 3, 12.5)
    assert (first.expired, first.body, first.key) == ([ID], body_of(request()), "another key")
    assert (second.reference, second.stage) == ("a", Stage.PLANNED)
    assert await journal.find("c") is None
    await journal.close()


async def test_request_that_was_being_sent_is_in_doubt_after_a_crash(tmp_path: Path) -> None:
    """Opening the journal writes that at once, so a second crash does not lose it."""
    path = tmp_path / "journal"
    journal = await SqliteJournal.open(path)
    for stage in Stage:
        await journal.save(intent(str(stage), stage=stage))
    await journal.close()
    await (await SqliteJournal.open(path)).close()
    stored = {
        str(stage): execute(path, f"SELECT stage FROM intents WHERE reference = '{stage}'")[0]  # noqa: S608
        for stage in Stage
    }
    assert stored == {str(stage): str(stage) for stage in Stage} | {"sending": "in doubt"}


async def test_concurrent_saves_share_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred concurrent saves need at most two commits."""
    connections = opened_connections(monkeypatch)
    journal = await SqliteJournal.open(tmp_path / "journal")
    statements: list[str] = []
    connections[0].set_trace_callback(statements.append)
    await asyncio.gather(*(journal.save(intent(str(n))) for n in range(100)))
    assert 1 <= statements.count("COMMIT") <= 2
    assert len(await journal.intents()) == 100
    await journal.close()


async def test_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    """The journal holds topics: that applies to its write-ahead log too."""
    journal = await SqliteJournal.open(tmp_path / "journal")
    await journal.save(intent())
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes
    assert set(modes.values()) == {0o600}
    await journal.close()


async def test_open_file_cannot_be_opened_again(tmp_path: Path) -> None:
    """The second journal raises an error, and the first one keeps working."""
    path = tmp_path / "journal"
    journal = await SqliteJournal.open(path)
    with pytest.raises(JournalError, match="it is open already, in this process or another"):
        await SqliteJournal.open(path)
    await journal.save(intent())
    await journal.close()
    assert await stages(path) == {"mine": Stage.PLANNED}


async def test_file_that_is_not_a_journal_is_rejected_unchanged(tmp_path: Path) -> None:
    """A text file, another program's database, a folder, a newer version, a path that does not exist."""
    text, other, newer = (tmp_path / name for name in ("text", "other", "newer"))
    text.write_text("topic,account_id\n" * 100)
    execute(other, "CREATE TABLE theirs (x)")
    await (await SqliteJournal.open(newer)).close()
    execute(newer, "PRAGMA user_version = 4")
    reasons = {
        text: "it is not a journal",
        other: "the database of another program",
        newer: "written by a newer version",
        tmp_path: "Is a directory",
        tmp_path / "nowhere" / "journal": "No such file or directory",
    }
    for path, reason in reasons.items():
        before = path.read_bytes() if path.is_file() else b""
        with pytest.raises(JournalError, match=reason):
            await SqliteJournal.open(path)
        assert (path.read_bytes() if path.is_file() else b"") == before


async def test_unreadable_entry_is_named_in_the_error(tmp_path: Path) -> None:
    """Every column is checked."""
    path = tmp_path / "journal"
    for column, value in {"account_id": "'../x'", "stage": "'sold'", "kept": "'[]'"}.items():
        journal = await SqliteJournal.open(path)
        await journal.save(intent())
        await journal.close()
        execute(path, f"UPDATE intents SET {column} = {value}")  # noqa: S608
        journal = await SqliteJournal.open(path)
        with pytest.raises(JournalError, match="the journal's entry for 'mine'"):
            await journal.find("mine")
        await journal.close()


async def test_full_disk_raises_and_writing_resumes_when_there_is_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failed save writes nothing."""
    connections = opened_connections(monkeypatch)
    journal = await SqliteJournal.open(tmp_path / "journal")
    (database,) = connections
    database.execute("PRAGMA max_page_count = 1")
    with pytest.raises(JournalError, match="full"):
        for n in range(100):
            await journal.save(intent(f"{n}"))
    saved = len(await journal.intents())
    database.execute("PRAGMA max_page_count = 1000")
    await journal.save(intent("late"))
    assert [intent.reference for intent in await journal.intents()][saved:] == ["late"]
    await journal.close()


async def test_fact_is_loaded_after_reopening(tmp_path: Path) -> None:
    """A fact is any JSON object; damaged JSON is an error."""
    path = tmp_path / "journal"
    journal = await SqliteJournal.open(path)
    journal.store("learned", {"ages": [1.5]})
    await journal.close()
    journal = await SqliteJournal.open(path)
    assert await journal.load("learned") == {"ages": [1.5]}
    assert await journal.load("spent") is None
    await journal.close()
    execute(path, "UPDATE facts SET value = '{'")
    journal = await SqliteJournal.open(path)
    with pytest.raises(JournalError, match="damaged"):
        await journal.load("learned")
    await journal.close()


async def test_close_writes_pending_intents_and_can_be_repeated(tmp_path: Path) -> None:
    """After it nothing is written: `put` does nothing, and `save` raises."""
    path = tmp_path / "journal"
    journal = await SqliteJournal.open(path)
    journal.put(intent("last"))
    await journal.close()
    await journal.close()
    journal.put(intent("too late"))
    with pytest.raises(JournalError, match="closed"):
        await journal.save(intent("too late"))
    assert await stages(path) == {"last": Stage.PLANNED}


@pytest.fixture(scope="module")
def journal_of_twenty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of twenty productions."""
    path = tmp_path_factory.mktemp("undamaged") / "journal"

    async def write() -> None:
        journal = await SqliteJournal.open(path)
        for n in range(20):
            await journal.save(intent(f"item {n}", stage=Stage.ACCEPTED, sequence=n))
        await journal.close()

    run(write())
    return path


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 1_000_000), st.integers(1, 255)), min_size=1, max_size=3))
@example([(3750, 128)])  # in the schema: SQLite's message is not valid UTF-8 then
def test_damaged_file_is_an_error_or_complete_but_never_empty(
    tmp_path_factory: pytest.TempPathFactory, journal_of_twenty: Path, flips: list[tuple[int, int]]
) -> None:
    """Whatever bytes are changed, reading returns all twenty entries or raises JournalError."""
    path, content = tmp_path_factory.mktemp("damaged") / "journal", bytearray(journal_of_twenty.read_bytes())
    for position, bits in flips:
        content[position % len(content)] ^= bits
    path.write_bytes(content)

    async def count() -> int:
        journal = await SqliteJournal.open(path)
        try:
            return len(await journal.intents())
        finally:
            await journal.close()

    with contextlib.suppress(JournalError):
        assert run(count()) == 20


async def test_nothing_is_submitted_when_the_journal_cannot_be_written(
    tmp_path: Path, simulator: Simulator, client: JaraiClient
) -> None:
    """The intent is written before the submit: if that fails, nothing is sent and nothing is paid for."""
    path = tmp_path / "journal"
    await (await SqliteJournal.open(path)).close()
    execute(
        path, "CREATE TRIGGER t BEFORE INSERT ON intents BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"
    )
    async with Orchestrator(client, journal=path) as orchestrator:
        outcomes = [await orchestrator.submit(request) for request in requests_for(simulator, 3)]
    assert {outcome.state for outcome in outcomes} == {"rejected"}
    assert all(isinstance(outcome.error, JournalError) for outcome in outcomes)
    assert not simulator.productions


async def test_reading_is_not_held_up_by_writes_that_never_end(tmp_path: Path) -> None:
    """It sees what was written before, and waits for nothing that comes later."""
    journal = await SqliteJournal.open(tmp_path / "journal")

    async def write() -> None:
        for n in itertools.count():
            await journal.save(intent(f"{n}"))

    writers = [asyncio.create_task(write()) for _ in range(3)]
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        assert await journal.find("0") is not None
        assert await journal.load("unknown") is None
    for writer in writers:
        writer.cancel()
    await asyncio.gather(*writers, return_exceptions=True)
    await journal.close()


async def test_another_request_under_a_known_reference_replaces_it(tmp_path: Path) -> None:
    """The account and the body are written as well as the key."""
    journal = await SqliteJournal.open(tmp_path / "journal")
    await journal.save(intent())
    await journal.save(Intent("mine", OTHER, b'{"topic":"Ebbs"}', "another key"))
    await journal.close()
    journal = await SqliteJournal.open(tmp_path / "journal")
    (kept,) = await journal.intents()
    assert (kept.account_id, kept.body, kept.key) == (OTHER, b'{"topic":"Ebbs"}', "another key")
    await journal.close()


async def test_all_users_of_an_intent_share_one_object(tmp_path: Path) -> None:
    """So none of them writes what another has changed since."""
    journal = await SqliteJournal.open(tmp_path / "journal")
    await journal.save(intent())
    gc.collect()  # nothing in memory but the file
    first, second = await asyncio.gather(journal.find("mine"), journal.find("mine"))
    assert first is second is await journal.find("mine") is not None
    await journal.close()


@pytest.mark.parametrize("name", ["journal", None])
async def test_submits_in_doubt_are_those_of_one_account(tmp_path: Path, name: str | None) -> None:
    """One whose submit is on its way is among them before the file says so."""
    journal = await SqliteJournal.open(tmp_path / name if name else None)
    on_its_way, planned = intent("on its way"), intent("planned")
    for one in (on_its_way, planned, intent("lost", stage=Stage.IN_DOUBT)):
        await journal.save(one)
    await journal.save(Intent("of another", OTHER, b"{}", "a key", stage=Stage.IN_DOUBT))
    on_its_way.stage = Stage.SENDING
    assert {one.reference for one in await journal.in_doubt(ID)} == {"on its way", "lost"}
    assert [one.reference for one in await journal.in_doubt(OTHER)] == ["of another"]
    await journal.close()


async def test_file_that_sqlite_cannot_open_is_unlocked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be opened again once the reason is gone."""

    def connect(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", connect)
        with pytest.raises(JournalError, match="unable to open"):
            await SqliteJournal.open(tmp_path / "journal")
    await (await SqliteJournal.open(tmp_path / "journal")).close()
