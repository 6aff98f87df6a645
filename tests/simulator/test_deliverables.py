"""The simulator's deliverables and their signed URLs, over real HTTP and on simulated time."""

import asyncio
import base64
import hashlib
import uuid
from urllib.parse import parse_qs, urlsplit

import pytest

from jarai_async.simulator import BlobStorage
from tests.support.raw_client import open_simulator

ALL_FIELDS = {
    *("deliverableId", "type", "platform", "fileName", "contentType", "sizeBytes", "contentMd5", "sasUrl")
}


async def test_deliverables_are_available_from_awaiting_approval_on() -> None:
    """Earlier requests receive a 409; later ones list each file with its size, checksum and URL."""
    async with open_simulator() as (simulator, api):
        production_id = await api.start_production()
        await asyncio.sleep(154)
        early = await api.get(f"/productions/{production_id}/deliverables")
        await asyncio.sleep(1)
        files = await api.deliverables(production_id)
        for file in files.values():
            response = await api.request_url("GET", file["sasUrl"])
            digest = base64.b64encode(hashlib.md5(response.body, usedforsecurity=False).digest()).decode()
            assert (len(response.body), digest) == (file["sizeBytes"], file["contentMd5"])
            assert response.headers["Content-MD5"] == digest
            assert response.headers["Content-Type"] == file["contentType"]
            assert response.headers["Accept-Ranges"] == "bytes"
            assert uuid.UUID(file["deliverableId"])
        origin = urlsplit(next(iter(files.values()))["sasUrl"]).port
    assert (early.status, early.error) == (409, "DELIVERABLES_NOT_READY")
    assert {"Video", "ClosedCaptions", "Attribution"} <= {file["type"] for file in files.values()}
    assert origin != urlsplit(simulator.base_url).port
    assert simulator.count("download", 200) == len(files)
    assert simulator.leaks == []


async def test_preliminary_attribution_differs_from_the_final_one() -> None:
    """Publication changes the attribution, but the old URL still returns the old bytes."""
    async with open_simulator() as (_, api):
        production_id = await api.start_production()
        await asyncio.sleep(200)
        before = await api.deliverables(production_id)
        await asyncio.sleep(200)
        after = await api.deliverables(production_id)
        changed = {name for name in after if after[name]["contentMd5"] != before[name]["contentMd5"]}
        old = await api.request_url("GET", before["attribution.json"]["sasUrl"])
        new = await api.request_url("GET", after["attribution.json"]["sasUrl"])
    assert changed == {"attribution.json"}
    assert old.json == {**new.json, "preliminary": True}


async def test_signed_url_is_valid_for_an_hour() -> None:
    """The URL works for 3,600 seconds, and only exactly as it was signed."""
    async with open_simulator() as (_, api):
        production_id = await api.start_production()
        await asyncio.sleep(305)
        url = (await api.deliverables(production_id))["captions.vtt"]["sasUrl"]
        other_file = await api.request_url("GET", url.replace("captions.vtt", "thumbnail.png"))
        other_expiry = await api.request_url("GET", url.replace("T10%3A", "T11%3A"))
        unsigned = await api.request_url("GET", url.split("?")[0])
        wrong_method = await api.request_url("PUT", url)
        await asyncio.sleep(3599)
        last = await api.request_url("GET", url)
        await asyncio.sleep(1)
        expired = await api.request_url("GET", url)
        fresh = (await api.deliverables(production_id))["captions.vtt"]["sasUrl"]
        assert (await api.request_url("GET", fresh)).body == last.body
    assert parse_qs(urlsplit(url).query)["se"] == ["2026-01-01T10:05:05Z"]
    assert [each.status for each in (other_file, other_expiry, unsigned, expired)] == [403] * 4
    assert last.status == 200
    assert wrong_method.status == 405
    assert expired.headers["Content-Type"] == "application/xml"
    assert b"<Code>AuthenticationFailed</Code>" in expired.body


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-9", slice(0, 10)),
        ("bytes=100-", slice(100, None)),
        ("bytes=-7", slice(-7, None)),
        ("bytes=10-99999999", slice(10, None)),
    ],
)
async def test_range_request(header: str, part: slice) -> None:
    """The response to a range request is 206 with the position of the range in the file."""
    async with open_simulator() as (_, api):
        production_id = await api.start_production()
        await asyncio.sleep(305)
        url = (await api.deliverables(production_id))["attribution.json"]["sasUrl"]
        complete = await api.request_url("GET", url)
        etag = complete.headers["ETag"]
        headers = {"Range": header, "If-Match": etag, "If-Range": etag}
        response = await api.request_url("GET", url, headers=headers)
    size = len(complete.body)
    start, stop, _ = part.indices(size)
    assert (response.status, response.body) == (206, complete.body[part])
    assert response.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{size}"
    assert response.headers["Content-Length"] == str(stop - start)


async def test_ranges_and_conditions_that_cannot_be_satisfied() -> None:
    """A range beyond the end returns 416, a stale If-Match 412, a stale If-Range the complete file."""
    async with open_simulator() as (_, api):
        production_id = await api.start_production()
        await asyncio.sleep(305)
        captions = (await api.deliverables(production_id))["captions.vtt"]
        url, size = captions["sasUrl"], captions["sizeBytes"]
        beyond = await api.request_url("GET", url, headers={"Range": f"bytes={size}-"})
        stale = await api.request_url("GET", url, headers={"If-Match": '"other"'})
        stale_range = await api.request_url("GET", url, headers={"Range": "bytes=5-", "If-Range": '"other"'})
        several = await api.request_url("GET", url, headers={"Range": "bytes=0-1,3-4"})
        backwards = await api.request_url("GET", url, headers={"Range": "bytes=4-1"})
        head = await api.request_url("HEAD", url)
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{size}")
    assert stale.status == 412
    assert [(each.status, len(each.body)) for each in (stale_range, several, backwards)] == [(200, size)] * 3
    assert (head.body, head.headers["Content-Length"]) == (b"", str(size))


@pytest.mark.parametrize(
    ("make", "headers", "fields"),
    [
        (BlobStorage(), {"ETag", "Content-MD5"}, ALL_FIELDS),
        (BlobStorage(etag="none"), {"Content-MD5"}, ALL_FIELDS),
        (BlobStorage(md5="none", documented_only=True), {"ETag"}, {"type", "platform", "sasUrl"}),
        (BlobStorage(encoding="compress"), {"ETag", "Content-MD5", "Content-Encoding"}, ALL_FIELDS),
    ],
)
async def test_blob_storage_of_another_make(make: BlobStorage, headers: set[str], fields: set[str]) -> None:
    """It sends only the headers, and the list only the fields, that this make has."""
    async with open_simulator(blob_storage=make) as (_, api):
        production_id = await api.start_production()
        await asyncio.sleep(305)
        listed = (await api.get(f"/productions/{production_id}/deliverables")).json["deliverables"]
        response = await api.request_url("GET", listed[0]["sasUrl"])
    assert headers == {
        name for name in ("ETag", "Content-MD5", "Content-Encoding") if name in response.headers
    }
    assert set(listed[0]) == fields


async def test_blob_storage_without_ranges_or_with_other_forms() -> None:
    """A weak ETag, an MD5 in hexadecimal, a space in the URL, and always the complete file."""
    make = BlobStorage(etag="weak", md5="hexadecimal", ranges=False, raw_links=True)
    async with open_simulator(blob_storage=make) as (_, api):
        production_id = await api.start_production()
        await asyncio.sleep(305)
        file = (await api.deliverables(production_id))["captions.vtt"]
        url = file["sasUrl"].replace(" ", "%20")
        response = await api.request_url("GET", url, headers={"Range": "bytes=5-"})
    assert " " in file["sasUrl"]
    assert response.status == 200
    assert response.headers["ETag"].startswith('W/"')
    assert response.headers["Content-MD5"] == file["contentMd5"]
    assert file["contentMd5"] == hashlib.md5(response.body, usedforsecurity=False).hexdigest()
