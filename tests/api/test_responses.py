"""Reading responses: JSON, errors by their meaning, and the state of the rate limit."""

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
    is_answer,
    parse,
    parse_object,
    rate_limit_state,
    retry_after,
)
from tests.support.strategies import HOSTILE_BODIES, header_values, headers, json_values, response, statuses

MAX_WAIT = 90_000
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
UNIX = 1_767_225_600  # that date


def envelope(code: object = None, message: object = "no", seconds: object = None) -> dict[str, object]:
    return {"error": code, "message": message, "retryAfterSeconds": seconds}


# --- JSON ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["empty", "html", "cut", "half UTF-16", "two values", "NUL", "not closed"])
def test_invalid_json_is_an_error_without_the_body(name: str) -> None:
    """Invalid or truncated JSON is InvalidResponseError, which does not quote the body."""
    body = HOSTILE_BODIES[name]
    with pytest.raises(InvalidResponseError) as caught:
        parse(response(body, Content_Type="text/html\r\n\x1b[31m"))
    assert (
        caught.value.message == f"expected JSON, got {len(body)} bytes that are not JSON (text/html   [31m)"
    )
    assert caught.value.__cause__ is None
    with pytest.raises(InvalidResponseError, match="no content type"):
        parse(response(body))


@pytest.mark.parametrize("body", [b"null", b"[]", b"5", b'"text"', b"true", b"1e400"])
def test_other_json_than_an_object_is_an_error(body: bytes) -> None:
    """Any other JSON value is rejected where an object is documented."""
    with pytest.raises(InvalidResponseError, match="expected an object, got a JSON"):
        parse_object(response(body))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_in_any_unicode_encoding_is_read(encoding: str) -> None:
    """UTF-16 or a byte order mark must not make an accepted submit fail."""
    assert parse_object(response('{"topic": "Gezeiten für alle"}'.encode(encoding))) == {
        "topic": "Gezeiten für alle"
    }


def test_last_of_duplicate_keys_counts() -> None:
    """This is the behaviour of Python's `json`; other languages differ."""
    assert parse_object(response(b'{"status": "Queued", "status": "Failed"}')) == {"status": "Failed"}


def test_repr_of_a_response_does_not_show_the_body() -> None:
    """A body may hold signed URLs."""
    assert "SECRET" not in repr(response(b"SECRET"))


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
def test_status_and_code_decide_the_error_class(
    status: int, code: str | None, meaning: type[Exception]
) -> None:
    """The error keeps the status, also an unknown code, and the correlation id."""
    error = error_from(response(envelope(code), status, X_Correlation_Id="c-1"))
    assert type(error) is meaning
    assert (error.status, error.code, error.correlation_id) == (status, code, "c-1")
    assert f"({status}{f', {code}' if code else ''}, correlation id c-1)" in str(error)


def test_gateway_page_is_distinguished_from_a_response_of_jarai() -> None:
    """The error for a 5xx without JARAI's error body names the content type and quotes no text."""
    error = error_from(response(b"<h1>SECRET</h1>", 503, Content_Type="text/html"))
    assert type(error) is ServerError
    assert error.message == "the response came from a gateway, not from JARAI: text/html"
    assert (
        error_from(response(b"", 502)).message
        == "the response came from a gateway, not from JARAI: no content type"
    )
    assert error_from(response(b"", 404)).message == "the API responded with status 404"
    assert "from a gateway" in error_from(response(b"", 500)).message
    own = {"error": "INTERNAL_ERROR", "message": "out of order"}
    assert error_from(response(own, 500)).message == "out of order"


def test_text_of_the_server_is_made_printable() -> None:
    """Control characters, bidi overrides and surrogates are replaced, and the length is limited."""
    error = error_from(
        response(envelope("A\nB", "x\x1b[2J\u202e\ud800\r\n" * 100), 400, X_Correlation_Id="c\r\nd")
    )
    assert str(error).isprintable()
    assert len(error.message) == 300
    assert (error.code, error.correlation_id) == ("A B", "c  d")


@pytest.mark.parametrize("odd", [5, True, [], {}, "", 1.5, None])
def test_error_body_with_wrong_types_is_ignored(odd: Any) -> None:
    """A code or message of the wrong type is ignored, and the status decides the class."""
    error = error_from(response(envelope(odd, odd, odd), 404))
    assert type(error) is NotFoundError
    assert (error.code, error.message) == (None, "the API responded with status 404")


@given(st.binary() | st.sampled_from(sorted(HOSTILE_BODIES.values())), statuses, headers)
def test_any_response_gives_a_printable_error(body: bytes, status: int, head: dict[str, str]) -> None:
    """Any bytes with any status give an error whose text is one printable line."""
    assert str(error_from(Response(status, head, body))).isprintable()


# --- The rate limit ------------------------------------------------------------------------------

WAITS: list[tuple[dict[str, str], object, float]] = [
    ({}, 42, 42),
    ({"Retry_After": "7"}, None, 7),
    ({"Retry_After": "7"}, 42, 42),
    ({"Retry_After": "70"}, 42, 42),
    ({"Retry_After": "7", "Date": DATE, "X_RateLimit_Reset": str(UNIX + 30)}, None, 7),
    ({"Retry_After": "7.0"}, None, 7),
    ({"Retry_After": "7, 7"}, None, 7),
    ({"Retry_After": "7;w=60"}, None, 7),
    ({"Date": DATE, "X_RateLimit_Reset": f"{UNIX + 30}.0, {UNIX + 40}"}, None, 30),
    ({"Date": DATE, "X_RateLimit_Reset": str((UNIX + 30) * 1000)}, 7, 7),
    ({"Date": DATE, "X_RateLimit_Reset": str((UNIX + 30) * 1000)}, None, 60),
    ({"Date": DATE, "X_RateLimit_Reset": str(UNIX + 3_600)}, None, 60),  # neither a minute nor midnight
    ({"Date": DATE, "X_RateLimit_Reset": str(UNIX + 86_400)}, None, 86_400),
    ({"Date": DATE, "X_RateLimit_Reset": "0"}, 7, 7),
    ({"Date": DATE, "X_RateLimit_Reset": "0"}, None, 60),
    ({"Date": DATE, "X_RateLimit_Reset": str(UNIX + 30)}, None, 30),
    ({"Date": DATE, "X_RateLimit_Reset": str(UNIX + 30)}, 42, 42),
    ({"Date": DATE, "X_RateLimit_Reset": str(UNIX + 50), "Retry_After": "7"}, 42, 42),
    ({"Date": DATE, "X_RateLimit_Reset": str(UNIX - 500)}, 42, 42),
    ({"Date": DATE, "X_RateLimit_Reset": str(UNIX - 500)}, None, 60),
    ({"Date": "yesterday", "X_RateLimit_Reset": str(UNIX + 30)}, 42, 42),
    ({"X_RateLimit_Reset": str(UNIX + 30)}, None, 60),  # not compared with the local clock
    ({"Date": DATE.removesuffix(" GMT"), "X_RateLimit_Reset": str(UNIX + 30)}, None, 30),
    ({"Date": DATE.replace("GMT", "-0000"), "X_RateLimit_Reset": str(UNIX + 30)}, None, 30),
    ({"Date": DATE, "Retry_After": "Thu, 01 Jan 2026 01:00:00 GMT"}, None, 3_600),
    ({"Retry_After": "Thu, 01 Jan 2026 01:00:00 GMT"}, None, 60),
    ({}, None, 60),
    ({}, "soon", 60),
    ({}, [], 60),
    ({}, 0, 60),
    ({}, -5, 60),
    ({}, "12", 12),
    ({}, 0.25, 1),
    ({}, 1e9, 60),
    ({}, MAX_WAIT, MAX_WAIT),
    ({}, 10**400, 60),
    ({"Retry_After": "inf"}, None, 60),
    ({"Retry_After": "nan"}, None, 60),
    ({"Retry_After": "9" * 5_000}, 5, 5),
    ({}, 86_400, 86_400),
    ({}, 10**9, 60),
]


@pytest.mark.parametrize(("head", "seconds", "wait"), WAITS)
def test_retry_after_of_a_429_is_the_first_plausible_wait_in_the_response(
    head: dict[str, str], seconds: object, wait: float
) -> None:
    """The body counts first, then Retry-After, then the reset; implausible values are ignored."""
    limited = response(envelope("RATE_LIMIT_EXCEEDED", seconds=seconds), 429, **head)
    assert retry_after(limited) == wait
    assert error_from(limited).retry_after == wait
    assert rate_limit_state(limited).retry_after == wait


@pytest.mark.usefixtures("_distant_time_zone")
def test_local_time_zone_does_not_affect_retry_after() -> None:
    """A `Date` header without a time zone is UTC."""
    limited = response(b"", 429, Date=DATE.removesuffix(" GMT"), X_RateLimit_Reset=str(UNIX + 30))
    assert retry_after(limited) == 30


@pytest.fixture
def _distant_time_zone(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    time = pytest.importorskip("time")
    if not hasattr(time, "tzset"):
        pytest.skip("no tzset on this system")
    request.addfinalizer(time.tzset)  # noqa: PT021  # after monkeypatch has restored TZ
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()


def test_503_has_retry_after_only_if_the_response_names_it() -> None:
    """The reset header of the rate limit does not apply to a 503."""
    body = envelope("SERVICE_UNAVAILABLE")
    assert error_from(response(body, 503, Date=DATE, X_RateLimit_Reset=str(UNIX + 30))).retry_after is None
    assert error_from(response(body, 503, Retry_After="120")).retry_after == 120
    assert error_from(response(b"<html>", 503, Retry_After="120")).retry_after == 120
    assert error_from(response(envelope("X", seconds=120), 500)).retry_after is None
    assert rate_limit_state(response(body, 503, Retry_After="120")).retry_after is None


@given(json_values, header_values, header_values, header_values)
@example(10**400, "1e400", "Thu, 01 Jan 0000 00:00:00 GMT", "-1")
@example(None, "-", "0", "Mon, 99999999999999999999 Jan 2024 00:00:00 GMT")
@example(None, "", "", "Fri, 31 Dec 9999 23:59:59 -9999")
def test_retry_after_is_bounded_whatever_the_server_sends(
    seconds: Any, after: str, reset: str, date: str
) -> None:
    """Hostile values raise no exception, and the wait is from 1 second to 25 hours."""
    head = {"Retry_After": after, "X_RateLimit_Reset": reset, "Date": date}
    wait = retry_after(response(envelope(seconds=seconds), 429, **head))
    assert wait is not None
    assert 1 <= wait <= MAX_WAIT
    assert math.isfinite(wait)
    if isinstance(seconds, int | float) and 0 < seconds <= MAX_WAIT:
        assert wait == max(1, seconds)


@pytest.mark.parametrize(
    ("limit", "remaining", "state"),
    [
        ("60", "58", RateLimitState(60, 58)),
        ("60", "0", RateLimitState(60, 0)),
        ("0", "0", RateLimitState(None, 0)),
        ("-1", "-1", RateLimitState()),
        ("", "", RateLimitState()),
        ("6e1", "1.5", RateLimitState()),
        ("60.0", "58, 58", RateLimitState(60, 58)),
        ("60, 60", "58.0", RateLimitState(60, 58)),
        ("60;w=60", "58", RateLimitState(60, 58)),
        ("9" * 7, "9" * 5_000, RateLimitState()),
        ("٦٠", "²", RateLimitState()),
        ("999999", " 5", RateLimitState(999_999, 5)),
        ("1000000", "1000000", RateLimitState()),
    ],
)
def test_rate_limit_state_is_read_from_the_headers(limit: str, remaining: str, state: RateLimitState) -> None:
    """A value that is not a count is None."""
    assert rate_limit_state(response(b"", X_RateLimit_Limit=limit, X_RateLimit_Remaining=remaining)) == state
    assert rate_limit_state(response(b"")) == RateLimitState()


@given(st.binary(max_size=50), statuses, headers)
def test_any_headers_give_a_valid_rate_limit_state(body: bytes, status: int, head: dict[str, str]) -> None:
    """Any headers give a positive limit and a count that is not negative, or None."""
    state = rate_limit_state(Response(status, head, body))
    assert state.limit is None or state.limit > 0
    assert state.remaining is None or state.remaining >= 0
    assert (state.retry_after is not None) == (status == 429)


@pytest.mark.parametrize(
    ("body", "status", "is_jarais"),
    [
        ({}, 200, True),
        ([], 200, True),
        ("text", 200, False),
        (b"<html>", 200, False),
        (envelope("PERMISSION_DENIED"), 403, True),
        (envelope(), 403, False),
        (envelope("PERMISSION_DENIED"), 302, False),
        (envelope("INTERNAL_ERROR"), 500, False),
    ],
)
def test_answer_of_jarai_is_distinguished_from_that_of_a_gateway(
    body: Any, status: int, *, is_jarais: bool
) -> None:
    """JSON, or a rejection with a code; an error of the server shows no more than one of a gateway."""
    assert is_answer(response(body, status)) is is_jarais


def test_api_key_in_an_error_message_is_masked() -> None:
    """An error message of the server that contains an API key does not leak it into a log."""
    body = b'{"error": "UNAUTHORIZED", "message": "no such key: jarai_live_c2VjcmV0LXRleHQ"}'
    text = str(error_from(Response(401, {}, body)))
    assert "c2VjcmV0" not in text
    assert "jarai_***" in text
