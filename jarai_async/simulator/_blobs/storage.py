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
from typing import Any, Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit

from attrs import frozen

from jarai_async.simulator._api.responses import Response, storage_error
from jarai_async.simulator._blobs.media import MediaFile, make_files

PRELIMINARY, FINAL = "preliminary", "final"
_VALID_SECONDS = 3600  # documented
_CACHED = 64  # productions whose files are kept in memory; all others are made again on demand
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@frozen(kw_only=True)
class BlobStorage:
    """The make of the blob storage: like Azure's by default. JARAI does not document it, so try others, too.

    - `etag`: whether files have a strong ETag, a weak one, or none.
    - `md5`: how the list and the headers state the MD5, if at all.
    - `ranges`: whether a part of a file can be requested.
    - `encoding`: a `Content-Encoding` that files are stored with, such as "gzip".
    - `documented_only`: the list gives type, platform and URL only, so two files may differ only in the URL.
    - `raw_links`: the path of a signed URL has a space in it, not encoded.
    """

    etag: Literal["strong", "weak", "none"] = "strong"
    md5: Literal["base64", "hexadecimal", "none"] = "base64"
    ranges: bool = True
    encoding: str = ""
    documented_only: bool = False
    raw_links: bool = False

    def etag_of(self, blob: "Blob") -> str | None:
        """Return the value of the ETag header, with its quotes."""
        etag = f'"0x{blob.md5.hex().upper()[:16]}"'
        return {"strong": etag, "weak": f"W/{etag}", "none": None}[self.etag]

    def checksum_of(self, blob: "Blob") -> str | None:
        """Return the MD5 as headers and deliverables state it."""
        base64_md5 = base64.b64encode(blob.md5).decode()
        return {"base64": base64_md5, "hexadecimal": blob.md5.hex(), "none": None}[self.md5]


def production_of(path: str) -> str:
    """Return the identifier of the production in the path of a signed URL, or "" if it has none."""
    return "".join(path.split("/")[2:3])


@frozen
class Blob:
    """One stored file."""

    file: MediaFile
    data: bytes
    md5: bytes


class BlobStore:
    """Every file of every production, made on demand.

    `describe` returns the topic and project type of a production. `blobs` returns its files by name.
    """

    def __init__(
        self, seed: int | str, describe: Callable[[str], tuple[str, str]], make: BlobStorage
    ) -> None:
        self.origin = ""
        self.make = make
        self._seed = seed
        self._describe = describe
        self._secret = hashlib.sha256(f"{seed}:signature".encode()).digest()
        self.blobs = lru_cache(maxsize=_CACHED)(self._make_blobs)

    def deliverables(self, production_id: str, version: str, wall: float) -> list[dict[str, Any]]:
        """Return the list as the API sends it, with URLs that are valid for an hour."""
        folder = "/raw blobs" if self.make.raw_links else "/blobs"
        listed = []
        for name, blob in self.blobs(production_id, version).items():
            item = {
                "type": blob.file.type,
                "platform": blob.file.platform,
                "sasUrl": self._sign(f"{folder}/{production_id}/{version}/{quote(name)}", wall),
            }
            details = {
                "deliverableId": str(uuid.uuid5(uuid.UUID(production_id), name)),
                "fileName": name,
                "contentType": blob.file.content_type,
                "sizeBytes": len(blob.data),
                "contentMd5": self.make.checksum_of(blob),
            }
            listed.append(item if self.make.documented_only else details | item)
        return listed

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
        return _serve(self.blobs(production_id, version)[name], headers, self.make)

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


def _serve(blob: Blob, request_headers: Mapping[str, str], make: BlobStorage) -> Response:
    """Return the file, or a range of it, subject to the conditions in the headers."""
    etag, checksum = make.etag_of(blob), make.checksum_of(blob)
    if request_headers.get("If-Match", "*") not in ("*", etag):
        return storage_error(412, "ConditionNotMet", "The blob has another ETag.")
    headers = {"Accept-Ranges": "bytes" if make.ranges else "none"}
    headers |= {name: value for name, value in (("ETag", etag), ("Content-Encoding", make.encoding)) if value}
    size = len(blob.data)
    bounds = _bounds(request_headers.get("Range", ""), size) if make.ranges else None
    if bounds is None or request_headers.get("If-Range", etag) != etag:
        headers |= {} if checksum is None else {"Content-MD5": checksum}
        return Response(200, blob.data, headers, blob.file.content_type)
    start, stop = bounds
    if start >= stop:
        error = storage_error(416, "InvalidRange", "Nothing of the blob is in that range.")
        error.headers["Content-Range"] = f"bytes */{size}"
        return error
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    # As in blob storage: Content-MD5 would be that of the range; the file's has another name.
    headers |= {} if checksum is None else {"x-ms-blob-content-md5": checksum}
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
