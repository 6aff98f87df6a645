"""The statistics of all workers together."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from jarai_async._orchestrator.statistics import Statistics
from jarai_async._postgres.database import Database

_COUNTS: Final = """
SELECT count(*) FILTER (WHERE NOT has_outcome AND production_id IS NULL),
    count(*) FILTER (WHERE NOT has_outcome AND status <> 'AwaitingApproval'),
    count(*) FILTER (WHERE NOT has_outcome AND status = 'AwaitingApproval'),
    count(*) FILTER (WHERE has_outcome)
    FROM (SELECT *, stage = 'ended' OR is_settled AS has_outcome FROM jarai.requests) AS requests
"""
_WORKERS: Final = "SELECT statistics FROM jarai.workers WHERE jarai.lives(id) ORDER BY seen_at DESC"


async def read_statistics(database: Database) -> Statistics:
    """Return the figures of all live workers and all requests. Raises as `Database.read`."""
    workers = [row[0] for row in await database.read(_WORKERS) if row[0]]
    waiting, in_flight, parked, finished = (await database.read(_COUNTS))[0]
    requests = Counter[str]()
    for worker in workers:
        requests.update(worker["requests"])
    newest: Mapping[str, Any] = workers[0] if workers else {}  # all see the same rate limit
    finishes = [datetime.fromisoformat(one) for one in _known(workers, "expectedFinish")]
    return Statistics(
        requests=requests,
        rate_limited=sum(worker["rateLimited"] for worker in workers),
        per_minute=newest.get("perMinute", 0),
        free_now=newest.get("freeNow", 0),
        left_today=newest.get("leftToday"),
        waiting=waiting,
        in_flight=in_flight,
        parked=parked,
        finished=finished,
        lag=_mean(_known(workers, "lag")),
        webhook_coverage=_mean(_known(workers, "webhookCoverage")),
        expected_finish=max(finishes, default=None),
    )


def _known(workers: Iterable[Mapping[str, Any]], name: str) -> list[Any]:
    return [value for worker in workers if (value := worker.get(name)) is not None]


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
