"""Which request is which: references made from the content, and the comparison with the journal."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from jarai_async import Event, Finished, InvalidRequestError, JaraiClient, Orchestrator, ProductionRequest
from jarai_async.simulator import Simulator
from tests.support.orchestrators import events_by_reference, outcomes_of
from tests.support.scenarios import request_for

TOPICS = ("tides", "tides", "lighthouses")


def unnamed(simulator: Simulator, *topics: str) -> list[ProductionRequest]:
    return [request_for(simulator, topic=topic) for topic in topics]


def submitted(simulator: Simulator) -> list[str]:
    return [production.body["topic"] for production in simulator.productions.values()]


@pytest.mark.parametrize("order", [("bees", *TOPICS), (*reversed(TOPICS), "bees")])
async def test_row_inserted_into_a_batch_without_references_is_the_only_one_submitted(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, order: tuple[str, ...]
) -> None:
    """A reference is made from the content, so neither the order nor further rows change it."""
    journal = tmp_path / "journal"
    before = await events_by_reference(Orchestrator(client, journal=journal), unnamed(simulator, *TOPICS))
    assert sorted(submitted(simulator)) == sorted(TOPICS)
    after = await events_by_reference(Orchestrator(client, journal=journal), unnamed(simulator, *order))
    assert sorted(submitted(simulator)) == sorted([*TOPICS, "bees"])
    assert len(before) == 3
    assert before.keys() < after.keys()


async def test_order_of_extra_fields_does_not_change_a_request(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """JSON objects have no order, with a reference or without."""
    for _ in range(2):
        for extra in ({"a": {"x": 1, "y": 2}, "b": 3}, {"b": 3, "a": {"y": 2, "x": 1}}):
            requests = [
                request_for(simulator, extra=extra),
                request_for(simulator, extra=extra, reference="mine"),
            ]
            await outcomes_of(Orchestrator(client, journal=tmp_path / "journal"), requests)
    assert len(simulator.productions) == 2


async def test_requests_of_an_iterator_get_the_references_that_a_list_gives_them(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """Also when they are drawn one by one."""
    requests = unnamed(simulator, *TOPICS)
    first = await events_by_reference(Orchestrator(client, journal=tmp_path / "journal"), requests)
    again = await events_by_reference(Orchestrator(client, journal=tmp_path / "journal"), iter(requests))
    assert first.keys() == again.keys()
    assert len(simulator.productions) == 3


async def test_submit_without_a_reference_is_always_a_new_request(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """An application that restarts gets a new production for a new order."""
    references = set()
    for _ in range(2):
        async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
            tickets = [orchestrator.submit(request_for(simulator)) for _ in range(2)]
            references |= {(await ticket).reference for ticket in tickets}
    assert len(references) == len(simulator.productions) == 4


# --- Comparison with the journal -------------------------------------------------------------------


async def first_error(orchestrator: Orchestrator, requests: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        await outcomes_of(orchestrator, requests)
    return caught.value


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"topic": "bees\x1b[2J"}, r"topic was 'tides', is 'bees\x1b[2J'"),
        ({"metadata": "m" * 4000}, "metadata was None, is 'mmm"),
        ({"project_type": "article"}, "project_type was None, is 'article'"),
        ({"extra": {"mood": [1]}}, "extra['mood'] was 'calm', is [1]"),
        ({"extra": {}}, "extra['mood'] was 'calm', is absent"),
        ({"extra": {"mood": "calm", "metadata": True}}, "extra['metadata'] was absent, is True"),
    ],
)
async def test_changed_request_under_a_known_reference_is_refused_before_anything_is_sent(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, change: dict[str, Any], shown: str
) -> None:
    """The error names the reference and the fields, with the old and the new value, on one short line."""
    known: dict[str, Any] = {"topic": "tides", "extra": {"mood": "calm"}, "reference": "order 7"}
    path = tmp_path / "journal"
    await outcomes_of(Orchestrator(client, journal=path), [request_for(simulator, **known)])
    batch = [request_for(simulator, reference="new"), request_for(simulator, **known | change)]
    sent = len(simulator.requests)
    error = await first_error(Orchestrator(client, journal=path), batch)
    (problem,) = error.problems
    assert problem.startswith("the reference 'order 7' belongs to another request in the journal: ")
    assert shown in problem
    assert problem.endswith("`retry` this one first, if it failed; or `forget` it once it has ended)")
    assert problem.isprintable()
    assert len(problem) < 300
    async with Orchestrator(client, journal=path) as orchestrator:
        with pytest.raises(InvalidRequestError, match="'order 7'"):
            await orchestrator.submit(request_for(simulator, **known | change))
        run = orchestrator.run(iter(batch))  # compared as it is drawn
        events: list[Event] = []
        with pytest.raises(InvalidRequestError, match="'order 7'"):
            async for event in run:
                events.append(event)  # noqa: PERF401  # the error must not lose them
        assert [event.reference for event in events if isinstance(event, Finished)] == ["new"]
    assert [record.route for record in simulator.requests[sent:]].count("submit") == 1


async def test_every_problem_of_a_batch_is_reported_before_anything_is_sent(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """Changed requests, repeated references and what is not a request."""
    path = tmp_path / "journal"
    known = [request_for(simulator, reference=name) for name in "ab"]
    await outcomes_of(Orchestrator(client, journal=path), known)
    changed = [request_for(simulator, reference=name, topic="other") for name in "ab"]
    twice = [request_for(simulator, reference="c")] * 2
    sent = len(simulator.requests)
    error = await first_error(Orchestrator(client, journal=path), [*changed, *twice, {"topic": "x"}])
    text = str(error)
    assert len(error.problems) == 4
    assert all(part in text for part in ("'a'", "'b'", "'c'", "item 5 is not a ProductionRequest but dict"))
    assert len(simulator.requests) == sent


async def test_many_problems_of_a_batch_are_one_short_message(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The error has five of them and the number of the others, and is not logged as well."""
    path, names = tmp_path / "journal", [f"order {n}" for n in range(7)]
    known = [request_for(simulator, reference=name) for name in names]
    await outcomes_of(Orchestrator(client, journal=path), known)
    changed = [request_for(simulator, reference=name, topic="other") for name in names]
    error = await first_error(Orchestrator(client, journal=path), changed)
    assert len(error.problems) == 7
    assert "'order 4'" in str(error)
    assert "'order 5'" not in str(error)
    assert str(error).endswith("; and 2 more")
    assert "order" not in "".join(
        record.getMessage() for record in caplog.records if record.levelname == "ERROR"
    )


async def test_running_reference_is_refused_before_anything_is_sent(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """The other requests of the batch are not sent either."""
    async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
        orchestrator.submit(request_for(simulator, reference="a"))
        await asyncio.sleep(1)
        with pytest.raises(InvalidRequestError, match="'a' is already running"):
            await anext(orchestrator.run([request_for(simulator, reference=name) for name in "ba"]))
        with pytest.raises(
            InvalidRequestError, match="'a' belongs to another request in the journal: topic was"
        ):
            orchestrator.submit(request_for(simulator, reference="a", topic="Bees"))
    assert len(simulator.productions) == 1


async def test_request_that_was_never_sent_may_be_changed(
    simulator: Simulator, client: JaraiClient, tmp_path: Path
) -> None:
    """Nothing was paid for under its reference; a resumed journal then submits the new content."""
    path = tmp_path / "journal"
    async with Orchestrator(client, concurrency=1, journal=path) as orchestrator:
        run = orchestrator.run([request_for(simulator, reference=name) for name in "ab"])
        await anext(run)
    async with Orchestrator(client, concurrency=1, journal=path) as orchestrator:
        changed = [request_for(simulator, reference="a"), request_for(simulator, reference="b", topic="bees")]
        run = orchestrator.run(changed)
        await anext(run)
        intent = await orchestrator.context.journal.find("b")
    assert intent is not None
    assert intent.request().topic == "bees"


@pytest.mark.parametrize("by_run", [True, False])
async def test_events_of_changed_content_are_numbered_after_those_of_the_rejected_request(
    simulator: Simulator, client: JaraiClient, tmp_path: Path, *, by_run: bool
) -> None:
    """The reader of the reference sees both. The changed content is what is submitted."""
    simulator.faults.add("not_found", on="submit")
    changed = request_for(simulator, reference="a", topic="Bees")
    async with Orchestrator(client, journal=tmp_path / "journal") as orchestrator:
        assert (await orchestrator.submit(request_for(simulator, reference="a"))).state == "rejected"
        if by_run:
            read = [event.sequence async for event in orchestrator.run([changed])]
        else:
            await orchestrator.submit(changed)
        ticket = await orchestrator.ticket("a")
        assert ticket is not None
        numbers = [event.sequence async for event in ticket.events()]
    assert numbers == [*range(1, len(numbers) + 1)]
    assert not by_run or read == numbers[1:]
    assert [production.body["topic"] for production in simulator.productions.values()] == ["Bees"]


# --- The caller's generator ------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["aclose", "break", "error", "block", "all drawn", "not started"])
async def test_async_generator_of_the_caller_is_closed_at_once(
    simulator: Simulator, client: JaraiClient, end: str
) -> None:
    """Its `finally` runs when no more requests are drawn, not when it is garbage collected."""
    closed = asyncio.Event()

    async def source() -> AsyncIterator[ProductionRequest]:
        try:
            yield request_for(simulator)
            while end != "all drawn":
                yield {"topic": "x"} if end == "error" else request_for(simulator)  # type: ignore[misc]
        finally:
            await asyncio.sleep(0.1)
            closed.set()

    requests = source()
    if end == "not started":
        await anext(requests)
    async with Orchestrator(client, concurrency=1) as orchestrator:
        run = orchestrator.run(requests)
        if end != "not started":
            await anext(run)
        if end == "break":
            del run
        elif end in ("aclose", "not started"):
            await run.aclose()
        elif end == "error":
            with pytest.raises(InvalidRequestError):
                _ = [event async for event in run]
        if end == "break":
            await asyncio.wait_for(closed.wait(), 1)
        elif end != "block":
            assert closed.is_set() or end == "all drawn"
    await asyncio.wait_for(closed.wait(), 1 if end == "all drawn" else 0.001)
