"""Hands what webhooks say on to whoever follows the production that they are about.

An event may be faster than the answer to the submit. So the last one of each production that nobody follows
is kept for a while: it may be followed soon, or be another process's.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from attrs import evolve

from jarai_async import _clock
from jarai_async._api.models import Status
from jarai_async._api.webhook_models import WebhookEvent
from jarai_async._errors import JournalError
from jarai_async._polling.webhook_coverage import WebhookCoverage

Follower = Callable[[WebhookEvent], Awaitable[None]]

_EARLY = 10_000  # productions, some 10 MB


class WebhookRouter:
    """The followers of an orchestrator's productions, and how reliable the events of each account are.

    Where there is no receiver, nobody `listens`, and nothing is relied on.
    """

    def __init__(self, *, listens: bool) -> None:
        self._listens = listens
        self._followers: dict[str, Follower] = {}
        self._early: OrderedDict[str, WebhookEvent] = OrderedDict()
        self._reliabilities: dict[str, WebhookCoverage] = {}

    def reliability(self, account_id: str) -> WebhookCoverage | None:
        """Give what was learned of an account's events."""
        if not self._listens:
            return None
        if account_id not in self._reliabilities:
            self._reliabilities[account_id] = WebhookCoverage(_clock.monotonic())
        return self._reliabilities[account_id]

    @property
    def told(self) -> float | None:
        """The share of ends that webhooks are expected to tell of now, on average over the accounts."""
        if not self._reliabilities:
            return None
        now = _clock.monotonic()
        untold = [one.untold(Status.DISTRIBUTING, now) for one in self._reliabilities.values()]
        return 1 - sum(untold) / len(untold)

    async def follow(self, production_id: str, follower: Follower) -> None:
        """Hand on what comes from now on, and what came already."""
        self._followers[production_id] = follower
        event = self._early.pop(production_id, None)
        if event is not None:
            with contextlib.suppress(JournalError):  # it was answered; and the journal says that by itself
                await self.take(event)

    def leave(self, production_id: str) -> None:
        """Hand on nothing more about it."""
        self._followers.pop(production_id, None)

    async def take(self, event: WebhookEvent) -> None:
        """Hand an event on; when this returns, it is remembered by the journal. Raises JournalError."""
        event = evolve(event, raw={})  # which may be 100 KiB
        if event.account_id in self._reliabilities:
            self._reliabilities[event.account_id].heard(event, _clock.monotonic())
        follower = self._followers.get(event.production_id)
        if follower is not None:
            await follower(event)
            return
        self._early[event.production_id] = event
        if len(self._early) > _EARLY:
            self._early.popitem(last=False)
