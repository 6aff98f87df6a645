"""What the response headers of blob storage mean for a download.

A file's size and checksum come from the list of deliverables (inferred) or from blob storage. Azure always
sends `Content-Length` and `ETag`, and the MD5 of the complete file if the blob has one: as `Content-MD5` in a
full response, as `x-ms-blob-content-md5` in a partial one. A response without length and checksum was
therefore altered on the way, and nothing would show that it was also cut short. A response without ETag and
checksum may be a gateway's sign-in page with status 200. Both are rejected unless the list gives a size or a
checksum.

A download is resumed only if a strong ETag or a checksum can show that both halves belong to the same file.
The ETag is sent in `If-Match`, and the partial response is still checked: popular clients that trusted every
206 have joined halves of two different files.
"""

import base64
import binascii
import re
from collections.abc import Mapping

from attrs import frozen

from jarai_async._api.models import Deliverable
from jarai_async._errors import DownloadError, IncompleteDownloadError

_TRANSIENT = (206, 408, 429)  # and 5xx: a later attempt may succeed (206 if no range was requested)
_RESUME_STATUSES = (206, 412, 416)  # the missing bytes; a different ETag; a different length
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]*"')
_BLOB_MD5 = "x-ms-blob-content-md5"


@frozen
class ExpectedFile:
    """What is known of a complete file: size in bytes, MD5 digests, and a strong ETag with its quotes."""

    size: int | None = None
    checksums: frozenset[bytes] = frozenset()
    etag: str | None = None


def expected_from_list(deliverable: Deliverable) -> ExpectedFile:
    """Return what the list of deliverables says about a file."""
    return ExpectedFile(deliverable.size, _digests(deliverable.content_md5))


def request_headers(expected: ExpectedFile, offset: int) -> dict[str, str]:
    """Return the headers that request the bytes from `offset` on: none if it is unsafe to resume."""
    if not offset or (expected.etag is None and not expected.checksums):
        return {}
    condition = {} if expected.etag is None else {"If-Match": expected.etag}
    return {"Range": f"bytes={offset}-", **condition}


def expected_from_full_response(listed: ExpectedFile, headers: Mapping[str, str]) -> ExpectedFile:
    """Combine the list with the headers of a full response (200). Raises DownloadError if it is unusable."""
    _reject_encoding(headers)
    length = _content_length(headers)
    if None not in (length, listed.size) and length != listed.size:
        raise IncompleteDownloadError(
            f"blob storage offers {length} bytes, but {listed.size} were announced by the list"
        )
    size = listed.size if length is None else length
    checksums = listed.checksums | _digests(headers.get("Content-MD5"), headers.get(_BLOB_MD5))
    etag = headers.get("ETag", "")
    if size is None and not checksums:
        raise IncompleteDownloadError("neither a length nor a checksum shows where the file ends")
    if listed == ExpectedFile() and not checksums and not etag:
        raise IncompleteDownloadError(
            "neither an ETag nor a checksum shows that the response is from blob storage"
        )
    return ExpectedFile(size, checksums, etag if _STRONG_ETAG.fullmatch(etag) else None)


def expected_from_partial_response(
    expected: ExpectedFile, offset: int, headers: Mapping[str, str]
) -> ExpectedFile | None:
    """Add the headers of a partial response (206); None if it does not continue the file at `offset`."""
    _reject_encoding(headers)
    content_range = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if content_range is None or (expected.etag is not None and headers.get("ETag") != expected.etag):
        return None
    start, last, size = map(int, content_range.groups())
    fits = start == offset <= last < size and expected.size in (None, size)
    if not fits or _content_length(headers) not in (None, last + 1 - start):
        return None
    # Content-MD5 would be the digest of this part only
    return ExpectedFile(size, expected.checksums | _digests(headers.get(_BLOB_MD5)), expected.etag)


def check_status(status: int, *, resuming: bool) -> None:
    """Accept 200, and when resuming also 206, 412 and 416.

    Any other status raises DownloadError: IncompleteDownloadError if a later attempt may succeed.
    """
    if status == 200 or (resuming and status in _RESUME_STATUSES):
        return
    transient = status in _TRANSIENT or status >= 500
    kind = IncompleteDownloadError if transient else DownloadError
    raise kind(f"blob storage responded with status {status}", status=status)


def is_replaced(before: Deliverable, now: Deliverable) -> bool:
    """Return whether a list that was read again describes a different file."""
    pairs = ((before.size, now.size), (before.content_md5, now.content_md5))
    return any(None not in pair and pair[0] != pair[1] for pair in pairs)


def _reject_encoding(headers: Mapping[str, str]) -> None:
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise DownloadError("blob storage sent the file in an encoding that was not requested")


def _content_length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _digests(*checksums: str | None) -> frozenset[bytes]:
    return frozenset(_digest(checksum) for checksum in checksums if checksum)


def _digest(checksum: str) -> bytes:
    try:
        return base64.b64decode(checksum, validate=True)
    except (binascii.Error, ValueError):
        return b""  # malformed, so no file matches it
