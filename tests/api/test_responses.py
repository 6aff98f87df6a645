"""Answers deciphered: errors by meaning, and what they say of the request budget."""

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jarai_async import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    InvalidResponseError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
)
from jarai_async._api.responses import (
    RateLimitState,
    Response,
    error_from,
    parse,
    parse_object,
    rate,
    retry_after,
)
from tests.support.strategies import HOSTILE_BODIES, answer, header_values, headers, json_values, statuses

DAY_AND_AN_HOUR = 90_000
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
UNIX = 1_767_225_600  # that date


def envelope(code: object = None, message: object = "no", seconds: object = None) -> dict[str, object]:
    return {"error": code, "message": message, "retryAfterSeconds": seconds}


# --- JSON ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", sorted(set(HOSTILE_BODIES) - {"1e400", "lone surrogate", "null", "text", "list"})
)
def test_what_is_not_json_is_one_error_of_ours(name: str) -> None:
    """Pages, cut answers, endless depth and numbers give InvalidResponseError, without the body in it."""
    body = HOSTILE_BODIES[name]
    with pytest.raises(InvalidResponseError) as caught:
        parse(answer(body, Content_Type="text/html\r\n\x1b[31m"))
    assert caught.value.message == f"expected JSON, got {len(body)} bytes that are not (text/html   [31m)"
    assert caught.value.__cause__ is None
    with pytest.raises(InvalidResponseError, match="no content type"):
        parse(answer(body))


@pytest.mark.parametrize("body", [b"null", b"[]", b"5", b'"text"', b"true", b"1e400"])
def test_an_object_is_an_object(body: bytes) -> None:
    """JSON of another kind is refused where an object is documented."""
    with pytest.raises(InvalidResponseError, match="expected an object, got a JSON"):
        parse_object(answer(body))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_in_any_encoding_of_unicode_is_read(encoding: str) -> None:
    """A byte order mark or UTF-16 is odd, but no reason to lose an accepted production."""
    assert parse_object(answer('{"topic": "Gezeiten für alle"}'.encode(encoding))) == {
        "topic": "Gezeiten für alle"
    }


def test_of_duplicate_keys_the_last_counts() -> None:
    """As everywhere in Python: documented here because other languages differ."""
    assert parse_object(answer(b'{"status": "Queued", "status": "Failed"}')) == {"status": "Failed"}


def test_an_answer_does_not_print_its_body() -> None:
    """A body may hold signed URLs."""
    assert "SECRET" not in repr(answer(b"SECRET"))


# --- Errors --------------------------------------------------------------------------------------

MEANINGS: list[tuple[int, str | None, type[Exception]]] = [
    (400, "INVALID_REQUEST", BadRequestError),
    (401, "UNAUTHORIZED", AuthenticationError),
    (403, "PARTNER_NOT_ACTIVE", PermissionDeniedError),
    (403, "PERMISSION_DENIED", PermissionDeniedError),
    (403, "INSUFFICIENT_SCOPE", PermissionDeniedError),
    (403, "ACCOUNT_NOT_ACTIVE", PermissionDeniedError),
    (404, None, NotFoundError),
    (409, "BUDGET_GATE_1_FAILED", BudgetExceededError),
    (409, "BUDGET_GATE_99_FAILED", BudgetExceededError),
    (409, "CONFLICT", ApiError),
    (409, None, ApiError),
    (413, None, BadRequestError),
    (422, "UNPROCESSABLE", BadRequestError),
    (429, "RATE_LIMIT_EXCEEDED", RateLimitError),
    (408, None, ApiError),
    (425, None, ApiError),
    (418, "TEAPOT", ApiError),
    (500, "INTERNAL_ERROR", ServerError),
    (502, None, ServerError),
    (503, "SERVICE_UNAVAILABLE", ServiceUnavailableError),
    (503, "OTHER", ServerError),
    (503, None, ServerError),
    (504, None, ServerError),
    (500, "SERVICE_UNAVAILABLE", ServerError),
    (301, None, InvalidResponseError),
    (304, None, InvalidResponseError),
    (308, "RATE_LIMIT_EXCEEDED", InvalidResponseError),
    (400, "A_NEW_CODE", BadRequestError),
    (400, "BUDGET_GATE_1_FAILED", BadRequestError),
]


@pytest.mark.parametrize(("status", "code", "meaning"), MEANINGS)
def test_an_error_is_named_by_its_meaning(status: int, code: str | None, meaning: type[Exception]) -> None:
    """Status and code decide the class; an unknown code is kept, and the correlation id is there to quote."""
    error = error_from(answer(envelope(code), status, X_Correlation_Id="c-1"))
    assert type(error) is meaning
    assert (error.status, error.code, error.correlation_id) == (status, code, "c-1")
    assert f"({status}{f', {code}' if code else ''}, correlation id c-1)" in str(error)


def test_a_gateways_page_is_told_from_jarais_answer() -> None:
    """A 502 or 503 without the envelope says so, with the content type and none of its text."""
    error = error_from(answer(b"<h1>SECRET</h1>", 503, Content_Type="text/html"))
    assert type(error) is ServerError
    assert error.message == "not JARAI's answer but a gateway's: text/html"
    assert error_from(answer(b"", 502)).message == "not JARAI's answer but a gateway's: no content type"
    assert error_from(answer(b"", 404)).message == "the API answered 404"


def test_server_text_is_quoted_in_one_bounded_line() -> None:
    """Control characters, bidi overrides and surrogates of the server's do not reach a terminal."""
    error = error_from(
        answer(envelope("A\nB", "x\x1b[2J\u202e\ud800\r\n" * 100), 400, X_Correlation_Id="c\r\nd")
    )
    assert str(error).isprintable()
    assert len(error.message) == 300
    assert (error.code, error.correlation_id) == ("A B", "c  d")


@pytest.mark.parametrize("odd", [5, True, [], {}, "", 1.5, None])
def test_an_odd_envelope_is_as_if_missing(odd: Any) -> None:
    """A code or message of the wrong type is left out, and the status still decides."""
    error = error_from(answer(envelope(odd, odd, odd), 404))
    assert type(error) is NotFoundError
    assert (error.code, error.message) == (None, "the API answered 404")


@given(st.binary() | st.sampled_from(sorted(HOSTILE_BODIES.values())), statuses, headers)
def test_naming_an_error_is_total(body: bytes, status: int, head: dict[str, str]) -> None:
    """Any bytes at any status are an error of ours that can be printed in one line."""
    assert str(error_from(Response(status, head, body))).isprintable()


# --- The budget ----------------------------------------------------------------------------------

WAITS: list[tuple[dict[str, str], object, float]] = [
    ({}, 42, 42),
    ({"Retry_After": "7"}, None, 7),
    ({"Retry_After": "7"}, 42, 42),
    ({"Retry_After": "70"}, 42, 70),
    ({"Date": DATE, "X_RateLimit_Reset": str(UNIX + 30)}, None, 30),
    ({"Date": DATE, "X_RateLimit_Reset": str(UNIX + 30)}, 42, 42),
    ({"Date": DATE, "X_RateLimit_Reset": str(UNIX + 50), "Retry_After": "7"}, 42, 50),
    ({"Date": DATE, "X_RateLimit_Reset": str(UNIX - 500)}, 42, 42),
    ({"Date": DATE, "X_RateLimit_Reset": str(UNIX - 500)}, None, 1),
    ({"Date": "yesterday", "X_RateLimit_Reset": str(UNIX + 30)}, 42, 42),
    ({"X_RateLimit_Reset": str(UNIX + 30)}, None, 60),  # never compared with the clock of this machine
    ({"Date": DATE.removesuffix(" GMT"), "X_RateLimit_Reset": str(UNIX + 30)}, None, 30),
    ({"Date": DATE.replace("GMT", "-0000"), "X_RateLimit_Reset": str(UNIX + 30)}, None, 30),
    ({"Date": DATE, "Retry_After": "Thu, 01 Jan 2026 01:00:00 GMT"}, 42, 3_600),
    ({"Retry_After": "Thu, 01 Jan 2026 01:00:00 GMT"}, None, 60),
    ({}, None, 60),
    ({}, "soon", 60),
    ({}, [], 60),
    ({}, 0, 1),
    ({}, -5, 1),
    ({}, "12", 12),
    ({}, 0.25, 1),
    ({}, 1e9, DAY_AND_AN_HOUR),
    ({}, 10**400, 60),
    ({"Retry_After": "inf"}, None, 60),
    ({"Retry_After": "nan"}, None, 60),
    ({"Retry_After": "9" * 5_000}, 5, 5),
    ({}, 86_400, 86_400),
    ({}, 10**9, DAY_AND_AN_HOUR),
]


@pytest.mark.parametrize(("head", "seconds", "wait"), WAITS)
def test_a_429_waits_for_the_longest_that_it_names(
    head: dict[str, str], seconds: object, wait: float
) -> None:
    """Of body, header and reset the largest, at least a second, at most a day and an hour."""
    refused = answer(envelope("RATE_LIMIT_EXCEEDED", seconds=seconds), 429, **head)
    assert retry_after(refused) == wait
    assert error_from(refused).retry_after == wait
    assert rate(refused).retry_after == wait


@pytest.mark.usefixtures("_far_from_greenwich")
def test_the_time_zone_of_this_machine_does_not_matter() -> None:
    """A `Date` that names no zone is UTC."""
    refused = answer(b"", 429, Date=DATE.removesuffix(" GMT"), X_RateLimit_Reset=str(UNIX + 30))
    assert retry_after(refused) == 30


@pytest.fixture
def _far_from_greenwich(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    time = pytest.importorskip("time")
    if not hasattr(time, "tzset"):
        pytest.skip("no tzset on this system")
    request.addfinalizer(time.tzset)  # noqa: PT021  # after monkeypatch has put the zone back
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()


def test_a_503_waits_only_for_what_it_names() -> None:
    """Without a wait there is none; the reset of the request budget has nothing to do with it."""
    body = envelope("SERVICE_UNAVAILABLE")
    assert error_from(answer(body, 503, Date=DATE, X_RateLimit_Reset=str(UNIX + 30))).retry_after is None
    assert error_from(answer(body, 503, Retry_After="120")).retry_after == 120
    assert error_from(answer(b"<html>", 503, Retry_After="120")).retry_after == 120
    assert error_from(answer(envelope("X", seconds=120), 500)).retry_after is None
    assert rate(answer(body, 503, Retry_After="120")).retry_after is None


@given(json_values, header_values, header_values, header_values)
@example(10**400, "1e400", "Thu, 01 Jan 0000 00:00:00 GMT", "-1")
@example(None, "-", "0", "Mon, 99999999999999999999 Jan 2024 00:00:00 GMT")
@example(None, "", "", "Fri, 31 Dec 9999 23:59:59 -9999")
def test_a_wait_is_within_reason_whatever_is_sent(seconds: Any, after: str, reset: str, date: str) -> None:
    """Hostile values never raise, never wait for nothing and never wait for ever."""
    head = {"Retry_After": after, "X_RateLimit_Reset": reset, "Date": date}
    wait = retry_after(answer(envelope(seconds=seconds), 429, **head))
    assert wait is not None
    assert 1 <= wait <= DAY_AND_AN_HOUR
    assert math.isfinite(wait)
    if isinstance(seconds, int | float) and abs(seconds) < 1e300:
        assert wait >= min(seconds, DAY_AND_AN_HOUR)


@pytest.mark.parametrize(
    ("limit", "remaining", "told"),
    [
        ("60", "58", RateLimitState(60, 58)),
        ("60", "0", RateLimitState(60, 0)),
        ("0", "0", RateLimitState(None, 0)),
        ("-1", "-1", RateLimitState()),
        ("", "", RateLimitState()),
        ("6e1", "1.0", RateLimitState()),
        ("9" * 7, "9" * 5_000, RateLimitState()),
        ("٦٠", "²", RateLimitState(60, None)),
        ("999999", " 5", RateLimitState(999_999, None)),
    ],
)
def test_the_headers_tell_the_budget(limit: str, remaining: str, told: RateLimitState) -> None:
    """Counts are counts, and what is not one says nothing."""
    assert rate(answer(b"", X_RateLimit_Limit=limit, X_RateLimit_Remaining=remaining)) == told
    assert rate(answer(b"")) == RateLimitState()


@given(st.binary(max_size=50), statuses, headers)
def test_reading_the_budget_is_total(body: bytes, status: int, head: dict[str, str]) -> None:
    """Any headers give a budget that can be counted with."""
    told = rate(Response(status, head, body))
    assert told.limit is None or told.limit > 0
    assert told.remaining is None or told.remaining >= 0
    assert (told.retry_after is not None) == (status == 429)


def test_a_key_that_the_server_repeats_is_masked() -> None:
    """An error that quotes the key back does not bring it into a log."""
    body = b'{"error": "UNAUTHORIZED", "message": "no such key: jarai_live_c2VjcmV0LXRleHQ"}'
    shown = str(error_from(Response(401, {}, body)))
    assert "c2VjcmV0" not in shown
    assert "jarai_***" in shown
