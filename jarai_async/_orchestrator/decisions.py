"""What the journal and the user decide about a request: whether it is known, and what may follow its end."""

from collections.abc import Iterable, Mapping
from uuid import UUID, uuid4

from jarai_async._api import endpoints
from jarai_async._api.codec import body_of
from jarai_async._api.models import Production, ProductionRequest
from jarai_async._engine import Engine
from jarai_async._errors import InvalidRequestError
from jarai_async._events import Event, Finished, Outcome, OutcomeState
from jarai_async._http.request_log import RequestLog
from jarai_async._journal.entries import Intent, Stage
from jarai_async._journal.identity import compare, differences
from jarai_async._journal.protocol import Journal

RETRIED = (OutcomeState.REJECTED, OutcomeState.FAILED, OutcomeState.CANCELLED)
"""The outcomes after which a request may be submitted again."""


def new_intent(reference: str, request: ProductionRequest, before: Intent | None = None) -> Intent:
    """Return the intent of a request that the journal does not know, or that replaces the one `before`."""
    intent = Intent(reference, request.account_id, body_of(request), str(uuid4()))
    if before is not None:  # its events stay in the journal
        intent.sequence = intent.acknowledged = before.sequence
        intent.earlier = [*before.earlier, *before.expired]
    return intent


def is_same_request(intent: Intent, request: ProductionRequest) -> bool:
    """Whether an intent is of this request; False for another request, for which nothing was created.

    Raises JournalError, and InvalidRequestError where another request may have been paid for.
    """
    if (intent.account_id, intent.body) == (request.account_id, body_of(request)):
        return True  # almost always; to say what differs takes over ten times as long
    changes = [*differences(intent.request(), request)]
    if changes and not intent.created_nothing:
        raise other_request(intent.reference, changes)
    return not changes


def known_outcome(intent: Intent, last_event: Event | None) -> Outcome | None:
    """Return the outcome of a request that is not running, unless another run was decided since then."""
    if not isinstance(last_event, Finished):
        return None
    outcome = last_event.outcome
    if outcome.is_final:
        is_decided = intent.stage is not Stage.ENDED
    else:
        is_decided = outcome.state is OutcomeState.UNCERTAIN and intent.stage is not Stage.IN_DOUBT
    return None if is_decided else outcome


def other_request(reference: str, changes: Iterable[str]) -> InvalidRequestError:
    """Return the error for a known reference with changed content."""
    message = f"the reference {reference[:100]!r} belongs to another request in the journal: "
    advice = "use another reference; `retry` this one first, if it failed; or `forget` it once it has ended"
    return InvalidRequestError([f"{message}{'; '.join(changes)} ({advice})"])


def not_ended(intent: Intent) -> str:
    """Say why a request that is not running cannot be forgotten, and what to do."""
    advice = "call `resume`, or cancel its ticket, and await that first"
    if intent.stage is Stage.IN_DOUBT:
        advice = "call `resolve` first"
    return f"{intent.reference!r} has not ended, it is {intent.stage}: {advice}"


async def find_created(
    engine: Engine, journal: Journal, reference: str, production_id: str | UUID
) -> Production:
    """Read a production that a submit in doubt may have created.

    Raises InvalidRequestError where there is nothing to decide; ApiError, JournalError.
    """
    await _undecided(journal, reference)
    return await engine.sender.execute(endpoints.fetch(production_id), RequestLog())


async def check_decision(
    journal: Journal, reference: str, production: Production | None, known: Mapping[str, str]
) -> Intent | None:
    """Check that a submit is in doubt, and that the production fits it and belongs to no other request.

    Where another such submit was decided to have created it, the two exchange their productions: the other
    one is returned. `known` has the reference of each production of this process. Raises InvalidRequestError,
    JournalError.
    """
    intent = await _undecided(journal, reference)
    if production is None:
        return None
    stored = await journal.owner_of(production.id)
    owner = known.get(production.id) or stored  # after waiting: another decision may have been made
    other = None
    if owner not in (None, reference):
        other = await journal.find(owner)
        if not (intent.production and other and other.resolved and other.production):
            raise InvalidRequestError([f"production {production.id} belongs to the reference {owner!r}"])
        await _undecided(journal, owner)
        _check_fit(other, intent.production)
    _check_fit(intent, production)
    return other


def _check_fit(intent: Intent, production: Production) -> None:
    reference = intent.reference
    if production.id in intent.earlier:
        raise InvalidRequestError([f"production {production.id} is of an earlier submit of {reference!r}"])
    if differs := compare(intent, production).differs:
        message = f"production {production.id} does not fit the reference {reference!r}: "
        raise InvalidRequestError([message + "; ".join(differs)])


async def resolve(
    journal: Journal,
    reference: str,
    production: Production | None,
    known: dict[str, str],
    other: Intent | None = None,
) -> Intent:
    """Decide a submit that is in doubt: it created this production, or (None) it may be submitted again.

    A recorded cancel stays: then the production is cancelled, or the request is not submitted.
    `other` receives its present production. Raises InvalidRequestError where there is nothing to decide,
    JournalError.
    """
    intent = await _undecided(journal, reference)
    if intent.production is not None:
        known.pop(intent.production.id, None)  # of an earlier decision
    if other is not None and intent.production is not None:
        _assign(other, intent.production, known)
        journal.put(other)  # committed together with the next
    if production is None:
        intent.reset(str(uuid4()))
        intent.resolved = True
    else:
        _assign(intent, production, known)
    await journal.save(intent)
    return intent


def _assign(intent: Intent, production: Production, known: dict[str, str]) -> None:
    sent_at = intent.sent_at
    intent.reset(intent.key)
    intent.stage, intent.production, intent.resolved = Stage.ACCEPTED, production, True
    intent.sent_at = intent.submitted_at = sent_at
    known[production.id] = intent.reference


async def _known(journal: Journal, reference: str) -> Intent:
    intent = await journal.find(reference)
    if intent is None:
        raise InvalidRequestError([f"the journal has no request with the reference {reference!r}"])
    return intent


async def _undecided(journal: Journal, reference: str) -> Intent:
    intent = await _known(journal, reference)
    if intent.stage is not Stage.IN_DOUBT and not intent.resolved:
        raise InvalidRequestError([f"no submit with the reference {reference!r} is in doubt"])
    if intent.stage is Stage.ENDED:
        raise InvalidRequestError([f"{reference!r} has ended as {intent.outcome_state}"])
    return intent


async def retry(journal: Journal, reference: str) -> Intent:
    """Let a request be submitted again that was rejected, failed or was cancelled.

    One that was rejected because of the key, or whose submit was decided to have created nothing, is still to
    be submitted: its cancel is dropped. Raises InvalidRequestError for any other, JournalError.
    """
    intent = await _known(journal, reference)
    if intent.stage is Stage.PLANNED:
        intent.cancel_requested = False
        await journal.save(intent)
        return intent
    if (state := intent.outcome_state) not in RETRIED:
        end = f"ended as {state}" if state else f"is {intent.stage}"
        raise InvalidRequestError([f"{reference!r} {end}: it cannot be submitted again"])
    intent.earlier += [*intent.expired, *([intent.production.id] if intent.production else [])]
    intent.expired.clear()
    intent.reset(str(uuid4()))
    await journal.save(intent)
    return intent
