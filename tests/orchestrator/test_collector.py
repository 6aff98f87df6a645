"""Downloads of an orchestrator: files for review, and text that no file can hold."""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest
from attrs import evolve

from jarai_async import DeliverablesReady, Downloaded, FileWriteError, JaraiClient, Orchestrator, Outcome
from jarai_async.simulator import Simulator
from jarai_async.simulator._api.fault_kinds import FaultContext, FaultKind
from jarai_async.simulator._api.responses import Response, error_response
from tests.support.orchestrators import events_by_reference, outcomes_of
from tests.support.scenarios import request_for, requests_for

ROOT = str(Path(__file__).parents[2])


def _slow_approval(_: Random, __: str) -> list[tuple[str, float]]:
    return [("Queued", 20), ("Producing", 900), ("AwaitingApproval", 3600), ("Distributing", 60)]


async def test_files_for_review_are_downloaded_again_if_they_change(tmp_path: Path) -> None:
    """Files are downloaded in AwaitingApproval; at the end, those that differ are replaced."""
    async with (
        Simulator(durations=_slow_approval, failure_rate=0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        orchestrator = Orchestrator(client, download_to=tmp_path, collect_for_review=True)
        (events,) = (await events_by_reference(orchestrator, requests_for(simulator, 1))).values()
    ready = [event for event in events if isinstance(event, DeliverablesReady)]
    assert [event.final for event in ready] == [False, True]
    names = [event.path.name for event in events if isinstance(event, Downloaded)]
    assert len(set(names)) == len(ready[1].deliverables)
    assert names.count("attribution.json") == 2  # the simulator changes this file after the approval
    assert names.count("video-youtube.mp4") == 1
    (folder,) = {event.path.parent for event in events if isinstance(event, Downloaded)}
    assert b"preliminary" not in (folder / "attribution.json").read_bytes()


def _only_urls(response: Response, _: FaultContext) -> Response:
    """Make a list of videos without ids, names and checksums."""
    assert isinstance(response.payload, dict)
    listed: Any = response.payload["deliverables"]
    return evolve(response, payload=[{"type": "Video", "sasUrl": item["sasUrl"]} for item in listed])


async def test_files_for_review_without_checksums_are_downloaded_again(tmp_path: Path) -> None:
    """Nothing shows whether they have changed since."""
    async with (
        Simulator(durations=_slow_approval, failure_rate=0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        simulator.faults.kinds["only_urls"] = FaultKind(_only_urls, executes=True)
        simulator.faults.add("only_urls", on="deliverables", times=None)
        orchestrator = Orchestrator(client, download_to=tmp_path, collect_for_review=True)
        (events,) = (await events_by_reference(orchestrator, requests_for(simulator, 1))).values()
    paths = Counter(event.path for event in events if isinstance(event, Downloaded))
    assert set(paths.values()) == {2}


def _short_approval(_: Random, __: str) -> list[tuple[str, float]]:
    return [("Producing", 10), ("AwaitingApproval", 600), ("Distributing", 5)]


async def _asked_for_list(tmp_path: Path, fault: str, times: int) -> list[float]:
    """Collect for review and at the end; return when the list was asked for, in seconds after the first."""
    async with (
        Simulator(durations=_short_approval, failure_rate=0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        simulator.faults.add(fault, on="deliverables", times=times)
        orchestrator = Orchestrator(client, download_to=tmp_path, collect_for_review=True)
        (outcome,) = await outcomes_of(orchestrator, requests_for(simulator, 1))
    assert outcome.ok
    times_of_lists = [record.arrived for record in simulator.requests if record.route == "deliverables"]
    return [time - times_of_lists[0] for time in times_of_lists]


async def test_list_for_review_that_is_not_there_yet_is_not_waited_for(tmp_path: Path) -> None:
    """That would delay the next change."""
    _, final = await _asked_for_list(tmp_path, "not_found", times=1)
    assert final > 500


async def test_final_files_are_tried_for_longer_than_files_for_review(tmp_path: Path) -> None:
    """Seven times for review, and twelve times at the end."""
    asked = await _asked_for_list(tmp_path, "unavailable", times=7 + 11)
    assert sum(time < 500 for time in asked) == 7
    assert len(asked) == 7 + 12


async def test_eight_files_are_downloaded_at_a_time(tmp_path: Path) -> None:
    """Of all productions together: the ninth waits until one of them has arrived."""
    async with (
        Simulator(durations=_slow_approval, failure_rate=0) as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        simulator.faults.add("slow", on="download", times=None, seconds=25)
        outcomes = await outcomes_of(Orchestrator(client, download_to=tmp_path), requests_for(simulator, 3))
    assert all(outcome.ok for outcome in outcomes)
    started = [record.arrived for record in simulator.requests if record.route == "download"]
    assert started[7] < started[0] + 25 <= started[8]


async def test_productions_with_similar_references_get_folders_of_their_own(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """Every file is that of its production."""
    references = ["x" * 200 + "a", "x" * 200 + "b", "a?b", "a:b", "Caf\u00e9", "CAFE\u0301"]
    requests = [request_for(simulator, topic=name, reference=name) for name in references]
    outcomes = await outcomes_of(Orchestrator(client, download_to=tmp_path), requests)
    folders = {path.parent for outcome in outcomes for path in outcome.files}
    assert len(folders) == len({str(folder).casefold() for folder in folders}) == len(references)
    for outcome in outcomes:
        assert outcome.production is not None
        files = simulator.files(outcome.production.id)
        assert {path.name: path.read_bytes() for path in outcome.files} == files


async def test_folder_of_another_production_is_left_alone(tmp_path: Path) -> None:
    """Its manifest names the production that it belongs to."""

    async def collect() -> Outcome:
        async with (
            Simulator(seed=3, approval="auto", failure_rate=0) as simulator,
            JaraiClient(simulator.api_key, base_url=simulator.base_url, random=Random(1)) as client,
        ):
            (outcome,) = await outcomes_of(
                Orchestrator(client, download_to=tmp_path), requests_for(simulator, 1)
            )
            return outcome

    first = await collect()  # the same seed gives the same production
    assert first.ok
    (manifest,) = tmp_path.glob("*/manifest.json")
    manifest.write_text(json.dumps(json.loads(manifest.read_bytes()) | {"productionId": "another"}))
    before = {path: path.stat().st_mtime_ns for path in manifest.parent.iterdir()}
    second = await collect()
    assert isinstance(second.error, FileWriteError)
    assert "belongs to another production" in second.error.message
    assert {path: path.stat().st_mtime_ns for path in manifest.parent.iterdir()} == before


async def test_files_that_differ_only_in_their_urls_are_renewed_each_for_itself(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """The list has no ids and no names, and every URL is rejected once."""
    simulator.faults.kinds["only_urls"] = FaultKind(_only_urls, executes=True)
    simulator.faults.add("only_urls", on="deliverables", times=None)
    simulator.faults.add("expired", on="download", times=6)
    (outcome,) = await outcomes_of(Orchestrator(client, download_to=tmp_path), requests_for(simulator, 1))
    assert outcome.ok
    assert outcome.production is not None
    assert len(outcome.files) == len(outcome.deliverables)
    for path, file in outcome.files.items():
        name = urlsplit(file.url).path.rpartition("/")[2]
        assert path.read_bytes() == simulator.files(outcome.production.id)[name]


async def test_twins_keep_their_names_when_the_list_has_another_order(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """A file that is gone is downloaded again, and not taken for its twin, although the list has no ids."""
    order = 1

    def as_twins(response: Response, _: FaultContext) -> Response:
        assert isinstance(response.payload, dict)
        listed: Any = response.payload["deliverables"]
        return evolve(
            response, payload=[{"type": "Video", "sasUrl": item["sasUrl"]} for item in listed[::order]]
        )

    simulator.faults.kinds["twins"] = FaultKind(as_twins, executes=True)
    simulator.faults.add("twins", on="deliverables", times=None)
    requests = requests_for(simulator, 1)
    settings: Any = {"journal": tmp_path / "batch.db", "download_to": tmp_path / "out"}
    (outcome,) = await outcomes_of(Orchestrator(client, **settings), requests)
    before = {path: path.read_bytes() for path in outcome.files}
    max(before).unlink()
    order = -1
    (outcome,) = await outcomes_of(Orchestrator(client, **settings), requests)
    assert outcome.ok
    assert {path: path.read_bytes() for path in outcome.files} == before


@pytest.mark.parametrize(
    "first",
    [
        Response(404),
        Response(409),
        Response(425),
        Response(200, []),
        Response(200, [{"type": "Video", "sasUrl": None}]),
        Response(200, [{"type": "Video", "sasUrl": "soon"}]),
    ],
    ids=["404", "409", "425", "empty", "no URL", "unusable URL"],
)
async def test_list_that_lags_behind_the_status_is_waited_for(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, first: Response
) -> None:
    """For some seconds after the end it is not found, refused or empty, or its files have no URL."""
    simulator.faults.kinds["lag"] = FaultKind(lambda _, __: first, executes=True)
    simulator.faults.add("lag", on="deliverables", times=2)
    (outcome,) = await outcomes_of(Orchestrator(client, download_to=tmp_path), requests_for(simulator, 1))
    assert outcome.ok
    assert len(outcome.files) == 6
    assert simulator.count("deliverables") == 3


@pytest.mark.parametrize(("status", "named", "wait"), [(404, 50, 50), (409, 50, 50), (409, 86_400, 300)])
async def test_list_that_names_a_time_is_not_asked_sooner(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, *, status: int, named: int, wait: int
) -> None:
    """But it is asked again after five minutes."""
    not_ready = error_response(status, "NOT_READY", "Not yet.", retry_after=named)
    simulator.faults.kinds["lag"] = FaultKind(lambda _, __: not_ready, executes=True)
    simulator.faults.add("lag", on="deliverables")
    (outcome,) = await outcomes_of(Orchestrator(client, download_to=tmp_path), requests_for(simulator, 1))
    assert outcome.ok
    first, second = (r.arrived for r in simulator.requests if r.route == "deliverables")
    assert wait <= second - first < wait + 30


async def test_what_a_killed_process_left_half_downloaded_is_removed(tmp_path: Path) -> None:
    """At once, in the folder of the production that is collected."""

    async def collect() -> None:
        async with (
            Simulator(seed=3, approval="auto", failure_rate=0) as simulator,
            JaraiClient(simulator.api_key, base_url=simulator.base_url, random=Random(1)) as client,
        ):
            await outcomes_of(Orchestrator(client, download_to=tmp_path), requests_for(simulator, 1))

    await collect()  # the same seed gives the same production
    (folder,) = tmp_path.iterdir()
    whole = {path.name for path in folder.iterdir()}
    for name in (".jarai-dead.part", "other.part"):
        (folder / name).write_bytes(b"half")
    await collect()
    assert {path.name for path in folder.iterdir()} == {*whole, "other.part"}


async def test_list_that_stays_empty_is_accepted_after_two_minutes(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """A production may have no files."""
    simulator.faults.kinds["no files"] = FaultKind(lambda _, __: Response(200, []), executes=True)
    simulator.faults.add("no files", on="deliverables", times=None)
    (outcome,) = await outcomes_of(Orchestrator(client, download_to=tmp_path), requests_for(simulator, 1))
    assert outcome.ok
    assert outcome.files == {}
    assert simulator.count("deliverables") == 5


async def test_manifest_and_event_say_how_each_file_was_verified(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    orchestrator = Orchestrator(client, download_to=tmp_path)
    (events,) = (await events_by_reference(orchestrator, requests_for(simulator, 1))).values()
    saved = {event.path: event.saved for event in events if isinstance(event, Downloaded)}
    (manifest,) = tmp_path.glob("*/manifest.json")
    for path, file in saved.items():
        content = path.read_bytes()
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        assert (file.size, file.md5, file.verified_by, file.final) == (len(content), digest, "md5", True)
    entries = json.loads(manifest.read_bytes())["files"]
    assert {entry["md5"] for entry in entries} == {file.md5 for file in saved.values()}
    assert {entry["verifiedBy"] for entry in entries} == {"md5"}


def test_name_that_the_file_system_cannot_encode_fails_only_its_own_production(tmp_path: Path) -> None:
    """The other production of the batch is downloaded."""
    program = Path(__file__).parent.parent / "support" / "download_program.py"
    environment = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": ROOT}
    done = subprocess.run(
        [sys.executable, program, tmp_path], env=environment, capture_output=True, check=True, timeout=60
    )
    assert done.stdout.decode() == "plain published None\nemoji published FileWriteError\n"
