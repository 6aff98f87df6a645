"""Who goes next, when one request may be sent and several kinds of it are waiting."""

from collections.abc import Collection

from jarai_async._api.calls import KINDS, Kind

MAX_SKIPS = (
    3  # turns of others that a waiting kind lets pass: so each gets a fifth or more of a scarce budget
)


class Priority:
    """Priority with patience: the most urgent kind goes first, and nobody waits for ever.

    A kind that has let `_PATIENCE` turns of others pass goes before its betters, except before a
    cancel: those are few, and each saves money.
    """

    def __init__(self) -> None:
        self._passed = [0] * len(KINDS)  # by kind

    def choose(self, waiting: Collection[Kind]) -> Kind:
        """Give the turn to one of the kinds that wait; there is at least one."""
        most_urgent = min(waiting)
        out_of_patience = [kind for kind in waiting if self._passed[kind] >= MAX_SKIPS]
        if most_urgent is Kind.CANCEL or not out_of_patience:
            chosen = most_urgent
        else:
            chosen = max(out_of_patience, key=lambda kind: (self._passed[kind], kind))
        passed = [0] * len(KINDS)
        for kind in waiting:
            passed[kind] = self._passed[kind] + 1 if kind is not chosen else 0
        self._passed = passed
        return chosen
