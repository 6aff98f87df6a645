"""The simulator's keys, scopes and sandbox, over real HTTP and on simulated time."""

import pytest

from jarai_async.simulator import Simulator
from tests.support.raw_client import open_world


async def test_only_valid_keys_are_let_in() -> None:
    """A missing, a wrong and a revoked key get 401, and no place in the budget."""
    async with open_world() as (simulator, api):
        extra = simulator.add_key("accounts:read")
        assert (await api.get("/accounts", key=extra)).status == 200
        simulator.revoke(extra)
        replies = [await api.get("/accounts", key=key) for key in (None, "jarai_live_wrong", extra)]
        with pytest.raises(KeyError) as caught:
            simulator.revoke(extra)
    assert [(one.status, one.error) for one in replies] == [(401, "UNAUTHORIZED")] * 3
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
async def test_a_scope_opens_its_endpoints_and_no_other(scope: str, allowed: set[str]) -> None:
    """A key may call what its scopes name, writing includes reading, all else is 403."""
    async with open_world() as (simulator, api):
        production_id = await api.start()
        key = simulator.add_key(scope)
        one = f"/productions/{production_id}"
        replies = {
            "accounts": await api.get("/accounts", key=key),
            "fetch": await api.get(one, key=key),
            "deliverables": await api.get(f"{one}/deliverables", key=key),
            "performance": await api.get(f"{one}/performance", key=key),
            "usage": await api.get("/usage", key=key),
            "submit": await api.submit(key=key),
            "cancel": await api.call("DELETE", one, key=key),
        }
    refused = {name for name, reply in replies.items() if reply.status == 403}
    assert set(replies) - refused == allowed
    assert {replies[name].error for name in refused} == {"PERMISSION_DENIED"}


async def test_an_unknown_scope_cannot_be_granted() -> None:
    """A scope that the API does not have is a mistake in the test that asks for it."""
    with pytest.raises(ValueError, match="productions:delete"):
        Simulator().add_key("productions:delete")


async def test_the_sandbox_answers_and_nothing_runs() -> None:
    """A test key, or a live one that asks for it, gets flagged answers and starts no production."""
    async with open_world(tier="standard") as (simulator, api):
        key = simulator.add_key("accounts:read", "productions:write", "deliverables:read", sandbox=True)
        made = await api.submit(headers={"X-JARAI-Test": "true"})
        path = f"/productions/{made.json['productionId']}"
        replies = [
            made,
            await api.submit(key=key),
            await api.get("/accounts", key=key),
            await api.get(path, key=key),
            await api.get(f"{path}/deliverables", key=key),
            await api.get(f"{path}/performance", headers={"X-JARAI-Test": "true"}),
            await api.call("DELETE", path, key=key),
        ]
        invalid = await api.submit(key=key, topic="")
        url = replies[4].json["deliverables"][0]["sasUrl"]
        assert (await api.fetch("GET", url)).status == 200
        assert (await api.get(path)).status == 404
    assert key.startswith("jarai_test_")
    assert simulator.api_key.startswith("jarai_live_")
    assert [one.json["sandbox"] for one in replies] == [True] * 7
    assert replies[3].json["status"] == "Published"
    assert replies[6].json["status"] == "Cancelled"
    assert made.json["productionId"] != replies[1].json["productionId"]
    assert invalid.error == "INVALID_REQUEST"
    assert not simulator.productions
