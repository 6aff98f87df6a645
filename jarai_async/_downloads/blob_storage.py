"""What blob storage says, as data: what is asked of it, and what its answer means for a file half here.

A file is vouched for by the list (inferred), or else by storage itself. Azure's gives `Content-Length` and
`ETag` always, the MD5 of the whole where the blob has one (`Content-MD5`, beside a part
`x-ms-blob-content-md5`). So an answer with neither length nor checksum was remade on its way, and whoever
remakes it may also end it early and call that the end, which nobody could see; and one with neither ETag nor
checksum may be a gateway's page that calls itself 200. Both are refused where the list says nothing.

What is here is gone on with only where a strong ETag or a checksum will tell whether both halves are of one
file. The ETag is sent as a condition, and what comes is checked against all of it anyway: popular clients
that took a 206 at its word put halves of two files together.
"""

import base64
import binascii
import re
from collections.abc import Mapping

from attrs import frozen

from jarai_async._api.models import Deliverable
from jarai_async._errors import DownloadError, IncompleteDownloadError

_PASSING = (408, 429)  # and 5xx: what blob storage answers when it may be asked again
_NOT_THIS_PART = (412, 416)  # it has another ETag, or another length
_PART = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_STRONG = re.compile(r'"[\x21\x23-\x7e]*"')
_WHOLE_MD5 = "x-ms-blob-content-md5"


@frozen
class ExpectedFile:
    """What is said of the whole file: bytes, MD5 digests, and a strong ETag, quoted as in the header."""

    size: int | None = None
    checksums: frozenset[bytes] = frozenset()
    etag: str | None = None


def listed(deliverable: Deliverable) -> ExpectedFile:
    """What the list of deliverables says of a file."""
    return ExpectedFile(deliverable.size, _digests(deliverable.content_md5))


def request_headers(claim: ExpectedFile, done: int) -> dict[str, str]:
    """Ask for what is missing after so many bytes, or for all where that could not be told apart."""
    if not done or (claim.etag is None and not claim.checksums):
        return {}
    condition = {} if claim.etag is None else {"If-Match": claim.etag}
    return {"Range": f"bytes={done}-", **condition}


def whole(list_says: ExpectedFile, headers: Mapping[str, str]) -> ExpectedFile:
    """What vouches for a body that is the whole file (200). Raises DownloadError for one that is no use."""
    _refuse_encoding(headers)
    length = _length(headers)
    if None not in (length, list_says.size) and length != list_says.size:
        raise IncompleteDownloadError(f"{length} bytes are offered, {list_says.size} were announced")
    size = list_says.size if length is None else length
    checksums = list_says.checksums | _digests(headers.get("Content-MD5"), headers.get(_WHOLE_MD5))
    etag = headers.get("ETag", "")
    if size is None and not checksums:
        raise IncompleteDownloadError("neither a length nor a checksum tells where the file ends")
    if list_says == ExpectedFile() and not checksums and not etag:
        raise IncompleteDownloadError("neither an ETag nor a checksum tells that blob storage answered")
    return ExpectedFile(size, checksums, etag if _STRONG.fullmatch(etag) else None)


def rest(claim: ExpectedFile, done: int, headers: Mapping[str, str]) -> ExpectedFile | None:
    """What vouches for the file with this part (206) in it; None where it is no part that fits."""
    _refuse_encoding(headers)
    found = _PART.fullmatch(headers.get("Content-Range", ""))
    if found is None or (claim.etag is not None and headers.get("ETag") != claim.etag):
        return None
    start, last, size = map(int, found.groups())
    fits = start == done <= last < size and claim.size in (None, size)
    if not fits or _length(headers) not in (None, last + 1 - start):
        return None
    # Content-MD5 would be the part's own
    return ExpectedFile(size, claim.checksums | _digests(headers.get(_WHOLE_MD5)), claim.etag)


def check_status(status: int, *, resuming: bool) -> bool:
    """Whether the body is of use: 200, or 206 where a part was asked for.

    False: what is here cannot be gone on with. Raises DownloadError for all else, IncompleteDownloadError
    where asking again may help.
    """
    if status == 200 or (resuming and status == 206):
        return True
    if resuming and status in _NOT_THIS_PART:
        return False
    passing = status in _PASSING or status == 206 or status >= 500
    kind = IncompleteDownloadError if passing else DownloadError
    raise kind(f"blob storage answered {status}", status=status)


def contradicts(before: Deliverable, now: Deliverable) -> bool:
    """Whether a list that was read again tells of another file."""
    pairs = ((before.size, now.size), (before.content_md5, now.content_md5))
    return any(None not in pair and pair[0] != pair[1] for pair in pairs)


def _refuse_encoding(headers: Mapping[str, str]) -> None:
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise DownloadError("blob storage sent an encoding that was not asked for")


def _length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _digests(*checksums: str | None) -> frozenset[bytes]:
    return frozenset(_digest(one) for one in checksums if one)


def _digest(checksum: str) -> bytes:
    try:
        return base64.b64decode(checksum, validate=True)
    except (binascii.Error, ValueError):
        return b""  # not a checksum: nothing matches it


# --- Where it is, and until when -----------------------------------------------------------------
