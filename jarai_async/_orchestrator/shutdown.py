"""Leaving an orchestrator: nothing more is sent, nothing is lost, and it is said how to go on."""

import asyncio
import logging
from collections.abc import Collection, Mapping
from pathlib import Path

from jarai_async._events import Outcome
from jarai_async._orchestrator.job import Job
from jarai_async._tasks import stop

_log = logging.getLogger("jarai_async")

_GRACE = 10.0  # seconds for submits that are on their way when the block is left
_CANCELLING = 60.0  # seconds for cancelling what runs, where that was asked for

_Jobs = Mapping["asyncio.Task[Outcome]", Job]


async def withdraw(jobs: _Jobs) -> None:
    """End the submits that wait; give those on their way a moment to say what became of them."""
    await stop([task for task, one in jobs.items() if one.production is None and not one.may_exist])
    landing = [job.submission.landed() for job in jobs.values() if job.production is None]
    if landing:
        await asyncio.wait(landing, timeout=_GRACE)


async def cancel_all(jobs: _Jobs) -> None:
    """Cancel what runs, as far as that can be done within a minute."""
    tasks = {asyncio.ensure_future(job.cancel()): job for job in jobs.values() if job.production is not None}
    if not tasks:
        return
    try:
        done, _ = await asyncio.wait(tasks, timeout=_CANCELLING)
    finally:
        await stop(tasks)
    for task in done:
        if error := task.exception():
            _log.warning("%s could not be cancelled: %s", tasks[task].reference, error)
    if jobs:  # those that are cancelled end by themselves
        await asyncio.wait(jobs, timeout=_GRACE)


def say_how_to_go_on(jobs: Collection[Job], journal: Path | None) -> None:
    """Name what goes on at JARAI, and what may."""
    how = "wait for them with `JaraiClient.wait(id)` or look with `jarai status ID`"
    if journal is not None:
        how = (
            f"run the same again with the journal {journal}, or `jarai resume {journal}`, to go on with them"
        )
    _warn(
        f"stopped watching %d productions, which go on at JARAI and are paid for; {how}:\n%s",
        [f"  {job.reference}  {job.production.id}" for job in jobs if job.production],
    )
    _warn(
        "left %d submits whose answers had not come: look in JARAI Studio whether they were created "
        "before you submit them again (reference, idempotency key):\n%s",
        [f"  {job.reference}  {job.submission.key}" for job in jobs if job.may_exist],
    )


def _warn(message: str, lines: list[str]) -> None:
    if lines:
        _log.warning(message, len(lines), "\n".join(lines))
