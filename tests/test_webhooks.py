"""Verifying webhooks: a request that JARAI signed becomes an event, any other raises one error."""

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
from jarai_async._api.models import NIL_ID
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
KEY = repr(base64.urlsafe_b64decode(SECRET + "="))
DECODED = (KEY, KEY[2:-1])


def signature(content: bytes, secret: str = SECRET) -> str:
    return sign(content, secret)[NAME]


# --- Valid requests --------------------------------------------------------------------------------


def test_signature_is_computed_as_documented() -> None:
    """HMAC-SHA256 keyed with the decoded secret, in hexadecimal. The expected value is from `openssl`."""
    secret = base64.urlsafe_b64encode(b"0123456789abcdef").decode()
    expected = "1c76fbb930d3aa8b1633728fae212c68ca68a6752bb319b98be6fe17e86cf5b8"
    assert sign(b'{"a":1}', secret) == {NAME: f"sha256={expected}"}


def test_every_field_of_an_event_is_decoded() -> None:
    """The envelope becomes attributes, and `raw` keeps unknown fields."""
    content = body("production.published", extra=[1], data={"views": 0})
    event = verify(content, sign(content, SECRET), SECRET)
    assert type(event) is ProductionPublished
    assert attrs.asdict(event, filter=lambda attribute, _: attribute.name != "raw") == {
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
    ("event_type", "data", "event_class", "details"),
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
def test_each_event_type_has_a_class(
    event_type: str, data: Any, event_class: type[WebhookEvent], details: Mapping[str, Any]
) -> None:
    """Known fields of `data` are attributes, None if invalid; an unknown type is a plain event."""
    content = body(event_type, data=data)
    event = verify(content, sign(content, SECRET), SECRET)
    assert type(event) is event_class
    assert {name: getattr(event, name) for name in details} == details


def test_fields_of_data_are_not_read_from_the_envelope() -> None:
    """A field of the envelope is not taken for one of `data` with the same name, or vice versa."""
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
def test_signature_header_is_case_insensitive(headers: Mapping[str, str]) -> None:
    """The case of the header name and of the hexadecimal digits does not matter."""
    assert verify(body(), headers, SECRET).production_id == ID


def test_signature_of_one_of_several_secrets_is_enough() -> None:
    """While one secret replaces another, both are valid, in any order."""
    for used in (SECRET, SECOND_SECRET):
        for secrets in ([SECRET, SECOND_SECRET], (SECOND_SECRET, SECRET), [used]):
            assert verify(body(), sign(body(), used), secrets).production_id == ID
    with pytest.raises(WebhookVerificationError):
        verify(body(), sign(body(), SECRET), [SECOND_SECRET])


@given(json_values, st.text(max_size=20))
def test_any_signed_envelope_is_an_event(data: Any, event_type: str) -> None:
    """`data` may be any JSON value, and the event type any text."""
    content = json.dumps(envelope(event_type, data=data)).encode()
    event = verify(content, sign(content, SECRET), SECRET)
    assert event.event_type == event_type.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert event.production_id == ID or event.event_type == ""


@pytest.mark.parametrize(
    ("name", "attribute", "default", "unreadable"),
    [
        ("eventId", "event_id", NIL_ID, ["x", None, 5]),
        ("accountId", "account_id", NIL_ID, [[], None]),
        ("sequenceNumber", "sequence_number", 0, ["1", 1.5, True, -1, 2**53, 10**30, None]),
        ("timestamp", "timestamp", None, ["yesterday", 0, None]),
    ],
)
def test_unreadable_field_of_a_signed_event_has_a_default(
    name: str, attribute: str, default: object, unreadable: list[object]
) -> None:
    """Type and production can still be read, so that the production can be polled."""
    for odd in unreadable:
        content = body(**{name: odd})
        event = verify(content, sign(content, SECRET), SECRET)
        assert type(event) is ProductionPublished
        assert getattr(event, attribute) == default
        assert event.production_id == ID
        assert event.raw == json.loads(content)


@pytest.mark.parametrize("event_type", ["production.published", "deliverable.ready", "partner.suspended"])
@pytest.mark.parametrize("odd", [None, 5, f"{ID}/../x"])
def test_signed_event_without_a_production_is_a_plain_event(event_type: str, odd: object) -> None:
    """It is about no production that can be read. An event of a subclass always has one."""
    content = body(event_type, productionId=odd, data={"reason": "unpaid"})
    event = verify(content, sign(content, SECRET), SECRET)
    assert type(event) is WebhookEvent
    assert (event.event_type, event.production_id) == (event_type, NIL_ID)
    assert event.data == {"reason": "unpaid"}


@pytest.mark.parametrize("name", HOSTILE_BODIES)
def test_signed_body_that_is_no_event_is_an_event_without_a_type(name: str) -> None:
    """What JARAI signed does not raise, whatever it is."""
    content = HOSTILE_BODIES[name]
    event = verify(content, sign(content, SECRET), SECRET)
    assert type(event) is WebhookEvent
    assert (event.event_type, event.production_id, event.timestamp) == ("", NIL_ID, None)


# --- Invalid requests ------------------------------------------------------------------------------

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
def test_wrong_signature_is_rejected(name: str) -> None:
    """The error shows neither the secret nor the expected signature."""
    with pytest.raises(WebhookVerificationError) as caught:
        verify(body(), WRONG[name], SECRET)
    assert caught.value.__context__ is None
    assert signature(body())[7:] not in str(caught.value)


@pytest.mark.parametrize("name", HOSTILE_BODIES)
def test_body_is_not_parsed_before_it_is_verified(name: str) -> None:
    """A hostile body with a wrong signature gets the error of the signature, not one of the body."""
    content = HOSTILE_BODIES[name]
    with pytest.raises(WebhookVerificationError, match="signature does not match"):
        verify(content, sign(content, SECOND_SECRET), SECRET)


headers = st.dictionaries(
    st.sampled_from([NAME, NAME.lower(), "Host"]) | st.text(max_size=9) | st.none() | st.binary(max_size=3),
    st.text(max_size=90)
    | st.binary(max_size=9)
    | st.none()
    | st.integers()
    | st.from_regex(r"sha256=[0-9a-fA-F]{64}", fullmatch=True),
)


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()), headers)
def test_any_unsigned_request_is_rejected(content: bytes, headers: Mapping[str, str]) -> None:
    """Any bytes with any headers raise WebhookVerificationError."""
    with pytest.raises(WebhookVerificationError):
        verify(content, headers, [SECRET, SECOND_SECRET])


@pytest.mark.parametrize("content", ["{}", None, {"a": 1}])
def test_body_must_be_bytes(content: Any) -> None:
    """A parsed or decoded body cannot be verified; passing one is a TypeError that shows no secret."""
    with pytest.raises(TypeError, match="raw bytes") as caught:
        verify(content, sign(body(), SECRET), SECRET)
    assert_not_shown(caught.value, SECRET, *DECODED)


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
def test_invalid_secret_is_rejected_and_not_shown(name: str) -> None:
    """Neither the error nor the local variables of our frames show the secret."""
    secret: str | Sequence[str] = BAD_SECRETS[name]
    calls: list[Callable[[], object]] = [
        lambda: verify(body(), {}, secret),
        lambda: sign(body(), secret),  # type: ignore[arg-type]  # several are not allowed either
    ]
    for call in calls:
        with pytest.raises(ConfigurationError, match="base64url") as caught:
            call()
        assert_not_shown(caught.value, *([secret] if isinstance(secret, str) and secret else []))


def test_verification_error_does_not_show_the_secret() -> None:
    """Neither the error nor the local variables of our frames show a valid secret."""
    with pytest.raises(WebhookVerificationError) as caught:
        verify(body(), sign(b"[]", SECRET), SECRET)
    assert_not_shown(caught.value, SECRET, *DECODED)


def assert_not_shown(error: BaseException, *secrets: str) -> None:
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [frame.locals or {} for frame in report.stack if "jarai_async" in frame.filename]
    assert frames
    variables = [value for frame in frames for value in frame.values()]
    for secret in secrets:
        assert secret not in "".join([*variables, str(error), repr(error)])


# --- The fuzzer -------------------------------------------------------------------------------------


def test_fuzzer_finds_no_forgery() -> None:
    """A short run of the benchmark accepts no forged request and raises no other exception."""
    script = Path(__file__).parents[1] / "benchmarks" / "verify.py"
    output = subprocess.run(
        [sys.executable, script, "--inputs", "5000"], capture_output=True, text=True, check=True
    ).stdout
    assert "MISSED" not in output
    assert output.count(" met") == 2
