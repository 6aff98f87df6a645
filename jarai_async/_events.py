"""What users learn of their productions: events while they run, one outcome each at the end."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from attrs import field, frozen

from jarai_async._api.models import Deliverable, Production, ProductionRequest, Status
from jarai_async._errors import JaraiError, ProductionFailedError


class OutcomeState(StrEnum):
    """How a request ended."""

    PUBLISHED = "published"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    """Refused by the API: nothing was created."""
    UNCERTAIN = "uncertain"
    """The answer to the submit was lost: it may have been created. Not submitted again by itself;
    `Orchestrator.resolve` decides."""
    TIMED_OUT = "timed_out"
    """Your deadline is over: the production goes on at JARAI."""
    NOT_FOUND = "not_found"
    """JARAI did not know the production any more, for five minutes; it is not submitted again."""


@frozen(kw_only=True)
class Outcome:
    """The end of one request: what came of it, and what it took.

    `production` is None where none was created, or none is known. `files` maps each downloaded path to its
    deliverable. `error` says why it is not `published`, or, where it is, which download failed.
    `request_count` counts the API requests that were sent for it, downloads from blob storage not included.
    """

    request: ProductionRequest = field(repr=False)
    reference: str
    state: OutcomeState
    production: Production | None = None
    deliverables: tuple[Deliverable, ...] = field(default=(), repr=False)
    files: Mapping[Path, Deliverable] = field(factory=dict, repr=False)
    error: JaraiError | None = None
    submitted_at: datetime | None = None
    finished_at: datetime
    request_count: int = 0

    def __str__(self) -> str:
        files = f", {len(self.files)} files" if self.files else ""
        reason = f": {self.error}" if self.error else ""
        return f"{self.reference}: {self.state.replace('_', ' ')}{files}{reason}"

    @property
    def ok(self) -> bool:
        """Whether it was published and all that was asked for was collected."""
        return self.state is OutcomeState.PUBLISHED and self.error is None


@frozen(kw_only=True)
class Event:
    """Something that happened to one request; as text, one line.

    `reference` is the request's own, or else one made from its place in the batch. `sequence` counts the
    events of this request from 1. `observed_at` is when this process learned of it (UTC).
    """

    reference: str
    production: Production | None
    sequence: int
    observed_at: datetime

    def __str__(self) -> str:
        return f"{self.reference}: {self._what()}"

    def _what(self) -> str:
        raise NotImplementedError


@frozen(kw_only=True)
class Submitted(Event):
    """JARAI accepted the request; `production.id` identifies it from now on."""

    production: Production

    def _what(self) -> str:
        return f"submitted as {self.production.id}"


@frozen(kw_only=True)
class StatusChanged(Event):
    """The status is another: it changed after `changed_after` and no later than `observed_at`."""

    production: Production
    previous: Status
    changed_after: datetime

    @property
    def status(self) -> Status:
        """The new status."""
        return self.production.status

    def _what(self) -> str:
        return f"{self.previous} -> {self.production.status}"


@frozen(kw_only=True)
class DeliverablesReady(Event):
    """The list of deliverables is known. `final` is False in `AwaitingApproval`: they may change."""

    production: Production
    deliverables: tuple[Deliverable, ...]
    final: bool

    def _what(self) -> str:
        return f"{len(self.deliverables)} deliverables{'' if self.final else ', for review'}"


@frozen(kw_only=True)
class Downloaded(Event):
    """A deliverable stands whole at `path`."""

    production: Production
    deliverable: Deliverable
    path: Path

    def _what(self) -> str:
        return f"downloaded {self.path}"


@frozen(kw_only=True)
class Finished(Event):
    """The last event of a request."""

    outcome: Outcome

    def __str__(self) -> str:
        return str(self.outcome)


PRODUCTION_EXPIRED: Final = "PRODUCTION_EXPIRED"  # documented: never begun, safe to submit again at once


_ENDS: Final[Mapping[Status, OutcomeState]] = {
    Status.PUBLISHED: OutcomeState.PUBLISHED,
    Status.FAILED: OutcomeState.FAILED,
    Status.CANCELLED: OutcomeState.CANCELLED,
}


def end(production: Production) -> tuple[OutcomeState, ProductionFailedError | None]:
    """Give how a production ended, and why it failed. Only for a terminal status."""
    state = _ENDS[production.status]
    if state is not OutcomeState.FAILED:
        return state, None
    reason = (production.error_message or "no reason given").rstrip(".")
    message = f"production {production.id} failed: {reason}"
    if production.error_code == PRODUCTION_EXPIRED:
        message += ": it was never begun and is safe to submit again at once"
    return state, ProductionFailedError(message, code=production.error_code)
