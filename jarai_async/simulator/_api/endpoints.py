"""The endpoints of the Partner API, as functions from a request to a response.

They change the simulator's data but do no I/O and never await, so a request is executed completely or not at
all.

Documented: the paths, 202 with `Location`, the scopes, the codes of 400, 403, 409 (budget) and 429, the
statuses with deliverables, and `"sandbox": true`. Inferred: that cancelling returns 200 with the status, 200
again if the production is already cancelled, and 409 if it has ended otherwise; that lists come inside an
object; the codes NOT_FOUND, DELIVERABLES_NOT_READY, PRODUCTION_NOT_CANCELLABLE and IDEMPOTENCY_KEY_REUSED;
that in the sandbox every identifier belongs to a production that is Published.
"""

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from jarai_async.simulator._api.keys import Key
from jarai_async.simulator._api.rate_limits import Limits
from jarai_async.simulator._api.responses import Layout, Response, error_response
from jarai_async.simulator._api.routes import PREFIX, ROUTES
from jarai_async.simulator._api.validation import read_submission
from jarai_async.simulator._blobs.storage import FINAL, PRELIMINARY, BlobStore
from jarai_async.simulator._common import is_uuid, iso
from jarai_async.simulator._productions.json_bodies import account_body, performance_body, status_body
from jarai_async.simulator._productions.state import (
    WITH_DELIVERABLES,
    SimulatedAccount,
    SimulatedProduction,
    World,
)
from jarai_async.simulator._productions.timelines import EXPIRY_SECONDS
from jarai_async.simulator._rules import ProductionRule, Rules


@frozen
class Request:
    """A request that passed authentication and the limits; `target` is the identifier in its path."""

    route: str
    target: str
    body: bytes | None  # None: larger than the API accepts
    key: Key
    sandbox: bool
    idempotency_key: str | None
    now: float
    wall: float
    rules: list[ProductionRule]  # those of the production that it is about


Handler = Callable[[Request], Response]


class Endpoints:
    """The endpoints of one partner; those about webhooks come from `webhook_handlers`."""

    def __init__(
        self,
        world: World,
        limits: Limits,
        blobs: BlobStore,
        webhook_handlers: Mapping[str, Handler],
        on_change: Callable[[SimulatedProduction], None],
        *,
        rules: Rules,
        idempotency_keys: bool,
    ) -> None:
        self._world = world
        self._limits = limits
        self._blobs = blobs
        self._rules = rules
        self._on_change = on_change
        self.idempotency_keys = idempotency_keys
        self.layout: Layout = "plain"
        self._first_submits: dict[tuple[str, str], tuple[dict[str, Any], Response]] = {}
        self._sandbox_submits = 0
        self._handlers: dict[str, Handler] = {
            **webhook_handlers,
            "accounts": self._accounts,
            "submit": self._submit,
            "fetch": self._fetch,
            "cancel": self._cancel,
            "deliverables": self._deliverables,
            "performance": self._performance,
            "usage": self._usage,
        }

    def execute(self, request: Request) -> Response:
        """Execute a request."""
        scope = ROUTES[request.route].scope
        if not request.key.allows(scope):
            return error_response(403, "PERMISSION_DENIED", f"The key lacks the scope {scope}.")
        response = self._handlers[request.route](request)
        if request.sandbox and response.is_success and isinstance(response.payload, dict):
            response.payload["sandbox"] = True
        return response

    def _accounts(self, _: Request) -> Response:
        return Response(
            200, {"accounts": [account_body(account) for account in self._world.accounts.values()]}
        )

    def _submit(self, request: Request) -> Response:
        account = self._world.accounts.get(request.target.lower())
        if account is None:
            return error_response(403, "INSUFFICIENT_SCOPE", "The account is not open to this key.")
        body = read_submission(request.body)
        if isinstance(body, Response):
            return body
        if request.sandbox:
            self._sandbox_submits += 1
            name = f"{self._world.seed}:sandbox:{self._sandbox_submits}"
            return _accepted(str(uuid.uuid5(uuid.NAMESPACE_URL, name)), request.wall)
        first = self._first_submits.get((account.account_id, request.idempotency_key or ""))
        if first is not None:
            first_body, response = first
            return response if first_body == body else _KEY_REUSED
        rejection = next((rule.rejection for rule in request.rules if rule.rejection), None)
        return rejection or self._quota_error(account, request) or self._create(account, body, request)

    def _quota_error(self, account: SimulatedAccount, request: Request) -> Response | None:
        # The request has already counted against the rate limit, whatever the account's quotas decide.
        exceeded = self._limits.productions_of(account.account_id).exceeded(request.wall)
        if exceeded is not None:
            message = "The account has no productions left today."
            error = error_response(429, "RATE_LIMIT_EXCEEDED", message, retry_after=exceeded.retry_after)
            error.headers.update(exceeded.headers())
            return error
        if self._limits.ceiling.reached(account.account_id, request.wall):
            message = "The account's monthly spend ceiling is reached."
            return error_response(409, "BUDGET_GATE_1_FAILED", message)
        return None

    def _create(self, account: SimulatedAccount, body: dict[str, Any], request: Request) -> Response:
        account_id, key = account.account_id, request.idempotency_key
        changes = [change for rule in request.rules for change in rule.changes]
        production = self._world.submit(account_id, body, key, request.now, request.wall, changes=changes)
        self._rules.bind(production.production_id, request.rules)
        self._limits.count_production(account_id, request.wall)
        self._on_change(production)
        response = _accepted(production.production_id, request.wall)
        if self.idempotency_keys and key:
            self._first_submits[account_id, key] = body, response
        return response

    def _fetch(self, request: Request) -> Response:
        if request.sandbox:
            return _sandbox_status(request, "Published")
        production = self._world.productions.get(request.target.lower())
        if production is None:
            return _NO_PRODUCTION
        production.polls += 1
        return Response(200, status_body(production, request.now))

    def _cancel(self, request: Request) -> Response:
        if request.sandbox:
            return _sandbox_status(request, "Cancelled")
        production = self._world.productions.get(request.target.lower())
        if production is None:
            return _NO_PRODUCTION
        production.cancel(request.now)
        self._on_change(production)
        status = production.status_at(request.now)
        if status != "Cancelled":
            return error_response(409, "PRODUCTION_NOT_CANCELLABLE", f"The production is {status}.")
        return Response(200, status_body(production, request.now))

    def _deliverables(self, request: Request) -> Response:
        version, production_id = FINAL, request.target.lower()
        if not request.sandbox:
            production = self._world.productions.get(production_id)
            if production is None:
                return _NO_PRODUCTION
            status = production.status_at(request.now)
            if status not in WITH_DELIVERABLES:
                message = f"The production is {status}: it has no deliverables."
                return error_response(409, "DELIVERABLES_NOT_READY", message)
            version = FINAL if status == "Published" else PRELIMINARY
        elif not is_uuid(production_id):
            return _NO_PRODUCTION
        deliverables = self._blobs.deliverables(production_id, version, request.wall)
        return Response(200, {"productionId": production_id, "deliverables": deliverables})

    def _performance(self, request: Request) -> Response:
        production_id = request.target.lower()
        if request.sandbox:
            return Response(200, performance_body(production_id, 0.0, request.wall))
        production = self._world.productions.get(production_id)
        if production is None:
            return _NO_PRODUCTION
        is_published = production.status_at(request.now) == "Published"
        seconds = request.now - production.status_since(request.now) if is_published else 0.0
        return Response(200, performance_body(production_id, seconds, request.wall))

    def _usage(self, request: Request) -> Response:
        spent = self._limits.ceiling.spent
        accounts = [
            {"accountId": account_id, "productionsThisMonth": spent(account_id, request.wall)}
            for account_id in self._world.accounts
        ]
        tier = self._limits.tier
        body = {
            "requestsToday": self._limits.day.spent(request.wall),
            "requestsPerMinuteLimit": tier.requests_per_minute,
            "requestsPerDayLimit": tier.requests_per_day,
            "productionsPerDayLimit": tier.productions_per_day,
            "accounts": accounts,
        }
        return Response(200, body)


_NO_PRODUCTION = error_response(404, "NOT_FOUND", "There is no such production.")
_KEY_REUSED = error_response(422, "IDEMPOTENCY_KEY_REUSED", "The key came with another body before.")


def _accepted(production_id: str, wall: float) -> Response:
    body = {
        "productionId": production_id,
        "status": "Queued",
        "expiresAt": iso(wall + EXPIRY_SECONDS),
    }
    return Response(202, body, {"Location": f"{PREFIX}/productions/{production_id}"})


def _sandbox_status(request: Request, status: str) -> Response:
    if not is_uuid(request.target):
        return _NO_PRODUCTION
    return Response(200, {"productionId": request.target.lower(), "status": status})
