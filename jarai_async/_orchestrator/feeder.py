"""Draws the requests of a run, each when a slot is free."""

import asyncio
import logging
from contextlib import aclosing

from jarai_async._errors import ClosedError, InvalidRequestError
from jarai_async._orchestrator.jobs import Jobs
from jarai_async._orchestrator.run import Batch
from jarai_async._orchestrator.slot import Slot
from jarai_async._orchestrator.state import JobContext, JobState

_log = logging.getLogger("jarai_async")

_MAX_UNREAD = 1_000  # events; then no request is drawn until the reader has caught up


async def feed(batch: Batch, jobs: Jobs, context: JobContext) -> None:
    """Draw requests, each when a slot is free and the reader has caught up, and start their jobs."""
    failure: Exception | None = None
    slot, journal = Slot(context.slots), context.journal
    publish, on_end = batch.publish, batch.job_ended  # one of each for all jobs
    try:
        async with aclosing(batch):
            await batch.plan(journal, jobs.running)
            await batch.warn_if_collected(context.folder)
            async with aclosing(batch.draw(journal)) as source:
                await slot.acquire()
                async for reference, request in source:
                    if not jobs.is_open:
                        break  # the block was left just before this task could be stopped
                    jobs.start(JobState(context, request, reference, slot, publish, on_end))
                    batch.job_started()
                    slot = Slot(context.slots)
                    await batch.stream.drained(below=_MAX_UNREAD)
                    await slot.acquire()
                    await asyncio.sleep(0)  # many slots may be free: let other tasks run in between
    except asyncio.CancelledError:
        failure = None if jobs.is_open else ClosedError("the orchestrator's block has ended")
        raise
    except Exception as error:  # noqa: BLE001  # of the user's iterable: raised when the rest has ended
        failure = error
        what = error if isinstance(error, InvalidRequestError) else type(error).__name__
        if batch.started:  # else it is raised at once
            _log.error("no more requests are drawn after the first %d: %s", batch.started, what)
    finally:
        slot.release()
        batch.all_drawn(failure)
