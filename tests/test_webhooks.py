"""Webhooks verified and read: what JARAI signed becomes an event, all else one error."""

import base64
import json
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from jarai_async import ConfigurationError, WebhookVerificationError
from jarai_async.webhooks import (
    DeliverableReady,
    ProductionFailed,
    ProductionPublished,
    ProductionQueued,
    StepCompleted,
    WebhookEvent,
    WebhookTest,
    sign,
    verify,
)
from tests.support.deliveries import SECOND_SECRET, SECRET, body, envelope
from tests.support.strategies import HOSTILE_BODIES, ID, json_values

NAME = "X-JARAI-Signature"


def signature(content: bytes, secret: str = SECRET) -> str:
    return sign(content, secret)[NAME]


# --- What JARAI signed ------------------------------------------------------------------------------


def test_the_signature_is_the_one_that_is_documented() -> None:
    """HMAC-SHA256 under the decoded secret, in hexadecimal: the figure is `openssl`'s."""
    secret = base64.urlsafe_b64encode(b"0123456789abcdef").decode()
    known = "1c76fbb930d3aa8b1633728fae212c68ca68a6752bb319b98be6fe17e86cf5b8"
    assert sign(b'{"a":1}', secret) == {NAME: f"sha256={known}"}


def test_an_event_is_read_whole() -> None:
    """The envelope becomes attributes; what is not known is kept."""
    content = body("production.published", extra=[1], data={"views": 0})
    event = verify(content, sign(content, SECRET), SECRET)
    assert type(event) is ProductionPublished
    assert attrs.asdict(event, filter=lambda one, _: one.name != "raw") == {
        "event_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
        "event_type": "production.published",
        "production_id": ID,
        "account_id": "5d8f6a10-0d5c-4a55-9a86-fedcba987654",
        "sequence_number": 17,
        "timestamp": datetime(2026, 1, 1, 9, tzinfo=UTC),
        "correlation_id": "c-1",
        "truncated": False,
    }
    assert event.raw["extra"] == [1]
    assert event.data == {"views": 0}


@pytest.mark.parametrize(
    ("event_type", "data", "kind", "details"),
    [
        (
            "production.queued",
            {"status": "Queued", "expiresAt": "2026-01-01T09:10:00Z"},
            ProductionQueued,
            {"status": "Queued", "expires_at": datetime(2026, 1, 1, 9, 10, tzinfo=UTC)},
        ),
        ("production.queued", {"status": 5, "expiresAt": "soon"}, ProductionQueued, {"status": None}),
        ("production.queued", None, ProductionQueued, {"status": None, "expires_at": None}),
        ("production.step.complete", {"step": 3}, StepCompleted, {"step": 3}),
        ("production.failed", {"errorCode": "X"}, ProductionFailed, {"error_code": "X"}),
        ("deliverable.ready", {"deliverables": []}, DeliverableReady, {"data": {"deliverables": []}}),
        ("webhook.test", ["odd"], WebhookTest, {"data": {}}),
        ("production.rendered", {"frames": 3}, WebhookEvent, {"data": {"frames": 3}}),
    ],
)
def test_each_type_has_its_class(
    event_type: str, data: Any, kind: type[WebhookEvent], details: Mapping[str, Any]
) -> None:
    """What is known of `data` is an attribute, None where it is odd; an unknown type is open."""
    content = body(event_type, data=data)
    event = verify(content, sign(content, SECRET), SECRET)
    assert type(event) is kind
    assert {name: getattr(event, name) for name in details} == details


def test_details_come_from_data_only() -> None:
    """A field of the same name beside `data` is not taken for one inside of it, nor the other way round."""
    content = body("production.failed", errorCode="outside", data={"eventId": "x", "sequenceNumber": 1})
    event = verify(content, sign(content, SECRET), SECRET)
    assert isinstance(event, ProductionFailed)
    assert (event.error_code, event.sequence_number) == (None, 17)
    assert event.raw == json.loads(content)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-jarai-signature": signature(body())},
        {"X-JARAI-SIGNATURE": signature(body())},
        {NAME: "sha256=" + signature(body())[7:].upper()},
        CIMultiDict({NAME: signature(body()), "Host": "x"}),
        {b"x": "y", NAME: signature(body())},
    ],
    ids=["lower", "upper", "upper digits", "multidict", "bytes"],
)
def test_the_header_is_found(headers: Mapping[str, str]) -> None:
    """Names of headers have no case, nor have hexadecimal digits."""
    assert verify(body(), headers, SECRET).production_id == ID


def test_one_of_several_secrets_is_enough() -> None:
    """While one replaces the other, both are valid, in any order."""
    for used in (SECRET, SECOND_SECRET):
        for known in ([SECRET, SECOND_SECRET], (SECOND_SECRET, SECRET), [used]):
            assert verify(body(), sign(body(), used), known).production_id == ID
    with pytest.raises(WebhookVerificationError):
        verify(body(), sign(body(), SECRET), [SECOND_SECRET])


@given(json_values, st.text(max_size=20))
def test_whatever_is_signed_is_an_event_or_an_error(data: Any, event_type: str) -> None:
    """Data of any shape, under any type."""
    content = json.dumps(envelope(event_type, data=data)).encode()
    try:
        event = verify(content, sign(content, SECRET), SECRET)
    except WebhookVerificationError:
        assert event_type == "" or "NaN" in content.decode() or "Infinity" in content.decode()
    else:
        assert event.event_type == event_type


# --- What it did not --------------------------------------------------------------------------------

WRONG: dict[str, Mapping[Any, Any]] = {
    "none": {},
    "empty": {NAME: ""},
    "no scheme": {NAME: signature(body())[7:]},
    "another scheme": {NAME: "sha1=" + signature(body())[7:]},
    "upper scheme": {NAME: "SHA256=" + signature(body())[7:]},
    "short": {NAME: signature(body())[:-2]},
    "long": {NAME: signature(body()) + "00"},
    "space before": {NAME: " " + signature(body())},
    "line end": {NAME: signature(body()) + "\n"},
    "a list": {NAME: f"{signature(body())},{signature(body())}"},
    "twice": CIMultiDict([(NAME, signature(body())), (NAME, signature(body()))]),
    "twice, in two cases": {NAME: signature(body()), NAME.lower(): signature(body())},
    "not ASCII": {NAME: "sha256=" + "é" * 64},
    "other digits": {NAME: "sha256=" + "\u0663" * 64},
    "a surrogate": {NAME: "sha256=" + "\udcff" * 64},
    "bytes": {NAME: signature(body()).encode()},
    "values": {NAME: [signature(body())]},
    "nothing": {NAME: None},
    "of another body": {NAME: signature(b"{}")},
    "by another secret": {NAME: signature(body(), SECOND_SECRET)},
    "zeros": {NAME: "sha256=" + "0" * 64},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_signature_is_refused(name: str) -> None:
    """Each is one error, that names neither secret nor signature."""
    with pytest.raises(WebhookVerificationError) as caught:
        verify(body(), WRONG[name], SECRET)
    assert caught.value.__context__ is None
    assert signature(body())[7:] not in str(caught.value)


@pytest.mark.parametrize("name", HOSTILE_BODIES)
def test_nothing_is_read_before_it_is_verified(name: str) -> None:
    """A body that is no event has the same error, after a signature that fits and after one that does not."""
    content = HOSTILE_BODIES[name]
    with pytest.raises(WebhookVerificationError, match="signature does not fit"):
        verify(content, sign(content, SECOND_SECRET), SECRET)
    with pytest.raises(WebhookVerificationError, match="not an event"):
        verify(content, sign(content, SECRET), SECRET)


@pytest.mark.parametrize(
    "fields",
    [
        {"eventId": "x"},
        {"eventId": None},
        {"eventType": 5},
        {"eventType": None},
        {"productionId": f"{ID}/../x"},
        {"accountId": []},
        {"sequenceNumber": "1"},
        {"sequenceNumber": 1.0},
        {"sequenceNumber": True},
        {"sequenceNumber": -1},
        {"sequenceNumber": 2**53},
        {"sequenceNumber": 10**30},
        {"timestamp": "yesterday"},
        {"timestamp": 0},
    ],
    ids=str,
)
def test_an_envelope_that_is_not_as_documented_is_refused(fields: Mapping[str, Any]) -> None:
    """Who relies on these needs them to be what they are said to be."""
    content = body(**fields)
    with pytest.raises(WebhookVerificationError, match="not an event"):
        verify(content, sign(content, SECRET), SECRET)


headers = st.dictionaries(
    st.sampled_from([NAME, NAME.lower(), "Host"]) | st.text(max_size=9) | st.none() | st.binary(max_size=3),
    st.text(max_size=90)
    | st.binary(max_size=9)
    | st.none()
    | st.integers()
    | st.from_regex(r"sha256=[0-9a-fA-F]{64}", fullmatch=True),
)


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()), headers)
def test_whatever_comes_is_refused(content: bytes, headers: Mapping[str, str]) -> None:
    """Any bytes with any headers: one error."""
    with pytest.raises(WebhookVerificationError):
        verify(content, headers, [SECRET, SECOND_SECRET])


@pytest.mark.parametrize("content", ["{}", None, {"a": 1}])
def test_only_raw_bytes_are_verified(content: Any) -> None:
    """What was parsed cannot be verified: that is a mistake in the program, and said at once."""
    with pytest.raises(TypeError, match="raw bytes"):
        verify(content, sign(body(), SECRET), SECRET)


# --- Secrets ----------------------------------------------------------------------------------------

BAD_SECRETS: dict[str, Any] = {
    "empty": "",
    "short": "AAECAwQFBgc",
    "junk in it": "AAEC*AwQFBgcICQoLDA0ODxAREhM",
    "standard base64": "AAEC+wQFBgcICQoLDA0ODxAREhM/",
    "space": "AAECAwQFBgcICQoLDA0ODxAREhM ",
    "line end": SECRET + "\n",
    "too much padding": SECRET + "==",
    "impossible length": SECRET + "AA",
    "not ASCII": "é" * 30,
    "bytes": SECRET.encode(),
    "none of them": [],
    "one of them": [SECRET, "x"],
    "not text": [None],
}


@pytest.mark.parametrize("name", BAD_SECRETS)
def test_a_bad_secret_is_named_and_not_shown(name: str) -> None:
    """Neither by the error, nor by a crash reporter that prints the local names of our frames."""
    secret: str | Sequence[str] = BAD_SECRETS[name]
    calls: list[Callable[[], object]] = [
        lambda: verify(body(), {}, secret),
        lambda: sign(body(), secret),  # type: ignore[arg-type]  # nor with several
    ]
    for call in calls:
        with pytest.raises(ConfigurationError, match="base64url") as caught:
            call()
        assert_not_shown(caught.value, *([secret] if isinstance(secret, str) and secret else []))


def test_an_error_does_not_show_the_secret() -> None:
    """As above, of a good one."""
    for content in (b"[]", body()):
        with pytest.raises(WebhookVerificationError) as caught:
            verify(content, sign(b"[]", SECRET), SECRET)
        decoded = base64.urlsafe_b64decode(SECRET + "=")
        assert_not_shown(caught.value, SECRET, repr(decoded), repr(decoded)[2:-1])


def assert_not_shown(error: BaseException, *secrets: str) -> None:
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [frame.locals or {} for frame in report.stack if "jarai_async" in frame.filename]
    assert frames
    shown = [value for frame in frames for value in frame.values()]
    for secret in secrets:
        assert secret not in "".join([*shown, str(error), repr(error)])


# --- The fuzzer -------------------------------------------------------------------------------------


def test_the_fuzzer_finds_nothing() -> None:
    """A short run of the benchmark: no forged one accepted, no other exception."""
    script = Path(__file__).parents[1] / "benchmarks" / "verify.py"
    found = subprocess.run(
        [sys.executable, script, "--inputs", "5000"], capture_output=True, text=True, check=True
    ).stdout
    assert "MISSED" not in found
    assert found.count(" met") == 2
