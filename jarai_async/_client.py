"""The client: one method for each thing that the API can do, all within one request budget."""

import asyncio
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self
from uuid import uuid4

from jarai_async._api import endpoints, webhook_endpoints, wire
from jarai_async._api.calls import Call
from jarai_async._api.codec import body_of
from jarai_async._api.models import (
    Account,
    Deliverable,
    Performance,
    Polling,
    Production,
    ProductionRequest,
    RateLimit,
    Usage,
)
from jarai_async._api.webhook_models import NewWebhook, Webhook, WebhookDelivery
from jarai_async._downloads.download import Progress
from jarai_async._downloads.downloader import Downloader
from jarai_async._downloads.files import target_path
from jarai_async._errors import (
    ApiError,
    DeadlineExceededError,
    InvalidRequestError,
    NotFoundError,
)
from jarai_async._http.credentials import Credentials, KeyProvider
from jarai_async._http.sender import RequestSender
from jarai_async._http.transport import Session, Transport
from jarai_async._polling.poller import Poller
from jarai_async._ratelimit.limiter import RateLimiter
from jarai_async._ratelimit.meter import Meter
from jarai_async._ratelimit.scheduler import Scheduler
from jarai_async._urls import checked_url

_log = logging.getLogger("jarai_async")

_NEW = (2, 4, 8, 16, 30)  # seconds between reads of a production that is not found, at first


class JaraiClient:
    """The Partner API of JARAI, awaited.

        async with JaraiClient() as client:
            production = await client.submit(request)
            production = await client.wait(production.id)

    Every request waits for its turn in one budget that the whole client shares, so any number of calls may
    be made at once: none is refused, none causes a 429 while the key is used by this client alone.

    `api_key` is taken from JARAI_API_KEY, `base_url` from JARAI_BASE_URL, where they are not given. Instead
    of a key, give a function that provides one, async or not: it is asked again when the key is refused. A
    `session` of your own is used for the API and left open; its connections are then pooled for submits too.
    `budget` bounds what this client may spend. `idempotency_keys=True` declares that the server honours
    `Idempotency-Key` (not documented, so False): only then is a submit whose answer was lost sent again.
    `random` is the source of jitter. Raises ConfigurationError.
    """

    def __init__(
        self,
        api_key: str | KeyProvider | None = None,
        *,
        base_url: str | None = None,
        session: Session | None = None,
        budget: RateLimit | None = None,
        idempotency_keys: bool = False,
        random: Random | None = None,
    ) -> None:
        keys = Credentials(os.environ.get("JARAI_API_KEY", "") if api_key is None else api_key)
        self._base_url = checked_url(base_url or os.environ.get("JARAI_BASE_URL") or wire.BASE_URL)
        self._random = random or Random()
        self._budget = RateLimiter(budget or RateLimit())
        self._scheduler = Scheduler(self._budget, self._random)
        self._transport = Transport(self._base_url, session)
        self._sender = RequestSender(
            self._transport, keys, self._scheduler, self._random, idempotency_keys=idempotency_keys
        )
        self._poller = Poller(self._scheduler, self._sender.read_status, lambda: self._transport.server_time)
        self.downloader = Downloader(
            self._sender, self._transport, self._random, https=self._base_url.startswith("https:")
        )

    def __repr__(self) -> str:
        return f"<JaraiClient {self._base_url}, {self._budget.limit} requests a minute>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; a session of your own stays open. What still waits gets a ClosedError."""
        self._scheduler.close()
        try:
            await self._poller.close()
        finally:
            await self._transport.close()

    # --- What the API can do ---------------------------------------------------------------------

    async def accounts(self) -> list[Account]:
        """List the accounts that the key can reach (scope `accounts:read`). Raises ApiError."""
        return await self._sender.execute(endpoints.accounts(), Meter())

    async def submit(self, request: ProductionRequest, *, idempotency_key: str | None = None) -> Production:
        """Ask for a production (scope `productions:write`), and give it as accepted.

        It costs money from here on. It is sent again only where the first attempt provably created nothing,
        or with `idempotency_keys=True`. Raises ApiError where it was refused (BudgetExceededError: by the
        account's budget), NotSentError where nothing was sent, UncertainSubmitError where in doubt.
        """
        if not isinstance(request, ProductionRequest):
            raise InvalidRequestError([f"expected a ProductionRequest, not {type(request).__name__}"])
        key, meter = idempotency_key or str(uuid4()), Meter()
        try:
            return await self._sender.submit(request.account_id, body_of(request), key, meter)
        except asyncio.CancelledError:
            if meter.in_doubt:
                _log.warning("a submit was cancelled on its way and may have been accepted, key %s", key)
            raise

    async def fetch(self, production_id: str) -> Production:
        """Read a production as it is now. Raises ApiError, NoResponseError, InvalidResponseError."""
        return await self._sender.execute(endpoints.fetch(production_id), Meter())

    async def cancel(self, production_id: str) -> Production:
        """Stop a production for real, and give it as it is then: it may have ended. Raises ApiError."""
        return await self._cancel(production_id, Meter())

    async def deliverables(self, production_id: str) -> list[Deliverable]:
        """List what a production made, with signed URLs that are valid for an hour (documented).

        Available in `AwaitingApproval` (for review: may still change), `Distributing` and `Published`;
        scope `deliverables:read`. Raises ApiError.
        """
        return await self._sender.execute(endpoints.deliverables(production_id), Meter())

    async def performance(self, production_id: str) -> Performance:
        """Read a production's analytics (scope `analytics:read`). Raises ApiError."""
        return await self._sender.execute(endpoints.performance(production_id), Meter())

    async def usage(self) -> Usage:
        """Read the partner's usage (its route is inferred). Raises ApiError."""
        return await self._sender.execute(endpoints.usage(), Meter())

    async def wait(self, production_id: str, *, deadline: float | None = None) -> Production:
        """Wait until a production has ended, and give it: `Published`, `Failed` or `Cancelled`.

        Any number may be waited for at once: the polls of all of them share the budget, each going where a
        change is likeliest. Raises DeadlineExceededError after `deadline` seconds: the production goes on.
        Raises ApiError where it cannot be read; NotFoundError only after a minute, for it may be too new.
        """
        try:
            async with asyncio.timeout(deadline) as timeout:
                meter = Meter()
                production = await self._known(endpoints.fetch(production_id), meter)
                watch = self._poller.watch(production, Polling(), meter, age_known=False)
                while not watch.status.is_terminal:
                    await self._poller.changed(watch)
                return watch.production
        except TimeoutError:
            if not timeout.expired():
                raise
        raise DeadlineExceededError(f"production {production_id} did not end within {deadline} s")

    async def download(
        self,
        deliverable: Deliverable,
        path: str | os.PathLike[str],
        *,
        progress: Progress | None = None,
    ) -> Path:
        """Fetch a file whole into `path`, and give its path.

        A folder, or a path that ends with a slash, takes it under its own name, made if it is not there.
        It is written beside its target, verified by every length and checksum that is offered, and only then
        given its name. What breaks off is gone on with; a signed URL that has expired is renewed. `progress`
        is called with the bytes that are here and those that there are (None if not known), after each piece;
        what it raises is left to the loop's exception handler.
        Raises DownloadError, IncompleteDownloadError after five attempts that got no further, FileWriteError,
        and ApiError where a fresh URL is refused.
        """
        target = await target_path(path, deliverable)
        await self.downloader.download(deliverable, target, Meter(), progress=progress)
        return target

    # --- Webhook subscriptions. Paths and methods of some of them are inferred. ---------------------

    async def create_webhook(
        self,
        endpoint_url: str,
        event_types: Sequence[str] = wire.SUBSCRIBED,
        *,
        account_ids: Sequence[str] = (),
        account_scope_id: str | None = None,
    ) -> NewWebhook:
        """Have events sent to your endpoint (scope `webhooks:write`): https, and at most 100 webhooks in all.

        `event_types` is one or more of JARAI's, by default all that are known; of all your accounts, or of up
        to 50 `account_ids`, or of one `account_scope_id` (all documented). The answer has the signing secret,
        which `Receiver` and `verify` take, and which is not shown again: where that answer is lost
        (NoResponseError), look for the webhook in `webhooks()` and delete it.
        Raises InvalidRequestError, ApiError.
        """
        call = webhook_endpoints.create(endpoint_url, event_types, account_ids, account_scope_id)
        return await self._sender.execute(call, Meter())

    async def webhooks(self) -> list[Webhook]:
        """List the webhooks (scope `webhooks:read`), without their secrets. Raises ApiError."""
        return await self._sender.execute(webhook_endpoints.subscriptions(), Meter())

    async def webhook(self, webhook_id: str) -> Webhook:
        """Read one webhook. Raises ApiError."""
        return await self._sender.execute(webhook_endpoints.read(webhook_id), Meter())

    async def update_webhook(
        self,
        webhook_id: str,
        *,
        endpoint_url: str | None = None,
        event_types: Sequence[str] | None = None,
        account_ids: Sequence[str] | None = None,
    ) -> Webhook:
        """Change what is given of a webhook; its secret stays. Raises InvalidRequestError, ApiError."""
        call = webhook_endpoints.update(webhook_id, endpoint_url, event_types, account_ids)
        return await self._sender.execute(call, Meter())

    async def delete_webhook(self, webhook_id: str) -> None:
        """End a webhook. Raises NotFoundError where there is none any more, ApiError."""
        await self._sender.execute(webhook_endpoints.delete(webhook_id), Meter())

    async def webhook_deliveries(self, webhook_id: str) -> list[WebhookDelivery]:
        """List the recent deliveries of a webhook, as JARAI sees them. Raises ApiError."""
        return await self._sender.execute(webhook_endpoints.deliveries(webhook_id), Meter())

    async def test_webhook(self, webhook_id: str) -> None:
        """Have a `webhook.test` event sent to a webhook's endpoint. Raises ApiError."""
        await self._sender.execute(webhook_endpoints.test(webhook_id), Meter())

    async def _known(self, call: Call[Production], meter: Meter) -> Production:
        """Read a production that may be too new to be found (inferred: reads may lag behind a submit)."""
        for pause in _NEW:
            try:
                return await self._sender.execute(call, meter)
            except NotFoundError:
                await self._scheduler.pause(pause)
        return await self._sender.execute(call, meter)

    # --- How ---------------------------------------------------------------------------------------

    async def _cancel(self, production_id: str, meter: Meter) -> Production:
        error_from = None
        try:
            await self._sender.execute(endpoints.cancel(production_id), meter)
        except ApiError as error:
            error_from = error  # 404 or 409 may mean that it had already ended: reading it decides
        production = await self._sender.execute(endpoints.fetch(production_id), meter)
        if error_from is not None and not production.status.is_terminal:
            raise error_from
        return production
