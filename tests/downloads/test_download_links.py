"""Signed URLs: when they are renewed, and to which addresses they may lead."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from attrs import evolve

from jarai_async import (
    Deliverable,
    DownloadError,
    IncompleteDownloadError,
    JaraiClient,
    NotFoundError,
    SavedFile,
    _clock,
)
from jarai_async._http.request_log import RequestLog
from jarai_async._http.retry import Retrier, Retry
from jarai_async._urls import percent_encoded
from jarai_async.simulator import Simulator
from tests.support.certificates import server_context
from tests.support.raw_server import reply_with, server

PRODUCTION = "11111111-1111-4111-8111-111111111111"
OK = b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: "x"\r\n\r\nok'


@pytest.fixture
async def remote() -> AsyncIterator[JaraiClient]:
    """A client of an API on the public internet. It sends no requests to that API."""
    async with JaraiClient("jarai_test_x", base_url="https://9.9.9.9/v1/partner") as client:
        yield client


@pytest.mark.parametrize(("age", "lists"), [(3400, 0), (3500, 1), (3599, 1), (3601, 1)])
async def test_signed_url_that_expires_soon_is_renewed_before_use(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path, *, age: int, lists: int
) -> None:
    """With less than two minutes left it is not requested."""
    before = simulator.count("deliverables")
    await asyncio.sleep(age)
    await client.download(video, tmp_path)
    assert simulator.count("deliverables") == before + lists
    assert simulator.count("download", 403) == 0


async def test_signed_url_that_was_renewed_before_use_is_not_renewed_again_within_a_minute(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """It is tried again until no attempts are left."""
    simulator.faults.add("expired", on="download", times=None)
    before = simulator.count("deliverables")
    await asyncio.sleep(3590)
    with pytest.raises(DownloadError, match="403"):
        await client.download(video, tmp_path)
    assert simulator.count("deliverables") == before + 1
    assert simulator.faults.fired["expired"] == 7


async def test_signed_url_that_cannot_be_renewed_is_used_until_it_expires(
    client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """Without a production id there is no list of deliverables to read."""
    await asyncio.sleep(3590)
    path = await client.download(evolve(video, production_id=None), tmp_path)
    assert path.stat().st_size == video.size


@pytest.mark.parametrize(("ahead", "left", "lists"), [(3600, 100, 2), (-3600, 1800, 1)])
async def test_expiry_is_judged_by_the_servers_clock(
    tmp_path: Path, ahead: int, left: int, lists: int
) -> None:
    """A local clock that is an hour off causes neither a late nor a needless renewal."""
    requests = 0

    async def api(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        requests += 1
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
    assert requests == lists


def _iso(timestamp: float) -> str:
    return quote(datetime.fromtimestamp(timestamp, UTC).isoformat())


async def test_renewal_is_retried_during_an_outage(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """An error while reading the list counts as a failed attempt, and the old URL is tried again."""
    simulator.faults.add("expired", on="download", times=2)
    simulator.faults.add("unavailable", on="deliverables", times=7)
    assert (await client.download(video, tmp_path)).stat().st_size == video.size
    assert simulator.faults.fired == {"expired": 2, "unavailable": 1}


async def test_url_that_has_expired_by_the_last_attempt_is_renewed(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """The download goes on with the new one."""
    simulator.faults.add("unavailable", on="download", times=6)
    simulator.faults.add("expired", on="download", times=1)
    assert (await client.download(video, tmp_path)).stat().st_size == video.size
    assert simulator.faults.fired == {"unavailable": 6, "expired": 1}


async def test_expired_url_is_kept_through_a_long_outage_of_the_api(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """That the old URL is rejected for minutes says nothing while there is no fresh one."""
    await asyncio.sleep(3700)
    simulator.faults.add("unavailable", on="deliverables", times=None)
    download = asyncio.create_task(_download_patiently(client, video, tmp_path / "video.mp4"))
    await asyncio.sleep(600)
    assert not download.done()
    assert simulator.count("download", 403) > 3
    simulator.faults.clear()
    assert (await download).size == video.size


async def _download_patiently(
    client: JaraiClient, deliverable: Deliverable, target: Path, attempts: int = 100
) -> SavedFile:
    retrier = Retrier(Retry(attempts, base=30, cap=30), Random(1))
    return await client.engine.downloader.download(deliverable, target, RequestLog(), retrier=retrier)


@pytest.mark.parametrize("outage", ["reset_before", "unavailable"])
async def test_rejections_with_an_outage_between_them_are_not_one_long_rejection(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path, outage: str
) -> None:
    """Blob storage rejects the URL, is down for minutes, and rejects it once more."""
    for kind, times in (("expired", 1), (outage, 20), ("expired", 1)):
        simulator.faults.add(kind, on="download", times=times)
    assert (await _download_patiently(client, video, tmp_path / "video.mp4")).size == video.size
    assert simulator.faults.fired == {"expired": 2, outage: 20}


async def test_renewal_of_a_signed_url_blocks_no_other_download(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """It may wait for the list for minutes, and holds no slot meanwhile: before an attempt, and after it."""
    slot, download = asyncio.Semaphore(1), client.engine.downloader.download
    other = evolve(video, production_id=None)
    for n, age in enumerate((10, 3450)):
        await asyncio.sleep(age)
        if n == 0:
            simulator.faults.add("expired", on="download")
        simulator.faults.add("hang_before", on="deliverables", seconds=20)
        renewing = asyncio.create_task(download(video, tmp_path / f"first {n}", RequestLog(), slot=slot))
        await asyncio.sleep(10)
        await download(other, tmp_path / "second", RequestLog(), slot=slot)
        assert not renewing.done()
        assert (await renewing).size == video.size


async def test_expired_url_costs_no_attempt(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """The fresh one is requested at once."""
    await asyncio.sleep(10)
    simulator.faults.add("expired", on="download")
    assert (await _download_patiently(client, video, tmp_path / "video.mp4", attempts=1)).size == video.size


async def test_renewal_that_cannot_succeed_is_not_retried(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """The file is no longer in the list, or the list is not found."""
    simulator.faults.add("expired", on="download", times=None)
    with pytest.raises(DownloadError, match="no longer among"):
        await client.download(evolve(video, id="gone"), tmp_path)
    simulator.faults.add("not_found", on="deliverables")
    await asyncio.sleep(60)
    with pytest.raises(NotFoundError):
        await client.download(video, tmp_path)
    assert simulator.faults.fired == {"expired": 2, "not_found": 1}


async def test_download_over_the_callers_session_sends_none_of_its_headers(
    simulator: Simulator, video: Deliverable, tmp_path: Path
) -> None:
    """The session stays open."""
    async with aiohttp.ClientSession(headers={"X-API-Key": "mine"}) as session:
        async with JaraiClient(simulator.api_key, base_url=simulator.base_url, session=session) as client:
            path = await client.download(video, tmp_path)
        assert not session.closed
    assert path.stat().st_size == video.size
    assert simulator.leaks == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1"])
async def test_signed_url_of_a_public_api_never_leads_into_a_private_network(
    remote: JaraiClient, tmp_path: Path, host: str
) -> None:
    """The client makes no connection to this machine, its network or its cloud's metadata service."""
    async with server(reply_with(OK)) as (url, received):
        port = url.rpartition(":")[2]
        with pytest.raises(DownloadError, match="not public"):
            await remote.download(Deliverable("Video", f"https://{host}:{port}/"), tmp_path)
    assert received == []
    assert list(tmp_path.iterdir()) == []


async def test_signed_url_of_a_local_api_may_be_local(tmp_path: Path) -> None:
    async with (
        server(reply_with(OK)) as (url, _),
        JaraiClient("jarai_test_x", base_url="http://localhost:9/v1/partner") as client,
    ):
        path = await client.download(Deliverable("Video", url), tmp_path)
    assert path.read_bytes() == b"ok"


async def test_api_host_that_cannot_be_resolved_counts_as_public(tmp_path: Path) -> None:
    """So its signed URLs may not lead to a private address: it is looked up again at each attempt."""
    async with JaraiClient("jarai_test_x", base_url="https://nowhere.invalid/v1/partner") as client:
        with pytest.raises(IncompleteDownloadError, match="not public, and the API's address is not known"):
            await client.download(Deliverable("Video", "https://127.0.0.1:9/"), tmp_path)


async def test_failed_look_up_of_the_api_host_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails three times, and then local files can be downloaded."""
    failures, look_up = [socket.gaierror(socket.EAI_AGAIN, "try again")] * 3, socket.getaddrinfo

    def failing(host: str, *arguments: Any, **options: Any) -> Any:
        if host == "localhost" and failures:
            raise failures.pop()
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", failing)
    async with (
        server(reply_with(OK)) as (url, _),
        JaraiClient("jarai_test_x", base_url="http://localhost:9/v1/partner") as client,
    ):
        path = await client.download(Deliverable("Video", url), tmp_path)
    assert path.read_bytes() == b"ok"
    assert failures == []


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/a b|c/d.mp4?sig=a%2Fb+/=&x=~", "/a%20b%7Cc/d.mp4?sig=a%2Fb+/=&x=~"),
        ("/ü/\u6f2b\U0001f600?x='(é)'", "/%C3%BC/%E6%BC%AB%F0%9F%98%80?x='(%C3%A9)'"),
        ('/"<>\\^`{}?a[]=!$*;,@:', "/%22%3C%3E%5C%5E%60%7B%7D?a[]=!$*;,@:"),
        ("/100%/%zz/%41%e9?x=%", "/100%25/%25zz/%41%e9?x=%25"),
        ("/a/../b//c/./d?", "/a/../b//c/./d"),
        (" ", "/"),
    ],
)
async def test_only_what_is_illegal_in_a_url_is_percent_encoded(tmp_path: Path, path: str, sent: str) -> None:
    """All else stays byte for byte: the signature covers it."""
    async with (
        server(reply_with(OK)) as (url, received),
        JaraiClient("jarai_test_x", base_url="http://127.0.0.1:9/v1/partner") as client,
    ):
        await client.download(Deliverable("Video", url + path), tmp_path)
    assert received[0].split(b"\r\n")[0].decode() == f"GET {sent} HTTP/1.1"


def test_host_outside_ascii_is_encoded_for_the_look_up() -> None:
    """A URL that cannot be encoded is not valid."""
    assert percent_encoded("https://bücher.example/ü") == "https://xn--bcher-kva.example/%C3%BC"
    assert percent_encoded(" //h/a b") == "https://h/a%20b"
    assert percent_encoded("https://ü..example/") == percent_encoded("https://h/\ud800") == ""


def _redirect(status: int, location: str) -> bytes:
    return f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_of_blob_storage_is_followed(tmp_path: Path, status: int) -> None:
    """Up to five times, without cookies; the URL of the list stays that of the deliverable."""
    answers = [_redirect(status, f"/b c?sig={n}") for n in range(5)]
    answers[0] = answers[0][:-2] + b"Set-Cookie: a=b\r\n\r\n"

    async def storage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reply_with(answers.pop(0) if answers else OK)(reader, writer)

    async with (
        server(storage) as (url, received),
        JaraiClient("jarai_test_x", base_url="http://127.0.0.1:9/v1/partner") as client,
    ):
        path = await client.download(Deliverable("Video", f"{url}/a"), tmp_path)
    assert path.read_bytes() == b"ok"
    requested = [head.split(b" ")[1].decode() for head in received]
    assert requested == ["/a", *(f"/b%20c?sig={n}" for n in range(5))]
    assert not any(b"cookie" in head.lower() for head in received)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("/again", "more than 5 redirects"),
        ("ftp://127.0.0.1/a", "not a valid https URL"),
        ("http://user:password@127.0.0.1/a", "not a valid https URL"),
        ("http://[", "not a valid https URL"),
        ("", r"status 302\. "),
    ],
)
async def test_redirect_that_is_not_allowed_ends_the_download(
    tmp_path: Path, location: str, message: str
) -> None:
    """The status is in the message once."""
    async with (
        server(reply_with(_redirect(302, location))) as (url, _),
        JaraiClient("jarai_test_x", base_url="http://127.0.0.1:9/v1/partner") as client,
    ):
        with pytest.raises(DownloadError, match=message):
            await client.download(Deliverable("Video", url), tmp_path)


async def test_redirect_never_leads_from_https_to_http(tmp_path: Path) -> None:
    context, certificate = server_context(tmp_path, "storage")
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=certificate))
    async with (
        server(reply_with(OK)) as (plain, received),
        server(reply_with(_redirect(307, plain)), ssl_context=context) as (url, _),
        aiohttp.ClientSession(connector=connector) as session,
        JaraiClient("jarai_test_x", base_url="http://127.0.0.1:9/v1/partner", session=session) as client,
    ):
        with pytest.raises(DownloadError, match="not a valid https URL"):
            await client.download(Deliverable("Video", url), tmp_path / "file")
    assert received == []
