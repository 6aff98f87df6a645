"""A batch that JARAI refuses as a whole, and a batch that is continued with the options that it had."""

import asyncio
import os
import shlex
import signal
from pathlib import Path

import pytest

from jarai_async._cli.arguments import build_parser, resume_command
from jarai_async._cli.batch_file import ID_FIELDS
from jarai_async._cli.commands import main
from jarai_async._journal.database import close_database, open_database
from jarai_async.simulator import Simulator
from tests.cli.helpers import JARAI, id_options, run_command, start, wait_for_event, write_batch
from tests.support.strategies import ID

Printed = pytest.CaptureFixture[str]


async def run_with_key(folder: Path, simulator: Simulator, key: str) -> tuple[int | None, list[str]]:
    """Run a batch of 50, and return the exit code and the messages."""
    ids = {name: getattr(simulator, name) for name in ID_FIELDS}
    process = await asyncio.create_subprocess_exec(
        *[*JARAI, "run", write_batch(folder, 50), *id_options(ids)],
        env=os.environ | {"JARAI_API_KEY": key, "JARAI_BASE_URL": simulator.base_url},
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        cwd=folder,
    )
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, errors.decode().splitlines()


def test_wrong_key_is_one_message_and_one_request(tmp_path: Path) -> None:
    """A batch with a wrong key stops before anything is submitted or written, with exit code 2."""

    async def run() -> None:
        async with Simulator() as simulator:
            code, (message,) = await run_with_key(tmp_path, simulator, "jarai_live_unknown")
            assert code == 2
            assert "401" in message
            assert "JARAI_API_KEY" in message
            assert [request.route for request in simulator.requests] == ["accounts"]

    asyncio.run(run())
    assert [path.name for path in tmp_path.iterdir()] == ["batch.jsonl"]


@pytest.mark.parametrize("fault", ["not_found", "redirect", "empty_body"])
def test_wrong_base_url_ends_the_command_before_anything_is_submitted(fault: str, tmp_path: Path) -> None:
    """A server that is not JARAI's would reject every request of the batch, or leave the first in doubt."""

    async def run() -> None:
        async with Simulator() as simulator:
            simulator.faults.add(fault, on="any", times=None)
            code, (*_, message) = await run_with_key(tmp_path, simulator, simulator.api_key)
            assert code == 2
            assert "base URL" in message
            assert simulator.count("submit") == 0

    asyncio.run(run())
    assert [path.name for path in tmp_path.iterdir()] == ["batch.jsonl"]


@pytest.mark.parametrize("scopes", [["accounts:read", "productions:read"], ["productions:read"]])
def test_key_without_permission_to_submit_is_one_message(scopes: list[str], tmp_path: Path) -> None:
    """A refused submit ends the batch, the next run tries again, and neither needs to read accounts."""

    async def run() -> None:
        async with Simulator() as simulator:
            key = simulator.add_key(*scopes)
            for count in (1, 2):
                code, (*_, message) = await run_with_key(tmp_path, simulator, key)
                assert code == 2
                assert "lacks the scope productions:write (403" in message
                assert "jarai retry" not in message
                assert simulator.count("submit") == count

    asyncio.run(run())


def test_journal_that_is_in_use_is_one_message(
    tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent, and nothing is summarised. The program that has it open can do it."""
    monkeypatch.setenv("JARAI_API_KEY", "jarai_test_key")
    journal = str(tmp_path / "journal")
    database = open_database(tmp_path / "journal", None, create=True)
    for command in (
        ["run", write_batch(tmp_path, 1), "--simulate", "--journal", journal],
        ["resolve", journal, "mine", "--resubmit"],
        ["retry", journal],
    ):
        assert main(command) == 2
        (message,) = capsys.readouterr().err.splitlines()
        assert "it is open already" in message
        assert f"`{command[0]}`" in message
        assert "journal has recorded it" not in message
    close_database(database)
    assert main(["journal", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.endswith("cannot be read: No such file or directory\n")


def test_resume_uses_the_folder_of_the_first_run(
    served: dict[str, str], tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal remembers it, for `jarai resume` and for the same batch run again, from any folder."""
    monkeypatch.chdir(tmp_path)
    files = tmp_path / "with space"
    command = run_command(served, tmp_path, 3, "--download-to", "with space")
    with start(command, tmp_path) as process:
        wait_for_event(process, "Submitted")
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate()
    (line,) = [line for line in error.splitlines() if line.startswith("jarai: to continue: ")]
    words = shlex.split(line.partition("continue: ")[2])
    assert words[:2] == ["jarai", "resume"]
    assert "--download-to=with space" in words
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    main(["resume", f"{tmp_path / 'batch.jsonl'}.journal", "--speed", "600"])
    printed = capsys.readouterr()
    assert " finished; " in printed.err
    assert "3 to submit" not in printed.err  # it continues to count where the first run stopped
    assert printed.err.splitlines()[-1].endswith(f"; files in {files}")
    assert list(files.glob("*/manifest.json"))
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_printed_command_has_all_options_that_are_not_the_default() -> None:
    """It is quoted for a shell, and has no options of `jarai run` that the journal replaces."""
    options = build_parser().parse_args(
        [
            *("run", "my batch.csv", "--journal", "my batch.csv.journal", "--account-id", ID, "--review"),
            *("--deadline", "60", "--concurrency", "7", "--download-to", "a b", "--base-url", "https://x/y"),
        ]
    )
    command = resume_command(options)
    assert command.startswith("jarai resume 'my batch.csv.journal' ")
    resumed = build_parser().parse_args(shlex.split(command)[1:])
    for name in ("journal", "review", "deadline", "concurrency", "download_to", "base_url", "cancel_on_exit"):
        assert getattr(resumed, name) == getattr(options, name)
    assert "--account-id" not in command


def test_printed_command_may_name_files_that_begin_with_a_hyphen() -> None:
    """They are not taken for options."""
    options = build_parser().parse_args(["run", "x.csv", "--journal=-x", "--download-to=-o"])
    resumed = build_parser().parse_args(shlex.split(resume_command(options))[1:])
    assert (resumed.journal, resumed.download_to) == ("./-x", "-o")
