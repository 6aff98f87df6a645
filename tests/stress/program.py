"""The program whose fate the campaign watches: it runs a batch with a journal, as the README shows it."""

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
from tests.stress.mailbox import Mailbox

Leaving = Literal["end", "break", "timeout", "raise"]
JOURNAL, FILES = "batch.db", "files"


@frozen
class Life:
    """How one run of the program goes: how it ends, after how many events or seconds, how fast it reads."""

    leaving: Leaving = "end"
    after: int = 0
    cancels: int = 0
    slow: float = 0.0
    cancel_on_exit: bool = False


@define
class Seen:
    """What one run of the program was told: `done` is how many events it dealt with.

    `begun_by` is the step at which the last request had its first event.
    """

    life: Life
    step: Callable[[], int] = field(repr=False)
    events: list[Event] = field(factory=list)
    begun_by: int = 0
    done: int = 0
    died: bool = False
    complete: bool = False
    permits: int = 0

    def add(self, event: Event) -> None:
        """Take down an event that came."""
        self.events.append(event)
        if event.sequence == 1:
            self.begun_by = self.step()

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """How each request ended, as far as it was told."""
        return {one.reference: one.outcome for one in self.events if isinstance(one, Finished)}


class LeftError(Exception):
    """What the body of the program's loop raises."""


@frozen
class Program:
    """A batch and where its journal and files are; `seed` decides its jitter."""

    api_key: str = field(repr=False)
    base_url: str
    requests: Sequence[ProductionRequest]
    folder: Path
    idempotency_keys: bool
    concurrency: int
    tickets: bool
    seed: str
    mailbox: Mailbox | None = None

    async def run(self, life: Life, seen: Seen) -> None:
        """Run it once, and note what it is told."""
        random = Random(self.seed)
        keys = self.idempotency_keys
        try:
            async with (
                asyncio.timeout(life.after if life.leaving == "timeout" else None),
                self.mailbox.emptied() if self.mailbox else nullcontext() as receiver,
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
                    cancel_on_exit=life.cancel_on_exit,
                    webhooks=receiver,
                )
                async with orchestrator:
                    await (self._tickets if self.tickets else self._batch)(orchestrator, life, seen)
                seen.permits = orchestrator.slots.count - orchestrator.slots.in_use
        except (TimeoutError, LeftError):
            pass

    async def _batch(self, orchestrator: Orchestrator, life: Life, seen: Seen) -> None:
        async for event in orchestrator.run(self.requests):
            seen.add(event)
            if life.slow:
                await asyncio.sleep(life.slow)
            seen.done += 1
            if seen.done == life.after and life.leaving == "break":
                return
            if seen.done == life.after and life.leaving == "raise":
                raise LeftError
        seen.complete = True

    async def _tickets(self, orchestrator: Orchestrator, life: Life, seen: Seen) -> None:
        tickets = [orchestrator.submit(request) for request in self.requests]
        readers = [asyncio.create_task(_read(ticket, seen)) for ticket in tickets]
        cancels = [
            asyncio.create_task(_cancel(one, 7.0 * n)) for n, one in enumerate(tickets[: life.cancels])
        ]
        try:
            if life.leaving == "break":
                await asyncio.sleep(life.after)
                return
            await asyncio.gather(*readers)
            seen.complete = True
        finally:
            for task in [*readers, *cancels]:
                task.cancel()
            await asyncio.gather(*readers, *cancels, return_exceptions=True)


async def _read(ticket: Ticket, seen: Seen) -> None:
    async for event in ticket.events():
        seen.add(event)
        seen.done += 1


async def _cancel(ticket: Ticket, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await ticket.cancel()
