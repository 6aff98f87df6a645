"""All that is known of one job while it runs, and what all jobs of an orchestrator share."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Self

from attrs import define, field

from jarai_async import _clock
from jarai_async._api.models import Deliverable, Polling, Production, ProductionRequest
from jarai_async._downloads.folder import Folder
from jarai_async._engine import Engine
from jarai_async._events import Event, Finished, OutcomeState, SavedFile, Submitted
from jarai_async._http.request_log import RequestLog
from jarai_async._http.retry import Retrier
from jarai_async._http.sender import SubmitPermit
from jarai_async._journal.entries import Intent
from jarai_async._journal.protocol import Journal
from jarai_async._orchestrator.slot import Slot, Slots
from jarai_async._orchestrator.webhook_match import WebhookMatcher
from jarai_async._orchestrator.webhook_router import WebhookRouter
from jarai_async._polling.watch import Watch

_log = logging.getLogger("jarai_async")


@define(repr=False)
class JobContext:
    """What all jobs of one orchestrator share. `deadline` is in seconds from acceptance.

    `journal` is set when the orchestrator's block is entered, and nothing afterwards.
    """

    engine: Engine
    journal: Journal
    slots: Slots
    router: WebhookRouter
    polling: Polling
    deadline: float | None
    folder: Folder
    """Receives a folder for each production."""
    download_slots: asyncio.Semaphore
    final_retrier: Retrier
    """How long to try to collect the final files."""
    collect_for_review: bool
    expired_retries: int
    productions: dict[str, str]
    """The reference of each production that this orchestrator has watched, by its id."""
    matcher: WebhookMatcher


@define(eq=False, repr=False)
class JobState:
    """One request, from its submit to its outcome.

    - `slot`: that of its production; without one it gets its own, which is not acquired.
    - `publish`: takes each event, for the reader of a run. `on_end` is called once these were delivered, with
      the exception of a job that has no outcome.
    - `deadline`: of a submit that sets it. `intent` has the deadline of the request.
    - `intent`: what the journal knows of it, once that was read. `is_recorded`: it was written, or, if the
      request has ended, its outcome is known.
    - `production`: as last seen, once it was accepted.
    - `permit`: of the submit that is being made. `in_doubt`: an attempt may have created a production.
    - `may_submit`: False once no further submit may be sent.
    - `has_ticket`: it was started for a ticket, so its events are not repeated to the reader of a run.
    - `cancel_requested`: a cancel was requested, so it is not submitted again.
    - `is_replaced`: the user decided otherwise what its submit created, so another job takes its place.
    - `has_outcome`: the outcome was published. The task may still be ending.
    - `final_list_published`: the event of the final deliverables was handled, perhaps by an earlier process.
    """

    context: JobContext
    request: ProductionRequest
    reference: str
    slot: Slot = field()
    publish: "Callable[[JobState, Event], None] | None" = None
    on_end: Callable[[BaseException | None], None] | None = None
    intent: Intent | None = None
    deadline: float | None = None
    log: RequestLog = field()
    watch: Watch | None = None
    accepted: Production | None = None
    permit: SubmitPermit | None = None
    in_doubt: bool = False
    may_submit: bool = True
    has_ticket: bool = False
    cancel_requested: bool = False
    is_replaced: bool = False
    has_outcome: bool = False
    sequence: int = 0
    deliverables: tuple[Deliverable, ...] = ()
    files: dict[Path, SavedFile] = field(factory=dict)
    final_list_published: bool = False
    is_recorded: bool = field()
    _recorded: asyncio.Future[None] | None = field(init=False, default=None)  # made for the first who waits

    @slot.default
    def _slot(self) -> Slot:
        return Slot(self.context.slots)

    @log.default
    def _log(self) -> RequestLog:
        return RequestLog(waits_for_key=True, name=self.reference)

    @is_recorded.default
    def _is_recorded(self) -> bool:
        return self.intent is not None

    @classmethod
    def of(cls, context: JobContext, intent: Intent, *, has_ticket: bool) -> Self:
        """Return the state of a request of the journal that no run has drawn."""
        return cls(context, intent.request(), intent.reference, intent=intent, has_ticket=has_ticket)

    @property
    def production(self) -> Production | None:
        """The production as last seen."""
        return self.watch.production if self.watch is not None else self.accepted

    @property
    def seconds_in_status(self) -> float:
        """How long the production is known to have had its status; 0 while it is not watched."""
        return _clock.monotonic() - self.watch.since if self.watch is not None else 0.0

    @property
    def is_sending(self) -> bool:
        """Whether a submit is on its way, without a response."""
        return self.permit is not None and self.permit.is_sending

    @property
    def may_exist(self) -> bool:
        """Whether a submit was sent that may have created a production, and none is known."""
        return self.production is None and (self.in_doubt or self.is_sending)

    @property
    def is_resolved(self) -> bool:
        """Whether the user decided what its submit created, and may still decide otherwise."""
        return self.intent is not None and self.intent.resolved

    @property
    def key(self) -> str:
        """The idempotency key of its submit."""
        return self.intent.key if self.intent is not None else ""

    @property
    def submitted_at(self) -> datetime | None:
        """When JARAI accepted it (UTC)."""
        if self.intent is None or self.intent.submitted_at is None:
            return None
        return datetime.fromtimestamp(self.intent.submitted_at, UTC)

    def emit(self, kind: type[Event], **fields: Any) -> None:
        """Record the next event. It is published when it is in the journal."""
        journal = self.context.journal
        self.sequence += 1
        event = kind(
            reference=self.reference,
            production=self.production,
            sequence=self.sequence,
            observed_at=_clock.utc(),
            cursor=journal.next_cursor(),
            **fields,
        )
        _log_event(event)
        if self.intent is not None:
            self.intent.record(event)
            if self.has_ticket:  # whose readers keep cursors
                self.intent.acknowledged = event.sequence
        journal.append(
            self.intent, event, None if self.publish is None else partial(self.publish, self, event)
        )

    def set_recorded(self) -> None:
        """Set `is_recorded`, and end the waiting for it."""
        self.is_recorded = True
        if self._recorded is not None and not self._recorded.done():
            self._recorded.set_result(None)

    async def wait_recorded(self) -> None:
        """Wait until `is_recorded`."""
        if not self.is_recorded:
            if self._recorded is None:
                self._recorded = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._recorded)

    def acknowledge(self, event: Event) -> None:
        """Record that the reader of a run has handled an event: after a restart it is not repeated."""
        if self.intent is not None and event.sequence > self.intent.acknowledged:
            self.intent.acknowledged = event.sequence
            self.context.journal.put(self.intent)


def _log_event(event: Event) -> None:
    """Log a submit and an end; an uncertain one is logged where it is found.

    A rejection is a warning, and so is an end that is not final: a person has to look at them.
    """
    level, advice = logging.INFO, ""
    if isinstance(event, Finished):
        outcome = event.outcome
        if outcome.state is OutcomeState.UNCERTAIN:
            return
        if outcome.state is OutcomeState.REJECTED or not outcome.is_final:
            level = logging.WARNING
        if outcome.state is OutcomeState.REJECTED and not outcome.is_final:
            advice = " Nothing was created: the next run, `resume` after a restart, or `retry` submits it."
    elif not isinstance(event, Submitted):
        return
    if _log.isEnabledFor(level):
        text = f"{str(event).rstrip('.')}.{advice}" if advice else event
        _log.log(level, "%s", text, extra={"jarai": event.to_dict()})
