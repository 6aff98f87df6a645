"""What one client and its orchestrators share: one rate limit, one sender, one poller."""

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from uuid import UUID

from jarai_async._api import endpoints
from jarai_async._api.models import Production, RateLimit
from jarai_async._downloads.downloader import Downloader
from jarai_async._downloads.files import Disk
from jarai_async._errors import ApiError
from jarai_async._http.credentials import Credentials
from jarai_async._http.request_log import RequestLog
from jarai_async._http.retry import Retrier
from jarai_async._http.sender import RequestSender
from jarai_async._http.sessions import Session
from jarai_async._http.transport import Transport
from jarai_async._journal.database import Server
from jarai_async._polling.poller import Poller
from jarai_async._ratelimit.limiter import RateLimiter
from jarai_async._ratelimit.protocol import Limiter, SharedLimit
from jarai_async._ratelimit.scheduler import Scheduler
from jarai_async._tasks import start, uninterrupted
from jarai_async._urls import canonical_url


class Engine:
    """The parts of a client, from the rate limit up to the downloader."""

    def __init__(
        self,
        credentials: Credentials,
        base_url: str,
        *,
        session: Session | None,
        rate_limit: RateLimit,
        timeout: float,
        trust_env: bool,
        idempotency_keys: bool,
        random: Random,
    ) -> None:
        self.random = random
        self.rate_limit = rate_limit
        """What the user allows."""
        self.timeout = timeout
        """Seconds, of one request."""
        self.scheduler: Scheduler = Scheduler(RateLimiter(rate_limit), random)
        self.transport: Transport = Transport(base_url, session, timeout=timeout, trust_env=trust_env)
        self.credentials = credentials
        self.sender: RequestSender = RequestSender(
            self.transport, credentials, self.scheduler, random, idempotency_keys=idempotency_keys
        )
        self.poller: Poller = Poller(
            self.scheduler,
            self.sender.poll,
            lambda: self.transport.server_time,
            lambda: self.sender.availability.is_down,
        )
        https = base_url.startswith("https:")  # then deliverables must be on https, too
        self.disk: Disk = Disk()
        self.downloader: Downloader = Downloader(self.sender, self.transport, random, self.disk, https=https)

    @property
    def limiter(self) -> Limiter:
        """The rate limit."""
        return self.scheduler.limiter

    @contextmanager
    def sharing(self, limit: SharedLimit) -> Iterator[None]:
        """Use a rate limit that several workers share, while no other requests are made with this client."""
        scheduler, queues, alone = self.scheduler, self.sender.account_queues, self.limiter
        limit.on_change, limit.on_blocked = scheduler.on_limiter_changed, queues.block_here
        scheduler.limiter = queues.shared = limit
        try:
            yield
        finally:
            scheduler.limiter, queues.shared = alone, None

    async def server(self) -> Server:
        """Return the server that this client uses, and how. Raises ConfigurationError without a key."""
        return Server(canonical_url(self.transport.base_url), await self.credentials.is_sandbox())

    async def cancel(
        self, production_id: str | UUID, log: RequestLog, retrier: Retrier | None = None
    ) -> Production:
        """Cancel a production, and return its state afterwards: it may have ended. Raises ApiError."""
        rejection = None
        try:
            await self.sender.execute(endpoints.cancel(production_id), log, retrier)
        except ApiError as error:
            rejection = error  # a 404 or 409 may mean that it had already ended: reading it decides
        production = await self.sender.execute(endpoints.fetch(production_id), log, retrier)
        if rejection is not None and not production.status.is_terminal:
            raise rejection
        return production

    async def close(self) -> None:
        """Close the connections. Everything that still waits raises ClosedError.

        A cancellation takes effect after that. Raises ConfigurationError in another event loop than the one
        that the client was used in.
        """
        self.scheduler.check_loop()
        self.scheduler.close()
        await uninterrupted(start(self._close))

    async def _close(self) -> None:
        try:
            await self.poller.close()
        finally:
            await self.transport.close()
            self.disk.close()
