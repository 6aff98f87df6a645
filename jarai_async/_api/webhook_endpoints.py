"""The calls about webhook subscriptions, as data: what to send, and how to read what comes back.

Documented: what a webhook is created with, its limits, that the answer has the signing secret, and that
webhooks are listed, deleted and updated and their deliveries listed. All else is inferred (`_wire`).
"""

import json
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from attrs import evolve

from jarai_async._api import wire
from jarai_async._api.calls import Call, Kind, read_list
from jarai_async._api.codec import decode, field_name
from jarai_async._api.models import as_id
from jarai_async._api.responses import Response, parse_object
from jarai_async._api.webhook_models import NewWebhook, Webhook, WebhookDelivery
from jarai_async._errors import InvalidRequestError
from jarai_async._secret import Secret
from jarai_async._urls import LOCAL_HOSTS


def create(
    endpoint_url: str,
    event_types: Sequence[str],
    account_ids: Sequence[str] = (),
    account_scope_id: str | None = None,
) -> Call[NewWebhook]:
    """Subscribe. It goes as a submit does, over a connection of its own: a lost answer is a lost secret."""
    fields = {
        "endpoint_url": endpoint_url,
        "event_types": event_types,
        "account_ids": account_ids or None,
        "account_scope_id": account_scope_id,
    }
    return Call(Kind.SUBMIT, "POST", wire.WEBHOOKS, _created, body=_body(fields))


def subscriptions() -> Call[list[Webhook]]:
    """List the webhooks."""
    return Call(Kind.READ, "GET", wire.WEBHOOKS, lambda answer: read_list(answer, wire.WEBHOOKS, Webhook))


def read(webhook_id: str) -> Call[Webhook]:
    """Read one webhook."""
    return Call(Kind.READ, "GET", _path(wire.WEBHOOK, webhook_id), _webhook)


def update(
    webhook_id: str,
    endpoint_url: str | None,
    event_types: Sequence[str] | None,
    account_ids: Sequence[str] | None,
) -> Call[Webhook]:
    """Change what is given; None leaves it as it is."""
    fields = {"endpoint_url": endpoint_url, "event_types": event_types, "account_ids": account_ids}
    return Call(
        Kind.READ, wire.UPDATE, _path(wire.WEBHOOK, webhook_id), _webhook, body=_body(fields, partly=True)
    )


def delete(webhook_id: str) -> Call[None]:
    """End one webhook."""
    return Call(Kind.READ, "DELETE", _path(wire.WEBHOOK, webhook_id), lambda _: None)


def deliveries(webhook_id: str) -> Call[list[WebhookDelivery]]:
    """List the recent deliveries of one webhook."""
    route = wire.WEBHOOK_DELIVERIES
    path = _path(route, webhook_id)
    return Call(Kind.READ, "GET", path, lambda answer: read_list(answer, route, WebhookDelivery))


def test(webhook_id: str) -> Call[None]:
    """Ask for a test event."""
    return Call(Kind.SUBMIT, "POST", _path(wire.WEBHOOK_TEST, webhook_id), lambda _: None)


def _created(answer: Response) -> NewWebhook:
    """Read a new webhook. Its secret is hidden at once, also from who prints what an error was about."""
    fields = parse_object(answer)
    name = field_name(NewWebhook, "signing_secret")
    if isinstance(fields.get(name), str):
        fields[name] = Secret(fields[name])
    webhook = decode(fields, NewWebhook)
    return evolve(webhook, raw={one: value for one, value in fields.items() if one != name})


def _webhook(answer: Response) -> Webhook:
    return decode(parse_object(answer), Webhook)


def _path(route: str, webhook_id: str) -> str:
    try:
        return route.format(webhook_id=as_id(webhook_id))
    except ValueError as error:
        raise InvalidRequestError([f"webhook_id is {error}"]) from None


def _body(fields: dict[str, Any], *, partly: bool = False) -> bytes:
    """Write what is given. Raises InvalidRequestError that names every fault."""
    given = {name: value for name, value in fields.items() if value is not None}
    checks: dict[str, Callable[[Any], list[str]]] = {
        "endpoint_url": _endpoint_faults,
        "event_types": _event_type_faults,
        "account_ids": _account_faults,
        "account_scope_id": lambda value: _id_faults("account_scope_id", value),
    }
    faults = [fault for name, value in given.items() for fault in checks[name](value)]
    if not partly:
        required = ("endpoint_url", "event_types")
        faults += [f"{name} is missing" for name in required if name not in given]
    if partly and not given:
        faults.append("nothing to change")
    if given.keys() >= {"account_ids", "account_scope_id"}:
        faults.append("account_ids and account_scope_id exclude each other")
    if faults:
        raise InvalidRequestError(faults)
    values = {
        field_name(Webhook, name): value if isinstance(value, str) else list(value)
        for name, value in given.items()
    }
    return json.dumps(values, separators=(",", ":")).encode()


def _endpoint_faults(value: object) -> list[str]:
    """JARAI takes https only (documented); a simulator on this machine has no certificate."""
    try:
        parts = (
            urlsplit(value) if isinstance(value, str) and value.isascii() and value.isprintable() else None
        )
        host = parts.hostname if parts else None
    except ValueError:
        parts = host = None
    if parts and host and (parts.scheme == "https" or (parts.scheme == "http" and host in LOCAL_HOSTS)):
        return []
    return ["endpoint_url must be an https URL (http on this machine only)"]


def _event_type_faults(value: Any) -> list[str]:
    if isinstance(value, str) or not value or not all(isinstance(one, str) and one for one in value):
        return ["event_types must be one or more types of events"]
    return []


def _account_faults(value: Any) -> list[str]:
    if isinstance(value, str) or len(value) > wire.WEBHOOK_ACCOUNTS:
        return [f"account_ids must be at most {wire.WEBHOOK_ACCOUNTS} identifiers"]
    return [fault for one in value for fault in _id_faults("account_ids", one)]


def _id_faults(name: str, value: object) -> list[str]:
    try:
        as_id(value)
    except ValueError as error:
        return [f"{name}: {error}"]
    return []
