"""Downloads: a complete, verified file or none at all."""

import asyncio
import base64
import hashlib
import json
import logging
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from attrs import evolve

from jarai_async import (
    Deliverable,
    DeliverablesReady,
    Downloaded,
    DownloadError,
    FileWriteError,
    Finished,
    JaraiClient,
    Orchestrator,
    OutcomeState,
)
from jarai_async.simulator import Simulator
from jarai_async.simulator._api.fault_kinds import FaultKind
from jarai_async.simulator._api.responses import Response
from tests.support.scenarios import request_for, requests_for


async def test_file_has_the_listed_size_and_checksum(
    client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    path = await client.download(video, tmp_path / "new" / "folder" / "video.mp4")
    content = path.read_bytes()
    assert len(content) == video.size
    digest = hashlib.md5(content, usedforsecurity=False).digest()
    assert base64.b64encode(digest).decode() == video.content_md5
    assert content[4:8] == b"ftyp"


async def test_download_replaces_an_existing_file(
    client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    target = tmp_path / "video.mp4"
    target.write_bytes(b"old")
    await client.download(video, target)
    assert target.stat().st_size == video.size


@pytest.mark.parametrize("kind", ["bit_flip", "wrong_length", "cut_body", "reset_before", "internal_error"])
async def test_corrupt_or_incomplete_download_is_retried(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path, kind: str
) -> None:
    """Whatever was wrong with the first responses, the final file is complete."""
    simulator.faults.add(kind, on="download", times=2)
    path = await client.download(video, tmp_path)
    assert path.stat().st_size == video.size
    assert simulator.faults.fired[kind] == 2


@pytest.mark.parametrize("kind", ["bit_flip", "wrong_length", "cut_body", "not_found"])
async def test_failed_download_leaves_the_folder_unchanged(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path, kind: str
) -> None:
    simulator.faults.add(kind, on="download", times=None)
    (tmp_path / "video.mp4").write_bytes(b"old")
    with pytest.raises(DownloadError):
        await client.download(video, tmp_path / "video.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]
    assert (tmp_path / "video.mp4").read_bytes() == b"old"


async def test_expired_signed_url_is_renewed(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """After an hour the downloader reads the list of deliverables again, once."""
    await asyncio.sleep(3700)
    lists = simulator.count("deliverables")
    assert (await client.download(video, tmp_path)).stat().st_size == video.size
    assert simulator.count("deliverables") == lists + 1


async def test_signed_url_that_stays_rejected_is_an_error(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """It is renewed once; the list would be read again only a minute later."""
    simulator.faults.add("expired", on="download", times=None)
    before = simulator.count("deliverables")
    with pytest.raises(DownloadError, match="403"):
        await client.download(video, tmp_path)
    assert simulator.faults.fired["expired"] == 7
    assert simulator.count("deliverables") == before + 1


async def test_api_key_does_not_leak_to_blob_storage(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """A signed URL has another origin, and the request to it carries no API key."""
    await client.download(video, tmp_path)
    assert simulator.leaks == []


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://host/x",
        "http://user:pw@127.0.0.1/",
        "http://h:0/",
        "http://",
        "nonsense",
        "http://[::1",
    ],
)
async def test_invalid_url_is_rejected(
    client: JaraiClient, video: Deliverable, tmp_path: Path, url: str
) -> None:
    """Only http and https URLs with a host and no credentials are requested."""
    with pytest.raises(DownloadError, match="no valid https URL"):
        await client.download(evolve(video, url=url), tmp_path)


async def test_http_url_is_rejected_if_the_api_uses_https(video: Deliverable, tmp_path: Path) -> None:
    async with JaraiClient("jarai_test_x", base_url="https://127.0.0.1:9/v1/partner") as client:
        with pytest.raises(DownloadError, match="https"):
            await client.download(video, tmp_path)


async def test_unwritable_folder_raises_file_write_error(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """The error is final, and raised before anything is requested."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileWriteError, match="choose another folder"):
        await client.download(video, tmp_path / "file" / "video.mp4")
    assert simulator.count("download") == 0


async def test_cancelled_download_leaves_no_file_behind(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """Neither a partial file nor one under the final name."""
    simulator.faults.add("slow", on="download", seconds=60)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(30):
            await client.download(video, tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_failed_downloads_are_reported_in_outcome_and_manifest(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The production is published, and the outcome and the manifest show the missing files."""
    caplog.set_level(logging.ERROR)
    simulator.faults.kinds["moved"] = FaultKind(lambda _, __: Response(302), executes=False)
    simulator.faults.add("moved", on="download", times=2)  # no later attempt would succeed
    async with Orchestrator(client, download_to=tmp_path) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        outcome = await ticket
        events = [event async for event in ticket.events()]
    assert outcome.state is OutcomeState.PUBLISHED
    assert not outcome.ok
    assert isinstance(outcome.error, DownloadError)
    assert "2 of 6" in outcome.error.message
    assert sum(isinstance(event, Downloaded) for event in events) == 4
    manifest = next(tmp_path.glob("*/manifest.json")).read_text()
    assert manifest.count('"complete": false') == 2


async def test_deliverables_are_collected_after_an_outage(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """The orchestrator retries while the list of deliverables cannot be read."""
    simulator.faults.add("internal_error", on="deliverables", times=8)
    async with Orchestrator(client, download_to=tmp_path) as orchestrator:
        async for event in orchestrator.run(requests_for(simulator, 1)):
            if isinstance(event, Finished):
                assert event.outcome.ok
    assert simulator.faults.fired["internal_error"] == 8


async def test_signed_urls_do_not_leak_into_manifest_log_or_repr(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor does the API key."""
    caplog.set_level(logging.DEBUG)
    simulator.faults.add("bit_flip", on="download", times=3)
    async with Orchestrator(client, download_to=tmp_path) as orchestrator:
        reprs = [repr(event) async for event in orchestrator.run(requests_for(simulator, 2))]
    manifests = [path.read_text() for path in tmp_path.glob("*/manifest.json")]
    output = "".join([*reprs, *manifests, caplog.text])
    assert "sig=" not in output
    assert simulator.api_key not in output


async def test_deliverable_without_a_url_is_an_error(
    client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match="URL"):
        await client.download(evolve(video, url=""), tmp_path)


async def test_slow_response_is_retried(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """Instead of taking days at less than 1024 bytes a second."""
    simulator.faults.add("slow", on="download", seconds=7 * 24 * 3600)
    start = asyncio.get_running_loop().time()
    await client.download(video, tmp_path)
    assert asyncio.get_running_loop().time() - start < 600


async def test_slow_download_reports_its_progress_at_most_ten_times_a_second(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    simulator.faults.add("slow", on="download", seconds=20)
    times: list[float] = []
    clock = asyncio.get_running_loop().time
    await client.download(video, tmp_path, progress=lambda _, __: times.append(clock()))
    assert len(times) > 5
    assert min(later - earlier for earlier, later in pairwise(times[:-1])) >= 0.1


async def test_eight_files_are_read_at_a_time(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """However many downloads are started at once."""
    simulator.faults.add("slow", on="download", seconds=20, times=None)
    downloads = [asyncio.create_task(client.download(video, tmp_path / str(n))) for n in range(50)]
    await asyncio.sleep(10)
    assert simulator.count("download") == 8
    simulator.faults.clear()
    await asyncio.gather(*downloads)
    assert simulator.count("download") == 50


async def test_permanent_error_is_not_retried(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """Of a redirect in a circle, five more are received."""
    simulator.faults.add("redirect", on="download", times=None)
    with pytest.raises(DownloadError, match="more than 5 redirects"):
        await client.download(video, tmp_path)
    assert simulator.faults.fired["redirect"] == 6


async def test_failing_downloads_do_not_block_the_others(tmp_path: Path) -> None:
    """A download that waits to be retried holds no slot, so every file gets its five attempts."""

    def stages(_: Random, __: str) -> list[tuple[str, float]]:
        return [("Queued", 20), ("Producing", 60), ("Distributing", 60)]

    async with (
        Simulator(durations=stages, failure_rate=0, approval="auto") as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client, download_to=tmp_path) as orchestrator,
    ):
        simulator.faults.add("internal_error", on="download", times=None)
        file_counts: list[int] = []
        async for event in orchestrator.run(requests_for(simulator, 12)):
            if isinstance(event, DeliverablesReady):
                file_counts.append(len(event.deliverables))
            if isinstance(event, DeliverablesReady) and len(file_counts) == 12:
                await asyncio.sleep(16)  # longer than the first four waits together
                assert simulator.faults.fired["internal_error"] >= 5 * sum(file_counts)
                simulator.faults.clear()
            if isinstance(event, Finished):
                assert event.outcome.ok


async def test_download_into_a_folder_uses_the_file_name(
    client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """The folder may not exist yet. Without a name from the server, type and platform make the name."""
    assert (await client.download(video, f"{tmp_path}/new/")).name == "video-youtube.mp4"
    without_name = evolve(video, file_name=None)
    assert (await client.download(without_name, tmp_path)).name == "Video-YouTube.mp4"


async def test_outdated_review_file_is_not_called_complete(tmp_path: Path) -> None:
    """Neither the outcome nor the manifest counts a file that has changed since the review."""

    def stages(_: Random, __: str) -> list[tuple[str, float]]:
        return [("Queued", 20), ("Producing", 60), ("AwaitingApproval", 3600), ("Distributing", 60)]

    async with (
        Simulator(durations=stages, failure_rate=0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client, download_to=tmp_path, collect_for_review=True) as orchestrator,
    ):
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(3000)
        simulator.faults.add("not_found", on="download", times=None)
        outcome = await ticket
    assert not outcome.ok
    assert "attribution.json" not in {path.name for path in outcome.files}
    (manifest,) = [json.loads(path.read_bytes()) for path in tmp_path.glob("*/manifest.json")]
    incomplete = [entry["file"] for entry in manifest["files"] if not entry["complete"]]
    assert incomplete == ["attribution.json"]
