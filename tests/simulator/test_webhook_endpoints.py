"""The simulator's endpoints about webhooks against their contract."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.raw_client import MISSING, open_world

WRONG: dict[str, Callable[[dict[str, Any]], Any]] = {
    "not an object": lambda _: [],
    "no url": lambda fine: {**fine, "endpointUrl": None},
    "http": lambda fine: {**fine, "endpointUrl": "http://example.org"},
    "no host": lambda fine: {**fine, "endpointUrl": "https://["},
    "no types": lambda fine: {**fine, "eventTypes": []},
    "missing": lambda _: {"eventTypes": ["webhook.test"]},
    "51 accounts": lambda fine: {**fine, "accountIds": [MISSING] * 51},
    "accounts and a scope": lambda fine: {**fine, "accountIds": [MISSING], "accountScopeId": MISSING},
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_subscription_is_refused(name: str) -> None:
    """With 400, and nothing is created."""
    async with open_world() as (simulator, api):
        fields = WRONG[name]({"endpointUrl": "https://example.org", "eventTypes": ["webhook.test"]})
        reply = await api.call("POST", "/webhooks", json=fields)
        assert (reply.status, reply.error) == (400, "INVALID_REQUEST")
        assert simulator.webhooks == []


async def test_limits_of_subscriptions() -> None:
    """An account of others is 403, the hundred and first webhook 409; the sandbox creates nothing."""
    async with open_world() as (simulator, api):
        fields = {"endpointUrl": "https://example.org", "eventTypes": ["webhook.test"]}
        foreign = await api.call("POST", "/webhooks", json={**fields, "accountIds": [MISSING]})
        headers = {"X-JARAI-Test": "true"}
        sandbox = await api.call("POST", "/webhooks", json=fields, headers=headers)
        assert (foreign.status, sandbox.status, simulator.webhooks) == (403, 201, [])
        assert sandbox.json["sandbox"] is True
        for _ in range(100):
            assert "signingSecret" in await api.subscribe(**fields)
        assert (await api.call("POST", "/webhooks", json=fields)).status == 409
        listed = (await api.get("/webhooks")).json["webhooks"]
    assert len(listed) == 100
    assert not any("signingSecret" in one for one in listed)


async def test_a_wrong_change_changes_nothing() -> None:
    """It is refused as a wrong creation is; and the sandbox only says that it did something."""
    async with open_world() as (simulator, api):
        created = await api.subscribe(endpointUrl="https://example.org", eventTypes=["webhook.test"])
        path, before = f"/webhooks/{created['webhookId']}", (await api.get("/webhooks")).json
        wrong: list[dict[str, Any]] = [
            {"json": {"eventTypes": []}},
            {"json": {"accountIds": [MISSING]}},
            {"data": b"{"},
            {"data": b" " * 70_000},
        ]
        assert [(await api.call("PATCH", path, **one)).status for one in wrong] == [400, 403, 400, 413]
        changes: dict[str, Any] = {
            "json": {"eventTypes": ["production.queued"]},
            "headers": {"X-JARAI-Test": "true"},
        }
        assert (await api.call("PATCH", path, **changes)).status == 200
        for method, more, status in (("POST", "/test", 202), ("DELETE", "", 204)):
            reply = await api.call(method, path + more, headers={"X-JARAI-Test": "true"})
            assert reply.status == status
        assert (await api.get("/webhooks")).json == before
    assert simulator.deliveries == []


@pytest.mark.parametrize("more", ["", "/deliveries", "/test"])
async def test_a_webhook_that_there_is_not(more: str) -> None:
    """Is a 404, whatever is asked of it."""
    async with open_world() as (_, api):
        for method in ("GET", "PATCH", "DELETE", "POST"):
            reply = await api.call(method, f"/webhooks/{MISSING}{more}", json={})
            assert (reply.status, reply.error) in ((404, "NOT_FOUND"), (405, "METHOD_NOT_ALLOWED"))
