"""Signed URLs: when they are renewed, and where they may lead."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
from attrs import evolve

from jarai_async import Deliverable, DownloadError, JaraiClient, NotFoundError, _clock
from jarai_async.simulator import Simulator
from tests.support.raw_server import reply_with, server
from tests.support.scenarios import request_for

PRODUCTION = "11111111-1111-4111-8111-111111111111"
OK = b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: "x"\r\n\r\nok'


@pytest.fixture
async def video(simulator: Simulator, client: JaraiClient) -> Deliverable:
    """A deliverable that can be fetched."""
    production = await client.submit(request_for(simulator))
    await client.wait(production.id)
    return next(one for one in await client.deliverables(production.id) if one.type == "Video")


@pytest.fixture
async def remote() -> AsyncIterator[JaraiClient]:
    """A client of an API on the public internet, which it does not ask for anything."""
    async with JaraiClient("jarai_test_x", base_url="https://9.9.9.9/v1/partner") as client:
        yield client


@pytest.mark.parametrize(("age", "lists"), [(3400, 0), (3500, 1), (3599, 1), (3601, 1)])
async def test_a_link_that_ends_soon_is_renewed_before_it_is_used(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path, *, age: int, lists: int
) -> None:
    """With less than two minutes left it is not even tried."""
    before = simulator.count("deliverables")
    await asyncio.sleep(age)
    await client.download(video, tmp_path)
    assert simulator.count("deliverables") == before + lists
    assert simulator.count("download", 403) == 0


async def test_a_fresh_link_that_is_refused_is_an_error(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """It was renewed just before: another one would be no better."""
    simulator.faults.add("expired", on="download", times=None)
    before = simulator.count("deliverables")
    await asyncio.sleep(3590)
    with pytest.raises(DownloadError, match="403"):
        await client.download(video, tmp_path)
    assert simulator.count("deliverables") == before + 1
    assert simulator.faults.fired["expired"] == 1


async def test_a_link_that_cannot_be_renewed_is_used_to_its_end(
    client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """Of a production that is not known there is no list."""
    await asyncio.sleep(3590)
    path = await client.download(evolve(video, production_id=None), tmp_path)
    assert path.stat().st_size == video.size


@pytest.mark.parametrize(("ahead", "left", "lists"), [(3600, 100, 2), (-3600, 1800, 1)])
async def test_a_link_ends_by_the_clock_of_who_signed_it(
    tmp_path: Path, ahead: int, left: int, lists: int
) -> None:
    """A computer's clock that is an hour off renews neither too late nor for nothing."""
    asked = 0

    async def api(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        now = _clock.wall() + ahead
        body = json.dumps([{"type": "Video", "fileName": "a", "sasUrl": f"{storage}/?se={_iso(now + left)}"}])
        head = (
            f"HTTP/1.1 200 OK\r\nDate: {formatdate(now, usegmt=True)}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        await reply_with((head + body).encode())(reader, writer)

    async with (
        server(reply_with(OK)) as (storage, _),
        server(api) as (url, _),
        JaraiClient("jarai_test_x", base_url=f"{url}/v1/partner") as client,
    ):
        (deliverable,) = await client.deliverables(PRODUCTION)
        await client.download(deliverable, tmp_path)
    assert asked == lists


def _iso(moment: float) -> str:
    return quote(datetime.fromtimestamp(moment, UTC).isoformat())


async def test_a_link_is_renewed_when_the_outage_is_over(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """That the list cannot be read for a while is a passing trouble of the download, too."""
    simulator.faults.add("expired", on="download", times=2)
    simulator.faults.add("unavailable", on="deliverables", times=7)
    assert (await client.download(video, tmp_path)).stat().st_size == video.size
    assert simulator.faults.fired["unavailable"] == 7


async def test_a_list_that_is_gone_is_said(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """A refusal for good is not tried again; nor is a file looked for that is in the list no more."""
    simulator.faults.add("expired", on="download", times=None)
    with pytest.raises(DownloadError, match="no longer among"):
        await client.download(evolve(video, id="gone"), tmp_path)
    simulator.faults.add("not_found", on="deliverables")
    with pytest.raises(NotFoundError):
        await client.download(video, tmp_path)
    assert simulator.faults.fired == {"expired": 2, "not_found": 1}


async def test_a_session_of_the_callers_own_fetches_files_too(
    simulator: Simulator, video: Deliverable, tmp_path: Path
) -> None:
    """Over its connections, without its headers, and it stays open."""
    async with aiohttp.ClientSession(headers={"X-API-Key": "mine"}) as session:
        async with JaraiClient(simulator.api_key, base_url=simulator.base_url, session=session) as client:
            path = await client.download(video, tmp_path)
        assert not session.closed
    assert path.stat().st_size == video.size
    assert simulator.leaks == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1"])
async def test_a_link_of_the_internet_never_leads_into_a_private_network(
    remote: JaraiClient, tmp_path: Path, host: str
) -> None:
    """Not to this machine, its network, or its cloud's metadata, by whatever name: no connection is made."""
    async with server(reply_with(OK)) as (url, received):
        port = url.rpartition(":")[2]
        with pytest.raises(DownloadError, match="not public"):
            await remote.download(Deliverable("Video", f"https://{host}:{port}/"), tmp_path)
    assert received == []
    assert list(tmp_path.iterdir()) == []


async def test_a_local_api_has_local_files(tmp_path: Path) -> None:
    """Whatever name it goes by."""
    async with (
        server(reply_with(OK)) as (url, _),
        JaraiClient("jarai_test_x", base_url="http://localhost:9/v1/partner") as client,
    ):
        path = await client.download(Deliverable("Video", url), tmp_path)
    assert path.read_bytes() == b"ok"


async def test_an_api_whose_name_is_not_known_is_none_of_this_network(tmp_path: Path) -> None:
    """What cannot be found out is not allowed."""
    async with JaraiClient("jarai_test_x", base_url="https://nowhere.invalid/v1/partner") as client:
        with pytest.raises(DownloadError, match="not public"):
            await client.download(Deliverable("Video", "https://127.0.0.1:9/"), tmp_path)
