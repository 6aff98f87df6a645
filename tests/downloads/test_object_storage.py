"""Files in object storage: an S3 server that this project did not write, and a store in memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from jarai_async import ConfigurationError, Downloaded, Event, JaraiClient, Orchestrator
from jarai_async.simulator import Simulator, run
from tests.stress.real_servers import Moto
from tests.support.scenarios import requests_for

_SPEED = 100.0


@asynccontextmanager
async def _object_storage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Moto]:
    """Start a server that is the S3 of this process."""
    folder.mkdir()
    server = Moto(folder)
    await server.start()
    try:
        for name, value in {
            "AWS_ENDPOINT_URL": server.origin,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }.items():
            monkeypatch.setenv(name, value)
        yield server
    finally:
        await server.stop()


async def _run(simulator: Simulator, folder: str, journal: Path) -> list[Event]:
    async with (
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
        Orchestrator(client, download_to=folder, journal=journal) as orchestrator,
    ):
        return [event async for event in orchestrator.run(requests_for(simulator, 3))]


def test_files_are_whole_in_the_bucket_and_downloaded_again_if_one_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their paths are keys; a second run downloads only what is missing."""

    async def main() -> None:
        async with (
            _object_storage(tmp_path / "server", monkeypatch) as server,
            Simulator(approval="auto", failure_rate=0.0) as simulator,
        ):
            await server.store({})
            events = await _run(simulator, "s3://files/videos", tmp_path / "journal")
            downloaded = [event for event in events if isinstance(event, Downloaded)]
            store = S3Store.from_url("s3://files/videos")
            stored = {one["path"]: one["size"] for page in obstore.list(store) for one in page}
            keys = {event.path.as_posix() for event in downloaded}
            manifests = {key for key in stored if key.endswith("/manifest.json")}
            assert stored.keys() == keys | manifests
            assert len(manifests) == 3
            contents = [bytes(obstore.get(store, key).bytes()) for key in keys]
            truth = [data for id_ in simulator.productions for data in simulator.files(id_).values()]
            assert sorted(contents) == sorted(truth)
            obstore.delete(store, min(keys))
            again = await _run(simulator, "s3://files/videos", tmp_path / "journal")
            assert [e.path.as_posix() for e in again if isinstance(e, Downloaded)] == [min(keys)]
            assert bytes(obstore.get(store, min(keys)).bytes()) in truth

    run(main(), speed=_SPEED)


def test_bucket_that_does_not_exist_is_a_configuration_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is paid for."""

    async def main() -> None:
        async with _object_storage(tmp_path / "server", monkeypatch), Simulator() as simulator:
            with pytest.raises(ConfigurationError, match="404 Not Found"):
                await _run(simulator, "s3://missing/videos", tmp_path / "journal")
            assert not simulator.productions

    run(main(), speed=_SPEED)


async def test_unknown_kind_of_storage_is_a_configuration_error(client: JaraiClient) -> None:
    with pytest.raises(ConfigurationError, match="download_to cannot be used"):
        Orchestrator(client, download_to="ftp://host/videos")
