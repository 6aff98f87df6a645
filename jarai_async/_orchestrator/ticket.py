"""The application's handle on one submitted request."""

import asyncio
from collections.abc import Generator
from datetime import datetime
from typing import Any

from jarai_async._api.models import Id, Production, ProductionRequest, Status
from jarai_async._errors import ClosedError, ConfigurationError
from jarai_async._events import Outcome, OutcomeState, production_keys
from jarai_async._journal.history import EventStream
from jarai_async._orchestrator.cancel import not_cancelled
from jarai_async._orchestrator.job import Job
from jarai_async._orchestrator.jobs import Jobs
from jarai_async._orchestrator.state import JobState
from jarai_async._printable import printable
from jarai_async._tasks import start
from jarai_async._waiting import Waiting


class Ticket:
    """One request of an `Orchestrator`. Await it for its `Outcome`.

    A production that fails, is rejected or exceeds its deadline has an outcome, and raises nothing. Awaiting
    raises ClosedError if the orchestrator's block was left before the end, and InvalidRequestError if its
    reference belongs to another request in the journal.

    `asyncio.wait` takes only tasks, and `TaskGroup.create_task` only coroutines: give them `ticket.task` and
    `ticket.outcome()`. Cancelling either ends the waiting, not the job.
    """

    def __init__(self, jobs: Jobs, job: Job, task: asyncio.Future[Outcome]) -> None:
        self._jobs = jobs
        self._job = job
        self._task = task
        self._waiter: asyncio.Task[Outcome] | None = None

    def __repr__(self) -> str:
        known = f"{self.production_id} {self.status}" if self.production_id else "not submitted yet"
        end = "" if not self.done else ", not watched any more" if self._known_outcome is None else ", ended"
        return printable(f"<Ticket {self.reference!r} {known}{end}>")

    def __await__(self) -> Generator[Any, None, Outcome]:
        return self.outcome().__await__()

    @property
    def task(self) -> asyncio.Task[Outcome]:
        """A task that waits for the outcome; a new one if it was cancelled."""
        if self._waiter is None or self._waiter.cancelled():
            self._waiter = start(self.outcome, name=f"{self.reference} outcome")
        return self._waiter

    async def outcome(self) -> Outcome:
        """Wait for the outcome. Raises ClosedError, InvalidRequestError."""
        current = asyncio.current_task()
        before = current.cancelling() if current else 0
        try:
            return await asyncio.shield(self._task)
        except asyncio.CancelledError:
            if not self._task.cancelled() or (current and current.cancelling() > before):
                raise  # the caller was cancelled, not the job
        raise ClosedError(f"{self.reference} is not watched any more ({self._last_known()})")

    def _last_known(self) -> str:
        if self.production_id is not None:
            return self.production_id
        state = self._job.state
        return f"may have been submitted, key {state.key}" if state.may_exist else "not submitted"

    @property
    def request(self) -> ProductionRequest:
        """The request."""
        return self._job.state.request

    @property
    def reference(self) -> str:
        """The reference of the request, or the one that the orchestrator gave it."""
        return self._job.state.reference

    @property
    def done(self) -> bool:
        """Whether the outcome is known, or the job is not watched any more."""
        return self._task.done()

    @property
    def production(self) -> Production | None:
        """The production as last seen; None before the request was accepted."""
        return self._job.state.production

    @property
    def production_id(self) -> Id | None:
        """JARAI's identifier; None before the request was accepted."""
        return self.production.id if self.production else None

    @property
    def status(self) -> Status | None:
        """The last known status; None before the request was accepted."""
        return self.production.status if self.production else None

    @property
    def expected_finish(self) -> datetime | None:
        """When the production is expected to end (UTC): the mean, learned from earlier productions.

        Slots, the daily quotas and an outage before it are counted in. A request that waits for tomorrow's
        quota ends tomorrow, and an outage is expected to last as long again as it has lasted. How long a
        person or a rejected key takes is not known. None once it is done.
        """
        return None if self.done else self._job.expected_finish

    @property
    def waiting_for(self) -> Waiting | None:
        """What the request waits for now; None while it is sent, produced or collected, and once it is done.

        This is what keeps it from going on at present. Something else may follow: a request with a slot may
        wait for the rate limit.
        """
        return None if self.done else self._job.waiting_for

    @property
    def cancel_requested(self) -> bool:
        """Whether a cancel was requested that JARAI has not answered yet, also by an earlier process."""
        intent = self._job.state.intent
        return intent is not None and intent.cancel_requested

    @property
    def _known_outcome(self) -> Outcome | None:
        was_left = not self.done or self._task.cancelled() or self._task.exception() is not None
        return None if was_left else self._task.result()

    def to_dict(self) -> dict[str, Any]:
        """Return what is known of the request as JSON values, without signed URLs and idempotency keys.

        | key                      | value                                                              |
        |--------------------------|--------------------------------------------------------------------|
        | `reference`              | text                                                               |
        | `productionId`, `status` | text, or null before it was accepted                               |
        | `currentStep`            | integer: the step that JARAI reported last (inferred); or null      |
        | `topic`, `accountId`     | text                                                               |
        | `done`                   | true or false                                                      |
        | `expectedFinish`         | text: ISO 8601 in UTC; null once `done`                            |
        | `waitingFor`             | object: `Waiting.to_dict`; null if it waits for nothing            |
        | `cancelRequested`        | true or false: a cancel was requested and is not answered yet      |
        | `outcome`                | text: the state of the outcome; null before it is known            |

        Once the outcome is known, it also has all other keys of `Outcome.to_dict`.
        """
        finish, waiting, outcome = self.expected_finish, self.waiting_for, self._known_outcome
        end = {"outcome": None} if outcome is None else outcome.to_dict()
        return (
            end
            | production_keys(self.reference, self.production)
            | {"currentStep": None if self.production is None else self.production.current_step}
            | {"topic": self.request.topic, "accountId": self.request.account_id, "done": self.done}
            | {"expectedFinish": None if finish is None else finish.isoformat()}
            | {"waitingFor": None if waiting is None else waiting.to_dict()}
            | {"cancelRequested": self.cancel_requested}
        )

    async def recorded(self) -> None:
        """Return when the journal has the request: from then on it survives a crash of the process.

        The ticket of a request that has ended has its outcome then, unless files are downloaded again. This
        waits neither for a slot nor for JARAI. A web application can answer 202 then, and call
        `Orchestrator.resume` when it starts again.

        Raises ConfigurationError without a journal; JournalError where the request could not be written: then
        it is not submitted; InvalidRequestError where its reference belongs to another request in the
        journal; ClosedError if the orchestrator's block was left before.
        """
        state = self._job.state
        journal = state.context.journal
        if journal.location is None:
            raise ConfigurationError("without a journal no request survives the process: pass `journal`")
        recorded = start(state.wait_recorded)
        either: list[asyncio.Future[Any]] = [recorded, self._task]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            recorded.cancel()
        if not state.is_recorded and (error := (await self.outcome()).error) is not None:
            raise error

    def events(self, after: int = 0) -> EventStream:
        """Iterate over the events of this request behind a cursor: from the first one to `Finished`.

        After a `Finished` whose outcome was not final, more follow if the request was run again.
        With a journal these are also the events of earlier processes. Those that are read from it have no
        `raw` and no signed URLs. The iteration raises ClosedError if the request is not watched any more, and
        JournalError. Raises InvalidRequestError for a cursor behind the newest event of all requests.
        """
        history = self._job.state.context.journal.history
        return EventStream(history, after, self.reference, lambda: self.done, self._check_end)

    def _check_end(self) -> None:
        if self._job.state.is_replaced:
            return  # another ticket continues
        if self._task.cancelled():
            raise ClosedError(f"{self.reference} is not watched any more ({self._last_known()})")
        if (error := self._task.exception()) is not None:
            raise error

    async def cancel(self) -> None:
        """Cancel the request: return once it is certain that it is not sent, or once JARAI cancels it.

        A request that was not sent yet never is. An accepted production is cancelled at JARAI, however long
        that takes in an outage; meanwhile its deadline does not end it. The cancel is in the journal before
        it is sent, and the next process goes on with it, also after a crash, and although the caller of this
        method was cancelled: a web handler can wait for a few seconds under `asyncio.timeout`. A second
        cancel waits for the same answer.

        Raises InvalidRequestError where it has ended otherwise: nothing was cancelled. UncertainSubmitError
        where its submit is in doubt, with the commands that decide it: the cancel is recorded, so a
        production that you name is cancelled, and with `resubmit` the request ends as cancelled. ApiError
        where JARAI refuses: then the production continues. JournalError where the cancel could not be
        written: then it is not sent. ClosedError where the orchestrator's block was left before JARAI
        answered. After the block an accepted production is cancelled at once and not recorded, and
        NotSentError, NoResponseError and InvalidResponseError may be raised, too.
        """
        outcome = self._known_outcome
        if outcome is not None and (outcome.is_final or outcome.state is OutcomeState.PUBLISHED):
            if error := not_cancelled(outcome):
                raise error
        elif not self.done or self._jobs.is_open:
            if self.done:
                self._continue()
            await self._job.cancel()
        elif self.production is None:
            raise ClosedError(f"{self.reference} is not watched any more ({self._last_known()})")
        else:
            await self._job.cancel_unwatched()

    def _continue(self) -> None:
        """Run a request again that is not watched any more."""
        old = self._job.state
        state = JobState(old.context, old.request, old.reference, intent=old.intent, has_ticket=True)
        self._job, self._task = self._jobs.running(old.reference) or self._jobs.start(state)
        self._waiter = None
