"""What each endpoint of the Partner API says, as functions from a call to an answer.

Pure but for the world that they change: no sockets, no clock, no awaiting, so that a call is executed
wholly or not at all.

Documented: the paths, 202 with `Location`, the scopes, the codes of 400, 403, 409 (budget) and 429, the
statuses with deliverables, and `"sandbox": true`. Inferred: that cancelling answers 200 with the status,
again 200 when it is cancelled already and 409 when it is over; that lists come inside an object; the codes
NOT_FOUND, DELIVERABLES_NOT_READY, PRODUCTION_NOT_CANCELLABLE and IDEMPOTENCY_KEY_REUSED; the scope of
`/usage`; that in the sandbox every identifier has a production that is Published.
"""

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen, mutable

from jarai_async.simulator._api.keys import Key
from jarai_async.simulator._api.rate_limits import Limits
from jarai_async.simulator._api.responses import Response, failure
from jarai_async.simulator._api.validation import is_uuid, read_submission
from jarai_async.simulator._blobs.storage import FINAL, PRELIMINARY, BlobStore
from jarai_async.simulator._productions.json_bodies import account_body, iso, performance_body, status_body
from jarai_async.simulator._productions.state import (
    WITH_DELIVERABLES,
    SimulatedAccount,
    SimulatedProduction,
    World,
)
from jarai_async.simulator._productions.timelines import EXPIRY_SECONDS

PREFIX = "/v1/partner"
SCOPE_OF = {
    "accounts": "accounts:read",
    "submit": "productions:write",
    "fetch": "productions:read",
    "cancel": "productions:write",
    "deliverables": "deliverables:read",
    "performance": "analytics:read",
    "usage": "analytics:read",
    "webhooks": "webhooks:read",
    "webhook": "webhooks:read",
    "webhook_deliveries": "webhooks:read",
    "create_webhook": "webhooks:write",
    "update_webhook": "webhooks:write",
    "delete_webhook": "webhooks:write",
    "test_webhook": "webhooks:write",
}


@frozen
class Call:
    """A request that was let in; `target` is the identifier in its path."""

    route: str
    target: str
    body: bytes | None  # None: more than the API takes
    key: Key
    sandbox: bool
    idempotency_key: str | None
    now: float
    wall: float


Route = Callable[[Call], Response]


@mutable
class _Remembered:
    """The first answer to an idempotency key, and what it answered."""

    body: dict[str, Any]
    answer: Response


class Endpoints:
    """The endpoints of one partner."""

    def __init__(
        self,
        world: World,
        limits: Limits,
        blobs: BlobStore,
        further: Mapping[str, Route],
        changed: Callable[[SimulatedProduction], None],
        *,
        idempotency_keys: bool,
    ) -> None:
        self._world = world
        self._changed = changed
        self._limits = limits
        self._blobs = blobs
        self._honours_keys = idempotency_keys
        self._remembered: dict[tuple[str, str], _Remembered] = {}
        self._sandbox_submits = 0
        self._routes: dict[str, Route] = {
            **further,
            "accounts": self._accounts,
            "submit": self._submit,
            "fetch": self._fetch,
            "cancel": self._cancel,
            "deliverables": self._deliverables,
            "performance": self._performance,
            "usage": self._usage,
        }

    def answer(self, call: Call) -> Response:
        """Execute a call."""
        if not call.key.may(SCOPE_OF[call.route]):
            message = f"The key lacks the scope {SCOPE_OF[call.route]}."
            return failure(403, "PERMISSION_DENIED", message)
        answer = self._routes[call.route](call)
        if call.sandbox and answer.is_success and isinstance(answer.payload, dict):
            answer.payload["sandbox"] = True
        return answer

    def _accounts(self, _: Call) -> Response:
        return Response(200, {"accounts": [account_body(one) for one in self._world.accounts.values()]})

    def _submit(self, call: Call) -> Response:
        account = self._world.accounts.get(call.target.lower())
        if account is None:
            return failure(403, "INSUFFICIENT_SCOPE", "The account is not open to this key.")
        body = read_submission(call.body)
        if isinstance(body, Response):
            return body
        if call.sandbox:
            self._sandbox_submits += 1
            name = f"{self._world.seed}:sandbox:{self._sandbox_submits}"
            return _accepted(str(uuid.uuid5(uuid.NAMESPACE_URL, name)), call.wall)
        known = self._remembered.get((account.account_id, call.idempotency_key or ""))
        if known is not None:
            return known.answer if known.body == body else _KEY_REUSED
        return self._refusal(account, call) or self._begin(account, body, call)

    def _refusal(self, account: SimulatedAccount, call: Call) -> Response | None:
        # A refusal by an account's quota comes after the request was let in, so its place stays taken.
        refused = self._limits.productions_of(account.account_id).error_from(call.wall)
        if refused is not None:
            message = "The account has no productions left today."
            answer = failure(429, "RATE_LIMIT_EXCEEDED", message, retry_after=refused.retry_after)
            answer.headers.update(refused.headers())
            return answer
        if self._limits.ceiling.reached(account.account_id, call.wall):
            message = "The account's monthly spend ceiling is reached."
            return failure(409, "BUDGET_GATE_1_FAILED", message)
        return None

    def _begin(self, account: SimulatedAccount, body: dict[str, Any], call: Call) -> Response:
        account_id, key = account.account_id, call.idempotency_key
        production = self._world.submit(account_id, body, key, call.now, call.wall)
        self._limits.productions_of(account_id).count(call.wall)
        self._limits.ceiling.count(account_id, call.wall)
        self._changed(production)
        answer = _accepted(production.production_id, call.wall)
        if self._honours_keys and key:
            self._remembered[account_id, key] = _Remembered(body, answer)
        return answer

    def _fetch(self, call: Call) -> Response:
        if call.sandbox:
            return _synthetic(call, "Published")
        production = self._world.productions.get(call.target.lower())
        if production is None:
            return _NO_PRODUCTION
        production.polls += 1
        return Response(200, status_body(production, call.now))

    def _cancel(self, call: Call) -> Response:
        if call.sandbox:
            return _synthetic(call, "Cancelled")
        production = self._world.productions.get(call.target.lower())
        if production is None:
            return _NO_PRODUCTION
        if production.cancel(call.now):
            self._changed(production)
        if production.status_at(call.now) == "Cancelled":
            return Response(200, status_body(production, call.now))
        message = f"The production is {production.status_at(call.now)}."
        return failure(409, "PRODUCTION_NOT_CANCELLABLE", message)

    def _deliverables(self, call: Call) -> Response:
        version, production_id = FINAL, call.target.lower()
        if not call.sandbox:
            production = self._world.productions.get(production_id)
            if production is None:
                return _NO_PRODUCTION
            status = production.status_at(call.now)
            if status not in WITH_DELIVERABLES:
                message = f"The production is {status}: it has no deliverables."
                return failure(409, "DELIVERABLES_NOT_READY", message)
            version = FINAL if status == "Published" else PRELIMINARY
        elif not is_uuid(production_id):
            return _NO_PRODUCTION
        listed = self._blobs.deliverables(production_id, version, call.wall)
        return Response(200, {"productionId": production_id, "deliverables": listed})

    def _performance(self, call: Call) -> Response:
        production_id = call.target.lower()
        production = self._world.productions.get(production_id)
        if call.sandbox:
            return Response(200, performance_body(production_id, 0.0, call.wall))
        if production is None:
            return _NO_PRODUCTION
        out = production.status_at(call.now) == "Published"
        seconds = call.now - production.status_since(call.now) if out else 0.0
        return Response(200, performance_body(production_id, seconds, call.wall))

    def _usage(self, call: Call) -> Response:
        spent = self._limits.ceiling.spent
        accounts = [
            {"accountId": account_id, "productionsThisMonth": spent(account_id, call.wall)}
            for account_id in self._world.accounts
        ]
        tier = self._limits.tier
        fields = {
            "requestsToday": self._limits.day.spent(call.wall),
            "requestsPerMinuteLimit": tier.requests_per_minute,
            "requestsPerDayLimit": tier.requests_per_day,
            "productionsPerDayLimit": tier.productions_per_day,
            "accounts": accounts,
        }
        return Response(200, fields)


_NO_PRODUCTION = failure(404, "NOT_FOUND", "There is no such production.")
_KEY_REUSED = failure(422, "IDEMPOTENCY_KEY_REUSED", "The key came with another body before.")


def _accepted(production_id: str, wall: float) -> Response:
    body = {
        "productionId": production_id,
        "status": "Queued",
        "expiresAt": iso(wall + EXPIRY_SECONDS),
    }
    return Response(202, body, {"Location": f"{PREFIX}/productions/{production_id}"})


def _synthetic(call: Call, status: str) -> Response:
    """A sandbox answer: any well-formed identifier has a production that is over and done."""
    if not is_uuid(call.target):
        return _NO_PRODUCTION
    return Response(200, {"productionId": call.target.lower(), "status": status})
