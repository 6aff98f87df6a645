"""The receiver in FastAPI and Starlette, with the example of its docstring, served by uvicorn."""

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

from jarai_async import receiver as receiver_module
from jarai_async.receiver import Receiver
from jarai_async.webhooks import WebhookEvent, sign
from tests.support.deliveries import SECRET, body

EXAMPLE = dedent(
    "    @app.post" + (receiver_module.__doc__ or "").partition("@app.post")[2].partition("\n\n")[0]
)


def fastapi_app(receiver: Receiver) -> FastAPI:
    """An application that runs the example unchanged."""
    app = FastAPI()
    exec(EXAMPLE, {"receiver": receiver, "app": app, "Request": Request, "Response": Response})  # noqa: S102  # our own text
    return app


def starlette_app(receiver: Receiver) -> Starlette:
    """An application with the function of the example; only its route is defined differently."""
    names: dict[str, Any] = {"receiver": receiver, "Request": Request, "Response": Response}
    exec(EXAMPLE.partition("\n")[2], names)  # noqa: S102  # our own text
    return Starlette(routes=[Route("/jarai", names["jarai"], methods=["POST"])])


@asynccontextmanager
async def serving(app: FastAPI | Starlette) -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, http="h11", ws="none", lifespan="off", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = asyncio.create_task(server.serve([listener]))
        yield "http://{}:{}/jarai".format(*listener.getsockname())
        server.should_exit = True
        await running


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        await asyncio.sleep(0.01)
        yield part


@pytest.mark.parametrize("make_app", [fastapi_app, starlette_app])
async def test_status_of_each_kind_of_request(make_app: Any) -> None:
    """Each request gets the same status as with aiohttp, and the event is passed on once."""
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
        Receiver(SECRET, seen.append) as receiver,
        serving(make_app(receiver)) as url,
        aiohttp.ClientSession() as session,
    ):
        for status, data, headers in requests:
            async with session.post(url, data=data, headers=headers) as response:
                assert (response.status, await response.read()) == (status, b"")
    assert [event.raw for event in seen] == [json.loads(content)]
