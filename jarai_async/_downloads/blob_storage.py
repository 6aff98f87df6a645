"""What the response headers of blob storage mean for a download.

A file's size and checksum come from the list of deliverables (inferred) or from blob storage. Azure sends
`Content-Length` and `ETag`, and the MD5 of the complete file if the blob has one: as `Content-MD5` in a full
response, as `x-ms-blob-content-md5` in a partial one. S3, or a CDN in front of the storage, may send less. A
file is verified by its checksums, or else by its announced length, or else by the end of a chunked body. A
checksum whose algorithm is a guess counts if it matches, or if nothing else shows that the file is complete.
A body that ends with the connection, without a length or a checksum, is rejected: it may have been cut short.
So is an HTML page that nothing announced: it may be a gateway's sign-in page with status 200.

A download is resumed only if a strong ETag or a checksum can show that both halves belong to the same file.
The ETag is sent in `If-Match`, and the partial response is still checked: popular clients that trusted every
206 have joined halves of two different files.

A file may be stored in an encoding such as gzip. It is kept as it is sent; `SavedFile.content_encoding` names
the encoding.
"""

import re
from collections.abc import Mapping

from attrs import evolve, frozen

from jarai_async._api.models import Deliverable
from jarai_async._api.responses import retry_after_header
from jarai_async._downloads.checksums import Checksum, from_headers, from_list
from jarai_async._errors import DownloadError, IncompleteDownloadError
from jarai_async._urls import url_parts

_TRANSIENT = (206, 408, 429)  # and 5xx: a later attempt may succeed (206 if no range was requested)
_RESUME_STATUSES = (206, 412, 416)  # the missing bytes; a different ETag; a different length
MAX_WAIT = 300.0
"""The longest time in seconds for which a server that names one is waited for, before the next attempt."""
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]*"')
_ENCODINGS = ("gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress", "dcb", "dcz")
_HTML_NAME = re.compile(r"\.x?html?$", re.IGNORECASE)


@frozen
class ExpectedFile:
    """What is known of a complete file: size in bytes, checksums, a strong ETag with its quotes, encoding."""

    size: int | None = None
    checksums: frozenset[Checksum] = frozenset()
    etag: str | None = None
    encoding: str = ""

    @property
    def verified_by(self) -> str:
        """What shows that a file that fits is complete, as in `SavedFile.verified_by`."""
        if self.checksums:
            return max(self.checksums, key=lambda checksum: len(checksum.digest)).algorithm
        return "chunks" if self.size is None else "length"


def expected_from_list(deliverable: Deliverable) -> ExpectedFile:
    """Return what the list of deliverables says about a file."""
    return ExpectedFile(deliverable.size, from_list(deliverable))


def request_headers(expected: ExpectedFile, offset: int) -> dict[str, str]:
    """Return the headers that request the bytes from `offset` on: none if it is unsafe to resume."""
    if not offset or (expected.etag is None and all(checksum.is_guess for checksum in expected.checksums)):
        return {}
    condition = {} if expected.etag is None else {"If-Match": expected.etag}
    return {"Range": f"bytes={offset}-", **condition}


def expected_from_full_response(deliverable: Deliverable, headers: Mapping[str, str]) -> ExpectedFile:
    """Combine the list with the headers of a full response (200). Raises DownloadError if it is unusable."""
    listed = expected_from_list(deliverable)
    length = _content_length(headers)
    if None not in (length, listed.size) and length != listed.size:
        raise IncompleteDownloadError(
            f"blob storage offers {length} bytes, but {listed.size} were announced by the list"
        )
    etag = headers.get("ETag", "")
    expected = ExpectedFile(
        size=listed.size if length is None else length,
        checksums=listed.checksums | from_headers(headers, is_complete=True),
        etag=etag if _STRONG_ETAG.fullmatch(etag) else None,
        encoding=_encoding(headers),
    )
    doubt = _doubt(deliverable, expected, headers)
    if doubt and all(checksum.is_guess for checksum in expected.checksums):
        if not expected.checksums:
            raise IncompleteDownloadError(doubt)
        return evolve(
            expected, checksums=frozenset(evolve(guess, is_guess=False) for guess in expected.checksums)
        )
    return expected


def _doubt(deliverable: Deliverable, expected: ExpectedFile, headers: Mapping[str, str]) -> str | None:
    """Return why only a checksum could show that the file is complete, and the deliverable."""
    if expected.size is None and headers.get("Transfer-Encoding", "").lower() != "chunked":
        return "neither a length nor a checksum shows where the file ends"
    if deliverable.size is None and "ETag" not in headers and _may_be_a_page(deliverable, headers):
        return "the response may be a gateway's web page: it has no ETag or checksum"
    return None


def expected_from_partial_response(
    expected: ExpectedFile, offset: int, headers: Mapping[str, str]
) -> ExpectedFile | None:
    """Add the headers of a partial response (206); None if it does not continue the file at `offset`."""
    content_range = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if content_range is None or (expected.etag is not None and headers.get("ETag") != expected.etag):
        return None
    start, last, size = map(int, content_range.groups())
    fits = start == offset <= last < size and expected.size in (None, size)
    if not fits or _content_length(headers) not in (None, last + 1 - start):
        return None
    if _encoding(headers) != expected.encoding:
        return None
    checksums = from_headers(headers, is_complete=False)
    return evolve(expected, size=size, checksums=expected.checksums | checksums)


def check_status(status: int, headers: Mapping[str, str], *, resuming: bool) -> None:
    """Accept 200, and when resuming also 206, 412 and 416.

    Any other status raises DownloadError: IncompleteDownloadError if a later attempt may succeed, not before
    the time in `Retry-After`, which counts up to five minutes.
    """
    if status == 200 or (resuming and status in _RESUME_STATUSES):
        return
    transient = status in _TRANSIENT or status >= 500
    kind = IncompleteDownloadError if transient else DownloadError
    wait = min(MAX_WAIT, retry_after_header(headers) or 0.0) or None
    raise kind(f"blob storage responded with status {status}", status=status, retry_after=wait)


def is_refusal(status: int, *, resuming: bool) -> bool:
    """Return whether blob storage rejects the signed URL itself: it has expired, or is not valid yet."""
    is_about_file = resuming and status in _RESUME_STATUSES
    return 400 <= status < 500 and status not in _TRANSIENT and not is_about_file


def is_replaced(before: Deliverable, now: Deliverable) -> bool:
    """Return whether a list that was read again describes a different file."""
    pairs = ((before.size, now.size), (before.content_md5, now.content_md5))
    return any(None not in pair and pair[0] != pair[1] for pair in pairs)


def _encoding(headers: Mapping[str, str]) -> str:
    """Return the content encodings, "" for none. Other text there, such as "utf-8", is none."""
    values = [value for name, value in headers.items() if name.lower() == "content-encoding"]
    encodings = [part.strip().lower() for part in ",".join(values).split(",")]
    return ", ".join(encoding for encoding in encodings if encoding in _ENCODINGS)


def _may_be_a_page(deliverable: Deliverable, headers: Mapping[str, str]) -> bool:
    """Whether the response is an HTML page although the deliverable does not seem to be one."""
    names = (deliverable.file_name or "", url_parts(deliverable.url).path)
    announced = "html" in (deliverable.content_type or "") or any(map(_HTML_NAME.search, names))
    return "html" in headers.get("Content-Type", "").lower() and not announced


def _content_length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None
