"""Receive webhooks: verify each request, respond at once, then pass each new event to your callback.

    receiver = Receiver(secret, on_event)  # on_event(event): a function or a coroutine function
    app.router.add_post("/jarai", receiver.handle)  # in your aiohttp application

    async with receiver.serve(port=8080) as url:  # or as a separate server, behind a TLS proxy
        ...

    async with Orchestrator(client, webhooks=receiver) as orchestrator:  # polls a production after its events
        ...

In another framework, such as FastAPI or Starlette, pass the body as a stream, so that its size is limited:

    @app.post("/jarai")
    async def jarai(request: Request) -> Response:
        return Response(status_code=await receiver.receive(request.stream(), request.headers))

A response has no body. Its status is 204 for an event that was accepted, now or earlier, and for anything
else that JARAI signed, which is logged; 401 for a request that JARAI did not sign; 408 for a body that takes
more than 10 seconds; 413 for more than 256 KiB; 415 for a compressed body; and 503 if an event cannot be
accepted now, so that JARAI delivers it again later: 1,000 events are queued, an orchestrator cannot write its
journal, there is no signing secret yet, there is neither a callback nor an orchestrator, or the receiver is
closed. Reasons are logged at DEBUG level, the first failed verification as a warning.

Orchestrators process an event, and record it in their journals, before the response is sent. `on_event` runs
after the response, for one event at a time, in order of arrival. Duplicate deliveries are dropped. Queued
events are in memory only: they are lost if the process is killed. If `on_event` raises, the error is logged
and the event is lost. Webhooks are not reliable: read the production to be certain of its status.

The server of `serve` closes a connection if no complete request arrives within 10 seconds, and above 512
connections those that have been idle the longest, so that slow clients cannot block others. In your own
application, the web server or a proxy must limit the time for the headers of a request.
"""

import asyncio
import inspect
import logging
import ssl
from collections import OrderedDict, deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from typing import Self

from aiohttp import HttpVersion11, web

from jarai_async import webhooks
from jarai_async._api.models import NIL_ID
from jarai_async._errors import JournalError, WebhookVerificationError
from jarai_async._tasks import start, uninterrupted
from jarai_async.webhooks import Secrets, WebhookEvent, header_values

__all__ = ["Receiver"]

_log = logging.getLogger("jarai_async")

_MAX_BODY = 256 * 1024  # bytes; an event with 100 deliverables is smaller than 100 KiB
_TIMEOUT = 10.0  # seconds, for a complete request
_MAX_QUEUED = 1_000  # events that wait for `on_event`
_MAX_REMEMBERED = 50_000  # events, in about 15 MB: those of 2,500 productions
_MAX_CONNECTIONS = 512
_YIELD_INTERVAL = 0.005  # seconds for which callbacks may run before other tasks get a turn

OnEvent = Callable[[WebhookEvent], Awaitable[None] | None]
Listener = Callable[[WebhookEvent], Awaitable[None]]


class Receiver:
    """Verifies webhooks and passes each new event to `on_event` and to the orchestrators that use it.

    `secret` is the signing secret of your webhook, or a sequence of secrets. Where the webhook is created
    later, leave it out and call `set_secret` then. Close the receiver with `async with` or `close`. Raises
    ConfigurationError if a secret is invalid, or the sequence is empty.
    """

    def __init__(self, secret: Secrets | None = None, on_event: OnEvent | None = None) -> None:
        self._secrets = [] if secret is None else webhooks.checked_secrets(secret)
        del secret
        self._on_event = on_event
        self._queue: deque[WebhookEvent] = deque()
        self._listeners: dict[object, Listener] = {}
        self._seen: OrderedDict[object, str] = OrderedDict()  # event ids, by `_key`
        self._worker: asyncio.Task[None] | None = None
        self._closed = False
        self._unsigned_level = logging.WARNING

    def __repr__(self) -> str:
        return f"<Receiver, {len(self._queue)} events queued>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Reject further events and wait up to 10 seconds for `on_event`; then drop and log the rest.

        A cancellation takes effect after that.
        """
        self._closed = True
        if self._worker is not None:
            await uninterrupted(start(self._end, self._worker))

    async def _end(self, worker: asyncio.Task[None]) -> None:
        await asyncio.wait([worker], timeout=_TIMEOUT)
        worker.cancel()
        await asyncio.wait([worker], timeout=_TIMEOUT)
        if self._queue:
            _log.warning("the receiver was closed: %d accepted webhook events were dropped", len(self._queue))

    def add_listener(self, listener: Listener) -> Callable[[], None]:
        """Await `listener(event)` for each new event, before the response; return a function that removes it.

        If a listener raises JournalError, the response is 503, so that JARAI delivers the event again later.
        Any other exception propagates to the caller of `receive`. Removing a listener twice does nothing.
        """
        key = object()
        self._listeners[key] = listener

        def remove() -> None:
            self._listeners.pop(key, None)

        return remove

    def set_secret(self, secret: Secrets) -> None:
        """Verify requests with this secret, or these, from now on. Raises ConfigurationError as above.

        Until there is a secret the status is 503, so that JARAI delivers the event again later.
        """
        self._secrets = webhooks.checked_secrets(secret)

    async def receive(self, body: bytes | AsyncIterable[bytes], headers: Mapping[str, str]) -> int:
        """Process a request of any web framework and return the status of the response.

        `body` is the raw bytes or a stream of them, which is read up to the size limit only. Raises only what
        the stream or a listener raises.
        """
        no_secret = None if self._secrets else _reject(503, "there is no signing secret yet")
        if (status := no_secret or _rejected_by_headers(headers)) is not None:
            return status
        try:
            content = body if isinstance(body, bytes) else await _read(body)
        except TimeoutError:
            return _reject(408, "the body took too long")
        if len(content) > _MAX_BODY:
            return _reject(413, "the body is too large")
        try:
            event = webhooks.verify(content, headers, self._secrets)
        except WebhookVerificationError as error:
            level, self._unsigned_level = self._unsigned_level, logging.DEBUG  # the secret may be wrong
            return _reject(401, error.message, level)
        if not event.event_type:
            _log.warning("ignored a webhook that is signed, but not an event: %d bytes", len(content))
            return 204
        return await self._accept(event)

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Handle a POST request of an aiohttp application."""
        try:
            status = await self.receive(request.content.iter_any(), request.headers)
        except (ConnectionError, web.RequestPayloadError):
            status = _reject(400, "the connection was lost, or the body is not valid HTTP")
        return web.Response(status=status)

    @asynccontextmanager
    async def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        path: str = "/",
        ssl_context: ssl.SSLContext | None = None,
    ) -> AsyncIterator[str]:
        """Run a server with this receiver and yield its URL; port 0 is any free port. Raises OSError."""
        runner = web.ServerRunner(_WebhookServer(self, path), shutdown_timeout=1.0)
        try:
            await runner.setup()
            await web.TCPSite(runner, host, port, ssl_context=ssl_context, backlog=1_024).start()
            scheme = "http" if ssl_context is None else "https"
            bound_host, bound_port = runner.addresses[0][:2]
            yield f"{scheme}://{f'[{bound_host}]' if ':' in bound_host else bound_host}:{bound_port}{path}"
        finally:
            await uninterrupted(start(runner.cleanup))

    async def _accept(self, event: WebhookEvent) -> int:
        if self._is_duplicate(event):
            return 204
        if not (self._on_event or self._listeners):
            return _reject(503, "there is neither an on_event callback nor an orchestrator")
        if self._is_full() or not await self._notify_listeners(event) or self._is_full():
            return 503
        if self._is_duplicate(event):  # accepted while the listeners processed it
            return 204
        self._seen[_key(event)] = event.event_id
        if len(self._seen) > _MAX_REMEMBERED:
            self._seen.popitem(last=False)
        if self._on_event is not None:
            self._queue.append(event)
            if self._worker is None or self._worker.done():
                self._worker = start(self._process_queue, self._on_event, context=Context())
        return 204

    def _is_duplicate(self, event: WebhookEvent) -> bool:
        seen = self._seen.get(_key(event))
        if seen not in (None, event.event_id):
            number, production_id = event.sequence_number, event.production_id
            _log.warning("two webhook events of production %s have the number %d", production_id, number)
        return seen is not None

    def _is_full(self) -> bool:
        if self._closed or len(self._queue) >= _MAX_QUEUED:
            _reject(503, "the queue is full, or the receiver is closed")
            return True
        return False

    async def _notify_listeners(self, event: WebhookEvent) -> bool:
        """Return whether every listener has processed the event."""
        try:
            for listener in list(self._listeners.values()):
                await listener(event)
        except JournalError as error:
            _log.error("a webhook event was not recorded, JARAI will deliver it again: %s", error)
            return False
        return True

    async def _process_queue(self, on_event: OnEvent) -> None:
        """Call `on_event` for the queued events, then end: no task runs while the queue is empty."""
        loop = asyncio.get_running_loop()
        yield_at = loop.time() + _YIELD_INTERVAL
        while self._queue:
            await self._call(on_event, self._queue[0])
            self._queue.popleft()
            if loop.time() > yield_at:  # a callback that never awaits must not delay responses
                await asyncio.sleep(0)
                yield_at = loop.time() + _YIELD_INTERVAL

    async def _call(self, on_event: OnEvent, event: WebhookEvent) -> None:
        try:
            result = on_event(event)
            if inspect.isawaitable(result):
                await result
        except (Exception, asyncio.CancelledError) as error:  # a task of the callback may be cancelled
            worker = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and worker is not None and worker.cancelling():
                raise
            number, production_id = event.sequence_number, event.production_id
            _log.exception("on_event failed for event %d of production %s", number, production_id)


def _key(event: WebhookEvent) -> object:
    """Return what identifies an event: its production and number (documented), or else its own id."""
    if event.production_id != NIL_ID and event.sequence_number:
        return event.production_id, event.sequence_number
    return event.event_id if event.event_id != NIL_ID else object()


def _rejected_by_headers(headers: Mapping[str, str]) -> int | None:
    """Return the status of a request that is rejected without reading its body, else None."""
    encodings = (str(value).strip().lower() for value in header_values(headers, "Content-Encoding"))
    if any(encoding not in ("", "identity") for encoding in encodings):
        return _reject(415, "the body is compressed")
    for length in header_values(headers, "Content-Length"):
        if isinstance(length, str) and length.isdecimal() and int(length[:9]) > _MAX_BODY:
            return _reject(413, "the body is too large")
    return None


def _reject(status: int, reason: str, level: int = logging.DEBUG) -> int:
    """Log a rejection and return its status. The level is low because anyone can cause any number of them."""
    _log.log(level, "rejected a webhook with status %d: %s", status, reason)
    return status


async def _ask_for_body(request: web.BaseRequest) -> None:
    """Send `100 Continue` to a client that waits for it before it sends the body."""
    if request.headers.get("Expect", "").lower() != "100-continue" or request.version < HttpVersion11:
        return
    with suppress(ConnectionError):  # reading the body reports it
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # aiohttp must not take this for a part of the response


async def _read(stream: AsyncIterable[bytes]) -> bytes:
    """Read a stream to its end, or to just beyond the size limit. Raises TimeoutError."""
    content = bytearray()
    async with asyncio.timeout(_TIMEOUT):
        async for chunk in stream:
            content += chunk
            if len(content) > _MAX_BODY:
                break
    return bytes(content)


class _WebhookServer(web.Server):
    """A server with one path, which closes connections that are slow or idle."""

    def __init__(self, receiver: Receiver, path: str) -> None:
        super().__init__(  # lingering_time: seconds for reading the rest of a rejected body
            self._handle, access_log=None, keepalive_timeout=_TIMEOUT, lingering_time=1, auto_decompress=False
        )
        self._receiver = receiver
        self._path = path
        self._timers: OrderedDict[web.RequestHandler, asyncio.TimerHandle] = OrderedDict()

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._start_timer(handler, transport)
        if len(self._timers) > _MAX_CONNECTIONS:
            idle, timer = self._timers.popitem(last=False)
            timer.cancel()
            if idle.transport is not None:
                idle.transport.abort()

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        if (timer := self._timers.pop(handler, None)) is not None:
            timer.cancel()
        super().connection_lost(handler, exc)

    def _start_timer(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        self._timers[handler] = asyncio.get_running_loop().call_later(_TIMEOUT, transport.abort)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            if request.path != self._path:
                reason = f"the path is {request.path[:99]!a}, not {self._path}"
                return web.Response(status=_reject(404, reason))
            if request.method != "POST":
                return web.Response(status=_reject(405, "the method is not POST"), headers={"Allow": "POST"})
            if (status := _rejected_by_headers(request.headers)) is not None:
                return web.Response(status=status)
            await _ask_for_body(request)
            return await self._receiver.handle(request)
        finally:
            timer = self._timers.pop(request.protocol, None)
            if timer is not None and request.transport is not None:
                timer.cancel()
                self._start_timer(request.protocol, request.transport)
