"""The Partner API as data: a call is a value, and deciphering its answer is a pure function.

Nothing here sends anything. `Call` says what to send and how to read what comes back; `read` gives the
result or raises one of our errors, whatever the bytes; `may_repeat` is the one place that decides what is
safe to send again.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from attrs import evolve, field, frozen

from jarai_async import _wire
from jarai_async._answers import Answer, parse, parse_object, refusal
from jarai_async._codec import decode
from jarai_async._errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ConfigurationError,
    InvalidAnswerError,
    InvalidRequestError,
    JaraiError,
    NotFoundError,
    NotSentError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    StoppedError,
)
from jarai_async._models import (
    Account,
    Deliverable,
    Id,
    Performance,
    Production,
    Status,
    Usage,
    as_id,
)
from jarai_async._turns import Kind

T = TypeVar("T")


@frozen
class Call(Generic[T]):
    """One request of the API, and how to read its answer."""

    kind: Kind
    method: str
    path: str
    decode: Callable[[Answer], T] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    idempotency_key: str | None = None
    account_id: str | None = None

    def read(self, answer: Answer) -> T:
        """Give the result. Raises ApiError or InvalidAnswerError, with the correlation id."""
        if not 200 <= answer.status < 300:
            raise refusal(answer)
        try:
            return self.decode(answer)
        except InvalidAnswerError as error:
            facts = {"status": answer.status, "correlation_id": answer.correlation_id}
            raise InvalidAnswerError(error.message, **facts) from None  # type: ignore[arg-type]


def accounts() -> Call[list[Account]]:
    """List the accounts that the key can reach."""
    return Call(Kind.READ, "GET", _wire.ACCOUNTS, lambda answer: read_list(answer, _wire.ACCOUNTS, Account))


def submit(account_id: str, body: bytes, key: str) -> Call[Production]:
    """Ask for a production, with these very bytes."""
    return Call(
        Kind.SUBMIT,
        "POST",
        _wire.SUBMIT.format(account_id=account_id),
        _submitted,
        body=body,
        idempotency_key=key,
        account_id=account_id,
    )


def fetch(production_id: str, kind: Kind = Kind.READ) -> Call[Production]:
    """Read one production's status."""
    wanted = _valid(production_id)
    return Call(kind, "GET", _path(_wire.PRODUCTION, wanted), lambda answer: _production(answer, wanted))


def cancel(production_id: str) -> Call[None]:
    """Stop one production. What its body says is not documented: a following read decides."""
    return Call(Kind.CANCEL, "DELETE", _path(_wire.PRODUCTION, _valid(production_id)), lambda _: None)


def deliverables(production_id: str) -> Call[list[Deliverable]]:
    """List what one production made, with fresh signed URLs."""
    owner = _valid(production_id)

    def read(answer: Answer) -> list[Deliverable]:
        found = read_list(answer, _wire.DELIVERABLES, Deliverable)
        return [evolve(one, production_id=owner) for one in found]

    return Call(Kind.DELIVERABLES, "GET", _path(_wire.DELIVERABLES, owner), read)


def performance(production_id: str) -> Call[Performance]:
    """Read one production's analytics."""
    owner = _valid(production_id)
    path = _path(_wire.PERFORMANCE, owner)
    return Call(Kind.READ, "GET", path, lambda answer: Performance(owner, raw=parse_object(answer)))


def usage() -> Call[Usage]:
    """Read the partner's usage."""
    return Call(Kind.READ, "GET", _wire.USAGE, lambda answer: Usage(raw=parse_object(answer)))


def _valid(production_id: str) -> Id:
    """Only a UUID may become part of a path: joining "../x" would climb out of the API."""
    try:
        return as_id(production_id)
    except ValueError as error:
        raise InvalidRequestError([f"production_id is {error}"]) from None


def _path(route: str, production_id: Id) -> str:
    return route.format(production_id=production_id)


def read_list(answer: Answer, route: str, model: type[T]) -> list[T]:
    """Read a list, bare or under its documented name: which of them is not documented."""
    value = parse(answer)
    if isinstance(value, dict):
        value = value.get(_wire.LISTS[route])
    if not isinstance(value, list):
        raise InvalidAnswerError(f"expected a list of {_wire.LISTS[route]}")
    return [decode(item, model) for item in value]


def _production(answer: Answer, wanted: Id) -> Production:
    production = decode(parse_object(answer), Production)
    if production.id != wanted:
        raise InvalidAnswerError(f"asked for production {wanted}, the answer is about {production.id}")
    return production


def _submitted(answer: Answer) -> Production:
    """Read an accepted submit; where the body names no production, the Location header may.

    Where both do and disagree, one of them is about the production of another: neither is believed.
    """
    located = _id_in_location(answer)
    try:
        value = parse_object(answer)
        status = value.get("status")
        if not isinstance(status, str) or not status:
            status = str(Status.QUEUED)  # accepted: that it is queued is inferred
        production = evolve(decode(value | {"status": status}, Production), raw=value)
    except InvalidAnswerError:
        if located is None:
            raise
        return Production(located, Status.QUEUED)
    if located not in (None, production.id):
        raise InvalidAnswerError(
            f"the answer is about production {production.id}, its Location about {located}"
        )
    return production


def _id_in_location(answer: Answer) -> Id | None:
    try:
        path = urlsplit(answer.headers.get("Location", "")).path
        return as_id(path.rstrip("/").rpartition("/")[2])
    except ValueError:  # also of a URL that is none
        return None


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
    StoppedError,
)


def may_repeat(call: Call[Any], error: JaraiError, *, idempotency_keys: bool) -> bool:
    """Whether a call that ended in this error may be sent again.

    What provably was not carried out may: it never left, or was refused before execution. So may what is
    harmless to carry out twice: every GET, every DELETE, and a submit whose key the server honours. Any
    other 4xx is permanent (documented). A 429 is not counted as an attempt at all: it waits. Nor does a
    client that is closed, or that no certificate convinces, get better by trying.
    """
    if isinstance(error, ConfigurationError | StoppedError):
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
