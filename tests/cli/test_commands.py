"""The command line as a user has it: arguments in, lines and an exit code out."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jarai_async._cli.commands import main

IDS = {
    "account_id": "11111111-1111-4111-8111-111111111111",
    "language_id": "22222222-2222-4222-8222-222222222222",
    "country_id": "33333333-3333-4333-8333-333333333333",
    "avatar_id": "44444444-4444-4444-8444-444444444444",
}


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def batch(folder: Path, count: int) -> str:
    """Write a batch that leaves its identifiers to the command."""
    path = folder / "batch.jsonl"
    rows = [{"topic": f"topic {n}", "reference": f"item-{n}"} for n in range(count)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def test_a_batch_is_run_against_the_simulator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON lines for a program, a last line for a person, a folder for each published production."""
    files = tmp_path / "files"
    code = main(["run", batch(tmp_path, 25), "--simulate", "--seed", "5", "--download-to", str(files)])
    printed = capsys.readouterr()
    *events, summary = lines(printed.out)
    ends = [event["outcome"] for event in events if event["event"] == "Finished"]
    published, failed = ends.count("published"), ends.count("failed")
    line = f"25 submitted, 25 finished: {published} published, {failed} failed, 0 rejected, 0 lost"
    assert summary["summary"].startswith(line)
    assert printed.err.splitlines()[-1] == f"{line}; files in {files}"
    assert len(list(files.glob("*/manifest.json"))) == published
    assert code == (0 if published == 25 else 1)
    assert {event["reference"] for event in events} == {f"item-{n}" for n in range(25)}


def test_all_published_is_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0 means that nothing is left to do."""
    code = main(["run", batch(tmp_path, 1), "--simulate", "--download-to", str(tmp_path / "files")])
    assert "1 published" in capsys.readouterr().err
    assert code == 0


def test_every_bad_line_is_named_before_anything_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and a number for each fault."""
    path = tmp_path / "batch.csv"
    path.write_text("topic,account_id\nfine,\n,x\ntoo,many,cells\n")
    assert main(["run", str(path), "--simulate"]) == 2
    error = capsys.readouterr().err
    assert "line 3" in error
    assert "line 4" in error
    assert "line 2" not in error


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "no-such-file.jsonl", "--simulate"], "no-such-file.jsonl"),
        (["run", "batch.jsonl"], "no API key"),
        (["status", "11111111-1111-4111-8111-111111111111"], "no API key"),
        (["accounts"], "no API key"),
    ],
)
def test_what_is_set_up_wrongly_is_two(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One clear line, and nothing was sent."""
    monkeypatch.delenv("JARAI_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("batch.jsonl").write_text(json.dumps({"topic": "x"} | IDS))
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


def test_a_batch_that_is_not_text_is_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of another kind is named as such."""
    path = tmp_path / "batch.jsonl"
    path.write_bytes(b"\xff\xfe\x00")
    assert main(["run", str(path), "--simulate"]) == 2
    assert "UTF-8" in capsys.readouterr().err


def test_unknown_arguments_are_two(capsys: pytest.CaptureFixture[str]) -> None:
    """As argparse has it."""
    with pytest.raises(SystemExit) as left:
        main(["run"])
    assert left.value.code == 2
    assert "BATCH" in capsys.readouterr().err.upper()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """`jarai simulate` in a process of its own, with its settings in the environment."""
    command = [sys.executable, "-m", "jarai_async", "simulate", "--port", "0", "--speed", "600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        settings: dict[str, str] = json.loads(process.stdout.readline())
        monkeypatch.setenv("JARAI_API_KEY", settings["JARAI_API_KEY"])
        monkeypatch.setenv("JARAI_BASE_URL", settings["JARAI_BASE_URL"])
        yield settings
        process.send_signal(signal.SIGTERM)
        process.communicate()
        assert process.returncode == 0


def test_the_commands_work_against_any_server(
    served: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another process, real time made faster for both: run, status, deliverables, cancel, accounts."""
    assert main(["accounts"]) == 0
    (account,) = lines(capsys.readouterr().out)
    assert account["accountId"] == served["account_id"]

    ids = [f"--{name.replace('_', '-')}={served[name]}" for name in IDS]
    files = str(tmp_path / "files")
    code = main(["run", batch(tmp_path, 2), "--speed", "600", "--download-to", files, *ids])
    *events, summary = lines(capsys.readouterr().out)
    assert "2 submitted, 2 finished" in summary["summary"]
    published = [event["productionId"] for event in events if event.get("outcome") == "published"]
    assert code == (0 if len(published) == 2 else 1)

    assert main(["status", *published]) == 0
    assert {line["status"] for line in lines(capsys.readouterr().out)} == {"Published"}
    assert main(["deliverables", published[0]]) == 0
    assert "sig=" in lines(capsys.readouterr().out)[0]["url"]
    assert main(["deliverables", published[0], "--download-to", str(tmp_path / "one")]) == 0
    fetched = [Path(line["path"]) for line in lines(capsys.readouterr().out)]
    assert all(path.stat().st_size for path in fetched)
    assert main(["cancel", published[0]]) == 0
    assert lines(capsys.readouterr().out)[0]["status"] == "Published"
    assert main(["status", "55555555-5555-4555-8555-555555555555", published[0]]) == 1
    assert len(lines(capsys.readouterr().out)) == 1


def test_an_interrupt_sums_up_and_says_how_to_go_on(served: dict[str, str], tmp_path: Path) -> None:
    """Ctrl-C stops watching, cancels nothing, and names what goes on."""
    ids = [f"--{name.replace('_', '-')}={served[name]}" for name in IDS]
    command = [sys.executable, "-m", "jarai_async", "run", batch(tmp_path, 3), "--speed", "600", *ids]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=os.environ
    ) as process:
        assert process.stdout is not None
        while '"Submitted"' not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()
    assert process.returncode == 1
    assert "continue at JARAI" in error
    assert "still running" in error.splitlines()[-1]


def test_cancelling_on_exit_says_what_was_cancelled(served: dict[str, str], tmp_path: Path) -> None:
    """Ctrl-C, where that was asked for, stops what is paid for, and the last line counts it."""
    ids = [f"--{name.replace('_', '-')}={served[name]}" for name in IDS]
    command = [sys.executable, "-m", "jarai_async", "run", batch(tmp_path, 3), "--speed", "600", *ids]
    with subprocess.Popen(
        [*command, "--cancel-on-exit"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        assert process.stdout is not None
        submitted = 0
        while submitted < 3:
            submitted += '"Submitted"' in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()
    assert process.returncode == 1
    assert "3 cancelled" in error.splitlines()[-1]


def test_a_reader_that_leaves_is_no_reason_to_say_that_nothing_was_sent(
    served: dict[str, str], tmp_path: Path
) -> None:
    """`| head -1` ends with 1, and the log names what goes on."""
    ids = [f"--{name.replace('_', '-')}={served[name]}" for name in IDS]
    command = [sys.executable, "-m", "jarai_async", "run", batch(tmp_path, 3), "--speed", "600", *ids]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        error = process.stderr.read().decode()
    assert process.returncode == 1
    assert "continue at JARAI" in error
    assert "Traceback" not in error


def test_a_second_interrupt_is_as_orderly_as_the_first(served: dict[str, str], tmp_path: Path) -> None:
    """Impatience loses nothing: the log, the last line and the exit code are those of one Ctrl-C."""
    ids = [f"--{name.replace('_', '-')}={served[name]}" for name in IDS]
    command = [sys.executable, "-m", "jarai_async", "run", batch(tmp_path, 30), "--speed", "600", *ids]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(3):
            process.send_signal(signal.SIGINT)
        _, error = process.communicate()
    assert process.returncode == 1
    assert "continue at JARAI" in error
    assert "still running" in error.splitlines()[-1]
    assert "Traceback" not in error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_cannot_be_written_is_no_reason_to_say_that_nothing_was_sent(
    served: dict[str, str], tmp_path: Path
) -> None:
    """Exit code 1, and the log names what goes on."""
    ids = [f"--{name.replace('_', '-')}={served[name]}" for name in IDS]
    command = [sys.executable, "-m", "jarai_async", "run", batch(tmp_path, 2), "--speed", "600", *ids]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(  # noqa: PLW1510  # the exit code is what is tested
            command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
    assert done.returncode == 1
    assert "continue at JARAI" in done.stderr
    assert "still running" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["simulate", "--speed", "0"],
        ["simulate", "--port", "99999"],
        ["run", "x.csv", "--simulate", "--speed", "2"],
        ["run", "x.csv", "--simulate", "--base-url", "http://127.0.0.1"],
    ],
)
def test_arguments_that_make_no_sense_are_two(arguments: list[str]) -> None:
    """Each is refused by name, before anything is read."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2


def test_progress_is_shown_on_a_terminal(tmp_path: Path) -> None:
    """A bar while it runs, each failure with its reason, the summary at the end, and no JSON."""
    printed = on_a_terminal(["run", batch(tmp_path, 25), "--simulate", "--seed", "5"], tmp_path)
    assert "25/25" in printed
    assert " UTC: " in printed
    assert "failed: production " in printed.splitlines()[-2]
    assert "25 submitted, 25 finished" in printed.splitlines()[-1]
    assert '{"' not in printed


def test_without_rich_a_terminal_gets_json_lines(tmp_path: Path) -> None:
    """The extra is optional; its absence is said."""
    hide_rich = (
        "import sys; sys.modules['rich.progress'] = None; from jarai_async._cli.commands import main; "
    )
    program = hide_rich + "raise SystemExit(main())"
    printed = on_a_terminal(["run", batch(tmp_path, 1), "--simulate"], tmp_path, "-c", program)
    assert "jarai-async[cli]" in printed
    assert '{"event": "Submitted"' in printed


def on_a_terminal(arguments: list[str], folder: Path, *program: str) -> str:
    """Run the command with a terminal of its own, and give what it shows."""
    ours, theirs = pty.openpty()
    command = [sys.executable, *(program or ("-m", "jarai_async")), *arguments]
    shown = b""
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, cwd=folder):
        os.close(theirs)
        with contextlib.suppress(OSError):  # the end of a terminal is an error
            while part := os.read(ours, 65_536):
                shown += part
    os.close(ours)
    return shown.decode()


def test_a_batch_that_is_run_again_goes_on_with_its_journal(
    served: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`jarai run` keeps a journal beside the batch; `journal` shows it, `resume` goes on with it."""
    path, following = batch(tmp_path, 3), ["--speed=600", f"--download-to={tmp_path / 'files'}"]
    ids = [f"--{name.replace('_', '-')}={served[name]}" for name in IDS]
    codes = [main(["run", path, *ids, *following]) for _ in range(2)]
    codes.append(main(["resume", f"{path}.journal", *following]))
    printed = capsys.readouterr()
    assert printed.err.count("nothing is submitted twice") == 1
    *_, first, second, third = (
        line for line in printed.err.splitlines() if "3 submitted, 3 finished" in line
    )
    assert first == second == third
    submitted = [line["productionId"] for line in lines(printed.out) if line["event"] == "Submitted"]
    assert len(submitted) == 3
    assert len(set(codes)) == 1
    assert main(["journal", f"{path}.journal"]) == 0
    known = capsys.readouterr()
    assert {one["stage"] for one in lines(known.out)} == {"ended"}
    assert sorted(one["productionId"] for one in lines(known.out)) == sorted(submitted)
    assert known.err == "jarai: 3 ended\n"
    assert main(["resolve", f"{path}.journal", "item-1", "--resubmit"]) == 2
    assert "no submit with the reference 'item-1' is in doubt" in capsys.readouterr().err
    assert main(["journal", str(tmp_path / "nowhere")]) == 2
    assert "No such file" in capsys.readouterr().err
