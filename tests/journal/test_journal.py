"""The journal's file: what is written is there, what cannot be trusted is refused before money is spent."""

import asyncio
import contextlib
import sqlite3
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jarai_async import Finished, JaraiClient, JournalError, Orchestrator
from jarai_async._api.codec import body_of
from jarai_async._journal.entries import Intent, Stage
from jarai_async._journal.journal import Journal
from jarai_async.simulator import Simulator, run
from tests.support.scenarios import request_for, requests_for
from tests.support.strategies import ID, request


def intent(reference: str = "mine", **fields: object) -> Intent:
    made = Intent(reference, ID, body_of(request()), f"key of {reference}")
    for name, value in fields.items():
        setattr(made, name, value)
    return made


async def stages(path: Path) -> dict[str, Stage]:
    journal = await Journal.open(path)
    found = {one.reference: one.stage for one in await journal.intents()}
    await journal.close()
    return found


async def test_what_was_saved_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    """All that is known of a request, in the order in which it was planned."""
    journal = await Journal.open(tmp_path / "journal")
    for reference in ("b", "a"):
        await journal.save(intent(reference))
    await journal.save(intent("b", stage=Stage.ACCEPTED, sequence=3, since=12.5, expired=[ID]))
    await journal.close()
    journal = await Journal.open(tmp_path / "journal")
    first, second = await journal.intents()
    assert (first.reference, first.stage, first.sequence, first.since) == ("b", Stage.ACCEPTED, 3, 12.5)
    assert (first.expired, first.body, first.key) == ([ID], body_of(request()), "key of b")
    assert (second.reference, second.stage) == ("a", Stage.PLANNED)
    assert await journal.find("c") is None
    await journal.close()


async def test_what_was_being_sent_is_in_doubt_after_a_restart(tmp_path: Path) -> None:
    """Durably, before anything else: a second crash does not forget it."""
    path = tmp_path / "journal"
    journal = await Journal.open(path)
    for stage in Stage:
        await journal.save(intent(str(stage), stage=stage))
    await journal.close()
    await (await Journal.open(path)).close()
    database = sqlite3.connect(path)
    found = dict(database.execute("SELECT reference, stage FROM intents"))
    database.close()
    assert found == {str(stage): str(stage) for stage in Stage} | {"sending": "in doubt"}


async def test_what_is_put_together_is_written_in_one_commit(tmp_path: Path) -> None:
    """A hundred at once are a few commits, and each is on the disk when its `save` returns."""
    path = tmp_path / "journal"
    journal = await Journal.open(path)
    database, statements = journal._database, list[str]()
    assert database is not None
    database.set_trace_callback(statements.append)
    await asyncio.gather(*(journal.save(intent(str(n))) for n in range(100)))
    database.set_trace_callback(None)
    assert len(await journal.intents()) == 100
    assert statements.count("COMMIT") <= 2
    await journal.close()


async def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    """It holds topics: only its owner may read it, its write-ahead log included."""
    journal = await Journal.open(tmp_path / "journal")
    await journal.save(intent())
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes
    assert set(modes.values()) == {0o600}
    await journal.close()


async def test_a_second_one_on_the_same_file_is_refused(tmp_path: Path) -> None:
    """With one clear error, and the first goes on."""
    path = tmp_path / "journal"
    journal = await Journal.open(path)
    with pytest.raises(JournalError, match="another process has it open"):
        await Journal.open(path)
    await journal.save(intent())
    await journal.close()
    assert await stages(path) == {"mine": Stage.PLANNED}


def _sqlite(path: Path, *statements: str) -> None:
    database = sqlite3.connect(path)
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()


async def test_what_is_no_journal_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    """Text, another program's database, a folder, a newer version, a place that is not there."""
    text, other, newer = (tmp_path / name for name in ("text", "other", "newer"))
    text.write_text("topic,account_id\n" * 100)
    _sqlite(other, "CREATE TABLE theirs (x)")
    await (await Journal.open(newer)).close()
    _sqlite(newer, "PRAGMA user_version = 2")
    reasons = {
        text: "it is no journal",
        other: "the database of another program",
        newer: "written by a newer version",
        tmp_path: "Is a directory",
        tmp_path / "nowhere" / "journal": "No such file or directory",
    }
    for path, reason in reasons.items():
        before = path.read_bytes() if path.is_file() else b""
        with pytest.raises(JournalError, match=reason):
            await Journal.open(path)
        assert (path.read_bytes() if path.is_file() else b"") == before


async def test_an_entry_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Hostile until checked: each column."""
    path = tmp_path / "journal"
    for column, value in {"account_id": "'../x'", "stage": "'sold'", "kept": "'[]'"}.items():
        journal = await Journal.open(path)
        await journal.save(intent())
        await journal.close()
        _sqlite(path, f"UPDATE intents SET {column} = {value}")  # noqa: S608  # ours
        journal = await Journal.open(path)
        with pytest.raises(JournalError, match="the journal's entry for 'mine'"):
            await journal.find("mine")
        await journal.close()
    with pytest.raises(JournalError, match="the journal's entry for 'mine'"):
        intent(body=b"{").request()


async def test_a_full_disk_is_one_clear_error_and_nothing_is_written(tmp_path: Path) -> None:
    """And once there is room again, writing goes on."""
    path = tmp_path / "journal"
    journal = await Journal.open(path)
    database = journal._database
    assert database is not None
    await journal._run(lambda: database.execute("PRAGMA max_page_count = 1"))
    with pytest.raises(JournalError, match="full"):
        for n in range(100):
            await journal.save(intent(f"{n}"))
    kept = len(await journal.intents())
    await journal._run(lambda: database.execute("PRAGMA max_page_count = 1000"))
    await journal.save(intent("late"))
    assert [one.reference for one in await journal.intents()][kept:] == ["late"]
    await journal.close()


async def test_what_is_learned_is_remembered(tmp_path: Path) -> None:
    """As plain data; and what is no data at all is refused."""
    path = tmp_path / "journal"
    journal = await Journal.open(path)
    journal.store("learned", {"ages": [1.5]})
    await journal.close()
    journal = await Journal.open(path)
    assert await journal.load("learned") == {"ages": [1.5]}
    assert await journal.load("spent") is None
    await journal.close()
    _sqlite(path, "UPDATE facts SET value = '{'")
    journal = await Journal.open(path)
    with pytest.raises(JournalError, match="damaged"):
        await journal.load("learned")
    await journal.close()


async def test_closing_writes_what_is_pending_and_twice_is_once(tmp_path: Path) -> None:
    """Nothing waits for a `put`, but it is not lost; after the end nothing is written."""
    path = tmp_path / "journal"
    journal = await Journal.open(path)
    journal.put(intent("last"))
    await journal.close()
    await journal.close()
    journal.put(intent("too late"))
    with pytest.raises(JournalError, match="closed"):
        await journal.save(intent("too late"))
    assert await stages(path) == {"last": Stage.PLANNED}


@pytest.fixture(scope="module")
def twenty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of twenty productions."""
    path = tmp_path_factory.mktemp("whole") / "journal"

    async def write() -> None:
        journal = await Journal.open(path)
        for n in range(20):
            await journal.save(intent(f"item {n}", stage=Stage.ACCEPTED, sequence=n))
        await journal.close()

    run(write())
    return path


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 1_000_000), st.integers(1, 255)), min_size=1, max_size=3))
def test_a_damaged_file_is_an_error_or_right_but_never_a_fresh_start(
    tmp_path_factory: pytest.TempPathFactory, twenty: Path, flips: list[tuple[int, int]]
) -> None:
    """Whatever byte is flipped: all twenty are there, or it is said that they are not."""
    path, content = tmp_path_factory.mktemp("damaged") / "journal", bytearray(twenty.read_bytes())
    for at, bits in flips:
        content[at % len(content)] ^= bits
    path.write_bytes(content)

    async def count() -> int:
        journal = await Journal.open(path)
        try:
            return len(await journal.intents())
        finally:
            await journal.close()

    with contextlib.suppress(JournalError):
        assert run(count()) == 20


async def test_without_room_nothing_is_submitted(
    tmp_path: Path, simulator: Simulator, client: JaraiClient
) -> None:
    """The intent comes first: where it cannot be written down, nothing is sent and nothing paid for."""
    requests = requests_for(simulator, 3)
    async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
        journal = orchestrator.context.journal
        database = journal._database
        assert database is not None
        await journal._run(lambda: database.execute("PRAGMA query_only = ON"))
        outcomes = [await orchestrator.submit(one) for one in requests]
        await journal._run(lambda: database.execute("PRAGMA query_only = OFF"))
    assert {outcome.state for outcome in outcomes} == {"rejected"}
    assert all(isinstance(outcome.error, JournalError) for outcome in outcomes)
    assert not simulator.productions


async def test_a_reference_that_cannot_be_kept_is_rejected(
    tmp_path: Path, simulator: Simulator, client: JaraiClient
) -> None:
    """Before it is paid for, and the others go on."""
    requests = [*requests_for(simulator, 2), request_for(simulator, reference="x\ud800")]
    async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
        events = [event async for event in orchestrator.run(requests)]
    ends = {event.reference: event.outcome.state for event in events if isinstance(event, Finished)}
    assert ends == {"item-0": "published", "item-1": "published", "x\ud800": "rejected"}
    assert len(simulator.productions) == 2
