"""Output that cannot be written or that no program reads: nothing is lost, and no command hangs."""

import asyncio
import fcntl
import io
import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Thread

import pytest

from jarai_async import JaraiClient
from jarai_async._cli.batch_file import ID_FIELDS
from jarai_async._cli.commands import main
from jarai_async._cli.output import print_each
from jarai_async._cli.streams import BackgroundStream
from tests.cli.helpers import JARAI, lines, run_command, start, write_batch
from tests.support.strategies import request as make_request

ID = "11111111-1111-4111-8111-111111111111"
URL = "https://example.org/jarai"
OUTPUT_IS_CLOSED = "jarai: standard output is closed: redirect it, to /dev/null if need be\n"
Printed = pytest.CaptureFixture[str]


def run(command: list[str], stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(  # noqa: PLW1510  # tests look at the exit code
        command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60
    )


def with_closed(stream: str, command: list[str]) -> list[str]:
    """Return a command line that runs a command with a standard stream closed."""
    return ["sh", "-c", f'exec "$@" {stream}&-', "sh", *command]


@contextmanager
def closed_pipe() -> Iterator[int]:
    """The write end of a pipe that nothing reads any more."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


@contextmanager
def unread_pipe() -> Iterator[int]:
    """The write end of a small pipe that is open, but not read."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4_096)
    yield write
    os.close(read)
    os.close(write)


@contextmanager
def stopped_terminal() -> Iterator[int]:
    """A terminal that shows nothing, as after Ctrl-S."""
    ours, theirs = pty.openpty()
    yield theirs
    os.close(ours)
    os.close(theirs)


async def submit(served: dict[str, str], count: int) -> list[str]:
    """Submit productions, and return their IDs."""
    request = make_request(**{name: served[name] for name in ID_FIELDS})
    async with JaraiClient() as client:
        return [(await client.submit(request)).id for _ in range(count)]


# --- Output that cannot be written --------------------------------------------------------------------


def test_closed_standard_output_exits_with_2_before_anything_is_sent(
    served: dict[str, str], capsys: Printed
) -> None:
    """Results would go nowhere, above all a signing secret, which is shown only once."""
    done = run(with_closed(">", [*JARAI, "webhooks", "create", URL]))
    assert (done.returncode, done.stderr) == (2, OUTPUT_IS_CLOSED)
    assert main(["webhooks", "list"]) == 0
    assert capsys.readouterr().out == ""
    assert served


@pytest.mark.parametrize("command", [f"run {ID}", f"status {ID}", "accounts", "plan x --tier=free"])
def test_no_command_runs_if_standard_output_is_closed(
    command: str, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is what Python has for a closed stream."""
    monkeypatch.setattr("sys.stdout", None)
    assert main(command.split()) == 2
    assert capsys.readouterr().err == OUTPUT_IS_CLOSED


def test_webhook_is_not_created_if_the_output_has_no_reader(served: dict[str, str], capsys: Printed) -> None:
    """Exit code 2 and one message, before the request."""
    with closed_pipe() as pipe:
        done = run([*JARAI, "webhooks", "create", URL], stdout=pipe)
    assert (done.returncode, done.stderr) == (
        2,
        "jarai: the output cannot be written: Broken pipe: nothing was sent\n",
    )
    assert main(["webhooks", "list"]) == 0
    assert capsys.readouterr().out == ""
    assert served


@pytest.mark.parametrize("command", ["cancel", "status", "webhooks delete"])
def test_every_id_is_tried_if_the_output_cannot_be_written(
    command: str, served: dict[str, str], capsys: Printed
) -> None:
    """One line on standard error says whose results are not written, and the exit code is 1."""
    if command == "webhooks delete":
        assert [main(["webhooks", "create", URL]) for _ in range(3)] == [0] * 3
        ids = [line["webhookId"] for line in lines(capsys.readouterr().out)]
    else:
        ids = asyncio.run(submit(served, 3))
    with closed_pipe() as pipe:
        done = run([*JARAI, *command.split(), *ids], stdout=pipe)
    assert done.returncode == 1
    expected = (
        f"jarai: the output cannot be written: Broken pipe: 3 results were not written: {', '.join(ids)}"
    )
    assert done.stderr.splitlines() == [expected]


def test_signed_urls_that_cannot_be_written_do_not_go_to_standard_error(
    served: dict[str, str], tmp_path: Path, capsys: Printed
) -> None:
    """As with `jarai deliverables ID | head -3`."""
    assert main(run_command(served, tmp_path, 1, "--download-to", str(tmp_path / "files"))[3:]) == 0
    ids = {line["productionId"] for line in lines(capsys.readouterr().out) if "productionId" in line}
    with closed_pipe() as pipe:
        done = run([*JARAI, "deliverables", *ids], stdout=pipe)
    assert done.returncode == 1
    assert "results were not written: " in done.stderr
    assert "http" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_interrupt_while_a_result_is_printed_names_what_was_not_tried(
    monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    """A pipe that is not read may delay the result for long."""
    monkeypatch.setattr("sys.stdout", BackgroundStream(io.StringIO()))

    async def request(id_: str) -> dict[str, str]:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()  # takes effect where the result is printed
        return {"id": id_}

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(print_each(["a", "b", "c"], request))
    assert capsys.readouterr().err == "jarai: interrupted during a; not tried: b, c\n"


def test_interrupt_while_the_output_is_written_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """The output is incomplete."""

    class Interrupted(io.StringIO):
        def write(self, _: str, /) -> int:
            signal.raise_signal(signal.SIGINT)
            return 0

    monkeypatch.setattr("sys.stdout", Interrupted())
    assert main(["--help"]) == 130


def test_closed_standard_error_changes_nothing(served: dict[str, str]) -> None:
    """Messages are dropped."""
    done = run(with_closed("2>", [*JARAI, "accounts"]))
    assert done.returncode == 0
    assert [line["accountId"] for line in lines(done.stdout)] == [served["account_id"]]
    assert run(with_closed("2>", [*JARAI, "status", ID])).returncode == 1


def test_closed_standard_input_is_one_message() -> None:
    """A batch from standard input needs one."""
    done = run(with_closed("<", [*JARAI, "run", "-", "--simulate"]))
    assert (done.returncode, done.stderr) == (
        2,
        "jarai: standard input is closed: pipe a batch into it, or name a file\n",
    )


def test_wrong_key_exits_with_2_after_one_request(
    served: dict[str, str], capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other IDs are not tried: the key is wrong for all of them."""
    monkeypatch.setenv("JARAI_API_KEY", "jarai_live_unknown")
    for command in (["status", ID, ID], ["cancel", ID, ID], ["deliverables", ID], ["accounts"]):
        assert main(command) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert served


def test_pipe_that_does_not_block_is_written_completely(tmp_path: Path) -> None:
    """Another program may have set the pipe so; a full pipe is then waited for."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4_096)
    os.set_blocking(write, False)
    command = [*JARAI, "run", write_batch(tmp_path, 3), "--simulate", "--failure-rate=0"]
    with subprocess.Popen(command, stdout=write, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        os.close(write)
        with os.fdopen(read) as output:
            *_, summary = lines(output.read())
        _, error = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "3 published" in summary["summary"]
    assert "Traceback" not in error


def test_closed_output_exits_with_1_and_names_what_continues(served: dict[str, str], tmp_path: Path) -> None:
    """`jarai run ... | head -1` does not exit with 2, because productions were submitted."""
    with start(run_command(served, tmp_path, 3), tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        error = process.stderr.read()
    assert process.returncode == 1
    assert "to continue: jarai resume" in error
    assert "Traceback" not in error


def test_list_that_is_not_read_to_its_end_says_nothing(served: dict[str, str], tmp_path: Path) -> None:
    """As after `| head`: the exit code is that of a program which SIGPIPE has ended."""
    run(run_command(served, tmp_path, 2, f"--journal={tmp_path / 'journal'}"))
    with closed_pipe() as output:
        done = run([*JARAI, "journal", str(tmp_path / "journal")], stdout=output)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk_exits_with_1_and_names_what_continues(served: dict[str, str], tmp_path: Path) -> None:
    """Output that cannot be written does not exit with 2, because productions were submitted."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(  # noqa: PLW1510  # the exit code is what is tested
            run_command(served, tmp_path, 2), stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
    assert done.returncode == 1
    assert "to continue: jarai resume" in done.stderr
    assert "still running" in done.stderr.splitlines()[-1]


# --- Output that no program reads ----------------------------------------------------------------------


@pytest.mark.parametrize("unread", [unread_pipe, stopped_terminal])
def test_batch_continues_and_can_be_stopped_while_its_output_is_not_read(
    unread: Callable[[], AbstractContextManager[int]], served: dict[str, str], tmp_path: Path
) -> None:
    """Productions are polled and downloaded, and SIGTERM ends the command."""
    command = run_command(served, tmp_path, 8, "--download-to=files")
    with (
        unread() as output,
        subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=output) as process,
    ):
        try:
            wait_for_manifests(tmp_path / "files", 5)
            process.send_signal(signal.SIGTERM)
            # 143 if it stopped the batch; otherwise only output was still to be written.
            assert process.wait(timeout=60) in (0, 1, 143, -signal.SIGTERM)
        finally:
            process.kill()  # it may hang


def test_last_text_is_written_after_output_that_was_not_read_for_long() -> None:
    """The queue is limited, and drops old progress bars rather than the summary."""
    read, write = os.pipe()
    texts: list[str] = []
    with os.fdopen(read) as reader, os.fdopen(write, "w") as file:
        stream = BackgroundStream(file)
        for number in range(30_000):
            stream.write(f"progress {number}\n")
        stream.write("summary\n")
        reading = Thread(target=lambda: texts.extend(reader))
        reading.start()
        stream.finish(60)
        file.close()
        reading.join()
    assert texts[0] == "progress 0\n"
    assert texts[-1] == "summary\n"
    assert 10_000 < len(texts) < 30_000


def wait_for_manifests(folder: Path, count: int) -> None:
    ends = time.monotonic() + 60
    while len(list(folder.glob("*/manifest.json"))) < count:
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.mark.parametrize("verbose", [[], ["-v"]])
def test_failed_and_uncertain_requests_are_printed_once(
    verbose: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log has them, too, and the command prints them by itself."""
    command = [
        *JARAI,
        "simulate",
        "--port=0",
        "--speed=600",
        "--failure-rate=1",
        "--fault=reset_after:submit",
    ]
    with start(command, tmp_path) as server:
        assert server.stdout is not None
        settings = json.loads(server.stdout.readline())
        monkeypatch.setenv("JARAI_API_KEY", settings["JARAI_API_KEY"])
        monkeypatch.setenv("JARAI_BASE_URL", settings["JARAI_BASE_URL"])
        with start(run_command(settings, tmp_path, 2, *verbose), tmp_path) as process:
            _, errors = process.communicate()
        server.send_signal(signal.SIGTERM)
        server.communicate()
    messages = [line for line in errors.splitlines() if not line.startswith(" ")]  # without the summary
    assert len([line for line in messages if "may have been accepted" in line]) == 1
    assert len([line for line in messages if "item-1" in line and "failed" in line]) == 1
    assert ("submitted as" in errors) is bool(verbose)
