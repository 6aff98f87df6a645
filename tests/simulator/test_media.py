"""The simulated deliverables, read by parsers that share no code with their writers."""

import hashlib
import html
import io
import json
import random
import re
import struct
import wave
import zlib
from collections.abc import Iterator
from itertools import pairwise

import pytest

from jarai_async.simulator._blobs.media import MediaFile, make_files

PRODUCTION = "6b1f5d0e-1c1a-4f57-9d5e-0f6f3a2b7c11"
HOSTILE = 'A --> B\r\n\r\nNOTE <script>&"x"</script> \x00\ud800 {0} `*_# 海'
VIDEO_TYPES = "Video Video ClosedCaptions AudioDescription Thumbnail Attribution"
TYPES = {
    **dict.fromkeys(("social-video-30s", ""), VIDEO_TYPES),
    "Video-PODCAST": "Podcast ClosedCaptions Attribution",
    **dict.fromkeys(("article-long", "e-Book"), "Article Article Attribution"),
}
CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"dinf", b"stbl"}
KEY_FRAME, HELD_FRAME = 0x65, 0x41  # first bytes of the NAL units


def files_of(
    project_type: str = "social-video-30s", topic: str = "Tidal power", seed: int = 1
) -> list[MediaFile]:
    return make_files(PRODUCTION, topic, project_type, random.Random(seed))


def only(files: list[MediaFile], type_: str, platform: str | None = None) -> MediaFile:
    return next(file for file in files if file.type == type_ and platform in {None, file.platform})


def boxes(data: bytes, path: str = "") -> Iterator[tuple[str, bytes]]:
    """Yield the path and the body of each MP4 box, and fail if the sizes do not add up."""
    while data:
        size, kind = struct.unpack_from(">I4s", data)
        assert 8 <= size <= len(data)
        name, body, data = f"{path}/{kind.decode()}", data[8:size], data[size:]
        yield name, body
        if kind in CONTAINERS:
            yield from boxes(body, name)


def numbers(body: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(body) // 4}I", body)


def png_chunks(data: bytes) -> dict[bytes, bytes]:
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    chunks: dict[bytes, bytes] = {}
    data = data[8:]
    while data:
        length, kind = struct.unpack_from(">I4s", data)
        body, (crc,) = data[8 : 8 + length], struct.unpack_from(">I", data, 8 + length)
        assert crc == zlib.crc32(kind + body)
        chunks[kind], data = body, data[12 + length :]
    return chunks


def cues(data: bytes) -> list[tuple[float, float, str]]:
    """Parse WebVTT strictly: a header, a note, then timed cues with one line of text each."""
    head, note, *blocks = data.decode().removesuffix("\n").split("\n\n")
    assert head == "WEBVTT"
    assert re.fullmatch(r"NOTE (?!.*-->).+", note)
    parsed = []
    for block in blocks:
        match = re.fullmatch(r"(\d\d):(\d\d\.\d{3}) --> (\d\d):(\d\d\.\d{3})\n(.+)", block)
        assert match, block
        assert not re.search(r"-->|<|&(?!(amp|lt|gt);)", match[5])
        begin, end = (60 * int(match[i]) + float(match[i + 1]) for i in (1, 3))
        parsed.append((begin, end, match[5]))
    return parsed


@pytest.mark.parametrize("project_type", TYPES)
def test_files_are_deterministic_and_differ_between_productions(project_type: str) -> None:
    """Equal arguments give equal bytes; another production, topic or seed gives different ones."""
    first = files_of(project_type)
    assert files_of(project_type) == first
    other = make_files(PRODUCTION.replace("6", "7"), "Tidal power", project_type, random.Random(1))
    assert all(a.data != b.data for a, b in zip(first, other, strict=True))
    assert all(a.data != b.data for a, b in zip(first, files_of(project_type, "Wind"), strict=True))
    assert any(first != files_of(project_type, seed=seed) for seed in (2, 3, 4))
    assert len({file.data for file in first}) == len(first)


@pytest.mark.parametrize("project_type", TYPES)
def test_project_type_decides_the_files(project_type: str) -> None:
    """The files are small, have safe and unique names, and say that they are simulated."""
    files = files_of(project_type, HOSTILE * 10)
    assert " ".join(file.type for file in files) == TYPES[project_type]
    assert sum(len(file.data) for file in files) < 100_000
    assert len({file.name for file in files}) == len(files)
    for file in files:
        assert re.fullmatch(r"[a-z][a-z-]*\.[a-z0-9]+", file.name)
        assert PRODUCTION.encode() in file.data
        assert b"imulated" in file.data


@pytest.mark.parametrize("platform", ["YouTube", "TikTok"])
def test_video_boxes(platform: str) -> None:
    """The video is a tree of MP4 boxes that adds up, with the index before the data."""
    bodies = dict(boxes(only(files_of(), "Video", platform).data))
    assert [name for name in bodies if name.count("/") == 1] == ["/ftyp", "/moov", "/mdat", "/free"]
    width, height = numbers(bodies["/moov/trak/tkhd"][-8:])
    assert (width >> 16, height >> 16) == (64, 36)
    assert numbers(bodies["/moov/trak/mdia/mdhd"][12:20]) == (10, 30)  # frames a second, frames
    assert bodies["/free"].decode().startswith(f"{platform}: Tidal power. Simulated by jarai_async")


def test_video_frames() -> None:
    """The sample table locates 30 frames, of which every fifth is a key frame."""
    video = only(files_of(), "Video").data
    bodies = dict(boxes(video))
    table = {
        name[-4:]: numbers(body) for name, body in bodies.items() if re.search("/st(ts|ss|sc|sz|co)$", name)
    }
    assert (table["stts"], table["stsc"]) == ((0, 1, 30, 1), (0, 1, 1, 30, 1))
    assert table["stss"] == (0, 6, 1, 6, 11, 16, 21, 26)
    at, types = table["stco"][2], []
    assert video[at:].startswith(bodies["/mdat"])
    for size in table["stsz"][3:]:
        assert struct.unpack_from(">I", video, at) == (size - 4,)
        types.append(video[at + 4])
        at += size
    assert types == [KEY_FRAME, *[HELD_FRAME] * 4] * 6
    assert video[at:] == video[-8 - len(bodies["/free"]) :]


def test_thumbnail() -> None:
    """The thumbnail is a valid PNG of one colour."""
    chunks = png_chunks(only(files_of(), "Thumbnail").data)
    assert struct.unpack(">2I5B", chunks[b"IHDR"]) == (64, 36, 8, 2, 0, 0, 0)
    pixels = zlib.decompress(chunks[b"IDAT"])
    assert pixels == (b"\0" + pixels[1:4] * 64) * 36  # each row begins with its filter, none


@pytest.mark.parametrize("topic", ["Tidal power", HOSTILE, "", "\x00"])
@pytest.mark.parametrize(
    ("project_type", "type_", "seconds"),
    [("video", "ClosedCaptions", 3), ("video", "AudioDescription", 3), ("podcast", "ClosedCaptions", 1)],
)
def test_captions(project_type: str, type_: str, seconds: int, topic: str) -> None:
    """Captions are well-formed whatever the topic holds, and cover the complete length without a gap."""
    parsed = cues(only(files_of(project_type, topic), type_).data)
    assert parsed[0][0] == 0
    assert parsed[-1][1] == seconds
    assert all(before[0] < before[1] == after[0] for before, after in pairwise(parsed))
    assert topic != "Tidal power" or any(topic in text for _, _, text in parsed)


def test_podcast() -> None:
    """The podcast is a second of silence that the standard library can read, with a comment of any length."""
    for length in range(8):
        data = only(files_of("podcast", HOSTILE + "x" * length), "Podcast").data
        assert len(data) % 2 == 0  # RIFF pads
        assert int.from_bytes(data[4:8], "little") + 8 == len(data) < 20_000
        with wave.open(io.BytesIO(data)) as sound:
            assert sound.getnframes() == sound.getframerate() == 8000
            assert sound.readframes(8000) == bytes(16_000)


def test_article() -> None:
    """The article is Markdown and HTML with the topic as heading, and no markup comes from the topic."""
    plain = html.escape('A --> B NOTE <script>&"x"</script> {0} `*_# 海')
    markdown, page, _ = (file.data.decode() for file in files_of("article", HOSTILE))
    assert re.findall(r"<(\w+)", page) == ["html", "meta", "title", "h1", "p", "p", "p", "p"]
    assert f"<h1>{plain}</h1>" in page
    heading = markdown.split("\n")[0]
    assert html.escape(re.sub(r"\\(.)", r"\1", heading)) == f"# {plain}"
    assert not re.search(r"(?<!\\)[<>&`*_{]", heading)


@pytest.mark.parametrize("project_type", TYPES)
@pytest.mark.parametrize("topic", ["Tidal power", HOSTILE])
def test_attribution(project_type: str, topic: str) -> None:
    """The attribution lists every other file with its checksum and sources, and each source's licence."""
    *others, last = files_of(project_type, topic)
    document = json.loads(last.data)
    assert (document["simulated"], document["productionId"]) == (True, PRODUCTION)
    sources = {source["id"]: source for source in document["sources"]}
    assert all(source["licence"] and source["author"] for source in sources.values())
    assert all(document["topic"] in source["title"] for source in sources.values())
    for entry, file in zip(document["files"], others, strict=True):
        assert (entry["name"], entry["size"]) == (file.name, len(file.data))
        assert entry["sha256"] == hashlib.sha256(file.data).hexdigest()
    assert {source for file in document["files"] for source in file["sources"]} == set(sources)
