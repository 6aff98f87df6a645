"""Which workers live, and what becomes of the requests of a dead one.

A worker renews its lease several times. One that was killed, cut off or paused for longer is dead: a live one
removes it, the requests that it had not submitted go back to the queue, and the live workers share the
others, each of which has a production to watch, or may have one.
"""

import json
import math
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from attrs import frozen

from jarai_async._postgres.database import Connection, Database, rows
from jarai_async._postgres.job_queue import JobQueue
from jarai_async._postgres.writer import ORPHANS

_RENEW = """
INSERT INTO jarai.workers (id, name, started_at, seen_at, lease, demand, statistics)
    VALUES (%(id)s, %(name)s, jarai.now(), jarai.now(), %(lease)s, %(demand)s, %(statistics)s)
    ON CONFLICT (id) DO UPDATE SET seen_at = jarai.now(), demand = excluded.demand,
    statistics = excluded.statistics
"""
_TRY_LOCK = "SELECT pg_try_advisory_xact_lock(hashtext('jarai sweep'))"
_REMOVE_DEAD = "DELETE FROM jarai.workers WHERE NOT jarai.lives(id) RETURNING id"
_FREE = "UPDATE jarai.requests SET worker = NULL WHERE worker = ANY(%s) RETURNING reference, stage"
_DEMANDS = "SELECT id, demand FROM jarai.workers WHERE jarai.lives(id)"
_ORPHANS = """
SELECT count(*) FROM jarai.requests WHERE worker IS NULL AND NOT is_settled
    AND stage IN ('sending', 'in doubt', 'accepted')
"""
_DECIDED = """
SELECT DISTINCT reference FROM jarai.commands JOIN jarai.requests ON requests.id = commands.request
    WHERE done_at IS NULL AND (worker IS NULL OR worker = %s)
"""
_OWNED = "SELECT reference FROM jarai.requests WHERE worker = %s"


@frozen
class Renewal:
    """What a worker learns when it renews its lease.

    - `share`: its part of the polls, by the demands of all live workers.
    - `orphans`: how many requests of dead workers it should claim: its part of them.
    - `decided`: the requests about which a user has decided something, and that no other worker owns.
    - `owned`: the requests that it owns.
    """

    share: float
    orphans: int
    decided: list[str]
    owned: set[str]


class Workers:
    """The row of one worker among all. `lease` is in seconds."""

    def __init__(self, database: Database, jobs: JobQueue, worker: UUID, name: str, lease: float) -> None:
        self._database = database
        self._jobs = jobs
        self._worker = worker
        self._values = {"id": worker, "name": name, "lease": lease}

    async def renew(self, demand: float, statistics: Mapping[str, Any], *, look_for_lost: bool) -> Renewal:
        """Renew the lease, and put the requests of dead workers where live ones find them.

        Raises as `Database.transaction`.
        """
        values = self._values | {"demand": demand, "statistics": json.dumps(statistics)}

        async def renew(connection: Connection) -> Renewal:
            await connection.execute(_RENEW.encode(), values)
            if (await rows(connection, _TRY_LOCK))[0][0]:
                await self._sweep(connection, look_for_lost=look_for_lost)
            # Its own lease may have ended while this transaction waited.
            demands = dict(await rows(connection, _DEMANDS)) | {self._worker: demand}
            [(orphans,)] = await rows(connection, _ORPHANS)
            total = sum(demands.values())
            return Renewal(
                share=demands[self._worker] / total if total else 1 / len(demands),
                orphans=math.ceil(orphans / len(demands)),
                decided=[row[0] for row in await rows(connection, _DECIDED, (self._worker,))],
                owned={row[0] for row in await rows(connection, _OWNED, (self._worker,))},
            )

        return await self._database.transaction(renew)

    async def leave(self) -> None:
        """Give all requests to the other workers, at once. Raises as `Database.transaction`."""

        async def leave(connection: Connection) -> None:
            await connection.execute("DELETE FROM jarai.workers WHERE id = %s", (self._worker,))
            await self._free(connection, [self._worker])
            await self._jobs.put_lost(connection)  # that of the job which waits for a slot

        await self._database.transaction(leave)

    async def _sweep(self, connection: Connection, *, look_for_lost: bool) -> None:
        dead = [row[0] for row in await rows(connection, _REMOVE_DEAD)]
        if dead:
            await self._free(connection, dead)
        if look_for_lost:
            await self._jobs.put_lost(connection)

    async def _free(self, connection: Connection, workers: list[UUID]) -> None:
        freed = await rows(connection, _FREE, (workers,))
        await self._jobs.put([reference for reference, stage in freed if stage == "planned"], connection)
        if any(stage != "planned" for _, stage in freed):
            await connection.execute("SELECT pg_notify(%s, '')", (ORPHANS,))
