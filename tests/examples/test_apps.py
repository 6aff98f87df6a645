"""The README's web applications, served and called over HTTP."""

import asyncio
import runpy
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn
from aiohttp import web

from jarai_async import JaraiClient
from jarai_async.simulator import Simulator


@asynccontextmanager
async def serve_aiohttp(app: Any) -> AsyncIterator[str]:
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield "http://{}:{}".format(*runner.addresses[0])
    await runner.cleanup()


@asynccontextmanager
async def serve_fastapi(app: Any) -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, http="h11", ws="none", lifespan="on", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(server.serve([listening]))
        yield "http://{}:{}".format(*listening.getsockname())
        server.should_exit = True
        await serving


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("file", "serve"), [("aiohttp_app.py", serve_aiohttp), ("fastapi_app.py", serve_fastapi)]
)
async def test_webhook_application_receives_events_and_returns_the_outcome(
    simulator: Simulator,
    client: JaraiClient,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    serve: Callable[[Any], AbstractAsyncContextManager[str]],
) -> None:
    """The application accepts each genuine webhook, and responds once its production is published."""
    webhook = await client.create_webhook(
        "http://127.0.0.1:1/", ["deliverable.ready", "production.published"]
    )
    monkeypatch.setenv("JARAI_WEBHOOK_SECRET", webhook.signing_secret.reveal())
    app = runpy.run_path(str(Path(__file__).with_name(file)))["app"]
    ids = {
        name: getattr(simulator, name) for name in ("account_id", "language_id", "country_id", "avatar_id")
    }
    timeout = aiohttp.ClientTimeout(total=None)
    async with serve(app) as url, aiohttp.ClientSession(url, timeout=timeout) as session:
        await client.update_webhook(webhook.id, endpoint_url=f"{url}/jarai")
        async with session.post("/productions", json={"topic": "Tides", **ids}) as response:
            outcome = await response.json()
    assert outcome["state"] == "published"
    assert "Video" in outcome["files"]
    assert [delivery.delivered_at is not None for delivery in simulator.deliveries] == [True, True]
