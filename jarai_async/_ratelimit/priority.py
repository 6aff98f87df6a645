"""Chooses which kind of request goes next, when several kinds are waiting and one request may be sent."""

from collections.abc import Collection

from jarai_async._api.calls import KINDS, Kind

MAX_SKIPS = 3  # times that a waiting kind is passed over: each gets at least a fifth of a scarce limit


class Priority:
    """Priority with aging: the most urgent kind goes first, and no kind waits for ever.

    A kind that was passed over `MAX_SKIPS` times goes before more urgent kinds, except before a cancel:
    cancels are few, and each saves money.
    """

    def __init__(self) -> None:
        self.skips: list[int] = [0] * len(KINDS)
        """Times that each kind was passed over since it was last chosen."""

    def choose(self, waiting: Collection[Kind]) -> Kind:
        """Choose one of the waiting kinds; there is at least one."""
        most_urgent = min(waiting)
        overdue = [kind for kind in waiting if self.skips[kind] >= MAX_SKIPS]
        chosen = most_urgent if most_urgent is Kind.CANCEL else max(overdue, default=most_urgent)
        skips = [0] * len(KINDS)
        for kind in waiting:
            skips[kind] = self.skips[kind] + 1 if kind is not chosen else 0
        self.skips = skips
        return chosen
