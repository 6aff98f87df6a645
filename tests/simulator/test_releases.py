"""A simulator that changes while it runs, as a server does when a new release is deployed."""

import asyncio
from typing import Any

import pytest

from jarai_async.simulator import BlobStorage, Simulator
from tests.support.raw_client import open_simulator


async def test_release_changes_the_rate_limit_and_loses_its_count() -> None:
    """The limit of the new tier applies at once, to a minute that begins with no requests."""
    async with open_simulator(tier="free") as (simulator, api):
        statuses = [(await api.get("/usage")).status for _ in range(11)]
        simulator.deploy(tier="standard")
        after = [await api.get("/usage") for _ in range(61)]
        assert simulator.tier == "standard"
    assert statuses == [200] * 10 + [429]
    assert [response.status for response in after] == [200] * 60 + [429]
    assert after[0].headers["X-RateLimit-Limit"] == "60"
    assert after[0].json["requestsToday"] == 11
    assert after[0].json["productionsPerDayLimit"] == 20


async def test_release_keeps_what_it_is_not_given() -> None:
    async with open_simulator(tier="free", idempotency_keys=True) as (simulator, api):
        first = await api.submit(headers={"Idempotency-Key": "mine"})
        simulator.deploy(layout="reversed")
        simulator.deploy()
        again = await api.submit(headers={"Idempotency-Key": "mine"})
        assert simulator.tier == "free"
    assert [*again.json.items()] == [*reversed(first.json.items())]


async def test_keys_are_honoured_from_the_release_on() -> None:
    """A key that came before is unknown."""
    async with open_simulator() as (simulator, api):
        before = await api.submit(headers={"Idempotency-Key": "mine"})
        simulator.deploy(idempotency_keys=True)
        after = [
            (await api.submit(headers={"Idempotency-Key": "mine"})).json["productionId"] for _ in range(2)
        ]
    assert before.json["productionId"] != after[0] == after[1]


@pytest.mark.parametrize("layout", ["plain", "reversed", "wrapped", "without_step"])
async def test_layouts(layout: Any) -> None:
    """They hold for successful responses, also for those that a fault changes."""
    async with open_simulator() as (simulator, api):
        path = f"/productions/{await api.start_production()}"
        plain = (await api.get(path)).json
        simulator.deploy(layout=layout)
        simulator.faults.add("unknown_status", on="fetch", after=1)
        responses = [(await api.get(path)).json for _ in range(2)]
        error = (await api.get("/nothing")).json
    changed: dict[str, Any] = {
        "plain": plain,
        "reversed": dict(reversed(plain.items())),
        "wrapped": {"data": plain},
        "without_step": {name: value for name, value in plain.items() if name != "currentStep"},
    }
    assert repr(responses[0]) == repr(changed[layout])  # with the order of the fields
    assert "Rendering" in repr(responses[1])
    assert "currentStep" in plain
    assert error["error"] == "NOT_FOUND"


async def test_release_changes_the_storage_of_files_that_exist() -> None:
    """Signed URLs stay valid, and their responses have the headers of the new make."""
    make = BlobStorage(etag="none", md5="none", ranges=False)
    async with open_simulator() as (simulator, api):
        production_id = await api.start_production()
        await asyncio.sleep(305)
        captions = (await api.deliverables(production_id))["captions.vtt"]
        before = await api.request_url("GET", captions["sasUrl"])
        simulator.deploy(blob_storage=make)
        after = await api.request_url("GET", captions["sasUrl"])
    assert after.body == before.body
    assert before.headers["Accept-Ranges"] == "bytes"
    assert after.headers["Accept-Ranges"] == "none"
    assert {"ETag", "Content-MD5"} <= before.headers.keys()
    assert not {"ETag", "Content-MD5"} & after.headers.keys()


@pytest.mark.parametrize("options", [{"tier": "gold"}, {"layout": "xml"}])
def test_unknown_tier_or_layout_is_rejected(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"gold|xml"):
        Simulator().deploy(**options)
