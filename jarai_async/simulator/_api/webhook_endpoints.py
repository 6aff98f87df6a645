"""The endpoints about webhooks.

Documented: the fields of a new webhook, https, one or more event types, at most 50 accounts, which exclude a
scope, at most 100 webhooks, and that the signing secret is shown once. Inferred: the paths, PATCH for
changes, every other field and status. Not documented: plain http is accepted for this machine.
"""

import base64
import random
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from jarai_async.simulator._api.endpoints import Handler, Request
from jarai_async.simulator._api.responses import Response, error_response
from jarai_async.simulator._api.validation import read_object
from jarai_async.simulator._common import LOOPBACK_HOSTS, draw_uuid, is_uuid, iso
from jarai_async.simulator._productions.state import World
from jarai_async.simulator._webhooks.delivery import Delivery, SimulatedWebhook, WebhookSender
from jarai_async.simulator._webhooks.emitter import WebhookEmitter

_MAX_WEBHOOKS = 100
_MAX_ACCOUNTS = 50
_MAX_DELIVERIES = 100  # inferred


class WebhookEndpoints:
    """The endpoints about the webhooks of one partner; `handlers` holds them by route."""

    def __init__(self, seed: int | str, world: World, emitter: WebhookEmitter, sender: WebhookSender) -> None:
        self._random = random.Random(f"{seed}:webhooks")
        self._world = world
        self._emitter = emitter
        self._sender = sender
        self._created = 0
        self.handlers: Mapping[str, Handler] = {
            "webhooks": self._list,
            "create_webhook": self._create,
            "webhook": self._fetch,
            "update_webhook": self._update,
            "delete_webhook": self._delete,
            "webhook_deliveries": self._deliveries,
            "test_webhook": self._test,
        }

    def _list(self, _: Request) -> Response:
        return Response(200, {"webhooks": [_body(webhook) for webhook in self._emitter.webhooks.values()]})

    def _create(self, request: Request) -> Response:
        fields = self._read_fields(request, required=("endpointUrl", "eventTypes"))
        if isinstance(fields, Response):
            return fields
        if len(self._emitter.webhooks) >= _MAX_WEBHOOKS:
            return error_response(409, "WEBHOOK_LIMIT_REACHED", f"There are {_MAX_WEBHOOKS} webhooks.")
        webhook = self._new_webhook(fields, request.wall)
        if not request.sandbox:
            self._emitter.add(webhook)
            self._emitter.on_change(webhook)
        return Response(201, {**_body(webhook), "signingSecret": webhook.signing_secret})

    def _new_webhook(self, fields: dict[str, Any], wall: float) -> SimulatedWebhook:
        webhook_id = ""
        while webhook_id in ("", *self._emitter.webhooks):  # one that was restored has been drawn before
            self._created += 1
            secret = base64.urlsafe_b64encode(self._random.randbytes(32)).decode().rstrip("=")
            webhook_id = draw_uuid(self._random)
        return SimulatedWebhook(
            webhook_id,
            self._created,
            fields["endpointUrl"],
            tuple(fields["eventTypes"]),
            tuple(fields.get("accountIds") or ()),
            fields.get("accountScopeId"),
            secret,
            wall,
        )

    def _fetch(self, request: Request) -> Response:
        webhook = self._find(request)
        return _NO_WEBHOOK if webhook is None else Response(200, _body(webhook))

    def _update(self, request: Request) -> Response:
        webhook = self._find(request)
        if webhook is None:
            return _NO_WEBHOOK
        fields = self._read_fields(request)
        if isinstance(fields, Response):
            return fields
        if not request.sandbox:
            webhook.endpoint_url = fields.get("endpointUrl", webhook.endpoint_url)
            webhook.event_types = tuple(fields.get("eventTypes", webhook.event_types))
            webhook.account_ids = tuple(fields.get("accountIds", webhook.account_ids))
            self._emitter.on_change(webhook)
        return Response(200, _body(webhook))

    def _delete(self, request: Request) -> Response:
        webhook = self._find(request)
        if webhook is None:
            return _NO_WEBHOOK
        if not request.sandbox:
            self._emitter.webhooks.pop(webhook.webhook_id).deleted = True
            self._emitter.on_change(webhook)
        return Response(204)

    def _deliveries(self, request: Request) -> Response:
        webhook = self._find(request)
        if webhook is None:
            return _NO_WEBHOOK
        attempted = [
            delivery
            for delivery in self._sender.deliveries
            if delivery.webhook_id == webhook.webhook_id and delivery.attempts
        ]
        newest_first = reversed(attempted[-_MAX_DELIVERIES:])
        return Response(200, {"deliveries": [_delivery_body(each, request) for each in newest_first]})

    def _test(self, request: Request) -> Response:
        webhook = self._find(request)
        if webhook is None:
            return _NO_WEBHOOK
        if not request.sandbox:
            self._emitter.test(webhook)
        return Response(202, {"webhookId": webhook.webhook_id})

    def _find(self, request: Request) -> SimulatedWebhook | None:
        return self._emitter.webhooks.get(request.target.lower())

    def _read_fields(self, request: Request, required: tuple[str, ...] = ()) -> dict[str, Any] | Response:
        fields = read_object(request.body)
        if isinstance(fields, Response):
            return fields
        wrong = wrong_fields(fields, required)
        if wrong:
            return error_response(400, "INVALID_REQUEST", f"Missing or wrong: {', '.join(wrong)}.")
        account_ids = [*(fields.get("accountIds") or ()), fields.get("accountScopeId")]
        if any(account_id not in (None, *self._world.accounts) for account_id in account_ids):
            return error_response(403, "INSUFFICIENT_SCOPE", "An account is not open to this key.")
        return fields


_NO_WEBHOOK = error_response(404, "NOT_FOUND", "There is no such webhook.")


def wrong_fields(fields: dict[str, Any], required: tuple[str, ...] = ()) -> list[str]:
    """Return the names of the fields of a webhook that the API rejects."""
    rules = {
        "endpointUrl": _is_endpoint_url,
        "eventTypes": _is_event_types,
        "accountIds": _is_account_ids,
        "accountScopeId": is_uuid,
    }
    wrong = [name for name, rule in rules.items() if name in fields and not rule(fields[name])]
    wrong += [name for name in required if name not in fields]
    if fields.get("accountIds") and fields.get("accountScopeId"):
        wrong.append("accountScopeId")
    return wrong


def _is_endpoint_url(value: object) -> bool:
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
    except ValueError:
        return False
    if parts is None or not parts.hostname:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS)


def _is_event_types(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) and each for each in value)


def _is_account_ids(value: object) -> bool:
    return isinstance(value, list) and len(value) <= _MAX_ACCOUNTS and all(map(is_uuid, value))


def _body(webhook: SimulatedWebhook) -> dict[str, Any]:
    return {
        "webhookId": webhook.webhook_id,
        "endpointUrl": webhook.endpoint_url,
        "eventTypes": list(webhook.event_types),
        "accountIds": list(webhook.account_ids),
        "accountScopeId": webhook.account_scope_id,
        "createdAt": iso(webhook.created_wall),
    }


def _delivery_body(delivery: Delivery, request: Request) -> dict[str, Any]:
    """Return a delivery as partners see it; its status is that of the last attempt."""
    attempted_at, status = delivery.attempts[-1]
    unfinished = "Failed" if delivery.given_up else "Pending"
    return {
        "deliveryId": delivery.delivery_id,
        "eventId": delivery.event.event_id,
        "eventType": delivery.event.event_type,
        "productionId": delivery.event.production_id,
        "status": "Delivered" if delivery.delivered_at is not None else unfinished,
        "responseStatus": status,
        "attempts": len(delivery.attempts),
        "attemptedAt": iso(request.wall - (request.now - attempted_at)),
    }
