"""Faults that a test has added: which requests they affect, how often, and with what probability."""

import random
from collections import Counter

from attrs import mutable

from jarai_async.simulator._api.fault_kinds import KINDS, FaultContext, FaultKind
from jarai_async.simulator._api.responses import Response
from jarai_async.simulator._api.routes import ROUTES


@mutable
class Fault:
    """One fault: skips `after` requests, then affects up to `times` requests with `probability`."""

    kind: str
    on: str
    times: int | None
    probability: float
    after: int
    seconds: float

    def fires(self, route: str, rng: random.Random) -> bool:
        """Return whether the fault affects the request that has just arrived, and count the request."""
        if self.on not in (route, "any") or (self.on == "any" and route == "download"):
            return False
        if self.times == 0:
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if rng.random() >= self.probability:
            return False
        if self.times is not None:
            self.times -= 1
        return True


class Faults:
    """The faults of a simulator.

    `fired` counts how often each kind of fault has affected a request. `kinds` is the table of known kinds;
    a test can add a `FaultKind` of its own.
    """

    def __init__(self, rng: random.Random) -> None:
        self.kinds: dict[str, FaultKind] = dict(KINDS)
        self.fired: Counter[str] = Counter()
        self.trap_url = ""
        self._random = rng
        self._faults: list[Fault] = []

    def add(
        self,
        kind: str,
        *,
        on: str = "submit",
        times: int | None = 1,
        probability: float = 1.0,
        after: int = 0,
        seconds: float = 60.0,
    ) -> None:
        """Add a fault for future requests.

        `on` is the name of a route ("submit", "fetch", ...), "download", or "any" for all but downloads. The
        fault skips `after` matching requests and then affects `times` of them, None for no limit. `seconds`
        is the wait of "rate_limited" and the duration of "slow". If several faults match a request, the one
        added first affects it.

        Raises ValueError for an unknown kind or route, and for a probability outside 0 to 1.
        """
        if kind not in self.kinds:
            raise ValueError(f"unknown kind of fault {kind!r}; known are {', '.join(sorted(self.kinds))}")
        routes = (*ROUTES, "download", "any")
        if on not in routes:
            raise ValueError(f"unknown route {on!r}; known are {', '.join(routes)}")
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must be between 0 and 1, not {probability!r}")
        self._faults.append(Fault(kind, on, times, probability, after, seconds))

    def clear(self) -> None:
        """Remove every fault; the counts stay."""
        self._faults.clear()

    def select(self, route: str) -> Fault | None:
        """Return the fault that affects the request that has just arrived, if any, and count it."""
        for fault in self._faults:
            if fault.fires(route, self._random):
                self.fired[fault.kind] += 1
                self._faults = [fault for fault in self._faults if fault.times != 0]
                return fault
        return None

    def apply(self, fault: Fault, response: Response, wall: float) -> Response:
        """Return what the client receives instead of `response`."""
        context = FaultContext(fault.seconds, wall, self.trap_url, self._random)
        return self.kinds[fault.kind].change(response, context)
