"""What a worker has to report of its slots of the shared rate limit, with the times at which it happened."""

import math
from collections import Counter
from collections.abc import Callable

from attrs import define, evolve

from jarai_async import _clock
from jarai_async._api.responses import RateLimitState
from jarai_async._ratelimit.shared_model import Ended, Message


@define
class _Ended:
    """As `Ended`, with the time of the end (monotonic)."""

    at: float
    slots_returned: int
    is_late: bool
    state: RateLimitState | None


class Reports:
    """What was not reported yet; it is due at `due_at` (monotonic)."""

    def __init__(self) -> None:
        self.due_at: float = math.inf
        self.accepted: Counter[str] = Counter()
        """Productions, by account."""
        self._ended: list[_Ended] = []
        self._released = 0
        self._blocked: dict[str, _clock.Deadline] = {}

    @property
    def held(self) -> int:
        """Slots that the worker holds by the state of the database, and has no more."""
        return sum(not ended.is_late for ended in self._ended) + self._released

    def ended(
        self, at: float, slots_returned: int, state: RateLimitState | None, *, is_late: bool, due_at: float
    ) -> None:
        """Report the end of a request."""
        self._ended.append(_Ended(at, slots_returned, is_late, state))
        self._due(due_at)

    def released(self, count: int, now: float) -> None:
        """Report slots that were not used."""
        self._released += count
        self._due(now)

    def blocked(self, account_id: str, seconds: float, now: float) -> None:
        """Report that an account has no productions left today."""
        self._blocked[account_id] = _clock.Deadline(seconds)
        self._due(now)

    def accept(self, account_id: str, due_at: float) -> None:
        """Report a production that was accepted."""
        self.accepted[account_id] += 1
        self._due(due_at)

    def _due(self, time: float) -> None:
        self.due_at = min(self.due_at, time)

    def lose_slots(self) -> None:
        """Take into account that all slots were lost of which this reports."""
        self._released = 0
        for ended in self._ended:
            ended.is_late = True

    def message(self, message: Message) -> Callable[[float], Message]:
        """Return a function of the monotonic time that adds these reports to a message."""
        message = evolve(message, released=self._released, accepted=self.accepted)
        ended, blocked = self._ended, self._blocked

        def at(now: float) -> Message:
            return evolve(
                message,
                ended=[Ended(now - each.at, each.slots_returned, each.is_late, each.state) for each in ended],
                blocked={account_id: deadline.left for account_id, deadline in blocked.items()},
            )

        return at
