"""What an orchestrator knows of itself: its figures, when it will have finished, whether the day is enough.

Nothing is counted here: each figure is asked of the room where it is a fact anyway.
"""

import logging
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial

from attrs import frozen

from jarai_async import _clock
from jarai_async._api.calls import Kind
from jarai_async._api.models import Polling, ProductionRequest, Status
from jarai_async._client import JaraiClient
from jarai_async._forecast.forecast import (
    InFlightProduction,
    PendingProduction,
    mean_time_to_finish,
    median_time_to_finish,
)
from jarai_async._forecast.quotas import Quotas, affordable_productions, describe_quotas, seconds_until
from jarai_async._orchestrator.job import Job
from jarai_async._orchestrator.run import Batch
from jarai_async._orchestrator.webhook_router import WebhookRouter

_log = logging.getLogger("jarai_async")


@frozen(kw_only=True)
class Statistics:
    """An orchestrator and its client at one moment; as text, one line.

    - `requests`: sent to the API so far by all that use the client, by kind: submit, poll, read (what you
      asked for yourself), deliverables, cancel. `rate_limited` of them were answered with a 429.
    - `per_minute`: the budget as far as known, `free_now` of it; `left_today`: None where a day has no limit.
    - Each of your requests for a production is one of `waiting` (not accepted yet; what a `run` has still to
      draw is counted where it was given a list or the like), `in_flight`, `parked` (waiting for approval) and
      `finished`.
    - `lag`: seconds by which changes were seen late on average, estimated from the polls before and after
      each; None before the first.
    - `told`: the share of ends that webhooks are relied on to tell of, as they have proved lately: 0 where
      none comes, None without a receiver or before the first production.
    - `expected_finish`: when all that is known of will have ended (UTC), as likely to be later as sooner.
      None where nothing is under way.
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
    told: float | None
    expected_finish: datetime | None

    def __str__(self) -> str:
        day = "" if self.left_today is None else f", {self.left_today} left today"
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.requests.items() if count)
        late = "none seen yet" if self.lag is None else f"seen {self.lag:.1f} s late"
        end = f"{self.expected_finish:%Y-%m-%d %H:%M} UTC" if self.expected_finish else "nothing under way"
        told = "" if self.told is None else f", {self.told:.0%} of ends told by webhooks"
        return (
            f"{self.waiting} waiting, {self.in_flight} in flight, {self.parked} parked, "
            f"{self.finished} finished; expected finish: {end}; changes: {late}{told}; "
            f"budget: {self.free_now} of {self.per_minute} a minute free{day}; "
            f"sent: {kinds or 'nothing'}; 429s: {self.rate_limited}"
        )


class Outlook:
    """Looks at all that one orchestrator has begun, and at what its batches have still to draw."""

    def __init__(  # noqa: PLR0917  # one place makes it
        self,
        client: JaraiClient,
        polling: Polling,
        concurrency: int,
        jobs: Collection[Job],
        batches: Collection[Batch],
        hints: WebhookRouter,
    ) -> None:
        self._budget = client._budget
        self._scheduler = client._scheduler
        self._sender = client._sender
        self._poller = client._poller
        self._polling = polling
        self._concurrency = concurrency
        self._jobs = jobs
        self._batches = batches
        self._hints = hints

    def statistics(self, finished: int) -> Statistics:
        """Give all figures; `finished` is how many productions have ended."""
        under_way = self._under_way()
        parked = sum(one.status == Status.AWAITING_APPROVAL for one in under_way)
        return Statistics(
            requests={kind.name.lower(): self._sender.sent[kind] for kind in Kind},
            rate_limited=self._sender.refused,
            per_minute=self._budget.limit,
            free_now=self._budget.free(_clock.monotonic()),
            left_today=self._budget.left_today(_clock.wall()),
            waiting=len(self._to_submit()),
            in_flight=len(under_way) - parked,
            parked=parked,
            finished=finished,
            lag=self._poller.lag,
            told=self._hints.told,
            expected_finish=self.expected_finish(),
        )

    def expected_finish(self) -> datetime | None:
        """Give when the last of all will have ended; some ten milliseconds for 300."""
        under_way, to_submit = self._under_way(), self._to_submit()
        if not under_way and not to_submit:
            return None
        wall = _clock.wall()
        to_come = [
            PendingProduction(request.project_type, seconds_until(day, wall))
            for request, day in zip(to_submit, self._days(to_submit), strict=True)
        ]
        lag = self._poller.lag or 0.0
        seconds = median_time_to_finish(
            self._poller.sojourns, under_way, to_come, concurrency=self._concurrency, lag=lag
        )
        return _clock.utc() + timedelta(seconds=seconds)

    async def foretell(self) -> None:
        """Say, as soon as the tier is known, where today's quotas are not enough for what is to come."""
        await self._scheduler.limit_known.wait()
        to_submit = self._to_submit()
        later = sum(day > 0 for day in self._days(to_submit))
        if later:
            _log.warning(
                "today's quotas are not enough (%s): %d of the %d productions still to be submitted wait for "
                "another day (UTC), and the last is expected to be finished about %s",
                describe_quotas(self._budget.productions_per_day, self._budget.per_day),
                later,
                len(to_submit),
                f"{self.expected_finish():%Y-%m-%d %H:%M} UTC",
            )

    def _under_way(self) -> list[InFlightProduction]:
        return [one for job in self._jobs if (one := job.under_way) is not None]

    def _to_submit(self) -> list[ProductionRequest]:
        begun = [job.request for job in self._jobs if job.production is None]
        return [*begun, *(request for batch in self._batches for request in batch.to_draw)]

    def _days(self, requests: Collection[ProductionRequest]) -> list[int]:
        """Give the day on which each can be submitted."""
        per_account, per_day = self._budget.productions_per_day, self._budget.per_day
        if math.isinf(per_account) and math.isinf(per_day):
            return [0] * len(requests)
        left = self._budget.left_today(_clock.wall())
        whole = self._whole(request.project_type for request in requests)
        enough = partial(affordable_productions, mean_duration=whole, max_interval=self._polling.max_interval)
        quotas = Quotas(
            per_account=per_account,
            total=max(1.0, enough(per_day)),
            account_today=self._sender.account_queues.left_today,
            total_today=math.inf if left is None else enough(left),
        )
        return quotas.assign_days(request.account_id for request in requests)

    def _whole(self, project_types: Iterable[str | None]) -> float:
        """Seconds that a production of these takes on average."""
        kinds = Counter(project_types)
        wholes = {
            kind: mean_time_to_finish(self._poller.sojourns, kind, Status.QUEUED, 0.0) for kind in kinds
        }
        return sum(wholes[kind] * count for kind, count in kinds.items()) / max(kinds.total(), 1)
