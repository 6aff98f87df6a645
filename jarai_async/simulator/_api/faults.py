"""Faults that a test has added: which requests they affect, how often, and with what probability."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import get_args

from attrs import mutable

from jarai_async.simulator._api.fault_kinds import DOWNLOAD_KINDS, KINDS, FaultContext, FaultKind, FaultName
from jarai_async.simulator._api.responses import Response
from jarai_async.simulator._api.routes import RouteName
from jarai_async.simulator._common import check_name


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

    def __str__(self) -> str:
        return f"{self.kind}:{self.on}:{'always' if self.times is None else self.times}"

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

    `fired` counts how often each kind of fault has affected a request. `kinds` is the table of known kinds; a
    test can add one of its own: `simulator.faults.kinds["mine"] = FaultKind(...)`. These are known:

        internal_error        500, not executed
        internal_error_after  500, executed
        unavailable           503 with the API's envelope, not executed
        unavailable_html      503 with a gateway's HTML page, executed
        gateway_html          502 with a gateway's HTML page, not executed
        gateway_timeout       504 with a gateway's HTML page, executed
        reset_before          the server resets the connection, not executed
        reset_after           the server resets the connection, executed
        hang_before           no response until the client disconnects, not executed
        hang                  no response until the client disconnects, executed
        truncated_json        executed; half of the body, with a Content-Length that fits the half
        cut_body              executed; half of the body, then the connection closes
        cut_chunks            executed; half of a body without a Content-Length, then the connection closes
        wrong_json            executed; a list instead of an object
        empty_body            executed; no body
        huge_body             executed; a little over 8 MiB of JSON
        deep_json             executed; ten thousand nested lists
        no_number             executed; with a NaN, which JSON does not have
        no_text               executed; with text that is not UTF-8, and a lone surrogate
        odd_fields            executed; optional fields have values of other types
        odd_items             executed; lists have items that are no objects, and an item without a type
        empty_list            executed; lists are empty
        many_headers          executed; with 150 more headers
        wrong_type            executed; JSON with the Content-Type text/html
        missing_id            executed; no `productionId`, but the Location is there
        missing_id_and_location  executed; neither `productionId` nor Location
        other_production      executed; the body names another production
        other_location        executed; the Location names another production
        only_location         executed; no body, and the Location leads to a part of the production
        unknown_status        executed; the status is "Rendering"
        redirect              307 to another origin, not executed
        timeout_html          408 from a gateway, executed
        too_early             425 from a gateway, not executed
        rate_limited          429 with `seconds` as its `retryAfterSeconds`, not executed
        rate_limited_ms       the same, with X-RateLimit-Reset in milliseconds
        rate_limited_html     429 from a gateway, without a time to wait, not executed
        unauthorized          401, not executed
        forbidden             403 with PARTNER_NOT_ACTIVE, not executed
        not_found             404, not executed
        not_ready             409 as for a production without deliverables, not executed
        expired               403 as for an expired signature (download)
        wrong_length          a shorter file, with a Content-Length that fits it (download)
        bit_flip              one bit of the file differs, its headers do not (download)
        slow                  the body takes `seconds` to arrive, in pieces
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

        Raises ValueError for an unknown kind or route, for a fault of downloads on another route, for `times`
        below 1, for a negative `after` or `seconds`, and for a probability outside 0 to 1.
        """
        check_name("kind of fault", kind, self.kinds)
        check_name("route", on, get_args(RouteName))
        if kind in DOWNLOAD_KINDS and on != "download":
            raise ValueError(f"{kind} is a fault of downloads: its route is 'download', not {on!r}")
        if times is not None and times < 1:
            raise ValueError(f"times must be 1 or more, or None for no limit, not {times!r}")
        if not (after >= 0 and seconds >= 0):
            raise ValueError(f"after and seconds must be 0 or more, not {after!r} and {seconds!r}")
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must be between 0 and 1, not {probability!r}")
        self._faults.append(Fault(kind, on, times, probability, after, seconds, rule))

    @property
    def pending(self) -> list[str]:
        """The faults that can still affect requests, as KIND:ROUTE:TIMES, with the rule if they have one."""
        return [f"{fault}" if fault.rule is None else f"{fault} ({fault.rule})" for fault in self._faults]

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
