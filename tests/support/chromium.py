"""A headless Chromium, driven by its DevTools protocol: JavaScript is evaluated in one page."""

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

PATH = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
_INTERVAL = 0.1  # seconds between two looks


class Page:
    """An open page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._events: list[Any] = []

    async def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol, and return its result."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            answer = await self._socket.receive_json()
            if "method" in answer:
                self._events.append(answer)
            elif answer["id"] == number:
                assert "error" not in answer, answer
                return answer["result"]

    async def evaluate(self, script: str) -> Any:
        """Return the JSON value of a JavaScript expression, or that of its promise."""
        result = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def problems(self) -> list[Any]:
        """Return what the page has written to the console, its exceptions, and what its policy forbade."""
        await self.call("Log.enable")
        await self.call("Runtime.enable")
        kinds = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        return [event for event in self._events if event["method"] in kinds]

    async def until(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        await self.evaluate(
            f"""new Promise((resolve) => {{
                const look = () => ({condition}) ? resolve() : setTimeout(look, 100);
                look();
            }})"""
        )


@asynccontextmanager
async def open_page(url: str, folder: Path) -> AsyncIterator[Page]:
    """Start a browser with this page; `folder` is for its profile."""
    assert PATH is not None
    with (folder / "chromium-log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(
                PATH,
                *_OPTIONS,
                f"--user-data-dir={folder / 'profile'}",
                "--remote-debugging-port=0",
                "about:blank",
            ),
            stdout=log,
            stderr=log,
        )
    try:
        port_file = folder / "profile" / "DevToolsActivePort"
        while not (port_file.exists() and port_file.read_text()):
            assert process.returncode is None, (folder / "chromium-log").read_text()
            await asyncio.sleep(_INTERVAL)
        port = port_file.read_text().split()[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as response:
                (target,) = [one for one in await response.json() if one["type"] == "page"]
            async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                await page.call("Page.enable")
                await page.call("Page.navigate", url=url)
                await page.until(f"location.href.startsWith({url!r}) && document.readyState === 'complete'")
                yield page
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
