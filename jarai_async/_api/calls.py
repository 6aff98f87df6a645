"""A call of the Partner API as a value: what to send, how to read the response, and what may be repeated."""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Generic, TypeVar

from attrs import field, frozen

from jarai_async._api import wire
from jarai_async._api.codec import decode
from jarai_async._api.responses import Response, error_from, parse
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


class Kind(IntEnum):
    """What a request is for, most urgent first."""

    CANCEL = 0
    DELIVERABLES = 1
    SUBMIT = 2
    READ = 3
    """A read that a caller waits for: `fetch`, `accounts`, ..."""
    POLL = 4
    """A read that the orchestrator chose to make now."""


KINDS = tuple(Kind)  # iterating over the enumeration itself is ten times slower


T = TypeVar("T")


@frozen
class Call(Generic[T]):
    """One request of the API, and how to read its answer."""

    kind: Kind
    method: str
    path: str
    decode: Callable[[Response], T] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    idempotency_key: str | None = None
    account_id: str | None = None

    def read(self, answer: Response) -> T:
        """Give the result. Raises ApiError or InvalidResponseError, with the correlation id."""
        if not 200 <= answer.status < 300:
            raise error_from(answer)
        try:
            return self.decode(answer)
        except InvalidResponseError as error:
            facts = {"status": answer.status, "correlation_id": answer.correlation_id}
            raise InvalidResponseError(error.message, **facts) from None  # type: ignore[arg-type]


def read_list(answer: Response, route: str, model: type[T]) -> list[T]:
    """Read a list, bare or under its documented name: which of them is not documented."""
    value = parse(answer)
    if isinstance(value, dict):
        value = value.get(wire.LISTS[route])
    if not isinstance(value, list):
        raise InvalidResponseError(f"expected a list of {wire.LISTS[route]}")
    return [decode(item, model) for item in value]


# What provably created nothing. 408, 425, an unknown 4xx, a 5xx or a redirect may stand for a request that
# was carried out.
_REFUSALS = (
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


def may_repeat(call: Call[Any], error: JaraiError, *, idempotency_keys: bool) -> bool:
    """Whether a call that ended in this error may be sent again.

    What provably was not carried out may: it never left, or was refused before execution. So may what is
    harmless to carry out twice: every GET, every DELETE, and a submit whose key the server honours. Any
    other 4xx is permanent (documented). A 429 is not counted as an attempt at all: it waits. Nor does a
    client that is closed, or that no certificate convinces, get better by trying.
    """
    if isinstance(error, ConfigurationError | ClosedError):
        return False
    if isinstance(error, NotSentError | ServiceUnavailableError | RateLimitError):
        return True
    if isinstance(error, ApiError) and not isinstance(error, ServerError):
        return False
    if error.status is not None and 300 <= error.status < 400:
        return False
    return call.method != "POST" or (idempotency_keys and call.idempotency_key is not None)


def was_refused(error: JaraiError) -> bool:
    """Whether a submit that ended in this error provably created nothing."""
    return isinstance(error, _REFUSALS)
