"""The applications of tests/examples as processes, and what a browser reads from them."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn

from jarai_async.simulator import SimulatedEventLoop, Simulator

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = ("fastapi_app", "aiohttp_app")
SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I"  # noqa: S105  # of a simulated webhook

_UVICORN = ("-m", "uvicorn", "--app-dir", str(EXAMPLES), "fastapi_app:app", "--timeout-graceful-shutdown=3")
_AIOHTTP = f"""
import asyncio, runpy
from tests.support.applications import loop
asyncio.new_event_loop = loop
runpy.run_path({str(EXAMPLES / "aiohttp_app.py")!r}, run_name="__main__")
"""


def loop() -> SimulatedEventLoop:
    """Return the event loop of an application, whose clock is that of its simulator."""
    return SimulatedEventLoop(speed=float(os.environ["SPEED"]), epoch=float(os.environ["EPOCH"]))


class Application:
    """An application of tests/examples in a process, started as its first lines say, in a folder.

    The simulator is in this process, in a loop with the same `speed` and `epoch`.
    """

    def __init__(
        self, name: str, simulator: Simulator, folder: Path, *, speed: float = 1.0, epoch: float | None = None
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._uvicorn = name == "fastapi_app"
        self._environment: Mapping[str, str] = os.environ | {
            "JARAI_API_KEY": simulator.api_key,
            "JARAI_BASE_URL": simulator.base_url,
            "JARAI_WEBHOOK_SECRET": SECRET,
            "PORT": str(self.port),
            "PYTHONPATH": str(EXAMPLES.parents[1]),
            "SPEED": str(speed),
            "EPOCH": str(time.time() if epoch is None else epoch),
        }
        self._process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> str:
        """What the processes have written."""
        return (self._folder / "log").read_text()

    async def start(self) -> None:
        """Start the process, without waiting until it serves."""
        loop = "--loop=tests.support.applications:loop"
        command = (*_UVICORN, f"--port={self.port}", loop) if self._uvicorn else ("-c", _AIOHTTP)
        with (self._folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *command, cwd=self._folder, env=self._environment, stdout=log, stderr=log
            )

    async def serves(self, session: aiohttp.ClientSession) -> None:
        """Wait until the application responds. Raises RuntimeError if its process has ended."""
        while True:
            try:
                async with session.get(f"{self.url}/productions") as response:
                    assert response.status == 200
                    return
            except aiohttp.ClientConnectionError:
                if self._process is None or self._process.returncode is not None:
                    raise RuntimeError(self.log) from None
                await asyncio.sleep(0.5)

    async def stop(self, number: signal.Signals) -> int | None:
        """Send a signal, and return the exit code of the process; None if it had ended before."""
        if self._process is None or self._process.returncode is not None:
            return None
        self._process.send_signal(number)
        return await self._process.wait()


def http_session(url: str) -> aiohttp.ClientSession:
    """Return a session without timeouts, in which no idle connection ends because time runs fast."""
    connector = aiohttp.TCPConnector(force_close=True)
    return aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=None), connector=connector)


def fields_for(simulator: Simulator, **changes: Any) -> dict[str, Any]:
    """Return the body of a POST that the application accepts."""
    ids = ("account_id", "language_id", "country_id", "avatar_id")
    return {"topic": "Tides", **{name: getattr(simulator, name) for name in ids}, **changes}


async def messages(
    session: aiohttp.ClientSession, after: int = 0, *, last_event_id: int | None = None
) -> AsyncGenerator[tuple[int, dict[str, Any]], None]:
    """Read Server-Sent Events as a browser does: each with its id."""
    headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
    async with session.get("/events", params={"after": after}, headers=headers) as response:
        assert response.content_type == "text/event-stream"
        fields: dict[str, str] = {}
        async for line in response.content:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            else:
                yield int(fields["id"]), json.loads(fields["data"])
                fields = {}


async def productions(session: aiohttp.ClientSession) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the cursor of what the application lists, and the list by reference."""
    async with session.get("/productions") as response:
        answer = await response.json()
        return answer["cursor"], {one["reference"]: one for one in answer["productions"]}


@asynccontextmanager
async def serve_fastapi(app: Any) -> AsyncIterator[str]:
    """Serve an ASGI application in this event loop, and yield its URL."""
    config = uvicorn.Config(
        app, http="h11", ws="none", lifespan="on", log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(server.serve([listening]))
        yield "http://{}:{}".format(*listening.getsockname())
        server.should_exit = True
        await serving
