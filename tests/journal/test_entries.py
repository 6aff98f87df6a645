"""What the journal keeps of a request: what was told, how it ended, and that nothing else is believed."""

import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import asdict, evolve
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import (
    Deliverable,
    DeliverablesReady,
    Downloaded,
    Event,
    Finished,
    InvalidRequestError,
    JaraiError,
    JournalError,
    Outcome,
    OutcomeState,
    Production,
    ProductionFailedError,
    Status,
    StatusChanged,
    Submitted,
)
from jarai_async._api.codec import body_of
from jarai_async._api.models import parse_id
from jarai_async._journal.entries import Intent, Row, Stage
from tests.support.strategies import ID, OTHER, json_values, request

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=20)
PRODUCING = Production(
    parse_id(ID), Status.PRODUCING, topic="Tides", created_at=NOW, raw={"extra": "kept by nobody"}
)
VIDEO = Deliverable(
    "Video", "https://blob/x?sig=secret", platform="YouTube", size=5, raw={"sasUrl": "secret"}
)
OVER = {OutcomeState.PUBLISHED, OutcomeState.FAILED, OutcomeState.CANCELLED, OutcomeState.NOT_FOUND}


def intent(**fields: Any) -> Intent:
    return Intent("mine", ID, body_of(request()), "a key", **fields)


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
    given: dict[str, Any] = {"reference": "mine", "production": PRODUCING, "observed_at": LATER}
    return kind(**given | fields, sequence=sequence)


def reopened(kept: Intent) -> Intent:
    return Intent.from_row(kept.row())


def test_all_that_is_kept_is_there_again() -> None:
    """Each fact by itself, and those that a new intent has."""
    full = intent(
        stage=Stage.ACCEPTED,
        sent_at=1e9,
        submitted_at=1e9 + 1,
        production=evolve(PRODUCING, raw={}),
        since=1e9 + 2.5,
        sequence=4,
        listed=True,
        webhook_pending=True,
        files={"a/b.mp4": {"type": "Video"}},
        expired=[OTHER],
        outcome={"state": "failed"},
    )
    for one in (full, intent()):
        assert asdict(reopened(one), recurse=False) == asdict(one, recurse=False)


def test_a_row_is_small_and_says_no_secret() -> None:
    """What was never told takes no place; no signed URL is in it, and nothing beside the known fields."""
    assert intent().row() == ("mine", ID, "a key", body_of(request()), "planned", "{}")
    told = intent()
    told.acknowledge(event(Downloaded, deliverable=VIDEO, path=Path("a.mp4")))
    told.acknowledge(event(Finished, 2, outcome=outcome()))
    row = repr(told.row())
    assert "Tides" in row
    assert "secret" not in row
    assert "kept by nobody" not in row


def test_a_changed_request_is_not_the_same() -> None:
    """Neither with another body nor on another account."""
    assert intent().same_request(request(reference="another name"))
    assert not intent().same_request(request(topic="Ebbs"))
    assert not intent().same_request(request(account_id=OTHER))


def test_what_was_told_is_noted() -> None:
    """The production as it is, since when, and the number of the event; late ones do not count back."""
    kept = intent()
    kept.acknowledge(event(Submitted, 1))
    assert (kept.sequence, kept.production, kept.since) == (1, PRODUCING, LATER.timestamp())
    assert kept.production is not None
    assert kept.production.raw == {}
    published = evolve(PRODUCING, status=Status.PUBLISHED)
    kept.webhook_pending = True
    kept.acknowledge(
        event(StatusChanged, 2, production=published, previous=Status.PRODUCING, changed_after=NOW)
    )
    assert (kept.sequence, kept.production, kept.webhook_pending) == (2, published, False)
    assert kept.since == (NOW + timedelta(minutes=10)).timestamp()
    kept.acknowledge(event(DeliverablesReady, 3, deliverables=(), final=False))
    assert not kept.listed
    kept.acknowledge(event(DeliverablesReady, 4, deliverables=(VIDEO,), final=True))
    assert kept.listed
    kept.acknowledge(event(Downloaded, 5, deliverable=VIDEO, path=Path("a.mp4")))
    assert kept.known_files() == {Path("a.mp4"): evolve(VIDEO, url="")}
    kept.acknowledge(event(DeliverablesReady, 2, deliverables=(), final=True))
    assert kept.sequence == 5
    assert kept.stage is Stage.PLANNED


def test_a_production_that_was_replaced_is_not_noted_again() -> None:
    """Its late events count, and say nothing about the one in its place."""
    kept = intent(stage=Stage.ACCEPTED, sent_at=1.0, submitted_at=2.0, since=3.0, production=PRODUCING)
    kept.webhook_pending = True
    kept.reset_for_resubmit("another key")
    assert (kept.stage, kept.key, kept.expired) == (Stage.PLANNED, "another key", [ID])
    assert (kept.production, kept.sent_at, kept.submitted_at, kept.since) == (None, None, None, None)
    assert not kept.webhook_pending
    kept.acknowledge(event(StatusChanged, 3, previous=Status.QUEUED, changed_after=NOW))
    assert (kept.sequence, kept.production, kept.since) == (3, None, None)
    second = evolve(PRODUCING, id=parse_id(OTHER))
    kept.acknowledge(event(Submitted, 4, production=second))
    assert kept.production == second
    kept.acknowledge(event(Finished, 5, production=None, outcome=outcome(OutcomeState.REJECTED)))
    assert (kept.sequence, kept.production) == (5, second)


def test_what_never_had_a_production_has_none_to_replace() -> None:
    """It begins anew with another key."""
    kept = intent(stage=Stage.IN_DOUBT)
    kept.reset_for_resubmit("another key")
    assert (kept.stage, kept.key, kept.expired) == (Stage.PLANNED, "another key", [])


@pytest.mark.parametrize("state", OutcomeState)
def test_only_a_true_end_is_kept(state: OutcomeState) -> None:
    """A refusal, a deadline or a failed download is something that a next run can go on with."""
    kept = intent(stage=Stage.ACCEPTED)
    kept.acknowledge(event(Finished, 9, outcome=outcome(state)))
    assert (kept.stage is Stage.ENDED) == (kept.outcome is not None) == (state in OVER)
    assert (kept.stage is Stage.ACCEPTED) == (state not in OVER)
    not_whole = intent(stage=Stage.ACCEPTED)
    not_whole.acknowledge(event(Finished, 9, outcome=outcome(OutcomeState.PUBLISHED, JaraiError("no room"))))
    assert not_whole.stage is Stage.ACCEPTED


@pytest.mark.parametrize("state", sorted(OVER))
def test_an_end_is_told_again_as_it_was(state: OutcomeState) -> None:
    """All of the outcome, after it was written and read."""
    failed = state in (OutcomeState.FAILED, OutcomeState.NOT_FOUND)
    error = ProductionFailedError("it failed", code="BAD_TOPIC") if failed else None
    first = evolve(outcome(state, error), files={Path("a.mp4"): evolve(VIDEO, url="")})
    kept = intent()
    kept.acknowledge(event(Downloaded, deliverable=VIDEO, path=Path("a.mp4")))
    kept.acknowledge(event(Finished, 2, production=first.production, outcome=first))
    again = reopened(kept).ended(first.request)
    assert evolve(again, error=None) == evolve(first, error=None, deliverables=(evolve(VIDEO, url=""),))
    if failed:
        assert type(again.error) is ProductionFailedError
        assert (again.error.message, again.error.code) == ("it failed", "BAD_TOPIC")
    else:
        assert again.error is None


def test_an_end_that_nobody_dated_has_no_date() -> None:
    """It was accepted by a process that died before it could say when; and failed without a code."""
    first = evolve(outcome(OutcomeState.FAILED, ProductionFailedError("it failed")), submitted_at=None)
    kept = intent()
    kept.acknowledge(event(Finished, outcome=first))
    again = reopened(kept).ended(first.request)
    assert again.submitted_at is None
    assert again.error is not None
    assert again.error.code is None


@pytest.mark.parametrize("name", ["state", "error", "deliverables", "finishedAt", "requests"])
@given(value=json_values)
def test_an_end_that_cannot_be_read_is_said(name: str, value: object) -> None:
    """Hostile until checked: each part of it gives an outcome or one clear error; missing, the error."""
    kept = intent()
    kept.acknowledge(
        event(Finished, outcome=outcome(OutcomeState.FAILED, ProductionFailedError("it failed")))
    )
    assert kept.outcome is not None
    kept.outcome[name] = value
    with contextlib.suppress(JournalError):
        assert kept.ended(request()).reference == "mine"
    del kept.outcome[name]
    with pytest.raises(JournalError, match=f"the journal's entry for 'mine' cannot be read: '{name}'"):
        kept.ended(request())


def test_an_end_without_an_outcome_is_said() -> None:
    """Where the row says that it ended, and not how."""
    with pytest.raises(JournalError, match="the journal's entry for 'mine' cannot be read"):
        intent(stage=Stage.ENDED).ended(request())


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (0, 5),
        (1, "../x"),
        (1, 5),
        (2, b"key"),
        (3, "text"),
        (4, "sold"),
        (5, "[]"),
        (5, "{"),
        (5, "[" * 100_000),
        (5, 5),
        *(
            (5, f'{{"{name}": {value}}}')
            for name, values in {
                "sentAt": ('"x"', "-1", "1e11", "NaN"),
                "submittedAt": ("[]", "-0.5"),
                "since": ("{}", "Infinity"),
                "sequence": ("1.5", "null", "true"),
                "listed": ("1", "null"),
                "hinted": ("1", "null"),
                "files": ("[]", "null", '{"a.mp4": 5}', '{"a.mp4": {}}'),
                "expired": ("{}", '["x"]', "[5]"),
                "outcome": ("[]", "5"),
                "production": ("{}", "5"),
            }.items()
            for value in values
        ),
    ],
)
def test_what_was_never_written_is_refused(column: int, value: object) -> None:
    """With the name of the entry, whichever column it is."""
    row: list[Any] = [*intent().row()]
    row[column] = value
    hostile: Any = tuple(row)
    with pytest.raises(JournalError, match=f"the journal's entry for {row[0]!r} cannot be read: "):
        Intent.from_row(hostile)


@pytest.mark.parametrize(
    ("kept", "reason"),
    [
        ("[]", "expected dict, not list"),
        ('{"sequence": "5"}', "expected int, not str"),
        ('{"since": -1}', "no moment: -1"),
        (
            '{"production": 5}',  # without the advice to tell JARAI
            "not in the documented format: invalid type (expected an object, not int) @ Production",
        ),
    ],
)
def test_why_it_is_refused_is_said(kept: str, reason: str) -> None:
    """In a few words."""
    with pytest.raises(JournalError) as caught:
        Intent.from_row((*intent().row()[:5], kept))
    assert caught.value.message == f"the journal's entry for 'mine' cannot be read: {reason}"


def test_why_a_body_is_refused_is_said() -> None:
    """Likewise."""
    with pytest.raises(JournalError) as caught:
        Intent("mine", ID, b"[]", "a key").request()
    assert caught.value.message == "the journal's entry for 'mine' cannot be read: expected dict, not list"


def test_moments_from_now_to_a_far_future_are_believed() -> None:
    """From 1970 on, and for 3,000 years."""
    row: Row = (*intent().row()[:5], '{"sentAt": 0, "submittedAt": 99999999999, "since": 0.5}')
    kept = Intent.from_row(row)
    assert (kept.sent_at, kept.submitted_at, kept.since) == (0.0, 99_999_999_999.0, 0.5)


@given(
    st.text(min_size=1, max_size=50),
    st.none() | st.text(max_size=50),
    st.dictionaries(st.text(), json_values),
)
def test_the_request_can_be_told_from_what_is_kept(
    topic: str, metadata: str | None, extra: dict[str, Any]
) -> None:
    """So that a batch is gone on with from its journal alone."""
    try:
        first = request(topic=topic, metadata=metadata, extra=extra, reference="mine")
    except InvalidRequestError:
        return
    assert Intent("mine", ID, body_of(first), "a key").request() == first


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b"{}", b"[]", b"5", b"\xff"])
def test_a_body_that_is_no_request_is_said(body: bytes) -> None:
    """Whatever it is."""
    kept = intent()
    kept.body = body
    with pytest.raises(JournalError, match="the journal's entry for 'mine' cannot be read: "):
        kept.request()


def test_each_attempt_sends_the_same_bytes() -> None:
    """Compact, and in the documented order: a server may compare them with those of the first attempt."""
    ids = f'"languageId":"{ID}","countryId":"{ID}","avatarId":"{ID}"'
    assert body_of(request(topic="Tidés")) == f'{{"topic":"Tid\\u00e9s",{ids}}}'.encode()
