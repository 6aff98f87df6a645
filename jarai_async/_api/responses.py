"""Reading a response: its JSON, the error that it means, and the state of the rate limit.

The functions accept any bytes and any headers. They raise only the errors that their docstrings name.
"""

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from attrs import field, frozen

from jarai_async._api import wire
from jarai_async._api.json_parser import parse_json
from jarai_async._errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    InvalidResponseError,
    JaraiError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    TransportError,
)

_MAX_WAIT = 25 * 3600.0  # seconds; the longest documented wait is until midnight UTC, for a daily quota
_WINDOW = 60.0  # seconds, of the rate limit
_DAY = 86_400.0  # seconds
_NUMBER = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{0,9})?)\s*(?:[,;].*)?", re.DOTALL)
_WAITABLE = (404, 409, 429, 503)  # a list of deliverables may be not found yet
_API_KEY = re.compile(r"jarai_[A-Za-z0-9_-]{8,}")


@frozen
class Response:
    """A response: status, headers and the bytes of the body.

    `failure` says why the body is not complete: then status and headers still count.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    failure: TransportError | None = None

    @property
    def correlation_id(self) -> str | None:
        """The id to quote to JARAI support; None if the response has none."""
        return _printable(self.headers.get(wire.CORRELATION_ID))


def parse(response: Response) -> Any:
    """Parse the body of a response as JSON. Raises InvalidResponseError."""
    try:
        return parse_json(response.body)
    except ValueError:
        size = len(response.body)
        message = f"expected JSON, got {size} bytes that are not JSON ({_content_type(response)})"
        raise InvalidResponseError(message) from None


def parse_object(response: Response, *needed: str) -> dict[str, Any]:
    """Parse the body of a response as a JSON object. Raises as `parse` does.

    The object that has the first of the fields `needed` (or else the second, ...) may be the only member with
    it of another object, as in `{"data": {...}}` (inferred).
    """
    value = parse(response)
    if not isinstance(value, dict):
        raise InvalidResponseError(f"expected an object, got a JSON {type(value).__name__}")
    return _unwrap(value, *needed)


def parse_list(response: Response, name: str) -> list[Any]:
    """Parse the body of a response as a JSON list. Raises as `parse` does.

    The list is the body, or in an object: under its name, or else as the only list. Which of them is not
    documented.
    """
    value = parse(response)
    if isinstance(value, dict):
        fields = _unwrap(value, name)
        lists = [item for item in fields.values() if isinstance(item, list)]
        value = lists[0] if name not in fields and len(lists) == 1 else fields.get(name)
    if not isinstance(value, list):
        raise InvalidResponseError(f"expected a list of {name}")
    return value


def _unwrap(value: dict[str, Any], *needed: str) -> dict[str, Any]:
    for name in needed:
        inner = [item for item in value.values() if isinstance(item, dict) and name in item]
        if name in value or len(inner) == 1:
            return value if name in value else inner[0]
    return value


def is_answer(response: Response) -> bool:
    """Return whether JARAI itself answered a read: with JSON, or a rejection in its error envelope."""
    if response.status < 300:
        try:
            return isinstance(parse(response), dict | list)
        except TransportError:
            return False
    return 400 <= response.status < 500 and isinstance(_envelope(response).get(wire.ERROR_CODE), str)


_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    410: NotFoundError,
    413: BadRequestError,
    422: BadRequestError,
    429: RateLimitError,
}


def error_from(response: Response) -> JaraiError:
    """Return the error that a response outside 2xx means, by its status and JARAI's error envelope."""
    envelope = _envelope(response)
    code = _printable(envelope.get(wire.ERROR_CODE))
    message = _printable(envelope.get(wire.ERROR_MESSAGE))
    facts: Any = {
        "status": response.status,
        "code": code,
        "correlation_id": response.correlation_id,
        "retry_after": retry_after(response) if response.status in _WAITABLE else None,
    }
    if 300 <= response.status < 400:
        return InvalidResponseError("the API redirected; the key is not sent to another address", **facts)
    if code is None and response.status >= 500:
        message = f"the response came from a gateway, not from JARAI: {_content_type(response)}"
    error_class = _error_class(response.status, code)
    return error_class(message or f"the API responded with status {response.status}", **facts)


def _error_class(status: int, code: str | None) -> type[ApiError]:
    if status == 409 and (code or "").startswith("BUDGET_GATE"):
        return BudgetExceededError
    if status == 503 and code == "SERVICE_UNAVAILABLE":
        return ServiceUnavailableError
    if status >= 500:
        return ServerError
    return _BY_STATUS.get(status, ApiError)


def _envelope(response: Response) -> dict[str, Any]:
    try:
        return parse_object(response)
    except TransportError:
        return {}


def _content_type(response: Response) -> str:
    return _printable(response.headers.get("Content-Type")) or "no content type"


def _printable(value: object) -> str | None:
    """Make text from the server safe to print: one line, at most 300 characters, API keys masked."""
    if not isinstance(value, str) or not value:
        return None
    value = _API_KEY.sub("jarai_***", value)
    return "".join(char if char.isprintable() else " " for char in value[:300])


@frozen
class RateLimitState:
    """The state of the rate limit according to one response; a value that it does not have is None.

    `limit` and `remaining` are requests per minute. `retry_after` is in seconds, and set for a 429 only.
    """

    limit: int | None = None
    remaining: int | None = None
    retry_after: float | None = None


def rate_limit_state(response: Response) -> RateLimitState:
    """Read the state of the rate limit from the headers and, for a 429, the body."""
    limit, remaining = (_count(response.headers.get(name)) for name in (wire.RATE_LIMIT, wire.RATE_REMAINING))
    return RateLimitState(limit or None, remaining, retry_after(response) if response.status == 429 else None)


def retry_after(response: Response) -> float | None:
    """Return the seconds to wait: by the body, or else Retry-After, or else (for a 429) the reset header.

    The result is at least 1 second. A value that is not plausible is ignored: zero or less, or more than 25
    hours. For a response that names no time the result is None, or for a 429 the full 60 seconds of the rate
    limit. The reset header and a Retry-After that is a date are times of the server's clock, so they are
    compared with the `Date` header of the same response, never with the local clock.
    """
    waits = [_seconds(_envelope(response).get(wire.RETRY_AFTER)), retry_after_header(response.headers)]
    if response.status == 429:
        if (now := parse_date(response.headers.get("Date"))) is not None:
            waits.append(_until_reset(response, now))
        waits.append(_WINDOW)
    return _first_plausible(waits)


def retry_after_header(headers: Mapping[str, str]) -> float | None:
    """Return the seconds in Retry-After, a number or a date; None where it is missing or not plausible."""
    header, now = headers.get("Retry-After"), parse_date(headers.get("Date"))
    date = None if now is None else parse_date(header)
    return _first_plausible([_seconds(header), None if date is None or now is None else date - now])


def _first_plausible(waits: list[float | None]) -> float | None:
    return next((max(1.0, wait) for wait in waits if wait is not None and 0 < wait <= _MAX_WAIT), None)


def _until_reset(response: Response, now: float) -> float | None:
    """Return the seconds until the reset, which ends a minute, or the day at midnight UTC (documented)."""
    reset = _seconds(response.headers.get(wire.RATE_RESET))
    if reset is None or not (reset - now <= 2 * _WINDOW or (reset + _WINDOW) % _DAY <= 2 * _WINDOW):
        return None
    return reset - now


def parse_date(text: str | None) -> float | None:
    """Parse a date header into Unix seconds; None if it is not a date. Without a time zone it is UTC."""
    try:
        date = parsedate_to_datetime(text or "")
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _seconds(value: object) -> float | None:
    """Return a number; of text the number at its beginning, as in `60.0`, `60, 60` or `60;w=60`."""
    if isinstance(value, str):
        number = _NUMBER.fullmatch(value)
        return float(number[1]) if number else None
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:
        return None


def _count(value: str | None) -> int | None:
    number = _seconds(value)
    return int(number) if number is not None and number < 1_000_000 and number.is_integer() else None
