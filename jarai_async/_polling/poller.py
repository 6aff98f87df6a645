"""One poller for all productions that anybody waits for: the orchestrator's, and those of `wait`.

It asks the scheduler for a turn and only then chooses whose status to read, so that each request of the
shared budget goes where it is worth most at that moment. A poll that fails is not a failure of the
production: it is asked again later, less and less often.

A webhook makes its production be asked at once, and no more than that: what it says is only believed of the
moment. Where the answer does not know of it yet, it is asked again a few times.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import datetime
from typing import Any

from jarai_async import _clock
from jarai_async._api.calls import Kind
from jarai_async._api.models import Polling, Production, Status
from jarai_async._api.webhook_models import WebhookEvent
from jarai_async._errors import ClosedError, JaraiError, NotFoundError
from jarai_async._polling.poll_queue import PollQueue
from jarai_async._polling.sojourn import Sojourns
from jarai_async._polling.watch import Change, Watch
from jarai_async._polling.webhook_coverage import (
    WebhookCoverage,
    confirms,
    dates,
    proves,
    says_more,
    tells,
)
from jarai_async._ratelimit.meter import Meter
from jarai_async._ratelimit.scheduler import Scheduler

_log = logging.getLogger("jarai_async")

_PATIENCE_WITH_404 = 300.0  # seconds: a new production may not be readable at once (inferred)
_CERTAIN_404 = 3  # in a row
_REPEATED = (0, 1, 2, 4)  # polls after a webhook, until one sees a change: so many floors apart
_ONCE = (1,)  # after one of a type that this version does not know: it may come often
_EXACT = 1.0  # seconds by which a moment that a webhook names may be wrong


class Poller:
    """Polls what is watched. `read` makes one poll with a given turn, and gives None after a 429.

    What the polls tell of the time in each status goes into `sojourns`, and `queue` chooses by that.
    `server_time` is what the server's clock says, in Unix seconds.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        read: Callable[[str, int, Meter], Awaitable[Production | None]],
        server_time: Callable[[], float] = _clock.wall,
    ) -> None:
        self._scheduler = scheduler
        self._read = read
        self._server_time = server_time
        self.sojourns = Sojourns()
        self.queue: PollQueue[Watch] = PollQueue(self.sojourns)
        self._pushed = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._polls: set[asyncio.Task[None]] = set()
        self._awaited: set[asyncio.Future[Change]] = set()
        self._changes = 0
        self._late = 0.0  # seconds, of all of them

    def restore_state(self, learned: Mapping[str, Any]) -> None:
        """Begin with what an earlier process learned, unless this one has begun. Raises ValueError."""
        if not self.queue and self._running is None:
            self.sojourns = Sojourns.restore_state(learned)
            self.queue = PollQueue(self.sojourns)

    def watch(
        self,
        production: Production,
        polling: Polling,
        meter: Meter,
        *,
        age_known: bool = True,
        reliability: WebhookCoverage | None = None,
    ) -> Watch:
        """Begin with what `meter` has just read; nothing is polled until a change is awaited.

        `age_known`: whether the production has only now come into its status.
        """
        now = _clock.monotonic()
        seen_at = meter.sent_at or _clock.utc()
        return Watch(production, polling, now, now, now, seen_at, meter, age_known, reliability)

    async def changed(self, watch: Watch) -> Change:
        """Wait until the production's status is another than the watch's.

        A watch is for one waiter at a time. Raises NotFoundError once it has been missing for five minutes.
        """
        self._scheduler.check_open()
        if watch.is_awaited:
            raise RuntimeError("somebody else awaits this watch already")
        change: asyncio.Future[Change] = asyncio.get_running_loop().create_future()
        watch.change = change
        self._awaited.add(change)
        self._push(watch)
        if watch.is_urgent:
            self._ask_now(watch)
        producing = watch.reliability if watch.status == Status.PRODUCING else None
        began = _clock.monotonic()
        if producing is not None:
            producing.begin(watch.project_type, began)
        try:
            return await change
        finally:
            self._awaited.discard(change)
            self.queue.discard(watch)
            if producing is not None:
                producing.end(watch.project_type, began, _clock.monotonic())
            if watch.change is change:  # a next waiter may have come before this one was told to go
                watch.change = None

    # --- Webhooks ----------------------------------------------------------------------------------

    def hear(self, watch: Watch, event: WebhookEvent) -> bool:
        """Take in what a webhook says; gives whether it is news. Then the production is asked at once."""
        is_news = tells(event, watch.status)
        if is_news and says_more(event, watch.news):
            watch.news, watch.is_urgent = event, False
            self.hurry(watch)
        elif not is_news and confirms(event, watch.status):
            watch.polled = max(watch.polled, self._moment(event))
            if watch.reliability is not None and watch.is_awaited:
                watch.reliability.stepped(watch.project_type)
        return is_news

    def hurry(self, watch: Watch) -> None:
        """Ask at once, or as soon as a change is awaited."""
        if not watch.is_urgent:
            watch.is_urgent = True
            if watch.is_awaited:
                self._ask_now(watch)

    def _ask_now(self, watch: Watch) -> None:
        if watch.change is not None:
            self._start(self._ask_until_it_has_changed(watch, watch.change, watch.news))

    async def _ask_until_it_has_changed(
        self, watch: Watch, change: asyncio.Future[Change], news: WebhookEvent | None
    ) -> None:
        """Poll at once, and again where the answer does not know yet of what was told.

        What says more than this news begins anew. What is not known to tell of a change is asked after once.
        """
        with contextlib.suppress(ClosedError):  # who waits hears of that otherwise
            for floors in _REPEATED if type(news) is not WebhookEvent else _ONCE:
                await self._scheduler.pause(floors * watch.polling.min_interval)
                if change.done() or watch.news is not news:
                    return
                slot = await self._scheduler.turn(Kind.POLL)
                if change.done() or watch.news is not news:
                    self._scheduler.give_back()
                    return
                self.queue.discard(watch)
                await self._poll(watch, slot)
            if not change.done() and watch.news is news:
                watch.is_urgent, watch.news = False, None

    # --- What is seen ------------------------------------------------------------------------------

    def observe(self, watch: Watch, production: Production, asked_at: datetime) -> None:
        """Take in a snapshot that was asked for at that moment, by a poll or otherwise."""
        if not watch.is_awaited:
            return
        now = _clock.monotonic()
        if production.status == watch.status:
            self._learn(watch, production.status, now, now)
        else:
            self._observe_change(watch, production, now)
        watch.production = production
        watch.polled = watch.seen = now
        watch.seen_at = asked_at  # it was so then, or later
        watch.failures, watch.missing, watch.missing_since = 0, 0, math.inf

    def _observe_change(self, watch: Watch, production: Production, now: float) -> None:
        left, entered = watch.status, production.status
        earliest, latest = self._when(watch, now)
        self._learn(watch, entered, earliest, latest)
        if watch.reliability is not None and watch.seen >= watch.reliability.relied_on_since:
            told = watch.news is not None and proves(watch.news, left)
            watch.reliability.changed(production.id, left, entered, now, told=told)
        if entered != Status.CANCELLED:  # which is seen at once, where it was our doing
            self._changes += 1
            self._late += now - (earliest + latest) / 2
        watch.since = (earliest + latest) / 2
        watch.age_known = True
        watch.is_urgent = watch.news is not None and tells(watch.news, entered)
        watch.news = watch.news if watch.is_urgent else None
        if (
            watch.change is not None
        ):  # what a clock elsewhere says is good enough to learn from, not to promise
            watch.change.set_result(Change(left, production, watch.seen_at))

    def _when(self, watch: Watch, now: float) -> tuple[float, float]:
        """Give the moments between which a change came: two answers, unless a webhook knows better."""
        if watch.news is None or (latest := self._moment(watch.news)) <= watch.seen:
            return watch.seen, now  # by a clock that is wrong, where it had not changed at that moment
        exact = dates(watch.news, watch.status)
        return max(latest - _EXACT, watch.seen) if exact else watch.seen, latest

    def _moment(self, event: WebhookEvent) -> float:
        """Give when something happened, in monotonic seconds, as far as the server's clock is known."""
        now = _clock.monotonic()
        return min(now - (self._server_time() - event.timestamp.timestamp()), now)

    @property
    def lag(self) -> float | None:
        """Seconds by which changes were seen late, on average: as if each came in the middle of two polls."""
        return self._late / self._changes if self._changes else None

    def _learn(self, watch: Watch, status: Status, earliest: float, latest: float) -> None:
        """Take in that a production had this status now, or since some moment between these two.

        A cancelled one might have stayed for longer.
        """
        if not watch.age_known:
            return
        kind, left, since = watch.project_type, watch.status, watch.since
        if status in (left, Status.CANCELLED):
            self.sojourns.record_stay(kind, left, watch.seen - since, latest - since)
        else:
            self.sojourns.record_stay(kind, left, watch.seen - since, earliest - since)
            self.sojourns.record_transition(kind, left, earliest - since, latest - since)

    def _push(self, watch: Watch) -> None:
        self.queue.push(watch, _clock.monotonic())
        self._pushed.set()
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="jarai poller")

    async def _run(self) -> None:
        """Give every turn that polls may have to the production where it is worth most."""
        try:
            while self.queue:
                if (due := self.queue.next_due(now := _clock.monotonic())) > now:
                    await self._until(due)
                    continue
                slot = await self._scheduler.turn(Kind.POLL)
                watch = self._next()
                if watch is None:
                    self._scheduler.give_back()
                    continue
                self._start(self._poll(watch, slot))
        except Exception as error:  # noqa: BLE001  # a bug must reach whoever waits, not an unread task
            self._fail_all(error)
        finally:
            self._running = None

    def _start(self, polling: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(polling)
        self._polls.add(task)
        task.add_done_callback(self._polls.discard)

    def _fail_all(self, error: Exception) -> None:
        for change in self._awaited:
            if not change.done():
                change.set_exception(error)

    async def _until(self, moment: float) -> None:
        """Sleep until a moment, or until another production is waiting."""
        self._pushed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(moment):
                await self._pushed.wait()

    def _next(self) -> Watch | None:
        while watch := self.queue.pop(_clock.monotonic()):
            if watch.is_awaited:
                return watch
        return None

    async def _poll(self, watch: Watch, slot: int) -> None:
        asked_at, asked = _clock.utc(), _clock.monotonic()
        try:
            production = await self._read(watch.production.id, slot, watch.meter)
            if production is not None and asked >= watch.asked:  # else a later poll was answered sooner
                watch.asked = asked
                self.observe(watch, production, asked_at)
        except JaraiError as error:
            self._note_failure(watch, error)
        except Exception as error:  # noqa: BLE001  # a bug must reach whoever waits, not an unread task
            self._fail(watch, error)
        if watch.is_awaited:
            self._push(watch)

    def _note_failure(self, watch: Watch, error: JaraiError) -> None:
        now = _clock.monotonic()
        watch.polled = now
        watch.failures += 1
        level = logging.WARNING if watch.failures == 1 else logging.DEBUG
        _log.log(level, "polling %s failed, it will be asked again: %s", watch.production.id, error)
        if not isinstance(error, NotFoundError):
            watch.missing, watch.missing_since = 0, math.inf
            return
        watch.missing += 1
        watch.missing_since = min(watch.missing_since, now)
        lost = watch.missing >= _CERTAIN_404 and now - watch.missing_since >= _PATIENCE_WITH_404
        if lost:
            self._fail(watch, error)

    def _fail(self, watch: Watch, error: Exception) -> None:
        if watch.change is not None and not watch.change.done():
            watch.change.set_exception(error)

    async def close(self) -> None:
        """Stop polling; who still waits gets a ClosedError."""
        self._fail_all(ClosedError("the client was closed"))
        tasks = [*self._polls, *([self._running] if self._running else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
