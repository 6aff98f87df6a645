"""JSON from servers: one odd value never makes the others unreadable."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jarai_async import InvalidResponseError, Production, Status
from jarai_async._api.endpoints import fetch
from jarai_async._api.json_parser import parse_json
from tests.support.strategies import ID, json_values, response

OPTIONAL = ["accountId", "projectTypeSlug", "topic", "currentStep", "createdAt", "expiresAt"]
OPTIONAL += ["errorCode", "errorMessage", "sandbox", "progress", "status2", ""]


def body_with(field: str, value: bytes) -> bytes:
    """A status whose optional field has this text as its value; fields follow on either side."""
    return b'{"productionId": "%b", "%b": %b, "status": "Published"}' % (ID.encode(), field.encode(), value)


def status_in(body: bytes) -> Production:
    """Read a status, and check that its `raw` can be written as JSON again."""
    read = fetch(ID).read(response(body))
    json.dumps(read.raw, allow_nan=False, ensure_ascii=False).encode()
    return read


ODD: dict[str, tuple[bytes, Any]] = {
    "NaN": (b"NaN", None),
    "infinity": (b"-Infinity", None),
    "float out of range": (b"1e400", None),
    "huge integer": (b"9" * 5_000, None),
    "integer out of the range of a float": (b"1" + b"0" * 400, None),
    "lone surrogate": (rb'"a\ud800b"', "a\ufffdb"),
    "lone low surrogate before a pair": (rb'"\udc00\ud83d\ude00"', "\ufffd\U0001f600"),
    "surrogates in the wrong order": (rb'"\ude00\ud83d"', "\ufffd\ufffd"),
    "escaped backslash before u": (rb'"\\ud800 \u00e9\n"', "\\ud800 é\n"),
    "invalid UTF-8": (b'"a\xff\xc3b"', "a\ufffd\ufffdb"),
    "raw control characters": (b'"a\n\x00b"', "a\n\x00b"),
    "a name twice": (b'{"a": 1, "a": 2}', {"a": 2}),
    "brackets in text": (b'"' + b"[{" * 200 + rb'\"]"', "[{" * 200 + '"]'),
}


@pytest.mark.parametrize("field", ["currentStep", "topic", "sandbox", "createdAt", "progress"])
@pytest.mark.parametrize("name", ODD)
def test_odd_value_of_an_optional_field_does_not_hide_the_status(name: str, field: str) -> None:
    """What JSON or Unicode does not have is replaced in that value only, and kept in `raw` as safe JSON."""
    text, expected = ODD[name]
    read = status_in(body_with(field, text))
    assert read.status is Status.PUBLISHED
    assert read.raw[field] == expected


@pytest.mark.parametrize("depth", [99, 100, 1_000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_deep_nesting_does_not_hide_the_status(depth: int, opening: bytes, closing: bytes) -> None:
    """What is nested more than 100 levels deep becomes None; the value above it and its siblings stay."""
    text = opening * depth + b"1" + closing * depth
    assert status_in(body_with("progress", text)).status == "Published"
    assert status_in(body_with("topic", text)).topic is None


@given(st.sampled_from(OPTIONAL), json_values, st.sampled_from(["ascii", "utf-8"]))
@example("topic", "\ud800", "ascii")
@example("createdAt", "0001-01-01T00:00:00+23:59", "ascii")
@example("expiresAt", "9999-12-31T23:59:59-23:59", "ascii")
def test_any_value_of_an_optional_field_leaves_the_status_readable(
    field: str, value: object, encoding: str
) -> None:
    """Whatever Python's `json` can write may be in an optional field, escaped or not."""
    text = json.dumps(value, ensure_ascii=encoding == "ascii").encode("utf-8", "surrogatepass")
    assert status_in(body_with(field, text)).status == "Published"


@given(st.sampled_from(OPTIONAL), st.binary().filter(lambda text: not {*b'"\\'} & {*text}))
def test_any_bytes_in_text_leave_the_status_readable(field: str, content: bytes) -> None:
    """Bytes that are not UTF-8 become replacement characters in that text only."""
    assert status_in(body_with(field, b'"' + content + b'"')).status == "Published"


@given(st.binary() | st.text(alphabet='[]{}",:\\u1dD89').map(str.encode))
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b"]" * 1_000 + b"[" * 1_000)
@example(b'"' + b'\\"' * 100_000)
def test_any_bytes_are_parsed_or_rejected(body: bytes) -> None:
    """No input causes any other exception than ValueError, and what is parsed can be written again."""
    try:
        value = parse_json(body)
    except ValueError:
        return
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


def test_odd_bytes_in_a_required_field_are_an_error() -> None:
    """The production's id is needed, so a replacement character in it is not accepted."""
    with pytest.raises(InvalidResponseError, match=r"Production\.id"):
        status_in(body_with("x", b"1").replace(b"0b0e", b"0b\xff0e"))
