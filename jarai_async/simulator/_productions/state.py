"""Productions as they really are, whoever looks and whenever.

Pure: `now` is seconds on a monotonic clock. A production's fate is drawn when it is submitted, from the
seed and its ordinal alone. Its status is then a function of the fate and the moment: there is nothing to
run, no timer and no task. Only a person's decision, to approve or to cancel, rewrites the part of a fate
that has not happened yet.

Documented: 15 steps in five phases with their rough minutes, and `PRODUCTION_EXPIRED`. Inferred: that a
step takes its share of its phase, and the code of any other failure.
"""

import math
import random
import uuid
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from attrs import define, field, frozen

from jarai_async.simulator._productions.timelines import (
    EXPIRY_SECONDS,
    TERMINAL,
    Stage,
    Timeline,
    TimelineOptions,
    draw_timeline,
)

WITH_DELIVERABLES = frozenset({"AwaitingApproval", "Distributing", "Published"})
DEFAULT_PROJECT_TYPE = "social-video-30s"

# Minutes of each phase (documented, the middle of each range) over the number of its steps.
_STEP_MINUTES = [1.5 / 4] * 4 + [4.0 / 3] * 3 + [7.5 / 5] * 5 + [1.5 / 3] * 3
_STEP_STARTS = [at / sum(_STEP_MINUTES) for at in accumulate(_STEP_MINUTES[:-1], initial=0.0)]
STEP_ENDS = [*_STEP_STARTS[1:], 1.0]  # shares of Producing


def _starts(stages: Sequence[Stage], first: float) -> list[float]:
    return list(accumulate((seconds for _, seconds in stages[:-1]), initial=first))


@define
class SimulatedProduction:
    """One production as it really is; moments are seconds on the loop's clock.

    `body` is the submission as it was sent, `polls` counts the GETs of its status that were executed.
    """

    production_id: str
    account_id: str
    ordinal: int
    body: dict[str, Any]
    idempotency_key: str | None
    submitted_at: float
    submitted_wall: float  # Unix seconds
    drawn: Timeline
    polls: int = 0
    _moments: list[float] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._moments = _starts(self.drawn.stages, self.submitted_at)

    @property
    def timeline(self) -> tuple[tuple[float, str], ...]:
        """The moment of each status, in order; infinity for what waits for a person."""
        return tuple(zip(self._moments, (status for status, _ in self.drawn.stages), strict=True))

    @property
    def project_type(self) -> str:
        """The project type slug, the account's default where the submission has none."""
        return self.body.get("projectTypeSlug") or DEFAULT_PROJECT_TYPE

    def status_at(self, now: float) -> str:
        """The true status at a moment; Queued for one before the submission."""
        return self.drawn.stages[self._place(now)][0]

    def status_since(self, now: float) -> float:
        """The moment at which the status of `now` began."""
        return self._moments[self._place(now)]

    def wall(self, moment: float) -> float:
        """Unix seconds of a moment."""
        return self.submitted_wall + (moment - self.submitted_at)

    def step_at(self, now: float) -> int | None:
        """Which of the 15 steps is or was worked on; None before the first."""
        for (status, seconds), start in zip(self.drawn.stages, self._moments, strict=True):
            if status == "Producing" and start <= now:
                share = min(now - start, seconds) / (self.drawn.producing_seconds or 1.0)
                return bisect_right(_STEP_STARTS, share)
        return None

    def error_at(self, now: float) -> tuple[str, str] | None:
        """Code and message once it has failed."""
        place = self._place(now)
        if self.drawn.stages[place][0] != "Failed":
            return None
        if place == 1 and self.drawn.stages[0] == ("Queued", EXPIRY_SECONDS):
            return "PRODUCTION_EXPIRED", "The production was not picked up in time."
        step = self.step_at(now)
        return "PIPELINE_STEP_FAILED", f"Step {step or 1} of 15 could not be completed."

    def approve(self, now: float) -> None:
        """End the wait for a release; ValueError unless it is AwaitingApproval."""
        if self.status_at(now) != "AwaitingApproval":
            raise ValueError(f"{self.production_id} is {self.status_at(now)}: nothing to approve")
        place = self._place(now)
        self._continue(now, self.drawn.stages[place + 1 :])

    def cancel(self, now: float) -> bool:
        """End it as Cancelled; False, and nothing changes, when it is terminal already."""
        if self.status_at(now) in TERMINAL:
            return False
        self._continue(now, (("Cancelled", math.inf),))
        return True

    def _place(self, now: float) -> int:
        return max(0, bisect_right(self._moments, now) - 1)

    def _continue(self, now: float, after: tuple[Stage, ...]) -> None:
        """End the present stage here; what follows begins at exactly this moment."""
        place = self._place(now)
        present = (self.drawn.stages[place][0], now - self._moments[place])
        stages = (*self.drawn.stages[:place], present, *after)
        self.drawn = Timeline(stages, self.drawn.producing_seconds)
        self._moments = [*self._moments[: place + 1], *_starts(after, now)]


@frozen
class SimulatedAccount:
    """An account of the partner with the identifiers that a submission to it needs."""

    account_id: str
    name: str
    avatar_ids: tuple[str, ...]
    language_ids: tuple[str, ...]
    country_ids: tuple[str, ...]
    platforms: tuple[str, ...] = ("YouTube", "TikTok", "Instagram")


def draw_uuid(rng: random.Random) -> str:
    """A random UUID from these dice."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


class World:
    """Accounts and the productions made for them."""

    def __init__(self, seed: int | str, accounts: int, options: TimelineOptions) -> None:
        if accounts < 1:
            raise ValueError("a partner has at least one account")
        self.seed = seed
        self.options = options
        self.productions: dict[str, SimulatedProduction] = {}
        drawn = (self._draw_account(number) for number in range(1, accounts + 1))
        self.accounts = {account.account_id: account for account in drawn}

    def submit(
        self, account_id: str, body: dict[str, Any], key: str | None, now: float, wall: float
    ) -> SimulatedProduction:
        """Begin a production; the next ordinal decides its fate."""
        ordinal = len(self.productions) + 1
        rng = random.Random(f"{self.seed}:{ordinal}")
        production_id = draw_uuid(rng)
        timeline = draw_timeline(rng, body.get("projectTypeSlug") or DEFAULT_PROJECT_TYPE, self.options)
        production = SimulatedProduction(production_id, account_id, ordinal, body, key, now, wall, timeline)
        self.productions[production_id] = production
        return production

    def story(self, production_id: str) -> tuple[str, str]:
        """Topic and project type of a production; those of the sandbox where there is none."""
        production = self.productions.get(production_id)
        if production is None:
            return "Sandbox", DEFAULT_PROJECT_TYPE
        return production.body["topic"], production.project_type

    def _draw_account(self, number: int) -> SimulatedAccount:
        rng = random.Random(f"{self.seed}:account:{number}")
        account_id, language, country, *avatars = (draw_uuid(rng) for _ in range(6))
        return SimulatedAccount(account_id, f"Account {number}", tuple(avatars), (language,), (country,))
