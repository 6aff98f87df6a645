"""The receiver in other frameworks, by the lines of its docstring, served by uvicorn over real HTTP."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from textwrap import dedent
from typing import Any

import aiohttp
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jarai_async import receiver
from jarai_async.receiver import Receiver
from jarai_async.webhooks import WebhookEvent, sign
from tests.support.deliveries import SECRET, body

LINES = dedent("    @app.post" + (receiver.__doc__ or "").partition("@app.post")[2].partition("\n\n")[0])


def in_fastapi(one: Receiver) -> FastAPI:
    """The lines as they stand."""
    app = FastAPI()
    exec(LINES, {"receiver": one, "app": app, "Request": Request, "Response": Response})  # noqa: S102  # ours
    return app


def in_starlette(one: Receiver) -> Starlette:
    """The same, but for how a route is made."""
    names: dict[str, Any] = {"receiver": one, "Request": Request, "Response": Response}
    exec(LINES.partition("\n")[2], names)  # noqa: S102  # ours
    return Starlette(routes=[Route("/jarai", names["jarai"], methods=["POST"])])


@asynccontextmanager
async def serving(app: FastAPI | Starlette) -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, http="h11", ws="none", lifespan="off", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        running = asyncio.create_task(server.serve([taken]))
        yield "http://{}:{}/jarai".format(*taken.getsockname())
        server.should_exit = True
        await running


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        await asyncio.sleep(0.01)
        yield part


@pytest.mark.parametrize("mounted", [in_fastapi, in_starlette])
async def test_it_is_the_same_receiver(mounted: Any) -> None:
    """Each request has the answer that it would have from aiohttp, and an event is handed on once."""
    content = body("production.failed", data={"errorCode": "X"})
    (signed,) = sign(content, SECRET).items()
    requests: list[tuple[int, Any, list[tuple[str, str]]]] = [
        (204, content, [signed]),
        (204, chunks(content[:20], content[20:]), [signed]),
        (401, content, []),
        (401, content, [signed, signed]),
        (401, content + b" ", [signed]),
        (413, b"x" * 300_000, [signed]),
        (413, chunks(*[b"x" * 9_999] * 99), [signed]),
        (415, content, [signed, ("Content-Encoding", "br")]),
    ]
    seen: list[WebhookEvent] = []
    async with (
        Receiver(SECRET, seen.append) as one,
        serving(mounted(one)) as url,
        aiohttp.ClientSession() as session,
    ):
        for status, data, headers in requests:
            async with session.post(url, data=data, headers=headers) as response:
                assert (response.status, await response.read()) == (status, b"")
    assert [event.raw for event in seen] == [json.loads(content)]
