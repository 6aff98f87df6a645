"""A folder in object storage (S3, Google Cloud Storage, Azure), by the library obstore.

A file is downloaded and verified on this machine, in a temporary folder, and then put into the storage, where
it appears completely or not at all. Its event is recorded after that. The path of a file in events is its key
below the URL that was given, so it is the same on every host.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import obstore
from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import ObjectStore, from_url

from jarai_async._api.models import Deliverable
from jarai_async._downloads.downloader import Downloader
from jarai_async._downloads.files import Disk
from jarai_async._downloads.folder import MANIFEST, belongs_to_another, parsed_manifest
from jarai_async._errors import ConfigurationError, FileWriteError, JaraiError
from jarai_async._events import SavedFile
from jarai_async._http.request_log import RequestLog
from jarai_async._http.retry import Retrier
from jarai_async._printable import first_line

_NOT_REPEATED = (InvalidPathError, NotFoundError, PermissionDeniedError, UnauthenticatedError)
_ERRORS = (BaseError, OSError, ValueError)
_HEADS_AT_ONCE = 8


class _UnavailableError(FileWriteError):
    """Object storage does not respond, or not properly: it may later."""


class ObjectFolder:
    """A folder in object storage. Credentials come from the environment, as obstore documents it."""

    def __init__(self, url: str, disk: Disk, downloader: Downloader) -> None:
        try:
            self._store: ObjectStore = from_url(url)
        except _ERRORS as error:
            raise ConfigurationError(f"download_to cannot be used: {first_line(error)}") from None
        self._url = url.rstrip("/")
        self._disk = disk
        self._downloader = downloader
        self._scratch: TemporaryDirectory[str] | None = None

    @property
    def location(self) -> str | None:
        """Its URL."""
        return self._url

    async def open(self) -> None:
        """Check that it can be read. Raises FileWriteError."""
        if self._scratch is None:
            self._scratch = await self._disk.run(lambda: TemporaryDirectory(prefix="jarai-"))
        try:
            async for _ in obstore.list(self._store, chunk_size=1):
                break
        except _ERRORS as error:
            raise FileWriteError(f"{self._url}: {first_line(error)}") from None

    async def close(self) -> None:
        """Remove the temporary folder."""
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            await self._disk.run(scratch.cleanup)

    def place(self, name: str) -> Path:
        """Return the key of a production's folder."""
        return Path(name)

    async def prepare(self, name: str, production_id: str) -> None:
        """Check whose folder it is. Raises FileWriteError."""
        if belongs_to_another(await self.manifest(name), production_id):
            raise FileWriteError(f"the folder belongs to another production: {self._url}/{name}")

    async def whole(self, files: Mapping[Path, SavedFile]) -> set[Path]:
        """Return those of the files that are there, with the size that they had."""
        slots = asyncio.Semaphore(_HEADS_AT_ONCE)

        async def size(path: Path) -> int | None:
            async with slots:
                try:
                    return (await obstore.head_async(self._store, path.as_posix()))["size"]
                except _ERRORS:
                    return None  # then it is downloaded and put again, which says what is wrong

        sizes = await asyncio.gather(*map(size, files))
        return {path for path, found in zip(files, sizes, strict=True) if found == files[path].size}

    async def download(
        self,
        deliverable: Deliverable,
        path: Path,
        log: RequestLog,
        *,
        retrier: Retrier,
        slot: AbstractAsyncContextManager[None],
    ) -> SavedFile:
        """Download a file and put it into the storage, retried as the download is.

        Raises as `Downloader.download`.
        """
        if self._scratch is None:
            raise FileWriteError("the folder was not opened")
        local = Path(self._scratch.name, uuid4().hex)
        try:
            saved = await self._downloader.download(deliverable, local, log, retrier=retrier, slot=slot)
            await retrier(lambda: self._put(path, local), _is_unavailable, log)
        finally:
            await self._disk.run(lambda: local.unlink(missing_ok=True))
        return saved

    async def _put(self, path: Path, content: Path | bytes) -> None:
        try:
            await obstore.put_async(self._store, path.as_posix(), content)
        except _ERRORS as error:
            kind = FileWriteError if isinstance(error, _NOT_REPEATED) else _UnavailableError
            raise kind(f"{self._url}/{path.as_posix()} could not be written: {first_line(error)}") from None

    async def manifest(self, name: str) -> dict[str, Any]:
        """Return the manifest in a production's folder; empty without one. Raises FileWriteError."""
        try:
            found = await obstore.get_async(self._store, f"{name}/{MANIFEST}")
            return parsed_manifest(bytes(await found.bytes_async()))
        except (FileNotFoundError, NotFoundError):
            return {}
        except _ERRORS as error:
            raise FileWriteError(f"{self._url}/{name} cannot be read: {first_line(error)}") from None

    async def write_manifest(self, name: str, text: str) -> None:
        """Write the manifest, completely or not at all. Raises FileWriteError."""
        await self._put(Path(name, MANIFEST), text.encode())

    async def references(self) -> set[str]:
        """Return none: to read all manifests would take a request for each."""
        return set()


def _is_unavailable(error: JaraiError) -> bool:
    return isinstance(error, _UnavailableError)
