"""Finds the production that a submit without a response has created, by webhooks.

A webhook shows that a production exists. If no job knows it while a submit of its account is in doubt, it is
read, once and at the lowest priority, and compared with every submit of that account that is in doubt. It is
the submit's production where its topic, account and time fit this submit alone, and no other such production
fits. These fields are inferred: where the server reports no topic, a production is only proposed. A program
of yours that submits the same topic to the same account at the same time, with another journal, could be
mistaken for this one, so the decision can be changed with `Orchestrator.resolve`.
"""

import asyncio
import logging
import shlex
from collections.abc import Container
from math import inf

from attrs import Factory, define

from jarai_async._api import endpoints
from jarai_async._api.calls import Kind, is_refusal
from jarai_async._api.models import Production
from jarai_async._api.webhook_models import WebhookEvent
from jarai_async._engine import Engine
from jarai_async._errors import ApiError, TransportError
from jarai_async._http.request_log import RequestLog
from jarai_async._journal.entries import Intent, Stage
from jarai_async._journal.identity import compare
from jarai_async._journal.protocol import Journal
from jarai_async._orchestrator.webhook_router import WebhookRouter

_log = logging.getLogger("jarai_async")

_CLOCK_SKEW = 600.0  # seconds by which JARAI's clock and this machine's may differ
_MAX_READS = 100  # at one look
_MAX_PROPOSED = 3  # productions for one submit: among more, a person cannot choose by a list
_READ_PAUSE = 30.0  # seconds after a read that failed


@define
class _Look:
    """What one look at an account has shown. Each pair of a submit and a production is compared once."""

    arrivals: int = -1
    """How many webhooks had arrived when it began."""
    oldest: float = inf
    """When the first of the submits was sent (Unix time)."""
    keys: set[str] = Factory(set)
    """Of the submits in doubt."""
    unknown: list[Production] = Factory(list)
    """The productions that belong to no job."""
    fits: dict[str, set[str]] = Factory(dict)
    """The keys of the submits that each of them fits, by its id."""


class WebhookMatcher:
    """The productions of which only webhooks are known. `known` has the ids of those that jobs know."""

    def __init__(self, engine: Engine, router: WebhookRouter, known: Container[str]) -> None:
        self._engine = engine
        self._router = router
        self._known = known
        self._read: dict[str, Production | None] = {}  # by id; None: refused, or owned by a request
        self._proposed: dict[str, list[str]] = {}  # ids of productions, by reference
        self._looks: dict[str, _Look] = {}  # the last one, by account
        self._resume_at = 0.0  # when reads may be sent again
        self._lock = asyncio.Lock()  # no production is read twice

    async def find(self, journal: Journal, intent: Intent) -> Production | None:
        """Return the production that a submit in doubt has created; None where that is not certain.

        All submits of an account share one look, until another webhook arrives. Raises JournalError,
        ClosedError.
        """
        async with self._lock:
            look = self._looks.get(intent.account_id, _Look())
            has_new = look.arrivals != self._router.arrivals[intent.account_id]
            if has_new or intent.key not in look.keys or (intent.sent_at or 0.0) < look.oldest:
                look = self._looks[intent.account_id] = await self._look(journal, intent, look)
        if intent.stage is not Stage.IN_DOUBT or intent.key not in look.keys:
            return None  # it was decided meanwhile
        fitting = [
            one for one in look.unknown if intent.key in look.fits[one.id] and one.id not in self._known
        ]
        if len(fitting) == 1 and fitting[0].topic is not None and len(look.fits[fitting[0].id]) == 1:
            (production,) = fitting
            facts = ", ".join(compare(intent, production).matches)
            _log.warning(
                "%s is not in doubt any more, and nobody has to decide: it has created production %s (%s)",
                *(intent.reference, production.id, facts),
            )
            return production
        self._propose(journal, intent, fitting)
        return None

    async def _look(self, journal: Journal, intent: Intent, last: _Look) -> _Look:
        """Look at the productions of an account, then at its submits in doubt: none was sent later."""
        account_id, oldest = intent.account_id, min(last.oldest, intent.sent_at or 0.0)
        arrivals = self._router.arrivals[account_id]
        events = self._router.unclaimed(account_id)
        unknown = await self._unknown(journal, [one for one in events if not _is_old(one, oldest)])
        in_doubt = {one.key: one for one in await journal.in_doubt(account_id)}
        fits: dict[str, set[str]] = {}
        for event, production in unknown:
            fits[production.id] = before = last.fits.get(production.id, set()) & in_doubt.keys()
            new = [
                one for key, one in in_doubt.items() if production.id not in last.fits or key not in last.keys
            ]
            before |= {one.key for one in new if _fits(one, event, production)}
        return _Look(arrivals, oldest, set(in_doubt), [production for _, production in unknown], fits)

    async def _unknown(
        self, journal: Journal, events: list[WebhookEvent]
    ) -> list[tuple[WebhookEvent, Production]]:
        """Read the productions of these events that belong to no job, as far as that is possible now."""
        found, reads = [], 0
        for event in events:
            id_ = event.production_id
            if id_ in self._known:
                continue
            may_read = reads < _MAX_READS and self._engine.scheduler.elapsed() >= self._resume_at
            if id_ not in self._read and may_read:
                reads += 1
                await self._read_unowned(journal, id_)
            if (production := self._read.get(id_)) is not None:
                found.append((event, production))
        return found

    async def _read_unowned(self, journal: Journal, production_id: str) -> None:
        """Read a production, unless another request owns it. If that fails, a later event tries again."""
        production, sender = None, self._engine.sender
        try:
            if await journal.owner_of(production_id) is None:
                production = await sender.execute(endpoints.fetch(production_id, Kind.POLL), RequestLog())
        except (ApiError, TransportError) as error:
            if not is_refusal(error):
                self._resume_at = self._engine.scheduler.elapsed() + _READ_PAUSE
                return
        self._read[production_id] = production

    # --- What is not certain -----------------------------------------------------------------------

    def _propose(self, journal: Journal, intent: Intent, productions: list[Production]) -> None:
        proposed = self._proposed.setdefault(intent.reference, [])
        new = [production.id for production in productions if production.id not in proposed]
        proposed += new
        if new and len(proposed) - len(new) < _MAX_PROPOSED:
            _log.warning(
                "%s is in doubt. %s", intent.reference, self.advice(journal.location, intent.reference)
            )

    def advice(self, journal: str | None, reference: str) -> str:
        """Say how to decide a submit in doubt, and what it may have created as far as webhooks show it."""
        ids = self._proposed.get(reference, [])
        more = f" ({len(ids) - _MAX_PROPOSED} more fit)" if len(ids) > _MAX_PROPOSED else ""
        ids = ids[:_MAX_PROPOSED]
        if journal is None:
            found = f" (by its webhooks, it may be {' or '.join(ids)}{more})" if ids else ""
            return f"Check in JARAI Studio whether it was created{found}, then call `Orchestrator.resolve`."
        command = f"jarai resolve {shlex.quote(journal)} {shlex.quote(reference)}"
        created = " or ".join(f"`{command} --production-id {id_}`" for id_ in ids or ["ID"]) + more
        suggested = ", as its webhooks suggest" if ids else ""
        return (
            f"Check in JARAI Studio whether it was created. If so{suggested}, run {created}; if not, run "
            f"`{command} --resubmit`. While a program has the journal open, call its `Orchestrator.resolve`."
        )


def _is_old(event: WebhookEvent, sent_at: float) -> bool:
    """Whether a production existed before a submit was sent, at this Unix time."""
    return event.timestamp is not None and event.timestamp.timestamp() < sent_at - _CLOCK_SKEW


def _fits(intent: Intent, event: WebhookEvent, production: Production) -> bool:
    return not _is_old(event, intent.sent_at or 0.0) and not compare(intent, production).differs
