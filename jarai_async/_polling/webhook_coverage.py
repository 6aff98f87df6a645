"""How reliably webhooks announce changes: polls need not look for what a webhook will announce.

A webhook may be lost, and then only a poll finds the change. So what a poll may find counts with the miss
probability: the probability that no webhook announces it. It is learned for each account (a subscription is
for accounts), separately for each change that has an event type: deliverables ready, and the end. It is the
share of recent changes (the last twenty or so) for which no event arrived within a minute.

- Changes without an event type are found by polls only. Users of webhooks want to learn of the others first,
  so polls for these become as rare as the webhooks for the others are reliable.
- `production.queued` arrives first. Until there is data on the other events, it is evidence for them too,
  but for a reliability of at most 90 %, because a subscription need not include all types.
- Silence counts, too. A production in `Producing` sends an event for each step, at a rate that is learned for
  its project type. Once more of them are overdue than chance explains, webhooks are not relied on until one
  arrives, and productions that were last seen before that are polled as if there were no webhooks.

At first nothing is relied on, so without webhooks the polls are as if none were configured. Pure.
"""

import math
from collections import OrderedDict
from typing import Final

from attrs import define, field

from jarai_async._api.models import Status
from jarai_async._api.webhook_models import WebhookEvent
from jarai_async._polling.event_meaning import ANNOUNCED_WITH, SUBMITTED, classify

_ON_TIME: Final = 60.0  # seconds; an event that arrives later counts as missed
_DECAY: Final = 0.95
_PRIOR: Final = 2.0  # changes that the prior, taken from all changes, is worth
_LOWEST_PRIOR: Final = 0.1
_ODDS_OF_FAILURE: Final = 0.01  # that webhooks do not arrive, before silence says anything
_SUSPICIOUS: Final = 3.0  # events overdue
_MOST_OVERDUE: Final = 50.0


@define
class _Counts:
    """Changes that an event announced, and changes that were missed; old ones count less."""

    announced: float = 0.0
    missed: float = 0.0

    def add(self, *, announced: bool) -> None:
        self.announced = self.announced * _DECAY + announced
        self.missed = self.missed * _DECAY + (not announced)


@define
class _Producing:
    """The productions of one type that are watched in `Producing`, and their step events."""

    productions: int = 0
    started: float = 0.0  # sum of the times at which their watches began
    seconds: float = 0.0  # of those that have left it
    steps: int = 0

    def event_rate(self, now: float) -> float:
        """Return the events per second that are expected of all of them."""
        seconds = self.seconds + self.productions * now - self.started
        return self.productions * self.steps / seconds if seconds > 0 else 0.0


@define(eq=False)
class WebhookCoverage:
    """How reliably the events of one account arrive. Times are monotonic seconds."""

    trusted_since: float
    """A production that was last seen before this is polled as if there were no webhooks, and its next
    change is not counted: it may have happened while no event could arrive."""
    _last_event_at: float = field(init=False)
    _all: _Counts = field(init=False, factory=_Counts)
    _by_status: dict[Status, _Counts] = field(init=False, factory=dict)
    _producing: dict[str | None, _Producing] = field(init=False, factory=dict)
    _expected: OrderedDict[str, tuple[Status, float]] = field(init=False, factory=OrderedDict)
    """Changes that a poll saw first, by production: the status that ended, and when the event is late."""

    def __attrs_post_init__(self) -> None:
        self._last_event_at = self.trusted_since

    def producing_began(self, project_type: str | None, now: float) -> None:
        """Record that a production in `Producing` is watched from now on."""
        producing = self._producing.setdefault(project_type, _Producing())
        producing.productions += 1
        producing.started += now

    def producing_ended(self, project_type: str | None, began: float, now: float) -> None:
        """Record that it is no longer watched in `Producing`."""
        producing = self._producing[project_type]
        producing.productions -= 1
        producing.started -= began
        producing.seconds += now - began

    def submitted(self, production_id: str, now: float) -> None:
        """Record that a production was accepted: its `production.queued` is expected."""
        self._expected[production_id] = SUBMITTED, now + _ON_TIME

    def changed(
        self, production_id: str, left: Status, entered: Status, now: float, *, announced: bool
    ) -> None:
        """Record a change that a poll saw. If no event has announced it, the event may still arrive."""
        if entered == Status.CANCELLED or ANNOUNCED_WITH.get(left) == entered:
            return  # there is no event type for this change
        if announced:
            self._count(left, announced=True)
        else:
            self._settle(production_id, announced=False)
            self._expected[production_id] = left, now + _ON_TIME

    def event_arrived(self, event: WebhookEvent, now: float) -> None:
        """Record an event."""
        if self._overdue(now) > _SUSPICIOUS:
            self.trusted_since = now
        self._last_event_at = now
        left, _ = self._expected.get(event.production_id, (None, 0.0))
        if left is not None and classify(event, left).announces_change:
            self._settle(event.production_id, announced=True)

    def step_arrived(self, project_type: str | None) -> None:
        """Record a step event of a production that is watched in `Producing`."""
        producing = self._producing.get(project_type)
        if producing is not None:  # a response may name another project type than the one before
            producing.steps += 1

    def miss_probability(self, status: Status, now: float) -> float:
        """Return the probability that no webhook announces the next change; 1 if none is relied on."""
        while self._expected and (first := next(iter(self._expected))) and self._expected[first][1] <= now:
            self._settle(first, announced=False)
        every, own = self._all, self._by_status.get(ANNOUNCED_WITH.get(status, status), _Counts())
        prior = max(_LOWEST_PRIOR, (every.missed + 1) / (every.announced + every.missed + 1))
        missed = (own.missed + _PRIOR * prior) / (own.announced + own.missed + _PRIOR)
        is_working = 1 / (1 + _ODDS_OF_FAILURE * math.expm1(min(self._overdue(now), _MOST_OVERDUE)))
        return 1 - (1 - missed) * is_working

    def _settle(self, production_id: str, *, announced: bool) -> None:
        """Stop expecting the event of a production's last change."""
        left, _ = self._expected.pop(production_id, (None, 0.0))
        if left is not None:
            self._count(left, announced=announced)

    def _count(self, left: Status, *, announced: bool) -> None:
        self._all.add(announced=announced)
        self._by_status.setdefault(ANNOUNCED_WITH.get(left, left), _Counts()).add(announced=announced)

    def _overdue(self, now: float) -> float:
        """Return how many step events were to be expected since the last event, but for the last minute."""
        rate = sum(producing.event_rate(now) for producing in self._producing.values())
        return max(0.0, now - self._last_event_at - _ON_TIME) * rate
