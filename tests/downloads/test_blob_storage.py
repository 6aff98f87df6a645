"""What blob storage's answers mean, as data."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import Deliverable, DownloadError, IncompleteDownloadError
from jarai_async._downloads.blob_storage import (
    ExpectedFile,
    check_status,
    contradicts,
    listed,
    request_headers,
    rest,
    whole,
)
from jarai_async._urls import is_public, valid_until

SIZES = st.integers(0, 4)  # so few that they often fit


@given(start=SIZES, last=SIZES, size=SIZES, done=st.integers(1, 4), known=SIZES, length=SIZES)
def test_a_part_fits_only_where_it_begins_at_what_is_here(
    *, start: int, last: int, size: int, done: int, known: int, length: int
) -> None:
    """And is as long as it says, of a file as long as the one that was begun."""
    headers = {"Content-Range": f"bytes {start}-{last}/{size}", "Content-Length": str(length)}
    fits = start == done and last < size == known and length == last + 1 - start > 0
    assert (rest(ExpectedFile(known), done, headers) is not None) == fits


@pytest.mark.parametrize(
    "text", ["", "bytes */10", "bytes 5-9/*", "bytes 5-9", "items 5-9/10", "bytes 5-9/10, 5-9/10", "x" * 9]
)
def test_a_part_that_does_not_say_what_it_is_fits_nothing(text: str) -> None:
    """Nor one whose ETag is another, or missing."""
    assert rest(ExpectedFile(10), 5, {"Content-Range": text}) is None
    good = {"Content-Range": "bytes 5-9/10"}
    assert rest(ExpectedFile(10), 5, good) == ExpectedFile(10)
    assert rest(ExpectedFile(10, etag='"a"'), 5, good) is None
    assert rest(ExpectedFile(10, etag='"a"'), 5, good | {"ETag": '"b"'}) is None
    assert rest(ExpectedFile(10, etag='"a"'), 5, good | {"ETag": '"a"'}) == ExpectedFile(10, etag='"a"')


def test_every_checksum_counts_and_what_is_none_matches_nothing() -> None:
    """Of the list, and of storage by either name; beside a part only that of the whole."""
    one, two, three = (base64.b64encode(bytes([n] * 16)).decode() for n in (1, 2, 3))
    claim = whole(
        listed(Deliverable("Video", content_md5=one)), {"Content-MD5": two, "x-ms-blob-content-md5": "?"}
    )
    assert claim.checksums == {bytes([1] * 16), bytes([2] * 16), b""}
    headers = {"Content-Range": "bytes 5-9/10", "Content-MD5": two, "x-ms-blob-content-md5": three}
    part = rest(claim, 5, headers)
    assert part is not None
    assert part.checksums == claim.checksums | {bytes([3] * 16)}


@pytest.mark.parametrize("etag", ['W/"a"', "a", '"a', '"a"b"', '"a\r\nX: y"', '"ä"'])
def test_only_a_strong_etag_is_sent_back(etag: str) -> None:
    """Any other proves nothing, or might even be a header of its own."""
    claim = whole(ExpectedFile(), {"Content-Length": "9", "ETag": etag})
    assert claim.etag is None
    assert request_headers(claim, 5) == {}


@given(status=st.integers(100, 599), resuming=st.booleans())
def test_a_status_is_used_tried_again_or_an_error(*, status: int, resuming: bool) -> None:
    """And an error is never taken for a file."""
    if status == 200 or (resuming and status in (206, 412, 416)):
        assert check_status(status, resuming=resuming) == (status in (200, 206))
        return
    with pytest.raises(DownloadError) as caught:
        check_status(status, resuming=resuming)
    assert caught.value.status == status
    passing = status in (206, 408, 429) or status >= 500
    assert isinstance(caught.value, IncompleteDownloadError) == passing


def test_a_list_contradicts_only_what_it_said_before() -> None:
    """Where it said nothing, anything may follow."""
    before = Deliverable("Video", size=5)
    assert not contradicts(before, Deliverable("Video", content_md5="x"))
    assert not contradicts(before, Deliverable("Video", size=5))
    assert contradicts(before, Deliverable("Video", size=6))


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("9.9.9.9", True),
        ("2620:fe::fe", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),  # noqa: S104  # it is refused
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:9.9.9.9", True),
        ("2002:7f00:1::", False),
        ("localhost", False),
        ("", False),
    ],
)
def test_an_address_is_public_or_not(address: str, *, public: bool) -> None:
    """In either notation, also where one is hidden in the other."""
    assert is_public(address) == public


@pytest.mark.parametrize(
    ("url", "moment"),
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
def test_a_link_says_when_it_ends_or_not(url: str, moment: float | None) -> None:
    """As blob storage writes it, in UTC."""
    assert valid_until(url) == moment


@given(st.text(max_size=30))
def test_no_link_is_too_odd_to_be_read(text: str) -> None:
    """It has an end, or none."""
    assert valid_until(f"https://x/?se={text}") is None or text
