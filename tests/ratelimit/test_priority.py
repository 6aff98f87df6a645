"""Who goes next: priority, with patience."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from jarai_async._api.calls import Kind
from jarai_async._ratelimit.priority import Priority

waiting = st.sets(st.sampled_from(list(Kind)), min_size=1)
OTHERS = [kind for kind in Kind if kind is not Kind.CANCEL]


def test_the_most_urgent_goes_first() -> None:
    """Without a wait behind them: cancels, deliverables, submits, reads, polls."""
    assert [Priority().choose(list(Kind)[n:]) for n in range(len(Kind))] == list(Kind)
    assert list(Kind) == [Kind.CANCEL, Kind.DELIVERABLES, Kind.SUBMIT, Kind.READ, Kind.POLL]


@given(st.lists(waiting, max_size=80))
def test_a_cancel_never_waits(rounds: list[set[Kind]]) -> None:
    """Whatever has waited for however long, a cancel goes first; and only who waits is chosen."""
    turns = Priority()
    for kinds in rounds:
        chosen = turns.choose(kinds)
        assert chosen in kinds
        assert chosen is Kind.CANCEL or Kind.CANCEL not in kinds


@given(st.lists(waiting.map(lambda kinds: kinds - {Kind.CANCEL} or {Kind.POLL}), max_size=200))
def test_nobody_starves(rounds: list[set[Kind]]) -> None:
    """A kind that waits lets at most six turns of others pass: three of patience, and one of each other."""
    turns, passed = Priority(), Counter[Kind]()
    for kinds in rounds:
        chosen = turns.choose(kinds)
        for kind in Kind:
            passed[kind] = passed[kind] + 1 if kind in kinds and kind is not chosen else 0
            assert passed[kind] <= 6


def test_each_kind_gets_its_share_of_a_scarce_budget() -> None:
    """While all wait all the time each gets a fifth or more; alone against one, a quarter."""
    turns = Priority()
    chosen = Counter(turns.choose(OTHERS) for _ in range(1000))
    assert min(chosen.values()) >= 200
    turns = Priority()
    chosen = Counter(turns.choose([Kind.SUBMIT, Kind.POLL]) for _ in range(1000))
    assert chosen == {Kind.SUBMIT: 750, Kind.POLL: 250}


def test_patience_is_for_those_who_wait() -> None:
    """A kind that was not waiting has not been passed over."""
    turns = Priority()
    for _ in range(10):
        assert turns.choose([Kind.SUBMIT]) is Kind.SUBMIT
    assert turns.choose([Kind.SUBMIT, Kind.POLL]) is Kind.SUBMIT
