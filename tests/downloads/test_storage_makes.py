"""Blob storage of every make: each file is complete, and what verified it is recorded."""

import json
from pathlib import Path

import pytest

from jarai_async import Downloaded, JaraiClient, Orchestrator
from jarai_async.simulator import BlobStorage, Simulator
from tests.support.orchestrators import events_by_reference
from tests.support.scenarios import requests_for

MAKES = {
    "no ETag": (BlobStorage(etag="none"), "md5"),
    "a weak ETag": (BlobStorage(etag="weak"), "md5"),
    "a hexadecimal MD5": (BlobStorage(md5="hexadecimal"), "md5"),
    "no MD5": (BlobStorage(md5="none"), "length"),
    "neither ETag nor MD5": (BlobStorage(etag="none", md5="none"), "length"),
    "nothing but what is documented": (
        BlobStorage(etag="none", md5="none", ranges=False, documented_only=True),
        "length",
    ),
    "no ranges": (BlobStorage(ranges=False), "md5"),
    "a stored encoding": (BlobStorage(encoding="gzip"), "md5"),
    "a stored encoding without MD5": (BlobStorage(encoding="gzip", md5="none"), "length"),
    "a stored encoding without MD5 and ETag": (
        BlobStorage(encoding="gzip", md5="none", etag="none", documented_only=True),
        "length",
    ),
    "links with a space": (BlobStorage(raw_links=True, documented_only=True), "md5"),
}


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("kind", ["cut_body", "expired"])
async def test_files_of_any_blob_storage_are_complete(tmp_path: Path, make: str, kind: str) -> None:
    """Although half of all downloads are cut, or their URLs rejected."""
    storage, verified_by = MAKES[make]
    async with (
        Simulator(approval="auto", failure_rate=0, blob_storage=storage) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        simulator.faults.add(kind, on="download", times=12, probability=0.5)
        orchestrator = Orchestrator(client, download_to=tmp_path)
        (events,) = (await events_by_reference(orchestrator, requests_for(simulator, 1))).values()
        saved = {event.path: event.saved for event in events if isinstance(event, Downloaded)}
        assert simulator.faults.fired[kind] > 3
        assert {file.verified_by for file in saved.values()} == {verified_by}
        assert {file.md5 is not None for file in saved.values()} == {verified_by == "md5"}
        assert {file.content_encoding for file in saved.values()} == {storage.encoding or None}
        (manifest,) = tmp_path.glob("*/manifest.json")
        entries = json.loads(manifest.read_bytes())["files"]
        assert {entry.get("contentEncoding") for entry in entries} == {storage.encoding or None}
        (production_id,) = simulator.productions
        expected = sorted(simulator.files(production_id).values())
    assert sorted(path.read_bytes() for path in saved) == expected
