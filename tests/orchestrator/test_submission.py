"""Submits in trouble: what is sent, how often, and what is said of it when watching stops."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

from jarai_async import (
    ClosedError,
    ConfigurationError,
    Finished,
    InvalidRequestError,
    JaraiClient,
    Orchestrator,
    Outcome,
    OutcomeState,
    ProductionRequest,
)
from jarai_async.simulator import Simulator
from tests.support.scenarios import request_for, requests_for


def client_of(simulator: Simulator) -> JaraiClient:
    return JaraiClient(simulator.api_key, base_url=simulator.base_url)


@pytest.mark.parametrize("moment", [0.5, 2, 30, 61, 62, 63])
async def test_leaving_in_the_middle_of_submitting_submits_no_more(
    moment: float, caplog: pytest.LogCaptureFixture
) -> None:
    """With more requests than slots: none is sent once the block is left, and each that exists is named."""
    async with Simulator(latency=2.0) as simulator, client_of(simulator) as client:
        async with Orchestrator(client, concurrency=600) as orchestrator:
            orchestrator.run(requests_for(simulator, 600))
            tickets = [orchestrator.submit(request_for(simulator)) for _ in range(5)]
            await asyncio.sleep(moment)
            sent = simulator.count("submit")
        on_their_way = simulator.count("submit") - sent
        assert on_their_way <= 200  # those whose answers had not come yet
        left = len(simulator.productions)
        await asyncio.sleep(3600)
        assert len(simulator.productions) == left
        assert len(tickets) == 5
    assert [one for one in simulator.productions if one not in caplog.text] == []


async def test_a_second_cancellation_while_leaving_leaves_nothing_running() -> None:
    """Whoever is impatient twice still leaves in order."""
    async with Simulator(latency=5.0) as slow, client_of(slow) as client:

        async def program() -> None:
            async with Orchestrator(client) as orchestrator:
                async for _ in orchestrator.run(requests_for(slow, 20)):
                    pass

        task = asyncio.create_task(program())
        await asyncio.sleep(3)
        task.cancel()
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        names = [one.get_name() for one in asyncio.all_tasks()]
        assert [name for name in names if "item-" in name] == []
        created = len(slow.productions)
        await asyncio.sleep(3600)
        assert len(slow.productions) == created


async def test_a_submit_whose_answer_never_came_is_said_to_be_in_doubt(
    simulator: Simulator, client: JaraiClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Leaving names it with the key that it carried, for it may be paid for."""
    simulator.faults.add("hang", on="submit")
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator, reference="mine"))
        await asyncio.sleep(1)
    assert len(simulator.productions) == 1
    (truth,) = simulator.productions.values()
    assert f"mine  {truth.idempotency_key}" in caplog.text
    with pytest.raises(ClosedError, match="may have been submitted"):
        await ticket


async def test_an_outage_costs_a_few_requests_and_not_the_budget() -> None:
    """While JARAI is out of reach one submit at a time asks, ever more rarely; then all go on at once."""
    async with Simulator(tier="standard", failure_rate=0) as simulator, client_of(simulator) as client:
        await client.accounts()
        simulator.faults.add("unavailable", on="submit", times=None)
        async with Orchestrator(client) as orchestrator:
            tickets = [orchestrator.submit(request_for(simulator)) for _ in range(15)]
            await asyncio.sleep(2700)
            assert simulator.count("submit") <= 100
            simulator.faults.clear()
            await asyncio.sleep(180)
            assert len(simulator.productions) == 15
            assert all(outcome.ok for outcome in await asyncio.gather(*tickets))


async def test_a_first_contact_with_a_503_is_waited_out(simulator: Simulator, client: JaraiClient) -> None:
    """No header has told the budget yet: nothing is assumed that would last until midnight."""
    simulator.faults.add("unavailable", on="submit", times=None)
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(1200)
        simulator.faults.clear()
        await asyncio.sleep(120)
        assert ticket.production_id in simulator.productions


@pytest.mark.parametrize("kind", ["rate_limited", "unavailable"])
async def test_a_submit_cancelled_on_its_way_is_not_sent_again(
    simulator: Simulator, client: JaraiClient, kind: str
) -> None:
    """What was refused and withdrawn created nothing, and its outcome says so."""
    simulator.faults.add(kind, on="submit", times=None, seconds=30)
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(0.001)
        await ticket.cancel()
        outcome = await ticket
    assert outcome.state is OutcomeState.CANCELLED
    assert simulator.faults.fired[kind] == 1
    assert not simulator.productions


async def test_cancelling_twice_at_once_is_as_good_as_once(simulator: Simulator, client: JaraiClient) -> None:
    """Two parts of an app may both have had enough."""
    async with Orchestrator(client, concurrency=1) as orchestrator:
        orchestrator.submit(request_for(simulator))
        waiting = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(1)
        await asyncio.gather(waiting.cancel(), waiting.cancel())
        await waiting.cancel()
        assert (await waiting).state is OutcomeState.CANCELLED


async def test_a_cancel_that_fails_leaves_the_production_watched(
    simulator: Simulator, client: JaraiClient
) -> None:
    """It was submitted, so its end is told, whether or not it could be stopped."""
    simulator.faults.add("internal_error", on="cancel", times=None)
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(0.001)
        await ticket.cancel()
        assert (await ticket).state is OutcomeState.PUBLISHED


async def test_a_ticket_can_be_cancelled_after_its_block(simulator: Simulator, client: JaraiClient) -> None:
    """The production goes on, so stopping it still means something."""
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(60)
    await ticket.cancel()
    (truth,) = simulator.productions.values()
    assert truth.status_at(asyncio.get_running_loop().time()) == "Cancelled"
    assert ticket.status == "Cancelled"


async def test_a_ticket_can_be_cancelled_after_its_deadline(
    simulator: Simulator, client: JaraiClient
) -> None:
    """It is no longer waited for, and still runs."""
    async with Orchestrator(client, deadline=100) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        assert (await ticket).state is OutcomeState.TIMED_OUT
        await ticket.cancel()
        assert ticket.status == "Cancelled"


async def test_a_long_429_of_a_submit_is_waited_out_on_any_tier(
    simulator: Simulator, client: JaraiClient
) -> None:
    """Also where no tier's quota explains it."""
    await client.accounts()
    simulator.faults.add("rate_limited", on="submit", times=1, seconds=600)
    await client.submit(request_for(simulator))
    assert simulator.count("submit") == 2
    assert asyncio.get_running_loop().time() > 600


async def test_a_submit_cancelled_on_its_way_ends_with_its_answer(
    simulator: Simulator, client: JaraiClient
) -> None:
    """A 429 that asks to wait for hours is none of its business any more."""
    simulator.faults.add("rate_limited", on="submit", times=None, seconds=36_000)
    async with Orchestrator(client) as orchestrator:
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(0.001)
        await ticket.cancel()
        assert (await ticket).state is OutcomeState.CANCELLED
        assert asyncio.get_running_loop().time() < 60


async def test_a_source_that_is_slow_to_close_lets_nothing_more_be_submitted() -> None:
    """From the moment at which the block is left, whatever leaving itself has to wait for."""
    async with Simulator(tier="standard", latency=1.0) as simulator, client_of(simulator) as client:

        async def source() -> AsyncIterator[ProductionRequest]:
            try:
                for request in requests_for(simulator, 40):
                    yield request
                await asyncio.sleep(1e6)
            finally:
                await asyncio.sleep(60)

        async with Orchestrator(client) as orchestrator:
            orchestrator.run(source())
            await asyncio.sleep(3)
            sent = simulator.count("submit")
        assert simulator.count("submit") <= sent + 1


async def test_a_run_that_is_left_before_it_began_ends(simulator: Simulator, client: JaraiClient) -> None:
    """Whoever reads it is told so, and not left waiting for ever."""
    async with Orchestrator(client) as orchestrator:
        run = orchestrator.run(requests_for(simulator, 3))
    assert [event async for event in run] == []
    async with Orchestrator(client) as orchestrator:
        run = orchestrator.run(_endless())
        await asyncio.sleep(1)
    with pytest.raises(ClosedError):
        await anext(run)


async def _endless() -> AsyncIterator[ProductionRequest]:
    await asyncio.sleep(1e9)
    yield  # type: ignore[misc]  # never comes to it


async def test_a_submit_that_is_cancelled_on_its_way_leaves_its_key_in_the_log(
    simulator: Simulator, client: JaraiClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Without it nobody could name the production that may exist."""
    simulator.faults.add("hang", on="submit")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await client.submit(request_for(simulator))
    (truth,) = simulator.productions.values()
    assert str(truth.idempotency_key) in caplog.text


async def test_closing_the_client_is_no_rejection(simulator: Simulator) -> None:
    """A submit that waits is told that the client was closed, and is no outcome of JARAI's."""
    client = client_of(simulator)
    async with Orchestrator(client, concurrency=400) as orchestrator:
        tickets = [orchestrator.submit(request_for(simulator)) for _ in range(320)]
        await asyncio.sleep(30)
        await client.close()
        ends = await asyncio.gather(*tickets, return_exceptions=True)
    assert {type(end) for end in ends} == {ClosedError}


async def test_reads_on_connections_that_had_gone_cause_no_429() -> None:
    """Each request has a turn of its own, also where the HTTP library would send it again by itself."""
    async with Simulator(tier="free", daily_quotas=False) as simulator, client_of(simulator) as client:
        production = await client.submit(request_for(simulator))
        simulator.faults.add("reset_before", on="fetch", times=None, probability=0.5)
        await asyncio.gather(*(client.fetch(production.id) for _ in range(40)), return_exceptions=True)
        assert simulator.rate_limited == 0


async def test_cancelling_on_exit_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """Where JARAI answers no cancel, leaving takes a minute or two and names what goes on."""
    async with Simulator(approval="auto") as simulator, client_of(simulator) as client:
        simulator.faults.add("rate_limited", on="cancel", times=None, seconds=36_000)
        loop = asyncio.get_running_loop()
        async with Orchestrator(client, cancel_on_exit=True) as orchestrator:
            orchestrator.submit(request_for(simulator))
            await asyncio.sleep(30)
            left = loop.time()
        assert loop.time() - left <= 120
        (production_id,) = simulator.productions
        assert production_id in caplog.text


async def test_an_account_without_productions_left_today_keeps_no_place() -> None:
    """Others go on while it waits for midnight."""
    async with (
        Simulator(tier="free", accounts=2, failure_rate=0, approval="auto") as simulator,
        client_of(simulator) as client,
    ):
        spent, other = (account.account_id for account in simulator.accounts)
        async with Orchestrator(client, concurrency=4) as orchestrator:
            for _ in range(8):
                orchestrator.submit(request_for(simulator, account_id=spent))
            ticket = orchestrator.submit(request_for(simulator, account_id=other))
            outcome: Outcome = await ticket
            assert outcome.ok
            assert asyncio.get_running_loop().time() < 12 * 3600


@pytest.mark.parametrize("key", ["", "a\nb", "é", "x" * 256])
async def test_a_key_that_cannot_be_sent_is_refused(
    simulator: Simulator, client: JaraiClient, key: str
) -> None:
    """It would otherwise look like a submit whose fate is not known."""
    with pytest.raises(InvalidRequestError, match="idempotency_key"):
        await client.submit(request_for(simulator), idempotency_key=key or "\x00")
    assert not simulator.productions


async def test_wait_has_patience_with_a_production_that_is_not_found_yet(
    simulator: Simulator, client: JaraiClient
) -> None:
    """Reads may lag behind a submit."""
    production = await client.submit(request_for(simulator))
    simulator.faults.add("not_found", on="fetch", times=3)
    assert (await client.wait(production.id)).status == "Published"


async def test_a_session_that_raises_by_itself_changes_nothing(simulator: Simulator) -> None:
    """A caller's session may have habits, middlewares and hooks of its own; they are left alone."""
    seen = []

    async def middleware(
        request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        seen.append(request.method)
        return await send(request)

    session = aiohttp.ClientSession(raise_for_status=True, middlewares=(middleware,))
    simulator.faults.add("rate_limited", on="submit", seconds=5)
    async with (
        session,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, session=session) as client,
    ):
        production = await client.submit(request_for(simulator))
        await client.fetch(production.id)
    assert seen == ["POST", "POST", "GET"]


async def test_text_that_cannot_be_written_ends_nothing(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """Half a character, from a hostile batch, passes through every file and line."""
    async with Orchestrator(client, download_to=tmp_path) as orchestrator:
        request = request_for(simulator, topic="half a \ud800 character", reference="x\ud800")
        async for event in orchestrator.run([request]):
            if isinstance(event, Finished):
                assert event.outcome.ok


async def test_a_folder_that_cannot_be_is_said_before_anything_is_paid_for(
    client: JaraiClient, tmp_path: Path
) -> None:
    """The block is not even entered."""
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigurationError, match="download_to"):
        async with Orchestrator(client, download_to=file / "folder"):
            pass


async def test_a_keyed_submit_that_waits_to_be_sent_again_is_in_doubt_when_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Between two attempts nothing is on its way, but the first may have been carried out."""
    async with Simulator(idempotency_keys=True) as simulator:
        simulator.faults.add("reset_after", on="submit", times=None)
        options: dict[str, Any] = {"idempotency_keys": True, "random": Random(1)}
        client = JaraiClient(simulator.api_key, base_url=simulator.base_url, **options)
        async with client, Orchestrator(client) as orchestrator:
            ticket = orchestrator.submit(request_for(simulator, reference="mine"))
            await asyncio.sleep(5)
            sent = simulator.count("submit")
        assert simulator.count("submit") == sent > 1
        (truth,) = simulator.productions.values()
    (end,) = await asyncio.gather(ticket, return_exceptions=True)
    named = end.error.idempotency_key if isinstance(end, Outcome) else f"{end} {caplog.text}"  # type: ignore[union-attr]
    assert str(truth.idempotency_key) in str(named)


async def test_what_is_handed_in_is_checked(simulator: Simulator, client: JaraiClient) -> None:
    """A mistake in a program is named where it is made."""
    with pytest.raises(InvalidRequestError, match="dict"):
        await client.submit({"topic": "x"})  # type: ignore[arg-type]
    for wrong in ("client", JaraiClient):
        with pytest.raises(ConfigurationError, match="JaraiClient"):
            Orchestrator(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="polling"):
        Orchestrator(client, polling=5)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="deadline"):
        Orchestrator(client, deadline=float("nan"))
    async with Orchestrator(client) as orchestrator:
        assert "0 running" in repr(orchestrator)
        with pytest.raises(InvalidRequestError, match="iterable"):
            orchestrator.run(request_for(simulator))  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="must be a string"):
            JaraiClient(5)  # type: ignore[arg-type]
