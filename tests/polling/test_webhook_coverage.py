"""How far webhooks are relied on: not before they have proved it, and not after they fall silent."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import Status
from jarai_async._api.models import parse_id
from jarai_async._polling.event_meaning import classify
from jarai_async._polling.webhook_coverage import WebhookCoverage
from jarai_async.webhooks import (
    DeliverableReady,
    ProductionFailed,
    ProductionPublished,
    ProductionQueued,
    StepCompleted,
    WebhookEvent,
)
from tests.support.strategies import ID, OTHER

QUEUED, PRODUCING, AWAITING, DISTRIBUTING = (
    Status.QUEUED,
    Status.PRODUCING,
    Status.AWAITING_APPROVAL,
    Status.DISTRIBUTING,
)
UNDER_WAY = [QUEUED, PRODUCING, AWAITING, DISTRIBUTING, Status("Rendering")]


def event(kind: type[WebhookEvent], production_id: str = ID, **fields: Any) -> WebhookEvent:
    return kind(
        event_id=parse_id(ID),
        event_type="",
        production_id=parse_id(production_id),
        account_id=parse_id(OTHER),
        sequence_number=1,
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        **fields,
    )


def taught(told: int, untold: int = 0, left: Status = DISTRIBUTING) -> WebhookCoverage:
    """Give what follows from so many changes, the untold ones last."""
    coverage = WebhookCoverage(0.0)
    for n in range(told + untold):
        coverage.changed(f"{n}", left, Status.PUBLISHED, 0.0, announced=n < told)
    return coverage


@pytest.mark.parametrize(
    ("one", "news_to"),
    [
        (event(ProductionQueued), []),
        (event(StepCompleted, step=3), [QUEUED]),
        (event(StepCompleted), [QUEUED]),
        (event(StepCompleted, step=15), [QUEUED, PRODUCING]),
        (event(DeliverableReady), [QUEUED, PRODUCING]),
        (event(ProductionPublished), UNDER_WAY),
        (event(ProductionFailed), UNDER_WAY),
        (event(WebhookEvent), UNDER_WAY),
    ],
)
def test_an_event_is_news_where_it_says_more_than_is_known(one: WebhookEvent, news_to: list[Status]) -> None:
    """What comes late, twice or out of order asks for nothing; nothing is news of what has ended."""
    ended = [Status.PUBLISHED, Status.FAILED, Status.CANCELLED]
    assert [status for status in [*UNDER_WAY, *ended] if classify(one, status).status_ended] == news_to


def test_an_event_says_more_the_further_a_production_has_come_by_it() -> None:
    """As many as may come in a status, few of them say more than all before."""
    order = [event(WebhookEvent), event(StepCompleted), event(DeliverableReady), event(ProductionFailed)]
    for one, next_one in pairwise(order):
        assert classify(next_one, PRODUCING).progress > classify(one, PRODUCING).progress


def test_a_step_confirms_that_production_goes_on() -> None:
    """Nothing else says that a status still lasts."""
    assert classify(event(StepCompleted, step=3), PRODUCING).status_confirmed
    assert not classify(event(StepCompleted, step=3), DISTRIBUTING).status_confirmed
    assert not classify(event(ProductionQueued), QUEUED).status_confirmed


def test_only_the_event_of_a_change_knows_its_moment() -> None:
    """A step that was completed says only that production began before."""
    assert classify(event(DeliverableReady), PRODUCING).dates_change
    assert classify(event(ProductionPublished), DISTRIBUTING).dates_change
    assert classify(event(ProductionFailed), PRODUCING).dates_change
    assert not classify(event(StepCompleted, step=1), QUEUED).dates_change
    assert not classify(event(ProductionPublished), AWAITING).dates_change
    assert not classify(event(ProductionPublished), PRODUCING).dates_change
    assert not classify(event(WebhookEvent), DISTRIBUTING).dates_change


@pytest.mark.parametrize(
    ("one", "of"),
    [
        (event(ProductionQueued), []),
        (event(StepCompleted, step=3), []),
        (event(StepCompleted, step=15), [QUEUED, PRODUCING]),
        (event(DeliverableReady), [QUEUED, PRODUCING]),
        (event(ProductionPublished), [AWAITING, DISTRIBUTING, Status("Rendering")]),
        (event(ProductionFailed), UNDER_WAY),
        (event(WebhookEvent), []),
    ],
)
def test_only_the_event_of_a_change_proves_that_such_changes_are_told(
    one: WebhookEvent, of: list[Status]
) -> None:
    """Where no deliverables are told of, that all is over is told all the same, and much later."""
    assert [status for status in UNDER_WAY if classify(one, status).announces_change] == of


@pytest.mark.parametrize("kind", [WebhookEvent, ProductionPublished])
def test_another_event_in_time_proves_nothing(kind: type[WebhookEvent]) -> None:
    """A change was seen, and within a minute comes what is no event of it."""
    coverage = WebhookCoverage(0.0)
    coverage.changed(ID, PRODUCING, AWAITING, 0.0, announced=False)
    coverage.event_arrived(event(kind), 30.0)
    assert coverage.miss_probability(PRODUCING, 61.0) == 1.0


def test_nothing_is_relied_on_at_first() -> None:
    """Until an event came, all is to be looked for."""
    assert {WebhookCoverage(0.0).miss_probability(status, 5.0) for status in UNDER_WAY} == {1.0}


@given(st.lists(st.booleans(), max_size=80))
def test_the_chance_is_one_and_follows_what_happened(history: list[bool]) -> None:
    """It stays a chance; each change that was told makes it smaller, each that was not greater."""
    coverage = WebhookCoverage(0.0)
    for n, told in enumerate(history):
        before = coverage.miss_probability(DISTRIBUTING, 0.0)
        coverage.changed(f"{n}", DISTRIBUTING, Status.PUBLISHED, -60.0, announced=told)
        after = coverage.miss_probability(DISTRIBUTING, 0.0)
        assert 0 < after <= 1
        assert after < before if told else after >= before - 1e-9


def test_what_proves_reliable_is_relied_on_and_a_few_losses_end_that() -> None:
    """Of twenty told ones one in fifty remains; after three losses in a row it is one in six or more."""
    assert taught(20).miss_probability(DISTRIBUTING, 0.0) < 0.02
    falling = [taught(20, lost).miss_probability(DISTRIBUTING, 60.0) for lost in range(4)]
    assert all(earlier < later for earlier, later in pairwise(falling))
    assert falling[3] > 0.15


def test_what_others_prove_counts_only_for_so_much() -> None:
    """That ends are told says little of other changes, whose events may not be subscribed to."""
    coverage = taught(20)
    assert coverage.miss_probability(AWAITING, 0.0) == coverage.miss_probability(
        DISTRIBUTING, 0.0
    )  # its end tells of both
    assert coverage.miss_probability(PRODUCING, 0.0) == pytest.approx(0.1)
    assert coverage.miss_probability(Status("Rendering"), 0.0) == pytest.approx(0.1)


@pytest.mark.parametrize(("seconds", "told"), [(59.0, True), (61.0, False)])
def test_an_event_may_come_a_minute_after_its_change_was_seen(seconds: float, told: bool) -> None:  # noqa: FBT001
    """Polls are sometimes faster; what comes later than that is as good as lost."""
    coverage = WebhookCoverage(0.0)
    coverage.changed(ID, PRODUCING, AWAITING, 0.0, announced=False)
    before = coverage.miss_probability(PRODUCING, seconds)
    coverage.event_arrived(event(DeliverableReady), seconds)
    assert before == 1.0
    assert (coverage.miss_probability(PRODUCING, seconds) < 1.0) is told


def test_another_event_of_the_same_production_does_not_count_for_it() -> None:
    """That a step was completed does not tell of the end."""
    coverage = WebhookCoverage(0.0)
    coverage.changed(ID, PRODUCING, AWAITING, 0.0, announced=False)
    coverage.event_arrived(event(StepCompleted, step=3), 1.0)
    coverage.event_arrived(event(DeliverableReady, production_id=OTHER), 1.0)
    assert coverage.miss_probability(PRODUCING, 61.0) == 1.0


def test_changes_without_an_event_and_cancellations_say_nothing() -> None:
    """Nothing is told of them, however well webhooks arrive."""
    coverage = WebhookCoverage(0.0)
    for left, entered in ((QUEUED, PRODUCING), (AWAITING, DISTRIBUTING), (PRODUCING, Status.CANCELLED)):
        coverage.changed(ID, left, entered, 0.0, announced=False)
    coverage.submitted(ID, 100.0)
    coverage.event_arrived(event(ProductionQueued), 101.0)
    assert coverage.miss_probability(PRODUCING, 200.0) < 1.0


def producing(count: int, every: float, until: float) -> WebhookCoverage:
    """Give a channel that has proved good, on which each of so many tells of a step every so often."""
    coverage = taught(40, left=PRODUCING)
    for _ in range(count):
        coverage.producing_began("short", 0.0)
    for n in range(1, int(until * count / every) + 1):
        coverage.event_arrived(event(StepCompleted, step=1), n * every / count)
        coverage.step_arrived("short")
    return coverage


@pytest.mark.parametrize("count", [3, 30, 300])
def test_silence_ends_reliance_sooner_the_more_is_missed(count: int) -> None:
    """Ten steps too few, and a minute of patience."""
    coverage = producing(count, every=60.0, until=600.0)
    assert coverage.miss_probability(PRODUCING, 610.0) < 0.02
    assert coverage.miss_probability(PRODUCING, 660.0 + 10 * 60.0 / count * 1.5) > 0.9


def test_silence_where_nothing_is_expected_is_no_news() -> None:
    """When the last one has ended nothing comes any more, and nobody is to blame."""
    coverage = producing(3, every=60.0, until=600.0)
    for _ in range(3):
        coverage.producing_ended("short", 0.0, 600.0)
    assert coverage.miss_probability(PRODUCING, 100_000.0) < 0.02


def test_a_type_that_nothing_is_counted_for_is_no_fault() -> None:
    """Nothing is documented of it: one answer may leave it out, and the next name it."""
    coverage = WebhookCoverage(0.0)
    coverage.producing_began(None, 0.0)
    coverage.step_arrived("short")
    coverage.producing_ended(None, 0.0, 60.0)
    assert coverage.miss_probability(PRODUCING, 60.0) == 1.0


def test_when_a_silence_ends_what_was_seen_before_is_looked_for() -> None:
    """Its events may be among those that were lost; an ordinary pause is no such silence."""
    coverage = producing(30, every=60.0, until=600.0)
    coverage.event_arrived(event(StepCompleted, step=1), 650.0)
    assert coverage.trusted_since == 0.0
    coverage.event_arrived(event(StepCompleted, step=1), 1_000.0)
    assert coverage.trusted_since == 1_000.0
