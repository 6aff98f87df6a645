"""When one production is expected to end: after the slots, the daily quotas and the outages before it."""

import math
from datetime import datetime, timedelta
from functools import partial

from jarai_async import _clock
from jarai_async._engine import Engine
from jarai_async._forecast.forecast import (
    InFlightProduction,
    mean_duration,
    mean_hold,
    mean_time_to_finish,
)
from jarai_async._forecast.quotas import affordable_productions, day_of, seconds_until
from jarai_async._orchestrator.state import JobState
from jarai_async._waiting import Waiting, WaitReason


def expected_finish(
    state: JobState, under_way: InFlightProduction | None, place: int, waiting: Waiting | None
) -> datetime:
    """Return when a production is expected to end (UTC), as a mean.

    `under_way` is where it stands, `place` that of its submit, and `waiting` what it waits for. It may end at
    JARAI while polls wait, but that is not seen before.
    """
    sojourns, seconds = state.context.engine.poller.sojourns, _seconds_of(waiting)
    if under_way is None:
        whole = mean_duration(sojourns, state.request.project_type)
        seconds = whole + max(
            seconds,
            _seconds_to_slot(state),
            _seconds_to_quota(state, place, whole),
            seconds_of_outage(state.context.engine, state.request.account_id),
        )
    else:
        seconds = max(seconds, mean_time_to_finish(sojourns, under_way))
    return _clock.utc() + timedelta(seconds=seconds)


def daily_capacity(engine: Engine, mean_duration: float, max_interval: float) -> tuple[float, float]:
    """Return how many productions the quota of requests is enough for: today, and on a new day."""
    limiter = engine.limiter
    left = limiter.left_today(_clock.wall())
    left = left if math.isinf(left) else max(0, int(left))
    enough = partial(affordable_productions, mean_duration=mean_duration, max_interval=max_interval)
    return enough(left), max(1.0, enough(limiter.per_day))


def seconds_of_outage(engine: Engine, account_id: str) -> float:
    """Return for how long submits of an account are still expected to wait for the end of an outage."""
    return _seconds_of(engine.sender.waits.for_outage(account_id))


def _seconds_of(waiting: Waiting | None) -> float:
    """Return how long a wait is still expected to last; 0 where that is not known."""
    if waiting is None:
        return 0.0
    if waiting.reason is WaitReason.OUTAGE and waiting.since is not None:
        # With nothing else known, the median of what is left of an outage is as long as it has lasted.
        return (_clock.utc() - waiting.since).total_seconds()
    return 0.0 if waiting.until is None else (waiting.until - _clock.utc()).total_seconds()


def _seconds_to_slot(state: JobState) -> float:
    """Return when a request that waits for a slot gets one, if slots become free evenly."""
    if state.slot.place is None:
        return 0.0
    sojourns, project_type = state.context.engine.poller.sojourns, state.request.project_type
    return mean_hold(sojourns, project_type) * (state.slot.ahead + 1) / state.context.slots.count


def _seconds_to_quota(state: JobState, place: int, mean_duration: float) -> float:
    """Return when the daily quotas let a request be submitted, after those that were made before it."""
    engine, account_id = state.context.engine, state.request.account_id
    queues = engine.sender.account_queues
    of_account, of_all = queues.ahead_of(account_id, place)
    today, per_day = daily_capacity(engine, mean_duration, state.context.polling.max_interval)
    day = max(
        day_of(of_account, queues.left_today(account_id), engine.limiter.productions_per_day),
        day_of(of_all, today, per_day),
    )
    return seconds_until(day, _clock.wall())
