"""The cancel of one job: in the journal before it is sent, and sent again until JARAI has answered it.

A request that was not sent never is, also by the next process. A production is cancelled once its id is
known, however long an outage takes; the deadline does not count meanwhile. After a restart the job finds the
cancel in the journal and continues with it. It is over when the request has ended, or when JARAI refuses it.
"""

import asyncio
import logging
from collections.abc import Callable

from jarai_async import _clock
from jarai_async._api.calls import is_refusal
from jarai_async._errors import (
    ApiError,
    AuthenticationError,
    ClosedError,
    ConfigurationError,
    InvalidRequestError,
    JaraiError,
    JournalError,
    NotFoundError,
    PermissionDeniedError,
)
from jarai_async._events import Outcome, OutcomeState
from jarai_async._http.retry import Retrier, Retry
from jarai_async._journal.entries import Intent
from jarai_async._orchestrator.state import JobState
from jarai_async._polling.watch import Watch
from jarai_async._tasks import start, stop

_log = logging.getLogger("jarai_async")

_ONCE = Retry(attempts=1)
_RETRY = Retry(
    attempts=0, base=1.0, cap=300.0
)  # the pauses until JARAI answers; rare: cancels are sent first
_NOT_FOUND_SECONDS = 300.0  # a new production may not be known everywhere at once (inferred)
_OF_THE_KEY = (AuthenticationError, PermissionDeniedError)  # another key may be accepted

Answer = asyncio.Future[JaraiError | None]
"""Why a production was not cancelled; None if it was."""


class Cancellation:
    """The cancel of one job, from the request to the answer. `on_change` is called when it begins or ends."""

    __slots__ = ("_answer", "_is_watched", "_on_change", "_state", "_task")

    def __init__(self, state: JobState, on_change: Callable[[], None]) -> None:
        self._state = state
        self._on_change = on_change
        self._task: asyncio.Task[None] | None = None
        self._answer: Answer | None = None
        self._is_watched: asyncio.Future[Watch] | None = None

    @property
    def is_in_progress(self) -> bool:
        """Whether it was requested and is not answered."""
        return self._task is not None and not self._task.done()

    def request(self) -> Answer:
        """Begin, unless it has begun already; return its answer."""
        state = self._state
        state.cancel_requested = True
        state.may_submit = False
        if state.intent is not None:
            state.intent.request_cancel()
        if self._answer is None or self._answer.done():
            loop = asyncio.get_running_loop()
            self._answer, self._is_watched = loop.create_future(), loop.create_future()
            if state.watch is not None:
                self._is_watched.set_result(state.watch)
            self._task = start(
                self._run, self._answer, self._is_watched, name=f"jarai cancel {state.reference}"
            )
            self._on_change()
        return self._answer

    def restore(self, intent: Intent) -> None:
        """Continue with a cancel of an earlier process, or one that was requested before the job began."""
        if intent.cancel_requested and not self._state.cancel_requested:
            self.request()
        elif self._state.cancel_requested:
            intent.request_cancel()
            self._state.context.journal.put(intent)

    def watched(self, watch: Watch) -> None:
        """Cancel the production as soon as that was requested: its id is known."""
        if self._is_watched is not None and not self._is_watched.done():
            self._is_watched.set_result(watch)

    async def stop(self) -> None:
        """Send nothing more. The journal has the cancel."""
        if self._task is not None:
            await stop([self._task])

    def job_ended(self, job: asyncio.Future[Outcome]) -> None:
        """Answer a cancel whose job has ended."""
        if self._answer is None or self._answer.done():
            return
        error = None if job.cancelled() else job.exception()
        if job.cancelled() or error is not None:
            self._answer.set_result(error if isinstance(error, JaraiError) else _stopped(self._state))
        else:
            self._answer.set_result(not_cancelled(job.result()))

    async def _run(self, answer: Answer, is_watched: asyncio.Future[Watch]) -> None:
        error: JaraiError | None = None
        try:
            await self._record()
            error = await self._send(await is_watched)
        except JaraiError as failure:
            error = failure
        if isinstance(error, JournalError):
            self._drop()
        elif isinstance(error, ApiError):
            what = (
                "whose production it does not find" if isinstance(error, NotFoundError) else "which continues"
            )
            _log.warning("JARAI did not cancel %s, %s: %s", self._state.reference, what, error)
            if not isinstance(error, _OF_THE_KEY):
                self._drop()
        if not answer.done():
            answer.set_result(error)
        self._task = None
        self._on_change()

    async def _record(self) -> None:
        """Write to the journal that it was requested. Raises JournalError."""
        state = self._state
        await state.wait_recorded()
        if state.intent is not None:
            state.intent.request_cancel()
            await state.context.journal.save(state.intent)

    async def _send(self, watch: Watch) -> JaraiError | None:
        """Send it until JARAI answers or the production has ended; return why it was not cancelled.

        Raises ApiError where JARAI refuses it, ClosedError, ConfigurationError.
        """
        engine, log, failures = self._state.context.engine, self._state.log, 0
        retrier = Retrier(_ONCE, engine.random)
        while not watch.status.is_terminal:
            sent_at = _clock.utc()
            try:
                seen = await engine.cancel(watch.production.id, log, retrier)
            except JaraiError as error:
                if not self._may_repeat(error):
                    raise
                failures += 1
                delay = _RETRY.delay(min(failures, 10), error, engine.random)
                await engine.sender.pause(delay, error, log)
                continue
            engine.poller.observe(watch, seen, sent_at)
            if not seen.status.is_terminal:
                return None  # it is being cancelled
        return nothing_cancelled(self._state.reference, watch.status)

    def _may_repeat(self, error: JaraiError) -> bool:
        """Whether an error is no answer to the cancel."""
        if isinstance(error, NotFoundError):
            submitted_at = self._state.submitted_at or _clock.utc()
            return (_clock.utc() - submitted_at).total_seconds() < _NOT_FOUND_SECONDS
        is_final = isinstance(error, ApiError) and is_refusal(error)
        return not (is_final or isinstance(error, ClosedError | ConfigurationError))

    def _drop(self) -> None:
        """Let the next process not send it again. In this one, the request is still not submitted again."""
        state = self._state
        if state.intent is not None and state.intent.cancel_requested:
            state.intent.cancel_requested = False
            state.context.journal.put(state.intent)


def not_cancelled(outcome: Outcome) -> JaraiError | None:
    """Return why a request that has ended was not cancelled; None if it was."""
    if outcome.error is None or outcome.is_final or outcome.state is OutcomeState.PUBLISHED:
        return nothing_cancelled(outcome.reference, outcome.state)
    return outcome.error


def nothing_cancelled(reference: str, end: str) -> InvalidRequestError | None:
    """Return the error for a request that has ended, by its outcome or status; None if it was cancelled."""
    end = end.lower()
    if end == OutcomeState.CANCELLED:
        return None
    return InvalidRequestError([f"{reference!r} has ended as {end}: nothing was cancelled"])


def _stopped(state: JobState) -> ClosedError:
    error = ClosedError(f"{state.reference} is not watched any more, and JARAI has not answered its cancel")
    if state.context.journal.location is not None:
        error.advice = (
            "The journal has the cancel: the next run, or `Orchestrator.resume`, continues with it."
        )
    return error
