"""The rate limit of one client: a rolling minute, shared with programs that this process cannot see.

The server counts the requests that arrived in the last 60 seconds. The client knows only when it sent a
request and when the response arrived. So a request takes a slot when it is sent, and the slot comes back 60
seconds after its response (or its failure) was received. A request arrives before its response leaves, so a
new request never takes a slot earlier than 60 seconds after the previous one in that slot arrived. If no
other program uses the key, this never causes a 429, even at full use and without a shared clock. (Counting by
send time, a token bucket, or stopping at two remaining caused 56 to 3,642 429s an hour under the same load.)

Requests of other programs show in the headers: where the server counts more requests than this client made,
the difference takes slots here too, for a minute. While other programs are active two slots are kept free,
because they may send between our response and our next request, and requests are spaced rather than sent in
bursts: two clients that both saturated 60 a minute caused 1,700 429s an hour without this, and 65 with it.
It does not guarantee each program a share: a server that does not count rejected requests hides a program
that gets none. To divide a limit reliably, give each program its own `RateLimit`.

The first request is sent alone: its headers show the limit and what an earlier process used.

Polls are spread evenly over the minute. Slots that are used together come back together, so polls that are
sent in bursts stay in bursts, and see changes late.

A day's quota would be used up within half an hour at the full rate. So polls may use only a share of the rest
of the day's quota per hour, and a tenth of the quota is reserved until midnight (UTC) for submits, lists of
deliverables and cancels.

A limit set by the user bounds this client's own requests; the server's limit bounds the sum of all programs.

`priority` decides which kind of request goes next, and `scheduler` does the waiting. All times are in
seconds: `now` is monotonic, `wall` is Unix time. Nothing here reads a clock.
"""

import math
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from jarai_async._api import wire
from jarai_async._api.calls import Kind
from jarai_async._api.models import RateLimit
from jarai_async._api.responses import RateLimitState

WINDOW = 60.0  # seconds (documented)
LONGEST_MINUTE_PAUSE = 2 * WINDOW  # a longer Retry-After is about a day's quota
DAY = 86_400.0
DAY_HORIZON = 3600.0  # seconds in which polls may use what is left of a day's quota, less 1/e
DAY_RESERVE = 0.1  # share of a day's quota that polls do not use
_ASSUMED_LIMIT = 10  # requests a minute: the smallest tier, until a header states the limit
_RESERVE = 2  # documented advice: stop at 2 remaining; only needed while other programs send too
_SPACING = 0.5  # of an even spread: the minimum time between two requests while other programs are active
OTHERS_EXPECTED = 600.0  # seconds for which other programs, once noticed, are expected to send again
_PARTS_OF_WINDOW = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)  # after which the slots are compared
_BURST = 2.0  # polls that may be sent at once after a pause, to keep the minute fully used


class RateLimiter:
    """How many requests may be sent now, and otherwise when."""

    def __init__(self, rate_limit: RateLimit) -> None:
        self.in_flight: int = 0
        """Requests without a response so far."""
        self.others_seen_at: float = -math.inf
        """When the headers last showed requests of other programs."""
        self.paused_until: float = -math.inf
        """Nothing is sent before this time: a 429, or a rejected key."""
        self._day_used_until = -math.inf  # according to a 429
        self._user_limit = rate_limit
        self._has_response = False
        self._server_limit: int | None = None
        self._slots_return_at: deque[float] = deque()  # sorted
        self._own_slots_return_at: deque[float] = deque()  # those of them that this client used
        self._slots_returned = 0  # since the beginning
        self._last_sent_at = -math.inf
        self._next_poll_at = -math.inf
        self._day = -1
        self._sent_today = 0

    @property
    def limit(self) -> int:
        """Requests a minute, as far as known."""
        known = self._server_limit or self._user_limit.per_minute or _ASSUMED_LIMIT
        return min(known, self._user_limit.per_minute or known)

    @property
    def per_day(self) -> float:
        """Requests a UTC day: set by the user, or by the documented tiers."""
        if self._user_limit.per_day is not None:
            return self._user_limit.per_day
        return wire.REQUESTS_PER_DAY.get(self._server_limit or 0, math.inf)

    @property
    def is_limit_known(self) -> bool:
        """Whether the server has stated its limit."""
        return self._server_limit is not None

    @property
    def has_daily_quotas(self) -> bool:
        """False only once the tier is known to have none."""
        return self._server_limit is None or self.per_day < math.inf

    @property
    def productions_per_day(self) -> float:
        """Productions of one account a UTC day, by the documented tiers."""
        return wire.PRODUCTIONS_PER_DAY.get(self._server_limit or 0, math.inf)

    def free_slots(self, now: float) -> int:
        """Return how many requests may be sent now."""
        return max(0, self.limit - self.used_slots(now))

    def used_slots(self, now: float) -> int:
        """Slots that are in use, by this client or by other programs."""
        while self._slots_return_at and self._slots_return_at[0] <= now:
            self._slots_return_at.popleft()
            self._slots_returned += 1
        while self._own_slots_return_at and self._own_slots_return_at[0] <= now:
            self._own_slots_return_at.popleft()
        return self.in_flight + len(self._slots_return_at)

    def left_today(self, wall: float) -> float:
        """Return how many requests are left of the day's quota; infinity without a quota."""
        if int(wall // DAY) != self._day:
            # A request in flight may arrive on either side of midnight, so it counts on both days.
            self._day, self._sent_today = int(wall // DAY), self.in_flight
        return self.per_day - self._sent_today

    # --- When to send ------------------------------------------------------------------------------

    def set_waiting(self, _waiting: Sequence[int], _now: float, _wall: float, /) -> None:
        """Do nothing: all requests are this client's, and `Scheduler` knows which of them wait."""

    def is_valid(self, _slot: int, _now: float, _wall: float, /) -> bool:
        """Return whether a slot may still be used: always, as no other client can take it."""
        return True

    def earliest_send(self, kind: Kind, now: float, wall: float) -> float:
        """Return the earliest time at which a request of this kind may be sent; `now` if at once.

        Infinite while that depends on a response that has not arrived.
        """
        times = [now, self.paused_until, self._slot_at(now), self._quota_at(now, wall)]
        if kind is Kind.POLL:
            times.append(self._poll_at(now, wall))
        return max(times)

    def _slot_at(self, now: float) -> float:
        if not self._has_response and self.in_flight:
            return math.inf  # the first request is sent alone
        self.used_slots(now)
        shared, spaced = self._server_limit or self.limit, now
        if now - self.others_seen_at < OTHERS_EXPECTED:
            # One after the other, so that each response shows what other programs sent before the next.
            spaced = max(now, self._last_sent_at + _SPACING * WINDOW / shared)
            shared -= min(_RESERVE, shared - 1)
        return max(
            spaced,
            self._falls_below(shared, self._slots_return_at, now),
            self._falls_below(self.limit, self._own_slots_return_at, now),
        )

    def _falls_below(self, limit: int, return_at: deque[float], now: float) -> float:
        """Return when fewer than `limit` of these slots are in use."""
        excess = self.in_flight + len(return_at) - limit
        if excess < 0:
            return now
        return return_at[excess] if excess < len(return_at) else math.inf

    def quota_returns(self, kind: Kind, now: float, wall: float) -> float:
        """Return when the day's quota lets a request of this kind be sent; `now` if it does."""
        used_for_polls = kind is Kind.POLL and self._left_for_polls(wall) < 1
        at = now + _until_midnight(wall) if used_for_polls else self._quota_at(now, wall)
        return max(at, self._day_used_until)

    def _quota_at(self, now: float, wall: float) -> float:
        return now + _until_midnight(wall) if self.left_today(wall) <= 0 else now

    def _poll_at(self, now: float, wall: float) -> float:
        if self._left_for_polls(wall) < 1:
            return now + _until_midnight(wall)
        return max(self._next_poll_at, now)

    def _left_for_polls(self, wall: float) -> float:
        left = self.left_today(wall)
        return left if math.isinf(left) else left - DAY_RESERVE * self.per_day

    # --- What was sent -----------------------------------------------------------------------------

    def acquire(self, kind: Kind, now: float, wall: float) -> int:
        """Count a request as sent. Pass the result on to `record_response`: the slots returned by now."""
        self.used_slots(now)
        left = self._left_for_polls(wall)
        self.in_flight += 1
        self._last_sent_at = now
        self._sent_today += 1
        if kind is Kind.POLL:
            self._next_poll_at = self._after_poll(self._next_poll_at, left, now, wall)
        return self._slots_returned

    def next_poll(self, previous: float, now: float, wall: float, share: float = 1.0) -> float:
        """Return when the poll after one at `now` may be sent, by a worker that has this share of all polls.

        `previous` is what this returned for the poll before, or negative infinity.
        """
        return self._after_poll(previous, self._left_for_polls(wall), now, wall, share)

    def _after_poll(self, previous: float, left: float, now: float, wall: float, share: float = 1.0) -> float:
        burst = _BURST * WINDOW / self.limit
        # The day's quota has to last, but only until midnight.
        interval = min(max(self._spread(now), DAY_HORIZON / max(left, 1)), _until_midnight(wall))
        return max(previous, now - burst / share) + interval / share

    def _spread(self, now: float) -> float:
        """Return the seconds between polls that the free slots, and those that come back, are enough for.

        After many submits at once few slots are free for a minute. They are worth most if they are spread
        over it: the productions that were just submitted do not change at once.
        """
        free, interval = self.limit - self.used_slots(now), WINDOW / self.limit
        for part in _PARTS_OF_WINDOW:
            seconds = part * WINDOW
            slots = free + bisect_right(self._slots_return_at, now + seconds) + _BURST
            interval = max(interval, seconds / max(1, slots))
        return interval

    def release(self, _slot: int, /) -> None:
        """Undo `acquire` for a request that was never sent."""
        self.in_flight -= 1
        self._sent_today -= 1

    def failed(self, _slot: int, now: float, /) -> None:
        """Record a request that failed without a response: the server may have counted it until now."""
        self.in_flight -= 1
        insort(self._slots_return_at, now + WINDOW)  # a worker may report late what another one knows
        insort(self._own_slots_return_at, now + WINDOW)

    def record_response(self, state: RateLimitState, slots_returned: int, now: float, random: Random) -> None:
        """Record a response: its slot comes back in a minute, and its headers correct the model."""
        self._has_response = True
        self.failed(slots_returned, now)
        if state.retry_after is not None and state.retry_after > LONGEST_MINUTE_PAUSE:
            # Its other headers may describe the day rather than the minute.
            state = RateLimitState(retry_after=state.retry_after)
            self._day_used_until = now + (state.retry_after or 0.0)
        if state.limit is not None:
            self._server_limit = state.limit
        if state.remaining is not None and self._server_limit is not None:
            self._charge_others(self._server_limit - state.remaining, slots_returned, now)
        if state.retry_after is not None:
            self._pause(state.retry_after, now, random)

    def pause_until(self, time: float) -> None:
        """Send nothing before that time, and then a single request, whose response decides what follows."""
        self.paused_until = max(self.paused_until, time)
        self._has_response = False

    def bring_forward(self, seconds: float) -> None:
        """Let pauses end sooner: the machine slept for so long, and the monotonic clock did not notice."""
        self.paused_until -= seconds
        self._day_used_until -= seconds
        self._next_poll_at -= seconds

    def _charge_others(self, counted: int, slots_returned: int, now: float) -> None:
        """Use slots for requests that the server counts and this client did not make.

        Of this client's requests, it can count at most those whose slots were in use when this request was
        sent and those sent since: this client keeps a slot for longer than the server does. Any excess comes
        from other programs.
        """
        ours_at_most = self.used_slots(now) + self._slots_returned - slots_returned
        if counted > ours_at_most:
            for _ in range(counted - ours_at_most):
                insort(self._slots_return_at, now + WINDOW)
            self.others_seen_at = now

    def _pause(self, seconds: float, now: float, random: Random) -> None:
        """Pause all requests once. Jitter on top keeps processes from resuming at the same time."""
        self.paused_until = max(self.paused_until, now + seconds + random.uniform(0, min(5, seconds / 10)))
        self._next_poll_at = max(self._next_poll_at, self.paused_until)

    # --- Restart -----------------------------------------------------------------------------------

    def export_state(self, now: float, wall: float) -> dict[str, Any]:
        """Return what was sent as JSON values, for `restore_state`; times are Unix seconds."""
        self.used_slots(now)
        self.left_today(wall)
        in_flight = [now + WINDOW] * self.in_flight
        return {
            "limit": self._server_limit,
            "slots": [round(wall + time - now, 3) for time in (*self._slots_return_at, *in_flight)],
            "own": [round(wall + time - now, 3) for time in (*self._own_slots_return_at, *in_flight)],
            "day": self._day,
            "requests": self._sent_today,
        }

    def restore_state(self, state: Mapping[str, Any], now: float, wall: float) -> None:
        """Count what an earlier process sent, and use the limit that it knew.

        Raises ValueError where `state` is not an exported state.
        """
        try:
            slots, own = (
                [now + min(float(time) - wall, WINDOW) for time in times]
                for times in (state["slots"], state.get("own", state["slots"]))
            )
            day, requests = int(state["day"]), int(state["requests"])
            limit = int(state.get("limit") or 0)
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"not an exported state: {error!r}") from None
        self._slots_return_at = deque(sorted([*self._slots_return_at, *(t for t in slots if t > now)]))
        self._own_slots_return_at = deque(sorted([*self._own_slots_return_at, *(t for t in own if t > now)]))
        if self._server_limit is None and limit > 0:
            self._server_limit = limit
        self.left_today(wall)
        if day == self._day:
            self._sent_today += max(requests, 0)


def _until_midnight(wall: float) -> float:
    return DAY - wall % DAY
