"""What the library logs: each request at DEBUG, and submits, ends, outages and quotas, with their facts."""

import gc
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import jarai_async
from jarai_async import JaraiClient, Orchestrator
from jarai_async.simulator import Simulator
from tests.support.raw_server import reply_with, server
from tests.support.scenarios import request_for


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def facts(self, *events: str) -> list[dict[str, Any]]:
        """Return the facts of the records of these events."""
        facts = [record.__dict__["jarai"] for record in self.records if "jarai" in record.__dict__]
        return [of_one for of_one in facts if of_one["event"] in events]


@pytest.fixture
def log() -> Iterator[_Records]:
    """What the library logs, at every level."""
    logger, handler = logging.getLogger("jarai_async"), _Records()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


async def test_each_request_is_logged_once_with_its_route_status_and_time(log: _Records) -> None:
    """As many as the simulator received, and also those that got no response; never the key."""
    async with Simulator(failure_rate=0.0, approval="auto") as simulator:
        simulator.faults.add("internal_error", on="submit")
        async with (
            JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
            Orchestrator(client) as orchestrator,
        ):
            outcome = await orchestrator.submit(request_for(simulator, reference="mine"))
    requests = log.facts("Request")
    assert len(requests) == outcome.request_count == len(simulator.requests)
    statuses = [request.status for request in simulator.requests]
    assert [request["result"] for request in requests] == statuses
    assert requests[0] | {"milliseconds": 0} == {
        "event": "Request",
        "kind": "submit",
        "method": "POST",
        "path": f"/accounts/{simulator.account_id}/productions",
        "result": 500,
        "milliseconds": 0,
        "purpose": "mine",
    }
    assert all(0 < request["milliseconds"] < 10_000 for request in requests)
    assert simulator.api_key not in repr([record.__dict__ for record in log.records])


async def test_each_attempt_of_a_download_is_logged_without_its_signature(
    log: _Records, tmp_path: Path
) -> None:
    """With host, path, status or error, bytes and time: as many as blob storage received."""
    async with Simulator(failure_rate=0.0, approval="auto") as simulator:
        simulator.faults.add("hang_before", on="download")
        simulator.faults.add("unavailable", on="download")
        async with (
            JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
            Orchestrator(client, download_to=tmp_path) as orchestrator,
        ):
            outcome = await orchestrator.submit(request_for(simulator, reference="mine"))
    downloads = log.facts("Download")
    received = [request for request in simulator.requests if request.route == "download"]
    assert outcome.production is not None
    assert {request.target for request in received} == {outcome.production.id}
    results = sorted(str(download["result"]) for download in downloads)
    assert results == sorted(str(request.status or "NoResponseError") for request in received)
    assert {"200", "503", "NoResponseError"} == set(results)
    saved = [download for download in downloads if download["result"] == 200]
    assert sum(download["size"] for download in saved) == sum(file.stat().st_size for file in outcome.files)
    assert {name for name, value in saved[0].items() if value is not None} == {
        *("event", "kind", "method", "host", "path", "result", "milliseconds", "size", "purpose")
    }
    assert {(download["host"], download["purpose"]) for download in downloads} == {("127.0.0.1", "mine")}
    assert all(download["path"].startswith("/blobs/") for download in downloads)
    assert all(0 < download["milliseconds"] < 40_000 for download in downloads)
    printed = repr([record.__dict__ | {"text": record.getMessage()} for record in log.records])
    assert "sig=" not in printed
    assert "?" not in "".join(download["path"] for download in downloads)


async def test_submits_and_ends_are_logged_once_with_the_keys_of_the_event(log: _Records) -> None:
    """At INFO, so that a program needs no event loop of its own to know how its productions ended."""
    async with (
        Simulator(failure_rate=1.0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client) as orchestrator,
    ):
        ticket = orchestrator.submit(request_for(simulator, reference="mine"))
        await ticket
        events = [event async for event in ticket.events()]
    assert log.facts("Submitted", "Finished") == [events[0].to_dict(), events[-1].to_dict()]
    messages = [record.getMessage() for record in log.records if record.levelno == logging.INFO]
    assert messages == [str(events[0]), str(events[-1])]


async def test_uncertain_submit_is_logged_once_as_a_warning(log: _Records) -> None:
    """With what to do, and not once more as an end."""
    async with Simulator() as simulator:
        simulator.faults.add("reset_after", on="submit")
        async with (
            JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
            Orchestrator(client) as orchestrator,
        ):
            await orchestrator.submit(request_for(simulator, reference="mine"))
    assert [request["result"] for request in log.facts("Request")] == ["NoResponseError"]
    assert log.facts("Submitted", "Finished") == []
    assert [record.levelname for record in log.records if "mine" in record.getMessage()] == ["WARNING"]


async def test_outage_and_rate_limit_are_logged_with_their_facts(log: _Records) -> None:
    """Once when each begins, and an outage once when it ends."""
    async with Simulator() as simulator:
        simulator.faults.add("unavailable", on="accounts", times=20)
        async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
            while log.facts("OutageBegan") == []:
                with pytest.raises(jarai_async.ServiceUnavailableError):
                    await client.accounts()
            simulator.faults.clear()
            simulator.faults.add("rate_limited", on="accounts", seconds=20)
            await client.accounts()
    assert [one["of"] for one in log.facts("OutageBegan")] == ["JARAI"]
    (end,) = log.facts("OutageEnded")
    assert end["seconds"] > 0
    assert [one["seconds"] for one in log.facts("RateLimited")] == [20.0]


@pytest.mark.parametrize("own", [{}, {"user-agent": "mine/1"}])
async def test_requests_name_the_library_unless_the_session_names_the_user(own: dict[str, str]) -> None:
    """In `User-Agent`, which a user's session may set to something else."""
    ours = f"jarai-async/{jarai_async.__version__}"
    reply = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]"
    async with server(reply_with(reply)) as (url, heads), aiohttp.ClientSession(headers=own) as session:
        for given in (session, None):
            async with JaraiClient("jarai_test_key", base_url=url, session=given) as client:
                assert await client.accounts() == []
    agents = [re.findall(rb"(?i)user-agent: (.*)\r", head) for head in heads]
    assert agents == [[own.get("user-agent", ours).encode()], [ours.encode()]]


async def test_client_that_was_not_closed_is_named_in_a_resource_warning(
    recwarn: pytest.WarningsRecorder,
) -> None:
    """Before those of its aiohttp sessions; a closed client, and one that sent nothing, have none."""
    async with Simulator() as simulator:
        client = JaraiClient(simulator.api_key, base_url=simulator.base_url)
        await client.accounts()
        text = repr(client)
        engine = client.engine
        del client
        gc.collect()
        await engine.close()
        async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
            await client.accounts()
        del client
        JaraiClient(simulator.api_key, base_url=simulator.base_url)
        gc.collect()
    assert [str(warning.message) for warning in recwarn] == [f"{text} was not closed"]
    assert recwarn[0].category is ResourceWarning
