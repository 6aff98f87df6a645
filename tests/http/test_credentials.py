"""A rejected API key: all requests pause, nothing is lost, and a provider is called once for a new key."""

import asyncio
import logging
from pathlib import Path

import pytest

from jarai_async import AuthenticationError, ConfigurationError, Finished, JaraiClient, Orchestrator
from jarai_async._http.credentials import Credentials
from jarai_async.simulator import Simulator
from tests.support.scenarios import request_for, requests_for

KEY = "jarai_test_c2VjcmV0"


async def run_batch(client: JaraiClient, simulator: Simulator, count: int) -> list[str]:
    """Run a batch, and return how each production ended."""
    async with Orchestrator(client) as orchestrator:
        run = orchestrator.run(requests_for(simulator, count))
        return [str(event.outcome.state) async for event in run if isinstance(event, Finished)]


def rejected(simulator: Simulator) -> int:
    """Return the number of 401 responses."""
    return sum(request.status == 401 for request in simulator.requests)


async def test_provider_is_called_once_when_the_key_is_revoked(simulator: Simulator) -> None:
    """A key is revoked during a batch of 12: later requests have the new key, and every production ends."""
    keys = [simulator.api_key, simulator.add_key("productions:write", "deliverables:read")]
    provided: list[str] = []

    async def provide() -> str:
        await asyncio.sleep(1)
        provided.append(keys[len(provided)])
        return provided[-1]

    async with JaraiClient(provide, base_url=simulator.base_url) as client:
        batch = asyncio.create_task(run_batch(client, simulator, 12))
        await asyncio.sleep(300)
        simulator.revoke(keys[0])
        assert await batch == ["published"] * 12
    assert provided == keys
    assert 0 < rejected(simulator) <= 12
    assert len(simulator.productions) == 12


async def test_read_is_repeated_at_once_with_the_key_that_replaces_a_revoked_one(
    simulator: Simulator,
) -> None:
    """The caller of a single method does not notice that the key was replaced."""
    keys = iter([simulator.api_key, simulator.add_key("accounts:read")])
    async with JaraiClient(lambda: next(keys), base_url=simulator.base_url) as client:
        await client.accounts()
        simulator.revoke(simulator.api_key)
        began = asyncio.get_running_loop().time()
        assert await client.accounts()
        assert asyncio.get_running_loop().time() - began < 1
    assert simulator.count("accounts") == 3


@pytest.mark.parametrize("after", [0.5, 300.0])
async def test_all_requests_pause_until_a_rejected_key_works_again(
    simulator: Simulator, caplog: pytest.LogCaptureFixture, after: float
) -> None:
    """During twenty minutes without a valid key few requests are sent, and no production fails."""
    key = simulator.api_key
    async with JaraiClient(key, base_url=simulator.base_url) as client:
        await client.accounts()
        batch = asyncio.create_task(run_batch(client, simulator, 12))
        await asyncio.sleep(after)
        for route in ("submit", "fetch", "accounts"):
            simulator.faults.add("unauthorized", on=route, times=1000)
        await asyncio.sleep(1200)
        simulator.faults.clear()
        assert await batch == ["published"] * 12
    assert len(simulator.productions) == 12
    assert rejected(simulator) <= 12 + 10  # those in flight when it began, and one after each pause
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert 3 <= len(errors) <= 10
    assert "nothing is lost" in errors[0].message


async def test_key_that_never_worked_is_an_error_at_once(simulator: Simulator) -> None:
    """It is probably wrong, so waiting would not help."""
    async with JaraiClient("jarai_live_wrong", base_url=simulator.base_url) as client:
        with pytest.raises(AuthenticationError):
            await client.accounts()
        async with Orchestrator(client) as orchestrator:
            outcome = await orchestrator.submit(request_for(simulator))
        assert (outcome.state, type(outcome.error)) == ("rejected", AuthenticationError)


@pytest.mark.parametrize("accounts_status", [200, 403])
async def test_key_that_is_rejected_for_submits_alone_ends_them(
    simulator: Simulator, tmp_path: Path, accounts_status: int
) -> None:
    """Reads show that the key is valid, so it lacks the permission to submit. The next run submits."""
    async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
        await client.accounts()
        if accounts_status == 403:
            simulator.faults.add("forbidden", on="accounts", times=None)
        simulator.faults.add("unauthorized", on="submit", times=None)
        async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
            tickets = [orchestrator.submit(request) for request in requests_for(simulator, 12)]
            outcomes = [await ticket for ticket in tickets]
            assert asyncio.get_running_loop().time() < 300
            assert {(outcome.state, outcome.is_final) for outcome in outcomes} == {("rejected", False)}
            assert {type(outcome.error) for outcome in outcomes} == {AuthenticationError}
            assert "scope productions:write" in str(outcomes[0].error)
            assert rejected(simulator) <= 3 * 12
            simulator.faults.clear()
            await client.submit(request_for(simulator))
        async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
            tickets = [orchestrator.submit(request) for request in requests_for(simulator, 12)]
            assert all([(await ticket).ok for ticket in tickets])
    assert len(simulator.productions) == 13


async def test_key_that_works_again_after_two_rejected_submits_rejects_none(simulator: Simulator) -> None:
    """A server may know a new key only after a while."""
    async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
        await client.accounts()
        for _ in range(3):
            simulator.faults.add("unauthorized", on="submit", times=2)
            assert await run_batch(client, simulator, 1) == ["published"]


async def test_cancel_and_fetch_of_the_user_do_not_wait_for_a_key(simulator: Simulator) -> None:
    """They raise AuthenticationError at once."""
    async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
        production = await client.submit(request_for(simulator))
        simulator.revoke(simulator.api_key)
        with pytest.raises(AuthenticationError):
            await client.fetch(production.id)
        with pytest.raises(AuthenticationError):
            await client.cancel(production.id)


async def test_error_of_a_provider_does_not_leak_the_key(simulator: Simulator) -> None:
    """The text of the provider's exception may contain a key, so it is neither shown nor chained."""

    def provide() -> str:
        raise RuntimeError("jarai_live_secret")

    async with JaraiClient(provide, base_url=simulator.base_url) as client:
        with pytest.raises(
            ConfigurationError, match="the provider of the API key raised RuntimeError"
        ) as raised:
            await client.accounts()
    assert "secret" not in repr(raised.value)
    assert raised.value.__context__ is None


async def test_provider_of_wrong_keys_is_called_less_and_less_often(simulator: Simulator) -> None:
    """A provider that returns a new wrong key each time is called fewer than 30 times in an hour."""
    calls = 0

    def provide() -> str:
        nonlocal calls
        calls += 1
        return simulator.api_key if calls == 1 else f"jarai_live_wrong{calls}"

    async with JaraiClient(provide, base_url=simulator.base_url) as client:
        batch = asyncio.create_task(run_batch(client, simulator, 3))
        await asyncio.sleep(60)
        simulator.revoke(simulator.api_key)
        await asyncio.sleep(3600)
        assert not batch.done()
        batch.cancel()
        await asyncio.wait([batch])
    assert 3 < calls < 30
    assert rejected(simulator) < 60


@pytest.mark.parametrize(
    "key", ["", " ", KEY + "\n", " " + KEY, KEY + "\r\nX-Evil: 1", "jarai_é", "jarai_\x00"]
)
def test_key_that_no_header_can_carry_is_rejected_without_showing_it(key: str) -> None:
    """A key with a line break, as copied from a file, is an error that does not contain the key."""
    with pytest.raises(ConfigurationError) as raised:
        Credentials(key)
    assert not key.strip() or key.strip() not in f"{raised.value!r} {raised.value}"


async def test_key_of_another_service_causes_a_warning() -> None:
    """It is sent anyway, after a warning that does not contain it."""
    with pytest.warns(UserWarning, match="does not begin with jarai_") as warned:
        credentials = Credentials("sk-other")
    assert (await credentials.key()).reveal() == "sk-other"
    assert "sk-other" not in str(warned[0].message)
    assert (await Credentials(KEY).key()).reveal() == KEY


async def test_pauses_for_a_rejected_key_grow_until_a_key_is_accepted() -> None:
    """They double from half a minute to five minutes; there is one at a time."""
    credentials = Credentials(KEY)
    key, now, pauses = await credentials.key(), 0.0, []
    for n in range(7):
        if n == 6:
            credentials.accepted(key)
        pause = credentials.begin_pause(now)
        assert pause is not None
        assert credentials.begin_pause(now) is None
        pauses.append(pause)
        now += pause
        assert not await credentials.replaced(key, now)
    assert pauses == [30, 60, 120, 240, 300, 300, 30]


async def test_requests_that_are_rejected_together_wait_for_one_new_key() -> None:
    """The provider is called once; a key that it returns again is no new one."""
    keys = [KEY, f"{KEY}1", f"{KEY}1"]
    calls: list[str] = []

    async def provide() -> str:
        calls.append(keys[len(calls)])
        await asyncio.sleep(1)
        return calls[-1]

    credentials = Credentials(provide)
    first = await credentials.key()
    assert await asyncio.gather(*(credentials.replaced(first, 1.0) for _ in range(3))) == [True] * 3
    second = await credentials.key()
    assert (second.reveal(), len(calls)) == (keys[1], 2)
    credentials.accepted(second)
    assert await asyncio.gather(*(credentials.replaced(second, 2.0) for _ in range(3))) == [False] * 3
    assert len(calls) == 3
    assert await credentials.key() is second


async def test_wait_continues_when_a_rejected_key_works_again(simulator: Simulator) -> None:
    """The production goes on meanwhile, so a call that waits for its end needs no new one."""
    async with JaraiClient(simulator.api_key, base_url=simulator.base_url) as client:
        production = await client.submit(request_for(simulator))
        waiting = asyncio.create_task(client.wait(production.id))
        await asyncio.sleep(60)
        simulator.faults.add("unauthorized", on="fetch", times=None)
        await asyncio.sleep(3 * 3600)
        simulator.faults.clear()
        assert (await waiting).status == "Published"
    assert 3 < rejected(simulator) < 50
