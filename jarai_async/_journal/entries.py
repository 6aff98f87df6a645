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
- An event is the difference between the state that is recorded and the current one. It is committed together
  with the state after it, and then delivered. `acknowledged` counts those that the reader of a run has taken:
  after a restart the others are delivered again.
- A cancel is on the disk before it is sent. It is kept until JARAI refuses it or the request has ended, and
  the next process goes on with it. A request that was not sent before never is.
- A request whose outcome is not final (`Outcome.is_final`) is not ENDED: the next run resumes it.

Pure. An entry never holds the API key, a signed URL or a response field that this version does not know.
"""

import json
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from attrs import define, evolve, field

from jarai_async._api.codec import decode, decode_request, encode
from jarai_async._api.models import Production, ProductionRequest, parse_id
from jarai_async._errors import JaraiError
from jarai_async._events import (
    DeliverablesReady,
    Downloaded,
    Event,
    Finished,
    OutcomeState,
    StatusChanged,
    Submitted,
)
from jarai_async._journal.events import (
    DECODING_ERRORS,
    NOT_FOUND,
    checked,
    decoded_error,
    error_fields,
    timestamp,
    unreadable,
)

Row = tuple[str, str, str, bytes, str, str | None, float | None, str]
"""reference, account, key, body, stage, state of the outcome, Unix time of its end, other fields as JSON"""
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
    - `production`: its last recorded state; it has had this status since `since`.
    - `sequence`: the number of the last event. `acknowledged`: of the last one that a run's reader has taken.
    - `listed`: whether an event has reported the final list of deliverables.
    - `webhook_pending`: a webhook announced a change that no event has reported yet.
    - `has_files`: whether a file of the production was downloaded. The events tell which.
    - `expired`: ids of earlier productions of this request, which JARAI never began to produce.
    - `earlier`: ids of its productions before the user had it submitted again.
    - `cancel_requested`: it is to be cancelled, as far as JARAI has not refused that and it has not ended.
    - `deadline`: its own deadline in seconds from acceptance, if it has one.
    - `outcome`: the state and the error of a final outcome. The last event has all of it.
    - `doubt`: the error that left its submit in doubt, if it is known.
    - `resolved`: the user decided what became of its submit, and may still decide otherwise; or JARAI does
      not find its production, so the user may name another.
    - `uncertain_reported`: an event has reported that its present submit is in doubt.
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
    acknowledged: int = 0
    listed: bool = False
    webhook_pending: bool = False
    has_files: bool = False
    expired: list[str] = field(factory=list)
    earlier: list[str] = field(factory=list)
    cancel_requested: bool = False
    deadline: float | None = None
    doubt: JaraiError | None = field(default=None, repr=False)
    resolved: bool = False
    uncertain_reported: bool = False
    outcome: dict[str, Any] | None = None
    ended_at: float | None = None

    @property
    def outcome_state(self) -> str | None:
        """The recorded outcome's state; None before the request has ended."""
        return (self.outcome or {}).get("state") if self.stage is Stage.ENDED else None

    @property
    def production_ids(self) -> tuple[str, ...]:
        """All productions that were created for it, as far as it knows, the oldest first."""
        present = [] if self.production is None else [self.production.id]
        return tuple(dict.fromkeys([*self.earlier, *self.expired, *present]))

    @property
    def created_nothing(self) -> bool:
        """Whether no production was created for it, so that its request may still be changed."""
        return self.stage is Stage.PLANNED or self.outcome_state == OutcomeState.REJECTED

    def record(self, event: Event) -> None:
        """Take over the state after an event."""
        self.sequence = event.sequence
        if event.production is not None:
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
                self.has_files = True
            case Finished(outcome=outcome) if outcome.is_final:
                error = None if outcome.error is None else error_fields(outcome.error)
                self.stage, self.cancel_requested = Stage.ENDED, False
                self.outcome = {"state": str(outcome.state), "error": error, "files": len(outcome.files)}
                self.ended_at = outcome.finished_at.timestamp()
            case Finished(outcome=outcome) if outcome.state is OutcomeState.NOT_FOUND:
                self.resolved = True
            case Finished(outcome=outcome) if outcome.state is OutcomeState.UNCERTAIN:
                self.uncertain_reported = True

    def request_cancel(self) -> None:
        """Record that it is to be cancelled, unless it has ended."""
        self.cancel_requested = self.stage is not Stage.ENDED

    def reset_for_resubmit(self, key: str) -> None:
        """Return to PLANNED with a new idempotency key, in place of a production that never began."""
        if self.production is not None:
            self.expired.append(self.production.id)
        self.reset(key)

    def reset(self, key: str) -> None:
        """Return to PLANNED with an idempotency key, whatever came after. The events continue to count."""
        self.stage, self.key = Stage.PLANNED, key
        self.production = self.sent_at = self.submitted_at = self.since = self.outcome = self.doubt = None
        self.ended_at = None
        self.listed = self.webhook_pending = self.resolved = False
        self.has_files = self.uncertain_reported = False

    def reopen(self) -> None:
        """Return from ENDED to the stage before it."""
        self.cancel_requested = self.outcome_state == OutcomeState.CANCELLED  # then it must not be sent
        self.stage = Stage.PLANNED if self.production is None else Stage.ACCEPTED
        self.outcome = self.ended_at = None

    def row(self) -> Row:
        """Return the intent as a row of the journal."""
        fields = {
            "sentAt": self.sent_at,
            "keyHonoured": self.key_honoured,
            "submittedAt": self.submitted_at,
            "production": None if self.production is None else encode(self.production),
            "since": self.since,
            "sequence": self.sequence,
            "unread": self.sequence - self.acknowledged,
            "listed": self.listed,
            "hinted": self.webhook_pending,
            "hasFiles": self.has_files,
            "expired": self.expired,
            "earlier": self.earlier,
            "cancelRequested": self.cancel_requested,
            "deadline": self.deadline,
            "doubt": None if self.doubt is None else error_fields(self.doubt, _MAX_REASON),
            "resolved": self.resolved,
            "uncertainReported": self.uncertain_reported,
            "outcome": self.outcome,
        }
        text = json.dumps({name: value for name, value in fields.items() if value})
        if self.stage in (Stage.SENDING, Stage.IN_DOUBT, Stage.ACCEPTED):
            text = text.ljust(_ROW_SPACE + len(self.body) - len(self.stage))
        stage, state = str(self.stage), self.outcome_state
        return self.reference, self.account_id, self.key, self.body, stage, state, self.ended_at, text

    @classmethod
    def from_row(cls, row: Row) -> "Intent":
        """Decode a row. Raises JournalError if this library did not write it."""
        reference, account_id, key, body, stage, _, ended_at, text = row
        try:
            fields = checked(json.loads(text), dict)
            sequence = checked(fields.get("sequence", 0), int)
            production = fields.get("production")
            intent = cls(
                reference=checked(reference, str),
                account_id=str(UUID(account_id)),
                body=checked(body, bytes),
                key=checked(key, str),
                stage=Stage(stage),
                sent_at=timestamp(fields.get("sentAt")),
                key_honoured=checked(fields.get("keyHonoured", False), bool),
                submitted_at=timestamp(fields.get("submittedAt")),
                production=None if production is None else decode(production, Production),
                since=timestamp(fields.get("since")),
                sequence=sequence,
                acknowledged=sequence - checked(fields.get("unread", 0), int),
                listed=checked(fields.get("listed", False), bool),
                webhook_pending=checked(fields.get("hinted", False), bool),
                has_files=checked(fields.get("hasFiles", "files" in fields), bool),
                expired=[parse_id(id_) for id_ in checked(fields.get("expired", []), list)],
                earlier=[parse_id(id_) for id_ in checked(fields.get("earlier", []), list)],
                cancel_requested=checked(fields.get("cancelRequested", False), bool),
                deadline=float(fields.get("deadline", 0)) or None,
                doubt=decoded_error(fields.get("doubt")),
                resolved=checked(fields.get("resolved", False), bool),
                uncertain_reported=checked(fields.get("uncertainReported", False), bool),
                outcome=checked(fields.get("outcome", {}), dict) or None,
                ended_at=timestamp(ended_at),
            )
            if intent.outcome_state in NOT_FOUND:
                intent.stage, intent.outcome, intent.resolved = Stage.ACCEPTED, None, True
        except DECODING_ERRORS as error:
            raise unreadable(reference, error) from None
        return intent

    def request(self) -> ProductionRequest:
        """Return the request. Raises JournalError if its body cannot be decoded."""
        try:
            request = decode_request(checked(json.loads(self.body), dict), self.account_id)
            return evolve(request, reference=self.reference)
        except DECODING_ERRORS as error:
            raise unreadable(self.reference, error) from None
