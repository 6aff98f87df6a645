"""The files that a simulated production delivers: small, valid, and marked as simulated.

Every file contains the production's identifier and topic, so the files of different productions differ. Equal
arguments give equal bytes. The topic may hold any character; it is escaped as each format requires.

JARAI documents `Video`, `ClosedCaptions` and `AudioDescription` by name, and thumbnails and attribution in
prose. The other names are guesses.
"""

import hashlib
import html
import json
import random
import re
import struct
import unicodedata
import zlib
from collections.abc import Iterable

import attrs

from jarai_async.simulator._blobs.video import VIDEO_SECONDS, make_video

_NOTICE = "Simulated by jarai_async: no production ran, and no camera, voice or model was involved."
_PODCAST_SECONDS = 1
_SAMPLE_RATE = 8000
_THUMBNAIL_COLOUR = bytes((27, 50, 47))  # the background of the video

_OPENINGS = ("This is about {}.", "Today's topic: {}.", "A few words on {}.")
_MIDDLES = (
    "A real production would tell its story here.",
    "What follows was not researched; it only takes up room.",
    "There is nothing to learn here but that the file arrived.",
)
_CLOSING = "It was simulated, and nothing was published."

_SOURCES = {
    "topic": ("The topic, as submitted: {}", "the submitting party", "that of the submitter"),
    "script": ("Sentences around the topic: {}", "jarai_async", "CC0-1.0"),
    "picture": ("Moving bars of colour, for the topic: {}", "jarai_async", "CC0-1.0"),
    "sound": ("Silence, for the topic: {}", "jarai_async", "CC0-1.0"),
}
_MADE_FROM = {
    "Video": ("picture", "topic"),
    "Thumbnail": ("picture", "topic"),
    "Podcast": ("sound", "topic"),
    "AudioDescription": ("picture", "topic"),
    "ClosedCaptions": ("script", "topic"),
    "Article": ("script", "topic"),
}


@attrs.frozen
class MediaFile:
    """One file of a production; `name` is unique among them, and safe in a path and in a URL."""

    type: str
    platform: str | None
    name: str
    content_type: str
    data: bytes


def make_files(production_id: str, topic: str, project_type: str, rng: random.Random) -> list[MediaFile]:
    """Return the files of a production, the attribution last.

    A `project_type` that contains "podcast" gives sound and a transcript, "article" or "book" gives text, and
    any other a video for each platform, with captions, an audio description and a thumbnail.
    """
    kind, topic = project_type.lower(), _one_line(topic)
    notice = f"{_NOTICE} Production {production_id}."
    if "podcast" in kind:
        files = _podcast(topic, notice, rng)
    elif "article" in kind or "book" in kind:
        files = _article(topic, notice, rng)
    else:
        files = _video(topic, notice, rng)
    return [*files, _attribution(production_id, topic, files)]


def _video(topic: str, notice: str, rng: random.Random) -> list[MediaFile]:
    description = ("A bar of colour on a dark ground.", f"It moves to the right. The topic is {topic}.")
    captions = _webvtt(_script(topic, rng), VIDEO_SECONDS, notice)
    described = _webvtt(description, VIDEO_SECONDS, notice)
    comment = f"{topic}. {notice}"
    youtube, tiktok = (make_video(f"{platform}: {comment}") for platform in ("YouTube", "TikTok"))
    return [
        MediaFile("Video", "YouTube", "video-youtube.mp4", "video/mp4", youtube),
        MediaFile("Video", "TikTok", "video-tiktok.mp4", "video/mp4", tiktok),
        MediaFile("ClosedCaptions", "YouTube", "captions.vtt", "text/vtt", captions),
        MediaFile("AudioDescription", None, "audio-description.vtt", "text/vtt", described),
        MediaFile("Thumbnail", "YouTube", "thumbnail.png", "image/png", _png(comment)),
    ]


def _podcast(topic: str, notice: str, rng: random.Random) -> list[MediaFile]:
    transcript = _webvtt(_script(topic, rng), _PODCAST_SECONDS, notice)
    return [
        MediaFile("Podcast", "Spotify", "podcast.wav", "audio/wav", _wav(f"{topic}. {notice}")),
        MediaFile("ClosedCaptions", "Spotify", "transcript.vtt", "text/vtt", transcript),
    ]


def _article(topic: str, notice: str, rng: random.Random) -> list[MediaFile]:
    script = _script(topic, rng)
    return [
        MediaFile("Article", None, "article.md", "text/markdown", _markdown(topic, script, notice)),
        MediaFile("Article", None, "article.html", "text/html", _html(topic, script, notice)),
    ]


def _attribution(production_id: str, topic: str, files: Iterable[MediaFile]) -> MediaFile:
    used = {source for file in files for source in _MADE_FROM[file.type]}
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
        "files": [_file_entry(file) for file in files],
    }
    data = json.dumps(document, ensure_ascii=False, indent=2).encode()
    return MediaFile("Attribution", None, "attribution.json", "application/json", data)


def _file_entry(file: MediaFile) -> dict[str, object]:
    return {
        "name": file.name,
        "type": file.type,
        "platform": file.platform,
        "contentType": file.content_type,
        "size": len(file.data),
        "sha256": hashlib.sha256(file.data).hexdigest(),
        "sources": list(_MADE_FROM[file.type]),
    }


def _one_line(topic: str) -> str:
    """Return `topic` on one line, without control characters and lone surrogates."""
    allowed = (" " if unicodedata.category(char) in {"Cc", "Cs"} else char for char in topic)
    return " ".join("".join(allowed).split()) or "nothing in particular"


def _script(topic: str, rng: random.Random) -> tuple[str, ...]:
    return rng.choice(_OPENINGS).format(topic), rng.choice(_MIDDLES), _CLOSING


def _webvtt(script: tuple[str, ...], seconds: float, notice: str) -> bytes:
    """Return the sentences as cues of equal length; escaping also breaks "-->", which would end a cue."""
    step = seconds / len(script)
    cues = (
        f"{_timestamp(i * step)} --> {_timestamp((i + 1) * step)}\n{html.escape(text, quote=False)}\n"
        for i, text in enumerate(script)
    )
    note = f"NOTE {html.escape(notice, quote=False)}\n"
    return "\n".join(("WEBVTT\n", note, *cues)).encode()


def _timestamp(seconds: float) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"


def _markdown(topic: str, script: tuple[str, ...], notice: str) -> bytes:
    paragraphs = (re.sub(r"([\\`*_{}\[\]<>#|&~!])", r"\\\1", text) for text in (topic, *script, notice))
    return ("# " + "\n\n".join(paragraphs) + "\n").encode()


def _html(topic: str, script: tuple[str, ...], notice: str) -> bytes:
    title = html.escape(topic)
    body = "\n".join(f"<p>{html.escape(text)}</p>" for text in (*script, notice))
    head = f'<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>\n'
    return f"{head}<h1>{title}</h1>\n{body}\n</html>\n".encode()


def _png(comment: str) -> bytes:
    """Return a picture of one colour, 64 x 36 pixels."""
    header = struct.pack(">2I5B", 64, 36, 8, 2, 0, 0, 0)  # eight bits per channel, RGB
    rows = zlib.compress((b"\0" + _THUMBNAIL_COLOUR * 64) * 36)
    chunks = (
        *(_chunk(b"IHDR", header), _chunk(b"iTXt", b"Comment\0\0\0\0\0" + comment.encode())),
        *(_chunk(b"IDAT", rows), _chunk(b"IEND", b"")),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _wav(comment: str) -> bytes:
    """Return a second of silence: 16 bits, mono."""
    layout = struct.pack("<2H2I2H", 1, 1, _SAMPLE_RATE, 2 * _SAMPLE_RATE, 2, 16)
    tags = _riff(b"LIST", b"INFO" + _riff(b"ICMT", comment.encode() + b"\0"))
    samples = bytes(2 * _SAMPLE_RATE * _PODCAST_SECONDS)
    return _riff(b"RIFF", b"WAVE" + _riff(b"fmt ", layout) + _riff(b"data", samples) + tags)


def _riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
