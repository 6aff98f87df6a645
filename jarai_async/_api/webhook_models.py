"""Webhook subscriptions and webhook events as values: frozen, and without methods that do I/O.

`WebhookEvent` has the envelope that is documented for all events. Its subclasses, one for each known event
type, add the known fields of `data`. An event of an unknown type is a plain `WebhookEvent`.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import field, frozen

from jarai_async._api import wire
from jarai_async._api.models import NIL_ID, Id, Status
from jarai_async._secret import Secret


@frozen(kw_only=True)
class Webhook:
    """A webhook subscription: the endpoint, the event types, and the accounts (none given means all).

    Which fields JARAI returns for an existing webhook is not documented, so any field but `id` is None or
    empty where the response does not have it.
    """

    id: Id
    endpoint_url: str | None = None
    event_types: tuple[str, ...] = ()
    account_ids: tuple[Id, ...] = ()
    account_scope_id: Id | None = None
    created_at: datetime | None = None
    raw: Mapping[str, Any] = field(factory=dict, repr=False, eq=False)


@frozen(kw_only=True)
class NewWebhook(Webhook):
    """A webhook that was just created, with its signing secret, which JARAI shows only once (documented).

    `id` is the nil UUID if the response has none that can be read: find the webhook with `webhooks()` then.
    Store `signing_secret.reveal()` with your other secrets: no event can be verified without it. The secret
    appears neither in the `repr` nor in `raw`, and it cannot be pickled.
    """

    signing_secret: Secret


@frozen(kw_only=True)
class WebhookDelivery:
    """A delivery of an event to your endpoint. JARAI documents that it lists these, but not their fields."""

    id: Id | None = None
    event_id: Id | None = None
    event_type: str | None = None
    production_id: Id | None = None
    status: str | None = None
    response_status: int | None = None
    attempts: int | None = None
    attempted_at: datetime | None = None
    raw: Mapping[str, Any] = field(factory=dict, repr=False, eq=False)


@frozen(kw_only=True)
class WebhookEvent:
    """A webhook event of any type.

    `production_id` and `sequence_number`, which counts the events of one production, identify the event: it
    may be delivered more than once (documented), late and out of order. `timestamp` is the time of the event,
    not of its delivery. Quote `correlation_id` to JARAI support. `truncated` is true if `data` is incomplete.
    `raw` is the complete JSON object.

    JARAI may add types of events that are about no production. A field that the message does not have, or
    that cannot be read, is the nil UUID for an id (as documented for `webhook.test`), "" for the type, 0 for
    the number, and None for the time. An event of a subclass other than
    `WebhookTest` always has a production.
    """

    event_id: Id = NIL_ID
    event_type: str = ""
    production_id: Id = NIL_ID
    account_id: Id = NIL_ID
    sequence_number: int = 0
    timestamp: datetime | None = None
    correlation_id: str | None = None
    truncated: bool = False
    raw: Mapping[str, Any] = field(factory=dict, repr=False, eq=False)

    @property
    def data(self) -> Mapping[str, Any]:
        """The part that depends on the type, as JSON values; empty if there is none."""
        data = self.raw.get(wire.EVENT_DATA)
        return data if isinstance(data, Mapping) else {}


@frozen(kw_only=True)
class ProductionQueued(WebhookEvent):
    """`production.queued`: accepted. If JARAI has not started it by `expires_at`, it becomes `Failed`."""

    status: Status | None = None
    expires_at: datetime | None = None


@frozen(kw_only=True)
class StepCompleted(WebhookEvent):
    """`production.step.complete`: one of the 15 steps is complete. The field `step` is inferred."""

    step: int | None = None


@frozen(kw_only=True)
class ProductionPublished(WebhookEvent):
    """`production.published`: the production ended as `Published`."""


@frozen(kw_only=True)
class ProductionFailed(WebhookEvent):
    """`production.failed`: the production ended as `Failed`. The fields are inferred from the status body."""

    error_code: str | None = None
    error_message: str | None = None


@frozen(kw_only=True)
class DeliverableReady(WebhookEvent):
    """`deliverable.ready`: list the deliverables with the client to get all of them, with new URLs."""


@frozen(kw_only=True)
class WebhookTest(WebhookEvent):
    """`webhook.test`: an event that you requested. Its production and account are nil UUIDs (documented)."""


_CLASSES = (
    WebhookEvent,
    ProductionQueued,
    StepCompleted,
    ProductionPublished,
    ProductionFailed,
    DeliverableReady,
    WebhookTest,
)
EVENTS: Mapping[str, type[WebhookEvent]] = {
    wire.EVENT_TYPES.get(event_class.__name__, ""): event_class for event_class in _CLASSES
}
"""The class of each event type; "" stands for every unknown type."""
