"""Events in the journal: each is read back as it was, and what cannot be trusted is an error."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given

from jarai_async import (
    BudgetExceededError,
    DeliverablesReady,
    Downloaded,
    Event,
    Finished,
    JaraiError,
    JournalError,
    NotSentError,
    OutcomeState,
    ProductionFailedError,
    Status,
    StatusChanged,
    Submitted,
)
from jarai_async._api.codec import body_of
from jarai_async._journal.events import decode_event, encode_event, packed, unpacked
from tests.support.events import NOW, PRODUCING, SAVED, VIDEO, event, outcome
from tests.support.strategies import ID, json_values, request

LISTED = evolve(VIDEO, url="")  # signed URLs are not stored
WITH_ADVICE = ProductionFailedError("it failed")
WITH_ADVICE.advice = "To submit it again, call `Orchestrator.retry`."
ERRORS = [
    None,
    WITH_ADVICE,
    ProductionFailedError("it failed", code="BAD_TOPIC"),
    BudgetExceededError("spent", status=409, code="BUDGET_GATE_1_FAILED", correlation_id="c-1"),
    NotSentError("no connection"),
]


def decoded(original: Event, **changes: Any) -> Event:
    """Read an event back, after changes to what was stored."""
    value = packed(unpacked(encode_event(original)) | changes)
    kind, body = type(original).__name__, body_of(request())
    return decode_event((original.cursor, "mine", original.sequence, kind, value, ID, body))


@pytest.mark.parametrize(
    "original",
    [
        event(Submitted, 1, cursor=9),
        event(StatusChanged, 2, previous=Status.QUEUED, changed_after=NOW),
        event(StatusChanged, 3, previous=Status("Unheard of"), changed_after=NOW),
        event(DeliverablesReady, 4, deliverables=(LISTED,), final=True),
        event(Downloaded, 5, path=Path("a/b.mp4"), saved=evolve(SAVED, deliverable=LISTED)),
    ],
)
def test_event_is_read_back_as_it_was(original: Event) -> None:
    """Except for `raw`, which is not stored."""
    assert decoded(original) == evolve(original, production=evolve(PRODUCING, raw={}))


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("state", OutcomeState)
def test_outcome_is_read_back_as_it_was(state: OutcomeState, error: JaraiError | None) -> None:
    """Every field, except for signed URLs. A file that was listed for review only is there, too."""
    review = evolve(LISTED, platform="Review")
    original = evolve(outcome(state, error), files={Path("a.mp4"): VIDEO, Path("b.mp4"): review})
    read = decoded(event(Finished, 2, production=original.production, outcome=original))
    assert isinstance(read, Finished)
    files = {Path("a.mp4"): LISTED, Path("b.mp4"): review}
    assert evolve(read.outcome, error=None) == evolve(
        original, error=None, deliverables=(LISTED,), files=files
    )
    assert type(read.outcome.error) is type(error)
    assert vars(read.outcome.error or JaraiError("")) == vars(error or JaraiError(""))


def test_stored_event_has_no_signed_url_and_no_unknown_field() -> None:
    """Whatever the server sent."""
    for one in (
        event(DeliverablesReady, deliverables=(VIDEO,), final=True),
        event(Downloaded, saved=SAVED, path=Path("a.mp4")),
        event(Finished, outcome=outcome()),
    ):
        text = json.dumps(unpacked(encode_event(one)))
        assert "Tides" in text
        assert "secret" not in text
        assert "not stored" not in text


@pytest.mark.parametrize("name", ["state", "error", "deliverables", "files", "finishedAt", "requests"])
@given(value=json_values)
def test_damaged_outcome_raises_journal_error(name: str, value: object) -> None:
    """Whatever a field holds, there is an outcome or a JournalError; without the field, the error."""
    original = event(Finished, outcome=outcome(OutcomeState.FAILED, ProductionFailedError("it failed")))
    fields = unpacked(encode_event(original))["outcome"]
    with contextlib.suppress(JournalError):
        assert decoded(original, outcome=fields | {name: value}).reference == "mine"
    del fields[name]
    with pytest.raises(JournalError, match=f"the journal's entry for 'mine' cannot be read: '{name}'"):
        decoded(original, outcome=fields)


@pytest.mark.parametrize("value", [b"", b"{}", b"\x00" * 50, packed({})[:-1], packed({})])
def test_event_that_cannot_be_decompressed_raises_journal_error(value: bytes) -> None:
    """Also one without its fields."""
    with pytest.raises(JournalError, match="the journal's entry for 'mine' cannot be read"):
        decode_event((1, "mine", 1, "Submitted", value, ID, b"{}"))


@pytest.mark.parametrize(
    "changes", [{"at": -1}, {"at": "x"}, {"production": 5}, {"previous": 5}, {"after": []}]
)
def test_damaged_event_raises_journal_error(changes: dict[str, Any]) -> None:
    """The error names the request."""
    with pytest.raises(JournalError, match="the journal's entry for 'mine' cannot be read: "):
        decoded(event(StatusChanged, previous=Status.QUEUED, changed_after=NOW), **changes)
