"""How far webhooks are relied on: not before they have proved it, and not after they fall silent."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import Status
from jarai_async._api.models import parse_id
from jarai_async._polling.webhook_coverage import (
    WebhookCoverage,
    confirms,
    dates,
    proves,
    says_more,
    tells,
)
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
    reliability = WebhookCoverage(0.0)
    for n in range(told + untold):
        reliability.changed(f"{n}", left, Status.PUBLISHED, 0.0, told=n < told)
    return reliability


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
    assert [status for status in [*UNDER_WAY, *ended] if tells(one, status)] == news_to


def test_an_event_says_more_the_further_a_production_has_come_by_it() -> None:
    """As many as may come in a status, few of them say more than all before."""
    order = [event(WebhookEvent), event(StepCompleted), event(DeliverableReady), event(ProductionFailed)]
    for one, next_one in pairwise(order):
        assert says_more(one, None)
        assert says_more(next_one, one)
        assert not says_more(one, next_one)
        assert not says_more(one, one)


def test_a_step_confirms_that_production_goes_on() -> None:
    """Nothing else says that a status still lasts."""
    assert confirms(event(StepCompleted, step=3), PRODUCING)
    assert not confirms(event(StepCompleted, step=3), DISTRIBUTING)
    assert not confirms(event(ProductionQueued), QUEUED)


def test_only_the_event_of_a_change_knows_its_moment() -> None:
    """A step that was completed says only that production began before."""
    assert dates(event(DeliverableReady), PRODUCING)
    assert dates(event(ProductionPublished), DISTRIBUTING)
    assert dates(event(ProductionFailed), PRODUCING)
    assert not dates(event(StepCompleted, step=1), QUEUED)
    assert not dates(event(ProductionPublished), AWAITING)
    assert not dates(event(ProductionPublished), PRODUCING)
    assert not dates(event(WebhookEvent), DISTRIBUTING)


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
    assert [status for status in UNDER_WAY if proves(one, status)] == of


@pytest.mark.parametrize("kind", [WebhookEvent, ProductionPublished])
def test_another_event_in_time_proves_nothing(kind: type[WebhookEvent]) -> None:
    """A change was seen, and within a minute comes what is no event of it."""
    reliability = WebhookCoverage(0.0)
    reliability.changed(ID, PRODUCING, AWAITING, 0.0, told=False)
    reliability.heard(event(kind), 30.0)
    assert reliability.untold(PRODUCING, 61.0) == 1.0


def test_nothing_is_relied_on_at_first() -> None:
    """Until an event came, all is to be looked for."""
    assert {WebhookCoverage(0.0).untold(status, 5.0) for status in UNDER_WAY} == {1.0}


@given(st.lists(st.booleans(), max_size=80))
def test_the_chance_is_one_and_follows_what_happened(history: list[bool]) -> None:
    """It stays a chance; each change that was told makes it smaller, each that was not greater."""
    reliability = WebhookCoverage(0.0)
    for n, told in enumerate(history):
        before = reliability.untold(DISTRIBUTING, 0.0)
        reliability.changed(f"{n}", DISTRIBUTING, Status.PUBLISHED, -60.0, told=told)
        after = reliability.untold(DISTRIBUTING, 0.0)
        assert 0 < after <= 1
        assert after < before if told else after >= before - 1e-9


def test_what_proves_reliable_is_relied_on_and_a_few_losses_end_that() -> None:
    """Of twenty told ones one in fifty remains; after three losses in a row it is one in six or more."""
    assert taught(20).untold(DISTRIBUTING, 0.0) < 0.02
    falling = [taught(20, lost).untold(DISTRIBUTING, 60.0) for lost in range(4)]
    assert all(earlier < later for earlier, later in pairwise(falling))
    assert falling[3] > 0.15


def test_what_others_prove_counts_only_for_so_much() -> None:
    """That ends are told says little of other changes, whose events may not be subscribed to."""
    reliability = taught(20)
    assert reliability.untold(AWAITING, 0.0) == reliability.untold(DISTRIBUTING, 0.0)  # its end tells of both
    assert reliability.untold(PRODUCING, 0.0) == pytest.approx(0.1)
    assert reliability.untold(Status("Rendering"), 0.0) == pytest.approx(0.1)


@pytest.mark.parametrize(("seconds", "told"), [(59.0, True), (61.0, False)])
def test_an_event_may_come_a_minute_after_its_change_was_seen(seconds: float, told: bool) -> None:  # noqa: FBT001
    """Polls are sometimes faster; what comes later than that is as good as lost."""
    reliability = WebhookCoverage(0.0)
    reliability.changed(ID, PRODUCING, AWAITING, 0.0, told=False)
    before = reliability.untold(PRODUCING, seconds)
    reliability.heard(event(DeliverableReady), seconds)
    assert before == 1.0
    assert (reliability.untold(PRODUCING, seconds) < 1.0) is told


def test_another_event_of_the_same_production_does_not_count_for_it() -> None:
    """That a step was completed does not tell of the end."""
    reliability = WebhookCoverage(0.0)
    reliability.changed(ID, PRODUCING, AWAITING, 0.0, told=False)
    reliability.heard(event(StepCompleted, step=3), 1.0)
    reliability.heard(event(DeliverableReady, production_id=OTHER), 1.0)
    assert reliability.untold(PRODUCING, 61.0) == 1.0


def test_changes_without_an_event_and_cancellations_say_nothing() -> None:
    """Nothing is told of them, however well webhooks arrive."""
    reliability = WebhookCoverage(0.0)
    for left, entered in ((QUEUED, PRODUCING), (AWAITING, DISTRIBUTING), (PRODUCING, Status.CANCELLED)):
        reliability.changed(ID, left, entered, 0.0, told=False)
    reliability.submitted(ID, 100.0)
    reliability.heard(event(ProductionQueued), 101.0)
    assert reliability.untold(PRODUCING, 200.0) < 1.0


def producing(count: int, every: float, until: float) -> WebhookCoverage:
    """Give a channel that has proved good, on which each of so many tells of a step every so often."""
    reliability = taught(40, left=PRODUCING)
    for _ in range(count):
        reliability.begin("short", 0.0)
    for n in range(1, int(until * count / every) + 1):
        reliability.heard(event(StepCompleted, step=1), n * every / count)
        reliability.stepped("short")
    return reliability


@pytest.mark.parametrize("count", [3, 30, 300])
def test_silence_ends_reliance_sooner_the_more_is_missed(count: int) -> None:
    """Ten steps too few, and a minute of patience."""
    reliability = producing(count, every=60.0, until=600.0)
    assert reliability.untold(PRODUCING, 610.0) < 0.02
    assert reliability.untold(PRODUCING, 660.0 + 10 * 60.0 / count * 1.5) > 0.9


def test_silence_where_nothing_is_expected_is_no_news() -> None:
    """When the last one has ended nothing comes any more, and nobody is to blame."""
    reliability = producing(3, every=60.0, until=600.0)
    for _ in range(3):
        reliability.end("short", 0.0, 600.0)
    assert reliability.untold(PRODUCING, 100_000.0) < 0.02


def test_a_type_that_nothing_is_counted_for_is_no_fault() -> None:
    """Nothing is documented of it: one answer may leave it out, and the next name it."""
    reliability = WebhookCoverage(0.0)
    reliability.begin(None, 0.0)
    reliability.stepped("short")
    reliability.end(None, 0.0, 60.0)
    assert reliability.untold(PRODUCING, 60.0) == 1.0


def test_when_a_silence_ends_what_was_seen_before_is_looked_for() -> None:
    """Its events may be among those that were lost; an ordinary pause is no such silence."""
    reliability = producing(30, every=60.0, until=600.0)
    reliability.heard(event(StepCompleted, step=1), 650.0)
    assert reliability.relied_on_since == 0.0
    reliability.heard(event(StepCompleted, step=1), 1_000.0)
    assert reliability.relied_on_since == 1_000.0
