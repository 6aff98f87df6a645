"""The client's only access to the network: it sends calls through aiohttp and raises our own errors.

Three kinds of traffic are kept apart. Reads use pooled connections. Each submit gets a fresh connection: on a
pooled one that the server was just closing, 6 % of POSTs were lost without a way to know whether they had
been carried out. Signed URLs use a session that has never seen the API key.

Whether a submit may be sent again depends on whether it left this process. aiohttp calls its trace hook
before it writes the first byte, so if the hook was not called, nothing was sent. A read needs no such proof.
For reads, a middleware, which is cheaper, stops aiohttp from retrying on its own: a retry would be a request
outside of the rate limit.

No aiohttp exception is raised or chained: its `repr` contains the key, its `str` the signed URL, and its
status 400 is often the verdict of its own parser on the response to a request that was carried out.

A signed URL may point anywhere, so each address is checked after name resolution, just before connecting:
only public addresses are allowed, unless the API itself is at a private one. If the user passed a session,
its connector decides instead.
"""

import asyncio
import errno
import socket
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Protocol

import aiohttp
from attrs import define
from yarl import URL

from jarai_async import _clock
from jarai_async._api import wire
from jarai_async._api.calls import Call, Kind
from jarai_async._api.responses import Response, parse_date
from jarai_async._errors import (
    ConfigurationError,
    DownloadError,
    InvalidResponseError,
    JaraiError,
    NoResponseError,
    NotSentError,
)
from jarai_async._secret import Secret
from jarai_async._urls import is_public

Session = aiohttp.ClientSession

_MAX_BODY = 1 << 20  # bytes; a status is under 2 KiB
_MAX_LIST_BODY = 4 << 20  # bytes; more than 100 deliverables with signed URLs fit
_CHUNK = 1 << 16  # bytes
_CONNECT_TIMEOUT = 10.0  # seconds
_BLOB_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=30)


class Sink(Protocol):
    """Receives a file as it arrives. Its exceptions propagate unchanged."""

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Accept or reject the response by its status and headers."""

    async def write(self, chunk: bytes) -> None:
        """Receive the next bytes."""


@define
class Attempts:
    """How often one request was sent.

    `never_sent` is only certain for a submit over a session that the client created. A read passes a
    middleware, because aiohttp would send it again on a connection that the server had closed. A session that
    the user passed may still do so: its own hooks and middlewares are left as they are.
    """

    count: int = 0
    is_traced: bool = False

    @property
    def never_sent(self) -> bool:
        return self.is_traced and self.count == 0

    async def count_once(
        self, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Count an attempt to read, and reject aiohttp's second one: it has no slot of the rate limit."""
        if self.count:
            raise NoResponseError("the server had closed the connection")
        self.count += 1
        return await send(request)


class Transport:
    """Sends calls to one base URL, and reads signed URLs."""

    def __init__(self, base_url: str, session: Session | None = None, *, timeout: float = 30.0) -> None:
        self.base_url = base_url
        # A submit waits by `sock_read`, with `total` far out: after a stall of the event loop `total` would
        # expire although the response is there, and the submit would be uncertain. A read is simply repeated.
        self._submit_timeout = aiohttp.ClientTimeout(
            total=4 * timeout, sock_connect=_CONNECT_TIMEOUT, sock_read=timeout
        )
        self._read_timeout = aiohttp.ClientTimeout(total=2 * timeout, sock_connect=_CONNECT_TIMEOUT)
        self._user_session = session
        self._own_sessions: dict[str, aiohttp.ClientSession] = {}  # by traffic
        self._closed = False
        self._clock_difference = 0.0  # seconds that the server's clock is ahead, by its last list of links

    @property
    def server_time(self) -> float:
        """Unix time by the server's clock, as far as known: signed URLs expire by it."""
        return _clock.wall() + self._clock_difference

    async def send(self, call: Call[Any], api_key: Secret, attempts: Attempts) -> Response:
        """Send a call once and read the complete response. Redirects are not followed.

        Raises NotSentError where it was certainly not sent, otherwise NoResponseError or
        InvalidResponseError. `attempts` counts how often it was sent, also where this raises or is cancelled.
        """
        try:
            return await self._request(call, api_key, attempts)
        except Exception as error:  # noqa: BLE001  # anything that aiohttp raises: it would show the key
            failure = _translated(error, attempts)
        # Raised outside of the handler: it must have no aiohttp error as its context, and no frames that hold
        # a request or a response, which a crash reporter would print.
        raise failure

    async def _request(self, call: Call[Any], api_key: Secret, attempts: Attempts) -> Response:
        async with self._session_for(call.kind).request(
            call.method,
            URL(self.base_url + call.path, encoded=True),
            data=call.body,
            headers=_headers(call, api_key),
            allow_redirects=False,
            raise_for_status=False,
            timeout=self._submit_timeout if call.kind is Kind.SUBMIT else self._read_timeout,
            **self._counting(call.kind, attempts),
        ) as response:
            limit = _MAX_BODY
            if call.kind is Kind.DELIVERABLES:
                limit = _MAX_LIST_BODY
                now = _clock.wall()
                self._clock_difference = (parse_date(response.headers.get("Date")) or now) - now
            return Response(response.status, response.headers, await _read(response, limit))

    def _counting(self, kind: Kind, attempts: Attempts) -> dict[str, Any]:
        if self._user_session is not None:
            attempts.count = 1
            return {}
        if kind is Kind.SUBMIT:
            attempts.is_traced = True
            return {"trace_request_ctx": attempts}
        return {"middlewares": (attempts.count_once,)}

    async def read_blob(self, url: Secret, headers: Mapping[str, str], sink: Sink) -> None:
        """Read a signed URL into a sink: without the key, cookies, redirects or content encodings.

        Raises NotSentError, NoResponseError or InvalidResponseError, none of which contains the URL, and
        DownloadError where the URL leads to an address that is not public.
        """
        try:
            return await self._read_blob(url, headers, sink)
        except Exception as error:  # noqa: BLE001  # as in `send`
            failure = _translated(error, Attempts())
            if isinstance(getattr(error, "os_error", None), _NotPublicError):
                what = "the signed URL leads to an address that is not public"
                is_final = "blobs" in self._own_sessions
                failure = (
                    DownloadError(what)
                    if is_final
                    else NotSentError(f"{what}, and the API's address is not known")
                )
        raise failure  # outside, as in `send`

    async def _read_blob(self, url: Secret, headers: Mapping[str, str], sink: Sink) -> None:
        session = self._own_sessions.get("blobs") or await self._blob_session()
        self._check_open()
        async with session.get(
            URL(url.reveal(), encoded=True),
            headers={"Accept-Encoding": "identity", **headers},
            allow_redirects=False,
            timeout=_BLOB_TIMEOUT,
        ) as response:
            await sink.begin(response.status, response.headers)
            async for chunk in response.content.iter_chunked(_CHUNK):
                await sink.write(chunk)

    def _session_for(self, kind: Kind) -> aiohttp.ClientSession:
        self._check_open()
        if self._user_session is not None:
            return self._user_session
        traffic = "submits" if kind is Kind.SUBMIT else "reads"
        if traffic not in self._own_sessions:
            connector = aiohttp.TCPConnector(limit=0, force_close=kind is Kind.SUBMIT)
            traces = [_attempt_tracer()] if kind is Kind.SUBMIT else []
            self._own_sessions[traffic] = _session(connector, trace_configs=traces)
        return self._own_sessions[traffic]

    async def _blob_session(self) -> aiohttp.ClientSession:
        is_local = await self._is_local()
        self._check_open()
        name = "public blobs" if is_local is None else "blobs"  # the next file looks it up again
        if name not in self._own_sessions:
            if self._user_session is None:
                factory = _open_socket if is_local else _open_public_socket
                connector = aiohttp.TCPConnector(limit=0, socket_factory=factory)
                self._own_sessions[name] = _session(connector, auto_decompress=False)
            else:  # uses its connections, resolver and proxies, but not its headers and cookies
                self._own_sessions[name] = _session(
                    self._user_session.connector,
                    connector_owner=False,
                    trust_env=self._user_session.trust_env,
                    auto_decompress=False,
                )
        return self._own_sessions[name]

    async def _is_local(self) -> bool | None:
        """Whether the API is at a private address: then files may be, too. None if the look-up failed."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(URL(self.base_url).host or "", None)
        except OSError:
            return None
        return not all(is_public(str(address[0])) for *_, address in found)

    def _check_open(self) -> None:
        if self._closed or (self._user_session is not None and self._user_session.closed):
            raise ConfigurationError("the client, or the session that it uses, is closed")

    async def close(self) -> None:
        """Close the sessions that the client created; a session that the user passed stays open."""
        self._closed = True
        for session in self._own_sessions.values():
            await session.close()


def _headers(call: Call[Any], api_key: Secret) -> dict[str, str]:
    headers = {wire.API_KEY: api_key.reveal(), "Accept": "application/json"}
    if call.body is not None:
        headers["Content-Type"] = "application/json"
    if call.idempotency_key is not None:
        headers[wire.IDEMPOTENCY_KEY] = call.idempotency_key
    return headers


def _translated(error: Exception, attempts: Attempts) -> JaraiError:
    """Translate an error without its text, which may contain the key or a signed URL."""
    if isinstance(error, JaraiError):
        return error.with_traceback(None)
    what = f"{type(error).__name__}{_reason(error)}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return ConfigurationError(f"no trusted TLS connection to the server: {what}")
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return NotSentError(f"no connection: {what}")
    if attempts.never_sent:
        return NotSentError(f"not sent: {what}")
    if isinstance(error, aiohttp.ClientResponseError):
        return InvalidResponseError(f"the response is not valid HTTP: {what}")
    return NoResponseError(f"no complete response: {what}")


class _NotPublicError(OSError):
    """A signed URL leads to an address that is not public."""


def _open_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, *_ = info
    return socket.socket(family, kind, protocol)


def _open_public_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    """Open a socket for an address that is about to be connected to."""
    if not is_public(str(info[4][0])):
        raise _NotPublicError(errno.EACCES, "not a public address")
    return _open_socket(info)


def _session(connector: aiohttp.BaseConnector | None, **options: Any) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), **options)


def _attempt_tracer() -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()

    async def count(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
        context.trace_request_ctx.count += 1

    trace.on_request_headers_sent.append(count)
    return trace


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Read a body that may be endless, or a decompression bomb."""
    chunks, size = [], 0
    while chunk := await response.content.readany():
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise InvalidResponseError(f"the response is larger than {limit} bytes")
    return b"".join(chunks)


def _reason(error: Exception) -> str:
    """Return the operating system's description of an error, if there is one."""
    reason = getattr(getattr(error, "os_error", error), "strerror", None)
    return f" ({reason})" if isinstance(reason, str) else ""
