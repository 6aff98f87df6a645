"""An outage of submits: when the next submit may be sent, and whether a read has to be answered first. Pure.

A submit without a usable response is in doubt, and a person has to settle it. So after the first one no
submit is sent until a later read has been answered. Then one submit at a time is sent, as a probe, and only a
probe that is accepted ends the outage. A gateway may answer reads and still lose submits: while probes are in
doubt, the pause between two of them grows from one minute to five.

A submit that is refused before anything was done costs nothing. So the pauses between such probes are
shorter, no read is needed, and any submit that JARAI accepts or rejects ends the outage.
"""

import math
from random import Random

from attrs import define

_LONGEST_PAUSE = 60.0  # seconds between two probes that are refused
_DOUBT_PAUSE = 60.0  # seconds after the first probe in doubt; doubled after each further one
_LONGEST_DOUBT_PAUSE = 300.0
_READ_INTERVAL = 60.0  # seconds after a read that found no JARAI


@define
class Outage:
    """One outage. All times are seconds of `Scheduler.elapsed`."""

    began_at: float
    random: Random
    needs_read: bool = False
    _refusals: int = 0  # of probes, in a row
    _doubts: int = 0  # likewise
    _doubt_at: float = -math.inf
    _probe_at: float = -math.inf
    _read_at: float = -math.inf

    @property
    def next_at(self) -> float:
        """When the next probe may be sent, or the read that is needed before it."""
        return max(self._probe_at, self._read_at) if self.needs_read else self._probe_at

    def record_refusal(self, now: float, retry_after: float, *, is_probe: bool) -> None:
        """Record a submit that was refused: it created nothing."""
        if is_probe or not self._refusals:
            self._refusals += 1
            longest = min(_LONGEST_PAUSE, 2.0 ** min(self._refusals, 6))
            self._pause(now + self.random.uniform(longest / 2, longest))
        self._pause(now + retry_after)

    def record_doubt(self, now: float, *, is_probe: bool) -> None:
        """Record a submit without a usable response: it may have created a production."""
        pause = self.random.uniform(1.0, 2.0)
        if is_probe:
            longest = min(_LONGEST_DOUBT_PAUSE, _DOUBT_PAUSE * 2.0 ** min(self._doubts, 6))
            pause = longest * self.random.uniform(1.0, 1.1)
            self._doubts += 1
        elif self._has_doubt:
            return  # it was sent before the outage began, so it adds nothing
        self._pause(now + pause)
        self.needs_read, self._doubt_at = True, now

    @property
    def ends_with_any_answer(self) -> bool:
        """Whether a rejection by JARAI ends it, too, and a success of a submit that was sent before it began.

        They do not show whether submits are lost: a request may be rejected before the step that fails.
        """
        return not self._has_doubt

    def record_read(self, now: float, sent_at: float, *, answered: bool) -> None:
        """Record a read that was made to find out whether JARAI responds, or any other that was answered."""
        if not answered:
            self._read_at = now + _READ_INTERVAL * self.random.uniform(1.0, 1.1)
        elif sent_at >= self._doubt_at:
            self.needs_read = False

    @property
    def _has_doubt(self) -> bool:
        return self._doubt_at > -math.inf

    def _pause(self, until: float) -> None:
        self._probe_at = max(self._probe_at, until)
