"""The accounts and productions of the simulator.

Pure: `now` is in seconds on a monotonic clock. A production's timeline is drawn at submission, from the seed
and its ordinal alone. Its status is a function of the timeline and the time, so there are no timers or tasks.
Only a person's decision, to approve or to cancel, changes the part of the timeline that is still to come.

Documented: `PRODUCTION_EXPIRED`. Inferred: the code of any other failure.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from attrs import define, evolve, field, frozen

from jarai_async.simulator._common import draw_uuid
from jarai_async.simulator._productions.changes import Change
from jarai_async.simulator._productions.timelines import (
    EXPIRY_SECONDS,
    TERMINAL,
    Stage,
    TimelineOptions,
    draw_timeline,
)

WITH_DELIVERABLES = frozenset({"AwaitingApproval", "Distributing", "Published"})
DEFAULT_PROJECT_TYPE = "social-video-30s"


def _starts_of(stages: Sequence[Stage], first: float) -> list[float]:
    return list(accumulate((seconds for _, seconds in stages[:-1]), initial=first))


@define
class SimulatedProduction:
    """The true state of one production; times are in seconds on the loop's clock unless they are `wall`.

    `body` is the submission as it was received. `stages` are (status, seconds in it), and `timeline` is (time
    at which it begins, status): the same statuses, both in the order of time. `step_ends` are the seconds of
    Producing after which each step is complete. `error` is the code and message of a failure that
    the test has asked for. `polls` counts the GETs of the status that were executed.
    """

    production_id: str
    account_id: str
    ordinal: int
    body: dict[str, Any]
    idempotency_key: str | None
    submitted_at: float
    submitted_wall: float  # Unix seconds
    stages: tuple[Stage, ...]
    step_ends: tuple[float, ...]
    error: tuple[str, str] | None = None
    polls: int = 0
    _start_times: list[float] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._start_times = _starts_of(self.stages, self.submitted_at)

    @property
    def timeline(self) -> tuple[tuple[float, str], ...]:
        """The time at which each status of `stages` begins, and the status, in the order of time.

        The time is infinity if the status follows a wait for a person.
        """
        return tuple(zip(self._start_times, (status for status, _ in self.stages), strict=True))

    @property
    def project_type(self) -> str:
        """The project type slug, or the default if the submission has none."""
        return self.body.get("projectTypeSlug") or DEFAULT_PROJECT_TYPE

    def status_at(self, now: float) -> str:
        """Return the true status at a time; Queued before the submission."""
        return self.stages[self._index(now)][0]

    def status_since(self, now: float) -> float:
        """Return the time at which the status of `now` began."""
        return self._start_times[self._index(now)]

    def wall(self, time: float) -> float:
        """Convert a time on the loop's clock to Unix seconds."""
        return self.submitted_wall + (time - self.submitted_at)

    def step_at(self, now: float) -> int | None:
        """Return the present or last step; None before the first."""
        for (status, seconds), start in zip(self.stages, self._start_times, strict=True):
            if status == "Producing" and start <= now:
                return 1 + bisect_right(self.step_ends[:-1], min(now - start, seconds))
        return None

    def error_at(self, now: float) -> tuple[str, str] | None:
        """Return the error's code and message if the production has failed, otherwise None."""
        index = self._index(now)
        if self.stages[index][0] != "Failed":
            return None
        if self.error is not None:
            return self.error
        if index == 1 and self.stages[0] == ("Queued", EXPIRY_SECONDS):
            return "PRODUCTION_EXPIRED", "The production was not picked up in time."
        step = self.step_at(now)
        return "PIPELINE_STEP_FAILED", f"Step {step or 1} of 15 could not be completed."

    def approve(self, now: float) -> None:
        """End the wait for approval. Raises ValueError unless the status is AwaitingApproval."""
        self._check_awaiting(now)
        self._continue_with(self.stages[self._index(now) + 1 :], now)

    def refuse(self, now: float, error: tuple[str, str]) -> None:
        """End the wait for approval with a failure. Raises ValueError unless it is AwaitingApproval."""
        self._check_awaiting(now)
        self.error = error
        self._continue_with((("Failed", math.inf),), now)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values from which `Simulator.restore` makes the production again."""
        return {
            "production_id": self.production_id,
            "account_id": self.account_id,
            "ordinal": self.ordinal,
            "body": self.body,
            "idempotency_key": self.idempotency_key,
            "submitted_wall": self.submitted_wall,
            "stages": [[status, str(seconds)] for status, seconds in self.stages],
            "step_ends": list(self.step_ends),
            "error": self.error,
        }

    def _check_awaiting(self, now: float) -> None:
        if self.status_at(now) != "AwaitingApproval":
            raise ValueError(f"{self.production_id} is {self.status_at(now)}: nothing to decide")

    def cancel(self, now: float) -> None:
        """Cancel the production, unless its status is terminal."""
        if self.status_at(now) not in TERMINAL:
            self._continue_with((("Cancelled", math.inf),), now)

    def _index(self, now: float) -> int:
        return max(0, bisect_right(self._start_times, now) - 1)

    def _continue_with(self, next_stages: tuple[Stage, ...], now: float) -> None:
        """End the present stage now, so that the next ones begin at exactly this time."""
        index = self._index(now)
        present = (self.stages[index][0], now - self._start_times[index])
        self.stages = (*self.stages[:index], present, *next_stages)
        self._start_times = [*self._start_times[: index + 1], *_starts_of(next_stages, now)]


@frozen
class SimulatedAccount:
    """An account of the partner, with the identifiers that a submission to it needs."""

    account_id: str
    name: str
    avatar_ids: tuple[str, ...]
    language_ids: tuple[str, ...]
    country_ids: tuple[str, ...]
    platforms: tuple[str, ...] = ("YouTube", "TikTok", "Instagram")


class World:
    """The accounts of the partner and their productions."""

    def __init__(self, seed: int | str, accounts: int, options: TimelineOptions) -> None:
        if accounts < 1:
            raise ValueError(f"accounts must be at least 1, not {accounts!r}")
        self.seed = seed
        self.options = options
        self.productions: dict[str, SimulatedProduction] = {}
        drawn = (self._draw_account(number) for number in range(1, accounts + 1))
        self.accounts = {account.account_id: account for account in drawn}

    def submit(
        self,
        account_id: str,
        body: dict[str, Any],
        key: str | None,
        now: float,
        wall: float,
        *,
        changes: Sequence[Change] = (),
    ) -> SimulatedProduction:
        """Create a production; its ordinal decides its identifier and its timeline, which `changes` change.

        One with changes neither fails nor expires by chance.
        """
        ordinal = len(self.productions) + 1
        rng = random.Random(f"{self.seed}:{ordinal}")
        production_id = draw_uuid(rng)
        options = evolve(self.options, failure_rate=0.0, expiry_rate=0.0) if changes else self.options
        timeline = draw_timeline(rng, body.get("projectTypeSlug") or DEFAULT_PROJECT_TYPE, options)
        for change in changes:
            timeline = change(timeline)
        production = SimulatedProduction(
            production_id,
            account_id,
            ordinal,
            body,
            key,
            now,
            wall,
            timeline.stages,
            timeline.step_ends,
            timeline.error,
        )
        self.productions[production_id] = production
        return production

    def restore(self, saved: Mapping[str, Any], now: float, wall: float) -> SimulatedProduction:
        """Add a production that `to_dict` described; it continues where it would be now."""
        stages = tuple((status, float(seconds)) for status, seconds in saved["stages"])
        error = tuple(saved["error"]) if saved["error"] else None
        restored = {**saved, "stages": stages, "step_ends": tuple(saved["step_ends"]), "error": error}
        production = SimulatedProduction(**restored, submitted_at=now - (wall - saved["submitted_wall"]))
        self.productions[production.production_id] = production
        return production

    def describe(self, production_id: str) -> tuple[str, str]:
        """Return the topic and project type of a production; an unknown one belongs to the sandbox."""
        production = self.productions.get(production_id)
        if production is None:
            return "Sandbox", DEFAULT_PROJECT_TYPE
        return production.body["topic"], production.project_type

    def _draw_account(self, number: int) -> SimulatedAccount:
        rng = random.Random(f"{self.seed}:account:{number}")
        account_id, language, country, *avatars = (draw_uuid(rng) for _ in range(6))
        return SimulatedAccount(account_id, f"Account {number}", tuple(avatars), (language,), (country,))
