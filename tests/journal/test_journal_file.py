"""The journal's file: its format and lock, when a write is on the disk, and what happens when one fails."""

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from jarai_async import ConfigurationError, Finished, JaraiClient, JournalError, Orchestrator
from jarai_async._journal.database import Database
from jarai_async._journal.entries import Stage
from jarai_async._journal.journal import SqliteJournal
from jarai_async.simulator import Simulator
from tests.support.journals import execute, intent, opened_connections
from tests.support.scenarios import requests_for


async def test_file_identifies_application_and_version(tmp_path: Path) -> None:
    """The application id is in the file's header, where file(1) finds it."""
    path = tmp_path / "journal"
    await (await SqliteJournal.open(path)).close()
    pragmas = ("application_id", "user_version", "journal_mode")
    assert execute(path, *(f"PRAGMA {name}" for name in pragmas)) == [0x4A415249, 3, "delete"]
    assert path.read_bytes()[68:72] == b"JARI"


async def test_commits_survive_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as SQLite can ensure it: `synchronous=FULL`. The lock lasts as long as the file is open."""
    connections = opened_connections(monkeypatch)
    journal = await SqliteJournal.open(tmp_path / "journal")
    (database,) = connections
    pragmas = ("synchronous", "locking_mode", "journal_mode")
    values = [database.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]
    assert values == [2, "exclusive", "persist"]
    await journal.close()


async def test_missing_file_is_not_created_without_create(tmp_path: Path) -> None:
    """A command that only reads leaves no file behind."""
    path = tmp_path / "journal"
    with pytest.raises(JournalError) as caught:
        await SqliteJournal.open(path, create=False)
    assert caught.value.message == f"the journal {path} cannot be used: No such file or directory"
    assert not path.exists()
    journal = await SqliteJournal.open(path)
    await journal.save(intent())
    await journal.close()
    journal = await SqliteJournal.open(path, create=False)
    assert await journal.find("mine") is not None
    await journal.close()


async def test_error_says_why_the_file_cannot_be_used(tmp_path: Path) -> None:
    """In a few words, with the path."""
    used, text, foreign = (tmp_path / name for name in ("used", "text", "foreign"))
    journal = await SqliteJournal.open(used)
    text.write_text("topic,account_id\n" * 100)
    execute(foreign, f"PRAGMA application_id = {0x4A415249}", "CREATE TABLE else_where (x)")
    reasons = {
        used: "it is open already, in this process or another",
        text: "it is not a journal",
        foreign: "no such table: intents",
        tmp_path: "Is a directory",
    }
    for path, reason in reasons.items():
        with pytest.raises(JournalError) as caught:
            await SqliteJournal.open(path)
        assert caught.value.message == f"the journal {path} cannot be used: {reason}"
    await journal.close()


async def test_failed_open_leaves_no_lock_and_no_thread(tmp_path: Path) -> None:
    """The file can be opened as soon as the reason is gone."""
    path = tmp_path / "journal"
    await (await SqliteJournal.open(path)).close()
    execute(path, "PRAGMA user_version = 4")
    with pytest.raises(JournalError, match="was written by a newer version of jarai-async"):
        await SqliteJournal.open(path)
    execute(path, "PRAGMA user_version = 3")
    await (await SqliteJournal.open(path)).close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("jarai journal")]


async def test_all_work_is_done_in_one_thread_that_ends_with_the_journal(tmp_path: Path) -> None:
    """However many callers there are; and never in the event loop's default threads."""
    others = set(threading.enumerate())
    journal = await SqliteJournal.open(tmp_path / "journal")
    before = set(threading.enumerate())
    await asyncio.gather(*(journal.save(intent(str(n))) for n in range(9)))
    await asyncio.gather(*(journal.find(str(n)) for n in range(9)))
    assert set(threading.enumerate()) == before
    assert [thread.name for thread in before - others] == ["jarai journal_0"]
    await journal.close()
    assert set(threading.enumerate()) <= others


async def test_reads_wait_for_earlier_writes(tmp_path: Path) -> None:
    """A read returns every write that was added before it, whether its commit is running or not."""
    journal = await SqliteJournal.open(tmp_path / "journal")
    journal.put(intent("a"))
    assert await journal.find("a") is not None
    journal.put(intent("b"))
    await asyncio.sleep(0)  # its commit is running
    journal.put(intent("c"))
    assert [intent.reference for intent in await journal.intents()] == ["a", "b", "c"]
    journal.store("learned", {"x": 1})
    assert await journal.load("learned") == {"x": 1}
    await journal.close()


async def test_plan_does_not_overwrite_a_known_intent(tmp_path: Path) -> None:
    """When a batch is run again, a request that was sent keeps its stage and its idempotency key."""
    journal = await SqliteJournal.open(tmp_path / "journal")
    await journal.save(intent("known", "first key", stage=Stage.ACCEPTED))
    for reference in ("known", "new"):
        journal.plan(intent(reference, "second key"))
    await journal.flush()
    stored = {intent.reference: (intent.stage, intent.key) for intent in await journal.intents()}
    assert stored == {"known": (Stage.ACCEPTED, "first key"), "new": (Stage.PLANNED, "second key")}
    await journal.flush()
    await journal.close()


async def test_flush_returns_when_writes_are_on_the_disk(tmp_path: Path) -> None:
    """A copy of the files that is made then contains them."""
    journal = await SqliteJournal.open(tmp_path / "journal")
    journal.put(intent())
    await journal.flush()
    assert b"a key" in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    await journal.close()


async def test_without_a_path_everything_is_kept_in_memory() -> None:
    """Until the journal is closed."""
    journal = await SqliteJournal.open(None)
    await journal.save(intent("a", stage=Stage.IN_DOUBT))
    journal.plan(intent("b"))
    journal.store("learned", {"x": 1})
    assert [(one.reference, one.stage) for one in await journal.intents()] == [
        ("a", Stage.IN_DOUBT),
        ("b", Stage.PLANNED),
    ]
    assert await journal.load("learned") == {"x": 1}
    await journal.close()
    await journal.close()
    journal = await SqliteJournal.open(None)
    assert await journal.intents() == []
    await journal.close()


async def test_failing_writes_are_logged_once_until_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first of consecutive failures is logged, and the first one after a successful commit."""
    connections = opened_connections(monkeypatch)
    path = tmp_path / "journal"
    journal = await SqliteJournal.open(path)
    (database,) = connections

    async def put_twice(name: str) -> list[str]:
        caplog.clear()
        for n in range(2):
            journal.put(intent(f"{name} {n}"))
            await journal.flush()
        errors = [record for record in caplog.records if record.levelno == logging.ERROR]
        return [record.getMessage().partition(". ")[0] for record in errors]

    message = f"the journal {path} cannot be used: attempt to write a readonly database"
    for name in ("first", "second"):
        database.execute("PRAGMA query_only = ON")
        assert await put_twice(name) == [message]
        database.execute("PRAGMA query_only = OFF")
        assert await put_twice(f"written {name}") == []
    assert {intent.reference.partition(" ")[0] for intent in await journal.intents()} == {"written"}
    await journal.close()


async def test_file_that_cannot_be_closed_cleanly_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as in a forked child, whose lock is closed."""
    connections = opened_connections(monkeypatch)
    path = tmp_path / "journal"
    journal = await SqliteJournal.open(path)
    (database,) = connections
    assert isinstance(database, Database)
    assert database.lock is not None
    database.lock.close()
    await journal.close()
    assert str(journal.failure).startswith(f"the journal {path} cannot be used: Bad file descriptor")


async def test_write_that_fails_raises_in_its_own_save_only(tmp_path: Path) -> None:
    """The other writes of its commit succeed: an accepted production must not be lost for another's sake."""
    path = tmp_path / "journal"
    await (await SqliteJournal.open(path)).close()
    execute(
        path,
        "CREATE TRIGGER t BEFORE INSERT ON intents WHEN new.reference = 'b' "
        "BEGIN SELECT RAISE(ABORT, 'no more'); END",
    )
    journal = await SqliteJournal.open(path)
    results = await asyncio.gather(*(journal.save(intent(name)) for name in "abc"), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), JournalError, type(None)]
    assert f"the journal {path} cannot be used: no more" in str(results[1])
    await journal.save(intent("d"))
    assert [intent.reference for intent in await journal.intents()] == ["a", "c", "d"]
    await journal.close()


async def test_reference_that_is_not_unicode_is_unknown(tmp_path: Path) -> None:
    journal = await SqliteJournal.open(tmp_path / "journal")
    assert await journal.find("x\ud800") is None
    await journal.close()


async def test_damaged_page_is_an_error_on_opening(tmp_path: Path) -> None:
    """Before anything is submitted."""
    path = tmp_path / "journal"
    journal = await SqliteJournal.open(path)
    await journal.save(intent())
    await journal.close()
    content = bytearray(path.read_bytes())
    content[2048] = 0  # the type of the first page of requests
    path.write_bytes(content)
    with pytest.raises(JournalError) as caught:
        await SqliteJournal.open(path)
    assert caught.value.message == f"the journal {path} cannot be used: it is damaged"


async def test_close_waits_for_running_and_pending_commits(tmp_path: Path) -> None:
    """Nothing that was added before is lost, and no other file remains."""
    path = tmp_path / "journal"
    journal = await SqliteJournal.open(path)
    journal.put(intent("a"))
    await asyncio.sleep(0)  # its commit is running
    journal.put(intent("b"))
    await journal.close()
    assert execute(path, "SELECT count(*) FROM intents") == [2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal"]


async def test_put_during_close_is_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is logged: the next process finds it out again."""
    path = tmp_path / "journal"
    journal = await SqliteJournal.open(path)
    closing = asyncio.create_task(journal.close())
    await asyncio.sleep(0)
    journal.put(intent())
    await closing
    await asyncio.sleep(1)
    assert execute(path, "SELECT count(*) FROM intents") == [0]
    assert caplog.text == ""


async def test_cancelled_save_is_still_written(tmp_path: Path) -> None:
    """Its commit may contain the writes of others."""
    journal = await SqliteJournal.open(tmp_path / "journal")
    saves = [asyncio.create_task(journal.save(intent(name))) for name in "ab"]
    await asyncio.sleep(0)
    saves[0].cancel()
    results = await asyncio.gather(*saves, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError, type(None)]
    assert [intent.reference for intent in await journal.intents()] == ["a", "b"]
    await journal.close()


async def test_cancelled_close_raises_after_closing_the_file(tmp_path: Path) -> None:
    """The pending write is on the disk, and the file is unlocked."""
    path = tmp_path / "journal"
    journal = await SqliteJournal.open(path)
    journal.put(intent())
    closing = asyncio.create_task(journal.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert execute(path, "SELECT count(*) FROM intents") == [1]


async def unlink(path: Path) -> None:
    path.unlink()


async def replace(path: Path) -> None:
    (path.parent / "other").write_bytes(path.read_bytes())
    (path.parent / "other").replace(path)


async def move_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


@pytest.mark.parametrize("action", [unlink, replace, move_folder])
async def test_file_that_was_deleted_moved_or_replaced_is_noticed(
    tmp_path: Path, action: Callable[[Path], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    """The next write raises an error: another process could not find it. Nothing is written after that."""
    path = tmp_path / "folder" / "journal"
    path.parent.mkdir()
    journal = await SqliteJournal.open(path)
    await journal.save(intent())
    await action(path)
    content = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(JournalError, match=f"{path} was deleted, moved or replaced while it was open"):
        await journal.save(intent("late"))
    assert "was deleted, moved or replaced" in caplog.text
    await journal.close()
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == content


async def test_file_is_found_after_a_change_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path means the same file as long as it is open."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    journal = await SqliteJournal.open(Path("journal"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    await journal.save(intent())
    await journal.close()
    assert execute(tmp_path / "journal", "SELECT count(*) FROM intents") == [1]


async def test_leaving_the_block_raises_where_the_journal_is_gone(
    tmp_path: Path, simulator: Simulator, client: JaraiClient
) -> None:
    """Even if all productions were published: it cannot continue, or prove, what was paid for."""
    path = tmp_path / "journal"
    ended = []
    with pytest.raises(JournalError, match="was deleted, moved or replaced"):
        async with Orchestrator(client, journal=path) as orchestrator:
            async for event in orchestrator.run(requests_for(simulator, 2)):
                path.unlink(missing_ok=True)
                if isinstance(event, Finished):
                    ended.append(event.outcome.state)
    assert len(ended) == 2
    with pytest.raises(LookupError):  # the user's own exception comes first
        async with Orchestrator(client, journal=path) as orchestrator:
            path.unlink()
            raise LookupError


NOT_PATHS = ["", ":memory:", "file:journal?mode=memory", "file:journal", "a\0b", "\ud800", True, 7]


@pytest.mark.parametrize("path", NOT_PATHS)
async def test_journal_that_is_no_path_of_a_file_is_rejected(client: JaraiClient, path: Any) -> None:
    """SQLite gives a few names a meaning of their own: such a database would keep nothing."""
    with pytest.raises(
        ConfigurationError, match=r"the journal must be the path of a file, such as 'batch\.db'"
    ):
        Orchestrator(client, journal=path)


async def test_journal_in_a_device_or_pipe_is_rejected(tmp_path: Path) -> None:
    """Opening a pipe does not block."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(JournalError, match="it is not a regular file"):
            await SqliteJournal.open(path)


@pytest.mark.parametrize("name", ["with space", "a?mode=memory#b", "100%41", "ünï.db", "a'b"])
async def test_any_file_name_is_taken_as_it_is(tmp_path: Path, name: str) -> None:
    """SQLite gets it as part of a URI."""
    journal = await SqliteJournal.open(tmp_path / name)
    await journal.save(intent())
    await journal.close()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert execute(tmp_path / name, "SELECT count(*) FROM intents") == [1]


async def test_copy_of_the_file_alone_is_complete_after_a_kill(tmp_path: Path) -> None:
    """Everything that was saved is in the one file, while it is open and after a crash."""
    path, copy = tmp_path / "journal", tmp_path / "copy"
    journal = await SqliteJournal.open(path)
    for n in range(50):
        await journal.save(intent(f"item {n}", stage=Stage.ACCEPTED))
    copy.write_bytes(path.read_bytes())
    await journal.close()
    journal = await SqliteJournal.open(copy)
    assert len(await journal.intents()) == 50
    await journal.close()


async def test_journal_of_format_1_with_references_by_position_is_refused_unchanged(tmp_path: Path) -> None:
    """References are made from the content now: its whole batch would be submitted and paid for again."""
    path = tmp_path / "journal"
    journal = await SqliteJournal.open(path)
    await journal.save(intent("request-0001", stage=Stage.ACCEPTED))
    await journal.close()
    await (await SqliteJournal.open(path)).close()  # in format 2 it is a reference of the user
    execute(path, "PRAGMA user_version = 1")
    for _ in range(2):
        with pytest.raises(JournalError, match="finish it with the version that wrote it"):
            await SqliteJournal.open(path)
    assert execute(path, "PRAGMA user_version") == [1]


async def test_journal_with_a_write_ahead_log_is_converted(tmp_path: Path) -> None:
    """An earlier version wrote one."""
    path = tmp_path / "journal"
    journal = await SqliteJournal.open(path)
    await journal.save(intent())
    await journal.close()
    assert execute(path, "PRAGMA journal_mode = WAL") == ["wal"]
    journal = await SqliteJournal.open(path)
    await journal.save(intent("new"))
    await journal.close()
    assert execute(path, "PRAGMA journal_mode", "SELECT count(*) FROM intents") == ["delete", 2]
