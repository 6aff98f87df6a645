"""The two HTTP servers: the Partner API, and the blob storage on another origin.

Every request of the API goes the same way: key, route, limits, fault, endpoint, and out through the wire.
All that is decided between arrival and answer is decided in one synchronous function, so that requests
are executed one after the other and a client that leaves finds its request executed or not, never half.
No router and no access log: a run with thousands of requests shares its one core with the client.
"""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable

from aiohttp import web
from attrs import define, frozen

from jarai_async import _clock
from jarai_async.simulator._api.endpoints import PREFIX, Call, Endpoints
from jarai_async.simulator._api.faults import Faults
from jarai_async.simulator._api.keys import Key, KeyStore
from jarai_async.simulator._api.rate_limits import Limits, LimitState
from jarai_async.simulator._api.request_log import RequestLog, RequestRecord
from jarai_async.simulator._api.responses import Response, failure, storage_failure
from jarai_async.simulator._api.writer import Wire
from jarai_async.simulator._blobs.storage import BlobStore

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
MAX_BODY_BYTES = 64 * 1024  # inferred: only that a request can be too large is documented
_PATHS = {
    ("accounts",): {"GET": "accounts"},
    ("accounts", "*", "productions"): {"POST": "submit"},
    ("productions", "*"): {"GET": "fetch", "DELETE": "cancel"},
    ("productions", "*", "deliverables"): {"GET": "deliverables"},
    ("productions", "*", "performance"): {"GET": "performance"},
    ("usage",): {"GET": "usage"},
    ("webhooks",): {"GET": "webhooks", "POST": "create_webhook"},
    ("webhooks", "*"): {"GET": "webhook", "PATCH": "update_webhook", "DELETE": "delete_webhook"},
    ("webhooks", "*", "deliveries"): {"GET": "webhook_deliveries"},
    ("webhooks", "*", "test"): {"POST": "test_webhook"},
}


@frozen
class _Decision:
    answer: Response
    limit: LimitState | None = None


def route_of(method: str, path: str) -> tuple[str, str, Response | None]:
    """The route and the identifier in a path, or the answer for a path that leads nowhere."""
    if not path.startswith(PREFIX + "/"):
        return "unknown", "", _NOT_FOUND
    parts = path[len(PREFIX) + 1 :].split("/")
    target = parts[1] if len(parts) > 1 else ""
    methods = _PATHS.get((parts[0], *("*" for _ in parts[1:2]), *parts[2:]))
    if methods is None:
        return "unknown", target, _NOT_FOUND
    if method not in methods:
        error_from = failure(405, "METHOD_NOT_ALLOWED", f"{method} is not for this path.")
        error_from.headers["Allow"] = ", ".join(methods)
        return "unknown", target, error_from
    return methods[method], target, None


_NOT_FOUND = failure(404, "NOT_FOUND", "There is nothing at this path.")
_NO_KEY = failure(401, "UNAUTHORIZED", "The key is missing, unknown or revoked.")


@define
class PartnerApi:
    """The API's request handler."""

    keys: KeyStore
    limits: Limits
    faults: Faults
    endpoints: Endpoints
    request_log: RequestLog
    wire: Wire
    latency: float
    random: random.Random

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, after about the latency that was asked for."""
        body = await _read(request)
        way_there, way_back = self._delays()
        if way_there:
            await asyncio.sleep(way_there)
        record = RequestRecord(_clock.monotonic(), request.method, "unknown")
        self.request_log.requests.append(record)
        decision = self._decide(request, body, record)
        answer, headers = decision.answer, self._headers(decision)
        if way_back:
            await asyncio.sleep(way_back)
        if answer.delivery not in ("reset", "hang"):
            record.status = answer.status
        return await self.wire.send(request, answer, headers)

    def _delays(self) -> tuple[float, float]:
        if self.latency <= 0:
            return 0.0, 0.0
        whole = self.random.expovariate(1 / self.latency)
        there = whole * self.random.random()
        return there, whole - there

    def _decide(self, request: web.BaseRequest, body: bytes | None, record: RequestRecord) -> _Decision:
        record.route, target, routing_error = route_of(request.method, request.path)
        record.target = sys.intern(target)  # one string for all of a production's polls
        key = self.keys.find(request.headers.get("X-API-Key"))
        if key is None:
            return _Decision(_NO_KEY)
        record.key = key.label
        now, wall = record.arrived, _clock.wall()
        refused = self.limits.error_from(now, wall)
        if refused is not None:
            return self._refuse(refused)
        if routing_error is not None:
            self._admit(record, wall)
            return _Decision(routing_error)
        call = _call(request, body, record, key, wall)
        answer = self._execute(call, record)
        return _Decision(answer, self.limits.state(now, wall))

    def _refuse(self, refused: LimitState) -> _Decision:
        self.request_log.rate_limited += 1
        wait = refused.retry_after
        answer = failure(429, "RATE_LIMIT_EXCEEDED", "Too many requests.", retry_after=wait)
        return _Decision(answer, refused)

    def _admit(self, record: RequestRecord, wall: float) -> None:
        record.admitted = True
        self.limits.count(record.arrived, wall)

    def _execute(self, call: Call, record: RequestRecord) -> Response:
        fault = self.faults.take(call.route)
        kind = None if fault is None else self.faults.kinds[fault.kind]
        if kind is None or kind.counts:
            self._admit(record, call.wall)
        answer = Response(200)
        if kind is None or kind.executes:
            answer = self.endpoints.answer(call)
            self.request_log.rate_limited += answer.status == 429
        return answer if fault is None else self.faults.apply(fault, answer, call.wall)

    def _headers(self, decision: _Decision) -> dict[str, str]:
        """The headers that do not depend on the endpoint, and then those that do."""
        answer, limit = decision.answer, decision.limit
        headers = {"Date": self.wire.date(_clock.wall())}
        if not answer.bare:
            headers["X-Correlation-Id"] = _correlation_id(self.random)
        if limit is not None and not answer.bare and (answer.is_success or answer.status == 429):
            headers.update(limit.headers())
        headers.update(answer.headers)
        return headers


@define
class BlobOrigin:
    """The blob storage's request handler; it is also where a redirect leads."""

    store: BlobStore
    faults: Faults
    request_log: RequestLog
    wire: Wire
    latency: float
    random: random.Random

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, and take down whether it carried a key that was not meant for it."""
        if "X-API-Key" in request.headers:
            self.request_log.leaks.append(f"{request.method} {request.path}")
        record = RequestRecord(_clock.monotonic(), request.method, "download")
        self.request_log.requests.append(record)
        if self.latency > 0:
            await asyncio.sleep(self.random.expovariate(1 / self.latency))
        wall = _clock.wall()
        answer = self._answer(request, wall)
        headers = {
            "Date": self.wire.date(wall),
            "x-ms-request-id": _correlation_id(self.random),
            **answer.headers,
        }
        if answer.delivery not in ("reset", "hang"):
            record.status = answer.status
        return await self.wire.send(request, answer, headers)

    def _answer(self, request: web.BaseRequest, wall: float) -> Response:
        answer = self.store.answer(request.method, request.raw_path, request.headers, wall)
        fault = self.faults.take("download")
        if fault is not None:
            answer = _as_storage(self.faults.apply(fault, answer, wall))
        return answer


def _call(request: web.BaseRequest, body: bytes | None, record: RequestRecord, key: Key, wall: float) -> Call:
    headers = request.headers
    return Call(
        route=record.route,
        target=record.target,
        body=body,
        key=key,
        sandbox=key.sandbox or headers.get("X-JARAI-Test", "").lower() == "true",
        idempotency_key=headers.get("Idempotency-Key"),
        now=record.arrived,
        wall=wall,
    )


async def _read(request: web.BaseRequest) -> bytes | None:
    """The body, None for one that is too large."""
    if not request.can_read_body:
        return b""
    try:
        await request.content.readexactly(MAX_BODY_BYTES + 1)
    except asyncio.IncompleteReadError as whole:
        return whole.partial
    return None


def _as_storage(answer: Response) -> Response:
    """An error in the words of blob storage rather than of the API."""
    if isinstance(answer.payload, dict) and "error" in answer.payload:
        code, message = answer.payload["error"], answer.payload["message"]
        return storage_failure(answer.status, code, message)
    return answer


def _correlation_id(rng: random.Random) -> str:
    digits = f"{rng.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def server(handle: Handle) -> web.Server:
    """A server without router or log, which ends a handler whose client has left."""
    return web.Server(handle, handler_cancellation=True, access_log=None)
