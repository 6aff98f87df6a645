"""Every route and field name of the Partner API, each fact in one place.

D: documented by JARAI. I: inferred from its documentation; if the service differs, this is the file
to correct. Fields not listed are the camelCase of their attribute's name.
"""

from collections.abc import Mapping
from typing import Final

BASE_URL: Final = "https://api.jarai.studio/v1/partner"  # D for /accounts, I for the rest

# Routes, relative to the base URL.
ACCOUNTS: Final = "/accounts"  # D
SUBMIT: Final = "/accounts/{account_id}/productions"  # D
PRODUCTION: Final = "/productions/{production_id}"  # D
DELIVERABLES: Final = "/productions/{production_id}/deliverables"  # D
PERFORMANCE: Final = "/productions/{production_id}/performance"  # D
USAGE: Final = "/usage"  # I
WEBHOOKS: Final = "/webhooks"  # I: that they are created, listed and deleted is documented
WEBHOOK: Final = "/webhooks/{webhook_id}"  # I
WEBHOOK_DELIVERIES: Final = "/webhooks/{webhook_id}/deliveries"  # I
WEBHOOK_TEST: Final = "/webhooks/{webhook_id}/test"  # I
UPDATE: Final = "PATCH"  # I: the method that changes a webhook

# Headers.
API_KEY: Final = "X-API-Key"  # D
IDEMPOTENCY_KEY: Final = "Idempotency-Key"  # I: not known whether it is honoured
CORRELATION_ID: Final = "X-Correlation-Id"  # D
RATE_LIMIT: Final = "X-RateLimit-Limit"  # D
RATE_REMAINING: Final = "X-RateLimit-Remaining"  # D
RATE_RESET: Final = "X-RateLimit-Reset"  # D

# Webhooks.
SIGNATURE: Final = "X-JARAI-Signature"  # D
SIGNATURE_SCHEME: Final = "sha256="  # D: HMAC-SHA256 of the raw body, in hexadecimal
EVENT_DATA: Final = "data"  # D

# The type of each event that has a class of its own. D
EVENT_TYPES: Final[Mapping[str, str]] = {
    "ProductionQueued": "production.queued",
    "StepCompleted": "production.step.complete",
    "ProductionPublished": "production.published",
    "ProductionFailed": "production.failed",
    "DeliverableReady": "deliverable.ready",
    "WebhookTest": "webhook.test",
}
SUBSCRIBED: Final = tuple(one for name, one in EVENT_TYPES.items() if name != "WebhookTest")
"""All that a webhook is about unless it is said otherwise."""

# Attributes whose field is not their camelCase, by model.
FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "Account": {"id": "accountId", "platforms": "connectedPlatforms"},  # D, I
    "Avatar": {"id": "avatarId"},  # D
    "Deliverable": {"id": "deliverableId", "url": "sasUrl", "size": "sizeBytes"},  # I, D, I
    "Production": {"id": "productionId", "project_type": "projectTypeSlug"},  # D, D
    "ProductionRequest": {"project_type": "projectTypeSlug", "metadata": "metadataMD"},  # D, D
    "Webhook": {"id": "webhookId"},  # I
    "NewWebhook": {"id": "webhookId"},  # I
    "WebhookDelivery": {"id": "deliveryId"},  # I
}

# Where a list arrives inside an object: the names that the object may give it. I
LISTS: Final[Mapping[str, str]] = {
    ACCOUNTS: "accounts",
    DELIVERABLES: "deliverables",
    WEBHOOKS: "webhooks",
    WEBHOOK_DELIVERIES: "deliveries",
}

# The envelope of every error. D
ERROR_CODE: Final = "error"
ERROR_MESSAGE: Final = "message"
RETRY_AFTER: Final = "retryAfterSeconds"

# Limits that the documentation gives. D
TOPIC_LENGTH: Final = 500  # characters
METADATA_LENGTH: Final = 4_096  # characters
WEBHOOK_ACCOUNTS: Final = 50  # of one webhook
REQUESTS_PER_MINUTE: Final[Mapping[str, int]] = {"free": 10, "standard": 60, "enterprise": 300}  # the tiers
REQUESTS_PER_DAY: Final[Mapping[int, int]] = {10: 100, 60: 2_000}  # by requests a minute
PRODUCTIONS_PER_DAY: Final[Mapping[int, int]] = {10: 3, 60: 20}  # of one account, by requests a minute
