"""How the status and headers of blob storage are interpreted."""

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jarai_async import Deliverable, DownloadError, IncompleteDownloadError
from jarai_async._downloads.blob_storage import (
    ExpectedFile,
    check_status,
    expected_from_full_response,
    expected_from_partial_response,
    is_replaced,
    request_headers,
)
from jarai_async._downloads.checksums import Checksum
from jarai_async._urls import is_public, valid_until

SIZES = st.integers(0, 4)  # a small range, so that values often match


@example(start=0, last=3, size=4, offset=1, expected_size=4, length=4)
@given(start=SIZES, last=SIZES, size=SIZES, offset=st.integers(1, 4), expected_size=SIZES, length=SIZES)
def test_partial_response_must_continue_the_file_at_the_offset(
    *, start: int, last: int, size: int, offset: int, expected_size: int, length: int
) -> None:
    """Its length must match its range, and its total the expected size."""
    headers = {"Content-Range": f"bytes {start}-{last}/{size}", "Content-Length": str(length)}
    fits = start == offset and last < size == expected_size and length == last + 1 - start > 0
    expected = expected_from_partial_response(ExpectedFile(expected_size), offset, headers)
    assert (expected is not None) == fits


@pytest.mark.parametrize(
    "text", ["", "bytes */10", "bytes 5-9/*", "bytes 5-9", "items 5-9/10", "bytes 5-9/10, 5-9/10", "x" * 9]
)
def test_malformed_content_range_is_rejected(text: str) -> None:
    assert expected_from_partial_response(ExpectedFile(10), 5, {"Content-Range": text}) is None


def test_partial_response_with_another_etag_or_without_one_is_rejected() -> None:
    headers = {"Content-Range": "bytes 5-9/10"}
    expected = ExpectedFile(10, etag='"a"')
    assert expected_from_partial_response(ExpectedFile(10), 5, headers) == ExpectedFile(10)
    assert expected_from_partial_response(expected, 5, headers) is None
    assert expected_from_partial_response(expected, 5, headers | {"ETag": '"b"'}) is None
    assert expected_from_partial_response(expected, 5, headers | {"ETag": '"a"'}) == expected


def test_partial_response_with_another_encoding_is_rejected() -> None:
    """Bytes that were stored with another encoding do not continue the file."""
    headers = {"Content-Range": "bytes 5-9/10"}
    expected = ExpectedFile(10, encoding="gzip")
    assert expected_from_partial_response(expected, 5, headers) is None
    assert expected_from_partial_response(expected, 5, headers | {"Content-Encoding": "gzip"}) == expected
    assert expected_from_partial_response(ExpectedFile(10), 5, headers | {"Content-Encoding": "br"}) is None


def test_checksums_of_the_list_and_of_both_headers_are_all_required() -> None:
    """A malformed checksum is ignored. Of a partial response only the checksum of the blob counts."""
    one, two, three = (base64.b64encode(bytes([n] * 16)).decode() for n in (1, 2, 3))
    listed = Deliverable("Video", content_md5=one)
    full = expected_from_full_response(listed, {"Content-MD5": two, "x-ms-blob-content-md5": "?"})
    assert full.checksums == {Checksum("md5", bytes([n] * 16)) for n in (1, 2)}
    headers = {"Content-Range": "bytes 5-9/10", "Content-MD5": two, "x-ms-blob-content-md5": three}
    partial = expected_from_partial_response(full, 5, headers)
    assert partial is not None
    assert partial.checksums == full.checksums | {Checksum("md5", bytes([3] * 16))}


@pytest.mark.parametrize("etag", ['W/"a"', "a", '"a', '"a"b"', '"a\r\nX: y"', '"ä"'])
def test_weak_or_malformed_etag_is_not_sent_back(etag: str) -> None:
    """A weak ETag proves nothing, and a malformed one could inject a header."""
    expected = expected_from_full_response(Deliverable("Video"), {"Content-Length": "9", "ETag": etag})
    assert expected.etag is None
    assert request_headers(expected, 5) == {}


@given(status=st.integers(100, 599), resuming=st.booleans())
def test_status_is_accepted_or_raises_a_retryable_or_final_error(*, status: int, resuming: bool) -> None:
    if status == 200 or (resuming and status in (206, 412, 416)):
        check_status(status, {}, resuming=resuming)
        return
    with pytest.raises(DownloadError) as caught:
        check_status(status, {}, resuming=resuming)
    assert caught.value.status == status
    transient = status in (206, 408, 429) or status >= 500
    assert isinstance(caught.value, IncompleteDownloadError) == transient


def test_list_describes_a_replaced_file_if_a_known_size_or_checksum_changed() -> None:
    """A size or checksum that the list did not give before may have any value."""
    before = Deliverable("Video", size=5)
    assert not is_replaced(before, Deliverable("Video", content_md5="x"))
    assert not is_replaced(before, Deliverable("Video", size=5))
    assert is_replaced(before, Deliverable("Video", size=6))


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("9.9.9.9", True),
        ("2620:fe::fe", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),  # noqa: S104  # it is rejected
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:9.9.9.9", True),
        ("2002:7f00:1::", False),
        ("2002:909:909::1", False),
        ("::127.0.0.1", False),
        ("::9.9.9.9", False),
        ("64:ff9b::169.254.169.254", False),
        ("64:ff9b::9.9.9.9", True),
        ("64:ff9b:1::9.9.9.9", False),
        ("::ffff:0:9.9.9.9", False),
        ("2001:0:909:909::1", False),
        ("fec0::1", False),
        ("ff0e::1", False),
        ("4000::1", False),
        ("168.63.129.16", False),
        ("localhost", False),
        ("", False),
    ],
)
def test_private_addresses_are_recognised(address: str, *, public: bool) -> None:
    """In IPv4 and IPv6, and as an IPv4 address inside an IPv6 one."""
    assert is_public(address) == public


@pytest.mark.parametrize(
    ("url", "expires"),
    [
        ("https://x/?se=2026-01-01T10%3A00%3A00Z&sig=x", 1767261600.0),
        ("https://x/?se=2026-01-01T10:00:00", 1767261600.0),
        ("https://x/?se=2026-01-01", 1767225600.0),
        ("https://x/?se=soon", None),
        ("https://x/?se=", None),
        ("https://x/", None),
        ("https://[x/?se=2026-01-01", None),
    ],
)
def test_signed_url_expiry_is_read_from_its_query(url: str, expires: float | None) -> None:
    """From Azure's `se` parameter, in UTC."""
    assert valid_until(url) == expires


@given(st.text(max_size=30))
def test_malformed_expiry_never_raises(text: str) -> None:
    assert valid_until(f"https://x/?se={text}") is None or text
