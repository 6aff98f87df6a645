"""What the gate needs to know about a rate limit, whether one client uses it or several workers share it."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Protocol

from jarai_async._api.calls import Kind
from jarai_async._api.responses import RateLimitState


class Limiter(Protocol):
    """A rate limit: see `limiter.RateLimiter`. `now` is monotonic and `wall` Unix time, in seconds."""

    @property
    def paused_until(self) -> float:
        """Nothing is sent before this time."""

    @property
    def in_flight(self) -> int:
        """Requests of this client without a response so far."""

    @property
    def others_seen_at(self) -> float:
        """When the headers last showed requests of other programs."""

    @property
    def limit(self) -> int:
        """Requests a minute, as far as known."""

    @property
    def is_limit_known(self) -> bool:
        """Whether the server has stated its limit."""

    @property
    def per_day(self) -> float:
        """Requests a UTC day."""

    @property
    def has_daily_quotas(self) -> bool:
        """False only once the tier is known to have none."""

    @property
    def productions_per_day(self) -> float:
        """Productions of one account a UTC day."""

    def free_slots(self, now: float) -> int:
        """Return how many requests may be sent now."""

    def used_slots(self, now: float) -> int:
        """Return the slots that are in use, by anyone."""

    def left_today(self, wall: float, /) -> float:
        """Return how many requests are left of the day's quota."""

    def set_waiting(self, waiting: Sequence[int], now: float, wall: float, /) -> None:
        """Tell how many requests of each kind wait now."""

    def earliest_send(self, kind: Kind, now: float, wall: float) -> float:
        """Return when `acquire` may be called; infinity while that depends on something else."""

    def quota_returns(self, kind: Kind, now: float, wall: float, /) -> float:
        """Return when the day's quota lets a request of this kind be sent."""

    def acquire(self, kind: Kind, now: float, wall: float, /) -> int:
        """Take a slot."""

    def is_valid(self, slot: int, now: float, wall: float, /) -> bool:
        """Return whether a slot may still be used."""

    def release(self, slot: int, /) -> None:
        """Give back the slot of a request that was never sent."""

    def failed(self, slot: int, now: float, /) -> None:
        """Record a request that failed without a response."""

    def record_response(self, state: RateLimitState, slot: int, now: float, random: Random, /) -> None:
        """Record a response."""

    def pause_until(self, time: float) -> None:
        """Send nothing before that time, and then a single request."""

    def bring_forward(self, seconds: float) -> None:
        """Let pauses end sooner: the machine slept for so long."""

    def export_state(self, now: float, wall: float) -> dict[str, Any]:
        """Return what was sent as JSON values."""

    def restore_state(self, state: Mapping[str, Any], now: float, wall: float) -> None:
        """Count what an earlier process sent. Raises ValueError."""


class SharedLimit(Limiter, Protocol):
    """A rate limit, and quotas of accounts, that several workers share."""

    on_change: Callable[[], None]
    """Is called when slots may have been granted."""
    on_blocked: Callable[[str, float], None]
    """Is called when an account has no productions left today, with the seconds for which it waits."""

    def account_blocked(self, account_id: str, seconds: float) -> None:
        """Tell the others that an account has no productions left for so long."""

    def account_accepted(self, account_id: str) -> None:
        """Tell the others of a production that was accepted now."""

    def accepted_today(self, account_id: str) -> int:
        """Return how many productions of an account all have submitted today."""
