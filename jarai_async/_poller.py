"""One poller for all productions that anybody waits for: the orchestrator's, and those of `wait`.

It asks the scheduler for a turn and only then chooses whose status to read, so that each request of the
shared budget goes where it is worth most at that moment. A poll that fails is not a failure of the
production: it is asked again later, less and less often.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

from attrs import define, field, frozen

from jarai_async import _clock
from jarai_async._errors import JaraiError, NotFoundError, StoppedError
from jarai_async._meter import Meter
from jarai_async._models import Polling, Production, Status
from jarai_async._polling import PollQueue
from jarai_async._scheduler import Scheduler
from jarai_async._sojourn import Sojourns
from jarai_async._turns import Kind

_log = logging.getLogger("jarai_async")

_PATIENCE_WITH_404 = 300.0  # seconds: a new production may not be readable at once (inferred)
_CERTAIN_404 = 3  # in a row


@frozen
class Change:
    """A new status, in place of `previous`: it came after `after` (wall clock, UTC), and is seen now."""

    previous: Status
    production: Production
    after: datetime


@define(eq=False)
class Watch:
    """One production that somebody waits for. `since`, `polled` and `seen` are monotonic seconds.

    `seen` is when it was last known to have its status: unlike `polled`, no failed poll moves it.
    `age_known` is False until the first change of one that was not watched from its beginning: such a
    stay teaches nothing.
    """

    production: Production
    polling: Polling
    since: float
    polled: float
    seen: float
    seen_at: datetime
    meter: Meter
    age_known: bool = True
    failures: int = 0
    missing: int = 0
    missing_since: float = math.inf
    queued: bool = False
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


class Poller:
    """Polls what is watched. `read` makes one poll with a given turn, and gives None after a 429.

    What the polls tell of the time in each status goes into `sojourns`, and `queue` chooses by that.
    """

    def __init__(
        self, scheduler: Scheduler, read: Callable[[str, int, Meter], Awaitable[Production | None]]
    ) -> None:
        self._scheduler = scheduler
        self._read = read
        self.sojourns = Sojourns()
        self.queue: PollQueue[Watch] = PollQueue(self.sojourns)
        self._pushed = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._polls: set[asyncio.Task[None]] = set()
        self._awaited: set[asyncio.Future[Change]] = set()
        self._changes = 0
        self._late = 0.0  # seconds, of all of them

    def recall(self, learned: Mapping[str, Any]) -> None:
        """Begin with what an earlier process learned, unless this one has begun. Raises ValueError."""
        if not self.queue and self._running is None:
            self.sojourns = Sojourns.restored(learned)
            self.queue = PollQueue(self.sojourns)

    def watch(
        self, production: Production, polling: Polling, meter: Meter, *, age_known: bool = True
    ) -> Watch:
        """Begin with what `meter` has just read; nothing is polled until a change is awaited.

        `age_known`: whether the production has only now come into its status.
        """
        now = _clock.monotonic()
        seen_at = meter.sent_at or _clock.utc()
        return Watch(production, polling, now, now, now, seen_at, meter, age_known)

    async def changed(self, watch: Watch) -> Change:
        """Wait until the production's status is another than the watch's.

        A watch is for one waiter at a time. Raises NotFoundError once it has been missing for five minutes.
        """
        self._scheduler.check_open()
        if watch.change is not None and not watch.change.done():
            raise RuntimeError("somebody else awaits this watch already")
        change: asyncio.Future[Change] = asyncio.get_running_loop().create_future()
        watch.change = change
        self._awaited.add(change)
        self._push(watch)
        try:
            return await change
        finally:
            self._awaited.discard(change)
            if watch.change is change:  # a next waiter may have come before this one was told to go
                watch.change = None

    def observe(self, watch: Watch, production: Production, asked_at: datetime) -> None:
        """Take in a snapshot that was asked for at that moment, by a poll or otherwise."""
        if watch.change is None or watch.change.done():
            return
        now = _clock.monotonic()
        self._learn(watch, production.status, now)
        if production.status != watch.status:
            self._note_lag(production.status, now - watch.seen)
            watch.change.set_result(Change(watch.status, production, watch.seen_at))
            watch.since = (watch.seen + now) / 2  # somewhere between the two answers
            watch.age_known = True
        watch.production = production
        watch.polled = watch.seen = now
        watch.seen_at = asked_at  # it was so then, or later
        watch.failures, watch.missing, watch.missing_since = 0, 0, math.inf

    @property
    def lag(self) -> float | None:
        """Seconds by which changes were seen late, on average: as if each came in the middle of two polls."""
        return self._late / self._changes if self._changes else None

    def _note_lag(self, status: Status, gap: float) -> None:
        if status != Status.CANCELLED:  # which is seen at once, where it was our doing
            self._changes += 1
            self._late += gap / 2

    def _learn(self, watch: Watch, status: Status, now: float) -> None:
        """Take in that a production had this status now. A cancelled one might have stayed for longer."""
        if not watch.age_known:
            return
        left = status not in (watch.status, Status.CANCELLED)
        learn = self.sojourns.left if left else self.sojourns.stayed
        learn(watch.project_type, watch.status, watch.seen - watch.since, now - watch.since)

    def _push(self, watch: Watch) -> None:
        if watch.queued:
            return
        watch.queued = True
        self.queue.push(watch)
        self._pushed.set()
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="jarai poller")

    async def _run(self) -> None:
        """Give every turn that polls may have to the production where it is worth most."""
        try:
            while self.queue:
                if self.queue.next_due() > _clock.monotonic():
                    await self._until(self.queue.next_due())
                    continue
                slot = await self._scheduler.turn(Kind.POLL)
                watch = self._next()
                if watch is None:
                    self._scheduler.give_back()
                    continue
                poll = asyncio.create_task(self._poll(watch, slot))
                self._polls.add(poll)
                poll.add_done_callback(self._polls.discard)
        except Exception as error:  # noqa: BLE001  # a bug must reach whoever waits, not an unread task
            self._fail_all(error)
        finally:
            self._running = None

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
            watch.queued = False
            if watch.change is not None and not watch.change.done():
                return watch
        return None

    async def _poll(self, watch: Watch, slot: int) -> None:
        asked_at = _clock.utc()
        try:
            production = await self._read(watch.production.id, slot, watch.meter)
            if production is not None:
                self.observe(watch, production, asked_at)
        except JaraiError as error:
            self._note_failure(watch, error)
        except Exception as error:  # noqa: BLE001  # a bug must reach whoever waits, not an unread task
            if watch.change is not None and not watch.change.done():
                watch.change.set_exception(error)
        if watch.change is not None and not watch.change.done():
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
        if lost and watch.change is not None and not watch.change.done():
            watch.change.set_exception(error)

    async def close(self) -> None:
        """Stop polling; who still waits gets a StoppedError."""
        self._fail_all(StoppedError("the client was closed"))
        tasks = [*self._polls, *([self._running] if self._running else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
