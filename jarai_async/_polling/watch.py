"""A production whose changes a caller waits for."""

import asyncio
import math
from contextvars import Context
from datetime import datetime

from attrs import define, frozen

from jarai_async import _clock
from jarai_async._api.models import Polling, Production, Status
from jarai_async._api.webhook_models import WebhookEvent
from jarai_async._errors import JaraiError
from jarai_async._http.request_log import RequestLog
from jarai_async._polling.outlook import Outlook
from jarai_async._polling.steps import Progress
from jarai_async._polling.webhook_coverage import WebhookCoverage


@frozen
class Change:
    """A new status in place of `previous`: it began after `after` (UTC), and was seen now."""

    previous: Status
    production: Production
    after: datetime


@define(eq=False, repr=False)
class Watch:
    """A production whose changes a caller waits for. Times are monotonic seconds.

    - `since`: when it entered its status, as far as known; `polled`: when it was last polled.
    - `seen`: when it was last known to have its status. A failed poll moves `polled`, but not `seen`.
    - `seen_at`: the same in UTC. `seen_request_at`: when the request was sent whose response was last used.
    - `age_known`: False until the first change, if the beginning of its status was not observed: such a stay
      teaches nothing.
    - `coverage`: how reliable the webhooks of its account are, if there are any.
    - `pending_event`: an event whose change no poll has seen yet. `is_urgent`: poll immediately.
    - `retry_after`: how long to wait (seconds) according to the last poll, if that failed.
    - `failures`: failed polls in a row, the latest because of `failure`. The last `refusals` of them, since
      `refused_since`, were refused: a repetition of the request would not help.
    - `overdue_at`: when its status is reported, once, as one that lasts too long.
    - `progress`: its step, where one is reported. `forecast`: the time left by its steps.
    - `queued`: its entry in the poll queue; 0 if it is not in the queue.
    - `change`: what the caller waits for. `context`: that caller's, for tracing and logging its polls.
    """

    production: Production
    polling: Polling
    since: float
    polled: float
    seen: float
    seen_at: datetime
    log: RequestLog
    age_known: bool = True
    coverage: WebhookCoverage | None = None
    pending_event: WebhookEvent | None = None
    is_urgent: bool = False
    seen_request_at: float = -math.inf
    failures: int = 0
    failure: JaraiError | None = None
    retry_after: float = 0.0
    refusals: int = 0
    refused_since: float = math.inf
    overdue_at: float = math.inf
    progress: Progress | None = None
    forecast: Outlook | None = None
    queued: int = 0
    change: asyncio.Future[Change] | None = None
    context: Context | None = None

    def resume(self, seen_at: datetime) -> None:
        """Continue from what an earlier process knew: it had its status at that time (UTC).

        The time since then teaches nothing, because the earlier process counted some of it.
        """
        passed = max(0.0, (_clock.utc() - seen_at).total_seconds())  # the clock may have been set back
        self.since = self.polled = self.seen = _clock.monotonic() - passed
        self.seen_at, self.age_known = seen_at, False

    @property
    def status(self) -> Status:
        """Its last known status."""
        return self.production.status

    @property
    def project_type(self) -> str | None:
        """Its project type."""
        return self.production.project_type

    @property
    def outlook(self) -> Outlook | None:
        """The time left in its status by its steps, if they are known and trusted."""
        return self.forecast if self.forecast is not None and self.forecast.evidence.is_enough else None

    @property
    def is_awaited(self) -> bool:
        """Whether a caller waits for a change that has not been seen."""
        return self.change is not None and not self.change.done()

    def miss_probability(self, now: float) -> float:
        """Return the probability that no webhook announces its next change."""
        if self.coverage is None or self.polled < self.coverage.trusted_since:
            return 1.0
        return self.coverage.miss_probability(self.status, now)
