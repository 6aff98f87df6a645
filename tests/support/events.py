"""Events and outcomes with every field."""

from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import evolve

from jarai_async import (
    Deliverable,
    Event,
    JaraiError,
    Outcome,
    OutcomeState,
    Production,
    SavedFile,
    Status,
)
from jarai_async._api.models import parse_id
from tests.support.strategies import ID, request

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=20)
PRODUCING = Production(
    parse_id(ID), Status.PRODUCING, topic="Tides", created_at=NOW, raw={"extra": "not stored"}
)
VIDEO = Deliverable(
    "Video", "https://blob/x?sig=secret", platform="YouTube", size=5, raw={"sasUrl": "secret"}
)
SAVED = SavedFile(
    deliverable=VIDEO,
    size=5,
    md5="00" * 16,
    modified=7,
    verified_by="length",
    final=True,
    content_encoding="gzip",
)
SAVED_FIELDS = {
    "deliverable": {"type": "Video"},
    "size": 5,
    "md5": "00" * 16,
    "modified": 7,
    "verifiedBy": "length",
    "final": True,
    "contentEncoding": "gzip",
}
FINAL = {OutcomeState.PUBLISHED, OutcomeState.FAILED, OutcomeState.CANCELLED, OutcomeState.REJECTED}


def outcome(state: OutcomeState = OutcomeState.PUBLISHED, error: JaraiError | None = None) -> Outcome:
    return Outcome(
        request=request(reference="mine"),
        reference="mine",
        state=state,
        production=evolve(PRODUCING, status=Status.PUBLISHED, raw={}),
        deliverables=(VIDEO,),
        error=error,
        submitted_at=NOW,
        finished_at=LATER,
        request_count=7,
    )


def event(kind: type[Event], sequence: int = 1, **fields: Any) -> Any:
    defaults: dict[str, Any] = {"reference": "mine", "production": PRODUCING, "observed_at": LATER}
    return kind(**defaults | fields, sequence=sequence)
