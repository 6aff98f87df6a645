"""A key that is refused: everything waits once, nothing is lost, a provider is asked once for a new one."""

import asyncio
import logging

import pytest

from jarai_async import AuthenticationError, ConfigurationError, Finished, JaraiClient, Orchestrator
from jarai_async._http.credentials import Credentials
from jarai_async.simulator import Simulator
from tests.support.scenarios import request_for, requests_for

KEY = "jarai_test_c2VjcmV0"


async def follow(client: JaraiClient, simulator: Simulator, count: int) -> list[str]:
    """Run a batch, and give how each ended."""
    async with Orchestrator(client) as orchestrator:
        run = orchestrator.run(requests_for(simulator, count))
        return [str(event.outcome.state) async for event in run if isinstance(event, Finished)]


def refused(simulator: Simulator) -> int:
    return sum(record.status == 401 for record in simulator.requests)


async def test_a_provider_is_asked_once_when_the_key_is_revoked(simulator: Simulator) -> None:
    """In the middle of a batch of 30: the next requests have the new key, and every production ends."""
    keys = [simulator.api_key, simulator.add_key("productions:write", "deliverables:read")]
    asked: list[str] = []

    async def provide() -> str:
        await asyncio.sleep(1)
        asked.append(keys[len(asked)])
        return asked[-1]

    async with JaraiClient(provide, base_url=simulator.base_url) as client:
        batch = asyncio.create_task(follow(client, simulator, 30))
        await asyncio.sleep(300)
        simulator.revoke(keys[0])
        assert await batch == ["published"] * 30
    assert asked == keys
    assert 0 < refused(simulator) <= 30
    assert len(simulator.productions) == 30


@pytest.mark.parametrize("after", [0.5, 300.0])
async def test_without_a_provider_everything_waits_until_the_key_works_again(
    simulator: Simulator, caplog: pytest.LogCaptureFixture, after: float
) -> None:
    """Twenty minutes without a valid key: a handful of requests ask, and no production fails."""
    key = simulator.api_key
    async with JaraiClient(key, base_url=simulator.base_url) as client:
        await client.accounts()
        batch = asyncio.create_task(follow(client, simulator, 30))
        await asyncio.sleep(after)
        for route in ("submit", "fetch"):
            simulator.faults.add("unauthorized", on=route, times=1000)
        await asyncio.sleep(1200)
        simulator.faults.clear()
        assert await batch == ["published"] * 30
    assert len(simulator.productions) == 30
    assert refused(simulator) <= 30 + 10  # each that was on its way when it began, and who asks
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert 3 <= len(told) <= 10
    assert "nothing is lost" in told[0].message


async def test_a_key_that_never_worked_is_an_error_at_once(simulator: Simulator) -> None:
    """It is wrong, and waiting would not make it right."""
    async with JaraiClient("jarai_live_wrong", base_url=simulator.base_url) as client:
        with pytest.raises(AuthenticationError):
            await client.accounts()
        async with Orchestrator(client) as orchestrator:
            outcome = await orchestrator.submit(request_for(simulator))
        assert (outcome.state, type(outcome.error)) == ("rejected", AuthenticationError)


async def test_a_cancel_and_a_read_of_ones_own_do_not_wait_for_a_key(simulator: Simulator) -> None:
    """Who asks is told."""
    async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
        production = await client.submit(request_for(simulator))
        simulator.revoke(simulator.api_key)
        with pytest.raises(AuthenticationError):
            await client.fetch(production.id)
        with pytest.raises(AuthenticationError):
            await client.cancel(production.id)


async def test_a_provider_that_fails_says_so_without_what_it_said(simulator: Simulator) -> None:
    """Its own words may hold a key."""

    def provide() -> str:
        raise RuntimeError("jarai_live_secret")

    async with JaraiClient(provide, base_url=simulator.base_url) as client:
        with pytest.raises(
            ConfigurationError, match="the provider of the API key raised RuntimeError"
        ) as told:
            await client.accounts()
    assert "secret" not in repr(told.value)
    assert told.value.__context__ is None


async def test_a_provider_that_has_only_wrong_keys_is_asked_ever_more_rarely(simulator: Simulator) -> None:
    """After one that worked: a new wrong one each time, for an hour."""
    asked = 0

    def provide() -> str:
        nonlocal asked
        asked += 1
        return simulator.api_key if asked == 1 else f"jarai_live_wrong{asked}"

    async with JaraiClient(provide, base_url=simulator.base_url) as client:
        batch = asyncio.create_task(follow(client, simulator, 3))
        await asyncio.sleep(60)
        simulator.revoke(simulator.api_key)
        await asyncio.sleep(3600)
        assert not batch.done()
        batch.cancel()
        await asyncio.wait([batch])
    assert 3 < asked < 30
    assert refused(simulator) < 60


@pytest.mark.parametrize(
    "key", ["", " ", KEY + "\n", " " + KEY, KEY + "\r\nX-Evil: 1", "jarai_é", "jarai_\x00"]
)
def test_api_key_that_no_header_can_carry_is_rejected_without_showing_it(key: str) -> None:
    """A key with a line break, as copied from a file, is an error that does not contain the key."""
    with pytest.raises(ConfigurationError) as caught:
        Credentials(key)
    assert not key.strip() or key.strip() not in f"{caught.value!r} {caught.value}"


async def test_api_key_of_another_service_causes_a_warning() -> None:
    """It is sent anyway, after a warning that does not contain it."""
    with pytest.warns(UserWarning, match="does not begin with jarai_") as warned:
        credentials = Credentials("sk-other")
    assert (await credentials.key()).reveal() == "sk-other"
    assert "sk-other" not in str(warned[0].message)
    assert (await Credentials(KEY).key()).reveal() == KEY
