"""How far webhooks are relied on: not before they prove reliable, nor after they fall silent. Pure."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import Status
from jarai_async._polling.webhook_coverage import WebhookCoverage
from jarai_async.webhooks import (
    DeliverableReady,
    ProductionPublished,
    ProductionQueued,
    StepCompleted,
    WebhookEvent,
)
from tests.support.strategies import ID, OTHER
from tests.support.webhook_events import webhook_event

QUEUED, PRODUCING, AWAITING_APPROVAL, DISTRIBUTING, UNKNOWN = (
    Status.QUEUED,
    Status.PRODUCING,
    Status.AWAITING_APPROVAL,
    Status.DISTRIBUTING,
    Status("Rendering"),
)
STEP = webhook_event(StepCompleted, step=1)


def coverage_after(announced: int, missed: int = 0, left: Status = DISTRIBUTING) -> WebhookCoverage:
    """Return the coverage after this many announced changes, followed by this many missed ones."""
    coverage = WebhookCoverage(0.0)
    for n in range(announced + missed):
        coverage.changed(f"{n}", left, Status.PUBLISHED, 0.0, announced=n < announced)
    return coverage


# --- Announced and missed changes ------------------------------------------------------------------


def test_webhooks_are_not_relied_on_at_first() -> None:
    """Before the first event every change must be found by a poll."""
    coverage = WebhookCoverage(0.0)
    statuses = (QUEUED, PRODUCING, AWAITING_APPROVAL, DISTRIBUTING, UNKNOWN)
    assert {coverage.miss_probability(status, 5.0) for status in statuses} == {1.0}


@given(st.lists(st.booleans(), max_size=80))
def test_miss_probability_follows_the_changes(history: list[bool]) -> None:
    """It stays a probability; an announced change lowers it, and a missed one does not."""
    coverage = WebhookCoverage(0.0)
    for n, announced in enumerate(history):
        before = coverage.miss_probability(DISTRIBUTING, 0.0)
        coverage.changed(f"{n}", DISTRIBUTING, Status.PUBLISHED, -60.0, announced=announced)
        after = coverage.miss_probability(DISTRIBUTING, 0.0)
        assert 0 < after <= 1
        assert after < before if announced else after >= before - 1e-9


def test_reliable_webhooks_are_relied_on_until_some_are_lost() -> None:
    """After 20 announced changes the miss probability is 2 %; after three missed ones it is above 15 %."""
    assert coverage_after(20).miss_probability(DISTRIBUTING, 0.0) < 0.02
    probabilities = [coverage_after(20, missed).miss_probability(DISTRIBUTING, 60.0) for missed in range(4)]
    assert all(earlier < later for earlier, later in pairwise(probabilities))
    assert probabilities[3] > 0.15


def test_other_event_types_are_relied_on_for_nine_in_ten_at_most() -> None:
    """Announced ends say little about other changes: the subscription may not include their events."""
    coverage = coverage_after(20)
    # One event announces the end of both statuses.
    assert coverage.miss_probability(AWAITING_APPROVAL, 0.0) == coverage.miss_probability(DISTRIBUTING, 0.0)
    assert coverage.miss_probability(PRODUCING, 0.0) == pytest.approx(0.1)
    assert coverage.miss_probability(UNKNOWN, 0.0) == pytest.approx(0.1)


@pytest.mark.parametrize(("seconds", "is_on_time"), [(59.0, True), (61.0, False)])
def test_event_may_arrive_a_minute_after_its_change_was_seen(seconds: float, *, is_on_time: bool) -> None:
    """A poll may be faster than the webhook; an event that arrives after a minute counts as lost."""
    coverage = WebhookCoverage(0.0)
    coverage.changed(ID, PRODUCING, AWAITING_APPROVAL, 0.0, announced=False)
    before = coverage.miss_probability(PRODUCING, seconds)
    coverage.event_arrived(webhook_event(DeliverableReady), seconds)
    assert before == 1.0
    assert (coverage.miss_probability(PRODUCING, seconds) < 1.0) is is_on_time


@pytest.mark.parametrize("kind", [WebhookEvent, ProductionPublished])
def test_event_of_another_change_does_not_announce_a_change(kind: type[WebhookEvent]) -> None:
    """An unknown event or that of a later change, even within a minute, does not count for this change."""
    coverage = WebhookCoverage(0.0)
    coverage.changed(ID, PRODUCING, AWAITING_APPROVAL, 0.0, announced=False)
    coverage.event_arrived(webhook_event(kind), 30.0)
    assert coverage.miss_probability(PRODUCING, 61.0) == 1.0


def test_step_or_event_of_another_production_does_not_announce_a_change() -> None:
    """Only the event for this change of this production counts."""
    coverage = WebhookCoverage(0.0)
    coverage.changed(ID, PRODUCING, AWAITING_APPROVAL, 0.0, announced=False)
    coverage.event_arrived(webhook_event(StepCompleted, step=3), 1.0)
    coverage.event_arrived(webhook_event(DeliverableReady, production_id=OTHER), 1.0)
    assert coverage.miss_probability(PRODUCING, 61.0) == 1.0


def test_changes_without_an_event_type_are_not_counted_as_missed() -> None:
    """There is no event for them, however reliable webhooks are; nor for a cancel."""
    coverage = WebhookCoverage(0.0)
    changes = [(QUEUED, PRODUCING), (AWAITING_APPROVAL, DISTRIBUTING), (PRODUCING, Status.CANCELLED)]
    for left, entered in changes:
        coverage.changed(ID, left, entered, 0.0, announced=False)
    coverage.submitted(ID, 100.0)
    coverage.event_arrived(webhook_event(ProductionQueued), 101.0)
    assert coverage.miss_probability(PRODUCING, 200.0) < 1.0


# --- Silence ---------------------------------------------------------------------------------------


def coverage_with_steps(productions: int, interval: float, until: float) -> WebhookCoverage:
    """Return a reliable coverage on which each production has sent a step event at this interval."""
    coverage = coverage_after(40, left=PRODUCING)
    for _ in range(productions):
        coverage.producing_began("short", 0.0)
    for n in range(1, int(until * productions / interval) + 1):
        coverage.event_arrived(STEP, n * interval / productions)
        coverage.step_arrived("short")
    return coverage


@pytest.mark.parametrize("productions", [3, 30, 300])
def test_webhooks_are_not_relied_on_while_step_events_are_overdue(productions: int) -> None:
    """After a minute of silence, some ten overdue events suffice: the more productions, the sooner."""
    coverage = coverage_with_steps(productions, interval=60.0, until=600.0)
    assert coverage.miss_probability(PRODUCING, 610.0) < 0.02
    assert coverage.miss_probability(PRODUCING, 660.0 + 10 * 60.0 / productions * 1.5) > 0.9


def test_silence_means_nothing_while_no_production_is_producing() -> None:
    """When the last production has left Producing, no step events are expected."""
    coverage = coverage_with_steps(3, interval=60.0, until=600.0)
    for _ in range(3):
        coverage.producing_ended("short", 0.0, 600.0)
    assert coverage.miss_probability(PRODUCING, 100_000.0) < 0.02


def test_step_of_an_unknown_project_type_is_ignored() -> None:
    """A response may leave out the project type that the next one names (not documented)."""
    coverage = WebhookCoverage(0.0)
    coverage.producing_began(None, 0.0)
    coverage.step_arrived("short")
    coverage.producing_ended(None, 0.0, 60.0)
    assert coverage.miss_probability(PRODUCING, 60.0) == 1.0


def test_productions_seen_before_the_end_of_a_silence_are_polled() -> None:
    """Their events may have been lost; after an ordinary pause between events, nothing changes."""
    coverage = coverage_with_steps(30, interval=60.0, until=600.0)
    coverage.event_arrived(STEP, 650.0)
    assert coverage.trusted_since == 0.0
    coverage.event_arrived(STEP, 1_000.0)
    assert coverage.trusted_since == 1_000.0


def test_rate_of_step_events_is_of_all_productions_so_far() -> None:
    """The time of those that have ended counts with their events, so silence means as much as before."""
    coverage = coverage_with_steps(3, interval=60.0, until=600.0)
    for _ in range(3):
        coverage.producing_ended("short", 0.0, 600.0)
    coverage.producing_began("short", 600.0)
    assert coverage.miss_probability(PRODUCING, 660.0 + 2 * 60) < 0.1
    assert coverage.miss_probability(PRODUCING, 660.0 + 15 * 60) > 0.9
