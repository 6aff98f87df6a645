"""The report of a batch: what its summary and its progress line count."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from jarai_async import (
    DownloadError,
    Finished,
    JaraiError,
    JournalError,
    Outcome,
    OutcomeState,
    Production,
    Status,
    StatusChanged,
    Submitted,
    UncertainSubmitError,
)
from jarai_async._api.models import parse_id
from jarai_async._cli.report import BatchReport, describe_cost, failure
from jarai_async._events import final_state
from jarai_async._journal.entries import Stage
from tests.support.journals import intent
from tests.support.strategies import ID, OTHER, request

NOW = datetime(2026, 1, 1, tzinfo=UTC)
QUEUED = Production(parse_id(ID), Status.QUEUED)
INCOMPLETE = DownloadError("1 of 2 files could not be downloaded")


def submitted(reference: str = "a", production: Production = QUEUED) -> Submitted:
    return Submitted(reference=reference, production=production, sequence=1, observed_at=NOW)


def producing(reference: str, status: str = Status.PRODUCING) -> StatusChanged:
    return StatusChanged(
        reference=reference,
        production=Production(parse_id(ID), Status(status)),
        previous=Status.QUEUED,
        changed_after=NOW,
        sequence=2,
        observed_at=NOW,
    )


def finished(
    state: OutcomeState,
    error: JaraiError | None = None,
    reference: str = "a",
    production: Production | None = None,
    request_count: int = 3,
) -> Finished:
    outcome = Outcome(
        request=request(reference=reference),
        reference=reference,
        state=state,
        production=production,
        error=error,
        submitted_at=NOW,
        finished_at=NOW,
        request_count=request_count,
    )
    return Finished(reference=reference, production=production, outcome=outcome, sequence=2, observed_at=NOW)


def report(*events: Submitted | Finished, total: int = 1) -> BatchReport:
    counted = BatchReport(total)
    for event in events:
        counted.add(event)
    return counted


def test_accepted_production_without_an_outcome_is_lost_unless_the_batch_was_interrupted() -> None:
    """An interrupted batch has it still running."""
    counted = report(submitted(), total=3)
    assert "1 lost" in counted.summary(interrupted=False)
    interrupted = counted.summary(interrupted=True)
    assert "1 still running, 2 not submitted, 0 lost" in interrupted


def test_production_that_no_event_has_mentioned_is_lost() -> None:
    """Only a simulator knows of it."""
    counted = report(submitted(), finished(OutcomeState.PUBLISHED, production=QUEUED))
    assert "0 lost" in counted.summary(interrupted=False, created=[ID])
    assert "1 lost" in counted.summary(interrupted=False, created=[ID, OTHER])


@pytest.mark.parametrize(
    ("outcomes", "is_ok"),
    [
        ([finished(OutcomeState.PUBLISHED)], True),
        ([finished(OutcomeState.PUBLISHED, INCOMPLETE)], False),
        ([finished(OutcomeState.FAILED)], False),
        ([], False),
    ],
)
def test_batch_is_ok_if_everything_is_published_with_all_files(outcomes: list[Finished], is_ok: bool) -> None:  # noqa: FBT001
    """Files that are missing are counted as well."""
    counted = report(*outcomes)
    assert counted.ok is is_ok
    assert ("1 with files missing" in counted.summary(interrupted=False)) is (
        [finished.outcome.error for finished in outcomes] == [INCOMPLETE]
    )


def test_requests_that_were_begun_before_count_as_the_journal_has_them_until_their_first_event() -> None:
    """Also in the summary of a run that is interrupted before it. What lacks files is finished no more."""
    ended = {
        name: intent(name, stage=Stage.ENDED, outcome={"state": name}) for name in ("published", "failed")
    }
    others = intent("a", stage=Stage.ACCEPTED, production=QUEUED), intent("doubt", stage=Stage.IN_DOUBT)
    counted = BatchReport(6, [*ended.values(), *others])
    assert (counted.finished, counted.progress()) == (2, "2 to submit, 1 queued, 1 failed")
    summary = (
        "4 submitted (0 of them now), 2 finished: "
        "1 published, 1 failed, 0 rejected, 1 still running, 2 not submitted, 0 lost"
    )
    assert counted.summary(interrupted=True) == summary
    assert not BatchReport(1, [ended["published"]]).ok  # its files are checked first
    counted.add(producing("published", Status.PUBLISHED))
    counted.add(producing("a"))
    assert (counted.finished, counted.progress()) == (1, "2 to submit, 1 producing, 1 downloading, 1 failed")
    for name in ("published", "failed", "a"):
        counted.add(finished(OutcomeState.PUBLISHED, reference=name, production=QUEUED))
    assert (counted.finished, counted.outcomes) == (3, {"published": 3})


def test_progress_counts_each_request_once() -> None:
    """By its status, as not submitted yet, or as not published in the end."""
    counted = report(submitted(), submitted("b"), finished(OutcomeState.REJECTED, INCOMPLETE, "c"), total=5)
    counted.add(producing("a"))
    assert counted.progress() == "2 to submit, 1 queued, 1 producing, 1 rejected"


def test_published_production_with_files_missing_is_not_called_unpublished() -> None:
    """It is published, and only its files are not all there."""
    counted = report(
        finished(OutcomeState.PUBLISHED, INCOMPLETE, production=QUEUED),
        finished(OutcomeState.FAILED, reference="b", production=QUEUED),
        total=2,
    )
    assert counted.progress() == "1 failed, 1 with files missing"


def test_request_that_was_never_sent_counts_only_as_not_submitted() -> None:
    """For instance on a full disk: every request counts in one state."""
    counted = report(
        submitted("published"),
        finished(OutcomeState.PUBLISHED, reference="published", production=QUEUED),
        finished(OutcomeState.REJECTED, JournalError("full"), reference="unsent", request_count=0),
        finished(OutcomeState.REJECTED, JaraiError("no"), reference="rejected"),
        total=3,
    )
    summary = "2 submitted, 3 finished: 1 published, 0 failed, 1 rejected, 1 not submitted, 0 lost"
    assert counted.summary(interrupted=False) == summary
    assert counted.progress() == "1 rejected, 1 not sent"
    assert not counted.ok


def test_equal_ends_are_one_line() -> None:
    """It has their number and the first of them; what differs between them, such as an ID, is left out."""

    def failed(reference: str, reason: str, code: str | None) -> Finished:
        production = Production(parse_id(str(uuid4())), Status.FAILED, error_code=code, error_message=reason)
        _, error = final_state(production)
        return finished(OutcomeState.FAILED, error, reference, production)

    counted = report(
        *(failed(name, "No voice.", "VOICE") for name in "abcde"),
        *(failed(name, f"Step {name} failed", "STEP") for name in "fg"),
        failed("h", "Lost", None),
        *(finished(OutcomeState.PUBLISHED, reference=name) for name in "ijk"),
        *(finished(OutcomeState.UNCERTAIN, UncertainSubmitError(name), name) for name in "lm"),
        total=13,
    )
    assert [*counted.kinds()] == [
        "     5 failed: No voice (VOICE): a, b, c and 2 more",
        "     3 published",
        "     2 failed: STEP, such as Step f failed: f, g",
        "     2 uncertain: the response to the submit was lost, see `jarai resolve`: l, m",
        "     1 failed: Lost: h",
    ]
    assert failure(failed("a", "No voice.", "VOICE").outcome) == "a failed: No voice (VOICE)"


def test_cost_of_a_batch_is_its_time_and_its_requests() -> None:
    """Kinds of requests that were not sent are left out."""
    cost = describe_cost(3 * 3600 + 60, {"submit": 200, "cancel": 0, "poll": 2_000})
    assert cost == "took 3 h 1 min and 2,200 API requests (200 submit, 2,000 poll)"
