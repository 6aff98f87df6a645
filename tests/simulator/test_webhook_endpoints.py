"""The simulator's endpoints about webhooks against their contract."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.raw_client import UNKNOWN_ID, open_simulator

FIELDS = {"endpointUrl": "https://example.org", "eventTypes": ["webhook.test"]}
SANDBOX = {"X-JARAI-Test": "true"}

INVALID: dict[str, Callable[[dict[str, Any]], Any]] = {
    "not an object": lambda _: [],
    "null as URL": lambda valid: {**valid, "endpointUrl": None},
    "http": lambda valid: {**valid, "endpointUrl": "http://example.org"},
    "no host": lambda valid: {**valid, "endpointUrl": "https://["},
    "no event types": lambda valid: {**valid, "eventTypes": []},
    "no URL": lambda _: {"eventTypes": ["webhook.test"]},
    "51 accounts": lambda valid: {**valid, "accountIds": [UNKNOWN_ID] * 51},
    "accounts and a scope": lambda valid: {
        **valid,
        "accountIds": [UNKNOWN_ID],
        "accountScopeId": UNKNOWN_ID,
    },
}


@pytest.mark.parametrize("name", INVALID)
async def test_invalid_webhook_is_rejected(name: str) -> None:
    """An invalid subscription receives a 400, and nothing is created."""
    async with open_simulator() as (simulator, api):
        response = await api.request("POST", "/webhooks", json=INVALID[name](FIELDS))
        assert (response.status, response.error) == (400, "INVALID_REQUEST")
        assert simulator.webhooks == []


async def test_limits_of_subscriptions() -> None:
    """An unknown account is 403, the 101st webhook 409, and the sandbox creates nothing."""
    async with open_simulator() as (simulator, api):
        unknown = await api.request("POST", "/webhooks", json={**FIELDS, "accountIds": [UNKNOWN_ID]})
        sandbox = await api.request("POST", "/webhooks", json=FIELDS, headers=SANDBOX)
        assert (unknown.status, sandbox.status, simulator.webhooks) == (403, 201, [])
        assert sandbox.json["sandbox"] is True
        for _ in range(100):
            assert "signingSecret" in await api.subscribe(**FIELDS)
        assert (await api.request("POST", "/webhooks", json=FIELDS)).status == 409
        webhooks = (await api.get("/webhooks")).json["webhooks"]
    assert len(webhooks) == 100
    assert not any("signingSecret" in webhook for webhook in webhooks)


async def test_invalid_update_changes_nothing() -> None:
    """An invalid update is rejected, and in the sandbox a valid one only appears to be executed."""
    async with open_simulator() as (simulator, api):
        created = await api.subscribe(**FIELDS)
        path, before = f"/webhooks/{created['webhookId']}", (await api.get("/webhooks")).json
        invalid: list[dict[str, Any]] = [
            {"json": {"eventTypes": []}},
            {"json": {"accountIds": [UNKNOWN_ID]}},
            {"data": b"{"},
            {"data": b" " * 70_000},
        ]
        statuses = [(await api.request("PATCH", path, **options)).status for options in invalid]
        assert statuses == [400, 403, 400, 413]
        fields = {"eventTypes": ["production.queued"]}
        assert (await api.request("PATCH", path, json=fields, headers=SANDBOX)).status == 200
        for method, suffix, status in (("POST", "/test", 202), ("DELETE", "", 204)):
            response = await api.request(method, path + suffix, headers=SANDBOX)
            assert response.status == status
        assert (await api.get("/webhooks")).json == before
    assert simulator.deliveries == []


@pytest.mark.parametrize("suffix", ["", "/deliveries", "/test"])
async def test_unknown_webhook_is_not_found(suffix: str) -> None:
    """Every method that a path supports returns 404 for an unknown webhook."""
    async with open_simulator() as (_, api):
        for method in ("GET", "PATCH", "DELETE", "POST"):
            response = await api.request(method, f"/webhooks/{UNKNOWN_ID}{suffix}", json={})
            assert (response.status, response.error) in ((404, "NOT_FOUND"), (405, "METHOD_NOT_ALLOWED"))
