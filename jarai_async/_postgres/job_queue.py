"""Which worker submits a request: procrastinate's queue of those that no worker owns yet.

A worker takes a request when it has a slot for a production, so the requests go to those that have room.
Everything after that, the owner, its epoch and who continues after its death, is decided by the rows of
`requests`: procrastinate may hand out a request twice, or lose one.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import procrastinate
from procrastinate.exceptions import ProcrastinateException
from procrastinate.types import JSONDict

from jarai_async._postgres.database import Connection, Database, rows

_log = logging.getLogger("jarai_async")

QUEUE: Final = "jarai"
_TASK: Final = "jarai.submit"
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('jarai queue'))"
_EXISTS = "SELECT to_regclass('jarai.procrastinate_jobs') IS NOT NULL"
_DROP_ABANDONED = """
DELETE FROM jarai.procrastinate_jobs WHERE queue_name = %s AND status = 'doing' AND worker_id IS NULL
"""
_PAUSE = 1.0  # seconds, before procrastinate's worker is started again
_LOST = """
SELECT reference FROM jarai.requests WHERE stage = 'planned' AND worker IS NULL AND NOT is_settled
    AND NOT EXISTS (
        SELECT FROM jarai.procrastinate_jobs AS job LEFT JOIN jarai.procrastinate_workers AS worker
            ON worker.id = job.worker_id
            WHERE job.queue_name = %s AND job.args ->> 'reference' = requests.reference
            AND (job.status = 'todo' OR job.status = 'doing' AND last_heartbeat > now() - interval '1 minute')
    ) ORDER BY requests.id
"""


class JobQueue:
    """The requests that wait for a worker. `take` is called with each reference, one at a time."""

    def __init__(self, database: Database, take: Callable[[str], Awaitable[None]] | None = None) -> None:
        self._database = database
        self._app = procrastinate.App(connector=procrastinate.PsycopgConnector())
        self._take = take
        self._task = self._app.task(name=_TASK, queue=QUEUE)(self._submit)

    async def open(self) -> None:
        """Use the connections of the database, and create procrastinate's tables unless they exist.

        Raises as `Database.read`.
        """
        await self._app.open_async(self._database.pool)

        async def create(connection: Connection) -> None:
            await connection.execute(_LOCK)
            [(exists,)] = await rows(connection, _EXISTS)
            if not exists:
                await self._app.schema_manager.apply_schema_async()

        await self._database.transaction(create)

    async def put(self, references: Collection[str], connection: Connection) -> None:
        """Add requests, in the transaction of a connection."""
        if references:
            jobs: list[JSONDict] = [{"reference": reference} for reference in references]
            await self._task.configure(connection=connection).batch_defer_async(*jobs)

    async def put_lost(self, connection: Connection) -> None:
        """Add those that wait for a worker and are not in the queue.

        A crash of the database while procrastinate records the end of a job can lose it.
        """
        await connection.execute(_DROP_ABANDONED.encode(), (QUEUE,))
        lost = await rows(connection, _LOST, (QUEUE,))
        await self.put([reference for (reference,) in lost], connection)

    async def run(self, name: str) -> None:
        """Take requests until cancelled, whatever becomes of the database."""
        while True:
            try:
                await self._app.run_worker_async(
                    queues=[QUEUE],
                    name=name,
                    concurrency=1,
                    install_signal_handlers=False,
                    delete_jobs="always",
                    shutdown_graceful_timeout=0,
                )
            except ProcrastinateException as error:
                _log.debug("procrastinate's worker ended: %s", error)
                task = asyncio.current_task()
                if task is not None and task.cancelling():  # the error has replaced the cancellation
                    raise asyncio.CancelledError from None
            await asyncio.sleep(_PAUSE)

    async def _submit(self, reference: str) -> None:
        if self._take is not None:
            await self._take(reference)
