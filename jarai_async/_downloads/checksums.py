"""Checksums of a file, in the forms in which storage services and lists of deliverables state them.

The algorithm is named by the text ("md5:...") or by its field or header. Where neither names one, or the
digest has another length, the length gives the algorithm, and that is a guess: 128 bits may be an MD5 or an
xxHash. A guess that matches proves that a file is complete. One that does not match proves nothing.

Base64 (also its URL-safe form, and without padding) and hexadecimal are read. What cannot be read, or is not
computed here (CRC-64, CRC-32C), is ignored, and logged.
"""

import base64
import binascii
import logging
import re
from collections.abc import Iterable, Mapping
from typing import Final

from attrs import frozen

from jarai_async._api.models import Deliverable

_log = logging.getLogger("jarai_async")

_ALGORITHMS: Final = {16: "md5", 20: "sha1", 32: "sha256", 48: "sha384", 64: "sha512"}  # by bytes of a digest
_HEXADECIMAL = re.compile(r"(?:[0-9a-fA-F]{2})+")
_NAME = re.compile(r"md5|sha-?(?:1|256|384|512)", re.IGNORECASE)
_NAMED = re.compile(rf"({_NAME.pattern})[:=-]:?(.+?):?", re.IGNORECASE)  # "sha-256=:...:"
_LISTED = ("checksum", "md5", "sha1", "sha256", "sha512", "contentSha256", "hash")  # fields (inferred)
_COMPLETE_FILE = ("x-ms-blob-content-md5", "Repr-Digest", "x-goog-hash")  # also in partial responses
_THIS_BODY = ("Content-MD5", "Content-Digest", "Digest", "x-amz-checksum-sha256", "x-amz-checksum-sha1")
_IGNORED = ("x-ms-content-crc64", "x-amz-checksum-crc32", "x-amz-checksum-crc32c", "x-amz-checksum-crc64nvme")


@frozen
class Checksum:
    """The digest of a complete file; `algorithm` is a name of `hashlib`, perhaps only a guess."""

    algorithm: str
    digest: bytes
    is_guess: bool = False


def from_list(deliverable: Deliverable) -> frozenset[Checksum]:
    """Return the checksums that the list of deliverables states."""
    others = ((name, deliverable.raw.get(name)) for name in _LISTED)
    return _checksums([("contentMd5", deliverable.content_md5), *others], "the list of deliverables")


def from_headers(headers: Mapping[str, str], *, is_complete: bool) -> frozenset[Checksum]:
    """Return the checksums of the complete file; in a partial response most headers describe the part."""
    names = (*_COMPLETE_FILE, *(_THIS_BODY if is_complete else ()))
    for name in _IGNORED:
        if name in headers:
            _log.info("the checksum %s of blob storage is ignored: it is not computed here", name)
    values = [(name, part.strip()) for name in names for part in headers.get(name, "").split(",")]
    return _checksums(values, "blob storage")


def _checksums(values: Iterable[tuple[str, object]], source: str) -> frozenset[Checksum]:
    found = set()
    for name, value in values:
        if not isinstance(value, str) or not value:
            continue
        if checksum := parse(value, name):
            found.add(checksum)
        else:
            _log.info("a checksum from %s is ignored: %.100r cannot be read", source, value)
    return frozenset(found)


def parse(text: str, name: str = "") -> Checksum | None:
    """Return the checksum that a text in a field or header of this name states, None if it cannot be read."""
    if named := _NAMED.fullmatch(text):
        name, text = named.groups()
    stated = _NAME.search(name)
    for digest in (_from_hexadecimal(text), _from_base64(text)):
        if algorithm := _ALGORITHMS.get(len(digest)):
            is_guess = stated is None or stated[0].lower().replace("-", "") != algorithm
            return Checksum(algorithm, digest, is_guess)
    return None


def _from_hexadecimal(text: str) -> bytes:
    return bytes.fromhex(text) if _HEXADECIMAL.fullmatch(text) else b""


def _from_base64(text: str) -> bytes:
    standard = text.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""
