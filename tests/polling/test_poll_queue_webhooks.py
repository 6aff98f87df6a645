"""Whose poll is next where webhooks tell of changes: the more they are relied on, the fewer polls."""

from collections.abc import Callable

import pytest
from attrs import define, field

from jarai_async import Polling, Status
from jarai_async._polling.poll_queue import LEAST_GAIN, PollQueue, due_at, worth
from jarai_async._polling.sojourn import Sojourns

UNTAUGHT = Sojourns()
STATUSES = {  # and what a poll is to be worth, in seconds, where a webhook is sure to tell
    Status.QUEUED: 40.0,
    Status.AWAITING_APPROVAL: 40.0,
    Status.PRODUCING: 0.5,
    Status.DISTRIBUTING: 0.5,
    Status("Rendering"): 0.5,
}


@define(eq=False)
class Watched:
    """A production of which webhooks tell, perhaps."""

    status: Status
    chance: Callable[[float], float]
    since: float = 0.0
    polled: float = 0.0
    failures: int = 0
    polling: Polling = field(factory=lambda: Polling(min_interval=0.01, max_interval=1e5))
    project_type: str | None = None
    queued: int = 0

    def miss_probability(self, now: float) -> float:
        return self.chance(now)


def always(chance: float) -> Callable[[float], float]:
    return lambda now: chance + 0 * now


def until(moment: float, before: float, after: float) -> Callable[[float], float]:
    return lambda now: before if now < moment else after


def queue_of(*productions: Watched) -> PollQueue[Watched]:
    queue: PollQueue[Watched] = PollQueue(UNTAUGHT)
    for production in productions:
        queue.push(production, 0)
    return queue


def when_polled(queue: PollQueue[Watched], now: float) -> tuple[float, Watched]:
    """Ask whenever it makes sense, until one is to be polled."""
    while (watched := queue.pop(now)) is None:
        assert now < queue.next_due(now) <= now + 30
        now = queue.next_due(now)
    return now, watched


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("chance", [0.9, 0.5, 0.1])
def test_a_poll_must_be_worth_the_more_the_more_webhooks_are_relied_on(status: Status, chance: float) -> None:
    """From what it must be worth without them to what their safety net costs."""
    production = Watched(status, always(chance))
    due = due_at(UNTAUGHT, production, 7)
    enough = LEAST_GAIN**chance * STATUSES[status] ** (1 - chance)
    assert worth(UNTAUGHT, production, due) == pytest.approx(enough, rel=0.3)


@pytest.mark.parametrize("status", STATUSES)
def test_without_webhooks_only_the_expected_delay_counts(status: Status) -> None:
    """Whatever the news: nobody is polled more rarely because its news matter less."""
    due = due_at(UNTAUGHT, Watched(status, always(1)), 7)
    assert UNTAUGHT.expected_unseen(None, status, 0, due) == pytest.approx(LEAST_GAIN, rel=0.1)


def test_what_a_webhook_will_tell_is_worth_less() -> None:
    """By the chance that it does not, as things are now; but not where what comes next is no news."""
    unseen = UNTAUGHT.expected_unseen(None, Status.PRODUCING, 0, 100)
    assert worth(UNTAUGHT, Watched(Status.PRODUCING, until(100, 1, 0.2)), 100) == pytest.approx(0.2 * unseen)
    queued = [worth(UNTAUGHT, Watched(Status.QUEUED, always(chance)), 100) for chance in (0.2, 1)]
    assert queued[0] == queued[1] > 0


def test_who_falls_silent_is_noticed_within_half_a_minute() -> None:
    """What was left to webhooks is polled as soon as they are not to be relied on."""
    relied_on = Watched(Status.PRODUCING, until(40, 0.1, 1))
    assert due_at(UNTAUGHT, relied_on, 0) > 120
    queue = queue_of(relied_on)
    assert when_polled(queue, 0) == (60, relied_on)
    assert len(queue) == 0


def test_who_proves_reliable_is_polled_less_at_once() -> None:
    """Whoever was nearly due is not polled: how much is known by then counts, not what was when it came."""
    for before in (1, 0.95):
        soon = due_at(UNTAUGHT, Watched(Status.PRODUCING, always(before), since=-600), 0)
        proved = Watched(Status.PRODUCING, until(soon - 0.1, before, 0.3), since=-600)
        later = due_at(UNTAUGHT, proved, soon)
        assert soon < 10
        assert later > 30
        queue = queue_of(proved)
        assert when_polled(queue, soon) == (later, proved)


def test_what_is_not_due_for_long_is_looked_at_again_and_again() -> None:
    """And then polled when it was to be, if nothing has changed."""
    parked = Watched(Status.AWAITING_APPROVAL, always(0.1), since=-9000)
    due = due_at(UNTAUGHT, parked, 0)
    assert due > 600
    assert when_polled(queue_of(parked), 0) == (due, parked)


def test_who_waits_no_longer_is_passed_over() -> None:
    """Wherever it stood, and however often it was taken up and given up before."""
    gone, back, other = (Watched(Status.PRODUCING, always(1)) for _ in range(3))
    queue = queue_of(gone, back, other)
    queue.discard(gone)
    queue.discard(gone)
    queue.discard(back)
    assert len(queue) == 1
    queue.push(back, 0)
    queue.push(back, 0)
    assert len(queue) == 2
    assert [queue.pop(300) for _ in range(3)] == [other, back, None]
    for one in (gone, back, other):
        queue.push(one, 300)
    assert queue.next_due(600) == 600  # all are ready by now
    queue.discard(gone)
    queue.discard(other)
    assert queue.pop(600) is back
    assert queue.pop(600) is None
    assert len(queue) == 0
