"""The program under test: it runs one batch with a journal, as the README shows."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from random import Random
from typing import Literal

from attrs import define, field, frozen

from jarai_async import (
    Event,
    Finished,
    JaraiClient,
    Orchestrator,
    Outcome,
    Polling,
    ProductionRequest,
    Ticket,
)
from tests.stress.webhook_proxy import WebhookProxy

LeaveBy = Literal["end", "break", "timeout", "raise"]
JOURNAL, FILES = "batch.db", "files"


@frozen
class RunPlan:
    """How one run of the program goes.

    `leave_by` is how it leaves the orchestrator, and `after` the number of events after which it does so (the
    number of seconds for "timeout", and with tickets). `read_delay` is the seconds that it takes to handle an
    event, and `cancels` the number of tickets that it cancels.
    """

    leave_by: LeaveBy = "end"
    after: int = 0
    cancels: int = 0
    read_delay: float = 0.0
    cancel_on_exit: bool = False


@define
class RunRecord:
    """What one run of the program observed.

    It began at `began_at` and got each outcome at `ended_at`, by the clock of the simulator. `handled` is the
    number of events that it has dealt with, `cancelled` the references whose cancel returned,
    `all_submitted_at` the step at which the last request got its first event, and `free_slots` the slots of
    the orchestrator that were free in the end.
    """

    plan: RunPlan
    current_step: Callable[[], int] = field(repr=False)
    server_time: Callable[[], float] = field(default=lambda: asyncio.get_running_loop().time(), repr=False)
    began_at: float = 0.0
    events: list[Event] = field(factory=list)
    ended_at: dict[str, float] = field(factory=dict)
    cancelled: set[str] = field(factory=set)
    all_submitted_at: int = 0
    handled: int = 0
    crashed: bool = False
    complete: bool = False
    free_slots: int = 0

    def add(self, event: Event) -> None:
        """Record an event."""
        self.events.append(event)
        if event.sequence == 1:
            self.all_submitted_at = self.current_step()
        if isinstance(event, Finished):
            self.ended_at[event.reference] = self.server_time()

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """The outcome of each request that has one, by reference."""
        return {event.reference: event.outcome for event in self.events if isinstance(event, Finished)}


class ProgramError(Exception):
    """What the body of the program's loop raises."""


@frozen
class Program:
    """A batch, with the folder of its journal and files. `seed` decides the jitter."""

    api_key: str = field(repr=False)
    base_url: str
    requests: Sequence[ProductionRequest]
    folder: Path
    idempotency_keys: bool
    concurrency: int
    tickets: bool
    seed: str
    webhooks: WebhookProxy | None = None
    cursors: dict[str, int] = field(factory=dict)

    async def run(self, plan: RunPlan, record: RunRecord) -> None:
        """Run the batch once."""
        random = Random(self.seed)
        keys = self.idempotency_keys
        try:
            async with (
                asyncio.timeout(plan.after if plan.leave_by == "timeout" else None),
                self.webhooks.receiver() if self.webhooks else nullcontext() as receiver,
                JaraiClient(
                    self.api_key, base_url=self.base_url, idempotency_keys=keys, random=random
                ) as client,
            ):
                orchestrator = Orchestrator(
                    client,
                    concurrency=self.concurrency,
                    journal=self.folder / JOURNAL,
                    download_to=self.folder / FILES,
                    polling=Polling(min_interval=10, max_interval=60),
                    cancel_on_exit=plan.cancel_on_exit,
                    webhooks=receiver,
                )
                async with orchestrator:
                    await (self._run_tickets if self.tickets else self._run_batch)(orchestrator, plan, record)
                record.free_slots = orchestrator.context.slots.count - orchestrator.context.slots.in_use
        except (TimeoutError, ProgramError):
            pass

    async def _run_batch(self, orchestrator: Orchestrator, plan: RunPlan, record: RunRecord) -> None:
        async for event in orchestrator.run(self.requests):
            record.add(event)
            if plan.read_delay:
                await asyncio.sleep(plan.read_delay)
            record.handled += 1
            if record.handled == plan.after and plan.leave_by == "break":
                return
            if record.handled == plan.after and plan.leave_by == "raise":
                raise ProgramError
        record.complete = True

    async def _run_tickets(self, orchestrator: Orchestrator, plan: RunPlan, record: RunRecord) -> None:
        tickets = [orchestrator.submit(request) for request in self.requests]
        readers = [asyncio.create_task(self._read(ticket, record)) for ticket in tickets]
        cancels = [
            asyncio.create_task(_cancel(ticket, 7.0 * n, record))
            for n, ticket in enumerate(tickets[: plan.cancels])
        ]
        try:
            if plan.leave_by == "break":
                await asyncio.sleep(plan.after)
                return
            await asyncio.gather(*readers)
            record.complete = True
        finally:
            for task in [*readers, *cancels]:
                task.cancel()
            await asyncio.gather(*readers, *cancels, return_exceptions=True)

    async def _read(self, ticket: Ticket, record: RunRecord) -> None:
        """Handle the events behind those that an earlier run has handled."""
        async for event in ticket.events(after=self.cursors.get(ticket.reference, 0)):
            record.add(event)
            record.handled += 1


async def _cancel(ticket: Ticket, seconds: float, record: RunRecord) -> None:
    await asyncio.sleep(seconds)
    await ticket.cancel()
    record.cancelled.add(ticket.reference)
