"""`jarai webhooks`: on the simulator in simulated time, and as a separate process."""

import asyncio
import errno
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from urllib.request import Request, urlopen

import aiohttp
import pytest

from jarai_async import ConfigurationError, JaraiClient
from jarai_async._cli import webhook_commands
from jarai_async._cli.arguments import build_parser
from jarai_async._cli.commands import main
from jarai_async._cli.streams import BackgroundStream, OutputError, background, background_streams
from jarai_async.simulator import Simulator
from jarai_async.webhooks import sign
from tests.cli.helpers import JARAI, lines
from tests.support.deliveries import SECOND_SECRET, SECRET, body, numbered
from tests.support.scenarios import requests_for
from tests.support.strategies import ID, OTHER

URL = "https://example.org/jarai"
EVENT_TYPES = [
    *("production.queued", "production.step.complete", "production.published", "production.failed"),
    "deliverable.ready",
]
Printed = pytest.CaptureFixture[str]


@pytest.fixture
def _environment(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JARAI_API_KEY", simulator.api_key)
    monkeypatch.setenv("JARAI_BASE_URL", simulator.base_url)


async def webhooks(*arguments: str) -> int:
    """Run a command as `main` does, and wait until its output is written."""
    with nullcontext() if isinstance(sys.stdout, BackgroundStream) else background_streams():
        code = await webhook_commands.run(build_parser().parse_args(["webhooks", *arguments]))
        await written()
    return code


async def written() -> None:
    with suppress(OutputError):
        await background(sys.stdout).written()
    await background(sys.stderr).written()


async def start_listening(printed: Printed, *arguments: str) -> tuple[asyncio.Task[int], str]:
    """Start `jarai webhooks listen`; return its task and the URL that it prints."""
    command = asyncio.create_task(webhooks("listen", "--port", "0", *arguments))
    messages = ""
    while "https URLs only" not in messages:
        assert not command.done()
        await asyncio.sleep(0.01)
        messages += printed.readouterr().err
    return command, messages.partition("listening at ")[2].partition(" ")[0]


@asynccontextmanager
async def listening(printed: Printed, *arguments: str) -> AsyncIterator[str]:
    """Yield the URL; stop with several signals, like an impatient user."""
    command, url = await start_listening(printed, *arguments)
    yield url
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGINT):
        signal.raise_signal(number)
    assert await command == 0


async def post(url: str, content: bytes, secret: str = SECRET) -> int:
    headers = sign(content, secret)
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=content, headers=headers) as response,
    ):
        return response.status


@contextmanager
def full_disk() -> Iterator[None]:
    """Make writing to standard output fail."""
    if not Path("/dev/full").exists():
        pytest.skip("needs a device that is always full")
    with (
        Path("/dev/full").open("w", encoding="utf-8") as full,
        background_streams(),
        redirect_stdout(BackgroundStream(full)),
    ):
        yield


class ShortOutput(StringIO):
    """A disk with room for a single character."""

    def write(self, text: str, /) -> int:
        if len(text) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(text)


# --- Subscriptions ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("_environment")
async def test_create_prints_the_signing_secret_and_list_does_not(
    simulator: Simulator, capsys: Printed
) -> None:
    """The secret is printed only once, on standard output, when the webhook is created."""
    assert await webhooks("create", URL) == 0
    printed = capsys.readouterr()
    (stored,) = simulator.webhooks
    (created,) = lines(printed.out)
    assert created["signingSecret"] == stored.signing_secret
    assert (
        (created["endpointUrl"], created["eventTypes"])
        == (URL, EVENT_TYPES)
        == (URL, list(stored.event_types))
    )
    assert created["createdAt"].startswith("2026-01-01T09:00")
    assert "not shown again" in printed.err
    assert "JARAI_WEBHOOK_SECRET" in printed.err
    assert stored.signing_secret not in printed.err
    account = simulator.account_id
    assert await webhooks("create", "--account", account, URL, "production.failed", "a.new.one") == 0
    assert await webhooks("create", "--scope", account, URL) == 0
    capsys.readouterr()
    assert await webhooks("list") == 0
    listed = capsys.readouterr()
    first, second, third = lines(listed.out)
    assert first == {name: value for name, value in created.items() if name != "signingSecret"}
    assert (second["eventTypes"], second["accountIds"]) == (["production.failed", "a.new.one"], [account])
    assert (third["accountIds"], third["accountScopeId"]) == ([], account)
    assert not [
        webhook for webhook in simulator.webhooks if webhook.signing_secret in listed.out + listed.err
    ]


@pytest.mark.usefixtures("_environment")
async def test_delete_continues_after_an_error(simulator: Simulator, capsys: Printed) -> None:
    """Each webhook that cannot be deleted is reported, the others are deleted, and the exit code is 1."""
    for _ in range(2):
        await webhooks("create", URL)
    first, last = (webhook.webhook_id for webhook in simulator.webhooks)
    capsys.readouterr()
    assert await webhooks("delete", first, ID, "x", last) == 1
    printed = capsys.readouterr()
    assert simulator.webhooks == []
    assert lines(printed.out) == [{"webhookId": id_, "deleted": True} for id_ in (first, last)]
    assert [line.split(":")[1].strip() for line in printed.err.splitlines()] == [ID, "x"]


@pytest.mark.usefixtures("_environment")
@pytest.mark.parametrize("fault", ["reset_after", "internal_error_after", "truncated_json"])
async def test_lost_response_of_create_says_what_to_do(
    simulator: Simulator, capsys: Printed, fault: str
) -> None:
    """The webhook may exist, but its secret is lost."""
    simulator.faults.add(fault, on="create_webhook")
    assert await webhooks("create", URL) == 1
    printed = capsys.readouterr()
    assert len(simulator.webhooks) == 1
    assert printed.out.strip() == ""
    assert "if `jarai webhooks list` shows the webhook, delete it" in printed.err.splitlines()[-1]


@pytest.mark.usefixtures("_environment")
async def test_webhook_is_not_created_if_its_secret_cannot_be_printed(simulator: Simulator) -> None:
    """The secret is shown only once, so the output is checked before the request."""
    with full_disk(), pytest.raises(ConfigurationError, match="No space left on device: nothing was sent"):
        await webhooks("create", URL)
    assert simulator.webhooks == []
    assert simulator.count("create_webhook") == 0


@pytest.mark.usefixtures("_environment")
async def test_signing_secret_is_saved_if_printing_fails_after_the_creation(
    simulator: Simulator, capsys: Printed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes into a new file that only its owner can read; the exit code is 1."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with redirect_stdout(ShortOutput()), background_streams():
        assert await webhooks("create", URL) == 1
    error, stored = capsys.readouterr().err, simulator.webhooks[0]
    (path,) = tmp_path.iterdir()
    assert error.splitlines()[-1] == f"jarai: the webhook with its signing secret was saved in {path}"
    assert json.loads(path.read_text())["signingSecret"] == stored.signing_secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stored.signing_secret not in error


@pytest.mark.usefixtures("_environment")
async def test_webhook_whose_secret_is_lost_has_to_be_deleted(
    simulator: Simulator, capsys: Printed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the secret can be neither printed nor saved, a message says so."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with redirect_stdout(ShortOutput()), background_streams():
        assert await webhooks("create", URL) == 1
    error, stored = capsys.readouterr().err, simulator.webhooks[0]
    assert f"delete webhook {stored.webhook_id}" in error
    assert stored.signing_secret not in error


# --- Listening --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_environment")
async def test_listen_prints_events(
    simulator: Simulator, client: JaraiClient, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every event, test events included, is printed once: its envelope, but without signed URLs."""
    await webhooks("create", URL)
    (created,) = lines(capsys.readouterr().out)
    monkeypatch.setenv("JARAI_WEBHOOK_SECRET", created["signingSecret"])
    async with listening(capsys, "--path", "/hook") as url:
        assert url.endswith("/hook")
        await client.update_webhook(created["webhookId"], endpoint_url=url)
        for request in requests_for(simulator, 2):
            await client.submit(request)
        assert await webhooks("test", created["webhookId"]) == 0
        await asyncio.sleep(7_200)
        await written()
        printed = capsys.readouterr()
    received = lines(printed.out)
    assert "send a test event" in printed.err
    sent = [json.loads(delivery.event.body) for delivery in simulator.deliveries]
    assert len(received) == len(sent) == 2 * 18 + 1
    ready = {event["eventId"]: event["data"] for event in sent if event["eventType"] == "deliverable.ready"}
    for event in sent:
        (line,) = (line for line in received if line["eventId"] == event["eventId"])
        assert line["timestamp"][:19] == event["timestamp"][:19]
        if event["eventId"] in ready:
            types = [item["type"] for item in event["data"]["deliverables"]]
            assert line["data"] == {"deliverables": types}
            assert "Video" in types
        expected = event if event["eventId"] not in ready else {**event, "data": line["data"]}
        assert {**line, "timestamp": event["timestamp"]} == expected
    assert "sig=" in str(ready)
    assert "sig=" not in printed.out
    assert created["signingSecret"] not in printed.out + printed.err


async def test_listen_reports_why_a_webhook_is_rejected(
    capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is printed on standard error; a webhook may be signed with either of two secrets."""
    monkeypatch.setenv("JARAI_WEBHOOK_SECRET", f" {SECRET},{SECOND_SECRET}\n")
    async with listening(capsys) as url:
        assert await post(url, numbered(0)) == await post(url, numbered(1), SECOND_SECRET) == 204
        assert await post(url, numbered(2), "x" * 43) == 401
        assert await post(url + "jarai", numbered(3)) == 404
        await written()
        printed = capsys.readouterr()
    assert [line["sequenceNumber"] for line in lines(printed.out)] == [0, 1]
    assert printed.err.splitlines() == [
        "jarai: rejected a webhook with status 401: the signature does not match: check the signing secret",
        "jarai: rejected a webhook with status 404: the path is '/jarai', not /",
    ]


async def test_listen_stops_if_the_output_cannot_be_written(
    capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It exits with 1 and prints one message, without a traceback."""
    monkeypatch.setenv("JARAI_WEBHOOK_SECRET", SECRET)
    command, url = await start_listening(capsys)
    with full_disk():
        assert await post(url, numbered(1)) == 204
        done, _ = await asyncio.wait([command], timeout=60)
    assert [task.result() for task in done] == [1]
    message = ""
    while not message.endswith("\n"):  # the thread of the output writes it, and `main` would wait for that
        await asyncio.sleep(0.001)
        message += capsys.readouterr().err
    assert message == "jarai: stopped: the output cannot be written: No space left on device\n"


def test_listen_flushes_each_line_and_stops_on_interrupt() -> None:
    """A separate process prints an event immediately, and exits with 0 on Ctrl-C."""
    command = [*JARAI, "webhooks", "listen", "--port", "0"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JARAI_WEBHOOK_SECRET": SECRET},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stderr.readline().split()[3]
        content = body()
        with urlopen(Request(url, content, sign(content, SECRET))) as response:  # noqa: S310  # 127.0.0.1
            assert response.status == 204
        assert json.loads(process.stdout.readline())["eventType"] == "production.published"
        process.send_signal(signal.SIGINT)
        output, error = process.communicate()
    assert process.returncode == 0
    assert output == ""
    assert "Traceback" not in error


# --- Invalid use --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "secret", "message"),
    [
        (["listen"], None, "set JARAI_WEBHOOK_SECRET"),
        (["listen"], " , ", "set JARAI_WEBHOOK_SECRET"),
        (["listen"], f"{SECRET},too-short", "base64url"),
        (["list"], None, "no API key"),
        (["create", URL], None, "no API key"),
    ],
)
def test_invalid_configuration_exits_with_2(
    arguments: list[str], secret: str | None, message: str, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says what to do, and contains no secret."""
    monkeypatch.delenv("JARAI_API_KEY", raising=False)
    monkeypatch.delenv("JARAI_WEBHOOK_SECRET", raising=False)
    if secret is not None:
        monkeypatch.setenv("JARAI_WEBHOOK_SECRET", secret)
    assert main(["webhooks", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert SECRET not in line
    assert "too-short" not in line


def test_endpoint_without_https_exits_with_2(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client rejects the URL before anything is sent."""
    monkeypatch.setenv("JARAI_API_KEY", "jarai_test_abc")
    monkeypatch.setenv("JARAI_BASE_URL", "http://127.0.0.1:9")
    assert main(["webhooks", "create", "http://example.org/"]) == 2
    assert "must be an https URL" in capsys.readouterr().err


def test_port_in_use_exits_with_2(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the address."""
    monkeypatch.setenv("JARAI_WEBHOOK_SECRET", SECRET)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["webhooks", "listen", "--port", str(port)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"jarai: cannot listen at 127.0.0.1:{port}: ")
    assert line.endswith("address already in use")


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["delete"], ["create"], ["test"], ["listen", "--port", "70000"], ["listen", "--path", "hook"]),
        *(["listen", "--path", "/a?b"], ["listen", "--path", "/a#b"]),
        ["create", URL, "--account", ID, "--scope", OTHER],
    ],
)
def test_invalid_arguments_exit_with_2(arguments: list[str]) -> None:
    """The parser rejects missing, conflicting and malformed arguments."""
    with pytest.raises(SystemExit) as caught:
        main(["webhooks", *arguments])
    assert caught.value.code == 2
