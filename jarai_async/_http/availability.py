"""Whether a server responds. An outage is logged when it begins, once a day while it lasts, and when it ends.

An outage begins with the third request that gets no usable response, and none in between. Requests of one
kind may fail while others are answered, so each kind is counted by itself. The outage ends when no kind fails
any more.
"""

import logging
from collections.abc import Hashable
from datetime import datetime, timedelta

from attrs import define

from jarai_async import _clock
from jarai_async._errors import (
    DownloadError,
    JaraiError,
    ServerError,
    ServiceUnavailableError,
    TransportError,
)

_log = logging.getLogger("jarai_async")

_FAILURES = 3
_REMIND_AFTER = 86_400.0  # seconds of an outage
_FORGET_AFTER = 1200.0  # seconds after its last failure; a kind that is not requested any more


@define
class _Failures:
    """The failures of one kind of request since the last one that was answered."""

    began_at: float
    last_at: float
    count: int = 0


class Availability:
    """What is known of one server, or of several with one purpose; `name` is for the log."""

    def __init__(self, name: str) -> None:
        self.down_since: datetime | None = None
        """When the present outage began (UTC); None if there is none."""
        self._name = name
        self._failing: dict[str, _Failures] = {}  # by kind
        self._affected: set[Hashable] = set()
        self._answered_at: dict[str, float] = {}  # by kind
        self._began_at = self._logged_at = 0.0

    @property
    def is_down(self) -> bool:
        """Whether there is an outage."""
        return self.down_since is not None

    def failed(self, kind: str, error: JaraiError, sent_at: float, affected: Hashable | None) -> None:
        """Record a request without a usable response; it was sent at `sent_at` (monotonic seconds).

        `affected` is the production that it was about, as any value that identifies it.
        """
        now = _clock.monotonic()
        if sent_at < self._answered_at.get(kind, sent_at):
            return  # a later one was answered already
        failures = self._failing.setdefault(kind, _Failures(sent_at, now))
        failures.count, failures.last_at = failures.count + 1, now
        if affected is not None:
            self._affected.add(affected)
        if self.is_down:
            if now - self._logged_at >= _REMIND_AFTER:
                self._log_outage(now, error)
        elif sum(one.count for one in self._failing.values()) >= _FAILURES:
            self._began_at = min(one.began_at for one in self._failing.values())
            self.down_since = _clock.utc() - timedelta(seconds=now - self._began_at)
            self._log_outage(now, error)

    def answered(self, kind: str) -> None:
        """Record a request that was answered."""
        now = self._answered_at[kind] = _clock.monotonic()
        if not self._failing:
            return
        self._failing.pop(kind, None)
        for name in [name for name, one in self._failing.items() if now - one.last_at > _FORGET_AFTER]:
            del self._failing[name]
        if not self._failing:
            self._end(now)

    def _log_outage(self, now: float, error: JaraiError) -> None:
        self._logged_at = now
        _log.warning(
            "an outage of %s (%s) began at %s UTC; requests are repeated: %s",
            self._name,
            ", ".join(self._failing),
            f"{self.down_since:%Y-%m-%d %H:%M:%S}",
            error.reason,
            extra={"jarai": {"event": "OutageBegan", "of": self._name, "kinds": list(self._failing)}},
        )

    def _end(self, now: float) -> None:
        if self.is_down:
            seconds, affected = now - self._began_at, len(self._affected)
            facts = {"event": "OutageEnded", "of": self._name, "seconds": seconds, "affected": affected}
            _log.warning(  # as its begin: who filters by level sees both
                "the outage of %s has ended after %.0f s; it affected %d productions",
                self._name,
                seconds,
                affected,
                extra={"jarai": facts},
            )
        self.down_since = None
        self._affected.clear()


def is_unavailable(error: JaraiError) -> bool:
    """Return whether an error means that JARAI, or blob storage, gave no usable response, or a 5xx."""
    if isinstance(error, DownloadError):
        return isinstance(error.__cause__, TransportError) or (error.status or 0) >= 500
    return isinstance(error, TransportError | ServerError | ServiceUnavailableError)
