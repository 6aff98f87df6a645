"""Every event is kept: any number of readers follow them from a cursor, also after a restart."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from jarai_async import (
    ClosedError,
    Event,
    Finished,
    InvalidRequestError,
    JaraiClient,
    Orchestrator,
    OutcomeState,
    StatusChanged,
    Submitted,
    UncertainSubmitError,
)
from jarai_async.simulator import Simulator
from tests.support.scenarios import request_for, requests_for


def numbered(events: list[Event]) -> list[tuple[str, int]]:
    return [(event.reference, event.sequence) for event in events]


async def until(orchestrator: Orchestrator, finished: int, after: int = 0) -> list[Event]:
    """Read the merged stream until this many requests have finished."""
    events: list[Event] = []
    async for event in orchestrator.events(after):
        events.append(event)
        finished -= isinstance(event, Finished)
        if not finished:
            break
    return events


@pytest.mark.parametrize("journal", [None, "journal"])
async def test_all_readers_get_the_same_events_in_one_order(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, journal: str | None
) -> None:
    """One that reads live, one that starts late, one that continues, and those of single requests."""
    async with Orchestrator(client, journal=journal and tmp_path / journal) as orchestrator:
        live = asyncio.create_task(until(orchestrator, 5))
        tickets = [orchestrator.submit(request) for request in requests_for(simulator, 5)]
        events = await live
        assert [await until(orchestrator, 5) for _ in range(2)] == [events, events]
        middle = len(events) // 2
        assert (
            await until(orchestrator, 5 - count(events[:middle]), events[middle - 1].cursor)
            == events[middle:]
        )
        assert [event.cursor for event in events] == sorted({event.cursor for event in events})
        for ticket in tickets:
            own = [event async for event in ticket.events()]
            assert own == [event for event in events if event.reference == ticket.reference]
            assert isinstance(own[0], Submitted)
            assert isinstance(own[-1], Finished)
            assert [event async for event in ticket.events(after=own[-2].cursor)] == own[-1:]
            assert [event async for event in ticket.events(after=own[-1].cursor)] == []


@pytest.mark.parametrize("journal", [None, "journal"])
async def test_cursor_is_that_of_the_newest_event(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, journal: str | None
) -> None:
    """Also where a process has just begun, with the events of an earlier one.

    A newer cursor is that of another journal, or of a process without one: its reader would wait for ever.
    """
    path = journal and tmp_path / journal
    async with Orchestrator(client, journal=path) as orchestrator:
        assert orchestrator.cursor == 0
        orchestrator.submit(request_for(simulator))
        newest = (await until(orchestrator, 1))[-1].cursor
        assert orchestrator.cursor == newest
    async with Orchestrator(client, journal=path) as orchestrator:
        assert orchestrator.cursor == (newest if path else 0)
        too_new = newest + 1 if path else newest
        with pytest.raises(InvalidRequestError, match=f"no event has the cursor {too_new}.* events.after=0"):
            orchestrator.events(after=too_new)


def count(events: list[Event]) -> int:
    return sum(isinstance(event, Finished) for event in events)


async def test_reader_continues_behind_its_cursor_after_a_restart(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """No event is missing and none comes twice, wherever the first process ended."""
    path, requests = tmp_path / "journal", requests_for(simulator, 5)
    async with Orchestrator(client, journal=path) as orchestrator:
        tickets = [orchestrator.submit(request) for request in requests]
        first = await until(orchestrator, 2)
        left = orchestrator.events(first[-1].cursor)
        waiting = asyncio.create_task(anext(left, None))
    await waiting  # leaving the block ends the iteration
    ended = {event.reference for event in first if isinstance(event, Finished)}
    with pytest.raises(ClosedError):
        await next(ticket for ticket in tickets if ticket.reference not in ended)
    async with Orchestrator(client, journal=path) as orchestrator:
        resumed = await orchestrator.resume()
        assert {ticket.reference for ticket in resumed}.isdisjoint(ended)
        rest = await until(orchestrator, 3, first[-1].cursor)
        numbers = numbered(first + rest)
        assert len(numbers) == len(set(numbers))
        for reference in {request.reference for request in requests}:
            own = [number for name, number in numbers if name == reference]
            assert own == [*range(1, len(own) + 1)]
            known = await orchestrator.ticket(str(reference))
            assert known is not None
            assert numbered([event async for event in known.events()]) == [(reference, n) for n in own]
            assert (await known).ok
    assert len(simulator.productions) == 5


async def test_journal_knows_its_requests(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What has ended has its outcome; what has not is watched again once it is resumed."""
    path = tmp_path / "journal"
    caplog.set_level("INFO")
    async with Orchestrator(client, journal=path) as orchestrator:
        assert (await orchestrator.submit(request_for(simulator, reference="a"))).ok
        orchestrator.submit(request_for(simulator, reference="b"))
        await asyncio.sleep(60)
    async with Orchestrator(client, journal=path) as orchestrator:
        first, second = await orchestrator.tickets()
        assert [first.reference, second.reference] == ["a", "b"]
        assert (first.done, second.done) == (True, True)
        assert (await first).ok
        with pytest.raises(ClosedError, match="b is not watched any more"):
            await second
        assert [ticket.reference for ticket in await orchestrator.tickets(OutcomeState.PUBLISHED)] == ["a"]
        assert await orchestrator.tickets(OutcomeState.FAILED) == []
        assert await orchestrator.ticket("c") is None
        (resumed,) = await orchestrator.resume()
        again = orchestrator.submit(request_for(simulator, reference="b"))
        assert (await resumed).ok
        assert await again == await resumed
        assert await orchestrator.resume() == []
    logged = [line for line in caplog.messages if line.startswith("resuming")]
    assert logged == ["resuming requests of the journal: 1 accepted"]
    assert len(simulator.productions) == 2


async def test_outcome_that_is_not_final_is_known_until_the_request_runs_again(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """Also after a restart. A decision replaces it, also where the request does not run again before."""
    path = tmp_path / "journal"
    await client.accounts()
    simulator.faults.add("reset_after", on="submit", times=1)

    async def check(orchestrator: Orchestrator) -> None:
        (ticket,) = await orchestrator.tickets(OutcomeState.UNCERTAIN)
        assert (ticket.reference, (await ticket).state) == ("lost", OutcomeState.UNCERTAIN)
        (ticket,) = await orchestrator.tickets(OutcomeState.TIMED_OUT)
        assert (ticket.reference, ticket.to_dict()["outcome"]) == ("late", "timed_out")

    async with Orchestrator(client, journal=path) as orchestrator:
        await orchestrator.submit(request_for(simulator, reference="lost"))
        await orchestrator.submit(request_for(simulator, reference="late"), deadline=1)
        await check(orchestrator)
    async with Orchestrator(client, journal=path) as orchestrator:
        await check(orchestrator)
        await orchestrator.resolve("lost", resubmit=True)
        assert await orchestrator.tickets(OutcomeState.UNCERTAIN) == []
    async with Orchestrator(client, journal=path) as orchestrator:
        ticket = await orchestrator.ticket("lost")
        assert ticket is not None
        with pytest.raises(ClosedError):
            await ticket


async def test_submit_that_stays_in_doubt_is_reported_once(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """A consumer that sends a mail on `Finished` sends one for each submit, however often it is deployed."""
    await client.accounts()
    simulator.faults.add("reset_after", on="submit", times=2)
    request, path = request_for(simulator, reference="a"), tmp_path / "journal"
    async with Orchestrator(client, journal=path) as orchestrator:
        first = await orchestrator.submit(request)
    for _ in range(2):
        async with Orchestrator(client, journal=path) as orchestrator:
            (ticket,) = await orchestrator.resume()
            assert (await ticket).finished_at == first.finished_at
            with pytest.raises(UncertainSubmitError):
                await ticket.cancel()
            (event,) = [event async for event in orchestrator.run([request])]
            assert orchestrator.cursor == event.cursor == 1
    async with Orchestrator(client, journal=path) as orchestrator:
        ticket = await orchestrator.resolve("a", production_id=next(iter(simulator.productions)))
        assert (await ticket).state is OutcomeState.CANCELLED
        again = await (await orchestrator.retry("a"))
        assert again.state is OutcomeState.UNCERTAIN
        assert again.finished_at > first.finished_at
        last = (await until(orchestrator, 3))[-1]
        assert (await orchestrator.submit(request)).finished_at == again.finished_at
        assert orchestrator.cursor == last.cursor


async def test_known_reference_is_submitted_once_without_a_journal(
    simulator: Simulator, client: JaraiClient
) -> None:
    """While it runs and after its end; other content is refused before anything is sent."""
    async with Orchestrator(client) as orchestrator:
        request = request_for(simulator, reference="a")
        both = await asyncio.gather(orchestrator.submit(request), orchestrator.submit(request))
        outcomes = (*both, await orchestrator.submit(request))
        ids = [outcome.production and outcome.production.id for outcome in outcomes]
        assert ids == [*simulator.productions] * 3
        with pytest.raises(InvalidRequestError, match="'a' belongs to another request"):
            await orchestrator.submit(request_for(simulator, reference="a", topic="Bees"))
    assert len(simulator.productions) == 1


async def test_equal_requests_of_two_runs_without_a_journal_are_two_productions(
    simulator: Simulator, client: JaraiClient
) -> None:
    """They have no reference, and no journal that says they are the same."""
    async with Orchestrator(client) as orchestrator:
        for _ in range(2):
            async for _ in orchestrator.run([request_for(simulator)]):
                pass
    assert len(simulator.productions) == 2


async def test_event_is_repeated_to_the_reader_of_a_run_until_it_was_taken(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """The repeated event is the same, with its number and time, although the production has gone on."""
    path, requests = tmp_path / "journal", [request_for(simulator, reference="a")]
    async with Orchestrator(client, journal=path) as orchestrator:
        run = orchestrator.run(requests)
        submitted, taken = await anext(run), await anext(run)
        await asyncio.sleep(4 * 3600)
    assert isinstance(submitted, Submitted)
    assert isinstance(taken, StatusChanged)
    async with Orchestrator(client, journal=path) as orchestrator:
        again = [event async for event in orchestrator.run(requests)]
        every = await until(orchestrator, 1)
    assert numbered(again) == numbered(every)[1:]
    assert again[0].observed_at == taken.observed_at
    async with Orchestrator(client, journal=path) as orchestrator:
        (last,) = [event async for event in orchestrator.run(requests)]
    assert last.sequence == every[-1].sequence


async def test_request_that_has_not_ended_is_not_forgotten(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """It may have been paid for. The error says what to do, and nothing else is forgotten either."""
    path = tmp_path / "journal"
    await client.accounts()
    async with Orchestrator(client, journal=path) as orchestrator:
        assert (await orchestrator.submit(request_for(simulator, reference="ended"))).ok
        simulator.faults.add("reset_after", on="submit")
        await orchestrator.submit(request_for(simulator, reference="lost"))
        orchestrator.submit(request_for(simulator, reference="left"))
        await asyncio.sleep(60)
    async with Orchestrator(client, journal=path) as orchestrator:
        with pytest.raises(InvalidRequestError) as caught:
            await orchestrator.forget("ended", "lost", "left")
        assert caught.value.problems == (
            "'lost' has not ended, it is in doubt: call `resolve` first",
            "'left' has not ended, it is accepted: call `resume`, or cancel its ticket, and await that first",
        )
        assert await orchestrator.forget(older_than=timedelta(0)) == ["ended"]


async def test_forgotten_request_is_a_new_one(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """Its events are gone, and the cursors of the others stay; only what has ended is forgotten."""
    path = tmp_path / "journal"
    async with Orchestrator(client, journal=path) as orchestrator:
        for reference in "ab":
            await orchestrator.submit(request_for(simulator, reference=reference))
        running = orchestrator.submit(request_for(simulator, reference="c"))
        await asyncio.sleep(1)
        last = (await until(orchestrator, 2))[-1]
        with pytest.raises(InvalidRequestError, match="'c' is still running"):
            await orchestrator.forget("a", "c")
        assert await orchestrator.forget("a", "unknown") == ["a"]
        assert await orchestrator.forget(older_than=timedelta(days=1)) == []
        assert await orchestrator.forget(older_than=timedelta(0)) == ["b"]
        assert [ticket.reference for ticket in await orchestrator.tickets()] == ["c"]
        assert (await running).ok
        assert {event.reference for event in await until(orchestrator, 1, last.cursor)} == {"c"}
    async with Orchestrator(client, journal=path) as orchestrator:
        await orchestrator.forget("c")
        assert (await orchestrator.submit(request_for(simulator, reference="a"))).ok
        assert all(event.cursor > last.cursor for event in await until(orchestrator, 1))
    assert len(simulator.productions) == 4
