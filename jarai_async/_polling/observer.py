"""Decides whether a snapshot shows a change and between which times, and learns from it. Pure."""

import logging
import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from attrs import evolve

from jarai_async._api.models import Production, Status
from jarai_async._api.webhook_models import StepCompleted, WebhookEvent
from jarai_async._polling.event_meaning import classify
from jarai_async._polling.sojourn import Sojourns
from jarai_async._polling.steps import Steps
from jarai_async._polling.watch import Change, Watch

_log = logging.getLogger("jarai_async")

_OVERDUE = 10.0  # times the expected stay in a status
_NOT_OVERDUE_BEFORE = 3_600.0  # seconds in a status
_APPROVAL_NOT_OVERDUE_BEFORE = 86_400.0  # a person may need hours or days (documented)
_KEPT = ("id", "account_id", "project_type", "topic", "created_at", "expires_at")
_CLOCK_TOLERANCE = 1.0  # seconds by which the time of an event may be wrong


class Observer:
    """Compares snapshots with what their watches knew, and learns from the changes.

    `server_time` returns Unix time by the server's clock. `sojourns` holds what was learned about the time in
    each status, and `steps` what was learned about the steps of `Producing`.
    """

    def __init__(self, sojourns: Sojourns, server_time: Callable[[], float]) -> None:
        self.sojourns: Sojourns = sojourns
        self.steps: Steps = Steps(sojourns)
        self._server_time = server_time
        self._changes = 0
        self._total_lag = 0.0  # seconds

    @property
    def lag(self) -> float | None:
        """Seconds from a change to its observation, on average, assuming each in the middle of two polls."""
        return self._total_lag / self._changes if self._changes else None

    def export_state(self) -> dict[str, Any]:
        """Return what was learned in a form that JSON can hold, for `restore_state`."""
        return self.sojourns.export_state() | {"steps": self.steps.export_state()}

    def restore_state(self, state: Mapping[str, Any]) -> None:
        """Use what was exported, also before steps were learned. Raises ValueError."""
        self.sojourns.use(state)
        self.steps.restore_state(state.get("steps", []))

    def observe(self, watch: Watch, production: Production, sent_at: datetime, now: float) -> None:
        """Use a snapshot of the production, read by a request that was sent at `sent_at` (UTC)."""
        if not watch.is_awaited:
            return
        has_changed = production.status != watch.status
        if watch.status == Status.PRODUCING:
            self._test_steps(watch, production.status, now)
        if has_changed:
            self._observe_change(watch, production, now)
        else:
            self._learn(watch, production.status, now, now)
        watch.production = _sharing_texts(production, watch.production)
        watch.polled = watch.seen = now
        watch.seen_at = sent_at  # the snapshot describes that time or a later one
        if watch.status == Status.PRODUCING:
            self._follow(watch, production.current_step, watch.since, now)
        watch.failures, watch.retry_after, watch.refusals, watch.refused_since = 0, 0.0, 0, math.inf
        watch.failure = None
        if has_changed:
            self.expect_change(watch)
        elif now >= watch.overdue_at:
            watch.overdue_at = math.inf
            since = sent_at - timedelta(seconds=now - watch.since)
            message = "%s has been %s since %s UTC, much longer than usual; it is polled as before"
            _log.warning(message, production.id, production.status, f"{since:%Y-%m-%d %H:%M:%S}")

    def expect_change(self, watch: Watch) -> None:
        """Set when the status of a production is overdue, by what is known before it began.

        Afterwards the stay itself would raise what is expected.
        """
        expected = self.sojourns.mean_remaining(watch.project_type, watch.status, 0.0)
        is_approval = watch.status == Status.AWAITING_APPROVAL
        least = _APPROVAL_NOT_OVERDUE_BEFORE if is_approval else _NOT_OVERDUE_BEFORE
        watch.overdue_at = watch.since + max(_OVERDUE * expected, least)

    def _observe_change(self, watch: Watch, production: Production, now: float) -> None:
        left, entered = watch.status, production.status
        earliest, latest = self._changed_between(watch, now)
        self._learn(watch, entered, earliest, latest)
        event = watch.pending_event
        if watch.coverage is not None and watch.seen >= watch.coverage.trusted_since:
            announced = event is not None and classify(event, left).announces_change
            watch.coverage.changed(production.id, left, entered, now, announced=announced)
        since = (earliest + latest) / 2
        if (outlook := watch.outlook) is not None and event is None:  # the poll came when it was expected
            since = max(earliest, now - outlook.mean_delay(self.sojourns, watch.project_type, now))
        if watch.progress is not None and entered not in (Status.FAILED, Status.CANCELLED):
            self.steps.left(watch.project_type, watch.progress, earliest, latest)
        watch.progress = watch.forecast = None
        if entered != Status.CANCELLED:  # a cancel of ours is seen at once
            self._changes += 1
            self._total_lag += now - since
        watch.since = since
        watch.age_known = True
        watch.is_urgent = event is not None and classify(event, entered).status_ended
        watch.pending_event = event if watch.is_urgent else None
        if watch.change is not None:
            # The time of an event is good enough to learn from, but not to report: it is from another clock.
            watch.change.set_result(Change(left, production, watch.seen_at))

    def confirm(self, watch: Watch, event: WebhookEvent, now: float) -> None:
        """Use an event of a production that still had its status then, perhaps the end of a step."""
        time = self.time_of(event, now)
        if time <= watch.polled:
            return
        watch.polled = time
        step = event.step if isinstance(event, StepCompleted) else None
        if step is not None and (watch.progress is None or step >= watch.progress.step):
            self._follow(watch, step + 1, max(watch.since, time - _CLOCK_TOLERANCE), time)

    def _follow(self, watch: Watch, step: int | None, earliest: float, latest: float) -> None:
        """Use a step that began between two times, and compute what is left of the status."""
        watch.progress = self.steps.observe(
            watch.project_type, watch.progress, step, earliest, latest, age_known=watch.age_known
        )
        if watch.progress is not None:
            watch.forecast = self.steps.outlook(watch.project_type, watch.progress, latest)

    def _test_steps(self, watch: Watch, status: Status, now: float) -> None:
        """Compare a poll's result with what the steps and what the age alone made probable."""
        self.steps.count(watch.project_type, now - watch.seen, failed=status == Status.FAILED)
        if watch.forecast is None or watch.pending_event is not None or status == Status.CANCELLED:
            return  # a poll that an event has caused was not at a time of our own choice
        age = watch.forecast.at - watch.since
        self.steps.compare(watch.project_type, watch.forecast, age, now, has_left=status != Status.PRODUCING)

    def _changed_between(self, watch: Watch, now: float) -> tuple[float, float]:
        """Return two times between which a change happened: two polls, unless an event narrows it down."""
        event = watch.pending_event
        if event is None or (latest := self.time_of(event, now)) <= watch.seen:
            return watch.seen, now  # a time before the last poll is from a clock that is wrong
        is_exact = classify(event, watch.status).dates_change
        return max(latest - _CLOCK_TOLERANCE, watch.seen) if is_exact else watch.seen, latest

    def time_of(self, event: WebhookEvent, now: float) -> float:
        """Return when an event happened, in monotonic seconds, as far as the server's clock is known.

        Without a time it is -infinity: nothing follows from it.
        """
        if event.timestamp is None:
            return -math.inf
        return min(now - (self._server_time() - event.timestamp.timestamp()), now)

    def _learn(self, watch: Watch, status: Status, earliest: float, latest: float) -> None:
        """Learn that a production had this status now, or since some time between these two.

        Without the cancel, a cancelled production might have stayed longer.
        """
        if not watch.age_known:
            return
        project_type, left, since = watch.project_type, watch.status, watch.since
        if status in (left, Status.CANCELLED):
            self.sojourns.record_stay(project_type, left, watch.seen - since, latest - since)
        else:
            self.sojourns.record_stay(project_type, left, watch.seen - since, earliest - since)
            self.sojourns.record_transition(project_type, left, earliest - since, latest - since)


def _sharing_texts(production: Production, before: Production) -> Production:
    """Return a snapshot with the texts of the one before where they are equal, which saves memory.

    The journal keeps the one of the last event.
    """
    raw = {
        name: kept if type(value) is str and (kept := before.raw.get(name)) == value else value
        for name, value in production.raw.items()
    }
    same = {name: old for name in _KEPT if (old := getattr(before, name)) == getattr(production, name)}
    return evolve(production, raw=raw, **same)
