"""Which production is polled next: the queue against a comparison of all productions, and its bounds."""

import math
from itertools import pairwise

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from jarai_async import Polling, Status
from jarai_async._polling.outlook import Outlook
from jarai_async._polling.poll_queue import PollQueue, due_at, poll_value
from jarai_async._polling.sojourn import Sojourns

STATUSES = [
    Status.QUEUED,
    Status.PRODUCING,
    Status.AWAITING_APPROVAL,
    Status.DISTRIBUTING,
    Status("Rendering"),
]
ONE_AGE_PER_GROUP = [2.0, 20.0, 31.0, 100.0, 130.0, 310.0, 605.0, 950.0, 1850.0, 3700.0, 90_000.0]
NOW = 1_000_000.0
PRIOR = Sojourns()


@define(eq=False)
class Watched:
    """A production as the queue sees it."""

    status: Status
    since: float
    polled: float
    failures: int = 0
    polling: Polling = field(factory=Polling)
    project_type: str | None = None
    queued: int = 0
    retry_after: float = 0.0
    outlook: Outlook | None = None

    def miss_probability(self, _: float) -> float:
        return 1.0


def polled(status: Status, age: float, gap: float) -> Watched:
    """Return a production that was last polled `gap` seconds ago, at this age."""
    return Watched(status, NOW - gap - age, NOW - gap)


def queue_of(*productions: Watched) -> PollQueue[Watched]:
    queue: PollQueue[Watched] = PollQueue(PRIOR)
    for production in productions:
        queue.push(production, production.polled)
    return queue


def of_ages(ages: st.SearchStrategy[float], gap: float = 2000) -> st.SearchStrategy[list[Watched]]:
    productions = st.builds(polled, st.sampled_from(STATUSES), ages, st.floats(0, gap))
    return st.lists(productions, min_size=1, max_size=40)


@given(of_ages(st.sampled_from(ONE_AGE_PER_GROUP)))
def test_most_valuable_poll_goes_first(productions: list[Watched]) -> None:
    """If all productions of a queue have the same age, comparing the heads is exact."""
    queue, waiting = queue_of(*productions), list(productions)
    while (chosen := queue.pop(NOW)) is not None:
        due = [production for production in waiting if due_at(PRIOR, production, NOW) <= NOW]
        best = max(poll_value(PRIOR, production, NOW) for production in due)
        assert poll_value(PRIOR, chosen, NOW) == pytest.approx(best)
        waiting.remove(chosen)
    assert not [production for production in waiting if due_at(PRIOR, production, NOW) <= NOW]
    assert len(queue) == len(waiting)


@given(of_ages(st.floats(0, 40_000), gap=600))
def test_chosen_poll_is_worth_an_eighth_of_the_best_or_more(productions: list[Watched]) -> None:
    """Ages in one queue differ by about half, and the hazard may have a step between them."""
    queue = queue_of(*productions)
    chosen = queue.pop(NOW)
    values = [
        poll_value(PRIOR, production, NOW)
        for production in productions
        if due_at(PRIOR, production, NOW) <= NOW
    ]
    if chosen is None:
        assert not values
    else:
        assert poll_value(PRIOR, chosen, NOW) >= max(values) / 8


@given(st.sampled_from(STATUSES), st.floats(0, 10_000), st.floats(0, 899), st.floats(0.1, 500))
def test_poll_value_grows_with_the_gap(status: Status, age: float, gap: float, more: float) -> None:
    """It is never more than the gap."""
    shorter, longer = (poll_value(PRIOR, polled(status, age, gap), NOW) for gap in (gap, gap + more))
    assert 0 <= shorter <= gap + 1e-6
    assert shorter <= longer + 1e-6


def test_polls_of_one_production_are_min_interval_apart() -> None:
    """Even with an idle rate limit; and further apart until a poll saves enough delay."""
    queued = Watched(Status.QUEUED, 0, 0)
    queue = queue_of(queued)
    assert queue.next_due(0) == 5
    assert queue.pop(4.999) is None
    assert queue.pop(5) is queued
    assert len(queue) == 0
    assert queue.next_due(5) == math.inf
    assert due_at(PRIOR, Watched(Status.PRODUCING, 0, 0), 0) == pytest.approx(29.7, abs=0.1)
    slow = Watched(Status.QUEUED, 0, 0, polling=Polling(min_interval=60, max_interval=60))
    assert due_at(PRIOR, slow, 0) == 60


def test_due_time_depends_on_the_age_and_not_on_the_clock() -> None:
    """A monotonic clock may start at any value."""
    for age in (0, 800, 1800):
        young = Watched(Status.PRODUCING, -age, 0)
        assert due_at(PRIOR, young, 0) == pytest.approx(
            due_at(PRIOR, polled(Status.PRODUCING, age, 0), NOW) - NOW
        )


def test_changes_that_users_do_not_wait_for_have_less_weight() -> None:
    """That a production was picked up or approved matters less than that its files are ready."""
    for status in STATUSES:
        weight = 0.7 if status in (Status.QUEUED, Status.AWAITING_APPROVAL) else 1.0
        delay = PRIOR.expected_delay(None, status, 10, 60)
        assert poll_value(PRIOR, polled(status, 10, 60), NOW) == pytest.approx(weight * delay)


def test_second_due_production_does_not_wait() -> None:
    """If several are due together, the next one is due as soon as the first is taken."""
    queue = queue_of(Watched(Status.QUEUED, 0, 0), Watched(Status.QUEUED, 0, 0))
    queue.pop(10)
    assert queue.next_due(10) == 10
    assert len(queue) == 1


def test_failed_polls_back_off_up_to_max_interval() -> None:
    """Each consecutive failure doubles `min_interval`, at most six times."""
    waits = [due_at(PRIOR, Watched(Status.QUEUED, 0, 0, failures=n), 0) for n in range(9)]
    assert waits == [5, 10, 20, 40, 80, 160, 320, 320, 320]
    low = Polling(min_interval=5, max_interval=100)
    assert due_at(PRIOR, Watched(Status.QUEUED, 0, 0, failures=9, polling=low), 0) == 100


def test_beyond_max_interval_the_longest_unpolled_goes_first() -> None:
    """A production that is unlikely to change then goes before likelier ones."""
    parked = polled(Status.AWAITING_APPROVAL, 90_000, 900)
    longer = polled(Status.PRODUCING, 10, 901)
    likely = polled(Status.QUEUED, 10, 800)
    queue = queue_of(likely, parked, longer)
    assert [queue.pop(NOW) for _ in range(3)] == [longer, parked, likely]


def keep_polling(productions: list[Watched], interval: float, seconds: float) -> dict[Watched, list[float]]:
    """Make one poll per interval; return the times at which each production was polled."""
    queue, polls = queue_of(*productions), {production: [production.polled] for production in productions}
    for n in range(1, int(seconds / interval)):
        now = NOW + n * interval
        if (production := queue.pop(now)) is not None:
            production.polled = now
            polls[production].append(now)
            queue.push(production, now)
    return {production: [*times, NOW + seconds] for production, times in polls.items()}


def longest_gap(polls: dict[Watched, list[float]]) -> float:
    return max(later - earlier for times in polls.values() for earlier, later in pairwise(times))


@pytest.mark.parametrize("parked", [0, 250])
def test_no_production_starves_at_a_low_rate_limit(parked: int) -> None:
    """300 productions, ten polls a minute: each is polled within little more than a round of all."""
    productions = [polled(Status.PRODUCING, 10, 5) for _ in range(300 - parked)]
    productions += [polled(Status.AWAITING_APPROVAL, 90_000, 5) for _ in range(parked)]
    polls = keep_polling(productions, interval=6, seconds=20_000)
    assert longest_gap(polls) <= 1.1 * 300 * 6


def test_max_interval_is_kept_if_the_rate_limit_allows_it() -> None:
    """Even for productions that are unlikely to change, as long as a round of all takes less."""
    productions = [polled(Status.QUEUED, 10, 5) for _ in range(60)]
    productions += [polled(Status.AWAITING_APPROVAL, 90_000, 5) for _ in range(20)]
    polls = keep_polling(productions, interval=3, seconds=10_000)
    assert longest_gap(polls) <= 900 + 80 * 3


def test_polls_are_proportional_to_the_square_root_of_the_hazard() -> None:
    """With a hundredth of the hazard a production gets about a tenth of the polls."""
    likely = [Watched(Status.QUEUED, NOW - 130, NOW - 5) for _ in range(20)]  # 1 / 120
    unlikely = [Watched(Status.AWAITING_APPROVAL, NOW - 9000, NOW - 5) for _ in range(20)]  # 1 / 7,200
    for production in likely:
        production.since = math.inf  # a negative age has the hazard of age 0
    polls = keep_polling([*likely, *unlikely], interval=1, seconds=8000)
    counts = [sum(len(polls[production]) for production in group) for group in (likely, unlikely)]
    ratio = counts[0] / counts[1]
    assert math.sqrt(7200 / 40) / 1.5 < ratio < math.sqrt(7200 / 40) * 1.5


recorded_transitions = st.lists(
    st.tuples(
        st.sampled_from(STATUSES), st.sampled_from([None, "long"]), st.floats(0, 4000), st.floats(0, 900)
    ),
    max_size=20,
)


@given(recorded_transitions, of_ages(st.floats(0, 40_000)))
def test_restored_data_lead_to_the_same_order_of_polls(
    transitions: list[tuple[Status, str | None, float, float]], productions: list[Watched]
) -> None:
    """As after a restart of the process."""
    original = Sojourns()
    for status, project_type, age, seconds in transitions:
        original.record_transition(project_type, status, age, age + seconds)
        original.record_stay(project_type, status, age, age + 2 * seconds)
    orders = []
    for sojourns in (Sojourns.restore_state(original.export_state()), original):
        queue: PollQueue[Watched] = PollQueue(sojourns)
        for production in productions:
            queue.push(production, production.polled)
        orders.append([queue.pop(NOW) for _ in productions])
    assert orders[0] == orders[1]


def test_learned_transitions_change_the_order_of_polls() -> None:
    """An age at which many productions left their status goes before one with a higher prior hazard."""
    sojourns = Sojourns()
    young, older = polled(Status.PRODUCING, 400, 60), polled(Status.PRODUCING, 1000, 60)
    first = queue_of(young, older)
    assert first.pop(NOW) is older
    for _ in range(50):
        sojourns.record_transition(None, Status.PRODUCING, 400, 460)
    queue: PollQueue[Watched] = PollQueue(sojourns)
    queue.push(young, NOW)
    queue.push(older, NOW)
    assert queue.pop(NOW) is young


def test_learned_transitions_apply_to_their_project_type() -> None:
    """A type that leaves early is due sooner, and its poll is worth more than another's at the same age."""
    sojourns = Sojourns()
    for _ in range(50):
        sojourns.record_transition("short", Status.PRODUCING, 100, 160)
        sojourns.record_stay("long", Status.PRODUCING, 0, 4000)
    short, long = polled(Status.PRODUCING, 100, 60), polled(Status.PRODUCING, 100, 60)
    short.project_type, long.project_type = "short", "long"
    assert poll_value(sojourns, short, NOW) > 2 * poll_value(sojourns, long, NOW)
    assert due_at(sojourns, short, NOW) + 10 < due_at(sojourns, long, NOW)


class CountingSojourns(Sojourns):
    """Counts how often the expected delay is computed."""

    computed = 0

    def expected_delay(self, project_type: str | None, status: Status, age: float, gap: float) -> float:
        self.computed += 1
        return super().expected_delay(project_type, status, age, gap)


def test_queues_are_ranked_again_after_a_quarter_as_many_polls() -> None:
    """In between, a choice only computes the value of a new head: here there is none."""
    sojourns = CountingSojourns()
    queue: PollQueue[Watched] = PollQueue(sojourns)
    for n in range(42):
        production = polled(Status.PRODUCING, 600, 300)
        production.project_type = f"type {n}"
        queue.push(production, production.polled)
    computed = []
    for _ in range(42):
        before = sojourns.computed
        assert queue.pop(NOW) is not None
        computed.append(sojourns.computed - before)
    assert [poll for poll, times in enumerate(computed) if times][:3] == [0, 42 // 4, 42 // 4 + 32 // 4]


def test_demand_is_the_sum_of_the_square_roots_of_the_hazards() -> None:
    """Of productions that are due: a worker without them leaves its polls to others."""
    ages = [1000.0, 1000.0, 1000.0, 5000.0]
    productions = [polled(Status.PRODUCING, age, 20.0) for age in ages]
    hazards = [PRIOR.hazard(None, Status.PRODUCING, age + 10) for age in ages]
    queue = queue_of(*productions)
    assert queue.demand(NOW) == pytest.approx(sum(map(math.sqrt, hazards)), rel=0.02)
    while queue.pop(NOW) is not None:
        pass
    assert queue.demand(NOW) == 0
    queue.push(polled(Status.PRODUCING, 1000.0, 0.0), NOW)
    assert queue.demand(NOW) == 0


@given(of_ages(st.floats(0, 10_000), gap=600))
def test_demand_of_each_worker_adds_up_to_that_of_all(productions: list[Watched]) -> None:
    """However productions are divided among workers, as far as the heads of queues are like the others."""
    half = len(productions) // 2
    whole = queue_of(*productions).demand(NOW)
    parts = queue_of(*productions[:half]).demand(NOW) + queue_of(*productions[half:]).demand(NOW)
    assert parts == pytest.approx(whole, rel=0.5)
