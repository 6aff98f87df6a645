"""The running jobs of an orchestrator, by task and by reference."""

import asyncio
from collections.abc import Iterator, Mapping
from contextvars import Context
from functools import partial

from jarai_async._errors import ClosedError, ConfigurationError, InvalidRequestError
from jarai_async._events import Outcome
from jarai_async._orchestrator.job import Job
from jarai_async._orchestrator.state import JobState
from jarai_async._tasks import start


class Jobs:
    """The jobs that run, each in its own task. A reference has one job that has no outcome, at most."""

    def __init__(self) -> None:
        self.finished: int = 0
        """The number of jobs that have ended with an outcome."""
        self.is_open: bool = False
        """Whether jobs may be started."""
        self._jobs: dict[asyncio.Task[Outcome], Job] = {}
        self._newest: dict[str, asyncio.Task[Outcome]] = {}  # the task of the last job, by reference
        self._on_end, self._context = self._ended, Context()  # one of each for all jobs

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    @property
    def tasks(self) -> Mapping[asyncio.Task[Outcome], Job]:
        """The running jobs by their tasks; it changes as they start and end."""
        return self._jobs

    def check_open(self) -> None:
        """Raise ConfigurationError where no job may be started."""
        if not self.is_open:
            raise ConfigurationError("use the orchestrator inside its `async with` block")

    def close(self) -> None:
        """Start no job and send no submit from now on."""
        self.is_open = False
        for job in self:
            job.state.may_submit = False

    def running(self, reference: str) -> tuple[Job, asyncio.Task[Outcome]] | None:
        """Return the job of a request that has no outcome yet, with its task."""
        task = self._newest.get(reference)
        if task is None or (job := self._jobs[task]).state.has_outcome:
            return None
        return job, task

    def start(self, state: JobState) -> tuple[Job, asyncio.Task[Outcome]]:
        """Start a job. Raises ConfigurationError, and InvalidRequestError where its reference is running."""
        self.check_open()
        if self.running(state.reference):
            raise InvalidRequestError([f"the reference {state.reference!r} is already running"])
        job = Job(state)
        task = start(job.run, name=f"jarai {state.reference}")
        self._jobs[task] = job
        self._newest[state.reference] = task
        task.add_done_callback(self._on_end, context=self._context)
        return job, task

    def _ended(self, task: asyncio.Task[Outcome]) -> None:
        job = self._jobs.pop(task)
        job.ended(task)
        state = job.state
        error: BaseException | None = None
        if self._newest.get(state.reference) is task:
            del self._newest[state.reference]
        if not state.is_replaced:  # else another ticket continues
            error = (
                ClosedError("the orchestrator's block has ended") if task.cancelled() else task.exception()
            )
            self.finished += error is None
        journal = state.context.journal
        if state.on_end is not None:
            journal.call_after_events(partial(state.on_end, error))
        journal.history.wake(state.reference)
