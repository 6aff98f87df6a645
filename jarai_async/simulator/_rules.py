"""What happens to the productions that a test has chosen."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Self

from attrs import field, frozen, mutable

from jarai_async.simulator._api.fault_kinds import FaultName
from jarai_async.simulator._api.faults import Faults
from jarai_async.simulator._api.responses import Response, error_response
from jarai_async.simulator._api.routes import RouteName
from jarai_async.simulator._productions import changes
from jarai_async.simulator._productions.changes import Change

STEPS = 15  # documented


@frozen
class Conditions:
    """Which submissions a rule is about; None is any."""

    nth: int | None = None
    topic: str | None = None
    account_id: str | None = None
    where: Callable[[Mapping[str, Any]], bool] | None = None

    def __str__(self) -> str:
        given = {"topic": self.topic, "account_id": self.account_id, "where": self.where and "(a function)"}
        words = [f"{name}={value!r}" for name, value in given.items() if value is not None]
        return " ".join([str(self.nth)] * (self.nth is not None) + words) or "any"

    def match(self, account_id: str, body: Mapping[str, Any]) -> bool:
        """Return whether they match a submission, apart from its number."""
        return (
            self.topic in (None, body.get("topic"))
            and self.account_id in (None, account_id)
            and (self.where is None or self.where(body))
        )


@mutable(eq=False)
class ProductionRule:
    """What happens to the productions that `Simulator.when` has chosen. Each method returns the rule.

        simulator.when(3).fails(step=8, code="VOICE_UNAVAILABLE")
        simulator.when(topic="Bees").takes(producing=7200).awaits_approval(3600, refused=True)

    A production that a rule changes neither fails nor expires by chance. Of several rules that match it, each
    applies, in the order in which they were made.
    """

    _conditions: Conditions
    _faults: Faults
    matched: int = field(default=0, init=False)
    """How many submissions its conditions have matched: 0 if it was never about one."""
    effects: list[str] = field(factory=list, init=False)
    """What happens, as the commands of `jarai simulate` write it: `fails step=8`."""
    _numbers: dict[tuple[str, str], int] = field(factory=dict, init=False, repr=False)
    rejection: Response | None = field(default=None, init=False, repr=False)
    changes: list[Change] = field(factory=list, init=False, repr=False)

    def fails(
        self, *, step: int | None = None, code: str = "PIPELINE_STEP_FAILED", message: str | None = None
    ) -> Self:
        """Let it fail in the middle of a step (1 to 15), or of Producing. Raises ValueError."""
        if step is not None and not 1 <= step <= STEPS:
            raise ValueError(f"step must be between 1 and {STEPS}, not {step!r}")
        change = partial(changes.fail, step=step, code=code, message=message)
        return self._add("fails", change, step=step, code=code)

    def expires(self) -> Self:
        """Let it stay in the queue until it expires (after 600 seconds)."""
        return self._add("expires", changes.expire)

    def is_cancelled(self, *, after: float) -> Self:
        """Let somebody cancel it in JARAI Studio, `after` seconds from its submission."""
        change = partial(changes.cancel, after=_seconds("after", after))
        return self._add("is_cancelled", change, after=after)

    def awaits_approval(
        self,
        seconds: float,
        *,
        refused: bool = False,
        code: str = "APPROVAL_REFUSED",
        message: str = "The production was not approved.",
    ) -> Self:
        """Let a person approve it after so many seconds, or refuse it; infinity waits for `approve`.

        A production that was refused is Failed, with this code and message (inferred).
        """
        error = (code, message) if refused else None
        change = partial(changes.decide, seconds=_seconds("seconds", seconds), error=error)
        return self._add("awaits_approval", change, seconds=seconds, refused=refused or None)

    def takes(
        self,
        *,
        queued: float | None = None,
        producing: float | None = None,
        distributing: float | None = None,
    ) -> Self:
        """Let it stay in a status for so many seconds; None is as usual. Over 600 queued, it expires."""
        given = {"Queued": queued, "Producing": producing, "Distributing": distributing}
        seconds = {status: _seconds(status, each) for status, each in given.items() if each is not None}
        change = partial(changes.take, seconds=seconds)
        return self._add("takes", change, queued=queued, producing=producing, distributing=distributing)

    def is_rejected(
        self,
        *,
        status: int = 409,
        code: str = "BUDGET_GATE_1_FAILED",
        message: str = "The account's monthly spend ceiling is reached.",
    ) -> Self:
        """Reject the submission: nothing is created. Raises ValueError unless `status` is 400 to 599."""
        if not 400 <= status <= 599:
            raise ValueError(f"status must be that of an error, 400 to 599, not {status!r}")
        self.rejection = error_response(status, code, message)
        return self._add("is_rejected", status=status, code=code)

    def loses_response(self, *, times: int | None = 1) -> Self:
        """Create the production, but reset the connection before the response to its submission.

        `times`: how often, if it is submitted again; None is always. Raises ValueError.
        """
        return self.has_fault("reset_after", times=times)

    def has_fault(
        self,
        kind: FaultName | str,
        *,
        on: RouteName | str = "submit",
        times: int | None = 1,
        probability: float = 1.0,
        after: int = 0,
        seconds: float = 60.0,
    ) -> Self:
        """Add a fault for the requests about it, as `Faults.add` does. Raises ValueError."""
        self._faults.add(
            kind, on=on, times=times, probability=probability, after=after, seconds=seconds, rule=self
        )
        return self._add("has_fault", kind=kind, on=on, times="always" if times is None else times)

    def matches(self, account_id: str, body: Mapping[str, Any], key: str | None) -> bool:
        """Return whether the rule is about a submission that has just arrived.

        It counts the submission, unless it is a repetition of an earlier one: with the same idempotency key.
        """
        if not self._conditions.match(account_id, body):
            return False
        number = self._numbers.get((account_id, key or ""), self.matched + 1)
        self.matched = max(self.matched, number)
        if key:
            self._numbers[account_id, key] = number
        return self._conditions.nth in (None, number)

    def __str__(self) -> str:
        return f"when {self._conditions}: {', '.join(self.effects) or 'nothing'}"

    def _add(self, effect: str, change: Change | None = None, **options: object) -> Self:
        words = (f"{name}={value}" for name, value in options.items() if value is not None)
        self.effects.append(" ".join((effect, *words)))
        if change is not None:
            self.changes.append(change)
        return self


def _seconds(name: str, value: float) -> float:
    if not value >= 0:
        raise ValueError(f"{name} must be 0 or more seconds, not {value!r}")
    return value


class Rules:
    """The rules of a simulator, and those of each production."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._rules: list[ProductionRule] = []
        self._by_production: dict[str, list[ProductionRule]] = {}

    def __len__(self) -> int:
        return len(self._rules)

    def add(self, conditions: Conditions) -> ProductionRule:
        """Add a rule that does nothing yet."""
        rule = ProductionRule(conditions, self._faults)
        self._rules.append(rule)
        return rule

    def __iter__(self) -> Iterator[ProductionRule]:
        return iter(self._rules)

    def of_submission(
        self, account_id: str, body: Mapping[str, Any], key: str | None
    ) -> list[ProductionRule]:
        """Return the rules about a submission that has just arrived, and count it."""
        return [rule for rule in self._rules if rule.matches(account_id, body, key)]

    def of_production(self, production_id: str) -> list[ProductionRule]:
        """Return the rules about a production."""
        return self._by_production.get(production_id, [])

    def bind(self, production_id: str, rules: list[ProductionRule]) -> None:
        """Remember which rules are about a production."""
        if rules:
            self._by_production[production_id] = rules
