"""Webhooks, and what JARAI tells by them, as values. Frozen, open, never doing I/O.

An event has the envelope that is documented for all of them; the classes below it add what is known of
`data`, where anything is. An event of a type that the library does not know is a plain `WebhookEvent`.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import field, frozen

from jarai_async._api import wire
from jarai_async._api.models import Id, Status
from jarai_async._secret import Secret


@frozen(kw_only=True)
class Webhook:
    """A subscription: where JARAI sends which events, of which accounts (of all of them where none is named).

    Of one that exists only what it was created with is documented; so these are None or empty where the
    answer does not say them.
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
    """A subscription that was just created, with the secret that JARAI shows this once.

    Keep `signing_secret.reveal()` where you keep secrets: without it no event can be verified. Nothing shows
    it by itself: no `repr`, no pickle, not `raw`.
    """

    signing_secret: Secret


@frozen(kw_only=True)
class WebhookDelivery:
    """An event on its way to your endpoint. That these are listed is documented, no field of them is."""

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
    """Something that happened at JARAI, of any type.

    `production_id` and `sequence_number` (which counts the events of one production) together name it:
    deliveries are repeated, late and out of order (documented: at least once). `timestamp` is when it
    happened, not when it was sent. `correlation_id` is what to quote to JARAI's support. `truncated` says
    that `data` is not whole. `raw` is all that came.
    """

    event_id: Id
    event_type: str
    production_id: Id
    account_id: Id
    sequence_number: int
    timestamp: datetime
    correlation_id: str | None = None
    truncated: bool = False
    raw: Mapping[str, Any] = field(factory=dict, repr=False, eq=False)

    @property
    def data(self) -> Mapping[str, Any]:
        """What varies by type, as it came; empty where nothing did."""
        data = self.raw.get(wire.EVENT_DATA)
        return data if isinstance(data, Mapping) else {}


@frozen(kw_only=True)
class ProductionQueued(WebhookEvent):
    """`production.queued`: accepted; it becomes `Failed` where nobody picks it up until `expires_at`."""

    status: Status | None = None
    expires_at: datetime | None = None


@frozen(kw_only=True)
class StepCompleted(WebhookEvent):
    """`production.step.complete`: one of the 15 steps is done; which (`step`) is inferred."""

    step: int | None = None


@frozen(kw_only=True)
class ProductionPublished(WebhookEvent):
    """`production.published`: terminal."""


@frozen(kw_only=True)
class ProductionFailed(WebhookEvent):
    """`production.failed`: terminal; code and message are inferred from the status."""

    error_code: str | None = None
    error_message: str | None = None


@frozen(kw_only=True)
class DeliverableReady(WebhookEvent):
    """`deliverable.ready`: list them with the client, which has fresh URLs, and all of them."""


@frozen(kw_only=True)
class WebhookTest(WebhookEvent):
    """`webhook.test`: you asked for it; production and account are nil UUIDs (documented)."""


_CLASSES = (
    WebhookEvent,
    ProductionQueued,
    StepCompleted,
    ProductionPublished,
    ProductionFailed,
    DeliverableReady,
    WebhookTest,
)
EVENTS: Mapping[str, type[WebhookEvent]] = {wire.EVENT_TYPES.get(one.__name__, ""): one for one in _CLASSES}
"""The class of each type of event; under "" that of all others."""
