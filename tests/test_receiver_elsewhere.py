"""The receiver in other frameworks, by the lines of its docstring; skipped where they are not installed."""

import json
from collections.abc import Awaitable, Callable, Sequence
from textwrap import dedent
from typing import Any

import pytest
from deliveries import SECRET, body

from jarai_async import receiver
from jarai_async.receiver import Receiver
from jarai_async.webhooks import WebhookEvent, sign

App = Callable[[Any, Any, Any], Awaitable[None]]
LINES = "    @app.post" + (receiver.__doc__ or "").partition("@app.post")[2].partition("\n\n")[0]


async def post(app: App, *chunks: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> tuple[int, bytes]:
    """Be the server: speak ASGI."""
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/jarai",
        "raw_path": b"/jarai",
        "query_string": b"",
    }
    scope |= {"headers": list(headers), "http_version": "1.1", "scheme": "http", "root_path": ""}
    scope |= {"server": ("h", 80), "client": ("h", 1), "asgi": {"version": "3.0"}}
    incoming = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    incoming.append({"type": "http.request", "body": b"", "more_body": False})
    sent: list[dict[str, Any]] = []

    async def receive() -> Any:
        return incoming.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], content


def signature(content: bytes) -> tuple[bytes, bytes]:
    (value,) = sign(content, SECRET).values()
    return b"x-jarai-signature", value.encode()


async def is_received_by(app: App, seen: list[WebhookEvent], one: Receiver) -> None:
    content = body("production.failed", data={"errorCode": "X"})
    fine = signature(content)
    assert await post(app, content[:20], content[20:], headers=[fine]) == (204, b"")
    assert await post(app, content, headers=[fine]) == (204, b"")
    assert await post(app, content, headers=[fine, fine]) == (401, b"")
    assert await post(app, content + b" ", headers=[fine]) == (401, b"")
    assert await post(app, *[b"x" * 9_999] * 99, headers=[fine]) == (413, b"")
    assert await post(app, content, headers=[fine, (b"content-encoding", b"br")]) == (415, b"")
    await one.close()
    assert [event.raw for event in seen] == [json.loads(content)]


async def test_fastapi() -> None:
    """The lines as they stand, in a real application."""
    fastapi = pytest.importorskip("fastapi")
    seen: list[WebhookEvent] = []
    one, app = Receiver(SECRET, seen.append), fastapi.FastAPI()
    names = {"receiver": one, "app": app, "Request": fastapi.Request, "Response": fastapi.Response}
    exec(dedent(LINES), names)  # noqa: S102  # it is our own text
    await is_received_by(app, seen, one)


async def test_starlette() -> None:
    """The same, but for how a route is made."""
    applications = pytest.importorskip("starlette.applications")
    requests = pytest.importorskip("starlette.requests")
    responses = pytest.importorskip("starlette.responses")
    routing = pytest.importorskip("starlette.routing")
    seen: list[WebhookEvent] = []
    one = Receiver(SECRET, seen.append)
    names: dict[str, Any] = {"receiver": one, "Request": requests.Request, "Response": responses.Response}
    exec(dedent(LINES.partition("\n")[2]), names)  # noqa: S102  # it is our own text
    route = routing.Route("/jarai", names["jarai"], methods=["POST"])
    await is_received_by(applications.Starlette(routes=[route]), seen, one)
