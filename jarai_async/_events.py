"""What users learn of their productions: events while they run, one outcome each at the end."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from attrs import field, frozen

from jarai_async._errors import JaraiError
from jarai_async._models import Deliverable, Production, ProductionRequest, Status


class OutcomeState(StrEnum):
    """How a request ended."""

    PUBLISHED = "published"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    """Refused by the API: nothing was created."""
    UNCERTAIN = "uncertain"
    """The answer to the submit was lost: it may have been created. It is never submitted again."""
    TIMED_OUT = "timed_out"
    """Your deadline is over: the production goes on at JARAI."""


@frozen(kw_only=True)
class Outcome:
    """The end of one request: what came of it, and what it took.

    `production` is None where none was created, or none is known. `files` maps each downloaded path to its
    deliverable. `error` says why it is not `published`, or, where it is, which download failed.
    `requests` counts the API requests that were sent for it, downloads from blob storage not included.
    """

    request: ProductionRequest
    reference: str
    state: OutcomeState
    production: Production | None = None
    deliverables: tuple[Deliverable, ...] = field(default=(), repr=False)
    files: Mapping[Path, Deliverable] = field(factory=dict, repr=False)
    error: JaraiError | None = None
    submitted_at: datetime | None = None
    finished_at: datetime
    requests: int = 0

    @property
    def ok(self) -> bool:
        """Whether it was published and all that was asked for was collected."""
        return self.state is OutcomeState.PUBLISHED and self.error is None


@frozen(kw_only=True)
class Event:
    """Something that happened to one request.

    `reference` is the request's own, or else one made from its place in the batch. `sequence` counts the
    events of this request from 1. `observed_at` is when this process learned of it (UTC).
    """

    reference: str
    production: Production | None
    sequence: int
    observed_at: datetime


@frozen(kw_only=True)
class Submitted(Event):
    """JARAI accepted the request; `production.id` identifies it from now on."""

    production: Production


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


@frozen(kw_only=True)
class DeliverablesReady(Event):
    """The list of deliverables is known. `final` is False in `AwaitingApproval`: they may change."""

    production: Production
    deliverables: tuple[Deliverable, ...]
    final: bool


@frozen(kw_only=True)
class Downloaded(Event):
    """A deliverable stands whole at `path`."""

    production: Production
    deliverable: Deliverable
    path: Path


@frozen(kw_only=True)
class Finished(Event):
    """The last event of a request."""

    outcome: Outcome
