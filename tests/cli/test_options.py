"""Options of `jarai run`: what is checked before anything is sent, files of events, webhooks, completion."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from jarai_async import ConfigurationError
from jarai_async._cli import batch_commands
from jarai_async._cli.arguments import build_parser
from jarai_async._cli.batch_file import ID_FIELDS, variable
from jarai_async._cli.client import open_client
from jarai_async._cli.commands import main
from jarai_async._cli.durations import describe_duration, parse_duration
from jarai_async._cli.streams import background_streams
from jarai_async.simulator import Simulator
from jarai_async.webhooks import sign
from tests.cli.helpers import JARAI, lines, write_batch
from tests.support.deliveries import SECRET, body
from tests.support.strategies import ID

Printed = pytest.CaptureFixture[str]


@pytest.fixture
def _unreachable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An API that cannot be reached, and all identifiers in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JARAI_API_KEY", "jarai_test_key")
    monkeypatch.setenv("JARAI_BASE_URL", "http://127.0.0.1:9")
    for name in ID_FIELDS:
        monkeypatch.setenv(variable(name), ID)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2h30m", 9_000), ("1d", 86_400), ("45s", 45), ("90", 90), ("0.5", 0.5), ("1h5s", 3_605)],
)
def test_durations_have_units_or_are_seconds(text: str, seconds: float) -> None:
    """Units go from days to seconds."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0m", "-1", "h", "2h30", "30m2h", "1w", "nan", "inf", "2 h"])
def test_other_durations_are_rejected(text: str) -> None:
    """What has no meaning is not guessed."""
    with pytest.raises(ValueError):  # noqa: PT011  # the message is that of the option
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (3_540, "59 min"), (9_000, "2 h 30 min"), (180_000, "2 d 2 h")],
)
def test_durations_are_shown_to_the_minute(seconds: float, text: str) -> None:
    """Shorter ones to the second, longer ones to the hour."""
    assert describe_duration(seconds) == text


def test_client_has_the_rate_limit_of_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `RateLimit(per_minute=7)`."""
    monkeypatch.setenv("JARAI_API_KEY", "jarai_test_key")
    options = build_parser().parse_args(["accounts", "--per-minute", "7", "--timeout", "1m30s"])
    assert "7 requests a minute" in repr(open_client(options))
    assert options.timeout == 90


# --- Before anything is sent ---------------------------------------------------------------------------


@pytest.mark.usefixtures("_unreachable")
def test_dry_run_sends_nothing(tmp_path: Path, capsys: Printed) -> None:
    """It checks the batch, and the variables fill in the identifiers."""
    assert main(["run", write_batch(tmp_path, 3), "--dry-run"]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    first, second = printed.err.splitlines()
    assert first == "jarai: the batch is valid: 3 requests, 3 to be submitted; nothing was sent"
    assert "no forecast, because no earlier run has shown the tier: add --tier" in second
    assert [path.name for path in tmp_path.iterdir()] == ["batch.jsonl"]
    assert main(["run", write_batch(tmp_path, 1, avatar_id="x"), "--dry-run"]) == 2
    assert "avatar_id is not a UUID" in capsys.readouterr().err


@pytest.mark.usefixtures("_unreachable")
def test_dry_run_needs_no_key_and_forecasts_for_a_tier(
    tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says which requests have files already: without their journal they would be paid for again."""
    monkeypatch.delenv("JARAI_API_KEY")
    (folder := tmp_path / "deliverables" / "item-1").mkdir(parents=True)
    (folder / "manifest.json").write_text('{"reference": "item-1"}')
    assert main(["run", write_batch(tmp_path, 3), "--dry-run", "--tier", "free"]) == 0
    printed = capsys.readouterr()
    (planned,) = lines(printed.out)
    assert (planned["productions"], planned["tier"]) == (3, "free")
    assert "deliverables has files of 1 of these requests, which a run would submit and pay" in printed.err
    assert main(["run", write_batch(tmp_path, 3)]) == 2
    assert "no API key" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["run", write_batch(tmp_path, 3), "--tier", "free"])
    assert "only a simulator has --tier: add --simulate or --dry-run" in capsys.readouterr().err


@pytest.mark.usefixtures("_unreachable")
def test_project_type_that_does_not_look_like_one_is_named(tmp_path: Path, capsys: Printed) -> None:
    """JARAI alone knows all of them, so it stays a message."""
    path = write_batch(tmp_path, 2, project_type="Social Video 30s")
    assert main(["run", path, "--dry-run"]) == 0
    message = "project types look like social-video-30s; JARAI may not know 'Social Video 30s'"
    assert capsys.readouterr().err.count(message) == 1
    assert main(["run", write_batch(tmp_path, 2, project_type="article-1500w"), "--dry-run"]) == 0
    assert "project type" not in capsys.readouterr().err


@pytest.mark.usefixtures("_unreachable")
def test_simulated_batch_keeps_away_from_real_files_and_journals(tmp_path: Path, capsys: Printed) -> None:
    """Its files have a folder of their own. A second simulator does not know the productions of the first."""
    command = ["run", write_batch(tmp_path, 1), "--simulate", "--failure-rate=0", "--journal=batch.db"]
    assert main(command) == 0
    assert "files in simulated-deliverables" in capsys.readouterr().err
    assert main(command[:-1]) == 0
    assert "paid for again" not in capsys.readouterr().err
    assert not Path("deliverables").exists()
    before = Path("batch.db").read_bytes()
    assert main(command) == 2
    assert "batch.db has productions that a new simulator does not know" in capsys.readouterr().err
    assert Path("batch.db").read_bytes() == before


@pytest.mark.usefixtures("_unreachable")
def test_dry_run_of_a_simulated_batch_forecasts_it(tmp_path: Path, capsys: Printed) -> None:
    """On the tier of the simulator, whose identifiers are used instead of the variables."""
    path = write_batch(tmp_path, 30)
    assert main(["run", path, "--simulate", "--dry-run", "--tier", "standard"]) == 0
    (planned,) = lines(capsys.readouterr().out)
    assert (planned["productions"], planned["tier"]) == (30, "standard")


def test_batch_is_compared_with_its_journal_before_the_first_request(
    served: dict[str, str], tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--dry-run` says what is still to be submitted, and forecasts it on the tier of the run before."""
    monkeypatch.chdir(tmp_path)
    for name in ID_FIELDS:
        monkeypatch.setenv(variable(name), served[name])
    main(["run", write_batch(tmp_path, 2), "--speed", "600"])
    capsys.readouterr()
    assert main(["run", write_batch(tmp_path, 5), "--dry-run"]) == 0
    printed = capsys.readouterr()
    assert "5 requests, 3 to be submitted" in printed.err
    (planned,) = lines(printed.out)
    assert (planned["productions"], planned["tier"]) == (3, "enterprise")
    monkeypatch.setenv("JARAI_BASE_URL", "http://127.0.0.1:9")  # where nothing answers
    assert main(["run", write_batch(tmp_path, 2, topic="changed")]) == 2
    assert "'item-1' belongs to another request in the journal: topic was" in capsys.readouterr().err
    assert main(["run", write_batch(tmp_path, 2)]) == 2
    assert "use the same again, or another journal" in capsys.readouterr().err


@pytest.mark.usefixtures("_unreachable")
def test_ignored_columns_are_named(tmp_path: Path, capsys: Printed) -> None:
    """One of them may be a mistyped one."""
    (path := tmp_path / "batch.csv").write_text("topic,notes,owner\nA,n,o\n")
    assert main(["run", str(path), "--dry-run"]) == 2
    assert "leave it out with --ignore-unknown" in capsys.readouterr().err
    assert main(["run", str(path), "--dry-run", "--ignore-unknown"]) == 0
    assert capsys.readouterr().err.startswith("jarai: ignored columns: notes, owner\n")


# --- Events and webhooks ---------------------------------------------------------------------------------


def test_events_are_appended_to_a_file(tmp_path: Path, capsys: Printed) -> None:
    """In lines of their own, also after a process that was killed while it wrote."""
    (path := tmp_path / "events.jsonl").write_text('{"event": "Submi')
    options = ["--simulate", "--download-to", str(tmp_path / "files"), "--events", str(path)]
    main(["run", write_batch(tmp_path, 1), *options])
    torn, *written = path.read_text().splitlines()
    assert torn == '{"event": "Submi'
    *printed, _ = lines(capsys.readouterr().out)
    assert [json.loads(line) for line in written] == printed


def test_batch_stops_if_its_file_of_events_cannot_be_written(tmp_path: Path, capsys: Printed) -> None:
    """A file that cannot be opened is a mistake, before anything is sent."""
    command = [
        "run",
        write_batch(tmp_path, 1),
        "--simulate",
        "--download-to",
        str(tmp_path / "files"),
        "--events",
    ]
    assert main([*command, str(tmp_path / "nowhere" / "events")]) == 2
    assert "nowhere/events: No such file or directory" in capsys.readouterr().err
    if not Path("/dev/full").exists():
        pytest.skip("needs a device that is always full")
    assert main([*command, "/dev/full"]) == 1
    assert "stopped: /dev/full: the output cannot be written: No space left" in capsys.readouterr().err


async def test_webhooks_are_received_while_a_batch_runs(
    simulator: Simulator, tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The secret is read from the environment, before anything is sent."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JARAI_API_KEY", simulator.api_key)
    monkeypatch.setenv("JARAI_BASE_URL", simulator.base_url)
    monkeypatch.delenv("JARAI_WEBHOOK_SECRET", raising=False)
    command = ["run", write_batch(tmp_path, 1), "--webhook-port", "0"]
    for name in ID_FIELDS:
        monkeypatch.setenv(variable(name), getattr(simulator, name))
    options = build_parser().parse_args(command)
    options.text = Path(options.batch).read_text()
    with pytest.raises(ConfigurationError, match="no signing secret: set JARAI_WEBHOOK_SECRET"):
        await batch_commands.run(options)
    monkeypatch.setenv("JARAI_WEBHOOK_SECRET", SECRET)
    with background_streams():
        batch, messages = asyncio.create_task(batch_commands.run(options)), ""
        while "listening at " not in messages:
            await asyncio.sleep(0.01)
            messages += capsys.readouterr().err
        url = messages.partition("listening at ")[2].partition(" ")[0]
        async with aiohttp.ClientSession() as session:
            status = 503  # until the orchestrator is ready
            while status == 503:
                await asyncio.sleep(0.01)
                content = body()
                async with session.post(url, data=content, headers=sign(content, SECRET)) as response:
                    status = response.status
        assert status == 204
        assert await batch in (0, 1)


# --- Completion ------------------------------------------------------------------------------------------


def test_shell_completes_commands(tmp_path: Path) -> None:
    """By a script that bash reads once."""
    script = subprocess.run([*JARAI, "completion", "bash"], capture_output=True, text=True, check=True).stdout
    (tmp_path / "jarai.sh").write_text(script)
    program = 'source jarai.sh; COMP_WORDS=(jarai res); COMP_CWORD=1; _shtab_jarai; echo "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["/bin/bash", "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout.split() == ["resume", "resolve"]


def test_completion_needs_shtab(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    """The message says how to install it."""
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert "pip install 'jarai-async[cli]'" in capsys.readouterr().err
