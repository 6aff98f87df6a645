"""`jarai forget`, without a server: only what has ended leaves the journal."""

import asyncio
import time
from pathlib import Path

import pytest

from jarai_async._cli.commands import main
from jarai_async._journal.entries import Stage
from jarai_async._journal.journal import SqliteJournal
from tests.cli.helpers import lines
from tests.support.journals import intent

Printed = pytest.CaptureFixture[str]


def test_requests_that_have_ended_are_forgotten(
    tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By reference or by age, and never one that has not ended; --dry-run deletes nothing."""

    async def create() -> None:
        journal = await SqliteJournal.open(Path("batch.db"))
        published = {"state": "published"}
        for name, days in (("old", 40), ("new", 1), ("other", 1)):
            ended = time.time() - days * 86_400
            journal.put(intent(name, stage=Stage.ENDED, outcome=published, ended_at=ended))
        await journal.save(intent("running", stage=Stage.ACCEPTED))
        await journal.close()

    monkeypatch.chdir(tmp_path)
    asyncio.run(create())
    for command, found, left in [
        (["--older-than", "30d", "--dry-run"], ["old"], 4),
        (["--older-than", "30d"], ["old"], 3),
        (["new"], ["new"], 2),
    ]:
        assert main(["forget", "batch.db", *command]) == 0
        assert [line["reference"] for line in lines(capsys.readouterr().out)] == found
        assert main(["journal", "batch.db"]) == 0
        assert len(lines(capsys.readouterr().out)) == left
    for command, problem in [
        (["other", "running"], "'running' has not ended, it is accepted"),
        (["other", "otter"], "the journal has no reference 'otter'"),
        ([], "say what to forget: references, or --older-than, such as 30d"),
    ]:
        assert main(["forget", "batch.db", *command]) == 2
        assert problem in capsys.readouterr().err
    assert main(["forget", "batch.db", "other"]) == 0
