"""What an orchestrator reports: events while a production runs, and one outcome for each request."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from attrs import field, frozen

from jarai_async._api.models import Deliverable, Production, ProductionRequest, Status
from jarai_async._errors import (
    AuthenticationError,
    JaraiError,
    JournalError,
    NotSentError,
    PermissionDeniedError,
    ProductionFailedError,
)
from jarai_async._printable import printable
from jarai_async._urls import without_queries

# what says nothing about the request: another key, or another time, may do
_NOT_REJECTED_FOR_GOOD = (
    AuthenticationError,
    JournalError,
    NotSentError,
    PermissionDeniedError,
)


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

    `size` is in bytes and `md5` in hexadecimal, both of the file on the disk; `md5` is None where neither
    JARAI nor blob storage stated one. `modified` is its modification time in nanoseconds since 1970.
    `verified_by` says what the file was checked against: the name of a checksum (such as "md5"), or "length",
    or "chunks", the end of a chunked body. `final` is whether the production had ended: then the file does
    not change any more. `content_encoding` is the encoding in which blob storage sent the file, such as
    "gzip": it is not decoded. Most have None.
    """

    deliverable: Deliverable
    size: int
    md5: str | None
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

    A request is `rejected` and not final if the journal could not be written, if JARAI rejected the API key
    (401) or what the key may do (403), or if JARAI could not be reached and never was before: the next run
    submits it.

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

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON values, without signed URLs and idempotency keys.

        All keys are always present. `error` is a text, in which URLs have no query strings.

        | key                         | value                                                            |
        |-----------------------------|------------------------------------------------------------------|
        | `reference`                 | text                                                             |
        | `productionId`, `status`    | text, or null if no production is known                          |
        | `outcome`                   | text: the `state`                                                |
        | `ok`, `isFinal`             | true or false                                                    |
        | `deliverables`              | list of text: their types                                        |
        | `files`                     | integer: how many were downloaded                                |
        | `downloaded`                | list of objects with `type` and `path`, both text                |
        | `requests`                  | integer: the `request_count`                                     |
        | `error`, `errorCode`        | text, or null: without an error, or without a code of JARAI      |
        | `submittedAt`, `finishedAt` | text: ISO 8601 in UTC; `submittedAt` is null if not accepted      |
        """
        error, files = self.error, self.files.items()
        return production_keys(self.reference, self.production) | {
            "outcome": str(self.state),
            "ok": self.ok,
            "isFinal": self.is_final,
            "deliverables": [deliverable.type for deliverable in self.deliverables],
            "files": len(files),
            "downloaded": [{"type": file.type, "path": str(path)} for path, file in files],
            "requests": self.request_count,
            "error": None if error is None else without_queries(str(error)),
            "errorCode": None if error is None else error.code,
            "submittedAt": None if self.submitted_at is None else self.submitted_at.isoformat(),
            "finishedAt": self.finished_at.isoformat(),
        }

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
            return not isinstance(self.error, _NOT_REJECTED_FOR_GOOD)
        return self.state in (OutcomeState.FAILED, OutcomeState.CANCELLED)


def production_keys(reference: str, production: Production | None) -> dict[str, Any]:
    """Return the keys with which events, outcomes and tickets name a request as JSON."""
    id_, status = (None, None) if production is None else (production.id, str(production.status))
    return {"reference": reference, "productionId": id_, "status": status}


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

    def to_dict(self) -> dict[str, Any]:
        """Return the event as JSON values, without signed URLs and idempotency keys.

        `jarai run` prints these objects. Later versions may add keys.

        | event               | key                      | value                                          |
        |---------------------|--------------------------|------------------------------------------------|
        | all                 | `event`                  | text: the name of the class                    |
        |                     | `reference`              | text                                           |
        |                     | `productionId`, `status` | text, or null if no production is known        |
        |                     | `sequence`, `cursor`     | integers                                       |
        |                     | `observedAt`             | text: ISO 8601 in UTC                          |
        | `StatusChanged`     | `previous`               | text: a status                                 |
        |                     | `changedAfter`           | text: ISO 8601 in UTC                          |
        | `DeliverablesReady` | `deliverables`           | list of text: their types                      |
        |                     | `final`                  | true or false                                  |
        | `Downloaded`        | `type`, `path`           | text                                           |
        |                     | `size`                   | integer: bytes                                 |
        | `Finished`          |                          | the keys of `Outcome.to_dict`                  |
        """
        return (
            {"event": type(self).__name__}
            | production_keys(self.reference, self.production)
            | {"sequence": self.sequence, "cursor": self.cursor, "observedAt": self.observed_at.isoformat()}
            | self._details()
        )

    def _details(self) -> dict[str, Any]:
        return {}

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

    def _details(self) -> dict[str, Any]:
        return {"previous": str(self.previous), "changedAfter": self.changed_after.isoformat()}

    def _describe(self) -> str:
        return f"{self.previous} -> {self.production.status}"


@frozen(kw_only=True)
class DeliverablesReady(Event):
    """The deliverables were listed. `final` is False in `AwaitingApproval`, where they may still change."""

    production: Production
    deliverables: tuple[Deliverable, ...]
    final: bool

    def _details(self) -> dict[str, Any]:
        return {"final": self.final, "deliverables": [deliverable.type for deliverable in self.deliverables]}

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

    def _details(self) -> dict[str, Any]:
        return {"type": self.deliverable.type, "path": str(self.path), "size": self.saved.size}

    def _describe(self) -> str:
        return f"downloaded {self.path}"


@frozen(kw_only=True)
class Finished(Event):
    """The last event of a request."""

    outcome: Outcome

    def __str__(self) -> str:
        return str(self.outcome)

    def _details(self) -> dict[str, Any]:
        return self.outcome.to_dict()


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
