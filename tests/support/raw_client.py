"""A plain HTTP client for tests of the simulator; it shares no code with the library's client."""

import json
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from attrs import frozen

from jarai_async.simulator import Simulator

INFINITY = float("inf")
UNKNOWN_ID = str(uuid.UUID(int=7, version=4))


def fixed_stages(_: random.Random, __: str) -> list[tuple[str, float]]:
    """Publish every production after 305 seconds."""
    return [("Queued", 10.0), ("Producing", 145.0), ("AwaitingApproval", 100.0), ("Distributing", 50.0)]


@frozen
class RawResponse:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The error code, in an envelope that is complete."""
        assert set(self.json) == {"error", "message", "retryAfterSeconds"}
        return str(self.json["error"])


class RawClient:
    def __init__(self, simulator: Simulator, session: aiohttp.ClientSession) -> None:
        self.simulator = simulator
        self.session = session

    async def get(self, path: str, **options: Any) -> RawResponse:
        return await self.request("GET", path, **options)

    async def request(self, method: str, path: str, *, key: str | None = "", **options: Any) -> RawResponse:
        """Send a request to the API, with the simulator's key, another one, or (None) without a key."""
        headers = dict(options.pop("headers", {}))
        if key is not None:
            headers["X-API-Key"] = key or self.simulator.api_key
        return await self.request_url(method, self.simulator.base_url + path, headers=headers, **options)

    async def request_url(self, method: str, url: str, **options: Any) -> RawResponse:
        options = {"allow_redirects": False, **options}
        async with self.session.request(method, url, **options) as response:
            return RawResponse(response.status, response.headers, await response.read())

    async def submit(self, *, account: str = "", **fields: Any) -> RawResponse:
        """Submit a production; `key`, `headers` and `data` are request options, the rest is the body."""
        options: dict[str, Any] = {
            name: fields.pop(name) for name in ("key", "headers", "data") if name in fields
        }
        if "data" not in options:
            options["json"] = {**submission(self.simulator), **fields}
        account = account or self.simulator.account_id
        return await self.request("POST", f"/accounts/{account}/productions", **options)

    async def start_production(self, **fields: Any) -> str:
        """Submit a production that must be accepted, and return its identifier."""
        response = await self.submit(**fields)
        assert response.status == 202
        return str(response.json["productionId"])

    async def subscribe(self, **fields: Any) -> dict[str, Any]:
        response = await self.request("POST", "/webhooks", json=fields)
        assert response.status == 201
        return dict(response.json)

    async def status(self, production_id: str) -> str:
        return str((await self.get(f"/productions/{production_id}")).json["status"])

    async def deliverables(self, production_id: str) -> dict[str, dict[str, Any]]:
        """Return the deliverables of a production by file name."""
        response = await self.get(f"/productions/{production_id}/deliverables")
        assert response.status == 200
        return {deliverable["fileName"]: deliverable for deliverable in response.json["deliverables"]}


def submission(simulator: Simulator) -> dict[str, Any]:
    return {
        "topic": "Tides",
        "languageId": simulator.language_id,
        "countryId": simulator.country_id,
        "avatarId": simulator.avatar_id,
    }


@asynccontextmanager
async def open_simulator(**options: Any) -> AsyncIterator[tuple[Simulator, RawClient]]:
    """Start a simulator without latency, failures or random durations, and a client for it."""
    options = {"latency": 0.0, "failure_rate": 0.0, "durations": fixed_stages, **options}
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        Simulator(**options) as simulator,
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
    ):
        yield simulator, RawClient(simulator, session)
