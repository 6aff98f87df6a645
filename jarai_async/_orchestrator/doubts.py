"""Submits in doubt, and what decides them: the user, or the webhook of a production that one of them fits.

`decisions` has the rules; here the jobs are stopped and started that a decision is about.
"""

import asyncio
import logging
from collections.abc import Callable
from uuid import UUID

from jarai_async._api.models import Production
from jarai_async._errors import InvalidRequestError, JaraiError
from jarai_async._events import Outcome
from jarai_async._journal.entries import Intent, Stage
from jarai_async._orchestrator.decisions import check_decision, find_created, resolve
from jarai_async._orchestrator.job import Job
from jarai_async._orchestrator.jobs import Jobs
from jarai_async._orchestrator.state import JobContext, JobState
from jarai_async._tasks import stop

_log = logging.getLogger("jarai_async")


class Doubts:
    """Decides submits in doubt, one at a time.

    `may_be_drawn` says whether a run may still draw the request with a reference.
    """

    def __init__(self, jobs: Jobs, context: JobContext, may_be_drawn: Callable[[str], bool]) -> None:
        self._jobs = jobs
        self._context = context
        self._may_be_drawn = may_be_drawn
        self._deciding = asyncio.Lock()
        self._looking = asyncio.Lock()
        self._to_look_at: set[str] = set()  # accounts

    async def resolve(
        self, reference: str, production_id: str | UUID | None
    ) -> tuple[Job, asyncio.Task[Outcome]]:
        """Decide that a submit created this production, or (None) is sent again; return its new job.

        Raises as `Orchestrator.resolve`.
        """
        self._replaceable(reference)
        context, production = self._context, None
        if production_id is not None:
            production = await find_created(context.engine, context.journal, reference, production_id)
        async with self._deciding:
            running = self._replaceable(reference)
            other = await check_decision(context.journal, reference, production, context.productions)
            if other is not None:
                running += self._replaceable(other.reference)
            for job, _ in running:
                job.state.is_replaced = True
            await stop(task for _, task in running)
            intent = await resolve(context.journal, reference, production, context.productions, other)
            if other is not None:
                self._continue(other, has_ticket=True)
            return self._continue(intent, has_ticket=True)

    def _replaceable(self, reference: str) -> list[tuple[Job, asyncio.Task[Outcome]]]:
        """Return the job that another decision replaces. Raises InvalidRequestError where it may not."""
        running = self._jobs.running(reference)
        if running is not None and not running[0].state.is_resolved:
            raise InvalidRequestError([f"{reference!r} is still running: there is nothing to decide yet"])
        return [] if running is None else [running]

    def _continue(self, intent: Intent, *, has_ticket: bool) -> tuple[Job, asyncio.Task[Outcome]]:
        return self._jobs.start(JobState.of(self._context, intent, has_ticket=has_ticket))

    async def look_for_created(self, account_id: str) -> None:
        """Look whether a production of which only a webhook is known belongs to a submit in doubt.

        Looks that wait for another one are made as one.
        """
        context = self._context
        self._to_look_at.add(account_id)
        try:
            async with self._looking:
                if account_id not in self._to_look_at:
                    return
                self._to_look_at.remove(account_id)
                for intent in await context.journal.in_doubt(account_id):
                    if self._jobs.running(intent.reference) or self._may_be_drawn(intent.reference):
                        continue  # its own job looks
                    if (production := await context.matcher.find(context.journal, intent)) is not None:
                        await self._use_created(intent.reference, production)
        except JaraiError as error:
            _log.warning("it is not known what a webhook says about a submit in doubt: %s", error)

    async def _use_created(self, reference: str, production: Production) -> None:
        """Watch what a webhook shows, unless the submit was decided in the meantime."""
        context = self._context
        async with self._deciding:
            intent = await context.journal.find(reference)
            if intent is None or intent.stage is not Stage.IN_DOUBT or self._jobs.running(reference):
                return
            await check_decision(context.journal, reference, production, context.productions)
            intent = await resolve(context.journal, reference, production, context.productions)
            self._continue(intent, has_ticket=False)
