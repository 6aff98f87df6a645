"""Files: whole under their name, or not there at all."""

import asyncio
import base64
import hashlib
import json
import logging
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
from tests.support.scenarios import request_for, requests_for


@pytest.fixture
async def video(simulator: Simulator, client: JaraiClient) -> Deliverable:
    """A deliverable that can be fetched."""
    production = await client.submit(request_for(simulator))
    await client.wait(production.id)
    return next(one for one in await client.deliverables(production.id) if one.type == "Video")


async def test_a_file_is_what_was_announced(client: JaraiClient, video: Deliverable, tmp_path: Path) -> None:
    """Its bytes have the size and the checksum that the list gave."""
    path = await client.download(video, tmp_path / "new" / "folder" / "video.mp4")
    content = path.read_bytes()
    assert len(content) == video.size
    digest = hashlib.md5(content, usedforsecurity=False).digest()
    assert base64.b64encode(digest).decode() == video.content_md5
    assert content[4:8] == b"ftyp"


async def test_a_file_replaces_what_was_there(
    client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """The new one comes in one step, when it is whole."""
    target = tmp_path / "video.mp4"
    target.write_bytes(b"old")
    await client.download(video, target)
    assert target.stat().st_size == video.size


@pytest.mark.parametrize("kind", ["bit_flip", "wrong_length", "cut_body", "reset_before", "internal_error"])
async def test_a_file_that_did_not_come_whole_is_fetched_again(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path, kind: str
) -> None:
    """Whatever was wrong with the first answers, what is kept is right."""
    simulator.faults.add(kind, on="download", times=2)
    path = await client.download(video, tmp_path)
    assert path.stat().st_size == video.size
    assert simulator.faults.fired[kind] == 2


@pytest.mark.parametrize("kind", ["bit_flip", "wrong_length", "cut_body", "not_found"])
async def test_what_never_comes_whole_leaves_nothing_behind(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path, kind: str
) -> None:
    """An error, and an untouched folder."""
    simulator.faults.add(kind, on="download", times=None)
    (tmp_path / "video.mp4").write_bytes(b"old")
    with pytest.raises(DownloadError):
        await client.download(video, tmp_path / "video.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]
    assert (tmp_path / "video.mp4").read_bytes() == b"old"


async def test_a_signed_url_that_has_expired_is_renewed(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """After its hour the list is fetched again, once."""
    await asyncio.sleep(3700)
    lists = simulator.count("deliverables")
    assert (await client.download(video, tmp_path)).stat().st_size == video.size
    assert simulator.count("deliverables") == lists + 1


async def test_a_url_that_is_always_refused_is_an_error(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """Renewing it once is enough to know."""
    simulator.faults.add("expired", on="download", times=None)
    with pytest.raises(DownloadError, match="403"):
        await client.download(video, tmp_path)
    assert simulator.faults.fired["expired"] == 2


async def test_the_key_never_goes_to_blob_storage(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """A signed URL is another origin, and is asked without it."""
    await client.download(video, tmp_path)
    assert simulator.leaks == []


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://host/x", "http://user:pw@127.0.0.1/", "http://", "nonsense", "http://[::1"],
)
async def test_a_url_that_is_none_is_refused(
    client: JaraiClient, video: Deliverable, tmp_path: Path, url: str
) -> None:
    """Nothing but http to a plain host is opened, and of a real API nothing but https."""
    with pytest.raises(DownloadError, match="https to a plain host"):
        await client.download(evolve(video, url=url), tmp_path)


async def test_a_secure_api_has_secure_files(video: Deliverable, tmp_path: Path) -> None:
    """Where the API is on https, a deliverable on plain http is refused."""
    async with JaraiClient("jarai_test_x", base_url="https://127.0.0.1:9/v1/partner") as client:
        with pytest.raises(DownloadError, match="https"):
            await client.download(video, tmp_path)


async def test_a_folder_that_cannot_be_is_said(
    client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """What stands in the way on this machine is not tried again."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileWriteError, match="choose another folder"):
        await client.download(video, tmp_path / "file" / "video.mp4")


async def test_a_cancelled_download_leaves_nothing_behind(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """Neither a part nor a file that looks whole."""
    simulator.faults.add("slow", on="download", seconds=60)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(30):
            await client.download(video, tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_files_that_cannot_be_fetched_are_part_of_the_outcome(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The production is published, what is missing is said, and the manifest says it, too."""
    caplog.set_level(logging.ERROR)
    simulator.faults.add("not_found", on="download", times=2)
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


async def test_deliverables_outlast_an_outage(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """What is paid for is collected, also where the list cannot be read for a while."""
    simulator.faults.add("internal_error", on="deliverables", times=8)
    async with Orchestrator(client, download_to=tmp_path) as orchestrator:
        async for event in orchestrator.run(requests_for(simulator, 1)):
            if isinstance(event, Finished):
                assert event.outcome.ok
    assert simulator.faults.fired["internal_error"] == 8


async def test_no_signed_url_is_written_down(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the manifest, the log nor the events' `repr` holds a signature or the key."""
    caplog.set_level(logging.DEBUG)
    simulator.faults.add("bit_flip", on="download", times=3)
    async with Orchestrator(client, download_to=tmp_path) as orchestrator:
        printed = [repr(event) async for event in orchestrator.run(requests_for(simulator, 2))]
    written = [path.read_text() for path in tmp_path.glob("*/manifest.json")]
    everything = "".join([*printed, *written, caplog.text])
    assert "sig=" not in everything
    assert simulator.api_key not in everything


async def test_a_deliverable_without_a_url_is_said_and_the_others_are_fetched(
    client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """One that is not ready must not hide the rest of the list."""
    with pytest.raises(DownloadError, match="URL"):
        await client.download(evolve(video, url=""), tmp_path)


async def test_what_merely_drips_is_given_up(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """A file that would take days is tried again instead, and keeps nobody waiting."""
    simulator.faults.add("slow", on="download", seconds=7 * 24 * 3600)
    began = asyncio.get_running_loop().time()
    await client.download(video, tmp_path)
    assert asyncio.get_running_loop().time() - began < 600


async def test_what_cannot_get_better_is_not_tried_again(
    simulator: Simulator, client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """A file that is gone is asked for once."""
    simulator.faults.add("not_found", on="download", times=None)
    with pytest.raises(DownloadError, match="404"):
        await client.download(video, tmp_path)
    assert simulator.faults.fired["not_found"] == 1


async def test_files_that_fail_keep_no_other_from_being_fetched(tmp_path: Path) -> None:
    """Waiting to try again holds no place among those that are fetched at a time: each gets its turns."""

    def stages(_: Random, __: str) -> list[tuple[str, float]]:
        return [("Queued", 20), ("Producing", 900), ("Distributing", 60)]

    async with (
        Simulator(durations=stages, failure_rate=0, approval="auto") as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client, download_to=tmp_path) as orchestrator,
    ):
        simulator.faults.add("internal_error", on="download", times=None)
        files: list[int] = []
        async for event in orchestrator.run(requests_for(simulator, 12)):
            if isinstance(event, DeliverablesReady):
                files.append(len(event.deliverables))
            if isinstance(event, DeliverablesReady) and len(files) == 12:
                await asyncio.sleep(16)  # longer than the first four waits can be together
                assert simulator.faults.fired["internal_error"] >= 5 * sum(files)
                simulator.faults.clear()
            if isinstance(event, Finished):
                assert event.outcome.ok


async def test_a_folder_takes_files_under_their_own_names(
    client: JaraiClient, video: Deliverable, tmp_path: Path
) -> None:
    """Also one that is yet to be made; and where the server names none, by what they are."""
    assert (await client.download(video, f"{tmp_path}/new/")).name == "video-youtube.mp4"
    nameless = evolve(video, file_name=None)
    assert (await client.download(nameless, tmp_path)).name == "Video-YouTube.mp4"


async def test_what_was_fetched_for_review_and_not_again_is_not_called_complete(tmp_path: Path) -> None:
    """A file that has changed since is stale: neither the outcome nor the manifest counts it."""

    def stages(_: Random, __: str) -> list[tuple[str, float]]:
        return [("Queued", 20), ("Producing", 900), ("AwaitingApproval", 3600), ("Distributing", 60)]

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
    stale = [one["file"] for one in manifest["files"] if not one["complete"]]
    assert stale == ["attribution.json"]
