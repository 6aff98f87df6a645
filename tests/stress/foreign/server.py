"""A Partner API and its blob storage, written from the contract alone, on asyncio's streams.

It imports nothing of jarai_async, so it shares none of its assumptions. What the contract leaves open is
chosen by a seed: the habits of the server, the fate of each production, and when a request goes wrong. The
limit is 300 requests a minute, and a signed URL is valid for 75 seconds instead of an hour. `ledger` returns
what became of every production.
"""

import asyncio
import gzip
import json
import math
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any

from tests.stress.foreign.blobs import Blobs
from tests.stress.foreign.hosts import ConnectionLostError, Host, Reply, Request
from tests.stress.foreign.productions import (
    FATES,
    HABITS,
    SUBMIT_FAULTS,
    File,
    Production,
    draw,
    identifier,
    truth,
)

PREFIX = "/v1/partner"
KEY = "jarai_live_Zm9yZWlnbi1zZXJ2ZXI"
NASTY = (
    '\x1b[31mred\x1b[0m \x1b]0;title\x07 [bold]markup[/oops] <b>html</b>\r\n{"event": "forged"}\u202egnp.exe'
)
_PER_MINUTE = 300
_OUTAGE = (12.0, 25.0), (5.0, 9.0)  # seconds: the gateway's 502, from and for
_NOT_READY = 5.0  # seconds after Published


class Server:
    """The API, for a batch of so many productions. `clock` returns Unix seconds."""

    def __init__(self, seed: int, count: int, clock: Callable[[], float] = time.time) -> None:
        self.random, self._clock = Random(f"server {seed}"), clock
        self.habits = {name: self.random.choice(values) for name, values in HABITS.items()}
        self.productions: dict[str, Production] = {}
        self._accounts = [identifier(self.random) for _ in range(2)]
        self._avatars = [identifier(self.random) for _ in range(2)]
        self._attempts: list[dict[str, Any]] = []  # to submit
        self._counts: Counter[str] = Counter()
        self._window: deque[float] = deque()  # times of requests
        self._began: float | None = None
        self._stops: list[float] = []  # when connections were reset, with the replies on them
        share = max(1, count // 6)
        faults = self.random.sample(SUBMIT_FAULTS, min(share, len(SUBMIT_FAULTS)))
        self._submit_faults = dict(zip(self.random.sample(range(1, count), len(faults)), faults, strict=True))
        fates = self.random.sample(FATES, min(share, len(FATES)))
        self._fates = dict(zip(self.random.sample(range(count - 2), len(fates)), fates, strict=True))
        self._outage = self.random.uniform(*_OUTAGE[0]), self.random.uniform(*_OUTAGE[1])
        self._api = Host(self._answer, Random(seed), lower=self.habits["lower_headers"])
        self._blobs = Blobs(self.productions, clock, self.random, lower=self.habits["lower_headers"])
        self._restarts: list[asyncio.Task[None]] = []

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._api.port}{PREFIX}"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve the API and the files meanwhile."""
        hosts = [self._api, self._blobs.storage, self._blobs.cdn]
        try:
            for host in hosts:
                await host.start()
            yield
        finally:
            for task in self._restarts:
                task.cancel()
            for host in hosts:
                await host.stop()

    def ledger(self) -> dict[str, Any]:
        """Return every production with its files, every attempt to submit, and how often things happened."""
        now, sizes = self._clock(), self.habits["sizes"]
        productions = [truth(production, now, sizes=sizes) for production in self.productions.values()]
        counts = self._counts + self._blobs.counts
        facts = {"attempts": self._attempts, "stops": self._stops, "counts": counts}
        return {"productions": productions, **facts}

    # --- The rules for every request -----------------------------------------------------------------

    async def _answer(self, request: Request) -> Reply:
        now = self._clock()
        if self._began and self._outage[0] <= now - self._began < sum(self._outage):
            self._note(request, "502 gateway")
            return self._gateway(502)
        if request.headers.get("x-api-key") != KEY:
            return self._error(401, "UNAUTHORIZED", "Missing or invalid API key.")
        while self._window and self._window[0] <= now - 60:
            self._window.popleft()
        if len(self._window) >= _PER_MINUTE:
            self._counts["429s"] += 1
            wait = math.ceil(self._window[0] + 60 - now)
            self._note(request, "429")
            return self._with_limit(self._error(429, "RATE_LIMIT_EXCEEDED", "Too many requests.", wait))
        self._window.append(now)
        self._counts["requests"] += 1
        reply = self._route(request, now)
        return self._with_limit(reply) if reply.status < 300 else reply

    def _with_limit(self, reply: Reply) -> Reply:
        left, reset = _PER_MINUTE - len(self._window), math.ceil(self._window[0] + 60)
        for name, value in (("Limit", _PER_MINUTE), ("Remaining", left), ("Reset", reset)):
            reply.headers[f"X-RateLimit-{name}"] = str(value)
        return reply

    def _route(self, request: Request, now: float) -> Reply:
        match request.method, request.path.removeprefix(PREFIX).strip("/").split("/"):
            case "GET", ["accounts"]:
                avatars = [{"avatarId": avatar, "name": "Zoë", "voice": None} for avatar in self._avatars]
                facts = {"name": "Ünïcode & Söns", "avatars": avatars, "platforms": None}
                return self._list([{"accountId": id_, **facts} for id_ in self._accounts])
            case "POST", ["accounts", account, "productions"]:
                return self._submit(request, account, now)
            case "GET", ["productions", id_] | ["productions", id_, "status"]:
                return self._status(id_, now)
            case "GET", ["productions", id_, "deliverables"] if id_ in self.productions:
                return self._deliverables(self.productions[id_], now)
        return self._error(404, "NOT_FOUND", f"No such resource: {request.path}")

    # --- Submits -------------------------------------------------------------------------------------

    def _submit(self, request: Request, account: str, now: float) -> Reply:
        if self._began is None:
            self._began = now
            for host in (self._api, self._blobs.storage):
                restart = self._restart(host, self.random.uniform(40, 90), self.random.uniform(2, 6))
                self._restarts.append(asyncio.create_task(restart))
        body = json.loads(request.body)
        is_known = account in self._accounts and body["avatarId"] in self._avatars
        if not is_known or not 1 <= len(body["topic"]) <= 500:
            self._note(request, "400")
            return self._error(400, "INVALID_REQUEST", "The request is not valid.")
        fault = self._submit_faults.get(len(self._attempts), "")
        if fault in ("before", "500 before", "503"):
            self._note(request, fault)
            return self._lost(fault)
        fate = self._fates.get(len(self.productions), "")
        production = draw(self.random, account, body, now, fate, packaging=self.habits["packaging"])
        self.productions[production.id] = production
        self._note(request, fault or "202")
        if fault in ("after", "500 after", "502 after"):
            return self._lost(fault)
        reply = self._json(202, {**self._show(production, now), "productionId": production.id})
        reply.headers["Location"] = self._location(production.id)
        reply.delay = 8.0 if fault == "slow" else self.random.uniform(0.02, 0.4)
        reply.cut = 0.5 if fault == "truncated" else None
        return reply

    def _lost(self, fault: str) -> Reply:
        if fault in ("before", "after"):
            raise ConnectionLostError
        if fault == "502 after":
            return self._gateway(502)
        if fault == "503":
            return self._error(503, "SERVICE_UNAVAILABLE", "Please try again.", 2)
        return self._error(500, "INTERNAL_ERROR", "Please try again.")

    def _location(self, id_: str) -> str:
        places = {
            "absolute": f"{self.base_url}/productions/{id_}",
            "path": f"{PREFIX}/productions/{id_}/status",
            "unprefixed": f"/productions/{id_}/status",
            "relative": f"../../productions/{id_}",
        }
        return places[self.habits["location"]]

    async def _restart(self, host: Host, after: float, pause: float) -> None:
        await asyncio.sleep(after)
        self._stops.append(self._clock())
        await host.restart(pause)

    def _note(self, request: Request, answer: str) -> None:
        if request.method == "POST":
            topic = json.loads(request.body)["topic"]
            self._attempts.append({"at": self._clock(), "topic": topic, "answer": answer})

    # --- Reads ---------------------------------------------------------------------------------------

    def _status(self, id_: str, now: float) -> Reply:
        production = self.productions.get(id_)
        if production is None or now - production.created < self.habits["unseen"]:
            return self._error(404, "NOT_FOUND", "Production not found.")
        reply = self._json(200, self._show(production, now))
        match self.random.randrange(100):
            case 0:
                raise ConnectionLostError
            case 1:
                return self._error(500, "INTERNAL_ERROR", "Please try again.")
            case 2:
                return self._error(503, "SERVICE_UNAVAILABLE", "Please try again.", 2)
            case 3:
                return self._gateway(504)
            case 4:
                reply.delay = 4.0
            case 5:
                reply.cut = 0.6
        return reply

    def _deliverables(self, production: Production, now: float) -> Reply:
        if production.status(now) not in ("AwaitingApproval", "Distributing", "Published"):
            return self._error(409, "NOT_READY", "Deliverables are not available yet.")
        if now - production.ended < _NOT_READY:
            if self.habits["not_ready"] == "409":
                return self._error(409, "DELIVERABLES_PENDING", "Packaging.", 3)
            if self.habits["not_ready"] == "404":
                return self._error(404, "NOT_FOUND", "No deliverables.")
            return self._list([])
        if self.random.random() < 0.05:
            return self._error(503, "SERVICE_UNAVAILABLE", "Please try again.")
        files = [self._show_file(production, file) for file in production.files]
        if self.habits["shuffled"]:
            self.random.shuffle(files)
        return self._list(files)

    # --- JSON ----------------------------------------------------------------------------------------

    def _show(self, production: Production, now: float) -> dict[str, Any]:
        status = production.status(now)
        code = "PRODUCTION_EXPIRED" if production.fate == "expired" else "RENDER_FAILED"
        shown: dict[str, Any] = {
            self.habits["id_field"]: production.id,
            "status": status,
            "accountId": production.account,
            "topic": production.body["topic"],
            "createdAt": self._time(production.created),
            "expiresAt": self._time(production.created + 600) if status == "Queued" else None,
            "currentStep": self._number(7) if status == "Producing" else None,
            "errorCode": code if status == "Failed" else None,
            "errorMessage": NASTY if status == "Failed" else None,
            "progress": {"phase": "Audio", "percent": self._number(40)},
            "x-internal": {"shard": None},
        }
        if not self.habits["nulls"]:
            shown = {name: value for name, value in shown.items() if value is not None}
        return {self.habits["status_key"]: shown} if self.habits["status_key"] else shown

    def _show_file(self, production: Production, file: File) -> dict[str, Any]:
        url = self._blobs.signed_url(production, file)
        shown: dict[str, Any] = {"type": file.type, "platform": file.platform, "sasUrl": url, "locale": None}
        if self.habits["sizes"]:
            shown["sizeBytes"] = self._number(len(file.stored))
        return shown | ({"deliverableId": file.id} if self.habits["ids"] else {})

    def _list(self, items: list[dict[str, Any]]) -> Reply:
        key = self.habits["list_key"]
        counted = {key: items, "count": self._number(len(items)), "next": None}
        return self._json(200, counted if key else items)

    def _json(self, status: int, value: object) -> Reply:
        headers = {"Content-Type": "application/json", "X-Correlation-Id": identifier(self.random)}
        body = json.dumps(value).encode()
        if self.habits["gzip"]:
            body, headers["Content-Encoding"] = gzip.compress(body, 1), "gzip"
        return Reply(status, body, headers, self.habits["framing"])

    def _error(self, status: int, code: str, message: str, wait: float | None = None) -> Reply:
        return self._json(status, {"error": code, "message": message, "retryAfterSeconds": wait})

    def _gateway(self, status: int) -> Reply:
        self._counts[f"{status} of the gateway"] += 1
        page = b"<html><head><title>Bad Gateway</title></head><body>nginx</body></html>"
        return Reply(status, page, {"Content-Type": "text/html"})

    def _number(self, value: int) -> float:
        return float(value) if self.habits["floats"] else value

    def _time(self, when: float) -> str:
        if self.habits["times"] == "offset":
            return datetime.fromtimestamp(when, timezone(timedelta(hours=5, minutes=30))).isoformat()
        digits = "987" if self.habits["times"] == "nanoseconds" else ""
        return datetime.fromtimestamp(when, UTC).strftime(f"%Y-%m-%dT%H:%M:%S.%f{digits}Z")
