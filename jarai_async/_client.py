"""The client: one method for each thing that the API can do, all within one rate limit."""

import asyncio
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self
from uuid import UUID, uuid4

from jarai_async._api import endpoints, webhook_endpoints, wire
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
from jarai_async._engine import Engine
from jarai_async._errors import (
    ConfigurationError,
    DeadlineExceededError,
    InvalidRequestError,
    NotFoundError,
)
from jarai_async._http.credentials import Credentials, KeyProvider
from jarai_async._http.request_log import RequestLog
from jarai_async._http.sessions import Session
from jarai_async._http.submit_retry import describe_request
from jarai_async._urls import checked_url

_DELAYS_WHILE_NEW = (2, 4, 8, 16, 30)  # seconds between reads of a production that is not found at first


class JaraiClient:
    """The JARAI Partner API.

        async with JaraiClient() as client:
            production = await client.submit(request)
            production = await client.wait(production.id)

    All requests of a client share one rate limit, and each waits until it may be sent. So any number of calls
    may be made at the same time: this alone gets no call rejected, and there are no 429s unless another
    program uses the same key.

    - `api_key`: the key, or a function (or coroutine function) that returns one. A function is called again
      when its key is rejected. By default the key is read from JARAI_API_KEY.
    - `base_url`: by default JARAI_BASE_URL, or else JARAI's own API.
    - `session`: an aiohttp session to use for the API, and for files without its headers, cookies and
      middlewares. Its proxy and its connector are used for both, so they decide which addresses may be
      reached. It stays open when the client is closed. With the session's own `trust_env=True` aiohttp also
      sends the API a password that netrc has for its host.
    - `rate_limit`: what this client may use of the partner's rate limit.
    - `timeout`: seconds to wait for the response to a submit, or for a file, and between two parts of it. A
      submit takes at most four times as long in all, and a read twice. A submit that gets no response is
      uncertain.
    - `trust_env`: without a `session`, whether to use the proxies in the environment (HTTPS_PROXY,
      HTTP_PROXY, NO_PROXY). A proxy resolves host names itself, so it is the proxy that has to keep files
      from being read from addresses that are not public.
    - `idempotency_keys`: True if the server honours `Idempotency-Key` (not documented). Then a submit whose
      response was lost is sent again with the same key.
    - `random`: the source of jitter.

    Every method raises NotSentError, NoResponseError or InvalidResponseError where no usable response was
    received, ClosedError once the client is closed, and ConfigurationError in another event loop than the one
    of the first use. Raises ConfigurationError.
    """

    def __init__(
        self,
        api_key: str | KeyProvider | None = None,
        *,
        base_url: str | None = None,
        session: Session | None = None,
        rate_limit: RateLimit | None = None,
        timeout: float = 30.0,
        trust_env: bool = False,
        idempotency_keys: bool = False,
        random: Random | None = None,
    ) -> None:
        if not timeout > 0:
            raise ConfigurationError(f"timeout must be more than 0 seconds, not {timeout!r}")
        if rate_limit is not None and not isinstance(rate_limit, RateLimit):
            raise ConfigurationError(f"rate_limit must be a RateLimit, not {type(rate_limit).__name__}")
        self.engine: Engine = Engine(
            Credentials(os.environ.get("JARAI_API_KEY", "") if api_key is None else api_key),
            checked_url(base_url or os.environ.get("JARAI_BASE_URL") or wire.BASE_URL),
            session=session,
            rate_limit=rate_limit or RateLimit(),
            timeout=timeout,
            trust_env=trust_env,
            idempotency_keys=idempotency_keys,
            random=random or Random(),
        )
        """What the client shares with its orchestrators. It may change in any version."""

    def __repr__(self) -> str:
        engine = self.engine
        return f"<JaraiClient {engine.transport.base_url}, {engine.limiter.limit} requests a minute>"

    def __del__(self) -> None:
        engine = getattr(self, "engine", None)  # None if `__init__` raised
        if engine is not None and engine.transport.is_open:
            warnings.warn(f"{self!r} was not closed", ResourceWarning, stacklevel=1, source=self)

    async def __aenter__(self) -> Self:
        self.engine.scheduler.check_loop()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. Calls that still wait raise ClosedError."""
        await self.engine.close()

    # --- Productions -------------------------------------------------------------------------------

    async def accounts(self) -> list[Account]:
        """List the accounts that the key can access (scope `accounts:read`). Raises ApiError."""
        return await self.engine.sender.execute(endpoints.accounts(), RequestLog())

    async def submit(self, request: ProductionRequest, *, idempotency_key: str | None = None) -> Production:
        """Submit a production (scope `productions:write`), and return it as accepted.

        From then on it costs money. It is sent again only where the failed attempt certainly created nothing,
        or with `idempotency_keys=True`. While submits get no usable responses, it waits until JARAI responds
        again, for as long as that takes: use `asyncio.timeout`. Raises InvalidRequestError; ApiError where
        JARAI rejected it (BudgetExceededError: the account's budget does not allow it); NotSentError where
        nothing was sent; UncertainSubmitError where it may have been accepted.
        """
        if not isinstance(request, ProductionRequest):
            raise InvalidRequestError([f"expected a ProductionRequest, not {type(request).__name__}"])
        key = idempotency_key or str(uuid4())
        call = endpoints.submit(request.account_id, body_of(request), key)
        what = describe_request(request.topic, request.account_id, request.reference)
        return await self.engine.sender.submit_with_retries(call, what, RequestLog())

    async def fetch(self, production_id: str | UUID) -> Production:
        """Read a production. Raises InvalidRequestError, ApiError."""
        return await self.engine.sender.execute(endpoints.fetch(production_id), RequestLog())

    async def cancel(self, production_id: str | UUID) -> Production:
        """Cancel a production at JARAI, and return its state afterwards: it may have ended before.

        Raises InvalidRequestError, ApiError.
        """
        return await self.engine.cancel(production_id, RequestLog())

    async def wait(self, production_id: str | UUID, *, deadline: float | None = None) -> Production:
        """Wait until a production has ended (`Published`, `Failed` or `Cancelled`), and return it.

        Any number of productions may be waited for at the same time. They share the rate limit, and each poll
        goes to the production that has most probably changed. Raises DeadlineExceededError after `deadline`
        seconds, while the production continues at JARAI; ApiError where it cannot be read at first, or once
        JARAI has refused for an hour to show it (five minutes where it is not found); NotFoundError at first
        only after a minute, because a new production may not be readable yet (inferred).
        """
        poller = self.engine.poller
        try:
            async with asyncio.timeout(deadline):
                log = RequestLog()
                production = await self._fetch_new(production_id, log)
                watch = poller.watch(production, Polling(), log, age_known=False)
                while not watch.status.is_terminal:
                    await poller.wait_for_change(watch)
                return watch.production
        except TimeoutError:
            message = f"production {production_id} did not end within {deadline} s"
            raise DeadlineExceededError(message) from None

    async def _fetch_new(self, production_id: str | UUID, log: RequestLog) -> Production:
        """Read a production that may be too new to be found (inferred: reads may lag behind a submit)."""
        call = endpoints.fetch(production_id)
        for delay in _DELAYS_WHILE_NEW:
            try:
                return await self.engine.sender.execute(call, log)
            except NotFoundError:
                await self.engine.scheduler.sleep(delay)
        return await self.engine.sender.execute(call, log)

    async def deliverables(self, production_id: str | UUID) -> list[Deliverable]:
        """List the files of a production, with signed URLs that are valid for an hour (documented).

        They are available in `AwaitingApproval` (for review: they may still change), `Distributing` and
        `Published` (documented; scope `deliverables:read`). Raises InvalidRequestError, ApiError.
        """
        return await self.engine.sender.execute(endpoints.deliverables(production_id), RequestLog())

    async def download(
        self,
        deliverable: Deliverable,
        path: str | os.PathLike[str],
        *,
        progress: Progress | None = None,
    ) -> Path:
        """Download a file to `path`, and return its path.

        If `path` is a folder, or ends with a slash, the file keeps its own name there: give each production a
        folder, because a file of the same name is replaced. Missing folders are created. The file is written
        beside its target, checked against every length and checksum that is offered, and then renamed. A
        broken download is resumed, and an expired signed URL is renewed. Eight files are read at a time, so
        any number of calls may be made at once. `progress` is called at most ten times a second, and at the
        end, with the bytes received and the size of the file (None if not known); an exception that it raises
        goes to the event loop's exception handler.

        Raises DownloadError; IncompleteDownloadError after seven attempts without progress (half a minute on
        average); FileWriteError where this machine cannot store it, and where `path` is a device, a pipe or a
        socket; ApiError where JARAI does not renew its URL.
        """
        self.engine.scheduler.check_open()
        target = await self.engine.downloader.target_path(path, deliverable)
        await self.engine.downloader.download(deliverable, target, RequestLog(), progress=progress)
        return target

    async def performance(self, production_id: str | UUID) -> Performance:
        """Read a production's analytics (scope `analytics:read`). Raises InvalidRequestError, ApiError."""
        return await self.engine.sender.execute(endpoints.performance(production_id), RequestLog())

    async def usage(self) -> Usage:
        """Read the partner's usage (the route is inferred). Raises ApiError."""
        return await self.engine.sender.execute(endpoints.usage(), RequestLog())

    # --- Webhook subscriptions. Some of their routes and methods are inferred. ---------------------

    async def create_webhook(
        self,
        endpoint_url: str,
        event_types: Sequence[str] = wire.SUBSCRIBED,
        *,
        account_ids: Sequence[str | UUID] = (),
        account_scope_id: str | UUID | None = None,
    ) -> NewWebhook:
        """Subscribe an https endpoint to events (scope `webhooks:write`).

        JARAI allows up to 100 subscriptions (documented). `event_types` are by default all known types. The
        subscription covers all accounts of the partner, or up to 50 `account_ids`, or one `account_scope_id`
        (documented). The result contains the signing secret, which `Receiver` and `verify` need and which
        JARAI shows only once: if the response is lost (NoResponseError), find the webhook with `webhooks()`
        and delete it. Raises InvalidRequestError, ApiError.
        """
        call = webhook_endpoints.create(endpoint_url, event_types, account_ids, account_scope_id)
        return await self.engine.sender.execute(call, RequestLog())

    async def webhooks(self) -> list[Webhook]:
        """List the webhooks (scope `webhooks:read`), without their secrets. Raises ApiError."""
        return await self.engine.sender.execute(webhook_endpoints.subscriptions(), RequestLog())

    async def webhook(self, webhook_id: str | UUID) -> Webhook:
        """Read one webhook. Raises InvalidRequestError, ApiError."""
        return await self.engine.sender.execute(webhook_endpoints.read(webhook_id), RequestLog())

    async def update_webhook(
        self,
        webhook_id: str | UUID,
        *,
        endpoint_url: str | None = None,
        event_types: Sequence[str] | None = None,
        account_ids: Sequence[str | UUID] | None = None,
    ) -> Webhook:
        """Change the given fields of a webhook, not its secret. Raises InvalidRequestError, ApiError."""
        call = webhook_endpoints.update(webhook_id, endpoint_url, event_types, account_ids)
        return await self.engine.sender.execute(call, RequestLog())

    async def delete_webhook(self, webhook_id: str | UUID) -> None:
        """Delete a webhook. Raises InvalidRequestError; NotFoundError if it does not exist; ApiError."""
        await self.engine.sender.execute(webhook_endpoints.delete(webhook_id), RequestLog())

    async def webhook_deliveries(self, webhook_id: str | UUID) -> list[WebhookDelivery]:
        """List the recent deliveries of a webhook. Raises InvalidRequestError, ApiError."""
        return await self.engine.sender.execute(webhook_endpoints.deliveries(webhook_id), RequestLog())

    async def test_webhook(self, webhook_id: str | UUID) -> None:
        """Ask JARAI to send a `webhook.test` event to a webhook. Raises InvalidRequestError, ApiError."""
        await self.engine.sender.execute(webhook_endpoints.test(webhook_id), RequestLog())
