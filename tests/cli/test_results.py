"""Results of commands: tables on a terminal, JSON lines in a pipe or with --json."""

import asyncio
import sys
from argparse import Namespace
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from jarai_async import JaraiClient
from jarai_async._cli.batch_file import ID_FIELDS
from jarai_async._cli.commands import main
from jarai_async._cli.results import shown_results
from jarai_async._cli.streams import BackgroundStream
from tests.cli.helpers import lines, on_screen, run_command
from tests.support.strategies import request as make_request

URL = "https://example.org/jarai"
Printed = pytest.CaptureFixture[str]
UNKNOWN = "55555555-5555-4555-8555-555555555555"


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def printed(command: list[str], code: int = 0) -> str:
    """Run a command, and return what it prints on a terminal of 100 columns."""
    with redirect_stdout(terminal := Terminal()):
        assert main(command) == code
    return terminal.getvalue()


def table(command: list[str], code: int = 0) -> list[str]:
    return on_screen(printed(command, code), columns=100)


def test_terminal_shows_tables(
    served: dict[str, str], tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With headings, for each command that lists something; columns without any value are left out.

    The list of files has no signed URLs, which only JSON lines have.
    """
    heading, first, *others = table(["accounts"])
    assert heading.split() == ["account", "name", "avatars"]
    assert first.split() == [served["account_id"], "Account", "1", served["avatar_id"]]
    (account,) = lines(printed(["accounts", "--json"]))
    assert account["avatars"][1:] == [line.strip() for line in others]

    async def submit() -> str:
        async with JaraiClient() as client:
            request = make_request(**{name: served[name] for name in ID_FIELDS})
            return (await client.submit(request)).id

    id_ = asyncio.run(submit())
    capsys.readouterr()
    assert main(["webhooks", "list"]) == 0
    assert capsys.readouterr() == ("", "jarai: there are no webhooks\n")
    assert table(["status", id_, UNKNOWN], code=1)[0].split() == ["production", "status"]
    assert table(["cancel", id_])[1].split() == [id_, "Cancelled"]
    printed(["webhooks", "create", URL, "production.failed", "production.published"])
    heading, first, second = table(["webhooks", "list"])
    assert heading.split() == ["webhook", "endpoint", "events"]
    assert first.split()[1:] == [URL, "production.failed"]
    assert second.split() == ["production.published"]

    monkeypatch.chdir(tmp_path)
    main(run_command(served, tmp_path, 2, "--download-to=files")[3:])
    journal = str(tmp_path / "batch.jsonl.journal")
    heading, *rows = table(["journal", journal])
    assert heading.split()[:2] == ["reference", "state"]
    assert {row.split()[0] for row in rows} == {"item-0", "item-1"}
    ended = lines(printed(["journal", journal, "--json"]))
    assert "reason" not in ended[0]
    for id_ in [line["productionId"] for line in ended if line["outcome"] == "published"]:
        heading, *rows = table(["deliverables", id_])
        assert heading.split() == ["type", "platform", "bytes"]
        assert "sig=" not in "".join(rows)


async def test_table_wraps_long_texts_and_no_identifiers(monkeypatch: pytest.MonkeyPatch) -> None:
    """On 60 columns; a text from outside is neither markup nor an escape sequence."""
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout", terminal := Terminal())
    reason = "[/bold]\x1b " + "word " * 20
    lines_ = [{"productionId": UNKNOWN, "files": n} for n in range(2)]
    columns = {"production": ("productionId",), "reason": ("reason",), "files": ("files",), "none": ("x",)}
    async with shown_results(columns, Namespace(json=False)) as show:
        for line in lines_:
            await show(line, reason=reason)
    assert "\x1b " not in terminal.getvalue()
    heading, first, *others = on_screen(terminal.getvalue(), columns=60)
    assert heading.split() == ["production", "reason", "files"]
    assert first.startswith(f"{UNKNOWN}  [/bold]\\x1b")
    assert len(others) > 4
    assert sum(UNKNOWN in line for line in others) == 1


async def test_tables_need_rich(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    """Without it a message says how to install it, and the results are JSON lines."""
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.delitem(sys.modules, "jarai_async._cli.table", raising=False)
    monkeypatch.setattr("sys.stdout", BackgroundStream(terminal := Terminal()))
    async with shown_results({"files": ("files",)}, Namespace(json=False)) as show:
        await show({"files": 1})
    assert terminal.getvalue() == '{"files": 1}\n'
    assert (
        "no table, because rich is not installed: pip install 'jarai-async[cli]'" in capsys.readouterr().err
    )
