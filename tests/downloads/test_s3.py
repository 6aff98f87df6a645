"""Downloads through presigned URLs from an S3 server that this project did not write."""

import asyncio
from pathlib import Path

from tests.stress.real_servers import Moto
from tests.stress.servers import interrupt_downloads


def test_files_from_s3_are_complete_although_it_is_killed(tmp_path: Path) -> None:
    """In real time: the server is another process."""
    (tmp_path / "server").mkdir()
    (tmp_path / "out").mkdir()
    sizes = (0, 1, 65_536, 3 << 20)
    result = asyncio.run(
        interrupt_downloads(Moto(tmp_path / "server"), tmp_path / "out", sizes, interruptions=2, valid=3600)
    )
    assert result["whole"] == len(sizes) * result["rounds"]
    assert (result["interruptions"], result["corrupt"], result["error"], result["left"]) == (2, 0, 0, 0)
