"""The routes, headers, field names and limits of the Partner API.

D: documented by JARAI. I: inferred from its documentation; if the service differs, correct it here.
A field that is not listed has the camelCase form of its attribute's name.
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
WEBHOOKS: Final = "/webhooks"  # I: only that webhooks can be created, listed and deleted is documented
WEBHOOK: Final = "/webhooks/{webhook_id}"  # I
WEBHOOK_DELIVERIES: Final = "/webhooks/{webhook_id}/deliveries"  # I
WEBHOOK_TEST: Final = "/webhooks/{webhook_id}/test"  # I
UPDATE: Final = "PATCH"  # I: the method that updates a webhook

# Headers.
API_KEY: Final = "X-API-Key"  # D
USER_AGENT: Final = "User-Agent"
SANDBOX_KEY_PREFIX: Final = "jarai_test_"  # D; other keys are live
IDEMPOTENCY_KEY: Final = "Idempotency-Key"  # I: whether the server honours it is not documented
CORRELATION_ID: Final = "X-Correlation-Id"  # D
RATE_LIMIT: Final = "X-RateLimit-Limit"  # D
RATE_REMAINING: Final = "X-RateLimit-Remaining"  # D
RATE_RESET: Final = "X-RateLimit-Reset"  # D

# Webhooks.
SIGNATURE: Final = "X-JARAI-Signature"  # D
SIGNATURE_SCHEME: Final = "sha256="  # D: HMAC-SHA256 of the raw body, in hexadecimal
EVENT_DATA: Final = "data"  # D

# The event type of each subclass of WebhookEvent. D
EVENT_TYPES: Final[Mapping[str, str]] = {
    "ProductionQueued": "production.queued",
    "StepCompleted": "production.step.complete",
    "ProductionPublished": "production.published",
    "ProductionFailed": "production.failed",
    "DeliverableReady": "deliverable.ready",
    "WebhookTest": "webhook.test",
}
SUBSCRIBED: Final = tuple(value for name, value in EVENT_TYPES.items() if name != "WebhookTest")
"""The event types that a webhook is created with by default."""

# Attributes whose field is not the camelCase form of their name, by model.
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

ID: Final = "id"  # I: stands for `productionId` in a response that does not have it

# The field that holds the list, if a response is an object with a list in it. I
LISTS: Final[Mapping[str, str]] = {
    ACCOUNTS: "accounts",
    DELIVERABLES: "deliverables",
    WEBHOOKS: "webhooks",
    WEBHOOK_DELIVERIES: "deliveries",
}

# The fields of every error body. D
ERROR_CODE: Final = "error"
ERROR_MESSAGE: Final = "message"
RETRY_AFTER: Final = "retryAfterSeconds"

# Documented limits. D
TOPIC_LENGTH: Final = 500  # characters
METADATA_LENGTH: Final = 4_096  # characters
WEBHOOK_ACCOUNTS: Final = 50  # account ids of one webhook
REQUESTS_PER_MINUTE: Final[Mapping[str, int]] = {"free": 10, "standard": 60, "enterprise": 300}  # by tier
REQUESTS_PER_DAY: Final[Mapping[int, int]] = {10: 100, 60: 2_000}  # by requests per minute
PRODUCTIONS_PER_DAY: Final[Mapping[int, int]] = {10: 3, 60: 20}  # of one account, by requests per minute
