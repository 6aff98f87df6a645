"""The `Simulator` class: its options, its records and its shutdown."""

import asyncio
from inspect import isclass, isfunction
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from attrs import astuple

import jarai_async.simulator as simulator_module
from jarai_async import _clock
from jarai_async.simulator import Simulator
from jarai_async.simulator._api.rate_limits import TIERS
from tests.support.leaks import open_descriptors
from tests.support.raw_client import INFINITY, RawClient, open_simulator


async def test_shutdown_leaks_no_tasks_or_sockets() -> None:
    """The simulator stops at once, even if clients are idle or wait for a response."""
    tasks, sockets = asyncio.all_tasks(), open_descriptors()
    async with aiohttp.ClientSession() as session:
        async with Simulator(latency=0) as simulator:
            api = RawClient(simulator, session)
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
    assert open_descriptors() == sockets


async def test_failed_start_leaks_no_sockets() -> None:
    """If the API's port is in use, blob storage, which has already started, is stopped again."""
    async with Simulator() as first:
        sockets = open_descriptors()
        second = Simulator(port=urlsplit(first.base_url).port or 0)
        with pytest.raises(OSError, match="address already in use"):
            await second.__aenter__()
        assert open_descriptors() == sockets


async def test_repr_shows_the_state_without_the_key() -> None:
    """`repr` shows what has happened so far; there is no address before the start."""
    idle = Simulator(tier="free", seed="tide")
    with pytest.raises(RuntimeError, match="async with"):
        assert idle.base_url
    async with open_simulator(tier="standard") as (simulator, api):
        await api.start_production()
        text = repr(simulator)
    assert "1 productions, 1 requests" in text
    assert simulator.base_url in text
    assert simulator.api_key not in text
    assert repr(idle).startswith("<Simulator seed='tide' tier=free at no address yet")


async def test_request_records_contain_a_label_and_not_the_key() -> None:
    """A record has the time, method, route, status, target and the label of the key."""
    async with open_simulator() as (simulator, api):
        production_id = await api.start_production()
        await asyncio.sleep(12)
        await api.status(production_id)
        await api.get("/nowhere")
    records = simulator.requests
    assert [(record.arrived, record.method, record.route, record.status) for record in records] == [
        (0.0, "POST", "submit", 202),
        (12.0, "GET", "fetch", 200),
        (12.0, "GET", "unknown", 404),
    ]
    assert records[1].target == production_id
    assert {record.key for record in records} == {"live-1"}
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
def test_options_outside_their_range_are_rejected(options: dict[str, Any]) -> None:
    """The constructor raises an error for an impossible option."""
    with pytest.raises(ValueError, match=r".+"):
        Simulator(**options)


def test_tiers_are_as_documented() -> None:
    """Each tier has requests per minute, requests per day, and productions per day and account."""
    assert {name: astuple(tier) for name, tier in TIERS.items()} == {
        "free": (10, 100, 3),
        "standard": (60, 2000, 20),
        "enterprise": (300, None, None),
    }


def test_public_classes_show_the_public_module() -> None:
    """The classes and functions in `__all__` belong to `jarai_async.simulator`, where users import them."""
    others = {"GroundTruth", "RequestIds"}  # pdoc finds fields without values only in their own module
    values = [getattr(simulator_module, name) for name in simulator_module.__all__ if name not in others]
    modules = {value.__module__ for value in values if isclass(value) or isfunction(value)}
    assert modules == {"jarai_async.simulator"}
    assert simulator_module.__all__ == sorted(simulator_module.__all__)
