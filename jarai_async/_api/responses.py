"""Answers deciphered, whatever their bytes: JSON, errors, and what they say of the request budget."""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from attrs import field, frozen

from jarai_async._api import wire
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
)

_DAY_AND_AN_HOUR = 25 * 3600.0  # no documented wait is longer: a day's quota ends at midnight UTC
_WINDOW = 60.0
_KEY = re.compile(r"jarai_[A-Za-z0-9_-]{8,}")


@frozen
class Response:
    """What came back, whole: the bytes are read before anything is decided."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def correlation_id(self) -> str | None:
        """What to quote to JARAI's support."""
        return _printable(self.headers.get(wire.CORRELATION_ID))


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_decode = json.JSONDecoder(parse_constant=_refuse).decode  # made once: `json.loads` would make one a call


def parse_json(body: bytes) -> Any:
    """Read JSON as strictly as its standard. Raises ValueError."""
    try:
        return _decode(body.decode(json.detect_encoding(body)))
    except RecursionError:
        raise ValueError("nested too deep") from None


def parse(answer: Response) -> Any:
    """Read an answer's JSON. Raises InvalidResponseError."""
    try:
        return parse_json(answer.body)
    except ValueError:  # also what is not UTF-8, and an integer of 5,000 digits
        size = len(answer.body)
        message = f"expected JSON, got {size} bytes that are not ({_content_type(answer)})"
        raise InvalidResponseError(message) from None


def parse_object(answer: Response) -> dict[str, Any]:
    """Read a JSON object. Raises InvalidResponseError."""
    value = parse(answer)
    if not isinstance(value, dict):
        raise InvalidResponseError(f"expected an object, got a JSON {type(value).__name__}")
    return value


_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    413: BadRequestError,
    422: BadRequestError,
    429: RateLimitError,
}


def error_from(answer: Response) -> JaraiError:
    """Name what an answer outside 2xx means, from its status and envelope."""
    envelope = _envelope(answer)
    code = _printable(envelope.get(wire.ERROR_CODE))
    message = _printable(envelope.get(wire.ERROR_MESSAGE))
    facts: Any = {
        "status": answer.status,
        "code": code,
        "correlation_id": answer.correlation_id,
        "retry_after": retry_after(answer) if answer.status in (429, 503) else None,
    }
    if 300 <= answer.status < 400:
        return InvalidResponseError("the API redirected, and a key is not sent to another place", **facts)
    kind = _error_class(answer.status, code)
    if code is None and answer.status >= 500:
        message = f"not JARAI's answer but a gateway's: {_content_type(answer)}"
    return kind(message or f"the API answered {answer.status}", **facts)


def _error_class(status: int, code: str | None) -> type[ApiError]:
    if status == 409 and (code or "").startswith("BUDGET_GATE"):
        return BudgetExceededError
    if status == 503 and code == "SERVICE_UNAVAILABLE":
        return ServiceUnavailableError
    if status >= 500:
        return ServerError
    return _BY_STATUS.get(status, ApiError)


def _envelope(answer: Response) -> dict[str, Any]:
    try:
        return parse_object(answer)
    except InvalidResponseError:
        return {}


def _content_type(answer: Response) -> str:
    return _printable(answer.headers.get("Content-Type")) or "no content type"


def _printable(value: object) -> str | None:
    """Quote text of the server's in one line: bounded, printable, and without a key that it repeats."""
    if not isinstance(value, str) or not value:
        return None
    value = _KEY.sub("jarai_***", value)
    return "".join(char if char.isprintable() else " " for char in value[:300])


@frozen
class RateLimitState:
    """What an answer says of the request budget; None where it says nothing."""

    limit: int | None = None
    remaining: int | None = None
    retry_after: float | None = None
    """Seconds; set by a 429 only."""


def rate(answer: Response) -> RateLimitState:
    """Read the budget's state from the headers and, of a 429, from the body."""
    limit, remaining = (_count(answer.headers.get(name)) for name in (wire.RATE_LIMIT, wire.RATE_REMAINING))
    return RateLimitState(limit or None, remaining, retry_after(answer) if answer.status == 429 else None)


def retry_after(answer: Response) -> float | None:
    """Seconds to wait by the body, Retry-After and the reset: the longest of them, within reason.

    A 429 that names none means the whole window. The reset, and a Retry-After that is a date, are moments on
    the server's clock, so they are compared with the `Date` of the same answer and never with ours.
    """
    header = answer.headers.get("Retry-After")
    waits = [_seconds(_envelope(answer).get(wire.RETRY_AFTER)), _seconds(header)]
    moments = [moment(header)]
    if answer.status == 429:
        moments.append(_seconds(answer.headers.get(wire.RATE_RESET)))
    now = moment(answer.headers.get("Date"))
    if now is not None:
        waits += [one - now for one in moments if one is not None]
    known = [wait for wait in waits if wait is not None]
    if not known:
        return _WINDOW if answer.status == 429 else None
    return min(max(1.0, *known), _DAY_AND_AN_HOUR)


def moment(date: str | None) -> float | None:
    """Read the date of a header, as Unix seconds. One that names no zone is UTC, not local time."""
    try:
        found = parsedate_to_datetime(date or "")
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _seconds(value: object) -> float | None:
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _count(value: str | None) -> int | None:
    # isdecimal also accepts other scripts' digits, as int does; longer numbers are not counts
    return int(value) if value is not None and value.isdecimal() and len(value) <= 6 else None
