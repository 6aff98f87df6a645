"""An outage of submits: when the next submit may be sent, and how many may be on their way at once. Pure.

Submits on their way are what a crash, or a lost connection, leaves in doubt. So at most twenty are at any
time: that uses 300 requests a minute up to four seconds for a response.

A submit without a usable response is in doubt, and a person has to settle it. So after the first one no
submit is sent until a later read has been answered. Then one is sent, as a probe. Once it is accepted, two
may be on their way, then one more for each that is accepted, as in the slow start of TCP. A further doubt
leads back to the probe, at least a minute after the doubt before it. While no probe is accepted the pauses
become longer: up to five minutes where the server honours idempotency keys, and up to an hour where it does
not, because then each probe that is lost may be paid for, and a person has to look.

A submit that is refused before anything was done costs nothing. So the pauses between such probes are
shorter, no read is needed, and any submit that JARAI accepts or rejects ends the outage.
"""

import math
from random import Random

from attrs import define

_MOST_AT_ONCE = 20  # submits on their way; after as many that were accepted an outage is over
_LONGEST_PAUSE = 60.0  # seconds between two probes that are refused
_DOUBT_PAUSE = 60.0  # seconds after the second doubt in a row; doubled after each further one
LONGEST_PAUSE_WITH_KEYS = 300.0
LONGEST_PAUSE_WITHOUT_KEYS = 3600.0
_READ_INTERVAL = 60.0  # seconds after a read that found no JARAI


@define
class Outage:
    """The outages of one gate, one after the other. All times are seconds of `Scheduler.elapsed`.

    - `longest_pause`: seconds between two probes that are lost.
    - `window`: how many submits may be on their way at once.
    - `failures`: counts failures. Submits that were on their way together count as one: `is_current` is
      whether none was counted since a submit was admitted.
    """

    random: Random
    longest_pause: float = LONGEST_PAUSE_WITH_KEYS
    window: int = _MOST_AT_ONCE
    failures: int = 0
    needs_read: bool = False
    began_at: float = 0.0
    _refusals: int = 0  # in a row
    _doubts: int = 0  # in a row; 1 while submits are accepted again
    _doubt_at: float = -math.inf
    _probe_at: float = -math.inf
    _read_at: float = -math.inf

    @property
    def is_probing(self) -> bool:
        """Whether no submit was accepted since the last failure."""
        return self.window == 1

    @property
    def is_over(self) -> bool:
        """Whether as many submits may be on their way as without an outage."""
        return self.window == _MOST_AT_ONCE

    @property
    def next_at(self) -> float:
        """When the next submit may be sent, or the read that is needed before it."""
        return max(self._probe_at, self._read_at) if self.needs_read else self._probe_at

    def record_refusal(self, now: float, retry_after: float, *, is_current: bool) -> None:
        """Record a submit that was refused: it created nothing."""
        if is_current:
            self._fail(now)
            self._refusals += 1
            longest = min(_LONGEST_PAUSE, 2.0 ** min(self._refusals, 6))
            self._pause(now + self.random.uniform(longest / 2, longest))
        self._pause(now + retry_after)

    def record_doubt(self, now: float, *, is_current: bool) -> None:
        """Record a submit without a usable response: it may have created a production."""
        if self._doubts and not is_current:
            return
        if self._doubts:
            pause = min(self.longest_pause, _DOUBT_PAUSE * 2.0 ** min(self._doubts - 1, 6))
            since = now if self.is_probing else self._doubt_at
            self._pause(since + pause * self.random.uniform(1.0, 1.1))
        self._pause(now + self.random.uniform(1.0, 2.0))
        self._fail(now)
        self._doubts += 1
        self.needs_read, self._doubt_at = True, now

    def record_answer(self, *, is_accepted: bool, is_current: bool) -> None:
        """Record a submit that JARAI accepted, or rejected in its own words.

        After a doubt only a success of a later submit counts: a request may be rejected before the step
        that fails.
        """
        if is_current and is_accepted and self._doubts and self.window < _MOST_AT_ONCE:
            self.window += 1
            self._doubts, self._refusals = 1, 0
        elif (is_current and is_accepted) or not self._doubts:
            self.window, self._refusals, self._doubts = _MOST_AT_ONCE, 0, 0
            self._probe_at = -math.inf

    def record_read(self, now: float, sent_at: float, *, answered: bool) -> None:
        """Record a read that was made to find out whether JARAI responds, or any other that was answered."""
        if not answered:
            self._read_at = now + _READ_INTERVAL * self.random.uniform(1.0, 1.1)
        elif sent_at >= self._doubt_at:
            self.needs_read = False

    def _fail(self, now: float) -> None:
        if not self.is_probing:
            self.began_at = now
        self.window, self.failures = 1, self.failures + 1

    def _pause(self, until: float) -> None:
        self._probe_at = max(self._probe_at, until)
