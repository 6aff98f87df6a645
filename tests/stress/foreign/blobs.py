"""Blob storage and a CDN in front of it: signed URLs, ranges, and headers that are right, odd or absent."""

import base64
import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from urllib.parse import quote

from tests.stress.foreign.hosts import Host, Reply, Request
from tests.stress.foreign.productions import File, Production

_SIGNED = 75.0  # seconds for which a URL is valid
_LATE = 150.0  # seconds after the end for which a late file is not there yet


class Blobs:
    """The files of these productions, on a host of their own and on a CDN."""

    def __init__(
        self,
        productions: Mapping[str, Production],
        clock: Callable[[], float],
        random: Random,
        *,
        lower: bool,
    ) -> None:
        self._productions, self._clock, self._random = productions, clock, random
        self._secret = random.randbytes(32)
        self.counts: Counter[str] = Counter()
        self.storage = Host(self._answer, random, lower=lower)
        self.cdn = Host(self._answer, random, lower=not lower)

    def signed_url(self, production: Production, file: File) -> str:
        target = f"/c/{production.id}/{file.name}?sv=2024-11-04&se={self._clock() + _SIGNED:.3f}&sp=r"
        return f"http://localhost:{self.storage.port}{target}&sig={self._signature(target)}"

    def _signature(self, target: str) -> str:
        digest = hmac.digest(self._secret, _canonical(target).encode(), "sha256")
        return base64.b64encode(digest).decode().replace("=", "%3D")

    async def _answer(self, request: Request) -> Reply:
        now, (target, _, signature) = self._clock(), request.target.partition("&sig=")
        self.counts["downloads with the API key"] += "x-api-key" in request.headers
        if _canonical(self._signature(target)) != _canonical(signature):
            self.counts["wrong signatures"] += 1
            return _error(403, "AuthenticationFailed")
        if float(target.partition("&se=")[2].partition("&")[0]) < now:
            return _error(403, "AuthenticationFailed")
        _, _, id_, name = _canonical(request.path).split("/", 3)
        production = self._productions[id_]
        file = next(file for file in production.files if _canonical(file.name) == name)
        if file.fault == "never" or (file.fault == "late" and now < production.ended + _LATE):
            return _error(404, "BlobNotFound")
        if file.fault in ("404", "403", "503") and file.faults_left:
            file.faults_left -= 1
            return _error(int(file.fault), "ServerBusy", {"Retry-After": "3"} if file.fault == "503" else {})
        if file.fault == "redirect" and not request.headers["host"].endswith(f":{self.cdn.port}"):
            return Reply(302, b"", {"Location": f"http://127.0.0.1:{self.cdn.port}{request.target}"})
        reply = _content(file, request)
        if file.fault == "cut" and file.faults_left:
            file.faults_left -= 1
            reply.cut = self._random.uniform(0.0, 0.99)
        return reply


def _content(file: File, request: Request) -> Reply:
    data, headers = file.stored, {"Content-Type": "application/octet-stream"}
    tag, digest = f'"{file.id}"', hashlib.md5(file.stored, usedforsecurity=False)
    tags = {"strong": {"ETag": tag}, "weak": {"ETag": f"W/{tag}"}, "none": {}}
    sums = {"base64": base64.b64encode(digest.digest()).decode(), "hex": digest.hexdigest()}
    headers |= tags[file.etag] | ({"Content-Encoding": "gzip"} if file.encoded else {})
    asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
    if asked is None or file.ranges == "no":
        headers |= {"Content-MD5": sums[file.md5]} if file.md5 in sums else {}
        return Reply(200, data, headers, file.framing)
    start, total = int(asked[1]), "*" if file.ranges == "star" else len(data)
    if start >= len(data):
        return _error(416, "InvalidRange", {"Content-Range": f"bytes */{len(data)}"})
    end = min(len(data), start + 20_000) if file.ranges == "short" else len(data)
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{total}"
    return Reply(206, data[start:end], headers, file.framing)


def _canonical(target: str) -> str:
    """Return the form that a signature covers: escapes in upper case, and what is not ASCII escaped."""
    escaped = quote(target, safe="".join(map(chr, range(33, 127))))
    return re.sub("%[0-9a-fA-F]{2}", lambda escape: escape[0].upper(), escaped)


def _error(status: int, code: str, headers: dict[str, str] | None = None) -> Reply:
    text = f'\ufeff<?xml version="1.0"?><Error><Code>{code}</Code></Error>'
    return Reply(status, text.encode(), {"Content-Type": "application/xml", **(headers or {})})
