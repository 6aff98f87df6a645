"""Files from a storage that lies, breaks off and changes its mind: whole, or a clear error."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
from attrs import evolve

from jarai_async import Deliverable, DownloadError, IncompleteDownloadError, JaraiClient
from jarai_async._downloads import download
from jarai_async._errors import FileWriteError
from tests.stress.downloads import _full_disk, attempt
from tests.stress.faulty_storage import (
    DISK_FULL,
    FAULTS,
    NEW,
    OLD,
    PRODUCTION,
    SIZE,
    Asked,
    Fault,
    Reply,
    Storage,
    serving,
)

NEVER_WHOLE = {"an encoding", DISK_FULL}
HONEST = FAULTS[DISK_FULL].apply  # storage has no part in that
STEP = 100_000  # bytes; more than a connection must bring to be followed by the next at once


@asynccontextmanager
async def fetching(
    apply: Callable[[Storage, Asked, Reply], Reply], *, cut: int = SIZE // 2
) -> AsyncIterator[tuple[JaraiClient, Storage, Deliverable]]:
    """Serve one file, each answer of which is spoilt."""
    storage = Storage(Fault(apply), cut=cut, always=True, tells=False)
    async with (
        serving(storage) as origin,
        JaraiClient("jarai_test_x", base_url=f"{origin}/v1/partner", random=Random(1)) as client,
    ):
        (deliverable,) = await client.deliverables(PRODUCTION)
        yield client, storage, deliverable


def piecemeal(_: Storage, __: Asked, reply: Reply) -> Reply:
    """Break off again and again."""
    return evolve(reply, sent=STEP)


@pytest.mark.parametrize("always", [False, True], ids=["once", "always"])
@pytest.mark.parametrize("name", FAULTS)
async def test_what_is_kept_under_a_fault_is_the_file(name: str, tmp_path: Path, *, always: bool) -> None:
    """Near either end of it, told its size or not; where a fault strikes once the file is had after all."""
    for cut, tells in [(SIZE // 2, False)] if always else [(1, True), (SIZE - 1, False)]:
        found = await attempt(name, cut, tmp_path, always=always, tells=tells)
        assert (found["corrupt"], found["left"]) == (0, 0)
        assert found["fired"] > 0
        assert found["whole"] + found["error"] == 1
        assert found["whole"] or always or name in NEVER_WHOLE


async def test_what_breaks_off_is_gone_on_with(tmp_path: Path) -> None:
    """Nothing is fetched twice, nothing waits, and what is here only ever grows."""
    seen: list[tuple[int, int | None]] = []
    began = asyncio.get_running_loop().time()
    async with fetching(piecemeal) as (client, storage, deliverable):
        path = await client.download(deliverable, tmp_path, progress=lambda *both: seen.append(both))
        assert asyncio.get_running_loop().time() == began
    assert path.read_bytes() == OLD
    assert storage.answered == -(-SIZE // STEP)
    assert seen == sorted(seen)
    assert seen[-1] == (SIZE, SIZE)


async def test_progress_that_cannot_be_shown_ends_no_download(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What the callback raises is reported by the loop, and is nobody's file."""
    async with fetching(HONEST) as (client, storage, deliverable):
        path = await client.download(deliverable, tmp_path, progress=lambda done, _: done // 0)
    assert path.read_bytes() == OLD
    assert storage.answered == 1
    assert "ZeroDivisionError" in caplog.text


async def test_a_download_that_waits_holds_no_file_open(tmp_path: Path) -> None:
    """In an outage there may be hundreds of them."""
    held: list[int] = []

    def busy(storage: Storage, _: Asked, reply: Reply) -> Reply:
        return evolve(reply, sent=STEP) if storage.answered == 1 else Reply(503)

    async def watch() -> None:
        while True:
            await asyncio.sleep(0.01)
            held.append(_open_parts())

    async with fetching(busy) as (client, storage, deliverable):
        watching = asyncio.create_task(watch())
        with pytest.raises(IncompleteDownloadError):
            await client.download(deliverable, tmp_path)
        watching.cancel()
    assert storage.answered == 6
    assert set(held) == {0}


def _open_parts() -> int:
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that which lists them is among them
            count += str(link.readlink()).endswith(".part")
    return count


async def test_a_part_is_asked_for_on_condition_that_it_is_of_the_same_file(tmp_path: Path) -> None:
    """By its ETag, where that is a strong one; without it a checksum will tell, and else all is fetched."""
    asked: list[Asked] = []

    def apply(etag: str, *, checksum: bool) -> Callable[[Storage, Asked, Reply], Reply]:
        def apply(_: Storage, one: Asked, reply: Reply) -> Reply:
            asked.append(one)
            headers = {**reply.headers, "ETag": etag}
            if not checksum:
                del headers["x-ms-blob-content-md5"]
            return evolve(reply, headers=headers, sent=STEP if len(asked) % 2 else None)

        return apply

    for etag, checksum in (("W/x", True), ("W/x", False)):
        async with fetching(apply(etag, checksum=checksum)) as (client, _, deliverable):
            await client.download(deliverable, tmp_path)
    async with fetching(piecemeal) as (client, storage, deliverable):
        storage.fault = Fault(apply(f'"0x{OLD[:8].hex().upper()}"', checksum=False))
        await client.download(deliverable, tmp_path)
    assert [(one.start, one.etag) for one in asked[:4]] == [(None, None), (STEP, None), *[(None, None)] * 2]
    assert [one.start for one in asked[4:]] == [None, STEP]
    assert asked[5].etag == f'"0x{OLD[:8].hex().upper()}"'


async def test_only_attempts_in_a_row_that_got_no_further_end_it(tmp_path: Path) -> None:
    """Four failures after each bit of headway are no reason to give up; five are."""

    def hesitant(storage: Storage, _: Asked, reply: Reply) -> Reply:
        return evolve(reply, sent=STEP) if storage.answered % 5 == 0 else Reply(503)

    async with fetching(hesitant) as (client, _, deliverable):
        assert (await client.download(deliverable, tmp_path)).read_bytes() == OLD

    def stuck(storage: Storage, _: Asked, reply: Reply) -> Reply:
        return evolve(reply, sent=STEP) if storage.answered < 3 else Reply(503)

    async with fetching(stuck) as (client, storage, deliverable):
        with pytest.raises(IncompleteDownloadError, match="503"):
            await client.download(deliverable, tmp_path / "other.mp4")
    assert storage.answered == 2 + 5


async def test_a_file_is_begun_anew_three_times(tmp_path: Path) -> None:
    """Then the reason is named, and no more is fetched."""
    async with fetching(FAULTS["one bit flipped"].apply) as (client, storage, deliverable):
        with pytest.raises(DownloadError, match="checksum, also after 3 new beginnings"):
            await client.download(deliverable, tmp_path)
    assert storage.answered == 4
    assert storage.links == 4  # the list may tell of another file by now, and was read again


async def test_a_file_that_was_replaced_is_looked_up_again(tmp_path: Path) -> None:
    """The list's size and checksum are then those of the new one, and the new one is what is kept."""

    def replaced(storage: Storage, asked: Asked, reply: Reply) -> Reply:
        if storage.answered == 1:
            storage.data = NEW[:-1]
            return evolve(reply, sent=STEP)
        if asked.start is not None:
            return Reply(412)
        return evolve(reply, headers={"ETag": '"new"'})

    async with fetching(replaced) as (client, storage, deliverable):
        told = evolve(deliverable, size=SIZE)
        assert (await client.download(told, tmp_path)).read_bytes() == NEW[:-1]
    assert storage.links == 2


async def test_a_list_that_is_out_of_date_is_read_again(tmp_path: Path) -> None:
    """Where storage offers another length than it told, before anything is fetched."""
    async with fetching(HONEST) as (client, storage, deliverable):
        path = await client.download(evolve(deliverable, size=SIZE + 1), tmp_path)
    assert path.read_bytes() == OLD
    assert (storage.links, storage.answered) == (2, 2)


async def test_a_list_that_tells_of_another_file_begins_it_anew(tmp_path: Path) -> None:
    """What is here of the old one is thrown away without asking storage, which may not tell them apart."""

    def refused(storage: Storage, asked: Asked, reply: Reply) -> Reply:
        if storage.answered == 1:
            storage.data, storage.tells = NEW, True
            return evolve(reply, headers={"ETag": '"same"'}, sent=STEP)
        return Reply(403) if asked.link == 1 else reply

    async with fetching(refused) as (client, storage, deliverable):
        told = evolve(deliverable, content_md5="AAAAAAAAAAAAAAAAAAAAAA==")
        assert (await client.download(told, tmp_path)).read_bytes() == NEW
    assert storage.answered == 3


async def test_nothing_of_a_body_that_ran_over_is_kept(tmp_path: Path) -> None:
    """Also where only the size could tell."""

    def runs_over(storage: Storage, _: Asked, reply: Reply) -> Reply:
        body = NEW + OLD if storage.answered == 1 else reply.body
        return evolve(reply, body=body, headers={"ETag": '"same"'}, framing="none")

    async with fetching(runs_over) as (client, _, deliverable):
        told = evolve(deliverable, size=SIZE, production_id=None)  # its list would not tell
        path = await client.download(told, tmp_path)
    assert path.read_bytes() == OLD


async def test_what_is_all_here_is_not_asked_for_again(tmp_path: Path) -> None:
    """A connection that breaks after the last byte, before it has ended, was good enough."""

    def never_ends(_: Storage, __: Asked, reply: Reply) -> Reply:
        return evolve(reply, framing="none", ending="hang")

    async with fetching(never_ends) as (client, storage, deliverable):
        path = await client.download(evolve(deliverable, size=SIZE), tmp_path)
    assert path.read_bytes() == OLD
    assert storage.answered == 1


async def test_links_that_end_again_and_again_are_renewed(tmp_path: Path) -> None:
    """Each after its time; only one that was never good is refused for good."""
    answers: list[int] = []

    def hourly(_: Storage, asked: Asked, reply: Reply) -> Reply:
        answers.append(asked.link)
        if answers.count(asked.link) == 1:
            return evolve(reply, sent=STEP * 4)
        if answers.count(asked.link) < 5:
            return evolve(reply, sent=0, ending="hang")
        return Reply(403)

    async with fetching(hourly) as (client, storage, deliverable):
        assert (await client.download(deliverable, tmp_path)).read_bytes() == OLD
    assert storage.links == -(-SIZE // (STEP * 4))


async def test_a_full_disk_is_said_and_not_tried_again(tmp_path: Path) -> None:
    """The operating system's own words, one request, and no part that takes up more room."""
    async with fetching(HONEST) as (client, storage, deliverable):
        with _full_disk(SIZE // 2), pytest.raises(FileWriteError, match=r"(?i)file too large.*Make room"):
            await client.download(deliverable, tmp_path)
    assert storage.answered == 1
    assert list(tmp_path.iterdir()) == []


async def test_a_file_without_a_size_must_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only a checksum is known, a body has a limit."""
    monkeypatch.setattr(download, "_LARGEST_FILE", SIZE - 1)
    async with fetching(lambda _, __, reply: evolve(reply, framing="none")) as (client, storage, deliverable):
        with pytest.raises(DownloadError, match="does not end"):
            await client.download(deliverable, tmp_path)
    assert storage.answered == 1


@pytest.mark.parametrize("everything", [False, True], ids=["the download", "every task"])
async def test_a_download_cancelled_anywhere_leaves_nothing_or_the_file(
    tmp_path: Path, *, everything: bool
) -> None:
    """At whatever step of the loop, also by somebody who cancels all there is."""
    done = 0
    async with fetching(piecemeal) as (client, _, deliverable):
        await client.download(deliverable, tmp_path / "first.mp4")
        (tmp_path / "first.mp4").unlink()
        for steps in range(0, 160, 3):
            task = asyncio.create_task(client.download(deliverable, tmp_path / "video.mp4"))
            for _ in range(steps):
                await asyncio.sleep(0)
            for one in asyncio.all_tasks() - _servers() if everything else {task}:
                one.cancel()
            await asyncio.wait({task})
            found = [path.name for path in tmp_path.iterdir()]
            assert found in ([], ["video.mp4"])
            done += bool(found)
            if found:
                assert (tmp_path / "video.mp4").read_bytes() == OLD
                (tmp_path / "video.mp4").unlink()
    assert done < 50


def _servers() -> set[asyncio.Task[object]]:
    """Find the tasks of the other side, asyncio's own among them, and this one."""
    theirs = re.compile("serve|_accept_connection")
    others = {task for task in asyncio.all_tasks() if theirs.search(repr(task.get_coro()))}
    return {*others, *filter(None, [asyncio.current_task()])}


async def test_downloads_of_one_target_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Each writes its own part, and what stands there in the end is whole."""
    async with fetching(piecemeal) as (client, _, deliverable):
        await asyncio.gather(*(client.download(deliverable, tmp_path / "video.mp4") for _ in range(8)))
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]
    assert (tmp_path / "video.mp4").read_bytes() == OLD
