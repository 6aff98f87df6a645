"""How the terminal status of a production becomes an outcome, and events and outcomes as JSON values."""

import json
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import (
    Deliverable,
    DeliverablesReady,
    Downloaded,
    Event,
    Finished,
    Outcome,
    OutcomeState,
    Production,
    ProductionFailedError,
    ServerError,
    Status,
    StatusChanged,
    Submitted,
    UncertainSubmitError,
)
from jarai_async._api.models import parse_id
from jarai_async._events import final_state
from tests.support.events import NOW, SAVED, VIDEO, event, outcome
from tests.support.strategies import ID, OTHER, request


@pytest.mark.parametrize("name", ["Published", "Cancelled"])
def test_published_and_cancelled_productions_have_no_error(name: str) -> None:
    """They have none even if the response has an error code or message."""
    production = Production(parse_id(ID), Status(name), error_code="LATE", error_message="too late")
    assert final_state(production) == (OutcomeState(name.lower()), None)


@pytest.mark.parametrize(
    ("code", "message", "text"),
    [
        ("BAD_TOPIC", "Unknown language: X.", f"production {ID} failed: Unknown language: X"),
        (None, None, f"production {ID} failed: no reason given"),
        (
            "PRODUCTION_EXPIRED",
            "It expired.",
            f"production {ID} failed: It expired; it was never started and is safe to submit again at once",
        ),
    ],
)
def test_failed_production_has_an_error_with_the_reason(
    code: str | None, message: str | None, text: str
) -> None:
    """The error has JARAI's message and code, and says if it is safe to submit again."""
    production = Production(parse_id(ID), Status.FAILED, error_code=code, error_message=message)
    state, error = final_state(production)
    assert state is OutcomeState.FAILED
    assert isinstance(error, ProductionFailedError)
    assert (error.message, error.code) == (text, code)
    assert str(error) == (f"{text} ({code})" if code else text)


# --- As JSON values --------------------------------------------------------------------------------

OF_EVERY_EVENT = {
    "reference": "mine",
    "productionId": ID,
    "status": "Producing",
    "sequence": 3,
    "cursor": 9,
    "observedAt": "2026-05-01T12:20:00+00:00",
}
OF_AN_OUTCOME = {
    "reference": "mine",
    "productionId": ID,
    "status": "Published",
    "outcome": "published",
    "ok": True,
    "isFinal": True,
    "deliverables": ["Video"],
    "files": 1,
    "downloaded": [{"type": "Video", "path": "a/video.mp4"}],
    "requests": 7,
    "error": None,
    "errorCode": None,
    "submittedAt": "2026-05-01T12:00:00+00:00",
    "finishedAt": "2026-05-01T12:20:00+00:00",
}
PATH = Path("a/video.mp4")


@pytest.mark.parametrize(
    ("kind", "fields", "keys"),
    [
        (Submitted, {}, {}),
        (
            StatusChanged,
            {"previous": Status.QUEUED, "changed_after": NOW},
            {"previous": "Queued", "changedAfter": "2026-05-01T12:00:00+00:00"},
        ),
        (
            DeliverablesReady,
            {"deliverables": (VIDEO,), "final": False},
            {"deliverables": ["Video"], "final": False},
        ),
        (
            Downloaded,
            {"path": PATH, "saved": SAVED},
            {"type": "Video", "path": "a/video.mp4", "size": 5},
        ),
        (Finished, {"outcome": evolve(outcome(), files={PATH: VIDEO})}, OF_AN_OUTCOME),
    ],
)
def test_keys_of_an_event_as_json_stay(kind: type[Event], fields: Any, keys: dict[str, Any]) -> None:
    """Programs read them in the output of `jarai run`, and browsers in the stream of an application."""
    as_json = event(kind, 3, cursor=9, **fields).to_dict()
    assert as_json == {"event": kind.__name__} | OF_EVERY_EVENT | keys
    assert json.loads(json.dumps(as_json)) == as_json
    assert {type(value) for value in as_json.values()} <= {str, int, bool, list, type(None)}


def test_keys_of_an_outcome_without_a_production_are_the_same() -> None:
    """They are null, so that a program need not ask whether they are there."""
    error = ServerError("gateway", code="INTERNAL_ERROR")
    rejected = Outcome(
        request=request(), reference="a", state=OutcomeState.REJECTED, error=error, finished_at=NOW
    )
    as_json = rejected.to_dict()
    assert as_json.keys() == OF_AN_OUTCOME.keys()
    assert (as_json["productionId"], as_json["status"], as_json["submittedAt"]) == (None, None, None)
    assert (as_json["error"], as_json["errorCode"]) == (str(error), "INTERNAL_ERROR")


texts = st.text(st.characters(exclude_characters="?"), max_size=9)
signed = st.builds("{}https://blob.example/x?sig=SECRET{} ".format, texts, st.from_regex(r"\A\S*\Z"))
deliverables = st.builds(
    Deliverable, texts, signed, platform=st.none() | texts, raw=st.fixed_dictionaries({"sasUrl": signed})
)
productions = st.builds(
    Production,
    st.sampled_from([parse_id(ID), parse_id(OTHER)]),
    texts.map(Status),
    error_message=signed,
    raw=st.fixed_dictionaries({"x": signed}),
)
times = st.datetimes(timezones=st.just(UTC))
errors = st.builds(
    lambda message, code: ProductionFailedError(message, code=code), signed, st.none() | texts
) | st.builds(lambda text: UncertainSubmitError(text, idempotency_key="SECRET"), texts)
outcomes = st.builds(
    Outcome,
    request=st.just(request(extra={"key": "SECRET"})),
    reference=texts,
    state=st.sampled_from(OutcomeState),
    production=st.none() | productions,
    deliverables=st.lists(deliverables, max_size=2).map(tuple),
    files=st.dictionaries(texts.map(Path), deliverables, max_size=2),
    error=st.none() | errors,
    submitted_at=st.none() | times,
    finished_at=times,
)
facts: dict[str, Any] = {"reference": texts, "production": productions, "sequence": st.integers()}
facts |= {"observed_at": times, "cursor": st.integers()}
events = st.one_of(
    st.builds(Submitted, **facts),
    st.builds(StatusChanged, **facts, previous=texts.map(Status), changed_after=times),
    st.builds(
        DeliverablesReady,
        **facts,
        deliverables=st.lists(deliverables, max_size=2).map(tuple),
        final=st.booleans(),
    ),
    st.builds(
        Downloaded,
        **facts,
        path=texts.map(Path),
        saved=deliverables.map(lambda deliverable: evolve(SAVED, deliverable=deliverable)),
    ),
    st.builds(Finished, **facts, outcome=outcomes),
)


@given(events | outcomes)
def test_no_event_or_outcome_as_json_has_a_signature_or_a_key(value: Event | Outcome) -> None:
    """It is JSON, whatever the server sent, and may be shown to anyone who may see the production."""
    as_json = value.to_dict()
    assert json.loads(json.dumps(as_json)) == as_json
    assert "SECRET" not in json.dumps(as_json)
