"""Helpers for tests of orchestrators."""

import asyncio
from collections import defaultdict
from typing import Any

from jarai_async import Event, Finished, Orchestrator, Outcome, Ticket, Waiting, WaitReason
from jarai_async.simulator import Simulator


async def events_by_reference(orchestrator: Orchestrator, requests: Any) -> dict[str, list[Event]]:
    """Run a batch to its end, and return the events of each request."""
    events = defaultdict(list)
    async with orchestrator:
        async for event in orchestrator.run(requests):
            events[event.reference].append(event)
    return events


async def outcomes_of(orchestrator: Orchestrator, requests: Any) -> list[Outcome]:
    """Run a batch to its end, and return the outcome of each request."""
    return outcomes_in(await events_by_reference(orchestrator, requests))


def outcomes_in(events: dict[str, list[Event]]) -> list[Outcome]:
    """Return the outcomes of requests whose last event is `Finished`."""
    last_events = [of_request[-1] for of_request in events.values()]
    return [event.outcome for event in last_events if isinstance(event, Finished)]


def library_tasks() -> list[str]:
    """Return the names of the library's tasks that are running."""
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("jarai")]


def statuses(simulator: Simulator) -> set[str]:
    """Return the statuses that the productions have now."""
    now = asyncio.get_running_loop().time()
    return {production.status_at(now) for production in simulator.productions.values()}


async def until_waiting(ticket: Ticket, reason: WaitReason, step: float = 1.0) -> Waiting:
    """Return what a ticket waits for when that has this reason; look every `step` seconds."""
    async with asyncio.timeout(4 * 3600):
        while (waiting := ticket.waiting_for) is None or waiting.reason is not reason:
            assert not ticket.done
            await asyncio.sleep(step)
    return waiting
