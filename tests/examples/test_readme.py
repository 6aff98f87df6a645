"""The README's examples, run as they are, and its other statements that can be checked."""

import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import jarai_async
from jarai_async import Finished, JaraiClient, JaraiError, webhooks
from jarai_async.simulator import Simulator
from tests.support.applications import serve_fastapi
from tests.support.deliveries import SECRET, body
from tests.support.postgres import working
from tests.support.scenarios import request_for, requests_for

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BATCH, WEB, WEBHOOKS, BY_HAND, QUEUE, TESTING = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def defined_by(source: str) -> dict[str, Any]:
    """Run an example, without a last line that starts an event loop."""
    names: dict[str, Any] = {"__name__": "readme"}
    exec(source.replace("asyncio.run(main())", ""), names)  # noqa: S102  # it is our own text
    return names


@pytest.mark.usefixtures("environment")
async def test_batch_script_downloads_every_topic(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each of its topics is published, and has a folder with a manifest."""
    await defined_by(BATCH)["main"]()
    printed = capsys.readouterr().out
    assert printed.count(" published") == 3
    assert len(list((tmp_path / "deliverables").glob("*/manifest.json"))) == 3


@pytest.mark.usefixtures("environment")
async def test_web_application_answers_202_and_shows_the_status(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request is recorded, invalid ones are rejected, and a webhook is acknowledged."""
    monkeypatch.setenv("JARAI_WEBHOOK_SECRET", SECRET)
    fields = request_for(simulator, reference="tides").to_dict()
    async with serve_fastapi(defined_by(WEB)["app"]) as url, aiohttp.ClientSession(url) as session:
        async with session.post("/productions", json=fields) as response:
            assert (response.status, (await response.json())["reference"]) == (202, "tides")
        async with session.post("/productions", json={"topic": ""}) as response:
            assert response.status == 422
        async with session.get("/productions/tides") as response:
            assert (await response.json())["reference"] == "tides"
        async with session.get("/productions/none") as response:
            assert response.status == 404
        async with session.post("/jarai", data=body(), headers=webhooks.sign(body(), SECRET)) as response:
            assert response.status == 204


@pytest.mark.usefixtures("environment")
async def test_script_receives_webhooks(simulator: Simulator, client: JaraiClient) -> None:
    """It subscribes, serves the receiver, and polls at once when an event arrives."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    run = defined_by(WEBHOOKS.replace("8080", str(port)))["with_webhooks"]
    events = await run(client, f"http://127.0.0.1:{port}/jarai", requests_for(simulator, 2))
    assert [event.outcome.ok for event in events if isinstance(event, Finished)] == [True, True]
    assert any(delivery.delivered_at is not None for delivery in simulator.deliveries)


@pytest.mark.usefixtures("environment")
async def test_single_calls_download_the_files(simulator: Simulator, tmp_path: Path) -> None:
    """It submits, waits and downloads."""
    await defined_by(BY_HAND)["by_hand"](request_for(simulator))
    assert list(tmp_path.glob("files/*/*.mp4"))


async def test_queue_returns_the_outcome_of_a_worker(
    simulator: Simulator, client: JaraiClient, postgres_url: str
) -> None:
    """It is added without an API key."""
    add = defined_by(QUEUE.replace("postgresql://db/jarai", postgres_url))["add"]
    async with working(client, postgres_url):
        assert (await add(request_for(simulator))).ok


def test_example_of_a_test_passes(tmp_path: Path) -> None:
    """The installed package has all that it needs."""
    (tmp_path / "test_example.py").write_text(TESTING)
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", ".")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_table_of_errors_is_complete() -> None:
    """Every public error has a row, or a place in one."""
    (table,) = re.findall(r"^## Errors\n(.*?)^## ", README, re.DOTALL | re.MULTILINE)
    errors = {name for name, value in vars(jarai_async).items() if _is_error(value)}
    assert errors == set(re.findall(r"`(\w+Error)`", table))


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, JaraiError)


def test_prose_is_short() -> None:
    """At most 900 words without code and tables, so that it is read."""
    prose = re.sub(r"```.*?```|^\|.*?$", "", README, flags=re.DOTALL | re.MULTILINE)
    assert len(prose.split()) <= 900


def test_first_two_shell_blocks_are_one_line_each() -> None:
    """A new user pastes them, and .ci/run runs the second."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    assert [block.count("\n") for block in blocks[:2]] == [1, 1]
    assert "--simulate" in blocks[0]
    assert "pytest" in blocks[1]
