"""What the journal stores about one request, from before its submit until its end.

A production costs money, so each step is written before it is taken:

    PLANNED -> SENDING -> ACCEPTED -> ENDED
                  |
                  v
               IN_DOUBT   the response was lost, or the process ended before it came

- SENDING is on the disk before the first byte is sent. After a restart it only proves that JARAI may have
  received the request, so it becomes IN_DOUBT. Such a request is not sent again, unless the server honours
  idempotency keys or the user decides to.
- A submit that certainly created nothing (JARAI rejected it, or there was no connection) returns to PLANNED.
  Once a request is in doubt, a later rejection proves nothing about the first attempt.
- ENDED is written when the reader has taken the last event. After a restart the events that the reader had
  not taken are delivered again. Events are differences between the last acknowledged state and the current
  one, so the journal only stores the acknowledged state. A request whose outcome is not final
  (`Outcome.is_final`) is not ENDED: the next run resumes it.

Pure. An entry never holds the API key, a signed URL or a response field that this version does not know.
"""

import json
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

from attrs import define, evolve, field

from jarai_async import _errors
from jarai_async._api.codec import decode, decode_request, encode
from jarai_async._api.models import Deliverable, Production, ProductionRequest, parse_id
from jarai_async._errors import (
    InvalidRequestError,
    InvalidResponseError,
    JaraiError,
    JournalError,
    ProductionFailedError,
)
from jarai_async._events import (
    DeliverablesReady,
    Downloaded,
    Event,
    Finished,
    Outcome,
    OutcomeState,
    SavedFile,
    StatusChanged,
    Submitted,
)

T = TypeVar("T")

Row = tuple[str, str, str, bytes, str, str]  # reference, account, key, body, stage, other fields as JSON
_DECODING_ERRORS: Final = (  # raised while decoding a row that this library did not write
    ArithmeticError,
    AttributeError,
    InvalidResponseError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
_ERRORS: Final = {
    kind.__name__: kind
    for kind in vars(_errors).values()
    if isinstance(kind, type) and issubclass(kind, JaraiError) and kind is not InvalidRequestError
}
_NOT_FOUND: Final = ("vanished", "not_found")  # earlier versions recorded them as final


# Bytes that are taken before a submit, besides the length of its body, so that its response, which may repeat
# the body's text, can be stored on a full disk.
_ROW_SPACE: Final = 3000
_MAX_REASON: Final = 200  # characters of the reason for a doubt, of 12 bytes each at most


class Stage(StrEnum):
    """How far a request has come."""

    PLANNED = "planned"
    SENDING = "sending"
    IN_DOUBT = "in doubt"
    ACCEPTED = "accepted"
    ENDED = "ended"


@define(eq=False)
class Intent:
    """One request. Times are Unix seconds.

    - `key_honoured`: whether the server honoured idempotency keys when it was first sent, at `sent_at`: one
      that has begun to since then does not know this key.
    - `production`: its last acknowledged state; it has had this status since `since`.
    - `sequence`: the number of the last acknowledged event.
    - `listed`: whether the final list of deliverables was acknowledged.
    - `webhook_pending`: a webhook announced a change that no acknowledged event has reported yet.
    - `files`: the downloaded files that were acknowledged, by path.
    - `expired`: ids of earlier productions of this request, which JARAI never began to produce.
    - `earlier`: ids of its productions before the user had it submitted again.
    - `doubt`: the error that left its submit in doubt, if it is known.
    - `resolved`: the user decided what became of its submit, and may still decide otherwise; or JARAI does
      not find its production, so the user may name another.
    """

    reference: str
    account_id: str
    body: bytes
    key: str
    stage: Stage = Stage.PLANNED
    sent_at: float | None = None
    key_honoured: bool = False
    submitted_at: float | None = None
    production: Production | None = None
    since: float | None = None
    sequence: int = 0
    listed: bool = False
    webhook_pending: bool = False
    files: dict[str, dict[str, Any]] = field(factory=dict)
    expired: list[str] = field(factory=list)
    earlier: list[str] = field(factory=list)
    doubt: JaraiError | None = field(default=None, repr=False)
    resolved: bool = False
    outcome: dict[str, Any] | None = None

    @property
    def outcome_state(self) -> str | None:
        """The recorded outcome's state; None before the request has ended."""
        return (self.outcome or {}).get("state") if self.stage is Stage.ENDED else None

    @property
    def created_nothing(self) -> bool:
        """Whether no production was created for it, so that its request may still be changed."""
        return self.stage is Stage.PLANNED or self.outcome_state == OutcomeState.REJECTED

    def acknowledge(self, event: Event) -> None:
        """Record that the reader has taken an event."""
        self.sequence = max(self.sequence, event.sequence)
        if event.production is not None:
            if event.production.id in self.expired and not isinstance(event, Finished):
                return  # a slow reader: this production has since been replaced
            self.production = evolve(event.production, raw={})  # `raw` would stay in memory for hours
        match event:
            case Submitted():
                self.since = event.observed_at.timestamp()
            case StatusChanged():
                self.since = (event.changed_after.timestamp() + event.observed_at.timestamp()) / 2
                self.webhook_pending = False
            case DeliverablesReady(final=True):
                self.listed = True
            case Downloaded():
                self.files[str(event.path)] = _saved_fields(event.saved)
            case Finished() if self.stage is Stage.ENDED:
                pass  # it was recorded by an earlier run, perhaps with files that are not on the disk now
            case Finished(outcome=outcome) if outcome.is_final:
                self.stage, self.outcome = Stage.ENDED, _outcome_fields(outcome)
            case Finished(outcome=outcome) if outcome.state is OutcomeState.NOT_FOUND:
                self.resolved = True

    def reset_for_resubmit(self, key: str) -> None:
        """Return to PLANNED with a new idempotency key, in place of a production that never began."""
        if self.production is not None:
            self.expired.append(self.production.id)
        self.reset(key)

    def reset(self, key: str) -> None:
        """Return to PLANNED with an idempotency key, whatever came after. The events continue to count."""
        self.stage, self.key = Stage.PLANNED, key
        self.production = self.sent_at = self.submitted_at = self.since = self.outcome = self.doubt = None
        self.listed = self.webhook_pending = self.resolved = False
        self.files = {}

    def known_files(self) -> dict[Path, SavedFile]:
        """Return the acknowledged files, by path."""
        return {Path(path): _saved_file(fields) for path, fields in self.files.items()}

    def final_outcome(self, request: ProductionRequest) -> Outcome:
        """Return the outcome of a request that has ENDED. Raises JournalError if it cannot be decoded."""
        fields = self.outcome or {}
        try:
            state = OutcomeState(fields["state"])
            submitted = fields.get("submittedAt")
            files = {path: saved.deliverable for path, saved in self.known_files().items()}
            paths = _checked(fields.get("files") or [*self.files], list)
            return Outcome(
                request=request,
                reference=self.reference,
                state=state,
                production=self.production,
                deliverables=tuple(decode(item, Deliverable) for item in fields["deliverables"]),
                files={path: files[path] for path in map(Path, paths) if path in files},
                error=_error(fields["error"], fields.get("code")),
                submitted_at=None if submitted is None else datetime.fromisoformat(submitted),
                finished_at=datetime.fromisoformat(fields["finishedAt"]),
                request_count=int(fields["requests"]),
            )
        except _DECODING_ERRORS as error:
            raise _unreadable(self.reference, error) from None

    def row(self) -> Row:
        """Return the intent as a row of the journal."""
        fields = {
            "sentAt": self.sent_at,
            "keyHonoured": self.key_honoured,
            "submittedAt": self.submitted_at,
            "production": None if self.production is None else encode(self.production),
            "since": self.since,
            "sequence": self.sequence,
            "listed": self.listed,
            "hinted": self.webhook_pending,
            "files": self.files,
            "expired": self.expired,
            "earlier": self.earlier,
            "doubt": None if self.doubt is None else _error_fields(self.doubt, _MAX_REASON),
            "resolved": self.resolved,
            "outcome": self.outcome,
        }
        text = json.dumps({name: value for name, value in fields.items() if value})
        if self.stage in (Stage.SENDING, Stage.IN_DOUBT, Stage.ACCEPTED):
            text = text.ljust(_ROW_SPACE + len(self.body) - len(self.stage))
        return self.reference, self.account_id, self.key, self.body, str(self.stage), text

    @classmethod
    def from_row(cls, row: Row) -> "Intent":
        """Decode a row. Raises JournalError if this library did not write it."""
        reference, account_id, key, body, stage, text = row
        try:
            fields = _checked(json.loads(text), dict)
            production = fields.get("production")
            intent = cls(
                reference=_checked(reference, str),
                account_id=str(UUID(account_id)),
                body=_checked(body, bytes),
                key=_checked(key, str),
                stage=Stage(stage),
                sent_at=_timestamp(fields.get("sentAt")),
                key_honoured=_checked(fields.get("keyHonoured", False), bool),
                submitted_at=_timestamp(fields.get("submittedAt")),
                production=None if production is None else decode(production, Production),
                since=_timestamp(fields.get("since")),
                sequence=_checked(fields.get("sequence", 0), int),
                listed=_checked(fields.get("listed", False), bool),
                webhook_pending=_checked(fields.get("hinted", False), bool),
                files={
                    path: saved
                    for path, saved in _checked(fields.get("files", {}), dict).items()
                    if "deliverable" in saved  # else of format 1, without a size: it is downloaded again
                },
                expired=[parse_id(id_) for id_ in _checked(fields.get("expired", []), list)],
                earlier=[parse_id(id_) for id_ in _checked(fields.get("earlier", []), list)],
                doubt=_error(fields.get("doubt")),
                resolved=_checked(fields.get("resolved", False), bool),
                outcome=_checked(fields.get("outcome", {}), dict) or None,
            )
            intent.known_files()
            if intent.outcome_state in _NOT_FOUND:
                intent.stage, intent.outcome, intent.resolved = Stage.ACCEPTED, None, True
        except _DECODING_ERRORS as error:
            raise _unreadable(reference, error) from None
        return intent

    def request(self) -> ProductionRequest:
        """Return the request. Raises JournalError if its body cannot be decoded."""
        try:
            request = decode_request(_checked(json.loads(self.body), dict), self.account_id)
            return evolve(request, reference=self.reference)
        except _DECODING_ERRORS as error:
            raise _unreadable(self.reference, error) from None


def _outcome_fields(outcome: Outcome) -> dict[str, Any]:
    submitted = outcome.submitted_at
    return {
        "files": [*map(str, outcome.files)],
        "state": str(outcome.state),
        "error": None if outcome.error is None else _error_fields(outcome.error),
        "deliverables": [encode(deliverable) for deliverable in outcome.deliverables],
        "submittedAt": None if submitted is None else submitted.isoformat(),
        "finishedAt": outcome.finished_at.isoformat(),
        "requests": outcome.request_count,
    }


def _error_fields(error: JaraiError, length: int | None = None) -> dict[str, Any]:
    facts = {name: getattr(error, name) for name in ("status", "code", "correlation_id")}
    return {"type": type(error).__name__, "message": error.message[:length]} | facts


def _error(fields: object, code: Any = None) -> JaraiError | None:
    if fields is None:
        return None
    if isinstance(fields, str):  # format 1
        return ProductionFailedError(fields, code=code)
    kind, message, status, code, correlation_id = (
        _checked(fields, dict)[name] for name in ("type", "message", "status", "code", "correlation_id")
    )
    error_class = _ERRORS.get(kind, JaraiError)
    return error_class(str(message), status=status, code=code, correlation_id=correlation_id)


def _saved_fields(saved: SavedFile) -> dict[str, Any]:
    return {
        "deliverable": encode(saved.deliverable),
        "size": saved.size,
        "md5": saved.md5,
        "modified": saved.modified,
        "verifiedBy": saved.verified_by,
        "final": saved.final,
        "contentEncoding": saved.content_encoding,
    }


def _saved_file(fields: dict[str, Any]) -> SavedFile:
    return SavedFile(
        deliverable=decode(fields["deliverable"], Deliverable),
        size=_checked(fields["size"], int),
        md5=_checked(fields["md5"], str),
        modified=_checked(fields["modified"], int),
        verified_by=_checked(fields["verifiedBy"], str),
        final=_checked(fields["final"], bool),
        content_encoding=_checked(fields.get("contentEncoding") or "", str) or None,
    )


def _checked(value: Any, kind: type[T]) -> T:
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, not {type(value).__name__}")
    return value


def _timestamp(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 <= value < 1e11:
        raise ValueError(f"not a Unix time: {value!r:.40}")
    return float(value)


def _unreadable(reference: object, error: Exception) -> JournalError:
    reason = error.message if isinstance(error, JaraiError) else str(error)  # the message without its advice
    return JournalError(f"the journal's entry for {reference!r:.80} cannot be read: {reason:.200}")
