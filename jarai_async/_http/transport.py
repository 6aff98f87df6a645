"""The one door to the network for the client: aiohttp in, `Answer` or our own errors out.

Three kinds of traffic, kept apart. Reads use pooled connections. Submits get a fresh connection each: on a
pooled one that the server is just closing, 6 % of POSTs were lost with no way to tell whether they had
been carried out. Signed URLs use a session that has never seen the API key.

Whether a submit left at all decides whether it is safe to send again. aiohttp's trace hook fires before the
first byte is written: where it did not fire, nothing was sent. A read needs no such proof; a middleware,
which is cheaper, keeps aiohttp from sending one again by itself: outside of the budget, that causes 429s.

No exception of aiohttp's escapes or is chained: its `repr` holds the key, its `str` the signed URL, and its
status 400 is often the verdict of its own parser on an answer to a request that was carried out.

A signed URL may lead anywhere, so where it leads is checked on the very address that is connected to, when
its name has been looked up: only to one of the public internet, unless the API itself is at another. Over a
session of the caller's own, its connector decides instead.
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

_LARGEST_ANSWER = 1 << 20  # bytes; a status is under 2 KiB
_LARGEST_LIST = 4 << 20  # bytes; more than 100 deliverables with signed URLs fit
_CHUNK = 1 << 16  # bytes
# Seconds. A submit waits by `sock_read`, with `total` far out: after a stall of the loop `total` fires
# although the answer is there, and its submit would be uncertain. A read is simply made again.
_SUBMIT_TIMEOUT = aiohttp.ClientTimeout(total=120, sock_connect=10, sock_read=30)
_READ_TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=10)
_BLOB_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30)


class Sink(Protocol):
    """Where a file goes as it arrives. What it raises is passed on as it is."""

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Accept or refuse the answer by its status and headers."""

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes."""


@define
class Attempts:
    """How often one request was on the wire.

    `unsent` is True where it provably never was: for a submit over a session of ours. A read goes through a
    middleware, since aiohttp would send it again by itself on a connection that had gone; the session of a
    caller may do so, for its own hooks and middlewares are left alone.
    """

    count: int = 0
    proof: bool = False

    @property
    def unsent(self) -> bool:
        return self.proof and self.count == 0

    async def counted(
        self, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Count an attempt of a read, and refuse aiohttp's second one: it has no turn in the budget."""
        if self.count:
            raise NoResponseError("the connection had gone")
        self.count += 1
        return await send(request)


class Transport:
    """Sends calls to one base URL, and reads signed URLs."""

    def __init__(self, base_url: str, session: Session | None = None) -> None:
        self._base_url = base_url
        self._given = session
        self._made: dict[str, aiohttp.ClientSession] = {}  # by the traffic that it carries
        self._closed = False
        self._ahead = 0.0  # seconds by which the server's clock is ahead, as it last gave us links

    @property
    def server_time(self) -> float:
        """Seconds since the epoch by the server's clock, as far as that is known: it says when links end."""
        return _clock.wall() + self._ahead

    async def send(self, call: Call[Any], api_key: Secret, attempts: Attempts) -> Response:
        """Send a call once and read its whole answer. A redirect is an answer too, and never followed.

        Raises NotSentError where it provably never left, else NoResponseError or InvalidResponseError.
        `attempts` counts how often it was on the wire, also where this raises or is cancelled.
        """
        try:
            return await self._exchange(call, api_key, attempts)
        except Exception as error:  # noqa: BLE001  # whatever aiohttp raises: a foreign exception shows the key
            failure = _translated(error, attempts)
        # outside of the handler, so that it has neither an aiohttp error as its context nor frames that
        # hold a request or a response: a crash reporter would print them
        raise failure

    async def _exchange(self, call: Call[Any], api_key: Secret, attempts: Attempts) -> Response:
        async with self._session_for(call.kind).request(
            call.method,
            URL(self._base_url + call.path, encoded=True),
            data=call.body,
            headers=_headers(call, api_key),
            allow_redirects=False,
            raise_for_status=False,
            timeout=_SUBMIT_TIMEOUT if call.kind is Kind.SUBMIT else _READ_TIMEOUT,
            **self._counting(call.kind, attempts),
        ) as response:
            limit = _LARGEST_ANSWER
            if call.kind is Kind.DELIVERABLES:
                limit = _LARGEST_LIST
                self._ahead = (parse_date(response.headers.get("Date")) or _clock.wall()) - _clock.wall()
            return Response(response.status, response.headers, await _read(response, limit))

    def _counting(self, kind: Kind, attempts: Attempts) -> dict[str, Any]:
        if self._given is not None:
            attempts.count = 1
            return {}
        if kind is Kind.SUBMIT:
            attempts.proof = True
            return {"trace_request_ctx": attempts}
        return {"middlewares": (attempts.counted,)}

    async def read_blob(self, url: Secret, headers: Mapping[str, str], sink: Sink) -> None:
        """Read a signed URL into a sink, without the key, a cookie, a redirect or an encoding.

        Raises NotSentError, NoResponseError or InvalidResponseError, none of which names the URL, and
        DownloadError where it leads to an address that is not public.
        """
        try:
            return await self._read_blob(url, headers, sink)
        except Exception as error:  # noqa: BLE001  # as in `send`
            failure = _translated(error, Attempts())
            if isinstance(getattr(error, "os_error", None), _NotPublicError):
                failure = DownloadError("the signed URL leads to an address that is not public")
        raise failure  # outside, as in `send`

    async def _read_blob(self, url: Secret, headers: Mapping[str, str], sink: Sink) -> None:
        session = self._made.get("blobs") or await self._blob_session()
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
        if self._given is not None:
            return self._given
        traffic = "submits" if kind is Kind.SUBMIT else "reads"
        if traffic not in self._made:
            connector = aiohttp.TCPConnector(limit=0, force_close=kind is Kind.SUBMIT)
            traces = [_counting_attempts()] if kind is Kind.SUBMIT else []
            self._made[traffic] = _session(connector, trace_configs=traces)
        return self._made[traffic]

    async def _blob_session(self) -> aiohttp.ClientSession:
        factory = _open_socket if await self._is_local() else _open_public_socket
        self._check_open()
        if "blobs" not in self._made:
            if self._given is None:
                connector = aiohttp.TCPConnector(limit=0, socket_factory=factory)
                self._made["blobs"] = _session(connector, auto_decompress=False)
            else:  # its connections, resolver and proxies, but none of its headers and cookies
                self._made["blobs"] = _session(
                    self._given.connector,
                    connector_owner=False,
                    trust_env=self._given.trust_env,
                    auto_decompress=False,
                )
        return self._made["blobs"]

    async def _is_local(self) -> bool:
        """Whether the API is at an address that is not public: files may be, then, too."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(URL(self._base_url).host or "", None)
        except OSError:
            return False
        return not all(is_public(str(address[0])) for *_, address in found)

    def _check_open(self) -> None:
        if self._closed or (self._given is not None and self._given.closed):
            raise ConfigurationError("the client, or the session that it was given, is closed")

    async def close(self) -> None:
        """Close what was opened here; a session that was given stays open."""
        self._closed = True
        for session in self._made.values():
            await session.close()


def _headers(call: Call[Any], api_key: Secret) -> dict[str, str]:
    headers = {wire.API_KEY: api_key.reveal(), "Accept": "application/json"}
    if call.body is not None:
        headers["Content-Type"] = "application/json"
    if call.idempotency_key is not None:
        headers[wire.IDEMPOTENCY_KEY] = call.idempotency_key
    return headers


def _translated(error: Exception, attempts: Attempts) -> JaraiError:
    """Name a failure without its text, which may hold the key or a signed URL."""
    if isinstance(error, JaraiError):
        return error.with_traceback(None)
    what = f"{type(error).__name__}{_reason(error)}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return ConfigurationError(f"no trusted TLS connection to the server: {what}")
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return NotSentError(f"no connection: {what}")
    if attempts.unsent:
        return NotSentError(f"not sent: {what}")
    if isinstance(error, aiohttp.ClientResponseError):
        return InvalidResponseError(f"what came back is not HTTP: {what}")
    return NoResponseError(f"no whole answer: {what}")


class _NotPublicError(OSError):
    """A signed URL leads where it has no business."""


def _open_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, *_ = info
    return socket.socket(family, kind, protocol)


def _open_public_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    """Open a socket for one address, found already, that is just to be connected to."""
    if not is_public(str(info[4][0])):
        raise _NotPublicError(errno.EACCES, "not a public address")
    return _open_socket(info)


def _session(connector: aiohttp.BaseConnector | None, **options: Any) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), **options)


def _counting_attempts() -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()

    async def count(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
        context.trace_request_ctx.count += 1

    trace.on_request_headers_sent.append(count)
    return trace


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Read a body that may be endless, or a bomb of compressed zeros."""
    chunks, size = [], 0
    while chunk := await response.content.readany():
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise InvalidResponseError(f"the answer is larger than {limit} bytes")
    return b"".join(chunks)


def _reason(error: Exception) -> str:
    """Give the operating system's words for it, where it has any."""
    reason = getattr(getattr(error, "os_error", error), "strerror", None)
    return f" ({reason})" if isinstance(reason, str) else ""
