"""Checksums in the forms in which storage services and lists state them."""

import base64
import hashlib

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import Deliverable
from jarai_async._downloads.checksums import Checksum, from_headers, from_list, parse

DATA = b"\xfb\xff\xbe tides"  # its digests in base64 have characters that differ in the URL-safe form
ALGORITHMS = ("md5", "sha1", "sha256", "sha384", "sha512")


def digest(algorithm: str) -> bytes:
    return hashlib.new(algorithm, DATA, usedforsecurity=False).digest()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_checksum_is_read_in_base64_and_hexadecimal(algorithm: str) -> None:
    """In any case, URL-safe, without padding, and after the name of its algorithm."""
    expected = Checksum(algorithm, digest(algorithm))
    standard = base64.b64encode(digest(algorithm)).decode()
    url_safe = base64.urlsafe_b64encode(digest(algorithm)).decode()
    hexadecimal = digest(algorithm).hex()
    for text in (standard, url_safe, hexadecimal, hexadecimal.upper()):
        assert parse(text, algorithm) == parse(text.rstrip("="), f"Content-{algorithm}") == expected
        assert parse(text, "hash") == evolve(expected, is_guess=True)
        name = algorithm.replace("sha", "sha-")
        assert (
            parse(f"{algorithm}:{text}")
            == parse(f"{name}=:{text}:")
            == parse(f"{algorithm}={text}")
            == expected
        )


@pytest.mark.parametrize("text", ["", "nope!", "abcd", "crc32c=AAAAAA==", "AAAAAAAAAAA=", "ä" * 22, "=" * 24])
def test_text_that_is_no_known_checksum_is_ignored(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize("name", ["", "md5", "sha256", "md5:", "hash"])
def test_checksum_of_another_length_than_its_name_says_is_a_guess(name: str) -> None:
    """Several algorithms have digests of this length."""
    text = digest("sha384").hex()
    expected = Checksum("sha384", digest("sha384"), is_guess=True)
    assert (parse(name + text) if name.endswith(":") else parse(text, name)) == expected


@given(st.text())
def test_any_text_is_a_checksum_or_ignored(text: str) -> None:
    assert parse(text) is None or parse(text)


def test_list_may_state_checksums_in_several_fields() -> None:
    """The names of the fields are inferred."""
    raw = {"contentSha256": digest("sha256").hex(), "checksum": 5, "hash": digest("md5").hex()}
    listed = Deliverable("Video", content_md5=digest("md5").hex(), raw=raw)
    md5, sha256 = (Checksum(name, digest(name)) for name in ("md5", "sha256"))
    assert from_list(listed) == {md5, sha256, evolve(md5, is_guess=True)}


def test_headers_of_azure_s3_and_google_are_read() -> None:
    """Of a partial response only those that describe the complete file."""
    md5, sha256 = (base64.b64encode(digest(name)).decode() for name in ("md5", "sha256"))
    expected = {Checksum(name, digest(name)) for name in ("md5", "sha256")}
    assert from_headers({"Content-MD5": md5, "x-amz-checksum-sha256": sha256}, is_complete=True) == expected
    assert from_headers({"Content-MD5": md5, "x-amz-checksum-sha256": sha256}, is_complete=False) == set()
    whole = {"x-goog-hash": f"crc32c=AAAAAA==, md5={md5}", "Repr-Digest": f"sha-256=:{sha256}:"}
    assert from_headers(whole, is_complete=False) == expected


def test_checksum_that_is_ignored_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    from_headers({"x-ms-content-crc64": "AAAAAAAAAAA=", "Content-MD5": "nope!"}, is_complete=True)
    assert "x-ms-content-crc64" in caplog.text
    assert "nope!" in caplog.text


def test_checksum_that_is_not_computed_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Its absence would be hard to notice; of others nothing is logged."""
    caplog.set_level("INFO", logger="jarai_async")
    assert from_headers({"x-amz-checksum-crc32": "AAAAAA=="}, is_complete=True) == frozenset()
    assert [record.args for record in caplog.records] == [("x-amz-checksum-crc32",)]
