"""The two HTTP servers: the Partner API, and the blob storage on another origin.

The API handles every request in the same order: key, limits, route, fault, endpoint. One synchronous function
does all of this, so requests are executed one after the other, and if a client disconnects, its request has
been executed completely or not at all. There is no router and no access log because a run with thousands of
requests shares one core with the client.
"""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable

from aiohttp import web
from attrs import define, frozen

from jarai_async import _clock
from jarai_async.simulator._api.endpoints import Endpoints, Request
from jarai_async.simulator._api.faults import Faults
from jarai_async.simulator._api.keys import Key, KeyStore
from jarai_async.simulator._api.rate_limits import Limits, LimitState
from jarai_async.simulator._api.request_log import RequestLog, RequestRecord
from jarai_async.simulator._api.responses import Response, error_response, lay_out, storage_error
from jarai_async.simulator._api.routes import find_route
from jarai_async.simulator._api.validation import read_submission
from jarai_async.simulator._api.writer import ResponseWriter
from jarai_async.simulator._blobs.storage import BlobStore, production_of
from jarai_async.simulator._common import draw_uuid
from jarai_async.simulator._rules import ProductionRule, Rules

_MAX_BODY_BYTES = 64 * 1024  # inferred: documented is only that a request can be too large
_NO_KEY = error_response(401, "UNAUTHORIZED", "The key is missing, unknown or revoked.")


@frozen
class _Decision:
    response: Response
    limit: LimitState | None = None


@define
class ApiServer:
    """The request handler of the API."""

    keys: KeyStore
    limits: Limits
    faults: Faults
    rules: Rules
    endpoints: Endpoints
    request_log: RequestLog
    writer: ResponseWriter
    latency: float
    random: random.Random

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Handle one request, with the latency split at random between request and response."""
        body = await _read(request)
        rules = self._rules_of(request, body)  # now: latency must not change the order of submissions
        before, after = self._delays()
        if before:
            await asyncio.sleep(before)
        record = RequestRecord(_clock.monotonic(), request.method, "unknown")
        self.request_log.requests.append(record)
        decision = self._decide(request, body, record, rules)
        response, headers = decision.response, self._headers(decision)
        if after:
            await asyncio.sleep(after)
        if response.send_mode not in ("reset", "hang"):
            record.status = response.status
        return await self.writer.send(request, response, headers)

    def _delays(self) -> tuple[float, float]:
        if self.latency <= 0:
            return 0.0, 0.0
        total = self.random.expovariate(1 / self.latency)
        before = total * self.random.random()
        return before, total - before

    def _decide(
        self,
        request: web.BaseRequest,
        body: bytes | None,
        record: RequestRecord,
        rules: list[ProductionRule],
    ) -> _Decision:
        record.route, target, routing_error = find_route(request.method, request.path)
        record.target = sys.intern(target)  # one string for all polls of a production
        key = self.keys.find(request.headers.get("X-API-Key"))
        if key is None:
            return _Decision(_NO_KEY)
        record.key = key.label
        now, wall = record.arrived, _clock.wall()
        exceeded = self.limits.exceeded(now, wall)
        if exceeded is not None:
            self.request_log.rate_limited += 1
            wait = exceeded.retry_after
            record.limit = exceeded.name
            message = "Too many requests." if exceeded.name == "minute" else "No requests are left today."
            error = error_response(429, "RATE_LIMIT_EXCEEDED", message, retry_after=wait)
            return _Decision(error, exceeded)
        if routing_error is not None:
            self._admit(record, wall)
            return _Decision(routing_error)
        response = self._execute(self._parse(request, body, record, key, wall=wall, rules=rules), record)
        return _Decision(response, self.limits.state(now, wall))

    def _parse(
        self,
        request: web.BaseRequest,
        body: bytes | None,
        record: RequestRecord,
        key: Key,
        *,
        wall: float,
        rules: list[ProductionRule],
    ) -> Request:
        return Request(
            route=record.route,
            target=record.target,
            body=body,
            key=key,
            sandbox=_is_sandbox(request, key),
            idempotency_key=request.headers.get("Idempotency-Key"),
            now=record.arrived,
            wall=wall,
            rules=rules,
        )

    def _rules_of(self, request: web.BaseRequest, body: bytes | None) -> list[ProductionRule]:
        """Return the rules about the production of a request, and count it if it is a submission."""
        if not self.rules:  # then no body is parsed
            return []
        key = self.keys.find(request.headers.get("X-API-Key"))
        if key is None or _is_sandbox(request, key):
            return []
        route, target, _ = find_route(request.method, request.path)
        if route != "submit":
            return self.rules.of_production(target.lower())
        submission = read_submission(body)
        if isinstance(submission, Response):
            return []
        return self.rules.of_submission(target.lower(), submission, request.headers.get("Idempotency-Key"))

    def _admit(self, record: RequestRecord, wall: float) -> None:
        record.admitted = True
        self.limits.count(record.arrived, wall)

    def _execute(self, request: Request, record: RequestRecord) -> Response:
        fault = self.faults.select(request.route, request.rules)
        kind = None if fault is None else self.faults.kinds[fault.kind]
        if kind is None or kind.counts:
            self._admit(record, request.wall)
        response = Response(200)
        if kind is None or kind.executes:
            response = self.endpoints.execute(request)
            if response.status == 429:  # only the quota of productions: the others are checked earlier
                record.limit = "productions"
                self.request_log.rate_limited += 1
        if fault is not None:
            response = self.faults.apply(fault, response, request.wall)
        return lay_out(response, self.endpoints.layout)

    def _headers(self, decision: _Decision) -> dict[str, str]:
        """Return the headers of every response, then those of this one."""
        response, limit = decision.response, decision.limit
        headers = {"Date": self.writer.date(_clock.wall())}
        if not response.from_gateway:
            headers["X-Correlation-Id"] = draw_uuid(self.random, version=None)
            if limit is not None and (response.is_success or response.status == 429):
                headers.update(limit.headers())
        headers.update(response.headers)
        return headers


@define
class BlobServer:
    """The request handler of blob storage; the "redirect" fault leads here as well."""

    store: BlobStore
    faults: Faults
    rules: Rules
    request_log: RequestLog
    writer: ResponseWriter
    latency: float
    random: random.Random

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Handle one request, and record whether it carried an API key, which storage must never receive."""
        if "X-API-Key" in request.headers:
            self.request_log.leaks.append(f"{request.method} {request.path}")
        record = RequestRecord(_clock.monotonic(), request.method, "download")
        record.target = production_of(request.path)
        self.request_log.requests.append(record)
        if self.latency > 0:
            await asyncio.sleep(self.random.expovariate(1 / self.latency))
        wall = _clock.wall()
        response = self._respond(request, wall)
        headers = {
            "Date": self.writer.date(wall),
            "x-ms-request-id": draw_uuid(self.random, version=None),
            **response.headers,
        }
        if response.send_mode not in ("reset", "hang"):
            record.status = response.status
        return await self.writer.send(request, response, headers)

    def _respond(self, request: web.BaseRequest, wall: float) -> Response:
        response = self.store.respond(request.method, request.raw_path, request.headers, wall)
        fault = self.faults.select("download", self.rules.of_production(production_of(request.path)))
        if fault is not None:
            response = _as_storage_error(self.faults.apply(fault, response, wall))
        return response


async def _read(request: web.BaseRequest) -> bytes | None:
    """Return the body, or None if it is too large."""
    if not request.can_read_body:
        return b""
    try:
        await request.content.readexactly(_MAX_BODY_BYTES + 1)
    except asyncio.IncompleteReadError as error:
        return error.partial
    return None


def _is_sandbox(request: web.BaseRequest, key: Key) -> bool:
    return key.sandbox or request.headers.get("X-JARAI-Test", "").lower() == "true"


def _as_storage_error(response: Response) -> Response:
    """Translate an error in the API's envelope to one of blob storage."""
    if isinstance(response.payload, dict) and "error" in response.payload:
        return storage_error(response.status, response.payload["error"], response.payload["message"])
    return response


def make_server(handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> web.Server:
    """Return a server without router or access log, which cancels the handlers of disconnected clients."""
    return web.Server(handle, handler_cancellation=True, access_log=None)
