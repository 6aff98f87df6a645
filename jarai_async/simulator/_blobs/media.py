"""The bytes that a simulated production delivers: small, real files that say what they are.

A client that downloads is only tested by something worth downloading: files that open, differ from one
production to the next, and have a size and a checksum to compare. So these are real: an MP4 that plays
(`_mp4` tells how, without an encoder), a PNG, a WAV, WebVTT, Markdown, HTML, and JSON for the attribution.
They are also honest. Every one carries the production's identifier and the word "simulated", nothing in
them claims a photographer or a voice that never was, and the attribution lists what really went in: a few
fixed sentences, bars of colour, a tone, and the topic that somebody submitted.

Equal arguments give equal bytes, and all chance comes from the generator that is passed in. The topic is
the one thing from outside. It may hold any character, and is made harmless for each format in turn.

JARAI documents `Video`, `ClosedCaptions` and `AudioDescription` by name, and thumbnails and attribution
in prose; the other names here are guesses in the same manner, in a set that is open anyhow.
"""

import colorsys
import hashlib
import html
import io
import json
import math
import random
import re
import struct
import unicodedata
import wave
import zlib
from collections.abc import Iterable

import attrs

from jarai_async.simulator._blobs import mp4

_NOTICE = "Simulated by jarai_async: no production ran, and no camera, voice or model was involved."
_VARIANTS = {"YouTube": (64, 36), "TikTok": (36, 64)}  # even, as chroma has half the resolution
_PICTURES = 6
_VIDEO_SECONDS = _PICTURES * mp4.HOLD / mp4.FRAMES_PER_SECOND
_SAMPLE_RATE, _PODCAST_SECONDS = 8000, 1
_PERIODS = (16, 20, 25, 32, 40)  # in samples; each divides a second, so that the tone ends at zero
_QUIET = 1600  # of 32767: some 26 dB below full scale
_HUES = {"red": 0.0, "amber": 0.12, "green": 0.35, "teal": 0.48, "blue": 0.6, "violet": 0.78}

_OPENINGS = ("This is about {}.", "Today's topic: {}.", "A few words on {}.")
_MIDDLES = (
    "A real production would tell its story here.",
    "What follows was not researched; it only takes up room.",
    "There is nothing to learn here but that the file arrived.",
)
_CLOSING = "It was simulated, and nothing was published."

_SOURCES = {
    "topic": ("The topic, as submitted: {}", "whoever submitted it", "that of the submitter"),
    "script": ("Sentences around the topic: {}", "jarai_async", "CC0-1.0"),
    "picture": ("Moving bars of colour, for the topic: {}", "jarai_async", "CC0-1.0"),
    "tone": ("A sine tone, for the topic: {}", "jarai_async", "CC0-1.0"),
}
_MADE_FROM = {
    "Video": ("picture", "topic"),
    "Thumbnail": ("picture", "topic"),
    "Podcast": ("tone", "topic"),
    "AudioDescription": ("picture", "topic"),
    "ClosedCaptions": ("script", "topic"),
    "Article": ("script", "topic"),
}


@attrs.frozen
class MediaFile:
    """One file of a production; `name` is unique among them and safe in a path and in a URL."""

    type: str
    platform: str | None
    name: str
    content_type: str
    data: bytes


def files(production_id: str, topic: str, project_type: str, rng: random.Random) -> list[MediaFile]:
    """Return what a production of this kind delivers, the attribution last.

    A `project_type` that speaks of a podcast gives sound and a transcript, an article or a book
    gives text, and anything else a video for each platform with all that belongs to it.
    """
    kind, topic = project_type.lower(), _plain(topic)
    mark = f"{_NOTICE} Production {production_id}."
    if "podcast" in kind:
        made = _podcast(topic, mark, rng)
    elif "article" in kind or "book" in kind:
        made = _article(topic, mark, rng)
    else:
        made = _video(topic, mark, rng)
    return [*made, _attribution(production_id, topic, made)]


def _video(topic: str, mark: str, rng: random.Random) -> list[MediaFile]:
    colour = rng.choice(sorted(_HUES))
    palette = _palette(_HUES[colour], rng)
    start = rng.random()
    made = []
    for platform, (width, height) in _VARIANTS.items():
        lines = _lines(width, start)
        data = mp4.video(lines, height, palette, title=topic, comment=mark)
        name = f"video-{platform.lower()}.mp4"
        made.append(MediaFile("Video", platform, name, "video/mp4", data))
    width, height = _VARIANTS["YouTube"]
    still = _png(_lines(width, start)[0], height, palette, {"Title": topic, "Comment": mark})
    captions = _webvtt(_script(topic, rng), _VIDEO_SECONDS, mark)
    seen = (f"A {colour} bar on a dark ground.", f"It moves to the right. The topic is {topic}.")
    described = _webvtt(seen, _VIDEO_SECONDS, mark)
    return [
        *made,
        MediaFile("ClosedCaptions", "YouTube", "captions.vtt", "text/vtt", captions),
        MediaFile("AudioDescription", None, "audio-description.vtt", "text/vtt", described),
        MediaFile("Thumbnail", "YouTube", "thumbnail.png", "image/png", still),
    ]


def _podcast(topic: str, mark: str, rng: random.Random) -> list[MediaFile]:
    sound = _wav(rng.choice(_PERIODS), {b"INAM": topic, b"ICMT": mark})
    transcript = _webvtt(_script(topic, rng), _PODCAST_SECONDS, mark)
    return [
        MediaFile("Podcast", "Spotify", "podcast.wav", "audio/wav", sound),
        MediaFile("ClosedCaptions", "Spotify", "transcript.vtt", "text/vtt", transcript),
    ]


def _article(topic: str, mark: str, rng: random.Random) -> list[MediaFile]:
    script = _script(topic, rng)
    return [
        MediaFile("Article", None, "article.md", "text/markdown", _markdown(topic, script, mark)),
        MediaFile("Article", None, "article.html", "text/html", _html(topic, script, mark)),
    ]


def _attribution(production_id: str, topic: str, made: Iterable[MediaFile]) -> MediaFile:
    used = {source for file in made for source in _MADE_FROM[file.type]}
    document = {
        "productionId": production_id,
        "topic": topic,
        "simulated": True,
        "notice": _NOTICE,
        "sources": [
            {"id": key, "title": title.format(topic), "author": author, "licence": licence}
            for key, (title, author, licence) in _SOURCES.items()
            if key in used
        ],
        "files": [_entry(file) for file in made],
    }
    data = json.dumps(document, ensure_ascii=False, indent=2).encode()
    return MediaFile("Attribution", None, "attribution.json", "application/json", data)


def _entry(file: MediaFile) -> dict[str, object]:
    return {
        "name": file.name,
        "type": file.type,
        "platform": file.platform,
        "contentType": file.content_type,
        "size": len(file.data),
        "sha256": hashlib.sha256(file.data).hexdigest(),
        "sources": list(_MADE_FROM[file.type]),
    }


# -- words -----------------------------------------------------------------------------------------------


def _plain(topic: str) -> str:
    """Return `topic` on one line, without what no file may hold: control characters, lone surrogates."""
    kept = (" " if unicodedata.category(c) in {"Cc", "Cs"} else c for c in topic)
    return " ".join("".join(kept).split()) or "nothing in particular"


def _script(topic: str, rng: random.Random) -> tuple[str, ...]:
    return rng.choice(_OPENINGS).format(topic), rng.choice(_MIDDLES), _CLOSING


def _webvtt(script: tuple[str, ...], seconds: float, mark: str) -> bytes:
    """Return `script` as cues of equal length; escaping also breaks up an arrow, which would end one."""
    step = seconds / len(script)
    cues = (
        f"{_stamp(i * step)} --> {_stamp((i + 1) * step)}\n{html.escape(text, quote=False)}\n"
        for i, text in enumerate(script)
    )
    note = f"NOTE {html.escape(mark, quote=False)}\n"
    return "\n".join(("WEBVTT\n", note, *cues)).encode()


def _stamp(seconds: float) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"


def _markdown(topic: str, script: tuple[str, ...], mark: str) -> bytes:
    paragraphs = (re.sub(r"([\\`*_{}\[\]<>#|&~!])", r"\\\1", text) for text in (topic, *script, mark))
    return ("# " + "\n\n".join(paragraphs) + "\n").encode()


def _html(topic: str, script: tuple[str, ...], mark: str) -> bytes:
    title = html.escape(topic)
    body = "\n".join(f"<p>{html.escape(text)}</p>" for text in (*script, mark))
    head = f'<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>\n'
    return f"{head}<h1>{title}</h1>\n{body}\n</html>\n".encode()


# -- pictures and sound ----------------------------------------------------------------------------------


def _palette(hue: float, rng: random.Random) -> list[mp4.RGB]:
    """Return a dark ground and three shades of one colour."""
    shades = ((0.15, 0.3), (0.4, 0.8), (0.6 + rng.random() / 10, 0.8), (0.8, 0.8))
    colours = (colorsys.hls_to_rgb(hue, light, depth) for light, depth in shades)
    return [(round(r * 255), round(g * 255), round(b * 255)) for r, g, b in colours]


def _lines(width: int, start: float) -> list[bytes]:
    """Return the rows of the moving bar, in steps of two pixels so that chroma keeps up."""
    row = b"\1\1\1\1\2\2\2\2\2\2\2\2\3\3\3\3".ljust(width, b"\0")
    pairs = width // 2
    turns = (2 * int((start + i / _PICTURES) * pairs % pairs) for i in range(_PICTURES))
    return [row[width - turn :] + row[: width - turn] for turn in turns]


def _png(line: bytes, height: int, palette: Iterable[mp4.RGB], texts: dict[str, str]) -> bytes:
    header = struct.pack(">2I5B", len(line), height, 8, 3, 0, 0, 0)  # eight bits, by palette
    colours = b"".join(map(bytes, palette))
    rows = zlib.compress((b"\0" + line) * height)
    notes = (_chunk(b"iTXt", f"{key}\0\0\0\0\0{text}".encode()) for key, text in texts.items())
    chunks = (_chunk(b"IHDR", header), *notes, _chunk(b"PLTE", colours), _chunk(b"IDAT", rows))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _wav(period: int, texts: dict[bytes, str]) -> bytes:
    """Return a quiet tone; the `wave` module writes no tags, so these are added behind it."""
    angles = (math.tau * i / period for i in range(period))
    wavelet = struct.pack(f"<{period}h", *(round(_QUIET * math.sin(angle)) for angle in angles))
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(_SAMPLE_RATE)
        sound.writeframes(wavelet * (_SAMPLE_RATE * _PODCAST_SECONDS // period))
    tags = b"".join(_riff(key, text.encode() + b"\0") for key, text in texts.items())
    whole = buffer.getvalue()[8:] + _riff(b"LIST", b"INFO" + tags)
    return _riff(b"RIFF", whole)


def _riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
