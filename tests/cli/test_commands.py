"""The command line from the outside: arguments in, printed lines and an exit code out."""

import asyncio
import json
import shlex
import signal
import socket
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from jarai_async import JaraiClient, Production
from jarai_async._api.codec import body_of
from jarai_async._cli.batch_file import ID_FIELDS
from jarai_async._cli.commands import main
from jarai_async._cli.signals import interrupted, stop_event
from jarai_async._journal.entries import Intent, Stage
from jarai_async._journal.journal import SqliteJournal
from tests.cli.helpers import JARAI, id_options, lines, run_command, start, wait_for_event, write_batch
from tests.support.journals import intent
from tests.support.strategies import request as make_request

ID = "11111111-1111-4111-8111-111111111111"
FAILING = ("--seed", "13")  # the second production of a built-in simulator fails

Printed = pytest.CaptureFixture[str]


# --- Help and invalid use ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        *(
            "",
            "run",
            "resume",
            "plan",
            "journal",
            "report",
            "resolve",
            "retry",
            "status",
            "cancel",
            "deliverables",
            "accounts",
            "completion",
        ),
        *("simulate", "webhooks", "webhooks list", "webhooks create", "webhooks delete", "webhooks test"),
        "webhooks listen",
    ],
)
def test_every_command_has_help(command: str, capsys: Printed) -> None:
    """It names positional arguments in capitals, and ends with examples."""
    with pytest.raises(SystemExit) as caught:
        main([*command.split(), "--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: jarai {command}".rstrip())
    assert "production_id" not in printed
    assert f" jarai {command}".rstrip() in printed.partition("\nexample")[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "the following arguments are required: BATCH"),
        (["rnu"], "did you mean run?"),
        (
            ["run", "x", "--concurency=3"],
            "unrecognized arguments: --concurency=3; did you mean --concurrency?",
        ),
        (["webhooks", "lst"], "did you mean list?"),
        (["run", "x", "--seed=1", "--tier=free"], "only a simulator has --tier, --seed: add --simulate"),
        (["status", ID, "--deadline"], "unrecognized arguments: --deadline\n"),
        (["run", "x", "--deadline", "2x"], "'2x' is not a duration such as 2h30m, or seconds greater than 0"),
        (["simulate", "--speed", "0"], "--speed: '0' is not a number greater than 0"),
        (["simulate", "--speed", "fast"], "--speed: 'fast' is not a number greater than 0"),
        (["simulate", "--epoch", "nan"], "--epoch: 'nan' is not a Unix time in seconds"),
        (["simulate", "--port", "99999"], "--port: '99999' is not a port from 0 to 65535"),
        (["simulate", "--failure-rate", "1.5"], "'1.5' is not a number from 0 to 1"),
        (["run", "x.csv", "--simulate", "--speed", "2"], "leave out --speed and --base-url"),
        (
            ["run", "x.csv", "--simulate", "--base-url", "http://127.0.0.1"],
            "leave out --speed and --base-url",
        ),
    ],
)
def test_invalid_arguments_exit_with_2(arguments: list[str], message: str, capsys: Printed) -> None:
    """The message names the argument and what it must be; no file is read."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "no-such-file.jsonl", "--simulate"], "no-such-file.jsonl"),
        (["run", "batch.jsonl"], "no API key"),
        (["status", ID], "no API key"),
        (["accounts"], "no API key"),
    ],
)
def test_invalid_configuration_exits_with_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing file or API key is reported in one line, before anything is sent."""
    monkeypatch.delenv("JARAI_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    write_batch(tmp_path, 1, **dict.fromkeys(ID_FIELDS, ID))
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert "api_key" not in line


def test_invalid_batch_exits_with_2(tmp_path: Path, capsys: Printed) -> None:
    """Every invalid line is reported by its number, before anything is sent."""
    path = tmp_path / "batch.csv"
    path.write_text("topic,account_id\nfine,\n,x\ntoo,many,cells\n")
    assert main(["run", str(path), "--simulate"]) == 2
    error = capsys.readouterr().err
    assert "line 3" in error
    assert "line 4" in error
    assert "line 2" not in error


def test_batch_that_is_not_text_exits_with_2(tmp_path: Path, capsys: Printed) -> None:
    """The message says that the file must be UTF-8."""
    path = tmp_path / "batch.jsonl"
    path.write_bytes(b"\xff\xfe\x00")
    assert main(["run", str(path), "--simulate"]) == 2
    assert "UTF-8" in capsys.readouterr().err


# --- Batches ----------------------------------------------------------------------------------------


def test_simulated_batch_without_failures_exits_with_0(tmp_path: Path, capsys: Printed) -> None:
    """`--failure-rate 0` lets every simulated production succeed."""
    options = ["--simulate", *FAILING, "--failure-rate", "0", "--download-to", str(tmp_path / "files")]
    assert main(["run", write_batch(tmp_path, 4), *options]) == 0
    assert "4 published, 0 failed" in capsys.readouterr().err


def test_batch_runs_on_the_built_in_simulator(tmp_path: Path, capsys: Printed) -> None:
    """Events are JSON lines, the summary goes to both streams, and each published production has a folder."""
    files = tmp_path / "files"
    code = main(["run", write_batch(tmp_path, 4), "--simulate", *FAILING, "--download-to", str(files)])
    printed = capsys.readouterr()
    *events, summary = lines(printed.out)
    outcomes = [event["outcome"] for event in events if event["event"] == "Finished"]
    assert sorted(outcomes) == ["failed", "published", "published", "published"]
    line = "4 submitted, 4 finished: 3 published, 1 failed, 0 rejected, 0 lost"
    assert summary["summary"].startswith(line)
    assert printed.err.splitlines()[-1] == f"{line}; files in {files}"
    assert len(list(files.glob("*/manifest.json"))) == 3
    assert code == 1
    assert {event["reference"] for event in events} == {f"item-{n}" for n in range(4)}


def test_exit_code_is_0_if_everything_was_published(tmp_path: Path, capsys: Printed) -> None:
    """Exit code 0 means that nothing is left to do."""
    code = main(["run", write_batch(tmp_path, 1), "--simulate", "--download-to", str(tmp_path / "files")])
    assert "1 published" in capsys.readouterr().err
    assert code == 0


def test_commands_work_against_a_server(
    served: dict[str, str], tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """accounts, run, status, deliverables and cancel talk to a simulator in another process.

    A batch from standard input has no journal by default.
    """
    monkeypatch.chdir(tmp_path)
    assert main(["accounts"]) == 0
    (account,) = lines(capsys.readouterr().out)
    assert account["accountId"] == served["account_id"]

    files = str(tmp_path / "files")
    options = ["--speed", "600", "--download-to", files, *id_options(served)]
    with Path(write_batch(tmp_path, 2)).open(encoding="utf-8") as batch:
        monkeypatch.setattr("sys.stdin", batch)
        code = main(["run", "-", *options])
    *events, summary = lines(capsys.readouterr().out)
    assert "2 submitted, 2 finished" in summary["summary"]
    assert {path.name for path in tmp_path.iterdir()} == {"batch.jsonl", "files"}
    published = [event["productionId"] for event in events if event.get("outcome") == "published"]
    assert code == (0 if len(published) == 2 else 1)

    assert main(["status", *published]) == 0
    assert {line["status"] for line in lines(capsys.readouterr().out)} == {"Published"}
    assert main(["deliverables", published[0]]) == 0
    assert "sig=" in lines(capsys.readouterr().out)[0]["url"]
    assert main(["deliverables", published[0], "--download-to", str(tmp_path / "one")]) == 0
    downloaded = [Path(line["path"]) for line in lines(capsys.readouterr().out)]
    assert all(path.stat().st_size for path in downloaded)
    assert {path.parent for path in downloaded} == {tmp_path / "one" / published[0]}
    assert main(["cancel", published[0]]) == 0
    assert lines(capsys.readouterr().out)[0]["status"] == "Published"
    assert main(["status", "55555555-5555-4555-8555-555555555555", published[0]]) == 1
    assert len(lines(capsys.readouterr().out)) == 1


def test_batch_resumes_from_its_journal(served: dict[str, str], tmp_path: Path, capsys: Printed) -> None:
    """Running a batch again, or `jarai resume`, submits nothing twice; `jarai journal` lists its requests."""
    path, options = write_batch(tmp_path, 3), ["--speed=600", f"--download-to={tmp_path / 'files'}"]
    codes = [main(["run", path, *id_options(served), *options]) for _ in range(2)]
    codes.append(main(["resume", f"{path}.journal", *options]))
    printed = capsys.readouterr()
    assert printed.err.count(f"{path}.journal has 3 requests; ") == 2
    new, *finished = (line for line in printed.err.splitlines() if "/3 finished; " in line)
    assert new.startswith("jarai: 0/3 finished; 3 to submit; ")
    assert "ends in about" in new
    assert [line.startswith("jarai: 3/3 finished; ") for line in finished] == [True, True]
    assert "ends in about" not in "".join(finished)
    *_, first, second, third = (line for line in printed.err.splitlines() if ", 3 finished" in line)
    assert second == third == first.replace("3 submitted", "3 submitted (0 of them now)")
    submitted = [line["productionId"] for line in lines(printed.out) if line["event"] == "Submitted"]
    assert len(submitted) == 3
    assert len(set(codes)) == 1
    assert main(["journal", f"{path}.journal"]) == 0
    printed = capsys.readouterr()
    intents = lines(printed.out)
    assert {intent["stage"] for intent in intents} == {"ended"}
    assert sorted(intent["productionId"] for intent in intents) == sorted(submitted)
    assert [intent["productionIds"] for intent in intents] == [[intent["productionId"]] for intent in intents]
    assert printed.err == "jarai: 3 requests, 3 productions created; 3 published\n"
    assert main(["resolve", f"{path}.journal", "item-1", "--resubmit"]) == 2
    assert "no submit with the reference 'item-1' is in doubt" in capsys.readouterr().err
    assert main(["journal", str(tmp_path / "nowhere")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_changed_row_exits_with_2_and_sends_nothing(
    served: dict[str, str], tmp_path: Path, capsys: Printed
) -> None:
    """The message names the reference and the field; `jarai retry` has nothing to do."""
    options = ["--speed=600", f"--download-to={tmp_path / 'files'}", *id_options(served)]
    path = write_batch(tmp_path, 1)
    main(["run", path, *options])
    capsys.readouterr()
    assert main(["run", write_batch(tmp_path, 2, topic="another topic"), *options]) == 2
    printed = capsys.readouterr()
    assert (
        "'item-0' belongs to another request in the journal: topic was 'topic 0', is 'another t"
        in printed.err
    )
    assert "Submitted" not in printed.out
    main(["retry", f"{path}.journal"])
    assert "to be submitted again" in capsys.readouterr().err
    assert main(["retry", f"{path}.journal", "nothing"]) == 2


def test_submits_in_doubt_are_resolved_by_their_productions(
    served: dict[str, str], tmp_path: Path, capsys: Printed
) -> None:
    """`jarai journal` shows the idempotency key, by which JARAI can find the production.

    Several are decided at once, or none of them.
    """
    request = make_request(**{name: served[name] for name in ID_FIELDS})
    path, references = str(tmp_path / "journal.db"), ["a", "b", "c"]

    async def submit() -> list[str]:
        async with JaraiClient() as client:
            journal = await SqliteJournal.open(Path(path), server=await client.engine.server())
            for name in references:
                await journal.save(
                    Intent(name, request.account_id, body_of(request), "a key", Stage.IN_DOUBT)
                )
            await journal.close()
            return [(await client.submit(request)).id for _ in "ab"]

    def journal_lines() -> list[dict[str, str]]:
        capsys.readouterr()
        assert main(["journal", path]) == 0
        return lines(capsys.readouterr().out)

    first, second = asyncio.run(submit())
    before = journal_lines()
    assert [(line["stage"], line["idempotencyKey"]) for line in before] == [("in doubt", "a key")] * 3
    assert {(line["state"], line["outcome"]) for line in before} == {("uncertain", "uncertain")}
    assert main(["journal", path, "--state", "Uncertain"]) == 0
    printed = capsys.readouterr()
    assert lines(printed.out) == before
    assert printed.err == "jarai: 3 requests, 0 productions created; 3 uncertain\n"
    assert main(["journal", path, "--state", "timed out"]) == 0
    assert capsys.readouterr() == ("", "jarai: none of 3 requests is timed out\n")
    with pytest.raises(SystemExit):
        main(["journal", path, "--state", "uncertian"])
    assert "'uncertian' is not a state; did you mean uncertain?" in capsys.readouterr().err
    assert main(["resolve", path, "a", "b", "--production-id", first]) == 2
    assert "one --production-id for each REFERENCE" in capsys.readouterr().err
    assert main(["resolve", path, "a", "b", "--production-id", first, "--production-id", ID]) == 1
    assert main(["resolve", path, "c", "d", "--resubmit"]) == 2
    assert journal_lines() == before
    assert main(["resolve", path, "a", "b", "--production-id", first, "--production-id", second]) == 0
    assert main(["resolve", path, "c", "--resubmit"]) == 0
    *accepted, planned = journal_lines()
    assert [(line["stage"], line["productionId"]) for line in accepted] == [
        ("accepted", first),
        ("accepted", second),
    ]
    assert planned["stage"] == "planned"


def test_error_of_the_api_exits_with_1(served: dict[str, str], capsys: Printed) -> None:
    """2 would say that nothing was done because the command was used wrongly."""
    assert main(["deliverables", served["account_id"]]) == 1
    assert "404" in capsys.readouterr().err


class TwoFiles(BaseHTTPRequestHandler):
    """An API with one production, whose two files have the same name."""

    def do_GET(self) -> None:  # the name that http.server calls
        url = f"http://{self.headers['Host']}"
        listed = [{"type": "Video", "fileName": "a.mp4", "sasUrl": f"{url}/{n}"} for n in range(2)]
        content = json.dumps(listed) if self.path.endswith("deliverables") else self.path
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, *_: object) -> None:
        pass


def test_files_of_one_name_do_not_replace_each_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Printed
) -> None:
    """`jarai deliverables` gives the second one another name."""
    monkeypatch.setenv("JARAI_API_KEY", "jarai_test_key")
    with HTTPServer(("127.0.0.1", 0), TwoFiles) as server:
        Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}"
        code = main(["deliverables", ID, "--base-url", url, "--download-to", str(tmp_path)])
        server.shutdown()
    assert code == 0
    paths = [Path(line["path"]) for line in lines(capsys.readouterr().out)]
    assert [(path.name, path.read_text()) for path in paths] == [("a.mp4", "/0"), ("a-2.mp4", "/1")]


def test_simulator_has_the_time_of_its_epoch_and_prints_variables_for_a_shell(tmp_path: Path) -> None:
    """A client that starts later, with the same speed and epoch, has the same time."""
    hour_ago = time.time() - 3600
    command = [*JARAI, "simulate", "--port=0", "--speed=25", "--failure-rate=0", f"--epoch={hour_ago}"]
    with start(command, tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        settings = json.loads(process.stdout.readline())
        words = shlex.split(process.stderr.readline().partition("export ")[2])
        request = make_request(**{name: settings[name] for name in ID_FIELDS})

        async def submit() -> Production:
            client = JaraiClient(settings["JARAI_API_KEY"], base_url=settings["JARAI_BASE_URL"])
            async with client:
                return await client.fetch((await client.submit(request)).id)

        production = asyncio.run(submit())
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert production.created_at is not None
    assert 24 < (production.created_at.timestamp() - hour_ago) / 3600 < 26
    assert dict(word.split("=", 1) for word in words) == {
        name if name.startswith("JARAI_") else f"JARAI_{name.upper()}": value
        for name, value in settings.items()
    }


# --- Interrupted batches ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_interrupt_prints_a_summary_and_how_to_resume(
    number: signal.Signals, served: dict[str, str], tmp_path: Path
) -> None:
    """SIGTERM and a hang-up stop watching and cancel nothing. With -v the log says what continues."""
    with start(run_command(served, tmp_path, 3, "-v"), tmp_path) as process:
        wait_for_event(process, "Submitted")
        process.send_signal(number)
        _, error = process.communicate()
    assert process.returncode == 128 + number
    assert "jarai: stopped watching; productions that continue at JARAI: " in error
    assert "to continue: jarai resume" in error
    assert "still running" in error.splitlines()[-1]


def test_interrupt_before_a_response_exits_with_130(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """0 would say that everything was done."""
    monkeypatch.setenv("JARAI_API_KEY", "jarai_test_key")
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("JARAI_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        with start([*JARAI, "accounts"], tmp_path) as process:
            connection, _ = server.accept()
            process.send_signal(signal.SIGINT)
            _, error = process.communicate()
            connection.close()
    assert (process.returncode, error) == (130, "jarai: interrupted\n")


def test_second_interrupt_does_not_break_the_shutdown(served: dict[str, str], tmp_path: Path) -> None:
    """After several Ctrl-C the log, the summary and the exit code are the same as after one."""
    with start(run_command(served, tmp_path, 15), tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(3):
            process.send_signal(signal.SIGINT)
        _, error = process.communicate()
    assert process.returncode == 130
    assert "jarai: stopping: requests that are on their way are completed first" in error
    assert "to continue: jarai resume" in error
    assert "still running" in error.splitlines()[-1]
    assert "Traceback" not in error


def test_cancel_on_exit_cancels_running_productions(served: dict[str, str], tmp_path: Path) -> None:
    """With --cancel-on-exit, Ctrl-C cancels the productions, and the summary counts them as cancelled.

    JARAI has a minute for that, which at this speed is a second.
    """
    with start(run_command(served, tmp_path, 3, "--cancel-on-exit", "--speed=60"), tmp_path) as process:
        for _ in range(3):
            wait_for_event(process, "Submitted")
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()
    assert process.returncode == 130
    assert "3 cancelled" in error.splitlines()[-1]


def test_interrupted_simulation_names_nothing_to_continue(tmp_path: Path) -> None:
    """Its simulator is gone, and the productions with it."""
    command = [*JARAI, "run", write_batch(tmp_path, 100), "--simulate", "--journal=journal"]
    with start(command, tmp_path) as process:
        wait_for_event(process, "Submitted")
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()
    assert process.returncode == 130
    assert "still running" in error.splitlines()[-1]
    assert "to continue" not in error


async def test_signal_that_the_parent_process_ignores_stays_ignored() -> None:
    """A batch that was started with nohup survives the end of its terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = stop_event()
        signal.raise_signal(signal.SIGHUP)
        await asyncio.sleep(1)
        assert not stop.is_set()
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(stop.wait(), 1)
    finally:
        signal.signal(signal.SIGHUP, before)
        interrupted.clear()


def test_journal_of_another_batch_is_named_and_files_of_the_usual_folder_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong journal names another folder; what is in the usual one may be paid for already."""
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        Path(f"{name}.csv").write_text(f"reference,topic\n{name},{name}\n")
    ids = [f"--{name.replace('_', '-')}=00000000-0000-4000-8000-000000000001" for name in ID_FIELDS]
    folder = tmp_path / "deliverables" / "two-1"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"reference": "two"}')
    assert main(["run", "one.csv", "--simulate", "--journal", "j", "--seed", "0", "--failure-rate", "0"]) == 0
    capsys.readouterr()
    assert main(["run", "two.csv", "--journal", "j", "--dry-run", *ids]) == 0
    messages = capsys.readouterr().err
    assert "all 1 requests are new to j" in messages
    assert main(["run", "two.csv", "--simulate", "--journal", "j", "--dry-run"]) == 2
    assert "j has productions that a new simulator does not know" in capsys.readouterr().err
    assert "deliverables has files of 1 of these requests" in messages


def test_other_unfinished_requests_of_the_journal_are_named_at_the_end(
    served: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a night that was stopped: they are paid for, and their files are not downloaded."""
    path = tmp_path / "journal"
    options = [*id_options(served), "--journal", str(path), f"--download-to={tmp_path}", "--speed=600"]
    batch = write_batch(tmp_path, 1)
    main(["run", batch, *options])
    assert "beside these" not in capsys.readouterr().err

    async def add() -> None:
        journal = await SqliteJournal.open(path, create=False)
        await journal.save(intent("of last night", stage=Stage.ACCEPTED))
        await journal.close()

    asyncio.run(add())
    main(["run", batch, *options])
    said = " ".join(capsys.readouterr().err.split())
    assert "unfinished requests of this journal, beside these: 1; to continue: jarai resume" in said
