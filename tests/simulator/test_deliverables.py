"""The simulator's deliverables and their signed URLs, over real HTTP and on simulated time."""

import asyncio
import base64
import hashlib
import uuid
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.raw_client import open_world


async def test_deliverables_can_be_fetched_from_awaiting_approval_on() -> None:
    """Before that they get a 409; from then on they have a size, a checksum and a URL that holds them."""
    async with open_world() as (simulator, api):
        production_id = await api.start()
        await asyncio.sleep(154)
        early = await api.get(f"/productions/{production_id}/deliverables")
        await asyncio.sleep(1)
        listed = await api.listed(production_id)
        for one in listed.values():
            reply = await api.fetch("GET", one["sasUrl"])
            digest = base64.b64encode(hashlib.md5(reply.raw, usedforsecurity=False).digest()).decode()
            assert (len(reply.raw), digest) == (one["sizeBytes"], one["contentMd5"])
            assert reply.headers["Content-MD5"] == digest
            assert reply.headers["Content-Type"] == one["contentType"]
            assert reply.headers["Accept-Ranges"] == "bytes"
            assert uuid.UUID(one["deliverableId"])
        origin = urlsplit(next(iter(listed.values()))["sasUrl"]).port
    assert (early.status, early.error) == (409, "DELIVERABLES_NOT_READY")
    assert {"Video", "ClosedCaptions", "Attribution"} <= {one["type"] for one in listed.values()}
    assert origin != urlsplit(simulator.base_url).port
    assert simulator.count("download", 200) == len(listed)
    assert simulator.leaks == []


async def test_a_preliminary_list_differs_from_the_final_one() -> None:
    """After publication the attribution has other bytes, and the old URL still gives the old ones."""
    async with open_world() as (_, api):
        production_id = await api.start()
        await asyncio.sleep(200)
        before = await api.listed(production_id)
        await asyncio.sleep(200)
        after = await api.listed(production_id)
        changed = {name for name in after if after[name]["contentMd5"] != before[name]["contentMd5"]}
        old = await api.fetch("GET", before["attribution.json"]["sasUrl"])
        new = await api.fetch("GET", after["attribution.json"]["sasUrl"])
    assert changed == {"attribution.json"}
    assert old.json == {**new.json, "preliminary": True}


async def test_a_signed_url_is_valid_for_an_hour() -> None:
    """The URL works for 3,600 seconds and not one more, and only as it was signed."""
    async with open_world() as (_, api):
        production_id = await api.start()
        await asyncio.sleep(305)
        url = (await api.listed(production_id))["captions.vtt"]["sasUrl"]
        other = await api.fetch("GET", url.replace("captions.vtt", "thumbnail.png"))
        longer = await api.fetch("GET", url.replace("T10%3A", "T11%3A"))
        unsigned = await api.fetch("GET", url.split("?")[0])
        wrong_method = await api.fetch("PUT", url)
        await asyncio.sleep(3599)
        last = await api.fetch("GET", url)
        await asyncio.sleep(1)
        expired = await api.fetch("GET", url)
        fresh = (await api.listed(production_id))["captions.vtt"]["sasUrl"]
        assert (await api.fetch("GET", fresh)).raw == last.raw
    assert parse_qs(urlsplit(url).query)["se"] == ["2026-01-01T10:05:05Z"]
    assert [one.status for one in (other, longer, unsigned, last, expired)] == [403, 403, 403, 200, 403]
    assert wrong_method.status == 405
    assert expired.headers["Content-Type"] == "application/xml"
    assert b"<Code>AuthenticationFailed</Code>" in expired.raw


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("bytes=0-9", slice(0, 10)),
        ("bytes=100-", slice(100, None)),
        ("bytes=-7", slice(-7, None)),
        ("bytes=10-99999999", slice(10, None)),
    ],
)
async def test_a_range_is_served(wanted: str, part: slice) -> None:
    """A range of a file comes as 206, with its place in the whole."""
    async with open_world() as (_, api):
        production_id = await api.start()
        await asyncio.sleep(305)
        url = (await api.listed(production_id))["attribution.json"]["sasUrl"]
        whole = await api.fetch("GET", url)
        same = {"If-Match": whole.headers["ETag"], "If-Range": whole.headers["ETag"]}
        reply = await api.fetch("GET", url, headers={"Range": wanted, **same})
    size = len(whole.raw)
    start, stop, _ = part.indices(size)
    assert (reply.status, reply.raw) == (206, whole.raw[part])
    assert reply.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{size}"
    assert reply.headers["Content-Length"] == str(stop - start)


async def test_ranges_and_conditions_that_cannot_be_met() -> None:
    """A range beyond the end is 416, a stale If-Match 412, a stale If-Range the whole file."""
    async with open_world() as (_, api):
        production_id = await api.start()
        await asyncio.sleep(305)
        one = (await api.listed(production_id))["captions.vtt"]
        size = one["sizeBytes"]
        beyond = await api.fetch("GET", one["sasUrl"], headers={"Range": f"bytes={size}-"})
        stale = await api.fetch("GET", one["sasUrl"], headers={"If-Match": '"other"'})
        whole = await api.fetch("GET", one["sasUrl"], headers={"Range": "bytes=5-", "If-Range": '"other"'})
        several = await api.fetch("GET", one["sasUrl"], headers={"Range": "bytes=0-1,3-4"})
        backwards = await api.fetch("GET", one["sasUrl"], headers={"Range": "bytes=4-1"})
        head = await api.fetch("HEAD", one["sasUrl"])
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{size}")
    assert stale.status == 412
    assert [(one.status, len(one.raw)) for one in (whole, several, backwards)] == [(200, size)] * 3
    assert (head.raw, head.headers["Content-Length"]) == (b"", str(size))
