"""Who goes next, when one request may be sent and several kinds of it are waiting."""

from collections.abc import Collection
from enum import IntEnum

_PATIENCE = (
    3  # turns of others that a waiting kind lets pass: so each gets a fifth or more of a scarce budget
)


class Kind(IntEnum):
    """What a request is for, most urgent first."""

    CANCEL = 0
    DELIVERABLES = 1
    SUBMIT = 2
    READ = 3
    """A read that a caller waits for: `fetch`, `accounts`, ..."""
    POLL = 4
    """A read that the orchestrator chose to make now."""


KINDS = tuple(Kind)  # iterating over the enumeration itself is ten times slower


class Turns:
    """Priority with patience: the most urgent kind goes first, and nobody waits for ever.

    A kind that has let `_PATIENCE` turns of others pass goes before its betters, except before a
    cancel: those are few, and each saves money.
    """

    def __init__(self) -> None:
        self._passed = [0] * len(KINDS)  # by kind

    def choose(self, waiting: Collection[Kind]) -> Kind:
        """Give the turn to one of the kinds that wait; there is at least one."""
        most_urgent = min(waiting)
        out_of_patience = [kind for kind in waiting if self._passed[kind] >= _PATIENCE]
        if most_urgent is Kind.CANCEL or not out_of_patience:
            chosen = most_urgent
        else:
            chosen = max(out_of_patience, key=lambda kind: (self._passed[kind], kind))
        passed = [0] * len(KINDS)
        for kind in waiting:
            passed[kind] = self._passed[kind] + 1 if kind is not chosen else 0
        self._passed = passed
        return chosen
