"""No production is paid for twice and none is lost, whatever interrupts its submit."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from random import Random
from typing import Any

import pytest

from jarai_async import (
    ClosedError,
    JaraiClient,
    JournalError,
    Orchestrator,
    Outcome,
    OutcomeState,
    RateLimit,
    UncertainSubmitError,
    read_journal,
)
from jarai_async.simulator import Simulator
from tests.support.scenarios import request_for

HOUR = 3600.0
NO_QUOTA = 10**9


def long_productions(_: Random, __: str) -> list[tuple[str, float]]:
    return [("Queued", 10.0), ("Producing", 600.0), ("Distributing", 10.0)]


class SlowProvider:
    """Provides an API key: at once the first time, and after two minutes when the key was rejected."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._seconds = 0.0

    async def __call__(self) -> str:
        seconds, self._seconds = self._seconds, 120.0
        await asyncio.sleep(seconds)
        return self._key


def honouring_client(simulator: Simulator) -> JaraiClient:
    return JaraiClient(simulator.api_key, base_url=simulator.base_url, idempotency_keys=True)


def last_submit(simulator: Simulator) -> float:
    return max(record.arrived for record in simulator.requests if record.route == "submit")


@pytest.mark.parametrize(("fault", "seconds"), [("unavailable", 0.0), ("rate_limited", 86_000.0)])
async def test_submit_in_doubt_is_not_retried_after_its_idempotency_key_expired(
    fault: str, seconds: float
) -> None:
    """A server keeps idempotency keys for a day: after 23 hours a retry could pay for a second production."""
    async with (
        Simulator(idempotency_keys=True, daily_quotas=False, failure_rate=0, approval="auto") as simulator,
        honouring_client(simulator) as client,
        Orchestrator(client) as orchestrator,
    ):
        await client.accounts()
        simulator.faults.add("reset_after", on="submit")
        simulator.faults.add(fault, on="submit", seconds=seconds, times=None if fault == "unavailable" else 1)
        outcome = await orchestrator.submit(request_for(simulator))
        assert outcome.state is OutcomeState.UNCERTAIN
        assert isinstance(outcome.error, UncertainSubmitError)
        assert last_submit(simulator) < 23 * HOUR


@pytest.mark.parametrize("seconds", [0.2, 1.0])
async def test_closing_the_client_keeps_a_submit_in_doubt(seconds: float) -> None:
    """On its way or waiting for its retry, it may be paid for: the error names its idempotency key."""
    async with Simulator(idempotency_keys=True, latency=0) as simulator:
        client = honouring_client(simulator)
        await client.accounts()
        simulator.faults.add("reset_after", on="submit")
        simulator.faults.add("hang", on="submit", times=None)
        submit = asyncio.create_task(client.submit(request_for(simulator), idempotency_key="mine"))
        await asyncio.sleep(seconds)
        await client.close()
        with pytest.raises(UncertainSubmitError) as caught:
            await submit
        assert caught.value.idempotency_key == "mine"


async def test_submit_with_a_rejected_key_is_not_in_doubt_while_the_provider_is_called(
    simulator: Simulator, tmp_path: Path
) -> None:
    """The 401 says that nothing was created: leaving then does not wait, and the next run submits."""
    loop = asyncio.get_running_loop()
    async with JaraiClient(SlowProvider(simulator.api_key), base_url=simulator.base_url) as client:
        await client.accounts()
        simulator.faults.add("unauthorized", on="submit")
        async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
            orchestrator.submit(request_for(simulator, reference="mine"))
            await asyncio.sleep(5)
            leaving_at = loop.time()
        assert loop.time() - leaving_at < 1
        async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
            outcome = await orchestrator.submit(request_for(simulator, reference="mine"))
        assert outcome.ok
        assert len(simulator.productions) == 1


@pytest.mark.parametrize("before", [False, True])
async def test_submit_in_doubt_is_repeated_only_if_its_key_was_honoured_when_it_was_sent(
    tmp_path: Path, *, before: bool
) -> None:
    """A server that honours keys since then does not know this one: a repetition would be paid for twice."""
    states: list[str] = []
    async with Simulator(idempotency_keys=before, failure_rate=0, approval="auto") as simulator:
        simulator.faults.add("hang", on="submit")
        for keys in (before, True):
            async with (
                JaraiClient(simulator.api_key, base_url=simulator.base_url, idempotency_keys=keys) as client,
                Orchestrator(client, journal=tmp_path / "journal") as orchestrator,
            ):
                ticket = orchestrator.submit(request_for(simulator, reference="tides"))
                if not states:
                    await asyncio.sleep(10)  # then the block is left, and the submit is in doubt
                states.append("left" if not states else (await ticket).state)
            simulator.deploy(idempotency_keys=True)
        assert states == ["left", "published" if before else "uncertain"]
        assert len(simulator.productions) == 1


async def test_cancel_while_the_key_provider_is_called_is_immediate(simulator: Simulator) -> None:
    """After the 401 nothing is on its way that a cancel would have to wait for."""
    loop = asyncio.get_running_loop()
    async with (
        JaraiClient(SlowProvider(simulator.api_key), base_url=simulator.base_url) as client,
        Orchestrator(client) as orchestrator,
    ):
        await client.accounts()
        simulator.faults.add("unauthorized", on="submit")
        ticket = orchestrator.submit(request_for(simulator))
        await asyncio.sleep(5)
        await ticket.cancel()
        assert (await ticket).state is OutcomeState.CANCELLED
        assert loop.time() < 10


@pytest.mark.parametrize("fault", ["rate_limited", "unavailable"])
async def test_leaving_during_a_rejected_submit_does_not_cancel_the_request(
    fault: str, tmp_path: Path
) -> None:
    """Nobody asked to cancel it, so the next run with the same journal submits it."""
    async with (
        Simulator(latency=0.5, failure_rate=0, approval="auto") as simulator,
        JaraiClient(simulator.api_key, base_url=simulator.base_url) as client,
    ):
        await client.accounts()
        simulator.faults.add(fault, on="submit", seconds=30)
        async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
            ticket = orchestrator.submit(request_for(simulator, reference="mine"))
            while not client.engine.limiter.in_flight:  # noqa: ASYNC110  # it has no event
                await asyncio.sleep(0.001)
        assert "not watched any more" in repr(ticket)
        with pytest.raises(ClosedError, match="before the request was submitted"):
            await ticket
        async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
            outcome: Outcome = await orchestrator.submit(request_for(simulator, reference="mine"))
        assert outcome.ok


class SlowDisk(sqlite3.Connection):
    """A connection whose next commit waits until `released`, once `before_commit` is set, and may fail."""

    before_commit: Callable[[], object] | None = None
    released = threading.Event()
    is_full = False

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if sql == "COMMIT" and self.before_commit is not None:
            self.before_commit()
            self.released.wait()
            if self.is_full:
                raise sqlite3.OperationalError("database or disk is full")
        return super().execute(sql, parameters)


@pytest.mark.parametrize("is_full", [False, True])
async def test_accepted_production_is_in_the_log_if_the_journal_does_not_have_it_after_leaving(
    client: JaraiClient,
    simulator: Simulator,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    is_full: bool,
) -> None:
    """Its acceptance is still being written when the block is left."""
    loop, committing = asyncio.get_running_loop(), asyncio.Event()
    connect = sqlite3.connect

    def connect_slowly(
        *args: Any, factory: type[sqlite3.Connection] = sqlite3.Connection, **options: Any
    ) -> sqlite3.Connection:
        return connect(*args, factory=type("Slow", (SlowDisk, factory), {}), **options)

    monkeypatch.setattr(sqlite3, "connect", connect_slowly)
    orchestrator = Orchestrator(client, journal=tmp_path / "journal")
    await orchestrator.__aenter__()
    ticket = orchestrator.submit(request_for(simulator, reference="mine"))
    while not simulator.productions:  # noqa: ASYNC110  # the simulator has no event for it
        await asyncio.sleep(0.001)
    monkeypatch.setattr(SlowDisk, "is_full", is_full)
    monkeypatch.setattr(SlowDisk, "released", threading.Event())
    monkeypatch.setattr(
        SlowDisk, "before_commit", staticmethod(lambda: loop.call_soon_threadsafe(committing.set))
    )
    async with asyncio.timeout(60):
        await committing.wait()
    leaving = asyncio.create_task(orchestrator.__aexit__(None, None, None))
    for _ in range(100):  # the clock stands still while the journal writes
        await asyncio.sleep(0)
    SlowDisk.released.set()
    with pytest.raises(JournalError, match="full") if is_full else nullcontext():
        await leaving
    (production_id,) = simulator.productions
    monkeypatch.undo()
    (entry,) = read_journal(tmp_path / "journal")
    assert (entry.production is None) == is_full
    assert (f"mine  {production_id}" in caplog.text) == is_full
    assert ticket.production_id == production_id


async def test_concurrency_holds_after_a_daily_quota() -> None:
    """Slots that were released while an account had to wait for its next day are acquired again."""
    async with (
        Simulator(
            tier="standard", failure_rate=0, approval="auto", durations=long_productions, daily_quotas=False
        ) as simulator,
        JaraiClient(
            simulator.api_key, base_url=simulator.base_url, rate_limit=RateLimit(per_day=NO_QUOTA)
        ) as client,
        Orchestrator(client, concurrency=2) as orchestrator,
    ):
        await client.accounts()
        simulator.faults.add("rate_limited", on="submit", seconds=2 * HOUR)
        tickets = [orchestrator.submit(request_for(simulator)) for _ in range(5)]
        in_flight = 0
        while not all(ticket.done for ticket in tickets):
            await asyncio.sleep(60)
            now = asyncio.get_running_loop().time()
            statuses = [truth.status_at(now) for truth in simulator.productions.values()]
            # a production that has waited for approval has given back its slot
            in_flight = max(in_flight, statuses.count("Queued") + statuses.count("Producing"))
        assert in_flight == 2
