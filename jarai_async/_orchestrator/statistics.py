"""The figures of an orchestrator, and when all of its requests are expected to be finished.

Nothing is counted here: each figure is read from the object that keeps it anyway.
"""

import logging
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from attrs import frozen

from jarai_async import _clock
from jarai_async._api.calls import Kind
from jarai_async._api.models import Polling, ProductionRequest, Status
from jarai_async._engine import Engine
from jarai_async._forecast.forecast import (
    InFlightProduction,
    PendingProduction,
    mean_duration,
    median_time_to_finish,
)
from jarai_async._forecast.quotas import Quotas, describe_quotas, seconds_until
from jarai_async._orchestrator.finish import daily_capacity, seconds_of_outage
from jarai_async._orchestrator.jobs import Jobs
from jarai_async._orchestrator.run import Batch
from jarai_async._orchestrator.webhook_router import WebhookRouter

_log = logging.getLogger("jarai_async")

_SIMULATED = 500  # of the requests to submit, the last ones


@frozen(kw_only=True)
class Statistics:
    """An orchestrator and its client at one moment; as text, one line.

    - `requests`: requests to the API so far by all users of the client, by kind: submit, poll, read (your own
      calls), deliverables, cancel. `rate_limited` of them got a 429.
    - `per_minute`: the rate limit as far as known, `free_now` of it; `left_today`: None without a daily
      limit.
    - Each of your requests is one of `waiting` (not accepted yet; those that a `run` has still to draw count
      if it was given a list or another collection), `in_flight`, `parked` (waiting for approval) and
      `finished`.
    - `lag`: mean seconds from a change to its observation, estimated from the polls before and after it;
      None before the first change.
    - `webhook_coverage`: the share of ends that webhooks are expected to announce: 0 if none arrives; None
      without a receiver, or before the first production.
    - `expected_finish`: when everything known is expected to be finished (UTC), as a median.
      None if nothing is in progress.
    """

    requests: Mapping[str, int]
    rate_limited: int
    per_minute: int
    free_now: int
    left_today: int | None
    waiting: int
    in_flight: int
    parked: int
    finished: int
    lag: float | None
    webhook_coverage: float | None
    expected_finish: datetime | None

    def __str__(self) -> str:
        day = "" if self.left_today is None else f", {self.left_today} left today"
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.requests.items() if count)
        lag = "none seen yet" if self.lag is None else f"seen {self.lag:.1f} s late"
        coverage = self.webhook_coverage
        webhooks = "" if coverage is None else f", webhooks announce {coverage:.0%} of ends"
        end = f"{self.expected_finish:%Y-%m-%d %H:%M} UTC" if self.expected_finish else "nothing in progress"
        return (
            f"{self.waiting} waiting, {self.in_flight} in flight, {self.parked} parked, "
            f"{self.finished} finished; expected finish: {end}; changes: {lag}{webhooks}; "
            f"rate limit: {self.free_now} of {self.per_minute} a minute free{day}; "
            f"sent: {kinds or 'nothing'}; 429s: {self.rate_limited}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values, under the names of the attributes in camelCase.

        Numbers have the units of the attributes. `expectedFinish` is a text, ISO 8601 in UTC. `requests` is
        an object with the keys `submit`, `poll`, `read`, `deliverables` and `cancel`. `leftToday`, `lag`,
        `webhookCoverage` and `expectedFinish` are null where the attribute is None.
        """
        finish = self.expected_finish
        return {
            "requests": dict(self.requests),
            "rateLimited": self.rate_limited,
            "perMinute": self.per_minute,
            "freeNow": self.free_now,
            "leftToday": self.left_today,
            "waiting": self.waiting,
            "inFlight": self.in_flight,
            "parked": self.parked,
            "finished": self.finished,
            "lag": self.lag,
            "webhookCoverage": self.webhook_coverage,
            "expectedFinish": None if finish is None else finish.isoformat(),
        }


class Monitor:
    """Looks at all jobs that one orchestrator has started, and at the requests that it has still to draw."""

    def __init__(
        self,
        engine: Engine,
        jobs: Jobs,
        batches: Collection[Batch],
        *,
        polling: Polling,
        concurrency: int,
        router: WebhookRouter,
    ) -> None:
        self._engine = engine
        self._jobs = jobs
        self._batches = batches
        self._polling = polling
        self._concurrency = concurrency
        self._router = router

    def statistics(self, finished: int) -> Statistics:
        """Return all figures; `finished` is how many jobs have ended."""
        engine = self._engine
        under_way, to_submit = self._under_way(), self._to_submit()
        parked = sum(one.status == Status.AWAITING_APPROVAL for one in under_way)
        left_today = engine.limiter.left_today(_clock.wall())
        return Statistics(
            requests={kind.name.lower(): engine.sender.sent[kind] for kind in Kind},
            rate_limited=engine.sender.rate_limited,
            per_minute=engine.limiter.limit,
            free_now=engine.limiter.free_slots(_clock.monotonic()),
            left_today=None if math.isinf(left_today) else max(0, int(left_today)),
            waiting=len(to_submit),
            in_flight=len(under_way) - parked,
            parked=parked,
            finished=finished,
            lag=engine.poller.observer.lag,
            webhook_coverage=self._router.mean_coverage,
            expected_finish=self._expected_finish(under_way, to_submit),
        )

    def _expected_finish(
        self, under_way: Sequence[InFlightProduction], to_submit: Sequence[ProductionRequest]
    ) -> datetime | None:
        """Return when the last production is expected to end; takes some ten milliseconds."""
        if not under_way and not to_submit:
            return None
        wall, days = _clock.wall(), self._days(to_submit)
        first = 0 if any(days) else max(0, len(to_submit) - _SIMULATED)
        to_come = [
            PendingProduction(
                request.project_type,
                max(seconds_until(day, wall), seconds_of_outage(self._engine, request.account_id)),
            )
            for request, day in zip(to_submit[first:], days[first:], strict=True)
        ]
        before = Counter([request.project_type for request in to_submit[:first]])
        poller, lag = self._engine.poller, self._engine.poller.observer.lag or 0.0
        seconds = median_time_to_finish(
            poller.sojourns, under_way, to_come, concurrency=self._concurrency, lag=lag, before=before
        )
        return _clock.utc() + timedelta(seconds=seconds)

    async def warn_if_over_quota(self, batch: Batch) -> None:
        """Once the tier is known, log whether today's quotas are too small for what is to be submitted."""
        await batch.is_planned.wait()
        await self._engine.scheduler.limit_known.wait()
        states = [job.state for job in self._jobs if job.state.reference not in batch.submitted]
        to_submit = [state.request for state in states if state.production is None]
        to_submit += batch.not_submitted
        later = sum(day > 0 for day in self._days(to_submit))
        if later:
            limiter = self._engine.limiter
            _log.warning(
                "today's quotas are not enough (%s): %d of the %d productions still to be submitted wait for "
                "another day (UTC), and the last is expected to be finished about %s",
                describe_quotas(limiter.productions_per_day, limiter.per_day),
                later,
                len(to_submit),
                f"{self._expected_finish(self._under_way(), to_submit):%Y-%m-%d %H:%M} UTC",
            )

    def _under_way(self) -> list[InFlightProduction]:
        return [one for job in self._jobs if (one := job.under_way) is not None]

    def _to_submit(self) -> list[ProductionRequest]:
        to_submit = [job.state.request for job in self._jobs if job.state.production is None]
        for batch in self._batches:
            to_submit += batch.not_drawn
        return to_submit

    def _days(self, requests: Collection[ProductionRequest]) -> list[int]:
        """Return the day on which each request can be submitted, 0 for today."""
        limiter = self._engine.limiter
        per_account, per_day = limiter.productions_per_day, limiter.per_day
        if math.isinf(per_account) and math.isinf(per_day):
            return [0] * len(requests)
        whole = self._mean_duration([request.project_type for request in requests])
        today, total = daily_capacity(self._engine, whole, self._polling.max_interval)
        quotas = Quotas(
            per_account=per_account,
            total=total,
            account_today=self._engine.sender.account_queues.left_today,
            total_today=today,
        )
        return quotas.assign_days([request.account_id for request in requests])

    def _mean_duration(self, project_types: Iterable[str | None]) -> float:
        """Return the mean seconds from submit to end of productions of these types."""
        counts = Counter(project_types)
        sojourns = self._engine.poller.sojourns
        durations = {kind: mean_duration(sojourns, kind) for kind in counts}
        return sum(durations[kind] * count for kind, count in counts.items()) / max(counts.total(), 1)
