"""One poller for all productions that a caller waits for: those of orchestrators, and those of `wait`.

It first acquires a slot of the rate limit, and then chooses which production to poll, so each request goes
where it is worth most at that time. A failed poll is not a failure of the production: the production is
polled again, less and less often. Only a refusal that lasts ends the wait.

A webhook makes the poller poll its production immediately. The response decides, not the event. If the
response does not show the change yet, the poller polls a few more times.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import Context, copy_context
from datetime import UTC, datetime
from typing import Any, TypeVarTuple

from jarai_async import _clock
from jarai_async._api.calls import Kind, is_refusal
from jarai_async._api.models import Polling, Production, Status
from jarai_async._api.webhook_models import WebhookEvent
from jarai_async._errors import ClosedError, JaraiError, NotFoundError
from jarai_async._http.request_log import RequestLog
from jarai_async._polling.event_meaning import classify
from jarai_async._polling.observer import Observer
from jarai_async._polling.poll_queue import PollQueue
from jarai_async._polling.sojourn import Sojourns
from jarai_async._polling.watch import Change, Watch
from jarai_async._polling.webhook_coverage import WebhookCoverage
from jarai_async._ratelimit.scheduler import Scheduler
from jarai_async._tasks import start, stop

Args = TypeVarTuple("Args")

_log = logging.getLogger("jarai_async")

_NOT_FOUND_SECONDS = 300.0  # a new production may not be readable at once (inferred)
_REFUSED_SECONDS = 3_600.0  # a person may correct it: an inactive partner, a key without the scope
_REFUSALS = 3  # in a row
_FAILURES_TO_WARN = 5  # in a row: some minutes
_FAILURES_PER_WARNING = 250  # about one warning a day
_POLLS_AFTER_EVENT = (0, 1, 2, 4)  # the delay before each, in minimum intervals, until one sees a change
_POLLS_AFTER_UNKNOWN_EVENT = (1,)  # events of a type that this version does not know may be frequent


class Poller:
    """Polls the watched productions.

    `read` polls one production with a slot of the rate limit, and returns None after a 429. `server_time`
    returns Unix time by the server's clock, and `is_down` whether there is an outage. `queue` chooses the
    next production, by what `observer` has learned.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        read: Callable[[str, int, RequestLog], Awaitable[Production | None]],
        server_time: Callable[[], float] = _clock.wall,
        is_down: Callable[[], bool] = lambda: False,
    ) -> None:
        self.observer: Observer = Observer(Sojourns(), server_time)
        self.queue: PollQueue[Watch] = PollQueue(self.sojourns)
        self._scheduler = scheduler
        self._read = read
        self._is_down = is_down
        self._pushed = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._polls: set[asyncio.Task[None]] = set()
        self._awaited: set[asyncio.Future[Change]] = set()

    @property
    def sojourns(self) -> Sojourns:
        """What the polls have taught about the time in each status."""
        return self.observer.sojourns

    @property
    def is_running(self) -> bool:
        """Whether productions wait for their polls."""
        return self._worker is not None

    @property
    def is_polling(self) -> bool:
        """Whether a poll is in flight."""
        return bool(self._polls)

    def restore_state(self, state: Mapping[str, Any]) -> None:
        """Start with what an earlier process learned, unless this one has started. Raises ValueError."""
        if not self.queue and self._worker is None:
            self.use_state(state)

    def use_state(self, state: Mapping[str, Any]) -> None:
        """Use what several processes have learned together. Raises ValueError."""
        self.observer.restore_state(state)

    def export_state(self) -> dict[str, Any]:
        """Return what was learned in a form that JSON can hold, for `restore_state`."""
        return self.observer.export_state()

    def watch(
        self,
        production: Production,
        polling: Polling,
        log: RequestLog,
        *,
        known_since: float | None = None,
        age_known: bool = True,
        coverage: WebhookCoverage | None = None,
    ) -> Watch:
        """Create a watch of a production that the last request in `log` has read or created.

        `known_since` is since when an earlier process knew it to have its status (Unix time), and `age_known`
        whether the beginning of its status was observed. Nothing is polled before `wait_for_change`.
        """
        now = _clock.monotonic()
        seen_at = log.last_sent_at or _clock.utc()
        watch = Watch(production, polling, now, now, now, seen_at, log, age_known, coverage)
        if known_since is not None:
            watch.resume(datetime.fromtimestamp(known_since, UTC))
        elif coverage is not None:
            coverage.submitted(production.id, now)
        self.observer.expect_change(watch)
        return watch

    async def wait_for_change(self, watch: Watch) -> Change:
        """Wait until the production has another status than the watch.

        A watch is for one waiter at a time. Raises NotFoundError once JARAI has not found the production for
        five minutes, another ApiError or InvalidResponseError once it has refused for an hour to show the
        production, and ClosedError when the client is closed.
        """
        self._scheduler.check_open()
        if watch.is_awaited:
            raise RuntimeError("another caller waits for this watch")
        change: asyncio.Future[Change] = asyncio.get_running_loop().create_future()
        watch.change, watch.context = change, copy_context()
        self._awaited.add(change)
        self._push(watch)
        if watch.is_urgent:
            self._poll_until_changed(watch)
        coverage = watch.coverage if watch.status == Status.PRODUCING else None
        began, project_type = _clock.monotonic(), watch.project_type  # a response may name another type later
        if coverage is not None:
            coverage.producing_began(project_type, began)
        try:
            return await change
        finally:
            self._awaited.discard(change)
            self.queue.discard(watch)
            if coverage is not None:
                coverage.producing_ended(project_type, began, _clock.monotonic())
            if watch.change is change:  # another waiter may have come before this one resumed
                watch.change = watch.context = None

    # --- Webhooks ----------------------------------------------------------------------------------

    def on_webhook(self, watch: Watch, event: WebhookEvent) -> bool:
        """Use an event of a watched production; return whether it says that the status has changed.

        If so, the production is polled immediately.
        """
        meaning = classify(event, watch.status)
        if meaning.status_ended:
            pending = watch.pending_event
            if pending is None or meaning.progress > classify(pending, watch.status).progress:
                watch.pending_event, watch.is_urgent = event, False
                self.poll_now(watch)
        elif meaning.status_confirmed:
            self.observer.confirm(watch, event, _clock.monotonic())
            if watch.coverage is not None and watch.is_awaited:
                watch.coverage.step_arrived(watch.project_type)
        return meaning.status_ended

    def poll_now(self, watch: Watch) -> None:
        """Poll immediately, or as soon as a caller waits for a change."""
        if not watch.is_urgent:
            watch.is_urgent = True
            if watch.is_awaited:
                self._poll_until_changed(watch)

    def _poll_until_changed(self, watch: Watch) -> None:
        if watch.change is not None:
            self._start(watch, self._poll_after_event, watch.change, watch.pending_event)

    async def _poll_after_event(
        self, watch: Watch, change: asyncio.Future[Change], event: WebhookEvent | None
    ) -> None:
        """Poll immediately, and again if the response does not show the change yet.

        An event that shows more progress starts over. After an event of an unknown type, poll once.
        """

        def is_over() -> bool:
            return change.done() or watch.pending_event is not event

        with contextlib.suppress(ClosedError):  # the waiting caller learns it from `close`
            is_unknown = type(event) is WebhookEvent
            for intervals in _POLLS_AFTER_UNKNOWN_EVENT if is_unknown else _POLLS_AFTER_EVENT:
                await self._scheduler.sleep(intervals * watch.polling.min_interval)
                if is_over():
                    return
                slot = await self._scheduler.acquire(Kind.POLL)
                if is_over():
                    self._scheduler.release(slot)
                    return
                self.queue.discard(watch)
                await self._poll(watch, slot)
            if not is_over():
                watch.is_urgent, watch.pending_event = False, None

    def observe(self, watch: Watch, production: Production, sent_at: datetime) -> None:
        """Use a snapshot of the production, read by a request that was sent at `sent_at` (UTC)."""
        self.observer.observe(watch, production, sent_at, _clock.monotonic())

    # --- Polls -------------------------------------------------------------------------------------

    def _push(self, watch: Watch) -> None:
        self.queue.push(watch, _clock.monotonic())
        self._pushed.set()
        if self._worker is None:
            self._worker = start(self._run, name="jarai poller", context=Context())

    async def _run(self) -> None:
        """Use every slot that polls may have for the production whose poll is worth most."""
        try:
            while self.queue:
                if (due := self.queue.next_due(now := _clock.monotonic())) > now:
                    self._pushed.clear()
                    await _clock.wait_until(due, self._pushed)
                    continue
                slot = await self._scheduler.acquire(Kind.POLL)
                watch = self._next()
                if watch is None:
                    self._scheduler.release(slot)
                    continue
                self._start(watch, self._poll, slot)
        except Exception as error:  # noqa: BLE001  # a bug must reach the waiting callers
            self._fail_all(error)
        finally:
            self._worker = None

    def _next(self) -> Watch | None:
        while watch := self.queue.pop(_clock.monotonic()):
            if watch.is_awaited:
                return watch
        return None

    def _start(
        self, watch: Watch, poll: Callable[[Watch, *Args], Coroutine[Any, Any, None]], *args: *Args
    ) -> None:
        """Start polls of one production, in the context of the caller that waits for it."""
        task = start(poll, watch, *args, context=watch.context)
        self._polls.add(task)
        task.add_done_callback(self._polls.discard)

    async def _poll(self, watch: Watch, slot: int) -> None:
        sent_at, request_at = _clock.utc(), _clock.monotonic()
        try:
            production = await self._read(watch.production.id, slot, watch.log)
            if production is not None and request_at >= watch.seen_request_at:  # else a newer one is known
                watch.seen_request_at = request_at
                self.observe(watch, production, sent_at)
        except JaraiError as error:
            self._record_failure(watch, error)
        except Exception as error:  # noqa: BLE001  # a bug must reach the waiting caller
            self._fail(watch, error)
        if watch.is_awaited:
            self._push(watch)

    def _record_failure(self, watch: Watch, error: JaraiError) -> None:
        now = _clock.monotonic()
        watch.polled = now
        watch.failures, watch.failure = watch.failures + 1, error
        watch.retry_after = error.retry_after or 0.0
        is_stubborn = watch.failures % _FAILURES_PER_WARNING == _FAILURES_TO_WARN and not self._is_down()
        level = logging.WARNING if is_stubborn else logging.DEBUG
        message = "polling %s failed (%d in a row), it will be polled again: %s"
        _log.log(level, message, watch.production.id, watch.failures, error.reason)
        if not is_refusal(error):
            if watch.refusals < _REFUSALS:  # later failures between refusals do not prolong the wait
                watch.refusals, watch.refused_since = 0, math.inf
            return
        watch.refusals += 1
        watch.refused_since = min(watch.refused_since, now)
        patience = _NOT_FOUND_SECONDS if isinstance(error, NotFoundError) else _REFUSED_SECONDS
        if watch.refusals >= _REFUSALS and now - watch.refused_since >= patience:
            self._fail(watch, error)

    def _fail(self, watch: Watch, error: Exception) -> None:
        if watch.change is not None and not watch.change.done():
            watch.change.set_exception(error)

    def _fail_all(self, error: Exception) -> None:
        for change in self._awaited:
            if not change.done():
                change.set_exception(error)

    async def close(self) -> None:
        """Stop polling. Callers that still wait raise ClosedError."""
        self._fail_all(ClosedError("the client was closed"))
        await stop([*self._polls, *([self._worker] if self._worker else [])])
