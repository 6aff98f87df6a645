"""The calls for webhook subscriptions: each function returns a `Call` and sends nothing.

Documented: the fields that a webhook is created with and their limits, the signing secret in the response,
and that webhooks can be listed, updated and deleted and their deliveries listed. The rest is inferred (see
`wire`). The functions raise InvalidRequestError if an argument breaks a documented rule.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from attrs import evolve

from jarai_async._api import wire
from jarai_async._api.calls import Call, Kind, decode_list
from jarai_async._api.codec import decode, field_name
from jarai_async._api.models import NIL_ID, parse_id
from jarai_async._api.responses import Response, parse_object
from jarai_async._api.webhook_models import NewWebhook, Webhook, WebhookDelivery
from jarai_async._errors import InvalidRequestError
from jarai_async._secret import Secret
from jarai_async._urls import LOCAL_HOSTS


def create(
    endpoint_url: str,
    event_types: Sequence[str],
    account_ids: Sequence[str | UUID] = (),
    account_scope_id: str | UUID | None = None,
) -> Call[NewWebhook]:
    """Create a webhook. It is sent like a submit, on a new connection: a lost response loses the secret."""
    fields = {
        "endpoint_url": endpoint_url,
        "event_types": event_types,
        "account_ids": account_ids or None,
        "account_scope_id": account_scope_id,
    }
    return Call(Kind.READ, "POST", wire.WEBHOOKS, _created, body=_body(fields))


def subscriptions() -> Call[list[Webhook]]:
    """List the webhooks."""
    return Call(
        Kind.READ, "GET", wire.WEBHOOKS, lambda response: decode_list(response, wire.WEBHOOKS, Webhook)
    )


def read(webhook_id: str | UUID) -> Call[Webhook]:
    """Read a webhook."""
    return Call(Kind.READ, "GET", _path(wire.WEBHOOK, webhook_id), _webhook)


def update(
    webhook_id: str | UUID,
    endpoint_url: str | None,
    event_types: Sequence[str] | None,
    account_ids: Sequence[str | UUID] | None,
) -> Call[Webhook]:
    """Change the given fields of a webhook; None leaves a field unchanged."""
    fields = {"endpoint_url": endpoint_url, "event_types": event_types, "account_ids": account_ids}
    path = _path(wire.WEBHOOK, webhook_id)
    return Call(Kind.READ, wire.UPDATE, path, _webhook, body=_body(fields, partial=True))


def delete(webhook_id: str | UUID) -> Call[None]:
    """Delete a webhook."""
    return Call(Kind.READ, "DELETE", _path(wire.WEBHOOK, webhook_id), lambda _: None)


def deliveries(webhook_id: str | UUID) -> Call[list[WebhookDelivery]]:
    """List the recent deliveries of a webhook."""
    route = wire.WEBHOOK_DELIVERIES
    path = _path(route, webhook_id)
    return Call(Kind.READ, "GET", path, lambda response: decode_list(response, route, WebhookDelivery))


def test(webhook_id: str | UUID) -> Call[None]:
    """Request a test event."""
    return Call(Kind.READ, "POST", _path(wire.WEBHOOK_TEST, webhook_id), lambda _: None)


def _created(response: Response) -> NewWebhook:
    """Read a new webhook. The secret is wrapped first, so that no error or traceback shows it.

    Nothing else in the response may hide the secret, which is shown only once.
    """
    secret_name, id_name = (field_name(NewWebhook, name) for name in ("signing_secret", "id"))
    fields = parse_object(response, secret_name)
    if isinstance(fields.get(secret_name), str):
        fields[secret_name] = Secret(fields[secret_name])
    unknown_id = {id_name: NIL_ID} if _id_problems(id_name, fields.get(id_name)) else {}
    webhook = decode(fields | unknown_id, NewWebhook)
    return evolve(webhook, raw={name: value for name, value in fields.items() if name != secret_name})


def _webhook(response: Response) -> Webhook:
    return decode(parse_object(response, field_name(Webhook, "id")), Webhook)


def _path(route: str, webhook_id: str | UUID) -> str:
    try:
        return route.format(webhook_id=parse_id(webhook_id))
    except ValueError as error:
        raise InvalidRequestError([f"webhook_id is {error}"]) from None


def _body(fields: dict[str, Any], *, partial: bool = False) -> bytes:
    """Return the JSON of the fields that are not None. Raises InvalidRequestError with every problem."""
    given = {name: value for name, value in fields.items() if value is not None}
    checks: dict[str, Callable[[Any], list[str]]] = {
        "endpoint_url": _endpoint_problems,
        "event_types": _event_type_problems,
        "account_ids": _account_problems,
        "account_scope_id": lambda value: _id_problems("account_scope_id", value),
    }
    problems = [problem for name, value in given.items() for problem in checks[name](value)]
    if not partial:
        required = ("endpoint_url", "event_types")
        problems += [f"{name} is missing" for name in required if name not in given]
    if partial and not given:
        problems.append("nothing to change")
    if given.keys() >= {"account_ids", "account_scope_id"}:
        problems.append("account_ids and account_scope_id cannot be combined")
    if problems:
        raise InvalidRequestError(problems)
    values = {
        field_name(Webhook, name): str(value) if isinstance(value, str | UUID) else [*map(str, value)]
        for name, value in given.items()
    }
    return json.dumps(values, separators=(",", ":")).encode()


def _endpoint_problems(value: object) -> list[str]:
    """Require https, as JARAI does (documented); http is for a simulator on this machine."""
    try:
        parts = (
            urlsplit(value) if isinstance(value, str) and value.isascii() and value.isprintable() else None
        )
        host = parts.hostname if parts else None
    except ValueError:
        parts = host = None
    if parts and host and (parts.scheme == "https" or (parts.scheme == "http" and host in LOCAL_HOSTS)):
        return []
    return ["endpoint_url must be an https URL (http is allowed for this machine only)"]


def _event_type_problems(value: Any) -> list[str]:
    if isinstance(value, str) or not value or not all(isinstance(item, str) and item for item in value):
        return ["event_types must be a list of one or more event types"]
    return []


def _account_problems(value: Any) -> list[str]:
    if isinstance(value, str) or len(value) > wire.WEBHOOK_ACCOUNTS:
        return [f"account_ids must be a list of at most {wire.WEBHOOK_ACCOUNTS} UUIDs"]
    return [problem for account_id in value for problem in _id_problems("account_ids", account_id)]


def _id_problems(name: str, value: object) -> list[str]:
    try:
        parse_id(value)
    except ValueError as error:
        return [f"{name}: {error}"]
    return []
