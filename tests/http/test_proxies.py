"""Proxies, and what a session of the user must not add to a request for a file."""

import ssl
from pathlib import Path

import aiohttp
import pytest

from jarai_async import Deliverable, DownloadError, JaraiClient, NotSentError
from jarai_async.simulator import Simulator
from tests.support.certificates import server_context
from tests.support.proxy import open_proxy
from tests.support.raw_server import reply_with, server
from tests.support.scenarios import request_for

LIST = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"
FILE = b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: "1"\r\n\r\nok'


@pytest.fixture
async def video(simulator: Simulator, client: JaraiClient) -> Deliverable:
    production = await client.submit(request_for(simulator))
    await client.wait(production.id)
    return (await client.deliverables(production.id))[0]


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def test_requests_and_downloads_use_the_proxy_of_the_session(
    simulator: Simulator, video: Deliverable, tmp_path: Path
) -> None:
    """One that is given to the session reaches the files as well."""
    async with (
        open_proxy() as (proxy, received),
        aiohttp.ClientSession(proxy=proxy) as session,
        JaraiClient(simulator.api_key, base_url=simulator.base_url, session=session) as client,
    ):
        await client.accounts()
        await client.download(video, tmp_path)
    assert len(received) == 2
    assert received[0].startswith(b"GET " + simulator.base_url.encode())
    assert received[1].startswith(b"GET " + video.url.partition("?")[0].encode())


@pytest.mark.parametrize("scheme", ["http://", ""])
async def test_proxy_of_the_environment_is_used_if_asked_for(
    simulator: Simulator, video: Deliverable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """HTTP_PROXY applies to requests and files, except for the hosts in NO_PROXY."""
    async with open_proxy() as (proxy, received):
        monkeypatch.setenv("HTTP_PROXY", proxy.replace("http://", scheme))
        for trust_env, excepted, count in ((False, "", 0), (True, "127.0.0.1", 0), (True, "", 3)):
            monkeypatch.setenv("NO_PROXY", excepted)
            async with JaraiClient(
                simulator.api_key, base_url=simulator.base_url, trust_env=trust_env
            ) as client:
                await client.accounts()
                await client.submit(request_for(simulator))
                await client.download(video, tmp_path / str(count))
            assert len(received) == count


async def test_https_goes_through_a_tunnel(tmp_path: Path) -> None:
    """The proxy sees the host only."""
    context, certificate = server_context(tmp_path, "api")
    tls = ssl.create_default_context(cafile=certificate)
    async with (
        server(reply_with(LIST), ssl_context=context) as (url, received),
        open_proxy() as (proxy, tunnels),
        aiohttp.ClientSession(proxy=proxy, connector=aiohttp.TCPConnector(ssl=tls)) as session,
        JaraiClient("jarai_test_x", base_url=url, session=session) as client,
    ):
        assert await client.accounts() == []
        assert len(received) == 1
    (tunnel,) = tunnels
    assert tunnel.startswith(b"CONNECT " + url.removeprefix("https://").encode())
    assert b"jarai_test_x" not in tunnel


async def test_request_whose_tunnel_is_refused_was_not_sent(simulator: Simulator) -> None:
    """The proxy's 502 says nothing about JARAI, so a submit is not uncertain."""
    async with (
        open_proxy(refuse=True) as (proxy, _),
        aiohttp.ClientSession(proxy=proxy) as session,
        JaraiClient("jarai_test_x", base_url="https://127.0.0.1:9", session=session) as client,
    ):
        with pytest.raises(NotSentError):
            await client.submit(request_for(simulator))


async def test_private_address_in_a_signed_url_is_refused_before_a_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy resolves names itself, so only an address in the URL can be checked."""
    async with open_proxy(host="127.0.0.1") as (proxy, received), server(reply_with(FILE)) as (url, _):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        with pytest.warns(UserWarning, match="unencrypted"):
            client = JaraiClient("jarai_test_x", base_url="http://api.invalid", trust_env=True)
        port = url.rpartition(":")[2]
        async with client:
            for host in ("127.0.0.1", "127.1", "2130706433", "[::1]", "[64:ff9b::10.0.0.1]"):
                with pytest.raises(DownloadError, match="not public"):
                    await client.download(Deliverable("Video", f"http://{host}:{port}/a"), tmp_path)
            assert received == []
            await client.download(Deliverable("Video", f"http://files.invalid:{port}/a"), tmp_path / "file")
        assert len(received) == 1


async def test_redirect_to_a_private_address_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is checked like the signed URL itself."""
    redirect = b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/a\r\nContent-Length: 0\r\n\r\n"
    async with open_proxy(host="127.0.0.1") as (proxy, received), server(reply_with(redirect)) as (url, _):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        with pytest.warns(UserWarning, match="unencrypted"):
            client = JaraiClient("jarai_test_x", base_url="http://api.invalid", trust_env=True)
        async with client:
            with pytest.raises(DownloadError, match="not public"):
                await client.download(
                    Deliverable("Video", url.replace("127.0.0.1", "files.invalid")), tmp_path
                )
    assert len(received) == 1


async def test_request_for_a_file_carries_no_password_cookie_or_header_of_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither from netrc nor from the session; the client's own sessions never read netrc."""
    (tmp_path / "netrc").write_text("default login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with (
        server(reply_with(FILE)) as (url, received),
        aiohttp.ClientSession(
            trust_env=True,
            headers={"X-API-Key": "mine", "Authorization-2": "secret", "Accept-Encoding": "gzip"},
            cookies={"a": "secret"},
            cookie_jar=aiohttp.CookieJar(unsafe=True),
        ) as session,
    ):
        for options in ({"session": session}, {"trust_env": True}):
            async with JaraiClient("jarai_test_x", base_url=url, **options) as client:
                await client.download(Deliverable("Video", url), tmp_path)
        async with JaraiClient("jarai_test_x", base_url=url, trust_env=True) as client:
            with pytest.raises(Exception, match="JSON"):
                await client.accounts()
    names = [{line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:-2]} for head in received]
    file_headers = {b"host", b"accept", b"accept-encoding", b"user-agent"}
    assert names[:2] == [file_headers] * 2
    assert b"identity" in received[0].split(b"Accept-Encoding:")[1].split(b"\r\n")[0]
    assert b"authorization" not in b"".join(received).lower()
