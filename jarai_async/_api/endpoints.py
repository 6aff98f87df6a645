"""The Partner API as data: a call is a value, and deciphering its answer is a pure function.

Nothing here sends anything. `Call` says what to send and how to read what comes back; `read` gives the
result or raises one of our errors, whatever the bytes; `may_repeat` is the one place that decides what is
safe to send again.
"""

from urllib.parse import urlsplit

from attrs import evolve

from jarai_async._api import wire
from jarai_async._api.calls import Call, Kind, read_list
from jarai_async._api.codec import decode
from jarai_async._api.models import (
    Account,
    Deliverable,
    Id,
    Performance,
    Production,
    Status,
    Usage,
    as_id,
)
from jarai_async._api.responses import Response, parse_object
from jarai_async._errors import (
    InvalidRequestError,
    InvalidResponseError,
)


def accounts() -> Call[list[Account]]:
    """List the accounts that the key can reach."""
    return Call(Kind.READ, "GET", wire.ACCOUNTS, lambda answer: read_list(answer, wire.ACCOUNTS, Account))


def submit(account_id: str, body: bytes, key: str) -> Call[Production]:
    """Submit a production, with exactly these bytes. Raises InvalidRequestError."""
    if not (isinstance(key, str) and key.isascii() and key.isprintable() and 0 < len(key) <= 255):
        raise InvalidRequestError(["idempotency_key must be 1 to 255 printable ASCII characters"])
    return Call(
        Kind.SUBMIT,
        "POST",
        wire.SUBMIT.format(account_id=account_id),
        _submitted,
        body=body,
        idempotency_key=key,
        account_id=account_id,
    )


def fetch(production_id: str, kind: Kind = Kind.READ) -> Call[Production]:
    """Read one production's status."""
    wanted = _valid(production_id)
    return Call(kind, "GET", _path(wire.PRODUCTION, wanted), lambda answer: _production(answer, wanted))


def cancel(production_id: str) -> Call[None]:
    """Stop one production. What its body says is not documented: a following read decides."""
    return Call(Kind.CANCEL, "DELETE", _path(wire.PRODUCTION, _valid(production_id)), lambda _: None)


def deliverables(production_id: str) -> Call[list[Deliverable]]:
    """List what one production made, with fresh signed URLs."""
    owner = _valid(production_id)

    def read(answer: Response) -> list[Deliverable]:
        found = read_list(answer, wire.DELIVERABLES, Deliverable)
        return [evolve(one, production_id=owner) for one in found]

    return Call(Kind.DELIVERABLES, "GET", _path(wire.DELIVERABLES, owner), read)


def performance(production_id: str) -> Call[Performance]:
    """Read one production's analytics."""
    owner = _valid(production_id)
    path = _path(wire.PERFORMANCE, owner)
    return Call(Kind.READ, "GET", path, lambda answer: Performance(owner, raw=parse_object(answer)))


def usage() -> Call[Usage]:
    """Read the partner's usage."""
    return Call(Kind.READ, "GET", wire.USAGE, lambda answer: Usage(raw=parse_object(answer)))


def _valid(production_id: str) -> Id:
    """Only a UUID may become part of a path: joining "../x" would climb out of the API."""
    try:
        return as_id(production_id)
    except ValueError as error:
        raise InvalidRequestError([f"production_id is {error}"]) from None


def _path(route: str, production_id: Id) -> str:
    return route.format(production_id=production_id)


def _production(answer: Response, wanted: Id) -> Production:
    production = decode(parse_object(answer), Production)
    if production.id != wanted:
        raise InvalidResponseError(f"asked for production {wanted}, the answer is about {production.id}")
    return production


def _submitted(answer: Response) -> Production:
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
    except InvalidResponseError:
        if located is None:
            raise
        return Production(located, Status.QUEUED)
    if located not in (None, production.id):
        raise InvalidResponseError(
            f"the answer is about production {production.id}, its Location about {located}"
        )
    return production


def _id_in_location(answer: Response) -> Id | None:
    try:
        path = urlsplit(answer.headers.get("Location", "")).path
        return as_id(path.rstrip("/").rpartition("/")[2])
    except ValueError:  # also of a URL that is none
        return None
