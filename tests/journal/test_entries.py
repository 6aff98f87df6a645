"""Entries of the journal: what events change, and rows that cannot be trusted."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import asdict, evolve
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import (
    DeliverablesReady,
    Downloaded,
    Finished,
    InvalidRequestError,
    JaraiError,
    JournalError,
    OutcomeState,
    Production,
    Status,
    StatusChanged,
    Submitted,
)
from jarai_async._api.codec import body_of
from jarai_async._api.models import parse_id
from jarai_async._journal.entries import Intent, Row, Stage
from tests.support.events import FINAL, LATER, NOW, PRODUCING, SAVED, VIDEO, event, outcome
from tests.support.journals import intent
from tests.support.strategies import ID, OTHER, json_values, request


def stored(original: Intent) -> Intent:
    """Write an intent and read it back."""
    return Intent.from_row(original.row())


def test_row_round_trip_keeps_every_field() -> None:
    """Of a new intent, and of one with all fields set."""
    full = intent(
        stage=Stage.ACCEPTED,
        sent_at=1e9,
        key_honoured=True,
        submitted_at=1e9 + 1,
        production=evolve(PRODUCING, raw={}),
        since=1e9 + 2.5,
        sequence=4,
        acknowledged=2,
        listed=True,
        webhook_pending=True,
        cancel_requested=True,
        has_files=True,
        expired=[OTHER],
        outcome={"state": "failed"},
        ended_at=1e9 + 7,
    )
    for original in (full, intent()):
        assert asdict(stored(original), recurse=False) == asdict(original, recurse=False)


@pytest.mark.parametrize(("production", "stage"), [(PRODUCING, Stage.ACCEPTED), (None, Stage.PLANNED)])
def test_request_that_is_reopened_is_unfinished_again(production: Production | None, stage: Stage) -> None:
    """So that it is also resumed where the process is killed then."""
    ended = intent(stage=Stage.ENDED, production=production, outcome={"state": "published"}, ended_at=1e9)
    ended.reopen()
    assert (ended.stage, ended.outcome, ended.ended_at) == (stage, None, None)


@pytest.mark.parametrize(
    ("end", "is_cancelled_again"), [(OutcomeState.CANCELLED, True), (OutcomeState.PUBLISHED, False)]
)
def test_cancel_ends_with_the_request(end: OutcomeState, *, is_cancelled_again: bool) -> None:
    """If it is resumed nevertheless, one that was cancelled is not submitted, and no other is cancelled."""
    entry = intent()
    entry.request_cancel()
    assert entry.cancel_requested
    entry.record(event(Finished, outcome=outcome(end)))
    entry.request_cancel()
    assert not entry.cancel_requested
    entry.reopen()
    assert entry.cancel_requested == is_cancelled_again


def test_row_has_no_empty_fields_and_no_signed_url() -> None:
    """It holds only known fields."""
    assert intent().row() == ("mine", ID, "a key", body_of(request()), "planned", None, None, "{}")
    finished = intent()
    finished.record(event(Downloaded, saved=SAVED, path=Path("a.mp4")))
    finished.record(event(Finished, 2, outcome=outcome()))
    assert finished.row()[4:7] == ("ended", "published", LATER.timestamp())
    row = repr(finished.row())
    assert "Tides" in row
    assert "secret" not in row
    assert "not stored" not in row


def test_events_update_the_intent() -> None:
    """The production, since when it has its status, and the number of the event."""
    entry = intent()
    entry.record(event(Submitted, 1))
    assert (entry.sequence, entry.production, entry.since) == (1, PRODUCING, LATER.timestamp())
    assert entry.production is not None
    assert entry.production.raw == {}
    published = evolve(PRODUCING, status=Status.PUBLISHED)
    entry.webhook_pending = True
    entry.record(event(StatusChanged, 2, production=published, previous=Status.PRODUCING, changed_after=NOW))
    assert (entry.sequence, entry.production, entry.webhook_pending) == (2, published, False)
    assert entry.since == (NOW + timedelta(minutes=10)).timestamp()
    entry.record(event(DeliverablesReady, 3, deliverables=(), final=False))
    assert not entry.listed
    entry.record(event(DeliverablesReady, 4, deliverables=(VIDEO,), final=True))
    assert entry.listed
    entry.record(event(Downloaded, 5, saved=SAVED, path=Path("a.mp4")))
    assert entry.has_files
    assert entry.sequence == 5
    assert entry.stage is Stage.PLANNED


def test_production_that_never_began_is_replaced() -> None:
    """Its id is kept, and a rejection of the next submit does not change the production that is known."""
    entry = intent(stage=Stage.ACCEPTED, sent_at=1.0, submitted_at=2.0, since=3.0, production=PRODUCING)
    entry.webhook_pending = True
    entry.reset_for_resubmit("another key")
    assert (entry.stage, entry.key, entry.expired) == (Stage.PLANNED, "another key", [ID])
    assert (entry.production, entry.sent_at, entry.submitted_at, entry.since) == (None, None, None, None)
    assert not entry.webhook_pending
    second = evolve(PRODUCING, id=parse_id(OTHER))
    entry.record(event(Submitted, 4, production=second))
    assert entry.production == second
    entry.record(event(Finished, 5, production=None, outcome=outcome(OutcomeState.REJECTED)))
    assert (entry.sequence, entry.production) == (5, second)


def test_reset_without_a_production_changes_the_key_only() -> None:
    """No production was created, so none has expired."""
    entry = intent(stage=Stage.IN_DOUBT)
    entry.reset_for_resubmit("another key")
    assert (entry.stage, entry.key, entry.expired) == (Stage.PLANNED, "another key", [])


@pytest.mark.parametrize("state", OutcomeState)
def test_only_a_final_outcome_is_stored(state: OutcomeState) -> None:
    """After a deadline, a lost response or a failed download, the next run resumes the request."""
    entry = intent(stage=Stage.ACCEPTED)
    entry.record(event(Finished, 9, outcome=outcome(state)))
    assert (entry.stage is Stage.ENDED) == (entry.outcome is not None) == (state in FINAL)
    assert (entry.stage is Stage.ACCEPTED) == (state not in FINAL)
    incomplete = intent(stage=Stage.ACCEPTED)
    incomplete.record(event(Finished, 9, outcome=outcome(OutcomeState.PUBLISHED, JaraiError("disk full"))))
    assert incomplete.stage is Stage.ACCEPTED


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (0, 5),
        (1, "../x"),
        (1, 5),
        (2, b"key"),
        (3, "text"),
        (4, "sold"),
        (6, -1),
        (6, "x"),
        (7, "[]"),
        (7, "{"),
        (7, "[" * 100_000),
        (7, 5),
        *(
            (7, f'{{"{name}": {value}}}')
            for name, values in {
                "sentAt": ('"x"', "-1", "1e11", "NaN"),
                "submittedAt": ("[]", "-0.5"),
                "since": ("{}", "Infinity"),
                "sequence": ("1.5", "null", "true"),
                "unread": ("1.5", "null"),
                "keyHonoured": ("1", "null"),
                "listed": ("1", "null"),
                "hinted": ("1", "null"),
                "hasFiles": ("1", "null"),
                "expired": ("{}", '["x"]', "[5]"),
                "outcome": ("[]", "5"),
                "production": ("{}", "5"),
            }.items()
            for value in values
        ),
    ],
)
def test_invalid_column_raises_journal_error(column: int, value: object) -> None:
    """The error names the entry, whichever column is wrong."""
    row: list[Any] = [*intent().row()]
    row[column] = value
    invalid: Any = tuple(row)
    with pytest.raises(JournalError, match=f"the journal's entry for {row[0]!r} cannot be read: "):
        Intent.from_row(invalid)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ("[]", "expected dict, not list"),
        ('{"sequence": "5"}', "expected int, not str"),
        ('{"since": -1}', "not a Unix time: -1"),
        (
            '{"production": 5}',  # without the advice to contact JARAI
            "not in the documented format: invalid type (expected an object, not int) @ Production",
        ),
    ],
)
def test_error_says_why_an_entry_cannot_be_read(fields: str, reason: str) -> None:
    """In a few words."""
    with pytest.raises(JournalError) as caught:
        Intent.from_row((*intent().row()[:7], fields))
    assert caught.value.message == f"the journal's entry for 'mine' cannot be read: {reason}"


def test_error_says_why_a_body_cannot_be_read() -> None:
    """In a few words, as for any other column."""
    with pytest.raises(JournalError) as caught:
        Intent("mine", ID, b"[]", "a key").request()
    assert caught.value.message == "the journal's entry for 'mine' cannot be read: expected dict, not list"


def test_times_from_1970_to_the_year_5138_are_accepted() -> None:
    """The limit is 1e11 seconds."""
    row: Row = (*intent().row()[:7], '{"sentAt": 0, "submittedAt": 99999999999, "since": 0.5}')
    entry = Intent.from_row(row)
    assert (entry.sent_at, entry.submitted_at, entry.since) == (0.0, 99_999_999_999.0, 0.5)


@given(
    st.text(min_size=1, max_size=50),
    st.none() | st.text(max_size=50),
    st.dictionaries(st.text(), json_values),
)
def test_request_is_restored_from_its_entry(topic: str, metadata: str | None, extra: dict[str, Any]) -> None:
    """So a batch can be resumed from its journal alone."""
    try:
        original = request(topic=topic, metadata=metadata, extra=extra, reference="mine")
    except InvalidRequestError:
        return
    assert Intent("mine", ID, body_of(original), "a key").request() == original


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b"{}", b"[]", b"5", b"\xff"])
def test_invalid_body_raises_journal_error(body: bytes) -> None:
    """Not JSON, nested too deeply, or without the fields of a request."""
    entry = intent()
    entry.body = body
    with pytest.raises(JournalError, match="the journal's entry for 'mine' cannot be read: "):
        entry.request()


def test_every_attempt_sends_the_same_bytes() -> None:
    """Compact, in the documented order: a server may compare the body with that of the first attempt."""
    ids = f'"languageId":"{ID}","countryId":"{ID}","avatarId":"{ID}"'
    assert body_of(request(topic="Tidés")) == f'{{"topic":"Tid\\u00e9s",{ids}}}'.encode()
