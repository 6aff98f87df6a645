"""Partial files: appended to, renamed to their target, discarded, and removed after a crash."""

import asyncio
import errno
import hashlib
import os
import resource
import socket
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import evolve

from jarai_async import Deliverable, FileWriteError, JaraiClient, SavedFile
from jarai_async._downloads.files import Disk, PartialFile, is_whole


def test_partial_file_of_a_crashed_process_is_removed_after_a_day(tmp_path: Path) -> None:
    """A file that changed within a day may be in use, and other names are not ours."""
    for name, age in ((".jarai-dead.part", 90_000), (".jarai-slow.part", 80_000), ("other.part", 90_000)):
        (tmp_path / name).write_bytes(b"half")
        modified = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (modified, modified))
    partial_file = PartialFile(tmp_path / "target", Disk())
    partial_file.open()
    partial_file.close()
    assert {path.name for path in tmp_path.iterdir()} >= {".jarai-slow.part", "other.part"}
    assert not (tmp_path / ".jarai-dead.part").exists()


def test_partial_file_can_be_discarded_and_written_again(tmp_path: Path) -> None:
    """The target contains only the bytes written since, also if the file was closed in between."""
    partial_file = PartialFile(tmp_path / "target", Disk())
    partial_file.write([b"discarded"])
    partial_file.discard()
    assert list(tmp_path.iterdir()) == []
    partial_file.hash_with({"sha256"})
    partial_file.write([b"half"])
    partial_file.close()
    partial_file.write([b" and ", b"half"])
    names = ("sha256", "sha1")  # the second is computed from the file
    expected = {name: hashlib.new(name, b"half and half").digest() for name in names}
    assert partial_file.digests(names) == expected
    partial_file.finish()
    partial_file.discard()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"target": b"half and half"}


def test_discarding_an_unopened_partial_file_keeps_the_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    PartialFile(tmp_path / "target", Disk()).discard()
    assert (tmp_path / "target").read_bytes() == b"old"


@pytest.mark.parametrize("hours", [0.9, 1.1])
def test_folder_is_searched_for_abandoned_files_once_an_hour(tmp_path: Path, hours: float) -> None:
    """It may have thousands of files."""
    disk = Disk()
    disk.remove_abandoned_files(tmp_path, now=0.0)
    (tmp_path / ".jarai-dead.part").write_bytes(b"half")
    os.utime(tmp_path / ".jarai-dead.part", (-90_000, -90_000))
    disk.remove_abandoned_files(tmp_path, now=hours * 3600)
    assert (tmp_path / ".jarai-dead.part").exists() == (hours < 1)


async def test_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    """The error names the path that is in the way."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"")
    with pytest.raises(FileWriteError, match="folder"):
        await Disk().write_text(tmp_path / "folder", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


async def test_content_is_on_the_disk_before_the_rename_and_the_rename_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut the target has its old or its new content, and never less."""
    synced: list[tuple[bool, int, bool]] = []

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        is_folder = stat.S_ISDIR(status.st_mode)
        synced.append((is_folder, 0 if is_folder else status.st_size, (tmp_path / "target").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    await Disk().write_text(tmp_path / "target", "text")
    assert synced == [(False, 4, False), (True, 0, True)]


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "link to a device"])
def test_only_a_file_is_replaced(tmp_path: Path, kind: str) -> None:
    """A pipe, a socket, a folder and a device stay, also behind a symbolic link."""
    target = tmp_path / "target"
    if kind == "pipe":
        os.mkfifo(target)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(target))
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to("/dev/null")
    before = target.lstat()
    with pytest.raises(FileExistsError):
        PartialFile(target, Disk()).open()
    assert target.lstat() == before
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


async def test_path_that_no_file_can_have_raises_file_write_error(tmp_path: Path) -> None:
    with pytest.raises(FileWriteError, match="null"):
        await Disk().write_text(tmp_path / "a\0b", "text")


async def test_folder_that_cannot_be_synced_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The file itself is durable, and in its place."""
    sync = os.fsync

    def only_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    await Disk().write_text(tmp_path / "target", "text")
    assert (tmp_path / "target").read_text() == "text"
    assert "could not be synced" in caplog.text


def test_saved_file_is_whole_until_its_bytes_change(tmp_path: Path) -> None:
    """If only its modification time differs, its MD5 decides; a missing or changed file is not whole."""
    path = tmp_path / "a"
    partial_file = PartialFile(path, Disk())
    partial_file.hash_with({"md5"})
    partial_file.write([b"tides"])
    md5 = partial_file.digests({"md5"})["md5"].hex()
    saved = SavedFile(
        deliverable=Deliverable("Video"), size=5, md5=md5, modified=partial_file.finish(), verified_by="md5"
    )
    assert is_whole(path, saved)
    os.utime(path, ns=(0, 0))
    assert is_whole(path, saved)
    assert not is_whole(path, evolve(saved, md5=None))
    path.write_bytes(b"other")
    assert not is_whole(path, saved)
    path.write_bytes(b"tide")
    os.utime(path, ns=(saved.modified, saved.modified))
    assert not is_whole(path, saved)
    path.unlink()
    assert not is_whole(path, saved)
    assert not is_whole(tmp_path / "a\0b", saved)


async def test_download_does_not_wait_for_the_default_executor(
    client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """The application may keep every thread of the event loop busy."""
    await client.download(video, tmp_path / "first")
    threads, release = ThreadPoolExecutor(1), threading.Event()
    asyncio.get_running_loop().set_default_executor(threads)
    busy = threads.submit(release.wait, 10)
    path = await client.download(video, tmp_path / "second")
    assert path.stat().st_size == video.size
    assert not busy.done()
    release.set()


async def test_host_names_are_looked_up_while_the_disk_is_frozen() -> None:
    """A limited number of threads wait for the disk, and they are not those of the event loop."""
    others, disk, release = set(threading.enumerate()), Disk(), threading.Event()
    frozen = [asyncio.create_task(disk.run(lambda: release.wait(10))) for _ in range(100)]
    await asyncio.sleep(0)
    assert await asyncio.get_running_loop().getaddrinfo("localhost", 80)
    new = set(threading.enumerate()) - others
    waiting = [thread for thread in new if thread.name.startswith("jarai disk")]
    release.set()
    assert len(waiting) == 8
    assert await asyncio.gather(*frozen) == [True] * 100
    disk.close()
    assert await disk.run(lambda: "a cancelled download cleans up after the client was closed")
    disk.close()
    for thread in waiting:
        thread.join(10)
        assert not thread.is_alive()


async def test_file_is_written_once_fewer_files_are_open(tmp_path: Path) -> None:
    """For three seconds the process has no file descriptor left."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    asyncio.get_running_loop().call_later(3, resource.setrlimit, resource.RLIMIT_NOFILE, before)
    try:
        await Disk().write_text(tmp_path / "target", "text")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert (tmp_path / "target").read_text() == "text"


async def test_process_that_stays_without_file_descriptors_gets_an_error(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(FileWriteError, match=r"(?i)too many open files"):
            await Disk().write_text(tmp_path / "target", "text")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
