"""The applications of tests/examples, and what a browser does with them."""

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import aiohttp

from jarai_async.simulator import Simulator

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = ("fastapi_app", "aiohttp_app")


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


async def productions(session: aiohttp.ClientSession) -> dict[str, dict[str, Any]]:
    """Return what the application lists, by reference."""
    async with session.get("/productions") as response:
        return {one["reference"]: one for one in (await response.json())["productions"]}
