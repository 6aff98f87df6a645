"""Events as the journal keeps them: JSON, without signed URLs and without fields that have no model. Pure."""

import json
import zlib
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
    zlib.error,
)
NOT_FOUND: Final = ("vanished", "not_found")  # earlier versions recorded them as final
_MAX_BYTES: Final = 1 << 26  # of an event as JSON
_WORDS: Final = (  # what most events have in common: journals depend on it, so it never changes
    b'{"type":"NotFoundError","message":"ProductionFailedError","status":null,"code":null,"correlation_id":null}'
    b'"path":"/saved","saved":{"deliverable":{"type":"Article","platform":"TikTok","deliverableId":"Instagram'
    b'"fileName":"article.html","contentType":"text/html","sizeBytes":"contentMd5":"==","productionId":"Podcast'
    b'"audio-description.vtt","application/json","attribution.json","image/png","thumbnail.png","audio/mpeg"'
    b'"type":"AudioDescription","ClosedCaptions","Thumbnail","captions.vtt","text/vtt","video-youtube.mp4"'
    b'"size":,"md5":"","modified":17,"verifiedBy":"md5","final":true,"contentEncoding":null}}'
    b'"outcome":{"state":"published","error":null,"deliverables":[{"type":"Video","platform":"YouTube",'
    b'"deliverableId":"","fileName":"video.mp4","contentType":"video/mp4","sizeBytes":"contentMd5":"=="'
    b'"productionId":""},{"type":"],"files":{"/deliverables/manifest.json":0,"submittedAt":"2026-","finishedAt":"'
    b'+00:00","requests":1}}"previous":"Distributing","after":1,"previous":"AwaitingApproval","Cancelled"Failed'
    b'"previous":"Queued","previous":"Producing","errorCode":"PIPELINE_STEP_FAILED","errorMessage":"'
    b'{"at":17,"production":{"productionId":"","status":"Published","accountId":"","projectTypeSlug":'
    b'"social-video-30s","topic":"How ","currentStep":15,"createdAt":"2026-","expiresAt":"2026-'
    b':00.000000+00:00","sandbox":false},'
)
_ERRORS: Final = {
    kind.__name__: kind
    for kind in vars(_errors).values()
    if isinstance(kind, type) and issubclass(kind, JaraiError) and kind is not InvalidRequestError
}


def packed(fields: dict[str, Any]) -> bytes:
    """Compress JSON to about a quarter."""
    compressor = zlib.compressobj(zdict=_WORDS)
    return compressor.compress(json.dumps(fields, separators=(",", ":")).encode()) + compressor.flush()


def unpacked(value: bytes) -> dict[str, Any]:
    """Return what was compressed. Raises zlib.error, TypeError, ValueError."""
    decompressor = zlib.decompressobj(zdict=_WORDS)
    return checked(json.loads(decompressor.decompress(value, _MAX_BYTES)), dict)


def encode_event(event: Event) -> bytes:
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
    return packed(value)


EventRow = tuple[
    int, str, int, str, bytes, str, bytes
]  # cursor, reference, number, kind, value, account, body


def decode_event(row: EventRow) -> Event:
    """Return an event. Raises JournalError if it cannot be decoded."""
    cursor, reference, sequence, kind, value, account_id, body = row
    try:
        fields = unpacked(value)
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


EventValues = tuple[int, str, bytes]  # number, kind, value


def migrated(kept: str) -> tuple[list[EventValues], tuple[str, float] | None]:
    """Return what format 3 stores elsewhere: events of files and the end, and the state and time of that."""
    events, end = list[EventValues](), None
    with suppress(*DECODING_ERRORS):  # reading the request says what is wrong
        fields = checked(json.loads(kept), dict)
        number, production = int(fields.get("sequence", 0)), fields.get("production")
        known = {"at": fields.get("submittedAt", 0), "production": production}
        saved = fields.get("files", {})
        saved = {path: saved[path] for path in saved if "deliverable" in saved[path]}  # else of format 1
        events += [
            (number, "Downloaded", packed(known | {"path": path, "saved": saved[path]})) for path in saved
        ]
        if (outcome := fields.get("outcome")) and outcome["state"] not in NOT_FOUND:
            end = outcome["state"], datetime.fromisoformat(outcome["finishedAt"]).timestamp()
            paths = outcome.get("files", saved)
            outcome["files"] = {path: saved[path]["deliverable"] for path in paths if path in saved}
            known = {"at": end[1], "production": production, "outcome": outcome}
            events.append((number, "Finished", packed(known)))
    return events, end


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
    own = {"advice": error.advice} if "advice" in vars(error) else {}  # else it is that of its class
    return {"type": type(error).__name__, "message": error.message[:length]} | facts | own


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
    error = error_class(str(message), status=status, code=code, correlation_id=correlation_id)
    if "advice" in checked(fields, dict):
        error.advice = str(checked(fields, dict)["advice"])
    return error


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
        md5=checked(fields["md5"] or "", str) or None,
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
