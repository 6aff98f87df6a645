"""One production that somebody waits for, and what its change is told by."""

import asyncio
import math
from datetime import datetime

from attrs import define, field, frozen

from jarai_async import _clock
from jarai_async._api.models import Polling, Production, Status
from jarai_async._api.webhook_models import WebhookEvent
from jarai_async._polling.webhook_coverage import WebhookCoverage
from jarai_async._ratelimit.meter import Meter


@frozen
class Change:
    """A new status, in place of `previous`: it came after `after` (wall clock, UTC), and is seen now."""

    previous: Status
    production: Production
    after: datetime


@define(eq=False)
class Watch:
    """One production that somebody waits for. `since`, `polled` and `seen` are monotonic seconds.

    `seen` is when it was last known to have its status: unlike `polled`, no failed poll moves it. `asked` is
    when the poll left whose answer was last taken in.
    `age_known` is False until the first change of one that was not watched from its beginning: such a
    stay teaches nothing.

    `reliability` is that of the webhooks of its account, if there are any, and `news` what one of them said.
    `is_urgent` where it is to be asked at once.
    """

    production: Production
    polling: Polling
    since: float
    polled: float
    seen: float
    seen_at: datetime
    meter: Meter
    age_known: bool = True
    reliability: WebhookCoverage | None = field(default=None, repr=False)
    news: WebhookEvent | None = field(default=None, repr=False)
    is_urgent: bool = False
    asked: float = -math.inf
    failures: int = 0
    missing: int = 0
    missing_since: float = math.inf
    queued: int = 0
    change: asyncio.Future[Change] | None = field(default=None, repr=False)

    def resume(self, seen_at: datetime) -> None:
        """Go on with what an earlier process knew: it had its status at that moment (UTC).

        What passed since teaches nothing: the earlier process counted some of it.
        """
        passed = max(0.0, (_clock.utc() - seen_at).total_seconds())  # the clock may have been set back
        self.since = self.polled = self.seen = _clock.monotonic() - passed
        self.seen_at, self.age_known = seen_at, False

    @property
    def status(self) -> Status:
        """What its polls are chosen by."""
        return self.production.status

    @property
    def project_type(self) -> str | None:
        """What else they are chosen by."""
        return self.production.project_type

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for a change that has not come."""
        return self.change is not None and not self.change.done()

    def miss_probability(self, now: float) -> float:
        """Give the chance that no webhook tells of what comes next."""
        if self.reliability is None or self.polled < self.reliability.relied_on_since:
            return 1.0
        return self.reliability.untold(self.status, now)
