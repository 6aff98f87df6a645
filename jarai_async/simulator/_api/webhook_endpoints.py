"""What the endpoints about webhooks say.

Documented: the fields of a new one, https, one or more event types, at most 50 accounts, which exclude a
scope, at most 100 webhooks, and that the signing secret is shown once. Inferred: the paths, what changes
one (PATCH), every other field and status. Plain http is taken for this machine only, as is not documented.
"""

import base64
import json
import random
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from jarai_async.simulator._api.endpoints import Call, Route
from jarai_async.simulator._api.responses import Response, failure
from jarai_async.simulator._api.validation import is_uuid
from jarai_async.simulator._productions.json_bodies import iso
from jarai_async.simulator._productions.state import World, draw_uuid
from jarai_async.simulator._webhooks.delivery import LOCAL_HOSTS, Delivery, SimulatedWebhook, WebhookSender
from jarai_async.simulator._webhooks.emitter import WebhookEmitter

_MOST_WEBHOOKS = 100
_MOST_ACCOUNTS = 50
_MOST_DELIVERIES = 100  # inferred: how many count as recent


class Subscriptions:
    """The webhooks of one partner."""

    def __init__(self, seed: int | str, world: World, emitter: WebhookEmitter, sender: WebhookSender) -> None:
        self._random = random.Random(f"{seed}:webhooks")
        self._world = world
        self._emitter = emitter
        self._sender = sender
        self._created = 0
        self.routes: Mapping[str, Route] = {
            "webhooks": self._list,
            "create_webhook": self._create,
            "webhook": self._read,
            "update_webhook": self._update,
            "delete_webhook": self._delete,
            "webhook_deliveries": self._deliveries,
            "test_webhook": self._test,
        }

    def _list(self, _: Call) -> Response:
        return Response(200, {"webhooks": [_body(one) for one in self._emitter.webhooks.values()]})

    def _create(self, call: Call) -> Response:
        fields = _read_fields(call.body)
        if isinstance(fields, Response):
            return fields
        error_from = _refusal(fields, required=("endpointUrl", "eventTypes")) or self._accounts_refusal(
            fields
        )
        if error_from is None and len(self._emitter.webhooks) >= _MOST_WEBHOOKS:
            error_from = failure(409, "WEBHOOK_LIMIT_REACHED", f"There are {_MOST_WEBHOOKS} webhooks.")
        if error_from is not None:
            return error_from
        webhook = self._draw(fields, call.wall)
        if not call.sandbox:
            self._emitter.add(webhook)
        return Response(201, {**_body(webhook), "signingSecret": webhook.signing_secret})

    def _draw(self, fields: dict[str, Any], wall: float) -> SimulatedWebhook:
        self._created += 1
        secret = base64.urlsafe_b64encode(self._random.randbytes(32)).decode().rstrip("=")
        return SimulatedWebhook(
            draw_uuid(self._random),
            self._created,
            fields["endpointUrl"],
            tuple(fields["eventTypes"]),
            tuple(fields.get("accountIds") or ()),
            fields.get("accountScopeId"),
            secret,
            wall,
        )

    def _read(self, call: Call) -> Response:
        webhook = self._emitter.webhooks.get(call.target.lower())
        return _NO_WEBHOOK if webhook is None else Response(200, _body(webhook))

    def _update(self, call: Call) -> Response:
        webhook = self._emitter.webhooks.get(call.target.lower())
        if webhook is None:
            return _NO_WEBHOOK
        fields = _read_fields(call.body)
        if isinstance(fields, Response):
            return fields
        error_from = _refusal(fields) or self._accounts_refusal(fields)
        if error_from is not None:
            return error_from
        if not call.sandbox:
            webhook.endpoint_url = fields.get("endpointUrl", webhook.endpoint_url)
            webhook.event_types = tuple(fields.get("eventTypes", webhook.event_types))
            webhook.account_ids = tuple(fields.get("accountIds", webhook.account_ids))
        return Response(200, _body(webhook))

    def _delete(self, call: Call) -> Response:
        webhook_id = call.target.lower()
        if webhook_id not in self._emitter.webhooks:
            return _NO_WEBHOOK
        if not call.sandbox:
            self._emitter.webhooks.pop(webhook_id).deleted = True
        return Response(204)

    def _deliveries(self, call: Call) -> Response:
        webhook_id = call.target.lower()
        if webhook_id not in self._emitter.webhooks:
            return _NO_WEBHOOK
        of_it = [one for one in self._sender.deliveries if one.webhook_id == webhook_id and one.attempts]
        told = [_delivery_body(one, call) for one in reversed(of_it[-_MOST_DELIVERIES:])]
        return Response(200, {"deliveries": told})

    def _test(self, call: Call) -> Response:
        webhook = self._emitter.webhooks.get(call.target.lower())
        if webhook is None:
            return _NO_WEBHOOK
        if not call.sandbox:
            self._emitter.test(webhook)
        return Response(202, {"webhookId": webhook.webhook_id})

    def _accounts_refusal(self, fields: dict[str, Any]) -> Response | None:
        named = [*(fields.get("accountIds") or ()), fields.get("accountScopeId")]
        if any(one is not None and one not in self._world.accounts for one in named):
            return failure(403, "INSUFFICIENT_SCOPE", "An account is not open to this key.")
        return None


_NO_WEBHOOK = failure(404, "NOT_FOUND", "There is no such webhook.")


def _read_fields(raw: bytes | None) -> dict[str, Any] | Response:
    if raw is None:
        return failure(413, None, "The request is too large.")
    try:
        fields = json.loads(raw)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        return failure(400, "INVALID_REQUEST", "The body is not an object.")
    return fields


def _refusal(fields: dict[str, Any], required: tuple[str, ...] = ()) -> Response | None:
    rules = {"endpointUrl": _is_endpoint, "eventTypes": _are_types, "accountIds": _are_accounts}
    rules["accountScopeId"] = is_uuid
    wrong = [name for name, rule in rules.items() if name in fields and not rule(fields[name])]
    wrong += [name for name in required if name not in fields]
    if fields.get("accountIds") and fields.get("accountScopeId"):
        wrong.append("accountScopeId")
    if not wrong:
        return None
    return failure(400, "INVALID_REQUEST", f"Missing or wrong: {', '.join(wrong)}.")


def _is_endpoint(value: object) -> bool:
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
    except ValueError:
        return False
    if parts is None or not parts.hostname:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOCAL_HOSTS)


def _are_types(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) and one for one in value)


def _are_accounts(value: object) -> bool:
    return isinstance(value, list) and len(value) <= _MOST_ACCOUNTS and all(is_uuid(one) for one in value)


def _body(webhook: SimulatedWebhook) -> dict[str, Any]:
    return {
        "webhookId": webhook.webhook_id,
        "endpointUrl": webhook.endpoint_url,
        "eventTypes": list(webhook.event_types),
        "accountIds": list(webhook.account_ids),
        "accountScopeId": webhook.account_scope_id,
        "createdAt": iso(webhook.created_wall),
    }


def _delivery_body(delivery: Delivery, call: Call) -> dict[str, Any]:
    """What the partner may know of a delivery; the last attempt says how it went."""
    at, status = delivery.attempts[-1]
    state = "Failed" if delivery.given_up else "Pending"
    return {
        "deliveryId": delivery.delivery_id,
        "eventId": delivery.event.event_id,
        "eventType": delivery.event.event_type,
        "productionId": delivery.event.production_id,
        "status": "Delivered" if delivery.delivered_at is not None else state,
        "responseStatus": status,
        "attempts": len(delivery.attempts),
        "attemptedAt": iso(call.wall - (call.now - at)),
    }
