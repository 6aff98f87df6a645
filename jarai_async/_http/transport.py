"""The client's only access to the network: it sends calls through aiohttp and raises our own errors.

Whether a submit may be sent again depends on whether it left this process, so `Attempts` counts how often.
A response counts as soon as its head has arrived: if its body is lost, the response says so.

No aiohttp exception is raised or chained: its `repr` contains the key, its `str` the signed URL, and its
status 400 is often the verdict of its own parser on the response to a request that was carried out.
"""

import asyncio
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Protocol

import aiohttp
from aiohttp.http import HttpProcessingError
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
    TransportError,
)
from jarai_async._http.sessions import Attempts, NotPublicError, Session, Sessions
from jarai_async._secret import Secret
from jarai_async._urls import is_http_url, joined_url, percent_encoded

_USER_AGENT = f"jarai-async/{version('jarai-async')}"
_MAX_BODY = 1 << 20  # bytes; a status is under 2 KiB
_MAX_LIST_BODY = 4 << 20  # bytes; more than 100 deliverables with signed URLs fit
_FILE_BUFFER = 1 << 19  # bytes: aiohttp reads up to twice this ahead
_HEAD_LIMITS: Mapping[str, Any] = {  # aiohttp's own are 8 KiB and 128 headers
    "max_line_size": 1 << 15,
    "max_field_size": 1 << 15,
    "max_headers": 1000,
}
_CONNECT_TIMEOUT = 10.0  # seconds
_UNTRUSTED = (aiohttp.ClientConnectorCertificateError, aiohttp.ServerFingerprintMismatch)
_NOT_CONNECTED = (  # the last: a proxy refused to open a tunnel
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.ClientHttpProxyError,
)
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 5
_NETWORK_ERRORS = (aiohttp.ClientError, HttpProcessingError, OSError, TimeoutError)


class Sink(Protocol):
    """Receives a file as it arrives. Its exceptions propagate unchanged."""

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Accept or reject the response by its status and headers."""

    async def write(self, chunk: bytes) -> None:
        """Receive the next bytes."""


class Transport:
    """Sends calls to one base URL, and reads signed URLs."""

    def __init__(
        self,
        base_url: str,
        session: Session | None = None,
        *,
        timeout: float = 30.0,
        trust_env: bool = False,
    ) -> None:
        self.base_url = base_url
        self.reached: bool = False
        """Whether the server ever responded: then a failing connection is an outage, not a wrong URL."""
        # A submit waits by `sock_read`, with `total` far out: after a stall of the event loop `total` would
        # expire although the response is there, and the submit would be uncertain. A read is simply repeated.
        # Not aiohttp's own `total`: it loses a cancellation of the task that comes at the same time.
        self._submit_total, self._read_total = 4 * timeout, 2 * timeout
        self._read_timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT)
        self._submit_timeout = self._file_timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=timeout
        )
        self._sessions = Sessions(base_url, session, trust_env=trust_env)
        self._files_reached = False
        self._clock_difference = 0.0  # seconds that the server's clock is ahead, by its last list of links

    @property
    def server_time(self) -> float:
        """Unix time by the server's clock, as far as known: signed URLs expire by it."""
        return _clock.wall() + self._clock_difference

    async def send(self, call: Call[Any], api_key: Secret, attempts: Attempts) -> Response:
        """Send a call once and read the response. Redirects are not followed.

        Raises NotSentError where it was certainly not sent, otherwise NoResponseError or
        InvalidResponseError; JaraiError for an error that is not of the network. `attempts` counts how often
        it was sent, also where this raises or is cancelled.
        """
        try:
            response = await self._request(call, api_key, attempts)
        except Exception as error:  # noqa: BLE001  # anything that aiohttp raises: it would show the key
            failure = _translated(error, attempts, reached=self.reached)
        else:
            self.reached = True
            return response
        # Raised outside of the handler: it must have no aiohttp error as its context, and no frames that hold
        # a request or a response, which a crash reporter would print.
        raise failure

    async def _request(self, call: Call[Any], api_key: Secret, attempts: Attempts) -> Response:
        session, options = self._sessions.for_call(call.method, attempts)
        headers = _headers(call, api_key)
        if wire.USER_AGENT not in session.headers:  # else it is the choice of the user's session
            headers[wire.USER_AGENT] = _USER_AGENT
        is_submit = call.method == "POST"
        end = _clock.monotonic() + (self._submit_total if is_submit else self._read_total)
        async with asyncio.timeout_at(end):
            response = await session.request(
                call.method,
                URL(self.base_url + call.path, encoded=True),
                data=call.body,
                headers=headers,
                allow_redirects=False,
                raise_for_status=False,
                timeout=self._submit_timeout if is_submit else self._read_timeout,
                **_HEAD_LIMITS,
                **options,
            )
        async with response:
            limit = _MAX_BODY
            if call.kind is Kind.DELIVERABLES:
                limit = _MAX_LIST_BODY
                now = _clock.wall()
                self._clock_difference = (parse_date(response.headers.get("Date")) or now) - now
            body, failure = await _read(response, limit, end)
            return Response(response.status, response.headers, body, failure)

    async def read_blob(self, url: Secret, headers: Mapping[str, str], sink: Sink) -> None:
        """Read a signed URL into a sink: without the key, cookies or content encodings.

        At most five redirects are followed, each checked like the URL, and none from https to http.
        Raises NotSentError, NoResponseError or InvalidResponseError, none of which contains the URL, and
        DownloadError where a redirect is not allowed or the URL leads to an address that is not public.
        """
        try:
            return await self._read_blob(url, headers, sink)
        except Exception as error:  # noqa: BLE001  # as in `send`
            failure = _translated(error, Attempts(), reached=self._files_reached)
            if isinstance(getattr(error, "os_error", error), NotPublicError):
                what = "the signed URL leads to an address that is not public"
                if self._sessions.api_is_local is None:
                    failure = NotSentError(f"{what}, and the API's address is not known")
                else:
                    failure = DownloadError(what)
        raise failure  # outside, as in `send`

    async def _read_blob(self, url: Secret, headers: Mapping[str, str], sink: Sink) -> None:
        headers = {"Accept-Encoding": "identity", **headers}
        for _ in range(_MAX_REDIRECTS + 1):
            target = URL(url.reveal(), encoded=True)
            session, options = await self._sessions.for_file(target, headers)
            async with session.get(
                target,
                headers=headers,
                allow_redirects=False,
                raise_for_status=False,
                auto_decompress=False,
                read_bufsize=_FILE_BUFFER,
                timeout=self._file_timeout,
                **_HEAD_LIMITS,
                **options,
            ) as response:
                self._files_reached = True
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or not location:
                    await sink.begin(response.status, response.headers)
                    async for chunk, _ in response.content.iter_chunks():  # `iter_any` would copy them
                        await sink.write(chunk)
                    return
            url = _redirected(url, location)
        raise DownloadError(f"the signed URL leads to more than {_MAX_REDIRECTS} redirects")

    @property
    def is_open(self) -> bool:
        """Whether it has sessions of its own that must be closed."""
        return self._sessions.is_open

    async def close(self) -> None:
        """Close the sessions that the client created; a session that the user passed stays open."""
        await self._sessions.close()


def _redirected(url: Secret, location: str) -> Secret:
    """Return the URL that a redirect leads to. Raises DownloadError where it may not be requested."""
    target = percent_encoded(joined_url(url.reveal(), location))
    if not is_http_url(target, https_only=url.reveal().lower().startswith("https:")):
        raise DownloadError("the signed URL redirects to an address that is not a valid https URL")
    return Secret(target)


def _headers(call: Call[Any], api_key: Secret) -> dict[str, str]:
    headers = {wire.API_KEY: api_key.reveal(), "Accept": "application/json"}
    if call.body is not None:
        headers["Content-Type"] = "application/json"
    if call.idempotency_key is not None:
        headers[wire.IDEMPOTENCY_KEY] = call.idempotency_key
    return headers


def _translated(error: Exception, attempts: Attempts, *, reached: bool = False) -> JaraiError:
    """Translate an error without its text, which may contain the key or a signed URL.

    `reached`: the server has responded before, so a certificate that is not trusted is an outage.
    """
    if isinstance(error, JaraiError):
        return error.with_traceback(None)
    what = f"{type(error).__name__}{_reason(error)}"
    if not isinstance(error, _NETWORK_ERRORS):
        return JaraiError(
            f"an error that is not of the network, perhaps in the session that you passed: {what}"
        )
    if not reached and isinstance(error, _UNTRUSTED):
        return ConfigurationError(f"no trusted TLS connection to the server: {what}")
    if attempts.never_sent or isinstance(error, _NOT_CONNECTED):
        return NotSentError(f"no connection: {what}")
    if isinstance(error, aiohttp.ClientResponseError):
        return InvalidResponseError(f"the response is not valid HTTP: {what}")
    return NoResponseError(f"no complete response: {what}")


async def _read(
    response: aiohttp.ClientResponse, limit: int, end: float
) -> tuple[bytes, TransportError | None]:
    """Read a body that may be lost, endless, or a decompression bomb; return also why it is not complete.

    It has to be complete at `end`, in seconds of the monotonic clock.
    """
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout_at(None if response.content.is_eof() else end):  # a timer costs as much
            while chunk := await response.content.readany():
                chunks.append(chunk)
                size += len(chunk)
                if size > limit:
                    return b"", InvalidResponseError(f"the response is larger than {limit} bytes")
    except _NETWORK_ERRORS as error:
        return b"".join(chunks), NoResponseError(
            f"no complete response: {type(error).__name__}{_reason(error)}"
        )
    return b"".join(chunks), None


def _reason(error: Exception) -> str:
    """Return the operating system's description of an error, if there is one."""
    reason = getattr(getattr(error, "os_error", error), "strerror", None)
    return f" ({reason})" if isinstance(reason, str) else ""
