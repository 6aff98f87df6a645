"""Orders for faults: which requests they strike, how often, and with what probability.

The kinds themselves are a table in `_kinds`, where each is described.
"""

import random
from collections import Counter

from attrs import mutable

from jarai_async.simulator._api.fault_kinds import KINDS, Circumstances
from jarai_async.simulator._api.responses import Response

ROUTES = (
    *("accounts", "submit", "fetch", "cancel", "deliverables", "performance", "usage"),
    *("webhooks", "create_webhook", "webhook", "update_webhook", "delete_webhook"),
    *("webhook_deliveries", "test_webhook"),
)


@mutable
class Fault:
    """One order for trouble: `after` requests pass, then up to `times` are met with `probability`."""

    kind: str
    on: str
    times: int | None
    probability: float
    after: int
    seconds: float

    def meets(self, route: str, rng: random.Random) -> bool:
        """Whether the request that just came is one to spoil; counts it down."""
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
    """The faults of a simulator; `fired` counts by kind how often each struck.

    `kinds` is the open table of what there is: an entry of one's own is a `Kind`.
    """

    def __init__(self, rng: random.Random) -> None:
        self.kinds = dict(KINDS)
        self.fired: Counter[str] = Counter()
        self.trap_url = ""
        self._random = rng
        self._orders: list[Fault] = []

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
        """Order a fault for requests to come.

        `on` names what is called: one of `ROUTES` ("submit", "fetch", ...), "download", or "any" for all but
        downloads. `after` requests of that name pass first, `times` (None: for ever) is how often it strikes.
        `seconds` is the wait of "rate_limited" and the duration of "slow". Where several fit a request the
        first one strikes.
        ValueError for a kind or a name that there is not.
        """
        if kind not in self.kinds:
            raise ValueError(f"no fault {kind!r}; there are {', '.join(sorted(self.kinds))}")
        if on not in (*ROUTES, "download", "any"):
            raise ValueError(f"nothing is called {on!r}")
        if not 0 <= probability <= 1:
            raise ValueError(f"a probability is between 0 and 1, not {probability!r}")
        self._orders.append(Fault(kind, on, times, probability, after, seconds))

    def clear(self) -> None:
        """Forget every order; the counts stay."""
        self._orders.clear()

    def take(self, route: str) -> Fault | None:
        """The fault that strikes this request, if any."""
        if not self._orders:
            return None
        for fault in self._orders:
            if fault.meets(route, self._random):
                self.fired[fault.kind] += 1
                self._orders = [order for order in self._orders if order.times != 0]
                return fault
        return None

    def apply(self, fault: Fault, answer: Response, wall: float) -> Response:
        """What the client gets in place of `answer`."""
        circumstances = Circumstances(fault.seconds, wall, self.trap_url, self._random)
        return self.kinds[fault.kind].change(answer, circumstances)
