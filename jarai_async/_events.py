"""What an orchestrator reports: events while a production runs, and one outcome for each request."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from attrs import field, frozen

from jarai_async._api.models import Deliverable, Production, ProductionRequest, Status
from jarai_async._errors import (
    AuthenticationError,
    JaraiError,
    JournalError,
    PermissionDeniedError,
    ProductionFailedError,
)
from jarai_async._printable import printable


class OutcomeState(StrEnum):
    """How a request ended."""

    PUBLISHED = "published"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    """The API rejected the submit, or it was not sent: no production was created."""
    UNCERTAIN = "uncertain"
    """No usable response to the submit arrived, so a production may have been created. It is not submitted
    again; call `Orchestrator.resolve` with what JARAI Studio shows."""
    TIMED_OUT = "timed_out"
    """Your deadline passed. The production continues at JARAI."""
    NOT_FOUND = "not_found"
    """JARAI responded for five minutes that it does not know the production. It is not submitted again."""
    INACCESSIBLE = "inaccessible"
    """JARAI refused for an hour to show the production, for example with 403 (the partner is not active, or
    the key lacks a scope). The production continues at JARAI: run it again once the cause is corrected."""


@frozen(kw_only=True)
class SavedFile:
    """A deliverable on this machine.

    `size` is in bytes and `md5` in hexadecimal, both of the file on the disk. `modified` is its modification
    time in nanoseconds since 1970. `verified_by` says what the file was checked against: the name of a
    checksum (such as "md5"), or "length", or "chunks", the end of a chunked body. `final` is whether the
    production had ended: then the file does not change any more. `content_encoding` is the encoding in which
    blob storage keeps the file, such as "gzip": it is saved as it is stored, not decoded. Most have None.
    """

    deliverable: Deliverable
    size: int
    md5: str
    modified: int
    verified_by: str
    final: bool = False
    content_encoding: str | None = None


@frozen(kw_only=True)
class Outcome:
    """The result of one request.

    The state says whether it is final. The journal returns a final outcome again when the request is run
    again:

    | state       | final | what the next run with the same journal does                                  |
    |-------------|-------|-------------------------------------------------------------------------------|
    | `published` | yes   | returns the outcome; not final while a file is missing: that is downloaded     |
    | `failed`    | yes   | returns the outcome; `Orchestrator.retry` submits the request again            |
    | `cancelled` | yes   | returns the outcome; `Orchestrator.retry` submits the request again            |
    | `rejected`  | yes   | returns the outcome; `Orchestrator.retry`, or other content, submits it again  |
    | `uncertain` | no    | returns the outcome, until `Orchestrator.resolve` was called                   |
    | `timed_out` | no    | watches the production again                                                  |
    | `not_found` | no    | reads the production again; the same for `inaccessible`                       |

    A request is `rejected` and not final if the journal could not be written, or if JARAI rejected the API
    key (401) or what the key may do (403): the next run submits it.

    `production` is the last known snapshot; None if no production was created or none is known. `files` maps
    the path of each downloaded file to its deliverable. `error` is the reason why the production was not
    published or, if it was, why a file was not downloaded. `submitted_at` and `finished_at` are in UTC.
    `request_count` is the number of API requests that were sent for it, without downloads from blob storage.
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
        return printable(f"{self.reference}: {self.state.replace('_', ' ')}{files}{reason}")

    @property
    def ok(self) -> bool:
        """Whether the production was published and every requested file was downloaded."""
        return self.state is OutcomeState.PUBLISHED and self.error is None

    @property
    def is_final(self) -> bool:
        """Whether running the request again returns this outcome, and sends nothing."""
        if self.state is OutcomeState.PUBLISHED:
            return self.ok
        if self.state is OutcomeState.REJECTED:
            return not isinstance(self.error, JournalError | AuthenticationError | PermissionDeniedError)
        return self.state in (OutcomeState.FAILED, OutcomeState.CANCELLED)


@frozen(kw_only=True)
class Event:
    """Base class of all events; `str()` of an event is one printable line.

    `reference` is that of the request or, if it has none, the one that the orchestrator made. `sequence`
    counts the events of this request from 1. `observed_at` is the time (UTC) at which this process learned of
    the event. `cursor` is its place among all events of the orchestrator: `events(after=cursor)` continues
    behind it, also after a restart with the same journal.
    """

    reference: str
    production: Production | None
    sequence: int
    observed_at: datetime
    cursor: int = 0

    def __str__(self) -> str:
        return printable(f"{self.reference}: {self._describe()}")

    def _describe(self) -> str:
        raise NotImplementedError


@frozen(kw_only=True)
class Submitted(Event):
    """JARAI accepted the request; `production.id` identifies it from now on."""

    production: Production

    def _describe(self) -> str:
        return f"submitted as {self.production.id}"


@frozen(kw_only=True)
class StatusChanged(Event):
    """The status changed, after `changed_after` and no later than `observed_at` (both UTC)."""

    production: Production
    previous: Status
    changed_after: datetime

    @property
    def status(self) -> Status:
        """The new status."""
        return self.production.status

    def _describe(self) -> str:
        return f"{self.previous} -> {self.production.status}"


@frozen(kw_only=True)
class DeliverablesReady(Event):
    """The deliverables were listed. `final` is False in `AwaitingApproval`, where they may still change."""

    production: Production
    deliverables: tuple[Deliverable, ...]
    final: bool

    def _describe(self) -> str:
        return f"{len(self.deliverables)} deliverables{'' if self.final else ', for review'}"


@frozen(kw_only=True)
class Downloaded(Event):
    """A deliverable was downloaded completely to `path`; `saved` says how it was verified."""

    production: Production
    path: Path
    saved: SavedFile

    @property
    def deliverable(self) -> Deliverable:
        """The deliverable that was downloaded."""
        return self.saved.deliverable

    def _describe(self) -> str:
        return f"downloaded {self.path}"


@frozen(kw_only=True)
class Finished(Event):
    """The last event of a request."""

    outcome: Outcome

    def __str__(self) -> str:
        return str(self.outcome)


PRODUCTION_EXPIRED: Final = "PRODUCTION_EXPIRED"  # documented: never started, safe to submit again at once

_FINAL_STATES: Final[Mapping[Status, OutcomeState]] = {
    Status.PUBLISHED: OutcomeState.PUBLISHED,
    Status.FAILED: OutcomeState.FAILED,
    Status.CANCELLED: OutcomeState.CANCELLED,
}


def final_state(production: Production) -> tuple[OutcomeState, ProductionFailedError | None]:
    """Return how a production with a terminal status ended and, if it failed, the error."""
    state = _FINAL_STATES[production.status]
    if state is not OutcomeState.FAILED:
        return state, None
    reason = (production.error_message or "no reason given").rstrip(".")
    message = f"production {production.id} failed: {reason}"
    if production.error_code == PRODUCTION_EXPIRED:
        message += "; it was never started and is safe to submit again at once"
    return state, ProductionFailedError(message, code=production.error_code)
