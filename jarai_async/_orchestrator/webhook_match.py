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
from pathlib import Path

from jarai_async._api import endpoints
from jarai_async._api.calls import Kind, is_refusal
from jarai_async._api.models import Production
from jarai_async._engine import Engine
from jarai_async._errors import ApiError, TransportError
from jarai_async._http.request_log import RequestLog
from jarai_async._journal.entries import Intent
from jarai_async._journal.identity import compare
from jarai_async._journal.journal import Journal
from jarai_async._orchestrator.webhook_router import WebhookRouter

_log = logging.getLogger("jarai_async")

_CLOCK_SKEW = 600.0  # seconds by which JARAI's clock and this machine's may differ
_MAX_READS = 100  # for one submit
_READ_PAUSE = 30.0  # seconds after a read that failed


class WebhookMatcher:
    """The productions of which only webhooks are known. `known` has the ids of those that jobs know."""

    def __init__(self, engine: Engine, router: WebhookRouter, known: Container[str]) -> None:
        self._engine = engine
        self._router = router
        self._known = known
        self._read: dict[str, Production | None] = {}  # by id; None: refused, or owned by a request
        self._proposed: dict[str, list[str]] = {}  # ids of productions, by reference
        self._resume_at = 0.0  # when reads may be sent again
        self._lock = asyncio.Lock()  # no production is read twice

    async def find(self, journal: Journal, intent: Intent) -> Production | None:
        """Return the production that a submit in doubt has created; None where that is not certain.

        Raises JournalError, ClosedError.
        """
        async with self._lock:
            unknown = await self._unknown(journal, intent)
        fitting = [production for production in unknown if not compare(intent, production).differs]
        if len(fitting) == 1 and fitting[0].topic is not None:
            (production,) = fitting
            in_doubt = await journal.in_doubt(intent.account_id)
            fits = [one.reference for one in in_doubt if not compare(one, production).differs]
            if fits == [intent.reference] and production.id not in self._known:
                facts = ", ".join(compare(intent, production).matches)
                _log.warning("%s has created production %s: %s", intent.reference, production.id, facts)
                return production
        self._propose(journal, intent, fitting)
        return None

    async def _unknown(self, journal: Journal, intent: Intent) -> list[Production]:
        """Read the productions of an account that belong to no job, as far as webhooks show them."""
        found, reads = [], 0
        for event in self._router.unclaimed(intent.account_id):
            id_, sent_at = event.production_id, intent.sent_at or 0.0
            is_old = event.timestamp is not None and event.timestamp.timestamp() < sent_at - _CLOCK_SKEW
            if id_ in self._known or is_old:
                continue
            may_read = reads < _MAX_READS and self._engine.scheduler.elapsed() >= self._resume_at
            if id_ not in self._read and may_read:
                reads += 1
                await self._read_unowned(journal, id_)
            if (production := self._read.get(id_)) is not None:
                found.append(production)
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
        if new:
            _log.warning("%s is in doubt. %s", intent.reference, self.advice(journal.path, intent.reference))

    def advice(self, path: Path | None, reference: str) -> str:
        """Say how to decide a submit in doubt, and what it may have created as far as webhooks show it."""
        ids = self._proposed.get(reference, [])
        if path is None:
            found = f" (by its webhooks, it may be {' or '.join(ids)})" if ids else ""
            return f"Check in JARAI Studio whether it was created{found}, then call `Orchestrator.resolve`."
        command = f"jarai resolve {shlex.quote(str(path))} {shlex.quote(reference)}"
        created = " or ".join(f"`{command} --production-id {id_}`" for id_ in ids or ["ID"])
        suggested = ", as its webhooks suggest" if ids else ""
        return (
            f"Check in JARAI Studio whether it was created. If so{suggested}, run {created}; if not, run "
            f"`{command} --resubmit`. In a program, call `Orchestrator.resolve`."
        )
