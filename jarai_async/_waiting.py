"""Why a request waits, as a value that programs compare and people read. Pure."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from attrs import field, frozen

from jarai_async._printable import printable
from jarai_async._urls import without_queries


class WaitReason(StrEnum):
    """What a request waits for."""

    SLOT = "slot"
    """A slot: `concurrency` productions are in flight."""
    EARLIER_SUBMITS = "earlier_submits"
    """The submits of its account that are before it: they are sent one after the other while the account may
    have a daily quota of productions."""
    RATE_LIMIT = "rate_limit"
    """The rate limit: the requests of this minute are used up, or JARAI asked for a pause (429)."""
    DAILY_QUOTA = "daily_quota"
    """The next day (UTC): the account's productions, or the key's requests, are used up for today."""
    API_KEY = "api_key"
    """An API key that JARAI accepts: it rejects the present one (401)."""
    OUTAGE = "outage"
    """The end of an outage of JARAI or of blob storage."""
    RETRY = "retry"
    """The next attempt, after one that failed."""
    WEBHOOK = "webhook"
    """A webhook that shows what a submit without a response has created."""
    APPROVAL = "approval"
    """A person who approves the production."""


def _for_people(text: str) -> str:
    return printable(without_queries(text))


@frozen(kw_only=True)
class Waiting:
    """Why a request does not go on now; as text, one printable line.

    `since` is when the reason began, and `until` when it ends at the earliest (both UTC), each None where it
    is not known. `detail` says more, for people.
    """

    reason: WaitReason
    since: datetime | None = None
    until: datetime | None = None
    detail: str = field(converter=_for_people)

    def __str__(self) -> str:
        since = "" if self.since is None else f" since {self.since:%Y-%m-%d %H:%M:%S} UTC"
        until = "" if self.until is None else f" until {self.until:%Y-%m-%d %H:%M:%S} UTC"
        return f"{self.reason.replace('_', ' ')}{since}{until}: {self.detail}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values.

        | key              | value                                                     |
        |------------------|-----------------------------------------------------------|
        | `reason`         | text: a `WaitReason`, such as "daily_quota"               |
        | `since`, `until` | text: ISO 8601 in UTC, or null where it is not known      |
        | `detail`         | text for people                                           |
        """
        return {
            "reason": str(self.reason),
            "since": None if self.since is None else self.since.isoformat(),
            "until": None if self.until is None else self.until.isoformat(),
            "detail": self.detail,
        }
