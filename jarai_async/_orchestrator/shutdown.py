"""Leaving an orchestrator: nothing more is sent, nothing is lost, and the log says how to continue."""

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping

from jarai_async._events import Outcome
from jarai_async._locations import is_database
from jarai_async._orchestrator.job import Job
from jarai_async._orchestrator.run import Batch
from jarai_async._orchestrator.state import JobState
from jarai_async._tasks import start, stop

_log = logging.getLogger("jarai_async")

_GRACE = 10.0  # seconds for submits that are on their way
_DRAW_TIMEOUT = 60.0  # seconds for the caller's iterables of requests to be closed
_CANCEL_TIMEOUT = 60.0  # seconds for cancelling all productions, with `cancel_on_exit`

_Jobs = Mapping["asyncio.Task[Outcome]", Job]


async def stop_drawing(
    batches: Mapping[asyncio.Task[None], Batch], others: Iterable[asyncio.Task[None]]
) -> None:
    """Draw no more requests, and close their iterables, which are the caller's code: for a minute at most."""
    try:
        async with asyncio.timeout(_DRAW_TIMEOUT) as timeout:
            drawn = [*batches.values()]
            await stop([*batches, *others])
            for batch in drawn:  # also of a task that had not started
                await batch.aclose()
    except TimeoutError:
        if not timeout.expired():
            raise
        _log.warning("an iterable of requests was not closed within %.0f s", _DRAW_TIMEOUT)


async def cancel_unsent(jobs: _Jobs) -> None:
    """End the submits that wait, and give those on their way some time to get their response."""
    unsent = [task for task, job in jobs.items() if job.state.production is None and not job.state.may_exist]
    await stop(unsent)
    settled = [job.submission.settled() for job in jobs.values() if job.state.production is None]
    if settled:
        await asyncio.wait(settled, timeout=_GRACE)


async def cancel_all(jobs: _Jobs) -> None:
    """Cancel all productions at JARAI, as far as that is possible within a minute.

    The journal has the other cancels.
    """
    cancels = {
        start(job.cancel): job
        for job in jobs.values()
        if job.state.production is not None and not job.state.production.status.is_terminal
    }
    if not cancels:
        return
    try:
        done, pending = await asyncio.wait(cancels, timeout=_CANCEL_TIMEOUT)
    finally:
        await stop(cancels)
    if pending:
        _log.warning("JARAI has not answered %d cancels within %.0f s", len(pending), _CANCEL_TIMEOUT)
    for cancel in done:
        if error := cancel.exception():
            _log.warning("%s could not be cancelled: %s", cancels[cancel].state.reference, error)
    if jobs:  # the jobs of cancelled productions end without further requests
        await asyncio.wait(jobs, timeout=_GRACE)


def log_how_to_continue(jobs: Collection[JobState], journal: str | None) -> None:
    """Log the productions that continue at JARAI, and the submits that may have created one.

    A journal has them, so their number is enough. Without one, or if it cannot be written, the log is their
    only trace.
    """
    running = [f"  {job.reference}  {job.production.id}" for job in jobs if job.production]
    in_doubt = [f"  {job.reference}  {job.key}" for job in jobs if job.may_exist]
    if journal is not None:
        if jobs:
            how = f"to continue, run the same batch with the journal {journal}, or call `resume`"
            _log.info(
                "stopped watching; productions that continue at JARAI: %d, submits without a response: %d; "
                "%s",
                len(running),
                len(in_doubt),
                "the other workers continue" if is_database(journal) else how,
            )
        return
    if running:
        what = "productions, which continue" if len(running) > 1 else "production, which continues"
        how = "wait with `JaraiClient.wait(id)`, or look with `jarai status ID`"
        _log.warning("stopped watching %d %s at JARAI; %s:", len(running), what, how)
    _log_each(running)
    if in_doubt:
        _log.warning(
            "submits without a response: %d; check in JARAI Studio whether they created a production "
            "before you submit them again (reference, idempotency key):",
            len(in_doubt),
        )
    _log_each(in_doubt)


def _log_each(lines: list[str]) -> None:
    for line in lines:
        _log.warning("%s", line)
