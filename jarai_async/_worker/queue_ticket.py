"""The handle on one request of a queue, in any process."""

from collections.abc import AsyncIterator, Generator
from typing import Any

from jarai_async._api.models import Id, Production, ProductionRequest, Status
from jarai_async._events import Event, Outcome, production_keys
from jarai_async._journal.entries import Intent
from jarai_async._printable import printable
from jarai_async._worker.requests import Requests


class QueueTicket:
    """One request of a `Queue`. Await it for its `Outcome`, which any worker may bring about.

    What it shows of the production is what the database had when the ticket was made, or at the last
    `refresh`. A production that fails or is rejected has an outcome, and raises nothing.
    """

    def __init__(self, requests: Requests, intent: Intent, outcome: Outcome | None) -> None:
        self.known_outcome: Outcome | None = outcome
        """Its outcome, if it had one when it was read: awaiting the ticket waits for one."""
        self._requests = requests
        self._intent = intent

    def __repr__(self) -> str:
        known = f"{self.production_id} {self.status}" if self.production_id else str(self._intent.stage)
        return printable(f"<QueueTicket {self.reference!r} {known}>")

    def __await__(self) -> Generator[Any, None, Outcome]:
        return self.outcome().__await__()

    async def outcome(self) -> Outcome:
        """Wait until the request has ended, or a user has to decide (`uncertain`), and return its outcome.

        An outage of the database only delays it. Raises ClosedError when the queue is closed, JournalError.
        """
        return await self._requests.outcome(self.reference)

    @property
    def reference(self) -> str:
        """The reference of the request, or the one that the queue gave it."""
        return self._intent.reference

    @property
    def request(self) -> ProductionRequest:
        """The request. Raises JournalError if its body cannot be decoded."""
        return self._intent.request()

    @property
    def stage(self) -> str:
        """How far it has come: `planned`, `sending`, `in doubt`, `accepted` or `ended`."""
        return str(self._intent.stage)

    @property
    def production(self) -> Production | None:
        """The production as last recorded; None before the request was accepted."""
        return self._intent.production

    @property
    def production_id(self) -> Id | None:
        """JARAI's identifier; None before the request was accepted."""
        return self.production.id if self.production else None

    @property
    def status(self) -> Status | None:
        """The last recorded status; None before the request was accepted."""
        return self.production.status if self.production else None

    @property
    def done(self) -> bool:
        """Whether it had an outcome."""
        return self.known_outcome is not None

    @property
    def cancel_requested(self) -> bool:
        """Whether a cancel was requested that JARAI had not answered."""
        return self._intent.cancel_requested

    async def refresh(self) -> None:
        """Read the request again. Raises InvalidRequestError if it was forgotten, as `outcome` otherwise."""
        self._intent, self.known_outcome = await self._requests.read(self.reference)

    def events(self, after: int = 0) -> AsyncIterator[Event]:
        """Iterate over the events of this request behind a cursor, until its `Finished`.

        The iteration raises InvalidRequestError for a cursor behind the newest event, ClosedError,
        JournalError.
        """
        return self._requests.events(self.reference, after)

    async def cancel(self) -> None:
        """Cancel the request: return once it is certain that it is not sent, or once JARAI cancels it.

        The cancel is in the database before anything else happens, and is carried out by the worker that owns
        the request, also if the caller does not wait. Raises as `Ticket.cancel`; ClosedError when the queue
        is closed before a worker has answered.
        """
        await self._requests.decide(self.reference, "cancel")

    def to_dict(self) -> dict[str, Any]:
        """Return what is known of the request as JSON values, without signed URLs and idempotency keys.

        The keys are `reference`, `productionId`, `status`, `currentStep`, `topic`, `accountId`, `stage`,
        `done`, `cancelRequested`, and `outcome`: its state, or null before it is known. Then it also has all
        other keys of `Outcome.to_dict`.
        """
        end = {"outcome": None} if self.known_outcome is None else self.known_outcome.to_dict()
        return (
            end
            | production_keys(self.reference, self.production)
            | {
                "currentStep": None if self.production is None else self.production.current_step,
                "topic": self.request.topic,
                "accountId": self.request.account_id,
                "stage": self.stage,
                "done": self.done,
                "cancelRequested": self.cancel_requested,
            }
        )
