"""What failing downloads cost: they hardly use the API's rate limit, and a permanent failure ends soon."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from random import Random
from urllib.parse import quote

import pytest

from jarai_async import (
    Deliverable,
    DownloadError,
    IncompleteDownloadError,
    JaraiClient,
    Orchestrator,
    OutcomeState,
    _clock,
)
from jarai_async.simulator import Simulator
from tests.support.orchestrators import outcomes_of
from tests.support.raw_server import reply_with, server
from tests.support.scenarios import requests_for

PRODUCTION = "11111111-1111-4111-8111-111111111111"
REFUSED = "http://127.0.0.1:9"  # nothing listens on the discard port


def _published(_: Random, __: str) -> list[tuple[str, float]]:
    return [("Queued", 20), ("Producing", 60), ("Distributing", 60), ("Published", 0)]


@pytest.mark.parametrize(
    "kind", ["expired", "not_found", "wrong_length", "bit_flip", "cut_body", "unavailable"]
)
async def test_failing_downloads_read_the_list_at_most_once_a_minute(tmp_path: Path, kind: str) -> None:
    """Per production, however many of its files fail, for an hour."""
    async with (
        Simulator(durations=_published) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client, download_to=tmp_path) as orchestrator,
    ):
        simulator.faults.add(kind, on="download", times=None)
        for request in requests_for(simulator, 3):
            orchestrator.submit(request)
        await asyncio.sleep(3760)
        assert simulator.count("download") > 6 * 3
        reads = [(r.target, r.arrived) for r in simulator.requests if r.route == "deliverables"]
        first = dict(reversed(reads))
        rereads = Counter(
            (target, int((at - first[target]) // 60)) for target, at in reads if at > first[target]
        )
        assert max(rereads.values(), default=0) <= 1


@pytest.mark.parametrize("kind", ["expired", "not_found", "wrong_length", "bit_flip", "redirect"])
async def test_permanent_failure_ends_within_minutes(tmp_path: Path, kind: str) -> None:
    """A rejected URL is tried for a few minutes, a corrupt file is restarted three times."""
    async with (
        Simulator(durations=_published) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, random=Random(1)) as client,
    ):
        simulator.faults.add(kind, on="download", times=None)
        started = asyncio.get_running_loop().time()
        (outcome,) = await outcomes_of(Orchestrator(client, download_to=tmp_path), requests_for(simulator, 1))
        assert outcome.state is OutcomeState.PUBLISHED
        assert isinstance(outcome.error, DownloadError)
        assert asyncio.get_running_loop().time() - started < 140 + 600


async def test_list_is_not_read_again_while_the_host_cannot_be_reached(tmp_path: Path) -> None:
    """No other URL would help, even if this one is about to expire."""

    async def api(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        soon = quote(_clock.utc().isoformat())
        body = json.dumps([{"type": "Video", "sasUrl": f"{REFUSED}/a?se={soon}"}])
        await reply_with(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())(
            reader, writer
        )

    async with (
        server(api) as (url, requests),
        JaraiClient("jarai_test_x", base_url=f"{url}/v1/partner") as client,
    ):
        (deliverable,) = await client.deliverables(PRODUCTION)
        with pytest.raises(IncompleteDownloadError, match="no connection"):
            await client.download(deliverable, tmp_path)
    assert len(requests) == 2  # the first attempt renews a URL that expires soon


async def test_url_that_becomes_valid_later_is_used(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """The clocks of the API and of blob storage may differ, and a file may be published after its list."""
    for kind in ("expired", "not_found"):
        simulator.faults.add(kind, on="download", times=12)
    outcomes = await outcomes_of(Orchestrator(client, download_to=tmp_path), requests_for(simulator, 1))
    assert [outcome.ok for outcome in outcomes] == [True]
    assert simulator.faults.fired == {"expired": 12, "not_found": 12}


async def test_file_that_is_listed_as_empty_is_requested(tmp_path: Path) -> None:
    """Blob storage has to confirm that it is empty."""
    async with (
        server(reply_with(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as (url, requests),
        JaraiClient("jarai_test_x", base_url=f"{url}/v1/partner") as client,
    ):
        listed = Deliverable(type="Video", url=f"{url}/a", size=0)
        await client.download(listed, tmp_path / "video.mp4")
    assert len(requests) == 1
    assert (tmp_path / "video.mp4").read_bytes() == b""
