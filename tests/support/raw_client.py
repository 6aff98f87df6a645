"""A client that knows HTTP and nothing else, for testing the simulator."""

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
MISSING = str(uuid.UUID(int=7, version=4))


def quick(_: random.Random, __: str) -> list[tuple[str, float]]:
    return [("Queued", 10.0), ("Producing", 145.0), ("AwaitingApproval", 100.0), ("Distributing", 50.0)]


@frozen
class Reply:
    status: int
    headers: Any
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def error(self) -> str:
        assert set(self.json) == {"error", "message", "retryAfterSeconds"}
        return str(self.json["error"])


class RequestSender:
    """A client that knows HTTP and nothing else."""

    def __init__(self, simulator: Simulator, session: aiohttp.ClientSession) -> None:
        self.simulator = simulator
        self.session = session

    async def get(self, path: str, **options: Any) -> Reply:
        return await self.call("GET", path, **options)

    async def call(self, method: str, path: str, *, key: str | None = "", **options: Any) -> Reply:
        headers = dict(options.pop("headers", {}))
        if key is not None:
            headers["X-API-Key"] = key or self.simulator.api_key
        return await self.fetch(method, self.simulator.base_url + path, headers=headers, **options)

    async def fetch(self, method: str, url: str, **options: Any) -> Reply:
        options = {"allow_redirects": False, **options}
        async with self.session.request(method, url, **options) as response:
            return Reply(response.status, response.headers, await response.read())

    async def submit(self, *, account: str = "", **fields: Any) -> Reply:
        options: dict[str, Any] = {
            name: fields.pop(name) for name in ("key", "headers", "data") if name in fields
        }
        if "data" not in options:
            options["json"] = {**submission(self.simulator), **fields}
        account = account or self.simulator.account_id
        return await self.call("POST", f"/accounts/{account}/productions", **options)

    async def start(self, **fields: Any) -> str:
        reply = await self.submit(**fields)
        assert reply.status == 202
        return str(reply.json["productionId"])

    async def subscribe(self, **fields: Any) -> dict[str, Any]:
        reply = await self.call("POST", "/webhooks", json=fields)
        assert reply.status == 201
        return dict(reply.json)

    async def status(self, production_id: str) -> str:
        return str((await self.get(f"/productions/{production_id}")).json["status"])

    async def listed(self, production_id: str) -> dict[str, dict[str, Any]]:
        reply = await self.get(f"/productions/{production_id}/deliverables")
        assert reply.status == 200
        return {one["fileName"]: one for one in reply.json["deliverables"]}


def submission(simulator: Simulator) -> dict[str, Any]:
    return {
        "topic": "Tides",
        "languageId": simulator.language_id,
        "countryId": simulator.country_id,
        "avatarId": simulator.avatar_id,
    }


@asynccontextmanager
async def open_world(**options: Any) -> AsyncIterator[tuple[Simulator, RequestSender]]:
    options = {"latency": 0.0, "failure_rate": 0.0, "durations": quick, **options}
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        Simulator(**options) as simulator,
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
    ):
        yield simulator, RequestSender(simulator, session)
