"""A call to the Partner API as a value, and the decision whether to repeat it.

A `Call` holds what to send and how to read the response. The functions of `endpoints` and `webhook_endpoints`
build the calls; `_http` sends them. Nothing in this folder does I/O.

`may_repeat` decides for every call whether it may be sent again after an error. `created_nothing` decides
whether a submit that failed certainly created no production.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Generic, TypeVar

from attrs import field, frozen

from jarai_async._api import wire
from jarai_async._api.codec import decode_items
from jarai_async._api.responses import Response, error_from, parse_list
from jarai_async._errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ClosedError,
    ConfigurationError,
    InvalidResponseError,
    JaraiError,
    NotFoundError,
    NotSentError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
)

T = TypeVar("T")


class Kind(IntEnum):
    """What a request is for, the most urgent first."""

    CANCEL = 0
    DELIVERABLES = 1
    SUBMIT = 2
    READ = 3
    """A call that a caller waits for: `fetch`, `accounts`, `create_webhook`, ..."""
    POLL = 4
    """A read of a status by the poller."""


KINDS = tuple(Kind)  # iterating over the enumeration itself is ten times slower


@frozen
class Call(Generic[T]):
    """One request to the API, and how to decode its response."""

    kind: Kind
    method: str
    path: str
    decode: Callable[[Response], T] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    idempotency_key: str | None = None
    account_id: str | None = None

    def read(self, response: Response) -> T:
        """Return the decoded response.

        Raises ApiError, InvalidResponseError, or NoResponseError if the body was cut off, each with the
        correlation id.
        """
        if not 200 <= response.status < 300:
            raise error_from(response)
        try:
            return self.decode(response)
        except InvalidResponseError as error:
            facts = {"status": response.status, "correlation_id": response.correlation_id}
            cause = response.failure or error
            raise type(cause)(cause.message, **facts) from None  # type: ignore[arg-type]


def decode_list(response: Response, route: str, model: type[T]) -> list[T]:
    """Decode a list. An item that cannot be read is logged and left out.

    Raises InvalidResponseError if none can be read.
    """
    return decode_items(parse_list(response, wire.LISTS[route]), model)


# --- What may be sent again ------------------------------------------------------------------------


def may_repeat(call: Call[Any], error: JaraiError, *, idempotency_keys: bool) -> bool:
    """Return whether a call that ended in this error may be sent again.

    A call may be repeated if it was certainly not carried out: it was never sent, or JARAI rejected it before
    doing anything. It may also be repeated if carrying it out twice is harmless: every GET, DELETE and PATCH,
    and a submit whose idempotency key the server honours. A request that got a 429 may be repeated after the
    pause, which the caller does not count as an attempt. Repeating does not help after a refusal, or for a
    client that is closed or set up incorrectly.
    """
    if isinstance(error, ConfigurationError | ClosedError) or is_refusal(error):
        return False
    if isinstance(error, NotSentError | ServiceUnavailableError | RateLimitError):
        return True
    return call.method != "POST" or (idempotency_keys and call.idempotency_key is not None)


def is_refusal(error: JaraiError) -> bool:
    """Return whether the same request would get the same response again.

    These are redirects and 4xx (documented), except 429 and what a gateway sends when it had no time (408) or
    no trust in an early request (425).
    """
    if isinstance(error, ApiError):
        return error.status not in (408, 425) and not isinstance(error, _TEMPORARY)
    return error.status is not None and 300 <= error.status < 400


_TEMPORARY = (RateLimitError, ServiceUnavailableError, ServerError)


def is_key_in_use(error: JaraiError) -> bool:
    """Return whether an error may mean that an earlier request with the same key is still carried out.

    The code is not documented: any 409 that is not about the budget.
    """
    return error.status == 409 and not isinstance(error, BudgetExceededError)


# A status that is not in this list (408, 425, an unknown 4xx, a 5xx or a redirect) may be the response to a
# request that was carried out.
_CREATED_NOTHING = (
    ConfigurationError,
    BadRequestError,
    AuthenticationError,
    PermissionDeniedError,
    NotFoundError,
    RateLimitError,
    BudgetExceededError,
    NotSentError,
    ServiceUnavailableError,
    ClosedError,
)


def created_nothing(error: JaraiError) -> bool:
    """Return whether a submit that ended in this error certainly created no production."""
    return isinstance(error, _CREATED_NOTHING)
