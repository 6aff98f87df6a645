"""The poll queue with webhooks: the more reliable they are, the fewer polls."""

from collections.abc import Callable

import pytest
from attrs import define, field

from jarai_async import Polling, Status
from jarai_async._polling.outlook import Outlook
from jarai_async._polling.poll_queue import MIN_GAIN, PollQueue, due_at, poll_value
from jarai_async._polling.sojourn import Sojourns

PRIOR = Sojourns()
STATUSES = {  # with the seconds of delay that a poll must save if a webhook certainly announces the change
    Status.QUEUED: 40.0,
    Status.AWAITING_APPROVAL: 40.0,
    Status.PRODUCING: 0.5,
    Status.DISTRIBUTING: 0.5,
    Status("Rendering"): 0.5,
}


@define(eq=False)
class Watched:
    """A production whose changes webhooks may announce."""

    status: Status
    probability: Callable[[float], float]
    since: float = 0.0
    polled: float = 0.0
    failures: int = 0
    polling: Polling = field(factory=lambda: Polling(min_interval=0.01, max_interval=1e5))
    project_type: str | None = None
    queued: int = 0
    retry_after: float = 0.0
    outlook: Outlook | None = None

    def miss_probability(self, now: float) -> float:
        return self.probability(now)


def always(probability: float) -> Callable[[float], float]:
    return lambda _: probability


def until(time: float, before: float, after: float) -> Callable[[float], float]:
    return lambda now: before if now < time else after


def queue_of(*productions: Watched) -> PollQueue[Watched]:
    queue: PollQueue[Watched] = PollQueue(PRIOR)
    for production in productions:
        queue.push(production, 0)
    return queue


def next_poll(queue: PollQueue[Watched], now: float) -> tuple[float, Watched]:
    """Return the time of the next poll, and its production."""
    while (watched := queue.pop(now)) is None:
        assert now < queue.next_due(now) <= now + 30
        now = queue.next_due(now)
    return now, watched


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("missed", [0.9, 0.5, 0.1])
def test_poll_must_save_more_delay_the_more_reliable_webhooks_are(status: Status, missed: float) -> None:
    """Interpolated between the gain without webhooks and the gain with perfect ones."""
    production = Watched(status, always(missed))
    due = due_at(PRIOR, production, 7)
    gain = MIN_GAIN**missed * STATUSES[status] ** (1 - missed)
    assert poll_value(PRIOR, production, due) == pytest.approx(gain, rel=0.3)


@pytest.mark.parametrize("status", STATUSES)
def test_without_webhooks_the_due_time_ignores_the_weight(status: Status) -> None:
    """A production is not polled less often because its next change matters less."""
    due = due_at(PRIOR, Watched(status, always(1)), 7)
    assert PRIOR.expected_delay(None, status, 0, due) == pytest.approx(MIN_GAIN, rel=0.1)


def test_poll_is_worth_less_if_a_webhook_will_announce_the_change() -> None:
    """In proportion to the current miss probability; but not in a status whose end has no webhook."""
    delay = PRIOR.expected_delay(None, Status.PRODUCING, 0, 100)
    covered = Watched(Status.PRODUCING, until(100, 1, 0.2))
    assert poll_value(PRIOR, covered, 100) == pytest.approx(0.2 * delay)
    queued = [poll_value(PRIOR, Watched(Status.QUEUED, always(missed)), 100) for missed in (0.2, 1)]
    assert queued[0] == queued[1] > 0


def test_silent_webhooks_are_noticed_within_half_a_minute() -> None:
    """A production that webhooks covered is polled soon after they stop being reliable."""
    covered = Watched(Status.PRODUCING, until(40, 0.1, 1))
    assert due_at(PRIOR, covered, 0) > 120
    queue = queue_of(covered)
    assert next_poll(queue, 0) == (60, covered)
    assert len(queue) == 0


def test_poll_that_was_nearly_due_is_postponed_when_webhooks_prove_reliable() -> None:
    """The miss probability at the due time counts, not the one when the production was added."""
    for before in (1, 0.95):
        soon = due_at(PRIOR, Watched(Status.PRODUCING, always(before), since=-600), 0)
        covered = Watched(Status.PRODUCING, until(soon - 0.1, before, 0.3), since=-600)
        later = due_at(PRIOR, covered, soon)
        assert soon < 10
        assert later > 30
        queue = queue_of(covered)
        assert next_poll(queue, soon) == (later, covered)


def test_production_that_is_not_due_for_long_is_checked_repeatedly() -> None:
    """If nothing has changed, it is polled at the time that was computed first."""
    parked = Watched(Status.AWAITING_APPROVAL, always(0.1), since=-9000)
    due = due_at(PRIOR, parked, 0)
    assert due > 600
    assert next_poll(queue_of(parked), 0) == (due, parked)


def test_discarded_production_is_not_polled() -> None:
    """Wherever it was in the queue, and however often it was added and discarded before."""
    discarded, returned, other = (Watched(Status.PRODUCING, always(1)) for _ in range(3))
    queue = queue_of(discarded, returned, other)
    queue.discard(discarded)
    queue.discard(discarded)
    queue.discard(returned)
    assert len(queue) == 1
    queue.push(returned, 0)
    queue.push(returned, 0)
    assert len(queue) == 2
    assert [queue.pop(300) for _ in range(3)] == [other, returned, None]
    for production in (discarded, returned, other):
        queue.push(production, 300)
    assert queue.next_due(600) == 600  # all are due by now
    queue.discard(discarded)
    queue.discard(other)
    assert queue.pop(600) is returned
    assert queue.pop(600) is None
    assert len(queue) == 0
