"""How reliably webhooks tell of changes: what a poll need not look for, because it will be told.

A webhook may be lost, and then only a poll finds out. So whatever is to be found by polls counts by the
chance that nothing tells of it. That chance is learned, for each account, since a subscription is for
accounts, and for what there are types of event for: that deliverables are ready, and that all is over. It is
the share of changes of which no event came within a minute, of the last twenty or so.

- Of other changes nothing is told, or not at once; users who have chosen webhooks want to hear of the former
  first, so polls for the latter become as rare as the former can be relied on.
- That `production.queued` comes is the first that can be known, so until there is news of the others it
  stands for them: but for nine of ten at most, since not all types need be subscribed to.
- Silence is news, too. While a production is `Producing` its steps bring events, at a rate that is learned
  for its project type. Where so many of them are overdue that chance explains it badly, nothing is relied on
  until one comes; and what was last seen before that silence ended is looked for as if nothing told of it.

Nothing is relied on at the beginning, so without events all is as if there were no webhooks. Pure.
"""

import math
from collections import OrderedDict
from typing import Final

from attrs import define, field

from jarai_async._api.models import Status
from jarai_async._api.webhook_models import (
    DeliverableReady,
    ProductionFailed,
    ProductionPublished,
    ProductionQueued,
    StepCompleted,
    WebhookEvent,
)

SUBMITTED: Final = Status("")  # what a production leaves by being queued
_TOLD_BY: Final = {Status.QUEUED: Status.PRODUCING, Status.AWAITING_APPROVAL: Status.DISTRIBUTING}
"""Statuses without an event for their end, and those whose end tells that they are over, too."""
_LAST_STEP: Final = 15  # documented: there are fifteen
_SOON: Final = 60.0  # seconds; what comes later is as good as lost
_FORGETTING: Final = 0.95
_PRIOR: Final = 2.0  # changes that the guess from other changes is worth
_UNPROVEN: Final = 0.1
_ODDS_OF_SILENCE: Final = 0.01  # that a channel is down, before its silence says anything
_SUSPICIOUS: Final = 3.0  # events that a silence lacks
_MOST_LACKING: Final = 50.0


def tells(event: WebhookEvent, known: Status) -> bool:
    """Whether an event says that a production has left the status in which it was last seen."""
    match event:
        case ProductionQueued():
            return known == SUBMITTED
        case StepCompleted(step=step):
            done = step is not None and step >= _LAST_STEP
            return known == Status.QUEUED or (done and known == Status.PRODUCING)
        case DeliverableReady():
            return known in (Status.QUEUED, Status.PRODUCING)
        case _:  # its end, or something that this version does not know
            return not known.is_terminal and known != SUBMITTED


def says_more(event: WebhookEvent, news: WebhookEvent | None) -> bool:
    """Whether an event tells of more than what was told before, if anything was."""
    return news is None or _extent(event) > _extent(news)


def _extent(event: WebhookEvent) -> int:
    kinds = (StepCompleted, DeliverableReady, ProductionPublished | ProductionFailed)
    return next((n for n, kind in enumerate(kinds, start=1) if isinstance(event, kind)), 0)


def confirms(event: WebhookEvent, known: Status) -> bool:
    """Whether an event says that a production still had, at its moment, the status in which it was seen."""
    return isinstance(event, StepCompleted) and known == Status.PRODUCING


def proves(event: WebhookEvent, left: Status) -> bool:
    """Whether an event that tells of a change is the one of this change.

    That all is over is told whether or not it was told before that deliverables were ready; and what one of a
    type that this version does not know is about, and when it comes, is not known.
    """
    own = _TOLD_BY.get(left, left)
    if type(event) is WebhookEvent or (isinstance(event, ProductionPublished) and own == Status.PRODUCING):
        return False
    return tells(event, own)


def dates(event: WebhookEvent, left: Status) -> bool:
    """Whether the moment of an event is that at which this status was left."""
    return left in (Status.PRODUCING, Status.DISTRIBUTING) and proves(event, left)


@define
class _Told:
    """Changes of which an event came, and of which none came."""

    told: float = 0.0
    untold: float = 0.0

    def add(self, *, told: bool) -> None:
        self.told = self.told * _FORGETTING + told
        self.untold = self.untold * _FORGETTING + (not told)


@define
class _Producing:
    """Productions of one type that are watched while `Producing`, and the steps that they told of."""

    productions: int = 0
    began: float = 0.0  # the sum of the moments at which they came
    seconds: float = 0.0  # of those that have gone
    steps: int = 0

    def rate(self, now: float) -> float:
        """Give the events a second that are to be expected of all of them."""
        seconds = self.seconds + self.productions * now - self.began
        return self.productions * self.steps / seconds if seconds > 0 else 0.0


@define(eq=False)
class WebhookCoverage:
    """How reliably the events of one account come. Moments are monotonic seconds."""

    relied_on_since: float
    """Who was last seen before that is looked for as if nobody told of anything, and a change of theirs says
    nothing: it may have come while nobody listened."""
    _heard: float = field(init=False)
    _all: _Told = field(init=False, factory=_Told)
    _by_status: dict[Status, _Told] = field(init=False, factory=dict)
    _producing: dict[str | None, _Producing] = field(init=False, factory=dict)
    _awaited: OrderedDict[str, tuple[Status, float]] = field(init=False, factory=OrderedDict)
    """What was seen before it was told, by production: the status left, and until when to wait."""

    def __attrs_post_init__(self) -> None:
        self._heard = self.relied_on_since

    def begin(self, project_type: str | None, now: float) -> None:
        """A production is watched while it is `Producing`."""
        producing = self._producing.setdefault(project_type, _Producing())
        producing.productions += 1
        producing.began += now

    def end(self, project_type: str | None, began: float, now: float) -> None:
        """It is not any more."""
        producing = self._producing[project_type]
        producing.productions -= 1
        producing.began -= began
        producing.seconds += now - began

    def submitted(self, production_id: str, now: float) -> None:
        """A production was accepted, of which `production.queued` is to tell."""
        self._awaited[production_id] = SUBMITTED, now + _SOON

    def changed(self, production_id: str, left: Status, entered: Status, now: float, *, told: bool) -> None:
        """A change was seen; where nothing had told of it, that may be on its way."""
        if entered == Status.CANCELLED or _TOLD_BY.get(left) == entered:
            return  # there is no type of event for it
        if told:
            self._add(left, told=True)
        else:
            self._settle(production_id, told=False)
            self._awaited[production_id] = left, now + _SOON

    def heard(self, event: WebhookEvent, now: float) -> None:
        """An event came."""
        if self._lacking(now) > _SUSPICIOUS:
            self.relied_on_since = now
        self._heard = now
        left, _ = self._awaited.get(event.production_id, (None, 0.0))
        if left is not None and proves(event, left):
            self._settle(event.production_id, told=True)

    def stepped(self, project_type: str | None) -> None:
        """A production that is watched while `Producing` told of a step."""
        producing = self._producing.get(project_type)
        if producing is not None:  # an answer may name another type than the one before
            producing.steps += 1

    def untold(self, status: Status, now: float) -> float:
        """Give the chance that what comes next will not be told: 1 where nothing is relied on."""
        while self._awaited and (first := next(iter(self._awaited))) and self._awaited[first][1] <= now:
            self._settle(first, told=False)
        every, own = self._all, self._by_status.get(_TOLD_BY.get(status, status), _Told())
        guess = max(_UNPROVEN, (every.untold + 1) / (every.told + every.untold + 1))
        share = (own.untold + _PRIOR * guess) / (own.told + own.untold + _PRIOR)
        is_up = 1 / (1 + _ODDS_OF_SILENCE * math.expm1(min(self._lacking(now), _MOST_LACKING)))
        return 1 - (1 - share) * is_up

    def _settle(self, production_id: str, *, told: bool) -> None:
        """Wait no longer for what tells of its last change."""
        left, _ = self._awaited.pop(production_id, (None, 0.0))
        if left is not None:
            self._add(left, told=told)

    def _add(self, left: Status, *, told: bool) -> None:
        self._all.add(told=told)
        self._by_status.setdefault(_TOLD_BY.get(left, left), _Told()).add(told=told)

    def _lacking(self, now: float) -> float:
        """Give how many steps were to be expected since the last event, but for those of the last minute."""
        return max(0.0, now - self._heard - _SOON) * sum(one.rate(now) for one in self._producing.values())
