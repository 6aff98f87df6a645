"""Servers that this project did not write: blob storage with signed URLs, each a process that can be killed.

`Azurite` (npm package `azurite`, found by the environment variable AZURITE or on the path), `Moto` (S3) and
`Nginx` store files by name and sign URLs to them.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import importlib
import io
import os
import shutil
import signal
import socket
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp

_STARTS_WITHIN = 30.0  # seconds
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # public
_VERSION = "2018-11-09"  # of Azure's REST API


class NotInstalledError(Exception):
    """A server is not installed on this machine."""


class RealServer:
    """A process on a free port of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: asyncio.subprocess.Process | None = None

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        raise NotImplementedError

    async def store(self, files: dict[str, bytes]) -> None:
        """Store files. The server is running."""
        raise NotImplementedError

    def link(self, name: str, valid: float) -> str:
        """Return a signed URL that is valid for this many seconds."""
        raise NotImplementedError

    async def start(self) -> None:
        """Start the process, and wait until it accepts connections."""
        with (self.folder / "server.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*self.command(), stdout=log, stderr=log)
        until = time.monotonic() + _STARTS_WITHIN
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except ConnectionRefusedError:
                if self._process.returncode is not None or time.monotonic() > until:
                    await self.stop()
                    raise
                await asyncio.sleep(0.02)
            else:
                return writer.close()

    async def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the process, in the middle of whatever it does."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
            await self._process.wait()
            self._process = None


def _installed(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise NotInstalledError(f"{program} is not installed")
    return path


class Azurite(RealServer):
    """Azure's blob storage: strong ETags, MD5, ranges, and SAS links that expire."""

    def command(self) -> list[str]:
        program = os.environ.get("AZURITE") or _installed("azurite-blob")
        storage = ["--location", str(self.folder), "--silent", "--skipApiVersionCheck"]
        return [program, "--blobHost", "127.0.0.1", "--blobPort", str(self.port), *storage]

    async def store(self, files: dict[str, bytes]) -> None:
        async with aiohttp.ClientSession() as session:
            container = f"{self.origin}/{_ACCOUNT}/files?restype=container&{self._sas('rwc', 'c', 600)}"
            async with session.put(container, headers={"x-ms-version": _VERSION}) as response:
                _check(response)
            headers = {"x-ms-version": _VERSION, "x-ms-blob-type": "BlockBlob"}
            for name, data in files.items():
                url = f"{self.origin}/{_ACCOUNT}/files/{quote(name)}?{self._sas('rwc', 'o', 600)}"
                async with session.put(url, data=io.BytesIO(data), headers=headers) as response:
                    _check(response)
        await self.stop(signal.SIGTERM)  # so that it saves its index, which it otherwise does every 5 seconds
        await self.start()

    def link(self, name: str, valid: float) -> str:
        return f"{self.origin}/{_ACCOUNT}/files/{quote(name)}?{self._sas('r', 'o', valid)}"

    def _sas(self, permissions: str, resource: str, valid: float) -> str:
        expiry = (datetime.now(UTC) + timedelta(seconds=valid)).strftime("%Y-%m-%dT%H:%M:%SZ")
        signed = [_ACCOUNT, permissions, "b", resource, "", expiry, "", "http,https", _VERSION, ""]
        digest = hmac.new(base64.b64decode(_KEY), "\n".join(signed).encode(), hashlib.sha256).digest()
        return urlencode(
            {
                "sv": _VERSION,
                "ss": "b",
                "srt": resource,
                "sp": permissions,
                "se": expiry,
                "spr": "http,https",
                "sig": base64.b64encode(digest).decode(),
            }
        )


class Moto(RealServer):
    """S3: strong ETags, ranges, no MD5 header. It keeps files in memory, so each start stores them again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._files: dict[str, bytes] = {}

    def command(self) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    async def start(self) -> None:
        await super().start()
        if self._files:
            await self.store(self._files)

    async def store(self, files: dict[str, bytes]) -> None:
        self._files = files
        async with aiohttp.ClientSession() as session:
            async with session.put(f"{self.origin}/files") as response:
                _check(response)
            for name, data in files.items():
                async with session.put(
                    f"{self.origin}/files/{quote(name)}", data=io.BytesIO(data)
                ) as response:
                    _check(response)

    def link(self, name: str, valid: float) -> str:
        try:
            boto3: Any = importlib.import_module("boto3")  # slow, and only this server needs it
        except ImportError:
            raise NotInstalledError("moto[server] is not installed") from None
        credentials = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
        client = boto3.client("s3", endpoint_url=self.origin, region_name="us-east-1", **credentials)
        parameters = {"Bucket": "files", "Key": name}
        return str(client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=int(valid)))


class Nginx(RealServer):
    """Plain files, without ETags, and compressed for clients that accept it."""

    extra = "etag off; gzip on; gzip_types *; gzip_min_length 1;"
    location = "root files;"

    def command(self) -> list[str]:
        configuration = self.folder / "nginx.conf"
        (self.folder / "files").mkdir(exist_ok=True)
        paths = " ".join(
            f"{name}_temp_path {self.folder}/{name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        configuration.write_text(
            f"daemon off; master_process off; pid {self.folder}/pid; error_log stderr;\n"
            f"events {{ worker_connections 4096; }}\n"
            f"http {{ access_log off; {paths} {self.extra}\n"
            f"  server {{ listen 127.0.0.1:{self.port} backlog=4096; location / {{ {self.location} }} }} }}\n"
        )
        return [_installed("nginx"), "-p", str(self.folder), "-c", str(configuration)]

    async def store(self, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            (self.folder / "files" / name).write_bytes(data)

    def link(self, name: str, valid: float) -> str:
        return f"{self.origin}/{quote(name)}?sig=unchecked&valid={valid:.0f}"


class NginxProxy(Nginx):
    """A reverse proxy in front of an API."""

    extra = ""

    def __init__(self, folder: Path, upstream: str) -> None:
        super().__init__(folder)
        self.location = f"proxy_pass {upstream}; proxy_http_version 1.1; proxy_set_header Connection '';"


def _check(response: aiohttp.ClientResponse) -> None:
    if response.status not in (200, 201, 409):  # 409: it exists
        raise RuntimeError(f"the server responded with {response.status} to {response.method}")
