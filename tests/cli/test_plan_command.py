"""`jarai plan`: a batch in, a table or one JSON line out, without an API key or a network."""

from pathlib import Path
from typing import Any

import pytest

from jarai_async._cli.batch_file import ID_FIELDS
from jarai_async._cli.commands import main
from tests.cli.helpers import JARAI, id_options, lines, terminal_output, write_batch

IDS = dict.fromkeys(ID_FIELDS, "11111111-1111-4111-8111-111111111111")


@pytest.fixture
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JARAI_API_KEY", raising=False)
    monkeypatch.setenv("JARAI_BASE_URL", "not a URL")


def plan(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["plan", *arguments]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    (line,) = lines(printed.out)
    return line


@pytest.mark.usefixtures("_no_key")
def test_plan_is_printed_as_one_json_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If standard output is no terminal, a program can read the complete plan."""
    planned = plan([write_batch(tmp_path, 45, **IDS), "--tier", "standard"], capsys)
    assert planned["productions"] == planned["recommendedConcurrency"] == planned["concurrency"] == 45
    assert (planned["tier"], planned["days"]) == ("standard", 3)
    assert planned["warnings"] == ["needs 3 days: 20 productions a day for one account, 2,000 requests a day"]
    assert 24 * 3600 < planned["expectedSeconds"] < 72 * 3600
    assert planned["requests"] > 45 * 3
    assert 2.5 < planned["meanLagSeconds"] < 15
    assert "documented phase times" in planned["durations"]


@pytest.mark.usefixtures("_no_key")
def test_plan_uses_the_given_concurrency(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A low concurrency takes longer, and has a shorter lag."""
    path = write_batch(tmp_path, 60, **IDS)
    few = plan([path, "--tier", "enterprise", "--concurrency", "5"], capsys)
    many = plan([path, "--tier", "enterprise"], capsys)
    assert (few["concurrency"], few["recommendedConcurrency"]) == (5, 60)
    assert few["expectedSeconds"] > 2 * many["expectedSeconds"]
    assert few["meanLagSeconds"] < many["meanLagSeconds"]


def test_plan_of_an_invalid_batch_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It reports the same problems as `jarai run`, and takes the same options for identifiers."""
    path = tmp_path / "batch.csv"
    path.write_text("topic\nfine\n")
    assert main(["plan", str(path), "--tier", "free"]) == 2
    assert "line 2: account_id is missing" in capsys.readouterr().err
    assert plan([str(path), "--tier", "free", *id_options(IDS)], capsys)["productions"] == 1
    assert main(["plan", "no-such-file.csv", "--tier", "free"]) == 2


@pytest.mark.parametrize("wrong", [[], ["--tier", "gold"], ["--tier", "free", "--concurrency", "0"]])
def test_invalid_arguments_exit_with_2(wrong: list[str]) -> None:
    """The tier is required, and the concurrency is at least 1."""
    with pytest.raises(SystemExit) as caught:
        main(["plan", "batch.csv", *wrong])
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("tier", "expected"),
    [
        (
            "standard",
            ["concurrency      45, recommended: the largest", "warning          needs 3 days", " d "],
        ),
        ("enterprise", ["expected finish  1 h ", "mean lag         ", "(based on the documented phase t"]),
    ],
)
def test_plan_is_a_table_on_a_terminal(tier: str, expected: list[str], tmp_path: Path) -> None:
    """It has one row for each figure, the warnings, and the source of the durations."""
    printed = terminal_output([*JARAI, "plan", write_batch(tmp_path, 45, **IDS), "--tier", tier], tmp_path)
    for text in expected:
        assert text in printed
    assert "{" not in printed
    narrow = terminal_output(
        [*JARAI, "plan", write_batch(tmp_path, 45, **IDS), "--tier", tier], tmp_path, columns=50
    )
    assert narrow.split() == printed.split()  # lines break between words
    assert max(map(len, narrow.splitlines())) <= 50
