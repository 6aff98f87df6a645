"""What the commands print as JSON lines: one function for each kind of value that has no `to_dict`.

Keys are camelCase, like those of the API, and the same as in `to_dict` of events, outcomes and tickets and in
the files of `jarai report`. Other programs read them: never rename one.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from jarai_async._api import wire
from jarai_async._api.models import Account, Deliverable, Production
from jarai_async._api.webhook_models import DeliverableReady, Webhook, WebhookEvent
from jarai_async._events import production_keys
from jarai_async._forecast.plan import Plan
from jarai_async._journal.entries import Intent, Stage
from jarai_async._journal.events import EventRow
from jarai_async._journal.identity import compare
from jarai_async._journal.reader import entry_of
from jarai_async._report.rows import state_of
from jarai_async._urls import without_queries

DURATIONS_NOTE: Final = "based on the documented phase times; your productions may differ"


def intent_line(intent: Intent, events: Sequence[EventRow] = ()) -> dict[str, Any]:
    """Describe a journal entry; the idempotency key is shown only while the submit is in doubt.

    Raises JournalError if it cannot be decoded.
    """
    entry = entry_of(intent, list(events))
    error, files = entry.error, (intent.outcome or {}).get("files")
    key = {"idempotencyKey": intent.key} if intent.stage is Stage.IN_DOUBT else {}
    return production_keys(entry.reference, entry.production) | {
        "state": state_of(entry),
        "outcome": entry.state,
        "isFinal": entry.is_final,
        "stage": entry.stage,
        "topic": entry.request.topic,
        "accountId": entry.request.account_id,
        "productionIds": entry.production_ids,
        "cancelRequested": entry.cancel_requested,
        "files": files,
        "error": None if error is None else without_queries(str(error)),
        "errorCode": None if error is None else error.code,
        "sentAt": _iso(entry.sent_at),
        "submittedAt": _iso(entry.submitted_at),
        "finishedAt": _iso(entry.ended_at),
        **key,
    }


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def resolved_line(intent: Intent) -> dict[str, Any]:
    """Describe a decision about a submit, with the facts that speak for the production."""
    line = intent_line(intent)
    if (production := intent.production) is not None:
        line |= {"topic": production.topic, "accountId": production.account_id}
        line |= {"createdAt": _iso(production.created_at)}
        line |= {"matches": compare(intent, production).matches}
    return line


def production_line(production: Production) -> dict[str, Any]:
    """Describe a production."""
    return {
        "productionId": production.id,
        "status": production.status,
        "error": production.error_message,
        "errorCode": production.error_code,
    }


def deliverable_line(deliverable: Deliverable, path: Path | None) -> dict[str, Any]:
    """Describe a deliverable, with the path of the downloaded file or else with its signed URL."""
    line = {"type": deliverable.type, "platform": deliverable.platform, "size": deliverable.size}
    return line | ({"path": str(path)} if path else {"url": deliverable.url})


def account_line(account: Account) -> dict[str, Any]:
    """Describe an account."""
    avatars = [avatar.id for avatar in account.avatars]
    return {"accountId": account.id, "name": account.name, "avatars": avatars}


def plan_line(plan: Plan) -> dict[str, Any]:
    """Describe a plan; times are in seconds."""
    return {
        "productions": plan.productions,
        "tier": plan.tier,
        "concurrency": plan.concurrency,
        "recommendedConcurrency": plan.recommended,
        "expectedSeconds": round(plan.duration),
        "days": plan.days,
        "requests": plan.requests,
        "meanLagSeconds": round(plan.lag, 1),
        "warnings": plan.warnings,
        "durations": DURATIONS_NOTE,
    }


def webhook_line(webhook: Webhook) -> dict[str, Any]:
    """Describe a webhook, without its signing secret."""
    return {
        "webhookId": webhook.id,
        "endpointUrl": webhook.endpoint_url,
        "eventTypes": webhook.event_types,
        "accountIds": webhook.account_ids,
        "accountScopeId": webhook.account_scope_id,
        "createdAt": _iso(webhook.created_at),
    }


def webhook_event_line(event: WebhookEvent) -> dict[str, Any]:
    """Describe a webhook event in the form of its envelope, without signed URLs.

    The data of `deliverable.ready` is reduced to the types of the deliverables. In all other data, URLs lose
    their query strings.
    """
    data = _deliverable_types(event) if isinstance(event, DeliverableReady) else event.data
    return {
        "eventType": event.event_type,
        "productionId": event.production_id,
        "accountId": event.account_id,
        "sequenceNumber": event.sequence_number,
        "timestamp": _iso(event.timestamp),
        "eventId": event.event_id,
        "correlationId": event.correlation_id,
        "truncated": event.truncated,
        "data": _without_query_strings(data),
    }


def _deliverable_types(event: DeliverableReady) -> dict[str, list[Any]]:
    """Return the types of the deliverables in an event; the form of this list is inferred."""
    listed = event.data.get(wire.LISTS[wire.DELIVERABLES])
    items = listed if isinstance(listed, list) else []
    return {"deliverables": [item.get("type") for item in items if isinstance(item, dict)]}


def _without_query_strings(value: Any) -> Any:
    """Remove the query string from every URL in a JSON value."""
    if isinstance(value, str):
        return without_queries(value)
    if isinstance(value, dict):
        return {name: _without_query_strings(item) for name, item in value.items()}
    return [_without_query_strings(item) for item in value] if isinstance(value, list) else value
