"""Deliverables, and the blob storage that serves them: another origin, signed URLs, ranges, checksums.

Documented: a deliverable has a type, usually a platform, and `sasUrl`, signed and valid for one hour.
Inferred: every other field, and that storage supports ranges and conditions, as Azure blob storage does.

Until a production is Published its list is preliminary: its attribution says so, and therefore differs from
the final one. Each version has URLs of its own, so the bytes behind a signed URL never change.
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

from jarai_async.simulator._api.responses import Response, storage_error
from jarai_async.simulator._blobs.media import MediaFile, make_files

PRELIMINARY, FINAL = "preliminary", "final"
_VALID_SECONDS = 3600  # documented
_CACHED = 64  # productions whose files are kept in memory; all others are made again on demand
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@frozen
class Blob:
    """One stored file."""

    file: MediaFile
    data: bytes
    md5: bytes

    @property
    def checksum(self) -> str:
        """The MD5 in base64, as in headers and deliverables."""
        return base64.b64encode(self.md5).decode()

    @property
    def etag(self) -> str:
        """The value of the ETag header, with its quotes."""
        return f'"0x{self.md5.hex().upper()[:16]}"'


class BlobStore:
    """Every file of every production, made on demand.

    `describe` returns the topic and project type of a production. `blobs` returns its files by name.
    """

    def __init__(self, seed: int | str, describe: Callable[[str], tuple[str, str]]) -> None:
        self.origin = ""
        self._seed = seed
        self._describe = describe
        self._secret = hashlib.sha256(f"{seed}:signature".encode()).digest()
        self.blobs = lru_cache(maxsize=_CACHED)(self._make_blobs)

    def deliverables(self, production_id: str, version: str, wall: float) -> list[dict[str, Any]]:
        """Return the list as the API sends it, with URLs that are valid for an hour."""
        return [
            {
                "deliverableId": str(uuid.uuid5(uuid.UUID(production_id), name)),
                "type": blob.file.type,
                "platform": blob.file.platform,
                "fileName": name,
                "contentType": blob.file.content_type,
                "sizeBytes": len(blob.data),
                "contentMd5": blob.checksum,
                "sasUrl": self._sign(f"/blobs/{production_id}/{version}/{quote(name)}", wall),
            }
            for name, blob in self.blobs(production_id, version).items()
        ]

    def final_files(self, production_id: str) -> dict[str, bytes]:
        """Return the files of a production as they are once it is Published, by name."""
        return {name: blob.data for name, blob in self.blobs(production_id, FINAL).items()}

    def respond(self, method: str, url: str, headers: Mapping[str, str], wall: float) -> Response:
        """Return the response to a request; `url` is the path and query as they were sent."""
        if method not in ("GET", "HEAD"):
            return storage_error(405, "UnsupportedHttpVerb", "Only GET and HEAD.")
        parts = urlsplit(url)
        error = self._signature_error(parts.path, parse_qs(parts.query), wall)
        if error is not None:
            return error
        _, _, production_id, version, name = unquote(parts.path).split("/")
        return _serve(self.blobs(production_id, version)[name], headers)

    def _sign(self, path: str, wall: float) -> str:
        until = datetime.fromtimestamp(wall + _VALID_SECONDS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"{self.origin}{path}?se={quote(until, safe='')}&sig={self._signature(path, until)}"

    def _signature_error(self, path: str, query: dict[str, list[str]], wall: float) -> Response | None:
        until, signature = query.get("se", [""])[0], query.get("sig", [""])[0]
        expected = self._signature(path, until)
        if not hmac.compare_digest(signature.encode(), expected.encode()):
            return storage_error(403, "AuthenticationFailed", "Signature did not match.")
        if wall >= datetime.fromisoformat(until).timestamp():
            message = "Signature not valid in the specified time frame."
            return storage_error(403, "AuthenticationFailed", message)
        return None

    def _signature(self, path: str, until: str) -> str:
        text = f"{unquote(path)}\n{until}".encode()
        digest = hmac.new(self._secret, text, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def _make_blobs(self, production_id: str, version: str) -> dict[str, Blob]:
        rng = random.Random(f"{self._seed}:media:{production_id}")
        files = make_files(production_id, *self._describe(production_id), rng)
        return {file.name: _to_blob(file, version) for file in files}


def _to_blob(file: MediaFile, version: str) -> Blob:
    data = file.data
    if version == PRELIMINARY and file.type == "Attribution":
        data = json.dumps({**json.loads(data), "preliminary": True}, indent=2).encode()
    return Blob(file, data, hashlib.md5(data, usedforsecurity=False).digest())


def _serve(blob: Blob, request_headers: Mapping[str, str]) -> Response:
    """Return the file, or a range of it, subject to the conditions in the headers."""
    if request_headers.get("If-Match", "*") not in ("*", blob.etag):
        return storage_error(412, "ConditionNotMet", "The blob has another ETag.")
    headers = {"Accept-Ranges": "bytes", "ETag": blob.etag}
    size = len(blob.data)
    bounds = _bounds(request_headers.get("Range", ""), size)
    if bounds is None or request_headers.get("If-Range", blob.etag) != blob.etag:
        headers["Content-MD5"] = blob.checksum
        return Response(200, blob.data, headers, blob.file.content_type)
    start, stop = bounds
    if start >= stop:
        error = storage_error(416, "InvalidRange", "Nothing of the blob is in that range.")
        error.headers["Content-Range"] = f"bytes */{size}"
        return error
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    # As in blob storage: Content-MD5 would be that of the range; the file's has another name.
    headers["x-ms-blob-content-md5"] = blob.checksum
    return Response(206, blob.data[start:stop], headers, blob.file.content_type)


def _bounds(header: str, size: int) -> tuple[int, int] | None:
    """Return the start and end (exclusive) of a Range header, or None if it must be ignored (RFC 9110).

    It is ignored if it has several ranges, ends before it begins, or is not a range of bytes.
    """
    match = _RANGE.fullmatch(header)
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1) if last else size
