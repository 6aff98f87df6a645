"""The simulator as an object: its ground truth, its settings and its end."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from jarai_async import _clock
from jarai_async.simulator import Simulator
from jarai_async.simulator._api.rate_limits import TIERS
from tests.support.raw_client import INFINITY, RequestSender, open_world


async def test_nothing_is_left_after_the_end() -> None:
    """Idle, hanging and slow clients alike are let go at once; no task, no socket stays behind."""
    loop: Any = asyncio.get_running_loop()
    tasks, sockets = asyncio.all_tasks(), len(loop._selector.get_map())
    async with aiohttp.ClientSession() as session:
        async with Simulator(latency=0) as simulator:
            api = RequestSender(simulator, session)
            simulator.faults.add("hang", on="usage")
            hanging = asyncio.create_task(api.get("/usage"))
            await api.get("/accounts")
            await asyncio.sleep(5)
            before = _clock.monotonic()
        assert _clock.monotonic() - before < 0.05
        with pytest.raises(aiohttp.ClientError):
            await hanging
        with pytest.raises(aiohttp.ClientConnectorError):
            await api.get("/accounts")
    await asyncio.sleep(1)
    assert asyncio.all_tasks() == tasks
    assert len(loop._selector.get_map()) == sockets


async def test_a_port_that_is_taken_leaves_nothing_behind() -> None:
    """Where the API cannot be bound, the blob storage that already was is closed again."""
    loop: Any = asyncio.get_running_loop()
    async with Simulator() as first:
        sockets = len(loop._selector.get_map())
        second = Simulator(port=urlsplit(first.base_url).port or 0)
        with pytest.raises(OSError, match="address already in use"):
            await second.__aenter__()
        assert len(loop._selector.get_map()) == sockets


async def test_the_simulator_describes_itself_without_its_key() -> None:
    """`repr` says what happened so far; before the start there is no address."""
    idle = Simulator(tier="free", seed="tide")
    with pytest.raises(RuntimeError, match="async with"):
        assert idle.base_url
    async with open_world(tier="standard") as (simulator, api):
        await api.start()
        text = repr(simulator)
    assert "1 productions, 1 requests" in text
    assert simulator.base_url in text
    assert simulator.api_key not in text
    assert repr(idle).startswith("<Simulator seed='tide' tier=free at no address yet")


async def test_records_name_the_key_but_do_not_hold_it() -> None:
    """A record says when, what, by which key and how it was answered."""
    async with open_world() as (simulator, api):
        production_id = await api.start()
        await asyncio.sleep(12)
        await api.status(production_id)
        await api.get("/nowhere")
    records = simulator.requests
    assert [(one.arrived, one.method, one.route, one.status) for one in records] == [
        (0.0, "POST", "submit", 202),
        (12.0, "GET", "fetch", 200),
        (12.0, "GET", "unknown", 404),
    ]
    assert records[1].target == production_id
    assert {one.key for one in records} == {"live-1"}
    assert simulator.api_key not in repr(records)


@pytest.mark.parametrize(
    "options",
    [
        {"tier": "gold"},
        {"approval": "maybe"},
        {"latency": -1.0},
        {"latency": INFINITY},
        {"failure_rate": 1.1},
        {"expiry_rate": -0.1},
        {"accounts": 0},
    ],
)
def test_options_outside_of_their_range_are_refused(options: dict[str, Any]) -> None:
    """A mistake in an option is found when the simulator is made."""
    with pytest.raises(ValueError, match=r".+"):
        Simulator(**options)


def test_the_tiers_are_the_documented_ones() -> None:
    """Requests a minute, requests a day, productions a day and account."""
    from attrs import astuple  # noqa: PLC0415

    assert {name: astuple(tier) for name, tier in TIERS.items()} == {
        "free": (10, 100, 3),
        "standard": (60, 2000, 20),
        "enterprise": (300, None, None),
    }
