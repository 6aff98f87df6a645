"""Why requests are not sent now: read from what makes them wait, in the order in which it would last."""

from attrs import evolve, frozen

from jarai_async._api.calls import Kind
from jarai_async._http.availability import Availability
from jarai_async._http.credentials import Credentials
from jarai_async._http.submit_gate import SubmitGate
from jarai_async._ratelimit.account_queue import AccountQueues
from jarai_async._ratelimit.scheduler import Scheduler
from jarai_async._waiting import Waiting, WaitReason


@frozen
class Waits:
    """What the requests of one client wait for."""

    scheduler: Scheduler
    account_queues: AccountQueues
    gate: SubmitGate
    credentials: Credentials
    availability: Availability

    def of_request(self, kind: Kind) -> Waiting | None:
        """Return what a request of this kind waits for that has asked for a slot of the rate limit."""
        return self.for_quota_or_key(kind) or self.scheduler.waits_for_minute(kind)

    def of_submit(self, account_id: str, place: int) -> Waiting | None:
        """Return what a submit of this account waits for, which has asked for its turn with this place."""
        return (
            self.account_queues.waits_for_quota(account_id)
            or self.for_quota_or_key(Kind.SUBMIT)
            or self.for_outage(account_id)
            or self.scheduler.waits_for_minute(Kind.SUBMIT)
            or self.account_queues.waits_for_turn(account_id, place)
        )

    def for_quota_or_key(self, kind: Kind) -> Waiting | None:
        """Return why no request of this kind can be sent for longer than a minute."""
        if (quota := self.scheduler.waits_for_quota(kind)) is not None:
            return quota
        since = self.credentials.rejected_since
        if since is None:
            return None
        return Waiting(reason=WaitReason.API_KEY, since=since, detail="JARAI rejects the API key (401)")

    def for_outage(self, account_id: str) -> Waiting | None:
        """Return whether submits of this account wait for the end of an outage, and since when."""
        waiting, down_since = self.gate.waits(account_id), self.availability.down_since
        if waiting is None or waiting.since is None or down_since is None:
            return waiting
        return evolve(waiting, since=min(waiting.since, down_since))
