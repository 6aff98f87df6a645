"""`jarai webhooks` as a user has it: on the simulator in virtual time, and as a process of its own."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import aiohttp
import pytest

from jarai_async import JaraiClient
from jarai_async._cli import webhook_commands
from jarai_async._cli.arguments import parser
from jarai_async._cli.commands import main
from jarai_async.simulator import Simulator
from jarai_async.webhooks import sign
from tests.support.deliveries import SECOND_SECRET, SECRET, body, numbered
from tests.support.scenarios import requests_for
from tests.support.strategies import ID, OTHER

URL = "https://example.org/jarai"
KNOWN = [
    *("production.queued", "production.step.complete", "production.published", "production.failed"),
    "deliverable.ready",
]
Printed = pytest.CaptureFixture[str]


@pytest.fixture
def _in_the_environment(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JARAI_API_KEY", simulator.api_key)
    monkeypatch.setenv("JARAI_BASE_URL", simulator.base_url)


async def webhooks(*arguments: str) -> int:
    return await webhook_commands.run(parser().parse_args(["webhooks", *arguments]))


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


async def begin(printed: Printed, *arguments: str) -> tuple[asyncio.Task[int], str]:
    """Listen, at the URL that is said."""
    command = asyncio.create_task(webhooks("listen", "--port", "0", *arguments))
    said = ""
    while "https only" not in said:
        assert not command.done()
        await asyncio.sleep(0.01)
        said += printed.readouterr().err
    return command, said.partition("listening at ")[2].partition(" ")[0]


@asynccontextmanager
async def listening(printed: Printed, *arguments: str) -> AsyncIterator[str]:
    """Give the URL, and stop as an impatient user does."""
    command, url = await begin(printed, *arguments)
    yield url
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGINT):
        signal.raise_signal(number)
    assert await command == 0


async def post(url: str, content: bytes, secret: str = SECRET) -> int:
    headers = sign(content, secret)
    async with aiohttp.ClientSession() as session, session.post(url, data=content, headers=headers) as answer:
        return answer.status


@contextmanager
def full_disk() -> Iterator[None]:
    """Standard output cannot be written."""
    if not Path("/dev/full").exists():
        pytest.skip("needs a device that is always full")
    with Path("/dev/full").open("w", encoding="utf-8") as full, redirect_stdout(full):
        yield


# --- Subscriptions ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("_in_the_environment")
async def test_a_webhook_by_hand(simulator: Simulator, capsys: Printed) -> None:
    """Its secret is printed as it is created, and never again."""
    assert await webhooks("create", URL) == 0
    printed = capsys.readouterr()
    (truth,) = simulator.webhooks
    (created,) = lines(printed.out)
    assert created["signingSecret"] == truth.signing_secret
    assert (created["endpointUrl"], created["eventTypes"]) == (URL, KNOWN) == (URL, list(truth.event_types))
    assert created["createdAt"].startswith("2026-01-01T09:00")
    assert "not shown again" in printed.err
    assert "JARAI_WEBHOOK_SECRET" in printed.err
    assert truth.signing_secret not in printed.err
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
    assert not [one for one in simulator.webhooks if one.signing_secret in listed.out + listed.err]


@pytest.mark.usefixtures("_in_the_environment")
async def test_one_that_cannot_be_deleted_keeps_no_other(simulator: Simulator, capsys: Printed) -> None:
    """Each is named, and the exit code says that not all is done."""
    for _ in range(2):
        await webhooks("create", URL)
    first, last = (one.webhook_id for one in simulator.webhooks)
    capsys.readouterr()
    assert await webhooks("delete", first, ID, "x", last) == 1
    printed = capsys.readouterr()
    assert simulator.webhooks == []
    assert lines(printed.out) == [{"webhookId": one, "deleted": True} for one in (first, last)]
    assert [line.split(":")[1].strip() for line in printed.err.splitlines()] == [ID, "x"]


@pytest.mark.usefixtures("_in_the_environment")
@pytest.mark.parametrize("fault", ["reset_after", "internal_error_after", "truncated_json"])
async def test_a_creation_in_doubt_says_what_to_do(simulator: Simulator, capsys: Printed, fault: str) -> None:
    """It was created, and nobody has its secret."""
    simulator.faults.add(fault, on="create_webhook")
    assert await webhooks("create", URL) == 1
    printed = capsys.readouterr()
    assert len(simulator.webhooks) == 1
    assert printed.out == ""
    assert "if `jarai webhooks list` shows it, delete it" in printed.err.splitlines()[-1]


@pytest.mark.usefixtures("_in_the_environment")
async def test_a_secret_that_cannot_be_written_is_not_done(simulator: Simulator, capsys: Printed) -> None:
    """The webhook exists, and is of no use to anybody."""
    with full_disk():
        assert await webhooks("create", URL) == 1
    error, truth = capsys.readouterr().err, simulator.webhooks[0]
    assert f"delete the webhook, {truth.webhook_id}" in error
    assert truth.signing_secret not in error


# --- Listening --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_in_the_environment")
async def test_what_comes_is_printed(
    simulator: Simulator, client: JaraiClient, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each event once, as JARAI's envelope says it, but for signed URLs; and test events."""
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
        printed = capsys.readouterr()
    came = lines(printed.out)
    assert "test event is on its way" in printed.err
    sent = [json.loads(one.event.body) for one in simulator.deliveries]
    assert len(came) == len(sent) == 2 * 18 + 1
    ready = {one["eventId"]: one["data"] for one in sent if one["eventType"] == "deliverable.ready"}
    for one in sent:
        (line,) = (line for line in came if line["eventId"] == one["eventId"])
        assert line["timestamp"][:19] == one["timestamp"][:19]
        if one["eventId"] in ready:
            types = [item["type"] for item in one["data"]["deliverables"]]
            assert line["data"] == {"deliverables": types}
            assert "Video" in types
        told = one if one["eventId"] not in ready else {**one, "data": line["data"]}
        assert {**line, "timestamp": one["timestamp"]} == told
    assert "sig=" in str(ready)
    assert "sig=" not in printed.out
    assert created["signingSecret"] not in printed.out + printed.err


async def test_what_is_refused_is_said(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    """On standard error, with the reason; and two secrets are as good as one."""
    monkeypatch.setenv("JARAI_WEBHOOK_SECRET", f" {SECRET},{SECOND_SECRET}\n")
    async with listening(capsys) as url:
        assert await post(url, numbered(0)) == await post(url, numbered(1), SECOND_SECRET) == 204
        assert await post(url, numbered(2), "x" * 43) == 401
        assert await post(url + "jarai", numbered(3)) == 404
        printed = capsys.readouterr()
    assert [line["sequenceNumber"] for line in lines(printed.out)] == [0, 1]
    assert printed.err.splitlines() == [
        "jarai: rejected a webhook with status 401: the signature does not match: check the signing secret",
        "jarai: rejected a webhook with status 404: the path is '/jarai', not /",
    ]


async def test_output_that_cannot_be_written_ends_it(
    capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself, with one line and no traceback."""
    monkeypatch.setenv("JARAI_WEBHOOK_SECRET", SECRET)
    command, url = await begin(capsys)
    with full_disk():
        assert await post(url, numbered(1)) == 204
        done, _ = await asyncio.wait([command], timeout=60)
    assert [one.result() for one in done] == [1]
    assert capsys.readouterr().err == "jarai: the output cannot be written: No space left on device\n"


def test_it_is_stopped_in_order() -> None:
    """A process of its own: a line as soon as there is one, then Ctrl-C, and exit code 0."""
    command = [sys.executable, "-m", "jarai_async", "webhooks", "listen", "--port", "0"]
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
        with urlopen(Request(url, content, sign(content, SECRET))) as answer:  # noqa: S310  # our own
            assert answer.status == 204
        assert json.loads(process.stdout.readline())["eventType"] == "production.published"
        process.send_signal(signal.SIGINT)
        output, error = process.communicate()
    assert process.returncode == 0
    assert output == ""
    assert "Traceback" not in error


# --- What is set up wrongly -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "secret", "says"),
    [
        (["listen"], None, "set JARAI_WEBHOOK_SECRET"),
        (["listen"], " , ", "set JARAI_WEBHOOK_SECRET"),
        (["listen"], f"{SECRET},too-short", "base64url"),
        (["list"], None, "no API key"),
        (["create", URL], None, "no API key"),
    ],
)
def test_what_is_missing_is_two(
    arguments: list[str], secret: str | None, says: str, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says what to do, and shows no secret."""
    monkeypatch.delenv("JARAI_API_KEY", raising=False)
    monkeypatch.delenv("JARAI_WEBHOOK_SECRET", raising=False)
    if secret is not None:
        monkeypatch.setenv("JARAI_WEBHOOK_SECRET", secret)
    assert main(["webhooks", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert SECRET not in line
    assert "too-short" not in line


def test_an_endpoint_that_is_not_https_is_two(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own words, before anything is sent."""
    monkeypatch.setenv("JARAI_API_KEY", "jarai_test_abc")
    monkeypatch.setenv("JARAI_BASE_URL", "http://127.0.0.1:9")
    assert main(["webhooks", "create", "http://example.org/"]) == 2
    assert "must be an https URL" in capsys.readouterr().err


def test_a_port_that_is_taken_is_two(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named."""
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
def test_arguments_that_make_no_sense_are_two(arguments: list[str]) -> None:
    """As argparse has it."""
    with pytest.raises(SystemExit) as left:
        main(["webhooks", *arguments])
    assert left.value.code == 2
