"""The simulator's keys, scopes and sandbox, over real HTTP and on simulated time."""

import pytest

from jarai_async.simulator import Simulator
from tests.support.raw_client import open_simulator


async def test_invalid_keys_are_rejected() -> None:
    """A missing, an unknown and a revoked key receive a 401, which does not count against the rate limit."""
    async with open_simulator() as (simulator, api):
        extra = simulator.add_key("accounts:read")
        assert (await api.get("/accounts", key=extra)).status == 200
        simulator.revoke(extra)
        responses = [await api.get("/accounts", key=key) for key in (None, "jarai_live_wrong", extra)]
        with pytest.raises(KeyError) as caught:
            simulator.revoke(extra)
    assert [(each.status, each.error) for each in responses] == [(401, "UNAUTHORIZED")] * 3
    assert sum(record.admitted for record in simulator.requests) == 1
    assert extra not in str(caught.value)


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        ("accounts:read", {"accounts"}),
        ("productions:read", {"fetch"}),
        ("productions:write", {"submit", "fetch", "cancel"}),
        ("deliverables:read", {"deliverables"}),
        ("analytics:read", {"performance", "usage"}),
        ("logs:read", set()),
    ],
)
async def test_key_can_use_the_endpoints_of_its_scopes_only(scope: str, allowed: set[str]) -> None:
    """Any other endpoint returns 403; productions:write includes productions:read."""
    async with open_simulator() as (simulator, api):
        production_id = await api.start_production()
        key = simulator.add_key(scope)
        path = f"/productions/{production_id}"
        responses = {
            "accounts": await api.get("/accounts", key=key),
            "fetch": await api.get(path, key=key),
            "deliverables": await api.get(f"{path}/deliverables", key=key),
            "performance": await api.get(f"{path}/performance", key=key),
            "usage": await api.get("/usage", key=key),
            "submit": await api.submit(key=key),
            "cancel": await api.request("DELETE", path, key=key),
        }
    rejected = {name for name, response in responses.items() if response.status == 403}
    assert set(responses) - rejected == allowed
    assert {responses[name].error for name in rejected} == {"PERMISSION_DENIED"}


async def test_unknown_scope_is_rejected() -> None:
    """A key cannot be created with a scope that the API does not have."""
    with pytest.raises(ValueError, match="productions:delete"):
        Simulator().add_key("productions:delete")


async def test_sandbox_creates_no_productions() -> None:
    """A test key, or a live one with the sandbox header, receives marked responses and creates nothing."""
    async with open_simulator(tier="standard") as (simulator, api):
        key = simulator.add_key("accounts:read", "productions:write", "deliverables:read", sandbox=True)
        submitted = await api.submit(headers={"X-JARAI-Test": "true"})
        path = f"/productions/{submitted.json['productionId']}"
        responses = [
            submitted,
            await api.submit(key=key),
            await api.get("/accounts", key=key),
            await api.get(path, key=key),
            await api.get(f"{path}/deliverables", key=key),
            await api.get(f"{path}/performance", headers={"X-JARAI-Test": "true"}),
            await api.request("DELETE", path, key=key),
        ]
        invalid = await api.submit(key=key, topic="")
        url = responses[4].json["deliverables"][0]["sasUrl"]
        assert (await api.request_url("GET", url)).status == 200
        assert (await api.get(path)).status == 404
    assert key.startswith("jarai_test_")
    assert simulator.api_key.startswith("jarai_live_")
    assert [each.json["sandbox"] for each in responses] == [True] * 7
    assert responses[3].json["status"] == "Published"
    assert responses[6].json["status"] == "Cancelled"
    assert submitted.json["productionId"] != responses[1].json["productionId"]
    assert invalid.error == "INVALID_REQUEST"
    assert not simulator.productions
