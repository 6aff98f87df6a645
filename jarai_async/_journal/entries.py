"""What is known of one request, from before it is sent until it has ended: what the journal keeps.

A production costs money, so what is about to happen is written down before it happens:

    PLANNED -> SENDING -> ACCEPTED -> ENDED
                  |
                  v
               IN_DOUBT   its answer was lost, or the process died meanwhile

- SENDING is durable before the first byte leaves. Whoever finds it after a restart knows no more than that
  the request may have been carried out: it becomes IN_DOUBT, and stays so until somebody decides.
- What provably created nothing, a refusal or no connection, goes back to PLANNED; but once in doubt, no
  later refusal proves anything.
- ENDED is written when the reader has taken the last event. Until then a restart tells again whatever had not
  been taken: events are differences between what was told and what is, so nothing but the last thing told has
  to be kept. What was refused, timed out or could not be fetched whole is not ENDED: a next run goes on
  with it.

Pure. No key of the API, no signed URL and nothing that the server sent beyond known fields is in it.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

from attrs import define, evolve, field

from jarai_async._api.codec import body_of, decode, decode_request, encode
from jarai_async._api.models import Deliverable, Production, ProductionRequest, parse_id
from jarai_async._errors import InvalidResponseError, JaraiError, JournalError, ProductionFailedError
from jarai_async._events import (
    DeliverablesReady,
    Downloaded,
    Event,
    Finished,
    Outcome,
    OutcomeState,
    StatusChanged,
    Submitted,
)

T = TypeVar("T")

Row = tuple[str, str, str, bytes, str, str]  # reference, account, key, body, stage, all else as JSON
_UNREADABLE: Final = (  # what comes of reading data that this library never wrote
    ArithmeticError,
    AttributeError,
    InvalidResponseError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
_RENAMED: Final = {"vanished": "not_found"}  # outcomes that journals may hold under an earlier name
KEY_VALID: Final = 23 * 3600.0  # seconds: servers that honour keys keep them for a day or more


class Stage(StrEnum):
    """How far a request has come."""

    PLANNED = "planned"
    SENDING = "sending"
    IN_DOUBT = "in doubt"
    ACCEPTED = "accepted"
    ENDED = "ended"


@define(eq=False)
class Intent:
    """One request; the moments are Unix seconds.

    `production` is as it was last told, since `since`; `sequence` is the number of the last event that was
    taken, `listed` whether the final list of deliverables was among them, and `files` those told of.
    `webhook_pending` says that a webhook told of a change that nobody has seen yet.
    `expired` are productions that were never begun, in whose place this one is.
    """

    reference: str
    account_id: str
    body: bytes = field(repr=False)
    key: str = field(repr=False)
    stage: Stage = Stage.PLANNED
    sent_at: float | None = None
    submitted_at: float | None = None
    production: Production | None = None
    since: float | None = None
    sequence: int = 0
    listed: bool = False
    webhook_pending: bool = False
    files: dict[str, dict[str, Any]] = field(factory=dict, repr=False)
    expired: list[str] = field(factory=list)
    outcome: dict[str, Any] | None = field(default=None, repr=False)

    def same_request(self, request: ProductionRequest) -> bool:
        """Whether this is what is asked for."""
        return self.account_id == request.account_id and self.body == body_of(request)

    def acknowledge(self, event: Event) -> None:
        """Note that the reader has taken an event."""
        self.sequence = max(self.sequence, event.sequence)
        if event.production is not None and event.production.id in self.expired:
            return  # a slow reader learns of it when another has taken its place
        if event.production is not None:  # without a copy of all that was sent: it would be kept for hours
            self.production = evolve(event.production, raw={})
        match event:
            case Submitted():
                self.since = event.observed_at.timestamp()
            case StatusChanged():
                self.since = (event.changed_after.timestamp() + event.observed_at.timestamp()) / 2
                self.webhook_pending = False
            case DeliverablesReady(final=True):
                self.listed = True
            case Downloaded():
                self.files[str(event.path)] = encode(event.deliverable)
            case Finished(outcome=outcome) if self._is_over(outcome):
                self.stage, self.outcome = Stage.ENDED, _kept(outcome)

    def _is_over(self, outcome: Outcome) -> bool:
        """Whether a next run has nothing to go on with."""
        if outcome.state is OutcomeState.PUBLISHED:
            return outcome.ok
        return outcome.state in (OutcomeState.FAILED, OutcomeState.CANCELLED, OutcomeState.NOT_FOUND)

    def reset_for_resubmit(self, key: str) -> None:
        """Begin anew in the place of a production that was never begun."""
        if self.production is not None:
            self.expired.append(self.production.id)
        self.stage, self.key = Stage.PLANNED, key
        self.production = self.sent_at = self.submitted_at = self.since = None
        self.webhook_pending = False

    def known_files(self) -> dict[Path, Deliverable]:
        """Give the files that were told of."""
        return {Path(path): decode(one, Deliverable) for path, one in self.files.items()}

    def ended(self, request: ProductionRequest) -> Outcome:
        """Give the outcome that it already has. Raises JournalError."""
        kept = self.outcome or {}
        try:
            state = OutcomeState(_RENAMED.get(kept["state"], kept["state"]))
            failed = state in (OutcomeState.FAILED, OutcomeState.NOT_FOUND)
            submitted = kept.get("submittedAt")
            return Outcome(
                request=request,
                reference=self.reference,
                state=state,
                production=self.production,
                deliverables=tuple(decode(one, Deliverable) for one in kept["deliverables"]),
                files=self.known_files(),
                error=ProductionFailedError(str(kept["error"]), code=kept.get("code")) if failed else None,
                submitted_at=None if submitted is None else datetime.fromisoformat(submitted),
                finished_at=datetime.fromisoformat(kept["finishedAt"]),
                request_count=int(kept["requests"]),
            )
        except _UNREADABLE as error:
            raise _damaged(self.reference, error) from None

    def row(self) -> Row:
        """Give it as the journal keeps it."""
        kept = {
            "sentAt": self.sent_at,
            "submittedAt": self.submitted_at,
            "production": None if self.production is None else encode(self.production),
            "since": self.since,
            "sequence": self.sequence,
            "listed": self.listed,
            "hinted": self.webhook_pending,
            "files": self.files,
            "expired": self.expired,
            "outcome": self.outcome,
        }
        text = json.dumps({name: value for name, value in kept.items() if value})
        return self.reference, self.account_id, self.key, self.body, str(self.stage), text

    @classmethod
    def from_row(cls, row: Row) -> "Intent":
        """Read what was kept. Raises JournalError where it is nothing that was ever written."""
        reference, account_id, key, body, stage, text = row
        try:
            kept = _only(json.loads(text), dict)
            production = kept.get("production")
            intent = cls(
                reference=_only(reference, str),
                account_id=str(UUID(account_id)),
                body=_only(body, bytes),
                key=_only(key, str),
                stage=Stage(stage),
                sent_at=_moment(kept.get("sentAt")),
                submitted_at=_moment(kept.get("submittedAt")),
                production=None if production is None else decode(production, Production),
                since=_moment(kept.get("since")),
                sequence=_only(kept.get("sequence", 0), int),
                listed=_only(kept.get("listed", False), bool),
                webhook_pending=_only(kept.get("hinted", False), bool),
                files=_only(kept.get("files", {}), dict),
                expired=[parse_id(one) for one in _only(kept.get("expired", []), list)],
                outcome=_only(kept.get("outcome", {}), dict) or None,
            )
            intent.known_files()
        except _UNREADABLE as error:
            raise _damaged(reference, error) from None
        return intent

    def request(self) -> ProductionRequest:
        """Give the request that it is about. Raises JournalError."""
        try:
            request = decode_request(_only(json.loads(self.body), dict), self.account_id)
            return evolve(request, reference=self.reference)
        except _UNREADABLE as error:
            raise _damaged(self.reference, error) from None


def _kept(outcome: Outcome) -> dict[str, Any]:
    submitted = outcome.submitted_at
    return {
        "state": str(outcome.state),
        "error": None if outcome.error is None else outcome.error.message,
        "code": None if outcome.error is None else outcome.error.code,
        "deliverables": [encode(one) for one in outcome.deliverables],
        "submittedAt": None if submitted is None else submitted.isoformat(),
        "finishedAt": outcome.finished_at.isoformat(),
        "requests": outcome.request_count,
    }


def _only(value: Any, kind: type[T]) -> T:
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, not {type(value).__name__}")
    return value


def _moment(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 <= value < 1e11:
        raise ValueError(f"no moment: {value!r:.40}")
    return float(value)


def _damaged(reference: object, error: Exception) -> JournalError:
    reason = error.message if isinstance(error, JaraiError) else str(error)  # without advice about JARAI
    return JournalError(f"the journal's entry for {reference!r:.80} cannot be read: {reason:.200}")


Facts = Mapping[str, Any]
