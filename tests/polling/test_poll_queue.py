"""Whose poll is next: the queue against a brute-force comparison of all, and its bounds."""

import math
from itertools import pairwise

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import Polling, Status
from jarai_async._polling.poll_queue import PollQueue, due_at, worth
from jarai_async._polling.sojourn import Sojourns

STATUSES = [
    Status.QUEUED,
    Status.PRODUCING,
    Status.AWAITING_APPROVAL,
    Status.DISTRIBUTING,
    Status("Rendering"),
]
ONE_AGE_EACH = [2.0, 20.0, 31.0, 100.0, 130.0, 310.0, 605.0, 950.0, 1850.0, 3700.0, 90_000.0]
NOW = 1_000_000.0
UNTAUGHT = Sojourns()


@define(eq=False)
class Watched:
    """A production as the queue sees it."""

    status: Status
    since: float
    polled: float
    failures: int = 0
    polling: Polling = field(factory=Polling)
    project_type: str | None = None
    chance: float = 1.0
    queued: int = 0

    def miss_probability(self, _: float) -> float:
        """Give the chance that no webhook tells of what comes next."""
        return self.chance


def seen(status: Status, age: float, gap: float, failures: int = 0) -> Watched:
    """Make one that was last polled `gap` seconds ago, at this age."""
    return Watched(status, NOW - gap - age, NOW - gap, failures)


def queue_of(*productions: Watched) -> PollQueue[Watched]:
    queue: PollQueue[Watched] = PollQueue(UNTAUGHT)
    for production in productions:
        queue.push(production, production.polled)
    return queue


def of_ages(ages: st.SearchStrategy[float], gap: float = 2000) -> st.SearchStrategy[list[Watched]]:
    one = st.builds(seen, st.sampled_from(STATUSES), ages, st.floats(0, gap))
    return st.lists(one, min_size=1, max_size=40)


@given(of_ages(st.sampled_from(ONE_AGE_EACH)))
def test_the_poll_that_is_worth_most_goes_first(productions: list[Watched]) -> None:
    """Where those of one queue have one age, the heads give just what comparing all would give."""
    queue, left = queue_of(*productions), list(productions)
    while (chosen := queue.pop(NOW)) is not None:
        due = [one for one in left if due_at(UNTAUGHT, one, NOW) <= NOW]
        best = max(worth(UNTAUGHT, one, NOW) for one in due)
        assert worth(UNTAUGHT, chosen, NOW) == pytest.approx(best)
        left.remove(chosen)
    assert not [one for one in left if due_at(UNTAUGHT, one, NOW) <= NOW]
    assert len(queue) == len(left)


@given(of_ages(st.floats(0, 40_000), gap=600))
def test_within_a_queue_ages_differ_little(productions: list[Watched]) -> None:
    """Alike is not the same: in one (status, age bin) the head may be a little worse than the best.

    Bins are half as wide as they are old, and a step of the hazard may lie within one, so the choice is
    not exact. It is never worse than an eighth of the best.
    """
    queue = queue_of(*productions)
    chosen = queue.pop(NOW)
    due = [worth(UNTAUGHT, one, NOW) for one in productions if due_at(UNTAUGHT, one, NOW) <= NOW]
    if chosen is None:
        assert not due
    else:
        assert worth(UNTAUGHT, chosen, NOW) >= max(due) / 8


@given(st.sampled_from(STATUSES), st.floats(0, 10_000), st.floats(0, 899), st.floats(0.1, 500))
def test_the_longer_unpolled_the_greater_the_worth(
    status: Status, age: float, gap: float, more: float
) -> None:
    """It grows with the gap, is never more than it, and jumps up at the ceiling only."""
    now, later = (worth(UNTAUGHT, seen(status, age, one), NOW) for one in (gap, gap + more))
    assert 0 <= now <= gap + 1e-6
    assert now <= later + 1e-6


def test_two_polls_of_one_production_are_a_floor_apart() -> None:
    """Not before the floor, even with budget left over; and not before a poll is worth its while."""
    queued = Watched(Status.QUEUED, 0, 0)
    queue = queue_of(queued)
    assert queue.next_due(0) == 5
    assert queue.pop(4.999) is None
    assert queue.pop(5) is queued
    assert len(queue) == 0
    assert queue.next_due(5) == math.inf
    assert due_at(UNTAUGHT, Watched(Status.PRODUCING, 0, 0), 0) == pytest.approx(29.7, abs=0.1)
    slow = Watched(Status.QUEUED, 0, 0, polling=Polling(min_interval=60, max_interval=60))
    assert due_at(UNTAUGHT, slow, 0) == 60


def test_when_it_is_due_depends_on_its_age_and_not_on_the_clock() -> None:
    """A monotonic clock begins anywhere."""
    for age in (0, 800, 1800):
        young = Watched(Status.PRODUCING, -age, 0)
        assert due_at(UNTAUGHT, young, 0) == pytest.approx(
            due_at(UNTAUGHT, seen(Status.PRODUCING, age, 0), NOW) - NOW
        )


def test_what_users_wait_for_counts_more() -> None:
    """That a production was picked up or approved is news of less weight than that its files are there."""
    for status in STATUSES:
        weight = 0.7 if status in (Status.QUEUED, Status.AWAITING_APPROVAL) else 1.0
        unseen = UNTAUGHT.expected_unseen(None, status, 10, 60)
        assert worth(UNTAUGHT, seen(status, 10, 60), NOW) == pytest.approx(weight * unseen)


def test_what_is_ready_is_due_at_once() -> None:
    """When several are due together, the next is due as soon as the first is taken."""
    queue = queue_of(Watched(Status.QUEUED, 0, 0), Watched(Status.QUEUED, 0, 0))
    queue.pop(10)
    assert queue.next_due(10) == 10
    assert len(queue) == 1


def test_failures_back_off_and_stop_at_the_ceiling() -> None:
    """Each failure in a row doubles the floor, at most six times, and never beyond the ceiling."""
    waits = [due_at(UNTAUGHT, Watched(Status.QUEUED, 0, 0, failures=n), 0) for n in range(9)]
    assert waits == [5, 10, 20, 40, 80, 160, 320, 320, 320]
    low = Polling(min_interval=5, max_interval=100)
    assert due_at(UNTAUGHT, Watched(Status.QUEUED, 0, 0, failures=9, polling=low), 0) == 100


def test_beyond_the_ceiling_the_longest_unseen_goes_first() -> None:
    """A parked production that has reached its ceiling goes before likelier ones, the oldest at its head."""
    parked = seen(Status.AWAITING_APPROVAL, 90_000, 900)
    longer = seen(Status.PRODUCING, 10, 901)
    likely = seen(Status.QUEUED, 10, 800)
    queue = queue_of(likely, parked, longer)
    assert [queue.pop(NOW) for _ in range(3)] == [longer, parked, likely]


def keep_polling(productions: list[Watched], every: float, seconds: float) -> dict[Watched, list[float]]:
    """Spend one poll every so often; give the moments at which each was polled."""
    queue, polls = queue_of(*productions), {one: [one.polled] for one in productions}
    for n in range(1, int(seconds / every)):
        now = NOW + n * every
        if (one := queue.pop(now)) is not None:
            one.polled = now
            polls[one].append(now)
            queue.push(one, now)
    return {one: [*moments, NOW + seconds] for one, moments in polls.items()}


@pytest.mark.parametrize("parked", [0, 250])
def test_nobody_is_forgotten_however_scarce_the_budget(parked: int) -> None:
    """With 300 in flight and ten polls a minute, each is seen within little more than a round of all."""
    productions = [seen(Status.PRODUCING, 10, 5) for _ in range(300 - parked)]
    productions += [seen(Status.AWAITING_APPROVAL, 90_000, 5) for _ in range(parked)]
    polls = keep_polling(productions, every=6, seconds=20_000)
    longest = max(later - earlier for one in polls.values() for earlier, later in pairwise(one))
    assert longest <= 1.1 * 300 * 6


def test_the_ceiling_is_kept_where_the_budget_allows_it() -> None:
    """However unlikely a change, nobody is unseen for longer while a round takes less than the ceiling."""
    productions = [seen(Status.QUEUED, 10, 5) for _ in range(60)]
    productions += [seen(Status.AWAITING_APPROVAL, 90_000, 5) for _ in range(20)]
    polls = keep_polling(productions, every=3, seconds=10_000)
    longest = max(later - earlier for one in polls.values() for earlier, later in pairwise(one))
    assert longest <= 900 + 80 * 3


def test_likelier_changes_are_polled_more_often_by_the_square_root() -> None:
    """With a hundredth of the hazard a production gets about a tenth of the polls."""
    often = [Watched(Status.QUEUED, NOW - 130, NOW - 5) for _ in range(20)]  # 1 / 120
    seldom = [Watched(Status.AWAITING_APPROVAL, NOW - 9000, NOW - 5) for _ in range(20)]  # 1 / 7,200
    for one in often:
        one.since = math.inf  # stays young: a negative age has the hazard of age 0
    polls = keep_polling([*often, *seldom], every=1, seconds=8000)
    ratio = sum(len(polls[one]) for one in often) / sum(len(polls[one]) for one in seldom)
    assert math.sqrt(7200 / 40) / 1.5 < ratio < math.sqrt(7200 / 40) * 1.5


taught = st.lists(
    st.tuples(
        st.sampled_from(STATUSES), st.sampled_from([None, "long"]), st.floats(0, 4000), st.floats(0, 900)
    ),
    max_size=20,
)


@given(taught, of_ages(st.floats(0, 40_000)))
def test_who_was_taught_the_same_chooses_the_same(
    lessons: list[tuple[Status, str | None, float, float]], productions: list[Watched]
) -> None:
    """After a restart from exported counts the polls go on in the same order."""
    sojourns = Sojourns()
    for status, project_type, age, seconds in lessons:
        sojourns.left(project_type, status, age, age + seconds)
        sojourns.stayed(project_type, status, age, age + 2 * seconds)
    orders = []
    for one in (Sojourns.restore_state(sojourns.export_state()), sojourns):
        queue: PollQueue[Watched] = PollQueue(one)
        for production in productions:
            queue.push(production, production.polled)
        orders.append([queue.pop(NOW) for _ in productions])
    assert orders[0] == orders[1]


def test_a_lesson_changes_who_goes_first() -> None:
    """Where many left at one age, one of that age goes before another that had the greater chance before."""
    sojourns = Sojourns()
    young, older = seen(Status.PRODUCING, 400, 60), seen(Status.PRODUCING, 1000, 60)
    first = queue_of(young, older)
    assert first.pop(NOW) is older
    for _ in range(50):
        sojourns.left(None, Status.PRODUCING, 400, 460)
    queue: PollQueue[Watched] = PollQueue(sojourns)
    queue.push(young, NOW)
    queue.push(older, NOW)
    assert queue.pop(NOW) is young


def test_a_lesson_is_about_its_project_type() -> None:
    """Where short ones leave early, they are due sooner and worth more than others of the same age."""
    sojourns = Sojourns()
    for _ in range(50):
        sojourns.left("short", Status.PRODUCING, 100, 160)
        sojourns.stayed("long", Status.PRODUCING, 0, 4000)
    short, long = seen(Status.PRODUCING, 100, 60), seen(Status.PRODUCING, 100, 60)
    short.project_type, long.project_type = "short", "long"
    assert worth(sojourns, short, NOW) > 2 * worth(sojourns, long, NOW)
    assert due_at(sojourns, short, NOW) + 10 < due_at(sojourns, long, NOW)


class Counted(Sojourns):
    """Counts how often it is asked."""

    asked = 0

    def expected_unseen(self, project_type: str | None, status: Status, age: float, gap: float) -> float:
        self.asked += 1
        return super().expected_unseen(project_type, status, age, gap)


def test_all_are_compared_anew_after_a_quarter_as_many_polls_as_there_are_queues() -> None:
    """In between a choice costs nothing but the comparison of a new head: here there is none."""
    sojourns = Counted()
    queue: PollQueue[Watched] = PollQueue(sojourns)
    for n in range(42):
        production = seen(Status.PRODUCING, 600, 300)
        production.project_type = f"type {n}"
        queue.push(production, production.polled)
    asked = []
    for _ in range(42):
        before = sojourns.asked
        assert queue.pop(NOW) is not None
        asked.append(sojourns.asked - before)
    assert [poll for poll, times in enumerate(asked) if times][:3] == [0, 42 // 4, 42 // 4 + 32 // 4]
