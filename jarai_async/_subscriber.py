"""What the client can do about webhooks: a part of `JaraiClient`, apart because it is read apart."""

from collections.abc import Sequence

from jarai_async import _subscriptions, _wire
from jarai_async._callbacks import NewWebhook, Webhook, WebhookDelivery
from jarai_async._calls import Caller
from jarai_async._meter import Meter


class Subscriber:
    """The calls about webhook subscriptions. Paths and methods of some of them are inferred."""

    _caller: Caller

    async def create_webhook(
        self,
        endpoint_url: str,
        event_types: Sequence[str] = _wire.SUBSCRIBED,
        *,
        account_ids: Sequence[str] = (),
        account_scope_id: str | None = None,
    ) -> NewWebhook:
        """Have events sent to your endpoint (scope `webhooks:write`): https, and at most 100 webhooks in all.

        `event_types` is one or more of JARAI's, by default all that are known; of all your accounts, or of up
        to 50 `account_ids`, or of one `account_scope_id` (all documented). The answer has the signing secret,
        which `Receiver` and `verify` take, and which is not shown again: where that answer is lost
        (NoAnswerError), look for the webhook in `webhooks()` and delete it.
        Raises InvalidRequestError, ApiError.
        """
        call = _subscriptions.create(endpoint_url, event_types, account_ids, account_scope_id)
        return await self._caller.perform(call, Meter())

    async def webhooks(self) -> list[Webhook]:
        """List the webhooks (scope `webhooks:read`), without their secrets. Raises ApiError."""
        return await self._caller.perform(_subscriptions.subscriptions(), Meter())

    async def webhook(self, webhook_id: str) -> Webhook:
        """Read one webhook. Raises ApiError."""
        return await self._caller.perform(_subscriptions.read(webhook_id), Meter())

    async def update_webhook(
        self,
        webhook_id: str,
        *,
        endpoint_url: str | None = None,
        event_types: Sequence[str] | None = None,
        account_ids: Sequence[str] | None = None,
    ) -> Webhook:
        """Change what is given of a webhook; its secret stays. Raises InvalidRequestError, ApiError."""
        call = _subscriptions.update(webhook_id, endpoint_url, event_types, account_ids)
        return await self._caller.perform(call, Meter())

    async def delete_webhook(self, webhook_id: str) -> None:
        """End a webhook. Raises NotFoundError where there is none any more, ApiError."""
        await self._caller.perform(_subscriptions.delete(webhook_id), Meter())

    async def webhook_deliveries(self, webhook_id: str) -> list[WebhookDelivery]:
        """List the recent deliveries of a webhook, as JARAI sees them. Raises ApiError."""
        return await self._caller.perform(_subscriptions.deliveries(webhook_id), Meter())

    async def test_webhook(self, webhook_id: str) -> None:
        """Have a `webhook.test` event sent to a webhook's endpoint. Raises ApiError."""
        await self._caller.perform(_subscriptions.test(webhook_id), Meter())
