"""A journal has one owner at a time: one open journal in one process, by whatever path it is opened."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from jarai_async import JournalError
from jarai_async._journal.entries import Stage
from jarai_async._journal.file_lock import FileLock
from jarai_async._journal.journal import SqliteJournal
from tests.support.journals import intent

IN_USE = "it is open already, in this process or another"
PROGRAM = """
import asyncio, os, sys, time
from pathlib import Path
from jarai_async import JournalError
from jarai_async._journal.journal import SqliteJournal

async def use(path):
    try:
        journal = await SqliteJournal.open(path)
    except JournalError as error:
        print(error.message, flush=True)
        return
    if "fork" in sys.argv and os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    print("opened", [intent.reference for intent in await journal.intents()], flush=True)
    if "keep" in sys.argv:
        sys.stdin.read()
    await journal.close()

for line in sys.stdin:
    asyncio.run(use(Path(line.rstrip())))
"""


class OtherProcess:
    """A process that opens and closes journals. With "keep" it does not close them; with "fork" it forks."""

    def __init__(self, *options: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PROGRAM, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            process_group=0,
        )

    def open(self, path: Path) -> str:
        """Open a journal, and return what the process says."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{path}\n")
        return self._process.stdout.readline().strip()

    def kill(self) -> None:
        """Kill the process, but not its children."""
        self._process.kill()
        self._process.wait(timeout=60)

    def close(self) -> None:
        """End the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module")
def other() -> Iterator[OtherProcess]:
    """A process that opens a journal and closes it again."""
    process = OtherProcess()
    yield process
    process.close()


async def open_again(path: Path) -> None:
    with pytest.raises(JournalError, match=IN_USE):
        await SqliteJournal.open(path)


async def open_by_symbolic_link(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    await open_again(link)


async def open_by_hard_link(path: Path) -> None:
    link = path.with_name("link")
    link.hardlink_to(path)
    await open_again(link)


async def open_by_relative_path(path: Path) -> None:
    await open_again(Path(os.path.relpath(path)))


async def copy(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))


async def open_and_close(path: Path) -> None:
    path.open("rb").close()


async def fork(path: Path) -> None:
    """A child that ends closes all its descriptors."""
    del path
    assert exit_code_of_child(lambda: 0) == 0


def exit_code_of_child(work: Callable[[], int]) -> int:
    """Fork, let the child do some work, and return its result."""
    if (child := os.fork()) == 0:
        os._exit(work())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


ACTIONS = (
    open_again,
    open_by_symbolic_link,
    open_by_hard_link,
    open_by_relative_path,
    copy,
    open_and_close,
    fork,
)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_lock_outlasts_opens_copies_and_closes_in_the_same_process(
    tmp_path: Path, other: OtherProcess, action: Callable[[Path], Awaitable[None]]
) -> None:
    """POSIX locks, which SQLite uses, end when any descriptor of the file is closed."""
    path = tmp_path / "journal"
    journal = await SqliteJournal.open(path)
    await journal.save(intent())
    await action(path)
    assert IN_USE in other.open(path)
    for link in tmp_path.glob("link"):
        assert IN_USE in other.open(link)
    await journal.save(intent(stage=Stage.SENDING))
    await journal.close()
    assert other.open(path) == "opened ['mine']"


async def test_other_sqlite_programs_are_locked_out(tmp_path: Path) -> None:
    """They respect the same bytes of the file, also after it was copied in the owner's process."""
    path = tmp_path / "journal"
    journal = await SqliteJournal.open(path)
    await copy(path)
    database = sqlite3.connect(path, timeout=0)
    with pytest.raises(sqlite3.OperationalError, match="database is locked"):
        database.execute("SELECT count(*) FROM intents")
    database.close()
    await journal.close()


@pytest.mark.parametrize("options", [["keep"], ["keep", "fork"]])
def test_killed_owner_leaves_no_lock(tmp_path: Path, other: OtherProcess, options: list[str]) -> None:
    """Also where a forked child of it lives on."""
    path = tmp_path / "journal"
    owner = OtherProcess(*options)
    assert owner.open(path) == "opened []"
    assert IN_USE in other.open(path)
    owner.kill()
    assert other.open(path) == "opened []"
    owner.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_forked_child_cannot_use_the_journal_of_its_parent(tmp_path: Path) -> None:
    """The parent keeps the lock: the child is refused like any other process."""
    path = tmp_path / "journal"
    journal = await SqliteJournal.open(path)

    def is_refused() -> int:
        with pytest.raises(JournalError, match=IN_USE):
            FileLock(path, create=False)
        return 42

    assert exit_code_of_child(is_refused) == 42
    await journal.close()


def test_closing_a_lock_again_does_nothing(tmp_path: Path) -> None:
    """A forked child closes all of its parent's locks, also those that were closed before."""
    for _ in range(2):
        lock = FileLock(tmp_path / "journal", create=True)
        lock.close()
        lock.close()
