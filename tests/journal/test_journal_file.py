"""The journal's file, seen from outside: what it is, who holds it, and when a reader finds what in it."""

import asyncio
import logging
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from jarai_async import JournalError
from jarai_async._api.codec import body_of
from jarai_async._journal.entries import Intent, Stage
from jarai_async._journal.journal import Journal
from tests.support.strategies import ID, request


def intent(reference: str = "mine", stage: Stage = Stage.PLANNED, key: str = "a key") -> Intent:
    return Intent(reference, ID, body_of(request()), key, stage=stage)


def ask(path: Path, *questions: str) -> list[Any]:
    database = sqlite3.connect(path)
    answers = [database.execute(question).fetchone()[0] for question in questions]
    database.close()
    return answers


async def test_the_file_says_whose_it_is(tmp_path: Path) -> None:
    """By the number that stands in its head, and by its version."""
    path = tmp_path / "journal"
    await (await Journal.open(path)).close()
    pragmas = ("application_id", "user_version", "journal_mode")
    assert ask(path, *(f"PRAGMA {name}" for name in pragmas)) == [0x4A415249, 1, "wal"]
    assert path.read_bytes()[68:72] == b"JARI"


async def test_a_commit_survives_a_power_cut(tmp_path: Path) -> None:
    """As far as SQLite can see to that: `synchronous=FULL`, and one lock for as long as it is open."""
    journal = await Journal.open(tmp_path / "journal")
    assert journal._database is not None
    asked = journal._database.execute
    pragmas = ("synchronous", "locking_mode", "journal_mode")
    found = await journal._run(lambda: [asked(f"PRAGMA {name}").fetchone()[0] for name in pragmas])
    assert found == [2, "exclusive", "wal"]
    await journal.close()


async def test_what_is_not_there_is_not_begun_where_that_was_not_asked_for(tmp_path: Path) -> None:
    """A command that only looks leaves no file behind."""
    path = tmp_path / "journal"
    with pytest.raises(JournalError) as caught:
        await Journal.open(path, begin=False)
    assert caught.value.message == f"the journal {path} cannot be used: No such file or directory"
    assert not path.exists()
    journal = await Journal.open(path)
    await journal.save(intent())
    await journal.close()
    journal = await Journal.open(path, begin=False)
    assert await journal.find("mine") is not None
    await journal.close()


async def test_why_it_cannot_be_used_is_said(tmp_path: Path) -> None:
    """In a few words, with the path."""
    used, text, old = (tmp_path / name for name in ("used", "text", "old"))
    journal = await Journal.open(used)
    text.write_text("topic,account_id\n" * 100)
    database = sqlite3.connect(old)
    database.execute(f"PRAGMA application_id = {0x4A415249}")
    database.execute("CREATE TABLE else_where (x)")
    database.close()
    reasons = {
        used: "another process has it open",
        text: "it is no journal",
        old: "no such table: intents",
        tmp_path: "Is a directory",
    }
    for path, reason in reasons.items():
        with pytest.raises(JournalError) as caught:
            await Journal.open(path)
        assert caught.value.message == f"the journal {path} cannot be used: {reason}"
    await journal.close()


async def test_what_was_refused_is_let_go_of(tmp_path: Path) -> None:
    """Neither a lock nor a thread is left."""
    path = tmp_path / "journal"
    await (await Journal.open(path)).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 2")
    database.close()
    with pytest.raises(JournalError, match="was written by a newer version of jarai-async"):
        await Journal.open(path)
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 1")
    database.close()
    await (await Journal.open(path)).close()
    assert not [one for one in threading.enumerate() if one.name.startswith("jarai journal")]


async def test_all_is_done_in_one_thread_that_ends_with_it(tmp_path: Path) -> None:
    """However many ask at once; and never in the loop's own, in which names are looked up."""
    journal = await Journal.open(tmp_path / "journal")
    before = set(threading.enumerate())
    await asyncio.gather(*(journal.save(intent(str(n))) for n in range(9)))
    await asyncio.gather(*(journal.find(str(n)) for n in range(9)))
    assert set(threading.enumerate()) == before
    assert [one.name for one in before].count("jarai journal_0") == 1
    await journal.close()
    assert not [one for one in threading.enumerate() if one.name.startswith(("jarai", "asyncio"))]


async def test_what_was_put_is_what_is_read(tmp_path: Path) -> None:
    """A reader waits for what is on its way to the disk, however much comes after it."""
    journal = await Journal.open(tmp_path / "journal")
    journal.put(intent("a"))
    assert await journal.find("a") is not None
    journal.put(intent("b"))
    await asyncio.sleep(0)  # it is being written
    journal.put(intent("c"))
    assert [one.reference for one in await journal.intents()] == ["a", "b", "c"]
    journal.store("learned", {"x": 1})
    assert await journal.load("learned") == {"x": 1}
    await journal.close()


async def test_a_plan_changes_nothing_that_is_known(tmp_path: Path) -> None:
    """A batch that is run again is planned again, and what was sent keeps its key."""
    journal = await Journal.open(tmp_path / "journal")
    await journal.save(intent("known", Stage.ACCEPTED, "first key"))
    for reference in ("known", "new"):
        journal.plan(intent(reference, key="second key"))
    await journal.settled()
    found = {one.reference: (one.stage, one.key) for one in await journal.intents()}
    assert found == {"known": (Stage.ACCEPTED, "first key"), "new": (Stage.PLANNED, "second key")}
    await journal.settled()
    await journal.close()


async def test_what_is_settled_is_on_the_disk(tmp_path: Path) -> None:
    """Whoever copies the file then has it."""
    journal = await Journal.open(tmp_path / "journal")
    journal.put(intent())
    await journal.settled()
    assert b"a key" in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    await journal.close()


async def test_without_a_path_only_doubts_are_remembered() -> None:
    """By reference, until somebody decides; no thread, and no facts."""
    journal = await Journal.open(None)
    await journal.save(intent("a", Stage.IN_DOUBT))
    await journal.save(intent("b", Stage.SENDING))
    journal.plan(intent("c"))
    journal.store("learned", {"x": 1})
    await journal.settled()
    doubt = await journal.find("a")
    assert doubt is not None
    assert doubt.stage is Stage.IN_DOUBT
    assert [await journal.find(name) for name in "bc"] == [None, None]
    assert await journal.intents() == []
    assert await journal.load("learned") is None
    await journal.save(intent("a", Stage.ACCEPTED))
    assert await journal.find("a") is None
    await journal.close()
    await journal.close()


async def test_a_disk_that_fails_is_said_once_each_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not by everything that is put meanwhile; and again, once it had worked in between."""
    path = tmp_path / "journal"
    journal = await Journal.open(path)
    database = journal._database
    assert database is not None

    async def put_twice(name: str) -> list[str]:
        caplog.clear()
        for n in range(2):
            journal.put(intent(f"{name} {n}"))
            await journal.settled()
        return [one.getMessage().partition(". ")[0] for one in caplog.records if one.levelno == logging.ERROR]

    said = [f"the journal {path} cannot be used: attempt to write a readonly database"]
    for name in ("first", "second"):
        await journal._run(lambda: database.execute("PRAGMA query_only = ON"))
        assert await put_twice(name) == said
        await journal._run(lambda: database.execute("PRAGMA query_only = OFF"))
        assert await put_twice(f"whole {name}") == []
    assert {one.reference.partition(" ")[0] for one in await journal.intents()} == {"whole"}
    await journal.close()


async def test_a_commit_is_whole_or_not_at_all(tmp_path: Path) -> None:
    """Where one of its statements fails, all who wait for it are told; and what comes later is written."""
    journal = await Journal.open(tmp_path / "journal")
    database = journal._database
    assert database is not None
    refuse = "CREATE TEMP TRIGGER t BEFORE INSERT ON main.intents WHEN new.reference = 'b' BEGIN "
    await journal._run(lambda: database.execute(f"{refuse} SELECT RAISE(ABORT, 'no more'); END"))
    results = await asyncio.gather(*(journal.save(intent(name)) for name in "abc"), return_exceptions=True)
    reason = f"the journal {tmp_path / 'journal'} cannot be used: no more"
    assert [isinstance(one, JournalError) and one.message for one in results] == [reason] * 3
    await journal.save(intent("d"))
    assert [one.reference for one in await journal.intents()] == ["d"]
    await journal.close()


async def test_a_reference_that_cannot_be_kept_is_refused_and_ends_no_others(tmp_path: Path) -> None:
    """Half a character, which no file takes; what is planned beside it is written."""
    path = tmp_path / "journal"
    journal = await Journal.open(path)
    for name in ("a", "x\ud800", "b"):
        journal.plan(intent(name))
    assert [one.reference for one in await journal.intents()] == ["a", "b"]
    with pytest.raises(JournalError) as caught:
        await journal.find("x\ud800")
    assert caught.value.message == f"the journal {path} cannot keep 'x\\ud800': it is not Unicode"
    await journal.close()
    nowhere = await Journal.open(None)
    assert await nowhere.find("x\ud800") is None
    await nowhere.close()


async def test_damage_is_named(tmp_path: Path) -> None:
    """A page that is none: refused before money is spent."""
    path = tmp_path / "journal"
    journal = await Journal.open(path)
    await journal.save(intent())
    await journal.close()
    content = bytearray(path.read_bytes())
    content[4096] = 0  # the kind of its second page
    path.write_bytes(content)
    with pytest.raises(JournalError) as caught:
        await Journal.open(path)
    assert caught.value.message.startswith(f"{path} is damaged: ")


async def test_closing_waits_for_what_is_being_written(tmp_path: Path) -> None:
    """And for what was put while that was written."""
    path = tmp_path / "journal"
    journal = await Journal.open(path)
    journal.put(intent("a"))
    await asyncio.sleep(0)
    journal.put(intent("b"))
    await journal.close()
    assert ask(path, "SELECT count(*) FROM intents") == [2]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["journal"]


async def test_what_comes_while_it_closes_is_left_to_the_next_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a word: it is found out again."""
    path = tmp_path / "journal"
    journal = await Journal.open(path)
    closing = asyncio.create_task(journal.close())
    await asyncio.sleep(0)
    journal.put(intent())
    await closing
    await asyncio.sleep(1)
    assert ask(path, "SELECT count(*) FROM intents") == [0]
    assert caplog.text == ""


async def test_a_cancelled_save_is_written_all_the_same(tmp_path: Path) -> None:
    """Others may be in the same commit."""
    journal = await Journal.open(tmp_path / "journal")
    saves = [asyncio.create_task(journal.save(intent(name))) for name in "ab"]
    await asyncio.sleep(0)
    saves[0].cancel()
    results = await asyncio.gather(*saves, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError, type(None)]
    assert [one.reference for one in await journal.intents()] == ["a", "b"]
    await journal.close()


async def test_a_cancelled_close_is_told_so(tmp_path: Path) -> None:
    """After the file was let go of."""
    path = tmp_path / "journal"
    journal = await Journal.open(path)
    journal.put(intent())
    closing = asyncio.create_task(journal.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert ask(path, "SELECT count(*) FROM intents") == [1]
