"""The aiohttp sessions of a client, one for each kind of traffic.

Reads use pooled connections. Each submit gets a fresh connection: on a pooled one that the server was just
closing, 6 % of POSTs were lost without a way to know whether they had been carried out. Signed URLs use a
session that has never seen the API key.

A signed URL may point anywhere, so each address is checked after name resolution, just before connecting:
only public addresses are allowed, unless the API itself is at a private one. A proxy resolves names itself,
so then only an address in the URL can be checked.

A session that the user passed is used for everything, and its connector decides which addresses are allowed.
Files are read without its headers, cookies and middlewares.
"""

import asyncio
import errno
import socket
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
from attrs import define
from yarl import URL

from jarai_async._errors import ConfigurationError, NoResponseError
from jarai_async._urls import is_public

Session = aiohttp.ClientSession


class NotPublicError(OSError):
    """A signed URL leads to an address that is not public."""


@define
class Attempts:
    """How often one request was sent.

    `never_sent` is only certain for a submit over a session that the client created: aiohttp calls its trace
    hook before it writes the first byte. A read needs no such proof. It passes a middleware, which is cheaper
    and stops aiohttp from sending it again on its own. A session that the user passed may still do so: its
    own hooks and middlewares are left as they are.
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


class Sessions:
    """The sessions. With `trust_env` those that the client creates use the proxies in the environment."""

    def __init__(self, base_url: str, user_session: Session | None, *, trust_env: bool) -> None:
        self._base_url = URL(base_url)
        self._user_session = user_session
        self._trust_env = trust_env
        self._own: dict[str, Session] = {}  # by traffic
        self._closed = False
        self.api_is_local: bool | None = None
        """Whether the API is at a private address: then files may be, too. None while that is not known."""

    def for_call(self, method: str, attempts: Attempts) -> tuple[Session, dict[str, Any]]:
        """Return the session for a call, and the options of its request that count the attempts."""
        self.check_open()
        if self._user_session is not None:
            attempts.count = 1
            return self._user_session, {}
        if method != "POST":
            options: dict[str, Any] = {"middlewares": (attempts.count_once,)}
            session = self._own.get("reads") or self._open("reads", aiohttp.TCPConnector(limit=0))
        else:
            attempts.is_traced = True
            options = {"trace_request_ctx": attempts}
            session = self._own.get("submits") or self._open(
                "submits",
                aiohttp.TCPConnector(limit=0, force_close=True),
                trace_configs=[_attempt_tracer()],
            )
        return session, options | self._proxy(self._base_url)

    async def for_file(self, url: URL, headers: Mapping[str, str]) -> tuple[Session, dict[str, Any]]:
        """Return the session for a signed URL, and the options of its request.

        Raises NotPublicError for an address in the URL that is not public.
        """
        if self._user_session is not None:
            self.check_open()
            return self._user_session, {"middlewares": (_only(headers),)}
        proxy = self._proxy(url)
        if self.api_is_local is None:
            self.api_is_local = await self._look_up_api()
        self.check_open()
        if proxy and not self.api_is_local and _is_private_address(url.host or ""):
            raise NotPublicError(errno.EACCES, "not a public address")
        is_checked = not (proxy or self.api_is_local)
        traffic = "public files" if is_checked else "files"
        factory = _open_public_socket if is_checked else _open_socket
        session = self._own.get(traffic) or self._open(
            traffic, aiohttp.TCPConnector(limit=0, socket_factory=factory)
        )
        return session, proxy

    def _open(self, traffic: str, connector: aiohttp.BaseConnector, **options: Any) -> Session:
        jar = aiohttp.DummyCookieJar()
        self._own[traffic] = aiohttp.ClientSession(connector=connector, cookie_jar=jar, **options)
        return self._own[traffic]

    def _proxy(self, url: URL) -> dict[str, Any]:
        """Return the proxy for a URL. aiohttp's own `trust_env` would also send passwords from netrc."""
        if not self._trust_env or not url.host or proxy_bypass(url.host):
            return {}
        proxy = getproxies().get(url.scheme)
        return {"proxy": proxy if "://" in proxy else f"http://{proxy}"} if proxy else {}

    async def _look_up_api(self) -> bool | None:
        """Return whether the API is at a private address; None if the look-up failed, perhaps for now."""
        host = self._base_url.host or ""
        if self._proxy(self._base_url):
            return _is_private_address(host)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, None)
        except OSError:
            return None
        return not all(is_public(str(address[0])) for *_, address in found)

    @property
    def is_open(self) -> bool:
        """Whether there are sessions that `close` would close."""
        return bool(self._own) and not self._closed

    def check_open(self) -> None:
        """Raise ConfigurationError once the client or the user's session is closed."""
        if self._closed or (self._user_session is not None and self._user_session.closed):
            raise ConfigurationError("the client, or the session that it uses, is closed")

    async def close(self) -> None:
        """Close the sessions that the client created; a session that the user passed stays open."""
        self._closed = True
        for session in self._own.values():
            await session.close()


def _only(headers: Mapping[str, str]) -> aiohttp.ClientMiddlewareType:
    """Return a middleware that removes what a session adds to a request: headers, cookies and passwords."""
    kept = {"host", "accept", "user-agent", *(name.lower() for name in headers)}

    async def send_only(
        request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        for name in set(request.headers):
            if name.lower() not in kept:
                request.headers.popall(name, None)
        return await send(request)

    return send_only


def _is_private_address(host: str) -> bool:
    """Whether a host is an address rather than a name, and not public: also in the forms of `inet_aton`."""
    try:
        host = socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return ":" in host and not is_public(host)
    return not is_public(host)


def _open_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, *_ = info
    return socket.socket(family, kind, protocol)


def _open_public_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    """Open a socket for an address that is about to be connected to."""
    if not is_public(str(info[4][0])):
        raise NotPublicError(errno.EACCES, "not a public address")
    return _open_socket(info)


def _attempt_tracer() -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()

    async def count(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
        context.trace_request_ctx.count += 1

    trace.on_request_headers_sent.append(count)
    return trace
