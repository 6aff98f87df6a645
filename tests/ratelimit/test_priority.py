"""Which kind of request goes next: priority with aging, so that no kind starves. Pure."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from jarai_async._api.calls import Kind
from jarai_async._ratelimit.priority import Priority

kinds_waiting = st.sets(st.sampled_from(list(Kind)), min_size=1)
ALL_BUT_CANCEL = [kind for kind in Kind if kind is not Kind.CANCEL]


def test_most_urgent_kind_goes_first() -> None:
    """Without aging the order is: cancels, deliverables, submits, reads, polls."""
    assert [Priority().choose(list(Kind)[n:]) for n in range(len(Kind))] == list(Kind)
    assert list(Kind) == [Kind.CANCEL, Kind.DELIVERABLES, Kind.SUBMIT, Kind.READ, Kind.POLL]


@given(st.lists(kinds_waiting, max_size=80))
def test_cancel_always_goes_first(rounds: list[set[Kind]]) -> None:
    """A cancel goes before kinds that have waited for any time; only a waiting kind is chosen."""
    priority = Priority()
    for waiting in rounds:
        chosen = priority.choose(waiting)
        assert chosen in waiting
        assert chosen is Kind.CANCEL or Kind.CANCEL not in waiting


@given(st.lists(kinds_waiting.map(lambda kinds: kinds - {Kind.CANCEL} or {Kind.POLL}), max_size=200))
def test_no_kind_starves(rounds: list[set[Kind]]) -> None:
    """A waiting kind is passed over at most six times: `MAX_SKIPS`, and once for each other kind."""
    priority, skips = Priority(), Counter[Kind]()
    for waiting in rounds:
        chosen = priority.choose(waiting)
        for kind in Kind:
            skips[kind] = skips[kind] + 1 if kind in waiting and kind is not chosen else 0
            assert skips[kind] <= 6


def test_each_kind_gets_a_share_of_a_scarce_rate_limit() -> None:
    """A kind gets at least a fifth while all kinds wait, and a quarter against one other kind."""
    priority = Priority()
    chosen = Counter(priority.choose(ALL_BUT_CANCEL) for _ in range(1000))
    assert min(chosen.values()) >= 200
    priority = Priority()
    chosen = Counter(priority.choose([Kind.SUBMIT, Kind.POLL]) for _ in range(1000))
    assert chosen == {Kind.SUBMIT: 750, Kind.POLL: 250}


def test_kind_that_does_not_wait_does_not_age() -> None:
    """A kind that was not waiting was not passed over."""
    priority = Priority()
    for _ in range(10):
        assert priority.choose([Kind.SUBMIT]) is Kind.SUBMIT
    assert priority.choose([Kind.SUBMIT, Kind.POLL]) is Kind.SUBMIT
