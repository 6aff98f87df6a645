"""A batch that has finished is run again: what is not on the disk, whole, is downloaded again."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from jarai_async import DeliverablesReady, Downloaded, JaraiClient, Orchestrator, Outcome, Submitted
from jarai_async.simulator import BlobStorage, Simulator
from jarai_async.simulator._api.fault_kinds import FaultContext, FaultKind
from jarai_async.simulator._api.responses import Response
from tests.support.orchestrators import events_by_reference, outcomes_in
from tests.support.scenarios import request_for


async def run(
    simulator: Simulator, folder: Path, download_to: str | None = "files"
) -> tuple[Outcome, list[Path]]:
    """Run one request as a program does that is started again; return its outcome and what was downloaded."""
    async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
        target = None if download_to is None else folder / download_to
        orchestrator = Orchestrator(client, journal=folder / "journal", download_to=target)
        events = await events_by_reference(orchestrator, [request_for(simulator, reference="a")])
    (outcome,) = outcomes_in(events)
    return outcome, [event.path for event in events["a"] if isinstance(event, Downloaded)]


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def change_one_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [Path.unlink, truncate, change_one_byte])
async def test_file_that_is_missing_or_damaged_is_downloaded_again(
    simulator: Simulator, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    """Only that file; nothing is submitted or polled again."""
    first, downloaded = await run(simulator, tmp_path)
    damage(downloaded[2])
    again, repeated = await run(simulator, tmp_path)
    assert repeated == [downloaded[2]]
    assert again.ok
    assert again.files.keys() == first.files.keys()
    assert again.submitted_at == first.submitted_at
    before = len(simulator.requests)
    last, none = await run(simulator, tmp_path)
    assert (last.files.keys(), none) == (first.files.keys(), [])
    assert len(simulator.requests) == before
    assert simulator.count("submit") == 1


async def test_outcome_says_what_cannot_be_downloaded_again(simulator: Simulator, tmp_path: Path) -> None:
    """Also if the recorded outcome was complete; the next run tries again."""
    _, downloaded = await run(simulator, tmp_path)
    replace_by_a_folder(downloaded[0])
    for _ in range(2):
        outcome, _ = await run(simulator, tmp_path)
        assert not outcome.ok
        assert not outcome.is_final
        assert "1 of 6 files could not be downloaded" in str(outcome)
    downloaded[0].rmdir()
    outcome, repeated = await run(simulator, tmp_path)
    assert outcome.ok
    assert repeated == [downloaded[0]]


@pytest.mark.parametrize("kind", ["another production", "forbidden"])
async def test_outcome_that_is_not_complete_lists_only_files_that_exist(
    simulator: Simulator, tmp_path: Path, kind: str
) -> None:
    """Also if collecting fails before the files are looked at."""
    first, downloaded = await run(simulator, tmp_path)
    damage = downloaded[0]
    damage.unlink()
    if kind == "another production":
        damage.with_name("manifest.json").write_text('{"productionId": "another"}')
    else:
        simulator.faults.add("forbidden", on="deliverables", times=None)
    outcome, _ = await run(simulator, tmp_path)
    assert not outcome.ok
    assert outcome.files.keys() == first.files.keys() - {damage}


async def test_another_folder_receives_all_files(simulator: Simulator, tmp_path: Path) -> None:
    """Also if the first run downloaded nothing; the files of a folder that is not asked for do not matter."""
    nothing, _ = await run(simulator, tmp_path, None)
    assert not nothing.files
    for folder in ("first", "second"):
        outcome, downloaded = await run(simulator, tmp_path, folder)
        assert len(downloaded) == 6
        assert {path.parent.parent for path in outcome.files} == {tmp_path / folder}
    again, downloaded = await run(simulator, tmp_path, "first")
    assert again.ok
    assert downloaded == []
    assert {path.parent.parent for path in again.files} == {tmp_path / "first"}


async def test_outcome_lists_only_files_that_exist(simulator: Simulator, tmp_path: Path) -> None:
    """A run without a folder downloads nothing, and does not report files that were deleted."""
    _, downloaded = await run(simulator, tmp_path)
    downloaded[0].unlink()
    outcome, _ = await run(simulator, tmp_path, None)
    assert outcome.ok
    assert set(outcome.files) == set(downloaded[1:])


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("[" * 100_000)])
async def test_deleted_or_unreadable_manifest_is_written_again(
    simulator: Simulator, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    """No file is downloaded for it, and no event is repeated."""
    _, downloaded = await run(simulator, tmp_path)
    manifest = downloaded[0].with_name("manifest.json")
    content = manifest.read_text()
    damage(manifest)
    async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
        orchestrator = Orchestrator(client, journal=tmp_path / "journal", download_to=tmp_path / "files")
        events = (await events_by_reference(orchestrator, [request_for(simulator, reference="a")]))["a"]
    assert not any(isinstance(event, Submitted | DeliverablesReady | Downloaded) for event in events)
    assert manifest.read_text() == content


async def test_file_named_after_its_url_is_not_downloaded_again(tmp_path: Path) -> None:
    """The journal has no URL: the file on the disk has the name."""
    make = BlobStorage(documented_only=True)
    async with Simulator(approval="auto", failure_rate=0, blob_storage=make) as simulator:
        first, downloaded = await run(simulator, tmp_path)
        assert {path.suffix for path in downloaded} == {".mp4", ".vtt", ".png", ".json"}
        before = len(simulator.requests)
        again, repeated = await run(simulator, tmp_path)
        assert (again.files.keys(), repeated) == (first.files.keys(), [])
        assert len(simulator.requests) == before
        downloaded[1].unlink()
        _, repeated = await run(simulator, tmp_path)
        assert repeated == [downloaded[1]]


async def test_file_keeps_its_name_although_the_url_changes(simulator: Simulator, tmp_path: Path) -> None:
    """The extension of one comes from a URL of blob storage, and later there is a CDN in front of it."""
    suffixes = iter(["?", "/get?", "?"])

    def without_names(response: Response, _: FaultContext) -> Response:
        assert isinstance(response.payload, dict)
        listed: Any = response.payload["deliverables"]
        suffix = next(suffixes)
        for item in listed:
            item["sasUrl"] = item["sasUrl"].replace("?", suffix)
            del item["fileName"], item["contentType"]
        return evolve(response, payload=listed)

    simulator.faults.kinds["without names"] = FaultKind(without_names, executes=True)
    simulator.faults.add("without names", on="deliverables", times=None)
    first, downloaded = await run(simulator, tmp_path)
    assert {path.suffix for path in downloaded} == {".mp4", ".vtt", ".png", ".json"}
    downloaded[1].unlink()
    outcome, repeated = await run(simulator, tmp_path)  # the other URL is rejected, and the list read again
    assert (outcome.ok, repeated) == (True, [downloaded[1]])
    assert outcome.files.keys() == first.files.keys()
    assert next(suffixes, None) is None


async def test_file_whose_type_could_not_be_read_once_is_not_downloaded_again(
    simulator: Simulator, tmp_path: Path
) -> None:
    """Its id says which file it is."""
    simulator.faults.add("odd_items", on="deliverables")
    first, downloaded = await run(simulator, tmp_path)
    downloaded[1].with_name("manifest.json").unlink()  # so that the list is read again
    again, repeated = await run(simulator, tmp_path)
    assert (again.files.keys(), repeated) == (first.files.keys(), [])
    assert {file.type for file in first.deliverables} != {file.type for file in again.deliverables}
