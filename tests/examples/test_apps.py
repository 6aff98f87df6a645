"""The three web applications, served and called over HTTP."""

import asyncio
import runpy
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from jarai_async import JaraiClient
from jarai_async.simulator import SimulatedEventLoop, Simulator
from tests.support.applications import (
    EXAMPLES,
    NAMES,
    fields_for,
    http_session,
    messages,
    productions,
    serve_fastapi,
)
from tests.support.postgres import working

pytestmark = pytest.mark.usefixtures("environment")


@asynccontextmanager
async def _serve_aiohttp(app: Any) -> AsyncIterator[str]:
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield "http://{}:{}".format(*runner.addresses[0])
    await runner.cleanup()


_SERVE = {"aiohttp_app": _serve_aiohttp, "fastapi_app": serve_fastapi, "queue_app": serve_fastapi}


@pytest.fixture
def queue_url(request: pytest.FixtureRequest) -> str | None:
    """The database of the application that needs one; it has the clock of the loop."""
    if request.node.callspec.params["session"] != "queue_app":
        return None
    request.getfixturevalue("simulated_time")
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(params=(*NAMES, "queue_app"))
async def session(
    request: pytest.FixtureRequest,
    client: JaraiClient,
    monkeypatch: pytest.MonkeyPatch,
    queue_url: str | None,
) -> AsyncIterator[aiohttp.ClientSession]:
    """A browser at the application, to which JARAI sends webhooks."""
    async with AsyncExitStack() as resources:
        if queue_url is not None:
            monkeypatch.setenv("JARAI_DATABASE", queue_url)
            await resources.enter_async_context(working(client, queue_url, download_to="files"))
        yield await resources.enter_async_context(_session(request.param, client, monkeypatch))


@asynccontextmanager
async def _session(
    name: str, client: JaraiClient, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[aiohttp.ClientSession]:
    webhook = await client.create_webhook(
        "http://127.0.0.1:1/", ["deliverable.ready", "production.published"]
    )
    monkeypatch.setenv("JARAI_WEBHOOK_SECRET", webhook.signing_secret.reveal())
    app = runpy.run_path(str(EXAMPLES / f"{name}.py"))["app"]
    async with _SERVE[name](app) as url, http_session(url) as session:
        await client.update_webhook(webhook.id, endpoint_url=f"{url}/jarai")
        yield session


async def _post(session: aiohttp.ClientSession, path: str, body: Any = None) -> tuple[int, Any]:
    async with session.post(path, json=body) as response:
        return response.status, await response.json()


async def _read_to_the_end(session: aiohttp.ClientSession, reference: str, after: int = 0) -> list[Any]:
    """Return the events of a production until it has finished."""
    events = []
    async with aclosing(messages(session, after)) as stream:
        async for _, event in stream:
            if event["reference"] == reference:
                events.append(event)
                if event["event"] == "Finished":
                    break
    return events


async def _get_file(session: aiohttp.ClientSession, path: str) -> tuple[int, bytes]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedEventLoop)
    with loop.hold():  # Starlette reads files in threads that the loop does not see
        async with session.get(path) as response:
            return response.status, await response.read()


async def test_web_application_answers_202_and_shows_events_outcome_and_files(
    session: aiohttp.ClientSession, simulator: Simulator
) -> None:
    """A request is answered at once with its reference; its production has events, an outcome and files."""
    status, answer = await _post(session, "/productions", fields_for(simulator, reference="a/ü ?#1"))
    assert (status, answer["reference"], answer["outcome"]) == (202, "a/ü ?#1", None)
    events = await _read_to_the_end(session, "a/ü ?#1")
    assert [events[0]["event"], events[-1]["outcome"]] == ["Submitted", "published"]
    listed = (await productions(session))[1]["a/ü ?#1"]
    assert (listed["topic"], listed["outcome"]) == ("Tides", "published")
    (files,) = [simulator.files(production_id) for production_id in simulator.productions]
    folder = "/productions/a%2F%C3%BC%20%3F%231/files/"
    paths = [f"{folder}{Path(file['path']).name}" for file in listed["downloaded"]]
    received = [await _get_file(session, path) for path in paths]
    assert sorted(received) == sorted((200, content) for content in files.values())


async def test_web_application_accepts_webhooks(session: aiohttp.ClientSession, simulator: Simulator) -> None:
    """Each genuine webhook is answered with 204."""
    _, answer = await _post(session, "/productions", fields_for(simulator))
    await _read_to_the_end(session, answer["reference"])
    assert [delivery.delivered_at is not None for delivery in simulator.deliveries] == [True, True]
    async with session.post("/jarai", json={"eventType": "production.published"}) as response:
        assert response.status == 401


async def test_web_application_serves_no_other_files(
    session: aiohttp.ClientSession, simulator: Simulator
) -> None:
    """Only the deliverables of a production that has ended can be downloaded."""
    await _post(session, "/productions", fields_for(simulator, reference="one"))
    await _read_to_the_end(session, "one")
    for name in ("manifest.json", "other.mp4", "app.db", "..%2F..%2Fapp.db", "%2e%2e", "%2Fetc%2Fpasswd"):
        assert (await _get_file(session, f"/productions/one/files/{name}"))[0] == 404


async def test_web_application_answers_422_with_the_problems_of_refused_input(
    session: aiohttp.ClientSession, simulator: Simulator
) -> None:
    """All problems are named, and nothing is submitted."""
    status, answer = await _post(
        session, "/productions", fields_for(simulator, topic="", account_id="1", tpic="Tides")
    )
    assert status == 422
    assert [problem.split()[0] for problem in answer["problems"]] == ["unknown", "topic", "account_id"]
    bodies: list[Any] = [None, [], "text", 1]
    for body in bodies:
        assert (await _post(session, "/productions", body))[0] == 422
    async with session.post("/productions", data="{") as response:
        assert response.status == 422
    assert not simulator.productions
    assert await productions(session) == (0, {})


async def test_web_application_answers_422_for_a_reference_that_belongs_to_another_request(
    session: aiohttp.ClientSession, simulator: Simulator
) -> None:
    """The same request again is the same production."""
    fields = fields_for(simulator, reference="one")
    await _post(session, "/productions", fields)
    assert (await _post(session, "/productions", fields))[0] == 202
    for _ in range(2):  # while it is running, and once it has ended
        status, answer = await _post(session, "/productions", fields | {"topic": "Bees"})
        assert (status, len(answer["problems"])) == (422, 1)
        assert "Bees" in answer["problems"][0]
        await _read_to_the_end(session, "one")
    status, answer = await _post(session, "/productions", fields)
    assert (status, answer["done"], answer["outcome"]) == (202, True, "published")
    assert len(simulator.productions) == 1


async def test_event_stream_continues_behind_the_last_event_id(
    session: aiohttp.ClientSession, simulator: Simulator
) -> None:
    """A reader that connects again gets exactly the events that it has missed."""
    for number in range(3):
        await _post(session, "/productions", fields_for(simulator, reference=str(number)))
    received: list[tuple[int, Any]] = []
    while sum(event["event"] == "Finished" for _, event in received) < 3:
        last = received[-1][0] if received else None
        async with aclosing(messages(session, last_event_id=last)) as stream:
            received.append(await anext(stream))
    async with aclosing(messages(session)) as stream:
        assert [await anext(stream) for _ in received] == received
    headers = {
        "Last-Event-ID": str(received[-1][0] + 1)
    }  # of another journal: the browser does not ask again
    async with session.get("/events", headers=headers) as response:
        assert (response.status, len((await response.json())["problems"])) == (422, 1)
    cursors = [event["cursor"] for _, event in received]
    assert cursors == [cursor for cursor, _ in received] == sorted({*cursors})


async def test_list_and_events_behind_its_cursor_miss_nothing(
    session: aiohttp.ClientSession, simulator: Simulator
) -> None:
    """A page that reads the list first, and then the events behind its cursor, knows the outcome."""
    await _post(session, "/productions", fields_for(simulator, reference="one"))
    cursor, _ = await productions(session)
    events = await _read_to_the_end(session, "one", after=cursor)
    assert events[0]["cursor"] == cursor + 1
    assert (await productions(session))[0] == events[-1]["cursor"]


async def test_web_application_cancels_and_retries(
    session: aiohttp.ClientSession, simulator: Simulator
) -> None:
    """A cancelled production is submitted again by a retry, and is published."""
    await _post(session, "/productions", fields_for(simulator, reference="one"))
    async with aclosing(messages(session)) as stream:
        await anext(stream)
    assert (await _post(session, "/productions/one/retry"))[0] == 422  # it is still running
    assert (await _post(session, "/productions/one/cancel"))[0] == 202
    cancelled = (await _read_to_the_end(session, "one"))[-1]
    assert (cancelled["outcome"], cancelled["isFinal"], cancelled["ok"]) == ("cancelled", True, False)
    assert (await _post(session, "/productions/one/retry"))[0] == 202
    assert (await _read_to_the_end(session, "one", cancelled["cursor"]))[-1]["outcome"] == "published"
    assert len(simulator.productions) == 2


async def test_web_application_resolves_an_uncertain_request(
    session: aiohttp.ClientSession, client: JaraiClient, simulator: Simulator
) -> None:
    """A person has looked whether it was created; without that, nothing is submitted again."""
    await client.accounts()
    for reference, fault in (("created", "reset_after"), ("lost", "hang_before")):
        simulator.faults.add(fault, on="submit")
        await _post(session, "/productions", fields_for(simulator, reference=reference))
        end = (await _read_to_the_end(session, reference))[-1]
        assert end["outcome"] == "uncertain"
        assert len(simulator.productions) == 1
        path = f"/productions/{reference}/resolve"
        assert (await _post(session, path))[0] == 422
        created = next(iter(simulator.productions))
        if reference == "created":
            decision, next_end = f"production_id={created}", "cancelled"
            assert (await _post(session, f"/productions/{reference}/cancel"))[0] == 409  # it is recorded
        else:
            decision, next_end = "resubmit=true", "published"
        assert (await _post(session, f"{path}?{decision}"))[0] == 202
        assert (await _read_to_the_end(session, reference, end["cursor"]))[-1]["outcome"] == next_end
        assert (await _post(session, f"{path}?resubmit=true"))[0] == 422
    assert len(simulator.productions) == 2


async def test_web_application_answers_404_for_an_unknown_reference(session: aiohttp.ClientSession) -> None:
    for action in ("cancel", "files/video.mp4"):
        path = f"/productions/unknown/{action}"
        async with session.request("POST" if action == "cancel" else "GET", path) as response:
            assert response.status == 404


async def test_web_application_serves_its_page(session: aiohttp.ClientSession) -> None:
    status, content = await _get_file(session, "/")
    assert (status, content) == (200, (EXAMPLES / "page.html").read_bytes())
