"""Where an orchestrator puts files: in a folder for each production, on a disk or in object storage."""

import errno
import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

from jarai_async._api.models import Deliverable
from jarai_async._downloads.downloader import Downloader
from jarai_async._downloads.files import Disk, is_whole, remove_partial_files
from jarai_async._errors import FileWriteError
from jarai_async._events import SavedFile
from jarai_async._http.request_log import RequestLog
from jarai_async._http.retry import Retrier

MANIFEST: Final = "manifest.json"


class Folder(Protocol):
    """A place for files. `name` is that of the folder of one production, which `place` makes a path of."""

    @property
    def location(self) -> str | None:
        """The folder's path or URL; None if nothing is downloaded."""

    async def open(self) -> None:
        """Check that it can be used, and create it. Raises FileWriteError."""

    async def close(self) -> None:
        """Remove what is temporary."""

    def place(self, name: str) -> Path:
        """Return the path of a production's folder, as events have it."""
        ...

    async def prepare(self, name: str, production_id: str) -> None:
        """Check whose folder it is, and remove what was left there half-written. Raises FileWriteError."""

    async def whole(self, files: Mapping[Path, SavedFile]) -> set[Path]:
        """Return those of the files that are there, as they were saved."""
        ...

    async def download(
        self,
        deliverable: Deliverable,
        path: Path,
        log: RequestLog,
        *,
        retrier: Retrier,
        slot: AbstractAsyncContextManager[None],
    ) -> SavedFile:
        """Download a file: it is whole and verified, or absent. Raises as `Downloader.download`."""
        ...

    async def manifest(self, name: str) -> dict[str, Any]:
        """Return the manifest in a production's folder; empty without one. Raises FileWriteError."""
        ...

    async def write_manifest(self, name: str, text: str) -> None:
        """Write the manifest, completely or not at all. Raises FileWriteError."""

    async def references(self) -> set[str]:
        """Return the references of the productions that have a folder, as far as that is easy to know."""
        ...


class LocalFolder:
    """A folder on this machine, or one that several machines see. Without a path nothing is downloaded."""

    def __init__(self, path: Path | None, disk: Disk, downloader: Downloader) -> None:
        self._path = path
        self._disk = disk
        self._downloader = downloader

    @property
    def location(self) -> str | None:
        """Its path."""
        return None if self._path is None else str(self._path)

    async def open(self) -> None:
        """Create it. Raises FileWriteError."""
        if self._path is not None:
            await self._disk.make_folder(self._path)

    async def close(self) -> None:
        """Do nothing: nothing is temporary."""

    def place(self, name: str) -> Path:
        """Return the path of a production's folder."""
        return (self._path or Path()) / name

    async def prepare(self, name: str, production_id: str) -> None:
        """Check whose folder it is, and remove what was left there half-written. Raises FileWriteError."""
        await self._disk.run(lambda: _prepare(self.place(name), production_id))

    async def whole(self, files: Mapping[Path, SavedFile]) -> set[Path]:
        """Return those of the files that are there, as they were saved."""
        return await self._disk.run(lambda: {path for path, saved in files.items() if is_whole(path, saved)})

    async def download(
        self,
        deliverable: Deliverable,
        path: Path,
        log: RequestLog,
        *,
        retrier: Retrier,
        slot: AbstractAsyncContextManager[None],
    ) -> SavedFile:
        """Download a file to a path. Raises as `Downloader.download`."""
        return await self._downloader.download(deliverable, path, log, retrier=retrier, slot=slot)

    async def manifest(self, name: str) -> dict[str, Any]:
        """Return the manifest in a production's folder; empty without one. Raises FileWriteError."""
        return await self._disk.run(lambda: read_manifest(self.place(name) / MANIFEST))

    async def write_manifest(self, name: str, text: str) -> None:
        """Write the manifest, completely or not at all. Raises FileWriteError."""
        await self._disk.write_text(self.place(name) / MANIFEST, text)

    async def references(self) -> set[str]:
        """Return the references in all manifests; none if the folder cannot be read."""
        path = self._path
        if path is None:
            return set()
        with suppress(FileWriteError):  # the downloads say it
            return await self._disk.run(lambda: collected_references(path))
        return set()


def collected_references(folder: Path) -> set[str]:
    """Return the references of the productions that have a folder in this one. Blocking."""
    manifests = []
    for path in folder.glob(f"*/{MANIFEST}"):
        with suppress(OSError):
            manifests.append(read_manifest(path))
    return {str(manifest.get("reference")) for manifest in manifests}


def _prepare(folder: Path, production_id: str) -> None:
    """Check whose folder it is, and remove what an earlier process left there half-downloaded. Blocking."""
    if belongs_to_another(read_manifest(folder / MANIFEST), production_id):
        raise FileExistsError(errno.EEXIST, "the folder belongs to another production", str(folder))
    remove_partial_files(folder)


def belongs_to_another(manifest: Mapping[str, Any], production_id: str) -> bool:
    """Whether the manifest in a folder names another production."""
    return bool(manifest.get("productionId", production_id) != production_id)


def read_manifest(path: Path) -> dict[str, Any]:
    """Return a manifest, empty if there is none or the file is of another program. Blocking."""
    return parsed_manifest(path.read_bytes()) if path.is_file() else {}  # a pipe would be read for ever


def parsed_manifest(content: bytes) -> dict[str, Any]:
    """Return a manifest, empty if the content is something else."""
    manifest = None
    with suppress(ValueError, RecursionError):
        manifest = json.loads(content)
    return manifest if isinstance(manifest, dict) else {}
