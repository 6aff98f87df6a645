"""Carries out what users have decided about a request: in the worker that owns it, or else in one of them."""

import asyncio
from collections.abc import Callable

from jarai_async._errors import JaraiError
from jarai_async._journal.entries import Intent
from jarai_async._orchestrator.orchestrator import Orchestrator
from jarai_async._postgres.commands import Command, Commands
from jarai_async._postgres.journal import PostgresJournal


class Decisions:
    """The decisions that this worker carries out. `follow` is called for a request whose job runs then."""

    def __init__(
        self,
        orchestrator: Orchestrator,
        journal: PostgresJournal,
        commands: Commands,
        follow: Callable[[Intent], None],
    ) -> None:
        self._orchestrator = orchestrator
        self._journal = journal
        self._commands = commands
        self._follow = follow
        self._under_way: dict[str, asyncio.Event] = {}  # set at the end, by reference

    async def carry_out_pending(self, reference: str) -> None:
        """Return once what was decided about a request is carried out. Raises JournalError, ClosedError."""
        if await self._commands.pending(reference):
            if (done := self._under_way.get(reference)) is not None:
                await done.wait()
            else:
                await self.carry_out(reference)

    def is_under_way(self, reference: str) -> bool:
        """Whether this worker is carrying out a decision about a request, and owns it only for that."""
        return reference in self._under_way

    async def carry_out(self, reference: str) -> None:
        """Carry out what was decided about a request, unless another worker owns it, or this does so already.

        Raises JournalError, ClosedError.
        """
        if reference in self._under_way:
            return
        done = self._under_way[reference] = asyncio.Event()
        try:
            intent = await self._journal.claim(reference, even_settled=True)
            if intent is not None:
                for command in await self._commands.pending(reference):
                    await self._commands.done(command, reference, await self._apply(command, reference))
                if self._orchestrator.jobs.running(reference) is not None:
                    self._follow(intent)
                else:
                    await self._journal.release(reference, is_settled=None)
        finally:
            del self._under_way[reference]
            done.set()

    async def _apply(self, command: Command, reference: str) -> JaraiError | None:
        """Return why a decision could not be carried out."""
        orchestrator, id_ = self._orchestrator, command.argument
        try:
            match command.kind:
                case "cancel":
                    if (ticket := await orchestrator.ticket(reference)) is not None:
                        await ticket.cancel()
                case "retry":
                    await orchestrator.retry(reference)
                case "resolve":
                    await orchestrator.resolve(reference, production_id=id_, resubmit=id_ is None)
        except JaraiError as error:
            return error
        return None
