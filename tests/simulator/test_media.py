"""The simulated deliverables, read back by parsers that share nothing with their writers."""

import hashlib
import html
import io
import json
import random
import re
import shutil
import struct
import subprocess
import wave
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from jarai_async.simulator._blobs import mp4
from jarai_async.simulator._blobs.media import MediaFile, files

PRODUCTION = "6b1f5d0e-1c1a-4f57-9d5e-0f6f3a2b7c11"
HOSTILE = 'A --> B\r\n\r\nNOTE <script>&"x"</script> \x00\ud800 {0} `*_# 海'
SET_OF_VIDEO = "Video Video ClosedCaptions AudioDescription Thumbnail Attribution"
KINDS = {
    **dict.fromkeys(("social-video-30s", ""), SET_OF_VIDEO),
    "Video-PODCAST": "Podcast ClosedCaptions Attribution",
    **dict.fromkeys(("article-long", "e-Book"), "Article Article Attribution"),
}
CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"dinf", b"stbl", b"udta", b"ilst"}
SIZES = {"YouTube": (64, 36), "TikTok": (36, 64)}


def made(kind: str = "social-video-30s", topic: str = "Tidal power", seed: int = 1) -> list[MediaFile]:
    return files(PRODUCTION, topic, kind, random.Random(seed))


def only(found: list[MediaFile], type_: str, platform: str | None = None) -> MediaFile:
    return next(f for f in found if f.type == type_ and platform in {None, f.platform})


def boxes(data: bytes, path: str = "") -> Iterator[tuple[str, bytes]]:
    """Yield the path and the body of each box, and fail where the sizes do not add up."""
    while data:
        size, kind = struct.unpack_from(">I4s", data)
        assert 8 <= size <= len(data)
        name, body, data = f"{path}/{kind.decode('latin-1')}", data[8:size], data[size:]
        yield name, body
        if kind in CONTAINERS:
            yield from boxes(body, name)


def numbers(body: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(body) // 4}I", body)


def table(video: bytes) -> dict[str, tuple[int, ...]]:
    return {n[-4:]: numbers(b) for n, b in boxes(video) if "/stbl/" in n and "stsd" not in n}


def samples(video: bytes) -> list[bytes]:
    """Return the frames as the sample table finds them, each without the length in front."""
    at, found = table(video)["stco"][2], []
    for size in table(video)["stsz"][3:]:
        assert struct.unpack_from(">I", video, at) == (size - 4,)
        found.append(video[at + 4 : at + size])
        at += size
    assert at == len(video)
    return found


class Bits:
    """Read the fields of a NAL unit behind its first byte."""

    def __init__(self, nal: bytes, header: int) -> None:
        assert nal[0] == header
        assert not re.search(rb"\x00\x00[\x00-\x02]", nal), "this could be taken for a start code"
        self.payload = nal[1:].replace(b"\x00\x00\x03", b"\x00\x00")
        self.text = "".join(f"{byte:08b}" for byte in self.payload)
        self.at = 0

    def u(self, count: int) -> int:
        self.at += count
        return int(self.text[self.at - count : self.at], 2)

    def ue(self) -> int:
        zeros = self.text.index("1", self.at) - self.at
        self.at += zeros
        return self.u(zeros + 1) - 1

    def ends(self) -> bool:
        return re.fullmatch("10{0,7}", self.text[self.at :]) is not None


def picture(nal: bytes, columns: int, rows: int, identifier: int = 0) -> list[bytes]:
    """Decode an IDR slice of I_PCM macroblocks to the samples of each."""
    bits = Bits(nal, 0x65)
    assert [bits.ue(), bits.ue(), bits.ue(), bits.u(4)] == [0, 7, 0, 0]
    assert [bits.ue(), bits.u(2), bits.ue(), bits.ue()] == [identifier, 0, 0, 1]
    blocks = []
    for _ in range(columns * rows):
        assert bits.ue() == 25
        bits.at += -bits.at % 8
        blocks.append(bits.payload[bits.at // 8 : bits.at // 8 + 384])
        bits.at += 8 * 384
    assert bits.ends()
    return blocks


def png(data: bytes) -> dict[bytes, bytes]:
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
    """Parse WebVTT, strictly: a header, a note, then timed cues, one line of text each."""
    head, note, *blocks = data.decode().removesuffix("\n").split("\n\n")
    assert head == "WEBVTT"
    assert re.fullmatch(r"NOTE (?!.*-->).+", note)
    found = []
    for block in blocks:
        match = re.fullmatch(r"(\d\d):(\d\d\.\d{3}) --> (\d\d):(\d\d\.\d{3})\n(.+)", block)
        assert match, block
        assert not re.search(r"-->|<|&(?!(amp|lt|gt);)", match[5])
        begin, end = (60 * int(match[i]) + float(match[i + 1]) for i in (1, 3))
        found.append((begin, end, match[5]))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_deterministic(kind: str) -> None:
    """Equal arguments give equal bytes, and another production, topic or seed gives others."""
    first = made(kind)
    assert made(kind) == first
    other = files(PRODUCTION.replace("6", "7"), "Tidal power", kind, random.Random(1))
    assert all(a.data != b.data for a, b in zip(first, other, strict=True))
    assert all(a.data != b.data for a, b in zip(first, made(kind, "Wind"), strict=True))
    assert any(first != made(kind, seed=seed) for seed in (2, 3, 4))


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind: str) -> None:
    """The project type decides what is delivered: little, under safe and unique names, and marked."""
    found = made(kind, HOSTILE * 10)
    assert " ".join(file.type for file in found) == KINDS[kind]
    assert sum(len(file.data) for file in found) < 100_000
    assert len({file.name for file in found}) == len(found)
    for file in found:
        assert re.fullmatch(r"[a-z][a-z-]*\.[a-z0-9]+", file.name)
        assert PRODUCTION.encode() in file.data
        assert b"imulated" in file.data


def test_emulation_prevention() -> None:
    """Whatever the payload, nothing in a NAL unit looks like a start code, and reading it gives it back."""
    for payload in (bytes(7) + b"\x80", b"\0\0\1\0\0\2\0\0\3", b"\0\0\4\0\1"):
        assert Bits(mp4._nal(0x65, payload), 0x65).payload == payload


@pytest.mark.parametrize("platform", SIZES)
def test_video_boxes(platform: str) -> None:
    """The video is a box tree that adds up, with the index before the data and a small size."""
    video = only(made(), "Video", platform).data
    assert len(video) <= 40_000
    found = dict(boxes(video))
    assert [name for name in found if name.count("/") == 1] == ["/ftyp", "/moov", "/mdat"]
    stbl = table(video)
    assert [len(stbl["stsz"]), stbl["stts"], stbl["stsc"]] == [3 + 30, (0, 1, 30, 1), (0, 1, 1, 30, 1)]
    assert stbl["stco"] == (0, 1, len(video) - len(found["/mdat"]))
    width, height = numbers(found["/moov/trak/tkhd"][-8:])
    assert (width >> 16, height >> 16) == SIZES[platform]
    assert numbers(found["/moov/trak/mdia/mdhd"][12:20]) == (10, 30)  # frames a second, frames


@pytest.mark.parametrize("platform", SIZES)
def test_video_parameters(platform: str) -> None:
    """The parameter sets say constrained Baseline and crop whole macroblocks to the picture."""
    avcc = only(made(), "Video", platform).data.partition(b"avcC")[2]
    pps_at = 8 + avcc[7] + 3  # behind a count and a length
    sps = Bits(avcc[8 : pps_at - 3], 0x67)
    pps = Bits(avcc[pps_at : pps_at + avcc[pps_at - 1]], 0x68)
    assert avcc[:6] == bytes([1, *sps.payload[:3], 0xFF, 0xE1])
    assert [sps.u(24), sps.ue(), sps.ue(), sps.ue(), sps.ue(), sps.u(1)] == [0x42C00B, 0, 0, 2, 1, 0]
    columns, rows = sps.ue() + 1, sps.ue() + 1
    assert sps.u(3) == 0b111
    left, right, top, bottom = (2 * sps.ue() for _ in range(4))
    assert (16 * columns - left - right, 16 * rows - top - bottom) == SIZES[platform]
    assert [left, top, sps.u(1), sps.ends()] == [0, 0, 0, True]
    assert [pps.ue(), pps.ue(), pps.u(2), pps.ue(), pps.ue(), pps.ue(), pps.u(3)] == [0] * 7
    assert [pps.ue(), pps.ue(), pps.ue(), pps.u(3), pps.ends()] == [0, 0, 0, 0b100, True]


@pytest.mark.parametrize("platform", SIZES)
def test_video_frames(platform: str) -> None:
    """Each picture is one I_PCM key frame, held by frames that skip all, and the bar moves between."""
    video = only(made(), "Video", platform).data
    columns, rows = (-(-side // 16) for side in SIZES[platform])
    keys = table(video)["stss"][2:]
    pictures: list[list[bytes]] = []
    for index, nal in enumerate(samples(video)):
        if index + 1 in keys:
            pictures.append(picture(nal, columns, rows, len(pictures) % 2))  # neighbours differ
            continue
        bits = Bits(nal, 0x41)
        assert [bits.ue(), bits.ue(), bits.ue(), bits.u(4)] == [0, 5, 0, index % 5]
        assert [bits.u(3), bits.ue(), bits.ue(), bits.ue()] == [0, 0, 1, columns * rows]
        assert bits.ends()
    assert len(pictures) == len(keys) == 6
    assert all(before != after for before, after in pairwise(pictures))
    assert all(16 <= sample <= 240 for block in pictures[0] for sample in block)


def test_thumbnail() -> None:
    """The thumbnail is a sound PNG, and shows the colours of the first frame of the video."""
    chunks = png(only(found := made(), "Thumbnail").data)
    assert struct.unpack(">2I5B", chunks[b"IHDR"]) == (64, 36, 8, 3, 0, 0, 0)
    rows = zlib.decompress(chunks[b"IDAT"])
    assert rows == rows[:65] * 36
    assert rows[0] == 0  # no filter
    blocks = picture(samples(only(found, "Video", "YouTube").data)[0], 4, 3)
    for x in range(64):
        r, g, b = chunks[b"PLTE"][3 * rows[1 + x] :][:3]
        luma = blocks[8 + x // 16][16 * 3 + x % 16]  # of row 35, the last that is not cropped
        assert abs(16 + 0.257 * r + 0.504 * g + 0.098 * b - luma) < 1


@pytest.mark.parametrize("topic", ["Tidal power", HOSTILE, "", "\x00"])
@pytest.mark.parametrize("which", ["video Captions", "video Description", "podcast Captions"])
def test_captions(which: str, topic: str) -> None:
    """Captions are well-formed whatever the topic holds, and cover the whole length without a gap."""
    kind, type_ = which.replace("Cap", "ClosedCap").replace("Desc", "AudioDesc").split()
    found = cues(only(made(kind, topic), type_).data)
    assert found[0][0] == 0
    assert found[-1][1] == {"video": 3, "podcast": 1}[kind]
    assert all(before[0] < before[1] == after[0] for before, after in pairwise(found))
    assert topic != "Tidal power" or any(topic in text for _, _, text in found)


def test_podcast() -> None:
    """The podcast is a second of quiet tone that the standard library can read, tags and all."""
    for seed in range(8):
        data = only(made("podcast", HOSTILE + "x" * seed, seed), "Podcast").data
        assert len(data) % 2 == 0  # RIFF pads
        assert int.from_bytes(data[4:8], "little") + 8 == len(data) < 20_000
        with wave.open(io.BytesIO(data)) as sound:
            assert sound.getnframes() == sound.getframerate() == 8000
            tone = struct.unpack("<8000h", sound.readframes(8000))
        assert 1000 < max(tone) < 2000
        assert abs(sum(tone)) < 8000


def test_article() -> None:
    """The article is Markdown and HTML with the topic as heading, and no markup comes from the topic."""
    plain = html.escape('A --> B NOTE <script>&"x"</script> {0} `*_# 海')
    markdown, page, _ = (file.data.decode() for file in made("article", HOSTILE))
    assert re.findall(r"<(\w+)", page) == ["html", "meta", "title", "h1", "p", "p", "p", "p"]
    assert f"<h1>{plain}</h1>" in page
    heading = markdown.split("\n")[0]
    assert html.escape(re.sub(r"\\(.)", r"\1", heading)) == f"# {plain}"
    assert not re.search(r"(?<!\\)[<>&`*_{]", heading)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("topic", ["Tidal power", HOSTILE])
def test_attribution(kind: str, topic: str) -> None:
    """The attribution lists every other file, with its checksum and sources, and each source's licence."""
    *others, last = made(kind, topic)
    document = json.loads(last.data)
    assert (document["simulated"], document["productionId"]) == (True, PRODUCTION)
    sources = {source["id"]: source for source in document["sources"]}
    assert all(source["licence"] and source["author"] for source in sources.values())
    assert all(document["topic"] in source["title"] for source in sources.values())
    for entry, file in zip(document["files"], others, strict=True):
        assert (entry["name"], entry["size"]) == (file.name, len(file.data))
        assert entry["sha256"] == hashlib.sha256(file.data).hexdigest()
    assert {source for f in document["files"] for source in f["sources"]} == set(sources)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
@pytest.mark.parametrize("platform", SIZES)
def test_decoder_agrees(platform: str, tmp_path: Path) -> None:
    """A real decoder plays the video without a word and shows every row of each frame alike."""
    (tmp_path / "video.mp4").write_bytes(only(made(), "Video", platform).data)
    command = ["ffmpeg", "-v", "warning", "-err_detect", "explode", "-i", "video.mp4", "-f", "rawvideo", "-"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, timeout=60)
    assert done.stderr == b""
    width, height = SIZES[platform]
    assert len(done.stdout) == 30 * width * height * 3 // 2
    for frame in range(30):
        luma = done.stdout[frame * width * height * 3 // 2 :][: width * height]
        assert luma == luma[:width] * height
