"""Every error that a method of the client raises is named in its docstring, whatever the server does."""

import asyncio
import inspect
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import pytest

from jarai_async import Deliverable, JaraiClient, JaraiError
from jarai_async._api.models import Id
from jarai_async.simulator import Simulator
from tests.support.scenarios import request_for

ID = str(uuid4())
WITHOUT_CALLS = {"close"}
REFUSING = ("unauthorized", "forbidden", "not_found", "not_ready", "unavailable", "internal_error_after")
BABBLING = (
    "gateway_html",
    "redirect",
    "wrong_json",
    "empty_body",
    "truncated_json",
    "deep_json",
    "no_text",
    "missing_id_and_location",
    "reset_after",
    "hang",
    "cut_chunks",
    "timeout_html",
)

Call = Callable[[JaraiClient, Simulator, Path], Awaitable[object]]


async def download(client: JaraiClient, simulator: Simulator, folder: Path) -> object:
    url = f"{simulator.base_url}/files/none"
    return await client.download(Deliverable(type="Video", url=url, production_id=Id(ID)), folder)


CALLS: dict[str, Call] = {
    "accounts": lambda client, _, __: client.accounts(),
    "submit": lambda client, simulator, _: client.submit(request_for(simulator)),
    "fetch": lambda client, _, __: client.fetch(ID),
    "cancel": lambda client, _, __: client.cancel(ID),
    "wait": lambda client, _, __: client.wait(ID, deadline=7200),
    "deliverables": lambda client, _, __: client.deliverables(ID),
    "download": download,
    "performance": lambda client, _, __: client.performance(ID),
    "usage": lambda client, _, __: client.usage(),
    "create_webhook": lambda client, _, __: client.create_webhook("https://hooks.example.org"),
    "webhooks": lambda client, _, __: client.webhooks(),
    "webhook": lambda client, _, __: client.webhook(ID),
    "update_webhook": lambda client, _, __: client.update_webhook(ID, endpoint_url="https://x.example.org"),
    "delete_webhook": lambda client, _, __: client.delete_webhook(ID),
    "webhook_deliveries": lambda client, _, __: client.webhook_deliveries(ID),
    "test_webhook": lambda client, _, __: client.test_webhook(ID),
}


def test_every_method_is_called() -> None:
    """A new method needs an entry here."""
    methods = inspect.getmembers(JaraiClient, inspect.iscoroutinefunction)
    assert {name for name, _ in methods if name[0] != "_"} == CALLS.keys() | WITHOUT_CALLS


async def undocumented(method: str, client: JaraiClient, simulator: Simulator, folder: Path) -> str | None:
    """Call a method, and return the error that its docstring and that of the class do not name."""
    docs = f"{JaraiClient.__doc__} {getattr(JaraiClient, method).__doc__}"
    try:
        async with asyncio.timeout(86_400):
            await CALLS[method](client, simulator, folder)
    except JaraiError as error:
        kinds = type(error).__mro__[: type(error).__mro__.index(JaraiError)]
        return None if any(kind.__name__ in docs for kind in kinds) else repr(error)
    except TimeoutError:  # as documented, it waits for the end of the outage
        return None if method == "submit" else "it waits for ever"
    return None


@pytest.mark.parametrize("method", CALLS)
async def test_errors_of_a_server_that_refuses_or_babbles_are_documented(
    simulator: Simulator, method: str, tmp_path: Path
) -> None:
    """Every response that is an error, and every one that cannot be read."""
    for kind in (*REFUSING, *BABBLING):
        simulator.faults.clear()
        simulator.faults.add(kind, on="any", times=None)
        async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
            assert await undocumented(method, client, simulator, tmp_path) is None, kind


@pytest.mark.parametrize("method", CALLS)
async def test_errors_of_a_dead_server_are_documented(
    simulator: Simulator, method: str, tmp_path: Path
) -> None:
    """Nothing listens at the base URL."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    async with JaraiClient(simulator.api_key, base_url=url) as client:
        assert await undocumented(method, client, simulator, tmp_path) is None
    assert await undocumented(method, client, simulator, tmp_path) is None  # it is closed
