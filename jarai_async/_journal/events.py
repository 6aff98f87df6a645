"""Events as the journal keeps them: JSON, without signed URLs and without fields that have no model. Pure."""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from attrs import evolve

from jarai_async import _errors
from jarai_async._api.codec import decode, decode_request, encode
from jarai_async._api.models import Deliverable, Production, ProductionRequest, Status
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

DECODING_ERRORS: Final = (  # raised while decoding a row that this library did not write
    ArithmeticError,
    AttributeError,
    InvalidResponseError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
NOT_FOUND: Final = ("vanished", "not_found")  # earlier versions recorded them as final
_ERRORS: Final = {
    kind.__name__: kind
    for kind in vars(_errors).values()
    if isinstance(kind, type) and issubclass(kind, JaraiError) and kind is not InvalidRequestError
}


def encode_event(event: Event) -> str:
    """Return what the journal keeps of an event, besides its reference, number and kind."""
    value: dict[str, Any] = {"at": event.observed_at.timestamp()}
    if event.production is not None:
        value["production"] = encode(event.production)
    match event:
        case StatusChanged():
            value |= {"previous": event.previous, "after": event.changed_after.timestamp()}
        case DeliverablesReady():
            value |= {"final": event.final, "deliverables": [encode(item) for item in event.deliverables]}
        case Downloaded():
            value |= {"path": str(event.path), "saved": saved_fields(event.saved)}
        case Finished():
            value["outcome"] = _outcome_fields(event.outcome)
    return json.dumps(value, separators=(",", ":"))


EventRow = tuple[int, str, int, str, str, str, bytes]  # cursor, reference, number, kind, value, account, body


def decode_event(row: EventRow) -> Event:
    """Return an event. Raises JournalError if it cannot be decoded."""
    cursor, reference, sequence, kind, value, account_id, body = row
    try:
        fields = checked(json.loads(value), dict)
        production = fields.get("production")
        known: dict[str, Any] = {
            "reference": reference,
            "sequence": sequence,
            "cursor": cursor,
            "observed_at": _time(fields["at"]),
            "production": None if production is None else decode(production, Production),
        }
        match kind:
            case "Submitted":
                return Submitted(**known)
            case "StatusChanged":
                previous = decode(fields["previous"], Status)
                return StatusChanged(**known, previous=previous, changed_after=_time(fields["after"]))
            case "DeliverablesReady":
                listed = tuple(decode(item, Deliverable) for item in fields["deliverables"])
                return DeliverablesReady(**known, deliverables=listed, final=fields["final"])
            case "Downloaded":
                return Downloaded(**known, path=Path(fields["path"]), saved=saved_file(fields["saved"]))
            case "Finished":
                request = evolve(decode_request(json.loads(body), account_id), reference=reference)
                outcome = _outcome(fields["outcome"], request, known["production"])
                return Finished(**known, outcome=outcome)
        raise ValueError(f"no event is called {kind:.40}")
    except DECODING_ERRORS as error:
        raise unreadable(reference, error) from None


def migrated_finish(kept: str) -> tuple[str, float, int, str, str] | None:
    """Return how a request ended in format 1 or 2: its state and time, and its last event."""
    with suppress(*DECODING_ERRORS):  # reading the request says what is wrong
        fields = checked(json.loads(kept), dict)
        outcome = fields["outcome"]
        if outcome["state"] not in NOT_FOUND:
            saved = {path: file["deliverable"] for path, file in fields.get("files", {}).items()}
            at = datetime.fromisoformat(outcome["finishedAt"]).timestamp()
            value = {"at": at, "production": fields.get("production"), "outcome": outcome | {"files": saved}}
            return outcome["state"], at, int(fields["sequence"]), "Finished", json.dumps(value)
    return None


def _outcome_fields(outcome: Outcome) -> dict[str, Any]:
    submitted, listed = outcome.submitted_at, outcome.deliverables
    return {
        "state": str(outcome.state),
        "error": None if outcome.error is None else error_fields(outcome.error),
        "deliverables": [encode(deliverable) for deliverable in listed],
        "files": {
            str(path): listed.index(file) if file in listed else encode(file)
            for path, file in outcome.files.items()
        },
        "submittedAt": None if submitted is None else submitted.isoformat(),
        "finishedAt": outcome.finished_at.isoformat(),
        "requests": outcome.request_count,
    }


def _outcome(fields: Mapping[str, Any], request: ProductionRequest, production: Production | None) -> Outcome:
    listed = tuple(decode(item, Deliverable) for item in fields["deliverables"])
    files = fields["files"].items()
    submitted = fields.get("submittedAt")
    return Outcome(
        request=request,
        reference=str(request.reference),
        state=OutcomeState(fields["state"]),
        production=production,
        deliverables=listed,
        files={Path(path): listed[f] if isinstance(f, int) else decode(f, Deliverable) for path, f in files},
        error=decoded_error(fields["error"], fields.get("code")),
        submitted_at=None if submitted is None else datetime.fromisoformat(submitted),
        finished_at=datetime.fromisoformat(fields["finishedAt"]),
        request_count=int(fields["requests"]),
    )


def error_fields(error: JaraiError, length: int | None = None) -> dict[str, Any]:
    """Return what the journal keeps of an error, with this many characters of its message."""
    facts = {name: getattr(error, name) for name in ("status", "code", "correlation_id")}
    return {"type": type(error).__name__, "message": error.message[:length]} | facts


def decoded_error(fields: object, code: Any = None) -> JaraiError | None:
    """Return an error, if there is one. Only format 1 has its `code` beside it."""
    if fields is None:
        return None
    if isinstance(fields, str):  # format 1
        return ProductionFailedError(fields, code=code)
    kind, message, status, code, correlation_id = (
        checked(fields, dict)[name] for name in ("type", "message", "status", "code", "correlation_id")
    )
    error_class = _ERRORS.get(kind, JaraiError)
    return error_class(str(message), status=status, code=code, correlation_id=correlation_id)


def saved_fields(saved: SavedFile) -> dict[str, Any]:
    """Return what the journal keeps of a file."""
    return {
        "deliverable": encode(saved.deliverable),
        "size": saved.size,
        "md5": saved.md5,
        "modified": saved.modified,
        "verifiedBy": saved.verified_by,
        "final": saved.final,
        "contentEncoding": saved.content_encoding,
    }


def saved_file(fields: dict[str, Any]) -> SavedFile:
    """Return a file from what the journal keeps of it."""
    return SavedFile(
        deliverable=decode(fields["deliverable"], Deliverable),
        size=checked(fields["size"], int),
        md5=checked(fields["md5"], str),
        modified=checked(fields["modified"], int),
        verified_by=checked(fields["verifiedBy"], str),
        final=checked(fields["final"], bool),
        content_encoding=checked(fields.get("contentEncoding") or "", str) or None,
    )


def checked(value: Any, kind: type[T]) -> T:
    """Return a value that has this type. Raises TypeError."""
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, not {type(value).__name__}")
    return value


def timestamp(value: object) -> float | None:
    """Return a Unix time, or None. Raises ValueError."""
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 <= value < 1e11:
        raise ValueError(f"not a Unix time: {value!r:.40}")
    return float(value)


def _time(value: object) -> datetime:
    return datetime.fromtimestamp(timestamp(value) or 0.0, UTC)


def unreadable(reference: object, error: Exception) -> JournalError:
    """Return the error of an entry that cannot be decoded."""
    reason = error.message if isinstance(error, JaraiError) else str(error)  # the message without its advice
    return JournalError(f"the journal's entry for {reference!r:.80} cannot be read: {reason:.200}")
