"""`jarai plan` as a user has it: a batch in, a table or one JSON line out, without a key or a network."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jarai_async._cli.commands import main

IDS = dict.fromkeys(
    ("account_id", "language_id", "country_id", "avatar_id"), "11111111-1111-4111-8111-111111111111"
)


def batch(folder: Path, number: int) -> str:
    path = folder / "batch.jsonl"
    path.write_text("\n".join(json.dumps({"topic": f"topic {n}"} | IDS) for n in range(number)))
    return str(path)


@pytest.fixture
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JARAI_API_KEY", raising=False)
    monkeypatch.setenv("JARAI_BASE_URL", "not a URL")


def planned(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["plan", *arguments]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    plan: dict[str, Any] = json.loads(printed.out)
    return plan


@pytest.mark.usefixtures("_no_key")
def test_a_program_reads_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of the plan as JSON values."""
    plan = planned([batch(tmp_path, 45), "--tier", "standard"], capsys)
    assert plan["productions"] == plan["recommendedConcurrency"] == plan["concurrency"] == 45
    assert (plan["tier"], plan["days"]) == ("standard", 3)
    assert plan["warnings"] == ["needs 3 days: 20 productions a day for one account, 2,000 requests a day"]
    assert 24 * 3600 < plan["expectedSeconds"] < 72 * 3600
    assert plan["requests"] > 45 * 3
    assert 2.5 < plan["meanLagSeconds"] < 15
    assert "documented phase times" in plan["durations"]


@pytest.mark.usefixtures("_no_key")
def test_a_given_concurrency_is_planned_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Few at a time take longer, and less is missed."""
    path = batch(tmp_path, 60)
    few = planned([path, "--tier", "enterprise", "--concurrency", "5"], capsys)
    many = planned([path, "--tier", "enterprise"], capsys)
    assert (few["concurrency"], few["recommendedConcurrency"]) == (5, 60)
    assert few["expectedSeconds"] > 2 * many["expectedSeconds"]
    assert few["meanLagSeconds"] < many["meanLagSeconds"]


def test_a_bad_batch_is_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The faults that `jarai run` would name; identifiers may come with the command as they may there."""
    path = tmp_path / "batch.csv"
    path.write_text("topic\nfine\n")
    assert main(["plan", str(path), "--tier", "free"]) == 2
    assert "line 2: account_id is missing" in capsys.readouterr().err
    ids = [f"--{name.replace('_', '-')}={value}" for name, value in IDS.items()]
    assert planned([str(path), "--tier", "free", *ids], capsys)["productions"] == 1
    assert main(["plan", "no-such-file.csv", "--tier", "free"]) == 2


@pytest.mark.parametrize("wrong", [[], ["--tier", "gold"], ["--tier", "free", "--concurrency", "0"]])
def test_arguments_that_make_no_sense_are_two(wrong: list[str]) -> None:
    """The tier is needed, and there is at least one place."""
    with pytest.raises(SystemExit) as left:
        main(["plan", "batch.csv", *wrong])
    assert left.value.code == 2


@pytest.mark.parametrize(
    ("tier", "says"),
    [
        (
            "standard",
            ["concurrency      45, recommended: the most", "warning          needs 3 days", " d "],
        ),
        ("enterprise", ["expected finish  1 h ", "mean lag         ", "(durations are those of the docu"]),
    ],
)
def test_a_person_reads_a_table(tier: str, says: list[str], tmp_path: Path) -> None:
    """One row for each figure, the warnings, and where the durations come from."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "jarai_async", "plan", batch(tmp_path, 45), "--tier", tier]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs) as process:
        assert process.wait() == 0
        os.close(theirs)
        printed = os.read(ours, 65_536).decode()
    os.close(ours)
    for text in says:
        assert text in printed
    assert "{" not in printed
