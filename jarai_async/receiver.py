"""Receive webhooks: verify, remember, answer at once, and hand the event on afterwards.

    receiver = Receiver(secret, on_event)  # on_event(event): a function or a coroutine function
    app.router.add_post("/jarai", receiver.handle)  # in an aiohttp application of yours

    async with receiver.serve(port=8080) as url:  # or by itself, behind a proxy that does TLS
        ...

    async with Orchestrator(client, webhooks=receiver) as orchestrator:  # asks at once for what is told
        ...

In any other framework, FastAPI or Starlette say, where a request's stream is bounded as it is read:

    @app.post("/jarai")
    async def jarai(request: Request) -> Response:
        return Response(status_code=await receiver.receive(request.stream(), request.headers))

What it answers, always with an empty body: 204 for an event that it has, now or from before; 401 for what
JARAI did not sign; 408 for a body that takes over 10 seconds; 413 for more than 256 KiB; 415 for a
compressed one; 503 where it cannot keep an event, so that JARAI sends it again later: 1,000 wait for
`on_event`, an orchestrator's journal cannot take it, or there is neither of both. Why it refused something is
logged at DEBUG, and of the first that JARAI did not sign a warning.

An orchestrator has what it needs of an event, in its journal if it has one, before the answer is given.

`on_event` runs after the answer, for one event at a time in the order in which they came, which need not be
that in which they happened. A delivery that comes again is answered and forgotten. Events that wait are in
memory: those of a process that dies are lost, and so is one whose `on_event` fails (its error is logged). A
webhook is a hint; that a production changed is certain only by reading it.

By itself (`serve`) it also ends connections on which no whole request comes within 10 seconds, and of more
than 512 those that have been silent for longest: so neither silent nor slow ones keep good ones out.
Within an application of yours the time until the headers are there is your server's, or your proxy's.
"""

import asyncio
import inspect
import logging
import ssl
from collections import OrderedDict, deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from aiohttp import web

from jarai_async import webhooks
from jarai_async._errors import JournalError, WebhookVerificationError
from jarai_async.webhooks import Secrets, WebhookEvent, WebhookTest, header_values

__all__ = ["Receiver"]

_log = logging.getLogger("jarai_async")

_LARGEST_BODY = 256 * 1024  # bytes; 100 deliverables are under 100 KiB
_DEADLINE = 10.0  # seconds, for a whole request
_QUEUE = 1_000  # events that wait for `on_event`
_REMEMBERED = 50_000  # events, about 15 MB: those of 2,500 productions
_CONNECTIONS = 512
_BACKLOG = 1_024
_ACCEPTED = 204
_SLICE = 0.005  # seconds of handing on between two looks at what came

OnEvent = Callable[[WebhookEvent], Awaitable[None] | None]


class Receiver:
    """Takes webhooks, and hands each event that is new to `on_event`, and to the orchestrators that use it.

    `secret` is the signing secret of your subscription, or several of them. Raises ConfigurationError where
    one is not as JARAI gives it. It may be left with `async with`, or by `close`.
    """

    def __init__(self, secret: Secrets, on_event: OnEvent | None = None) -> None:
        self._secrets = webhooks.checked(secret)
        self._on_event = on_event
        self._waiting: deque[WebhookEvent] = deque()
        self._listeners: list[Callable[[WebhookEvent], Awaitable[None]]] = []  # orchestrators
        self._known: OrderedDict[tuple[str, int], str] = OrderedDict()
        self._worker: asyncio.Task[None] | None = None
        self._closed = False
        self._level = logging.WARNING

    def __repr__(self) -> str:
        return f"<Receiver, {len(self._waiting)} events wait>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Take nothing more, and hand on what was taken; what is left after 10 seconds is logged and lost."""
        self._closed = True
        worker = self._worker
        if worker is None:
            return
        try:
            await asyncio.wait([worker], timeout=_DEADLINE)
        finally:
            worker.cancel()
        await asyncio.wait([worker])
        if self._waiting:
            _log.warning("%d webhook events were received and not handed on", len(self._waiting))

    def add_listener(self, listener: Callable[[WebhookEvent], Awaitable[None]]) -> Callable[[], None]:
        """Hand each new event to a listener before it is answered; return what removes the listener."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # --- Receiving ---------------------------------------------------------------------------------

    async def receive(self, body: bytes | AsyncIterable[bytes], headers: Mapping[str, str]) -> int:
        """Take one request, and give the status to answer it with. Needs no framework.

        `body` is the raw bytes, or a stream of them: of a stream no more is read than is allowed. Raises
        nothing but what the stream does.
        """
        error_from = _refusal(headers)
        if error_from is not None:
            return error_from
        try:
            whole = body if isinstance(body, bytes) else await _read(body)
        except TimeoutError:
            return _refused(408, "it took too long")
        if len(whole) > _LARGEST_BODY:
            return _refused(413, "it is too large")
        try:
            event = webhooks.verify(whole, headers, self._secrets)
        except WebhookVerificationError as error:
            level, self._level = self._level, logging.DEBUG  # a secret may be wrong: the first is shown
            return _refused(401, error.message, level)
        return await self._take(event)

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer a POST in an aiohttp application."""
        try:
            status = await self.receive(request.content.iter_any(), request.headers)
        except (ConnectionError, web.RequestPayloadError):  # it broke off, or is not HTTP
            status = _refused(400, "it broke off, or is not HTTP")
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
        """Serve this receiver alone, at one path, and give its URL; port 0 is a free one. Raises OSError."""
        door = _Door(self, path)
        runner = web.ServerRunner(door, shutdown_timeout=1.0)
        try:
            await runner.setup()
            await web.TCPSite(runner, host, port, ssl_context=ssl_context, backlog=_BACKLOG).start()
            scheme = "http" if ssl_context is None else "https"
            bound, taken = runner.addresses[0][:2]
            yield f"{scheme}://{f'[{bound}]' if ':' in bound else bound}:{taken}{path}"
        finally:
            await runner.cleanup()

    # --- Handing on --------------------------------------------------------------------------------

    async def _take(self, event: WebhookEvent) -> int:
        """Keep an event for those that it is for, unless it is known or cannot be kept."""
        if self._is_known(event):
            return _ACCEPTED
        if not (self._on_event or self._listeners):
            return _refused(503, "nobody listens yet, or any more")
        if not self._has_room() or not await self._is_kept(event) or not self._has_room():
            return 503
        if self._is_known(event):  # it came twice at the same time
            return _ACCEPTED
        if not isinstance(event, WebhookTest):  # each is about the nil UUID
            self._known[event.production_id, event.sequence_number] = event.event_id
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        if self._on_event is not None:
            self._waiting.append(event)
            if self._worker is None or self._worker.done():
                self._worker = asyncio.create_task(self._hand_on(self._on_event))
        return _ACCEPTED

    def _is_known(self, event: WebhookEvent) -> bool:
        known = self._known.get((event.production_id, event.sequence_number))
        if known not in (None, event.event_id):
            number, production_id = event.sequence_number, event.production_id
            _log.warning("two webhook events of production %s are both number %d", production_id, number)
        return known is not None

    def _has_room(self) -> bool:
        if self._closed or len(self._waiting) >= _QUEUE:
            _refused(503, "too many wait, or this is being closed")
            return False
        return True

    async def _is_kept(self, event: WebhookEvent) -> bool:
        """Let the orchestrators take an event; gives whether their journals have it."""
        try:
            for listener in list(self._listeners):
                await listener(event)
        except JournalError as error:
            _log.error("a webhook cannot be remembered, it is to come again: %s", error)
            return False
        return True

    async def _hand_on(self, on_event: OnEvent) -> None:
        """Hand on what waits, and end: nothing runs while nothing comes."""
        loop = asyncio.get_running_loop()
        pause_at = loop.time() + _SLICE
        while self._waiting:
            await self._hand_one_on(on_event, self._waiting[0])
            self._waiting.popleft()
            if loop.time() > pause_at:  # functions that do not wait must not hold up answers
                await asyncio.sleep(0)
                pause_at = loop.time() + _SLICE

    async def _hand_one_on(self, on_event: OnEvent, event: WebhookEvent) -> None:
        try:
            result = on_event(event)
            if inspect.isawaitable(result):
                await result
        except (Exception, asyncio.CancelledError) as error:  # something of the user's may be cancelled
            worker = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and worker is not None and worker.cancelling():
                raise
            number, production_id = event.sequence_number, event.production_id
            _log.exception("on_event failed for event %d of production %s", number, production_id)


def _refusal(headers: Mapping[str, str]) -> int | None:
    """Refuse by the headers alone what need not be read."""
    if any(value != "identity" for value in header_values(headers, "Content-Encoding")):
        return _refused(415, "it is compressed")
    lengths = header_values(headers, "Content-Length")
    if any(isinstance(one, str) and one.isdecimal() and int(one[:9]) > _LARGEST_BODY for one in lengths):
        return _refused(413, "it is too large")
    return None


def _refused(status: int, why: str, level: int = logging.DEBUG) -> int:
    """Say why, for who looks for a fault; no louder, since anybody can send anything, and often."""
    _log.log(level, "a webhook was refused with %d: %s", status, why)
    return status


async def _read(stream: AsyncIterable[bytes]) -> bytes:
    """Read a stream until its end, or just beyond what is allowed. Raises TimeoutError."""
    whole = bytearray()
    async with asyncio.timeout(_DEADLINE):
        async for chunk in stream:
            whole += chunk
            if len(whole) > _LARGEST_BODY:
                break
    return bytes(whole)


class _Door(web.Server):
    """A server of one path, which ends connections that get nowhere, the most silent ones first."""

    def __init__(self, receiver: Receiver, path: str) -> None:
        super().__init__(
            self._answer,
            access_log=None,
            keepalive_timeout=_DEADLINE,
            lingering_time=1.0,  # seconds for the rest of a body that was refused
            auto_decompress=False,
        )
        self._receiver = receiver
        self._path = path
        self._deadlines: OrderedDict[web.RequestHandler, asyncio.TimerHandle] = OrderedDict()

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._begin(handler, transport)
        if len(self._deadlines) > _CONNECTIONS:
            silent, deadline = self._deadlines.popitem(last=False)
            deadline.cancel()
            if silent.transport is not None:
                silent.transport.abort()

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        deadline = self._deadlines.pop(handler, None)
        if deadline is not None:
            deadline.cancel()
        super().connection_lost(handler, exc)

    def _begin(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Give a connection its time for one whole request."""
        self._deadlines[handler] = asyncio.get_running_loop().call_later(_DEADLINE, transport.abort)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            if request.path != self._path:
                why = f"it came to {request.path[:99]!a}, not to {self._path}"
                return web.Response(status=_refused(404, why))
            if request.method != "POST":
                return web.Response(status=_refused(405, "it is no POST"), headers={"Allow": "POST"})
            return await self._receiver.handle(request)
        finally:
            handler = request.protocol
            deadline = self._deadlines.pop(handler, None)
            if deadline is not None and request.transport is not None:
                deadline.cancel()
                self._begin(handler, request.transport)
