"""The calls for accounts, productions and usage: each function returns a `Call` and sends nothing.

A function that takes a `production_id` raises InvalidRequestError if that is not a UUID.
"""

from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from attrs import evolve

from jarai_async._api import wire
from jarai_async._api.calls import Call, Kind, decode_list
from jarai_async._api.codec import KNOWN_STATUSES, decode, field_name
from jarai_async._api.listing import with_listing
from jarai_async._api.models import (
    Account,
    Deliverable,
    Id,
    Performance,
    Production,
    Status,
    Usage,
    parse_id,
)
from jarai_async._api.responses import Response, parse_object
from jarai_async._errors import InvalidRequestError, InvalidResponseError, TransportError

_ID = field_name(Production, "id")


def accounts() -> Call[list[Account]]:
    """List the accounts that the API key can access."""
    return Call(
        Kind.READ, "GET", wire.ACCOUNTS, lambda response: decode_list(response, wire.ACCOUNTS, Account)
    )


def submit(account_id: str, body: bytes, key: str) -> Call[Production]:
    """Submit a production, with exactly this body. Raises InvalidRequestError for an unusable key."""
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


def fetch(production_id: str | UUID, kind: Kind = Kind.READ) -> Call[Production]:
    """Read the status of a production."""
    requested = _valid(production_id)
    path = _path(wire.PRODUCTION, requested)
    return Call(kind, "GET", path, lambda response: _production(response, requested))


def cancel(production_id: str | UUID) -> Call[None]:
    """Cancel a production. The body of the response is not documented, so it is not read."""
    return Call(Kind.CANCEL, "DELETE", _path(wire.PRODUCTION, _valid(production_id)), lambda _: None)


def deliverables(production_id: str | UUID) -> Call[list[Deliverable]]:
    """List the deliverables of a production, with new signed URLs."""
    owner = _valid(production_id)

    def read(response: Response) -> list[Deliverable]:
        listed = decode_list(response, wire.DELIVERABLES, Deliverable)
        return with_listing([evolve(deliverable, production_id=owner) for deliverable in listed])

    return Call(Kind.DELIVERABLES, "GET", _path(wire.DELIVERABLES, owner), read)


def performance(production_id: str | UUID) -> Call[Performance]:
    """Read the analytics of a production."""
    owner = _valid(production_id)
    path = _path(wire.PERFORMANCE, owner)
    return Call(Kind.READ, "GET", path, lambda response: Performance(owner, raw=parse_object(response)))


def usage() -> Call[Usage]:
    """Read the partner's usage."""
    return Call(Kind.READ, "GET", wire.USAGE, lambda response: Usage(raw=parse_object(response)))


def _valid(production_id: str | UUID) -> Id:
    """Reject anything but a UUID: in a path, "../x" would lead to another resource."""
    try:
        return parse_id(production_id)
    except ValueError as error:
        raise InvalidRequestError([f"production_id is {error}"]) from None


def _path(route: str, production_id: Id) -> str:
    return route.format(production_id=production_id)


def _production(response: Response, requested: Id) -> Production:
    production = _decode(parse_object(response, _ID, "status"), requested)
    if production.id != requested:
        raise InvalidResponseError(
            f"requested production {requested}, but the response is about {production.id}"
        )
    return production


def _decode(value: dict[str, Any], expected: Id | None) -> Production:
    """Decode a production. Without `productionId` it is that of `id`, or else the expected one (inferred).

    It is the expected one only with a documented status: the object could be anything else.
    """
    if value.get(_ID) is not None:
        return decode(value, Production)
    try:
        production_id: Id | None = parse_id(value.get(wire.ID))
    except ValueError:
        status = value.get("status")
        production_id = expected if isinstance(status, str) and status in KNOWN_STATUSES else None
    return evolve(decode(value | {_ID: production_id}, Production), raw=value)


def _submitted(response: Response) -> Production:
    """Read the response to an accepted submit: the production's id is in the body or in the Location header.

    If the two name different productions, the response is invalid: one of them belongs to another submit.
    """
    location_id = _id_in_location(response)
    try:
        value = parse_object(response, _ID, wire.ID)
        status = value.get("status")
        if not isinstance(status, str) or not status:
            status = str(Status.QUEUED)  # inferred: a production that was just accepted is queued
        production = evolve(_decode(value | {"status": status}, location_id), raw=value)
    except TransportError:
        if location_id is None:
            raise
        return Production(location_id, Status.QUEUED)
    if location_id not in (None, production.id):
        raise InvalidResponseError(
            f"the body names production {production.id}, the Location header {location_id}"
        )
    return production


def _id_in_location(response: Response) -> Id | None:
    """Return the segment after `/productions/`, or else the last one: only what it leads to is documented."""
    try:
        path = "/" + urlsplit(response.headers.get("Location", "")).path
        _, found, rest = path.rpartition("/productions/")
        return parse_id(rest.partition("/")[0] if found else rest.rstrip("/").rpartition("/")[2])
    except ValueError:  # also raised by urlsplit for an invalid URL
        return None
