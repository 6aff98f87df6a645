"""`jarai report` from the outside."""

import asyncio
import json
from pathlib import Path

import pytest

from jarai_async._cli.commands import main
from jarai_async._journal.journal import SqliteJournal
from tests.support.journals import intent

Printed = pytest.CaptureFixture[str]


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A journal with one request, which was not submitted."""

    async def create() -> None:
        journal = await SqliteJournal.open(Path("batch.db"))
        await journal.save(intent("mine"))
        await journal.close()

    monkeypatch.chdir(tmp_path)
    asyncio.run(create())
    return "batch.db"


def test_report_is_written_beside_the_journal(journal: str, capsys: Printed) -> None:
    """And named on standard error, with its size; no API key is needed."""
    assert main(["report", journal]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("jarai: wrote batch.db.html (")
    assert printed.out == ""
    assert "not submitted" in Path("batch.db.html").read_text(encoding="utf-8")


def test_report_is_written_in_every_form_that_is_asked_for(journal: str, capsys: Printed) -> None:
    """Under the names that the options give."""
    Path("out").mkdir()
    assert (
        main(["report", journal, "--output", "out/a.html", "--csv", "out/a.csv", "--json", "out/a.json"]) == 0
    )
    assert [line.split()[2] for line in capsys.readouterr().err.splitlines()] == [
        "out/a.html",
        "out/a.csv",
        "out/a.json",
    ]
    (row,) = json.loads(Path("out/a.json").read_bytes())["productions"]
    assert (row["reference"], row["state"]) == ("mine", "not_submitted")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.db"], "none.db"),
        (["batch.db", "--output", "batch.db"], "batch.db cannot be written: it is the journal"),
        (["batch.db", "--output", "no-folder/a.html"], "no-folder"),
    ],
)
def test_report_that_cannot_be_written_exits_with_2(
    arguments: list[str], message: str, journal: str, capsys: Printed
) -> None:
    """In one line, and nothing is written."""
    assert main(["report", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert [path.name for path in Path().iterdir()] == [journal]
