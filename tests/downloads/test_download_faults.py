"""Downloads from faulty storage: a complete file or a clear error."""

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
from attrs import evolve

from jarai_async import Deliverable, DownloadError, IncompleteDownloadError, JaraiClient, _clock
from jarai_async._downloads import download
from jarai_async._errors import FileWriteError
from jarai_async._http.request_log import RequestLog
from jarai_async._http.retry import Retrier, Retry
from tests.stress.downloads import download_under, full_disk
from tests.stress.faulty_storage import (
    DISK_FULL,
    FAULTS,
    NEW,
    OLD,
    PRODUCTION,
    SIZE,
    Corrupt,
    Fault,
    Request,
    Response,
    Storage,
    serving,
)

PERMANENT = {DISK_FULL}
UNCHANGED = FAULTS[DISK_FULL].corrupt  # the full disk is not a fault of the storage
STEP = 100_000  # bytes; enough progress that the next attempt follows without a wait


@asynccontextmanager
async def downloading(corrupt: Corrupt) -> AsyncIterator[tuple[JaraiClient, Storage, Deliverable]]:
    """Serve one file with each response corrupted."""
    storage = Storage(Fault(corrupt), position=SIZE // 2, always=True, full_list=False)
    async with (
        serving(storage) as origin,
        JaraiClient("jarai_test_x", base_url=f"{origin}/v1/partner", random=Random(1)) as client,
    ):
        (deliverable,) = await client.deliverables(PRODUCTION)
        yield client, storage, deliverable


def in_steps(_: Storage, __: Request, response: Response) -> Response:
    """Break off each response after 100 kB."""
    return evolve(response, sent=STEP)


@pytest.mark.parametrize("always", [False, True], ids=["once", "always"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_fault_never_leaves_a_corrupt_file(fault: str, tmp_path: Path, *, always: bool) -> None:
    """If the fault strikes once, the download succeeds in the end, wherever the fault strikes."""
    for position, full_list in [(SIZE // 2, False)] if always else [(1, True), (SIZE - 1, False)]:
        result = await download_under(fault, tmp_path, position=position, always=always, full_list=full_list)
        assert (result["corrupt"], result["left"]) == (0, 0)
        assert result["fired"] > 0
        assert result["whole"] + result["error"] == 1
        assert result["whole"] or always or fault in PERMANENT


async def test_interrupted_download_is_resumed(tmp_path: Path) -> None:
    """No byte is requested twice, no attempt waits, and the progress is called once, and at the end."""
    calls: list[tuple[int, int | None]] = []
    start = asyncio.get_running_loop().time()
    async with downloading(in_steps) as (client, storage, deliverable):
        path = await client.download(deliverable, tmp_path, progress=lambda *progress: calls.append(progress))
        assert asyncio.get_running_loop().time() == start
    assert path.read_bytes() == OLD
    assert storage.responses == -(-SIZE // STEP)
    assert [size for _, size in calls] == [SIZE, SIZE]
    assert 0 < calls[0][0] < calls[1][0] == SIZE


async def test_error_in_progress_callback_does_not_end_the_download(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The event loop's exception handler reports it."""
    async with downloading(UNCHANGED) as (client, storage, deliverable):
        path = await client.download(deliverable, tmp_path, progress=lambda received, _: received // 0)
    assert path.read_bytes() == OLD
    assert storage.responses == 1
    assert "ZeroDivisionError" in caplog.text


async def test_waiting_download_holds_no_file_descriptor(tmp_path: Path) -> None:
    """In an outage hundreds of downloads may wait."""
    open_counts: set[int] = set()

    def unavailable(storage: Storage, _: Request, response: Response) -> Response:
        return evolve(response, sent=STEP) if storage.responses == 1 else Response(503)

    async def watch() -> None:
        while True:
            await asyncio.sleep(0.01)
            open_counts.add(_count_open_partial_files())

    async with downloading(unavailable) as (client, storage, deliverable):
        watching = asyncio.create_task(watch())
        with pytest.raises(IncompleteDownloadError):
            await client.download(deliverable, tmp_path)
        watching.cancel()
    assert storage.responses == 8
    assert open_counts == {0}


def _count_open_partial_files() -> int:
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the descriptor of this listing is among them
            count += str(link.readlink()).endswith(".part")
    return count


async def test_resume_sends_a_strong_etag_in_if_match(tmp_path: Path) -> None:
    """Without a strong ETag a checksum allows a resume; without either the download restarts."""
    requests: list[Request] = []

    def with_etag(etag: str, *, checksum: bool) -> Corrupt:
        def corrupt(_: Storage, request: Request, response: Response) -> Response:
            requests.append(request)
            headers = {**response.headers, "ETag": etag}
            if not checksum:
                del headers["x-ms-blob-content-md5"]
            return evolve(response, headers=headers, sent=STEP if len(requests) % 2 else None)

        return corrupt

    strong = f'"0x{OLD[:8].hex().upper()}"'
    for etag, checksum in (("W/x", True), ("W/x", False), (strong, False)):
        async with downloading(with_etag(etag, checksum=checksum)) as (client, _, deliverable):
            await client.download(deliverable, tmp_path)
    assert [(request.start, request.etag) for request in requests] == [
        *[(None, None), (STEP, None)],
        *[(None, None), (None, None)],
        *[(None, None), (STEP, strong)],
    ]


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_checksum_that_only_the_rest_of_a_file_states_is_verified(
    tmp_path: Path, *, is_replaced: bool
) -> None:
    """The file is read for it. It shows that both halves belong to one file, whatever the ETag says."""

    def late(storage: Storage, request: Request, response: Response) -> Response:
        if request.start is None:
            storage.data = NEW if is_replaced else OLD
            return evolve(response, headers={"ETag": '"same"'}, sent=STEP)
        digest = hashlib.md5(storage.data, usedforsecurity=False).hexdigest()
        content_range = f"bytes {request.start}-{SIZE - 1}/{SIZE}"
        headers = {"ETag": '"same"', "x-ms-blob-content-md5": digest, "Content-Range": content_range}
        return Response(206, storage.data[request.start :], headers)

    async with downloading(late) as (client, _, deliverable):
        download = client.engine.downloader.download(deliverable, tmp_path / "video.mp4", RequestLog())
        assert (await download).verified_by == "md5"
    assert (tmp_path / "video.mp4").read_bytes() == (NEW if is_replaced else OLD)


async def test_download_fails_after_seven_attempts_in_a_row_without_progress(tmp_path: Path) -> None:
    """Progress resets the count: six failures after each step do not end the download."""

    def hesitant(storage: Storage, _: Request, response: Response) -> Response:
        return evolve(response, sent=STEP) if storage.responses % 7 == 0 else Response(503)

    async with downloading(hesitant) as (client, _, deliverable):
        assert (await client.download(deliverable, tmp_path)).read_bytes() == OLD

    def stuck(storage: Storage, _: Request, response: Response) -> Response:
        return evolve(response, sent=STEP) if storage.responses < 3 else Response(503)

    async with downloading(stuck) as (client, storage, deliverable):
        with pytest.raises(IncompleteDownloadError, match="503"):
            await client.download(deliverable, tmp_path / "other.mp4")
    assert storage.responses == 2 + 7


async def test_corrupt_file_is_restarted_at_most_three_times(tmp_path: Path) -> None:
    """Then the error gives the reason, and no more is requested."""
    async with downloading(FAULTS["one bit flipped"].corrupt) as (client, storage, deliverable):
        with pytest.raises(DownloadError, match="checksum; gave up after 3 restarts"):
            await client.download(deliverable, tmp_path)
    assert storage.responses == 4
    assert storage.links == 2  # read again before the first restart, then at most once a minute


async def test_list_is_read_again_if_the_file_was_replaced(tmp_path: Path) -> None:
    """The size and checksum in the list are then those of the new file, which is downloaded."""

    def replaced(storage: Storage, request: Request, response: Response) -> Response:
        if storage.responses == 1:
            storage.data = NEW[:-1]
            return evolve(response, sent=STEP)
        if request.start is not None:
            return Response(412)
        return evolve(response, headers={"ETag": '"new"'})

    async with downloading(replaced) as (client, storage, deliverable):
        listed = evolve(deliverable, size=SIZE)
        assert (await client.download(listed, tmp_path)).read_bytes() == NEW[:-1]
    assert storage.links == 2


async def test_list_is_read_again_if_its_size_is_not_the_content_length(tmp_path: Path) -> None:
    """Before any byte of the body is written."""
    async with downloading(UNCHANGED) as (client, storage, deliverable):
        path = await client.download(evolve(deliverable, size=SIZE + 1), tmp_path)
    assert path.read_bytes() == OLD
    assert (storage.links, storage.responses) == (2, 2)


async def test_renewed_list_with_another_checksum_restarts_the_download(tmp_path: Path) -> None:
    """The received bytes are discarded without a request: the storage may give both files the same ETag."""

    def rejected(storage: Storage, request: Request, response: Response) -> Response:
        if storage.responses == 1:
            storage.data, storage.full_list = NEW, True
            return evolve(response, headers={"ETag": '"same"'}, sent=STEP)
        return Response(403) if request.link == 1 else response

    async with downloading(rejected) as (client, storage, deliverable):
        listed = evolve(deliverable, content_md5="AAAAAAAAAAAAAAAAAAAAAA==")
        assert (await client.download(listed, tmp_path)).read_bytes() == NEW
    assert storage.responses == 3


async def test_body_that_is_too_long_is_discarded(tmp_path: Path) -> None:
    """Even if only the size shows it."""

    def runs_over(storage: Storage, _: Request, response: Response) -> Response:
        body = NEW + OLD if storage.responses == 1 else response.body
        return evolve(response, body=body, headers={"ETag": '"same"'}, framing="none")

    async with downloading(runs_over) as (client, _, deliverable):
        listed = evolve(deliverable, size=SIZE, production_id=None)  # so that its list cannot be read again
        path = await client.download(listed, tmp_path)
    assert path.read_bytes() == OLD


async def test_file_received_completely_is_not_requested_again(tmp_path: Path) -> None:
    """The connection breaks after the last byte, before the response has ended."""

    def never_ends(_: Storage, __: Request, response: Response) -> Response:
        return evolve(response, framing="none", ending="hang")

    async with downloading(never_ends) as (client, storage, deliverable):
        path = await client.download(evolve(deliverable, size=SIZE), tmp_path)
    assert path.read_bytes() == OLD
    assert storage.responses == 1


async def test_signed_url_is_renewed_each_time_it_expires(tmp_path: Path) -> None:
    """Only a fresh signed URL that is rejected ends the download."""
    links: list[int] = []

    def expiring(_: Storage, request: Request, response: Response) -> Response:
        links.append(request.link)
        if links.count(request.link) == 1:
            return evolve(response, sent=STEP * 4)
        if links.count(request.link) < 5:
            return evolve(response, sent=0, ending="hang")
        return Response(403)

    async with downloading(expiring) as (client, storage, deliverable):
        assert (await client.download(deliverable, tmp_path)).read_bytes() == OLD
    assert storage.links == -(-SIZE // (STEP * 4))


async def test_late_file_is_found_although_its_url_has_expired_meanwhile(tmp_path: Path) -> None:
    """It is there after three minutes, when its URL has expired: a fresh one is tried before giving up."""
    first_used: dict[int, float] = {}

    def late(_: Storage, request: Request, response: Response) -> Response:
        now = _clock.monotonic()
        age = now - first_used.setdefault(request.link, now)
        return Response(404) if now - first_used[1] < 180 else Response(403) if age > 50 else response

    retrier = Retrier(Retry(5, base=300.0, cap=300.0), Random(3))
    async with downloading(late) as (client, storage, deliverable):
        target = tmp_path / "video.mp4"
        await client.engine.downloader.download(deliverable, target, RequestLog(), retrier=retrier)
    assert target.read_bytes() == OLD
    assert storage.links < 5


async def test_full_disk_raises_file_write_error_without_a_retry(tmp_path: Path) -> None:
    """The error has the operating system's text, and the partial file is removed."""
    async with downloading(UNCHANGED) as (client, storage, deliverable):
        with full_disk(SIZE // 2), pytest.raises(FileWriteError, match=r"(?i)file too large.*Make room"):
            await client.download(deliverable, tmp_path)
    assert storage.responses == 1
    assert list(tmp_path.iterdir()) == []


async def test_body_without_a_known_size_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a checksum is known of the file."""
    monkeypatch.setattr(download, "_MAX_UNKNOWN_SIZE", SIZE - 1)

    def without_length(_: Storage, __: Request, response: Response) -> Response:
        return evolve(response, framing="none")

    async with downloading(without_length) as (client, storage, deliverable):
        with pytest.raises(DownloadError, match="does not end"):
            await client.download(deliverable, tmp_path)
    assert storage.responses == 1


@pytest.mark.parametrize("all_tasks", [False, True], ids=["the download", "every task"])
async def test_download_cancelled_at_any_step_leaves_nothing_or_the_complete_file(
    tmp_path: Path, *, all_tasks: bool
) -> None:
    """At each step of the event loop, also if every task is cancelled."""
    completed = 0
    async with downloading(in_steps) as (client, _, deliverable):
        await client.download(deliverable, tmp_path / "first.mp4")
        (tmp_path / "first.mp4").unlink()
        for steps in range(0, 160, 3):
            task = asyncio.create_task(client.download(deliverable, tmp_path / "video.mp4"))
            for _ in range(steps):
                await asyncio.sleep(0)
            for victim in asyncio.all_tasks() - _server_tasks() if all_tasks else {task}:
                victim.cancel()
            await asyncio.wait({task})
            names = [path.name for path in tmp_path.iterdir()]
            assert names in ([], ["video.mp4"])
            completed += bool(names)
            if names:
                assert (tmp_path / "video.mp4").read_bytes() == OLD
                (tmp_path / "video.mp4").unlink()
    assert completed < 50


def _server_tasks() -> set[asyncio.Task[object]]:
    """Return the tasks of the server, asyncio's own among them, and the present task."""
    pattern = re.compile("serve|_accept_connection")
    tasks = {task for task in asyncio.all_tasks() if pattern.search(repr(task.get_coro()))}
    return {*tasks, *filter(None, [asyncio.current_task()])}


async def test_concurrent_downloads_to_one_target_do_not_corrupt_it(tmp_path: Path) -> None:
    """Each writes its own partial file."""
    async with downloading(in_steps) as (client, _, deliverable):
        await asyncio.gather(*(client.download(deliverable, tmp_path / "video.mp4") for _ in range(8)))
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]
    assert (tmp_path / "video.mp4").read_bytes() == OLD
