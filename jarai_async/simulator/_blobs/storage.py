"""Deliverables and the blob storage that serves them: another origin, signed URLs, ranges, checksums.

Documented: a deliverable has a type, usually a platform, and `sasUrl`, signed and valid for one hour.
Inferred: every other field, and that storage supports ranges and conditions, as blob storage does.

Before Published a list is preliminary: its attribution says so, and therefore differs from the one that
is final. Each version has URLs of its own, so that what was once signed keeps its bytes.
"""

import base64
import hashlib
import hmac
import json
import random
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from attrs import frozen

from jarai_async.simulator._api.responses import Response, storage_failure
from jarai_async.simulator._blobs.media import MediaFile, make_files

PRELIMINARY, FINAL = "preliminary", "final"
VALID_SECONDS = 3600  # documented
_REMEMBERED = 64  # productions whose files are kept; they can always be made again
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_Story = Callable[[str], tuple[str, str]]


@frozen
class Blob:
    """One file as stored."""

    file: MediaFile
    data: bytes
    md5: bytes

    @property
    def checksum(self) -> str:
        """The MD5 as headers and deliverables carry it, in base64."""
        return base64.b64encode(self.md5).decode()

    @property
    def etag(self) -> str:
        """Quoted, as in the header."""
        return f'"0x{self.md5.hex().upper()[:16]}"'


class BlobStore:
    """Every file of every production, made when asked for; `story` gives a production's topic and type."""

    def __init__(self, seed: int | str, story: _Story) -> None:
        self.origin = ""
        self._seed = seed
        self._story = story
        self._secret = hashlib.sha256(f"{seed}:signature".encode()).digest()
        self._blobs = lru_cache(maxsize=_REMEMBERED)(self._make)

    def deliverables(self, production_id: str, version: str, wall: float) -> list[dict[str, Any]]:
        """The list as the API gives it, with URLs that are good for an hour from now."""
        return [
            {
                "deliverableId": str(uuid.uuid5(uuid.UUID(production_id), name)),
                "type": blob.file.type,
                "platform": blob.file.platform,
                "fileName": name,
                "contentType": blob.file.content_type,
                "sizeBytes": len(blob.data),
                "contentMd5": blob.checksum,
                "sasUrl": self.sign(f"/blobs/{production_id}/{version}/{quote(name)}", wall),
            }
            for name, blob in self._blobs(production_id, version).items()
        ]

    def sign(self, path: str, wall: float) -> str:
        """The whole URL of a path, valid for an hour."""
        until = datetime.fromtimestamp(wall + VALID_SECONDS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"{self.origin}{path}?se={quote(until, safe='')}&sig={self._signature(path, until)}"

    def answer(self, method: str, url: str, headers: Mapping[str, str], wall: float) -> Response:
        """What storage says to a request; `url` is the path and the query as they were sent."""
        if method not in ("GET", "HEAD"):
            return storage_failure(405, "UnsupportedHttpVerb", "Only GET and HEAD.")
        parts = urlsplit(url)
        error_from = self._refusal(parts.path, parse_qs(parts.query), wall)
        if error_from is not None:
            return error_from
        _, _, production_id, version, name = unquote(parts.path).split("/")
        return serve(self._blobs(production_id, version)[name], headers)

    def _refusal(self, path: str, query: dict[str, list[str]], wall: float) -> Response | None:
        until, signature = query.get("se", [""])[0], query.get("sig", [""])[0]
        right = self._signature(path, until)
        if not hmac.compare_digest(signature.encode(), right.encode()):
            return storage_failure(403, "AuthenticationFailed", "Signature did not match.")
        if wall >= datetime.fromisoformat(until).timestamp():
            message = "Signature not valid in the specified time frame."
            return storage_failure(403, "AuthenticationFailed", message)
        return None

    def _signature(self, path: str, until: str) -> str:
        text = f"{unquote(path)}\n{until}".encode()
        digest = hmac.new(self._secret, text, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def _make(self, production_id: str, version: str) -> dict[str, Blob]:
        rng = random.Random(f"{self._seed}:media:{production_id}")
        made = make_files(production_id, *self._story(production_id), rng)
        return {file.name: _blob(file, version) for file in made}


def _blob(file: MediaFile, version: str) -> Blob:
    data = file.data
    if version == PRELIMINARY and file.type == "Attribution":
        data = json.dumps({**json.loads(data), "preliminary": True}, indent=2).encode()
    return Blob(file, data, hashlib.md5(data, usedforsecurity=False).digest())


def serve(blob: Blob, headers: Mapping[str, str]) -> Response:
    """A file, or the part of it that the headers ask for, on the conditions that they set."""
    if headers.get("If-Match", "*") not in ("*", blob.etag):
        return storage_failure(412, "ConditionNotMet", "The blob has another ETag.")
    sent = {"Accept-Ranges": "bytes", "ETag": blob.etag}
    size = len(blob.data)
    bounds = _bounds(headers.get("Range", ""), size)
    if bounds is None or headers.get("If-Range", blob.etag) != blob.etag:
        sent["Content-MD5"] = blob.checksum
        return Response(200, blob.data, sent, blob.file.content_type)
    start, stop = bounds
    if start >= stop:
        error_from = storage_failure(416, "InvalidRange", "Nothing of the blob is in that range.")
        error_from.headers["Content-Range"] = f"bytes */{size}"
        return error_from
    sent["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    # As blob storage does: Content-MD5 would be the part's, the whole one's has another name.
    sent["x-ms-blob-content-md5"] = blob.checksum
    return Response(206, blob.data[start:stop], sent, blob.file.content_type)


def _bounds(wanted: str, size: int) -> tuple[int, int] | None:
    """Where the part begins and ends, the end exclusive; None for what is to be ignored (RFC 9110).

    That is several ranges, one that ends before it begins, and whatever else is not a range of bytes.
    """
    found = _RANGE.fullmatch(wanted)
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1) if last else size
