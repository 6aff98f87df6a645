"""Faults that a test has added: which requests they affect, how often, and with what probability."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import get_args

from attrs import mutable

from jarai_async.simulator._api.fault_kinds import KINDS, FaultContext, FaultKind, FaultName
from jarai_async.simulator._api.responses import Response
from jarai_async.simulator._api.routes import RouteName


@mutable
class Fault:
    """One fault: skips `after` requests, then affects up to `times` requests with `probability`."""

    kind: str
    on: str
    times: int | None
    probability: float
    after: int
    seconds: float
    rule: object | None

    def fires(self, route: str, rules: Sequence[object], rng: random.Random) -> bool:
        """Return whether the fault affects the request that has just arrived, and count the request."""
        if self.on not in (route, "any") or (self.on == "any" and route == "download"):
            return False
        if self.rule is not None and self.rule not in rules:
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
        kind: FaultName | str,
        *,
        on: RouteName | str = "submit",
        times: int | None = 1,
        probability: float = 1.0,
        after: int = 0,
        seconds: float = 60.0,
        rule: object | None = None,
    ) -> None:
        """Add a fault for future requests.

        `on` is the name of a route ("submit", "fetch", ...), "download", or "any" for all but downloads. The
        fault skips `after` matching requests and then affects `times` of them, None for no limit. `seconds`
        is the wait of "rate_limited" and the duration of "slow". If several faults match a request, the one
        added first affects it.

        With a `rule`, it affects only requests about the productions of this rule: see `Simulator.when`.

        Raises ValueError for an unknown kind or route, and for a probability outside 0 to 1.
        """
        _check("kind of fault", kind, self.kinds)
        _check("route", on, get_args(RouteName))
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must be between 0 and 1, not {probability!r}")
        self._faults.append(Fault(kind, on, times, probability, after, seconds, rule))

    def clear(self) -> None:
        """Remove every fault; the counts stay."""
        self._faults.clear()

    def select(self, route: str, rules: Sequence[object] = ()) -> Fault | None:
        """Return the fault that affects the request that has just arrived, if any, and count it.

        `rules` are those of the production that the request is about.
        """
        for fault in self._faults:
            if fault.fires(route, rules, self._random):
                self.fired[fault.kind] += 1
                self._faults = [fault for fault in self._faults if fault.times != 0]
                return fault
        return None

    def apply(self, fault: Fault, response: Response, wall: float) -> Response:
        """Return what the client receives instead of `response`."""
        context = FaultContext(fault.seconds, wall, self.trap_url, self._random)
        return self.kinds[fault.kind].change(response, context)


def _check(what: str, name: str, known: Iterable[str]) -> None:
    """Raise ValueError, with the names that are known, unless `name` is one of them."""
    names = sorted(known)
    if name not in names:
        similar = get_close_matches(name, names, n=1)
        hint = f", did you mean {similar[0]!r}?" if similar else "."
        raise ValueError(f"unknown {what} {name!r}{hint} Known are {', '.join(names)}")
