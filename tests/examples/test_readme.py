"""The README's examples, run as they stand."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn
from aiohttp import web

from jarai_async import JaraiClient, Outcome
from jarai_async.simulator import SimulatedEventLoop, Simulator
from tests.support.scenarios import request_for, requests_for

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BATCH, APP, BY_HAND, AIOHTTP_APP, FASTAPI_APP, TESTING, CONFTEST = re.findall(
    r"```python\n(.*?)```", README, re.DOTALL
)


@pytest.fixture
def _key_in_the_environment(simulator: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JARAI_API_KEY", simulator.api_key)
    monkeypatch.setenv("JARAI_BASE_URL", simulator.base_url)
    monkeypatch.chdir(tmp_path)


def defined_by(source: str) -> dict[str, Any]:
    """Run an example, but for a last line that would begin a loop of its own."""
    names: dict[str, Any] = {"__name__": "readme"}
    exec(source.replace("asyncio.run(main())", ""), names)  # noqa: S102  # it is our own text
    return names


@pytest.mark.usefixtures("_key_in_the_environment")
async def test_the_batch_script_fetches_every_topic(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Each of its topics is published, and its files stand in its folder."""
    await defined_by(BATCH)["main"]()
    printed = capsys.readouterr().out
    assert printed.count(" published") == 3
    assert len(list((tmp_path / "deliverables").glob("*/manifest.json"))) == 3


@pytest.mark.usefixtures("_key_in_the_environment")
async def test_the_app_gets_its_outcomes(simulator: Simulator) -> None:
    """Tickets are awaited, and their events read."""
    outcomes: list[Outcome] = await defined_by(APP)["main"](requests_for(simulator, 2))
    assert all(outcome.ok for outcome in outcomes)


@pytest.mark.usefixtures("_key_in_the_environment")
async def test_by_hand_fetches_files_and_stops(simulator: Simulator, tmp_path: Path) -> None:
    """Submit, wait, download; and cancel."""
    names = defined_by(BY_HAND)
    await names["by_hand"](request_for(simulator))
    assert list(tmp_path.glob("files/*.mp4"))
    (production_id,) = simulator.productions
    await names["stop"](production_id)


@asynccontextmanager
async def serving_aiohttp(names: dict[str, Any]) -> AsyncIterator[str]:
    runner = web.AppRunner(names["app"], shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield "http://{}:{}".format(*runner.addresses[0])
    await runner.cleanup()


@asynccontextmanager
async def serving_fastapi(names: dict[str, Any]) -> AsyncIterator[str]:
    config = uvicorn.Config(names["app"], http="h11", ws="none", lifespan="on", log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        running = asyncio.create_task(server.serve([taken]))
        yield "http://{}:{}".format(*taken.getsockname())
        server.should_exit = True
        await running


@pytest.mark.usefixtures("_key_in_the_environment")
@pytest.mark.parametrize(
    ("source", "serving"), [(AIOHTTP_APP, serving_aiohttp), (FASTAPI_APP, serving_fastapi)]
)
async def test_an_app_with_webhooks_is_told(
    simulator: Simulator,
    client: JaraiClient,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    serving: Callable[[dict[str, Any]], AbstractAsyncContextManager[str]],
) -> None:
    """It receives and verifies what is delivered, asks at once, and answers when all is published."""
    webhook = await client.create_webhook(
        "http://127.0.0.1:1/", ["deliverable.ready", "production.published"]
    )
    monkeypatch.setenv("JARAI_WEBHOOK_SECRET", webhook.signing_secret.reveal())
    body = {
        name: getattr(simulator, name) for name in ("account_id", "language_id", "country_id", "avatar_id")
    }
    timeout = aiohttp.ClientTimeout(total=None)
    async with serving(defined_by(source)) as url, aiohttp.ClientSession(url, timeout=timeout) as session:
        await client.update_webhook(webhook.id, endpoint_url=f"{url}/jarai")
        async with session.post("/productions", json={"topic": "Tides", **body}) as response:
            assert (await response.json())["state"] == "published"
    assert [one.delivered_at is not None for one in simulator.deliveries] == [True, True]


def test_the_test_of_ones_own_program_passes() -> None:
    """The example brings its own loop."""
    defined_by(TESTING)


def test_the_conftest_is_the_one_of_these_tests() -> None:
    """It names the hook that pytest-asyncio calls."""
    assert defined_by(CONFTEST)["pytest_asyncio_loop_factories"]() == {"simulated": SimulatedEventLoop}


def test_the_first_two_shell_blocks_are_one_line_each() -> None:
    """They are what a new user pastes."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    assert [block.count("\n") for block in blocks[:2]] == [1, 1]
    assert "--simulate" in blocks[0]
    assert "pytest" in blocks[1]
