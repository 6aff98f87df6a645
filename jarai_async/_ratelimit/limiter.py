"""The request budget: one rolling minute, shared with programs that we cannot see.

The server counts the requests that arrived in the last 60 seconds; we know only when we sent one and when its
answer came. So a slot is taken when a request is sent and given back 60 seconds after its answer (or its
failure) was seen. The request arrived before its answer left, hence a new one takes the slot's place no
earlier than 60 seconds after the old one arrived: alone on a key this never causes a 429, at full use and
without a clock in common. (By send time, as a token bucket, or by stopping at two remaining, the same load
caused 56 to 3,642 an hour.)

What others spend shows in the headers: if the server counts more requests than we do, the difference is
theirs and its slots are taken here too, for a minute. While others are about, two slots are kept back, for
they may send between our answer and our next request, and requests go one after the other rather than in
bursts: two clients that both saturated 60 a minute caused 1,700 429s an hour without that, and 65 with it.
That each gets its part is not promised: a server that does not count what it refuses hides who comes
away empty. Where that matters give each of them a `Budget`.

The first request goes alone: its headers tell the limit, and what an earlier process spent.

Polls are spread evenly over the window rather than spent as soon as slots are free: slots that were spent
together come free together, for ever, and polls that come in bursts see changes late.

A day's quota would be gone in half an hour at full rate. So polls may spend only a share of what is left of
it per hour, which never quite uses it up; a tenth stays for submits, deliverables and cancels until midnight.

What the caller allows us a minute bounds our own requests alone, whatever others spend; the server's limit
bounds the sum.

Not here: who goes next (`_turns`), and waiting (`_scheduler`). All times are seconds; `now` is monotonic,
`wall` is since the Unix epoch. Nothing here reads a clock.
"""

import math
from collections import deque
from collections.abc import Mapping
from random import Random
from typing import Any

from jarai_async._api import wire
from jarai_async._api.calls import Kind
from jarai_async._api.models import RateLimit
from jarai_async._api.responses import RateLimitState

WINDOW = 60.0  # seconds: documented
LONGER_THAN_A_WINDOW = 2 * WINDOW  # a longer Retry-After is a day's quota
DAY = 86_400.0
_ASSUMED_LIMIT = 10  # a minute: the smallest tier, until a header says otherwise
_RESERVE = 2  # documented advice: stop at 2 remaining; needed only while others spend too
_SPACING = 0.5  # of an even spread: the least time between two requests while others are about
_OTHERS_LINGER = 600.0  # seconds for which others, once noticed, are expected to come back
_BURST = 2.0  # polls that may follow each other at once after a pause: keeps the window full
DAY_HORIZON = 3600.0  # seconds in which polls may spend what is left of a day's quota, less 1/e
DAY_RESERVE = 0.1  # share of a day's quota that polls leave alone


class RateLimiter:
    """How many requests may be sent now, and if none, when to ask again."""

    def __init__(self, budget: RateLimit) -> None:
        self._given = budget
        self._answered = False
        self._limit: int | None = None  # as headers say it; what is assumed until then says nothing of a day
        self._in_flight = 0
        self._taken: deque[float] = deque()  # moments at which slots come back, in order
        self._own: deque[float] = deque()  # those of them that are ours
        self._came_back = 0  # slots that ever did
        self._others_seen = -math.inf
        self._last_sent = -math.inf
        self._paused_until = -math.inf
        self._next_poll = -math.inf
        self._day = -1
        self._spent_today = 0

    @property
    def limit(self) -> int:
        """Requests a minute, as far as known."""
        known = self._limit or self._given.per_minute or _ASSUMED_LIMIT
        return min(known, self._given.per_minute or known)

    @property
    def per_day(self) -> float:
        """Requests a UTC day, as given or by the documented tiers."""
        if self._given.per_day is not None:
            return self._given.per_day
        return wire.REQUESTS_PER_DAY.get(self._limit or 0, math.inf)

    @property
    def has_days(self) -> bool:
        """Whether there may be quotas a day: unless the tier is known to have none."""
        return self._limit is None or self.per_day < math.inf

    @property
    def paused_until(self) -> float:
        """The moment before which nothing is sent, after a 429."""
        return self._paused_until

    @property
    def productions_per_day(self) -> float:
        """Productions of one account a UTC day, by the documented tiers."""
        return wire.PRODUCTIONS_PER_DAY.get(self._limit or 0, math.inf)

    def free(self, now: float) -> int:
        """Slots that may be taken now."""
        return max(0, self.limit - self.used(now))

    def left_today(self, wall: float) -> int | None:
        """Requests that are left of the day's quota; None where there is none."""
        return None if math.isinf(self.per_day) else max(0, int(self._left_today(wall)))

    def export_state(self, now: float, wall: float) -> dict[str, Any]:
        """Give what was spent as plain data, for `recall`; the moments are Unix seconds."""
        self.used(now)
        self._left_today(wall)
        slots = [*self._taken, *[now + WINDOW] * self._in_flight]
        return {
            "slots": [round(wall + moment - now, 3) for moment in slots],
            "day": self._day,
            "requests": self._spent_today,
        }

    def restore_state(self, spent: Mapping[str, Any], now: float, wall: float) -> None:
        """Count what an earlier process spent. Raises ValueError where that is not what was exported."""
        try:
            moments = [now + min(float(moment) - wall, WINDOW) for moment in spent["slots"]]
            day, requests = int(spent["day"]), int(spent["requests"])
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"not what was exported: {error!r}") from None
        self._taken = deque(sorted([*self._taken, *(moment for moment in moments if moment > now)]))
        self._left_today(wall)
        if day == self._day:
            self._spent_today += max(requests, 0)

    def used(self, now: float) -> int:
        """Slots that are taken, by us or by others."""
        while self._taken and self._taken[0] <= now:
            self._taken.popleft()
            self._came_back += 1
        while self._own and self._own[0] <= now:
            self._own.popleft()
        return self._in_flight + len(self._taken)

    def may_send_at(self, kind: Kind, now: float, wall: float) -> float:
        """Give the earliest moment at which a request of this kind may be sent; `now` if at once.

        Infinite where that depends on an answer which is still to come.
        """
        moments = [now, self._paused_until, self._slot_at(now), self._quota_at(now, wall)]
        if kind is Kind.POLL:
            moments.append(self._poll_at(now, wall))
        return max(moments)

    def _slot_at(self, now: float) -> float:
        if not self._answered and self._in_flight:
            return math.inf  # the first goes alone
        self.used(now)
        shared, spaced = self._limit or self.limit, now
        if now - self._others_seen < _OTHERS_LINGER:
            # One after the other, so that the answer to each tells the next what others have spent.
            spaced = max(now, self._last_sent + _SPACING * WINDOW / shared)
            shared -= min(_RESERVE, shared - 1)
        slots = self._falls_below(shared, self._taken, now), self._falls_below(self.limit, self._own, now)
        return max(spaced, *slots)

    def _falls_below(self, usable: int, taken: deque[float], now: float) -> float:
        """Give the moment at which fewer than `usable` of these slots are taken."""
        excess = self._in_flight + len(taken) - usable
        if excess < 0:
            return now
        return taken[excess] if excess < len(taken) else math.inf

    def _quota_at(self, now: float, wall: float) -> float:
        return now + _to_midnight(wall) if self._left_today(wall) <= 0 else now

    def _left_today(self, wall: float) -> float:
        if int(wall // DAY) != self._day:
            # What is on its way may arrive on either side of midnight, so it counts on both.
            self._day, self._spent_today = int(wall // DAY), self._in_flight
        return self.per_day - self._spent_today

    def _poll_at(self, now: float, wall: float) -> float:
        if self._left_for_polls(wall) < 1:
            return now + _to_midnight(wall)
        return max(self._next_poll, now)

    def _left_for_polls(self, wall: float) -> float:
        left = self._left_today(wall)
        return left if math.isinf(left) else left - DAY_RESERVE * self.per_day

    def take(self, kind: Kind, now: float, wall: float) -> int:
        """Count a request as sent. Its `answered` wants what this gives: the slots back by then."""
        self.used(now)
        left = self._left_for_polls(wall)
        self._in_flight += 1
        self._last_sent = now
        self._spent_today += 1
        if kind is Kind.POLL:
            even = WINDOW / self.limit
            # so that the day's quota lasts; but tomorrow there is a new one
            interval = min(max(even, DAY_HORIZON / max(left, 1)), _to_midnight(wall))
            self._next_poll = max(self._next_poll, now - _BURST * even) + interval
        return self._came_back

    def give_back(self) -> None:
        """Undo a `take` whose request was never sent."""
        self._in_flight -= 1
        self._spent_today -= 1

    def lost(self, now: float) -> None:
        """A request failed without an answer; the server may have counted it until now."""
        self._in_flight -= 1
        self._hold(1, now)

    def _hold(self, slots: int, now: float) -> None:
        """Keep slots of ours for a minute from now."""
        self._taken.extend([now + WINDOW] * slots)
        self._own.extend([now + WINDOW] * slots)

    def answered(
        self, rate: RateLimitState, came_back: int, now: float, random: Random, *, attempts: int = 1
    ) -> None:
        """An answer came: its slot comes back in a minute, its headers correct the model.

        `attempts` is how often it was on the wire: a GET on a connection that had gone is sent twice.
        """
        self._answered = True
        self.lost(now)
        self._hold(attempts - 1, now)
        self._spent_today += attempts - 1
        if rate.retry_after is not None and rate.retry_after > LONGER_THAN_A_WINDOW:
            rate = RateLimitState(
                retry_after=rate.retry_after
            )  # its other headers may tell of the day, not the minute
        if rate.limit is not None:
            self._limit = rate.limit
        if rate.remaining is not None and self._limit is not None:
            self._charge_others(self._limit - rate.remaining, came_back, now)
        if rate.retry_after is not None:
            self._pause(rate.retry_after, now, random)

    def _charge_others(self, counted: int, came_back: int, now: float) -> None:
        """Take slots for requests that the server counts and we did not make.

        It can count of ours at most those whose slots were taken when this request was sent, and those
        sent since: we hold a slot longer than it does. What exceeds them is others'.
        """
        ours_at_most = self.used(now) + self._came_back - came_back
        if counted > ours_at_most:
            self._taken.extend([now + WINDOW] * (counted - ours_at_most))
            self._others_seen = now

    def hold(self, until: float) -> None:
        """Send nothing before that moment, and then one request alone: its answer decides."""
        self._paused_until = max(self._paused_until, until)
        self._answered = False

    def _pause(self, seconds: float, now: float, random: Random) -> None:
        """Stop everyone once. Jitter on top, so that not all processes come back together."""
        self._paused_until = max(self._paused_until, now + seconds + random.uniform(0, min(5, seconds / 10)))
        self._next_poll = max(self._next_poll, self._paused_until)


def _to_midnight(wall: float) -> float:
    return DAY - wall % DAY
