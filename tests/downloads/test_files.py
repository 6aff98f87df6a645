"""The door to the disk: parts that are gone on with, and parts that nobody will go on with."""

import hashlib
import os
from pathlib import Path

import pytest

from jarai_async import FileWriteError
from jarai_async._downloads.files import PartialFile, write_text


def test_a_part_of_a_process_that_died_is_swept_away_and_no_other(tmp_path: Path) -> None:
    """One to which something was added within a day may be in use; what else is in the folder is not ours."""
    for name, age in ((".jarai-dead.part", 90_000), (".jarai-slow.part", 80_000), ("other.part", 90_000)):
        (tmp_path / name).write_bytes(b"half")
        moment = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (moment, moment))
    part = PartialFile(tmp_path / "one")
    part.open()
    part.close()
    assert {path.name for path in tmp_path.iterdir()} >= {".jarai-slow.part", "other.part"}
    assert not (tmp_path / ".jarai-dead.part").exists()


def test_a_part_is_gone_on_with_or_begun_anew(tmp_path: Path) -> None:
    """Whether it is open or not; what becomes the file is what was written since."""
    part = PartialFile(tmp_path / "one")
    part.write(b"gone")
    part.abandon()
    assert list(tmp_path.iterdir()) == []
    part.write(b"half")
    part.close()
    part.write(b" and half")
    assert part.md5 == hashlib.md5(b"half and half", usedforsecurity=False).digest()
    part.finish()
    part.abandon()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"one": b"half and half"}


def test_a_part_that_was_never_opened_leaves_what_is_there(tmp_path: Path) -> None:
    """To abandon it does nothing."""
    (tmp_path / "one").write_bytes(b"old")
    PartialFile(tmp_path / "one").abandon()
    assert (tmp_path / "one").read_bytes() == b"old"


async def test_a_text_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """And what is in the way is named."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"")
    with pytest.raises(FileWriteError, match="folder"):
        await write_text(tmp_path / "folder", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
