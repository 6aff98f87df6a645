"""Collecting what a production made: the list, every file, and a manifest of them in one folder."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import frozen

from jarai_async._api import endpoints
from jarai_async._api.models import Deliverable, Production, ProductionRequest
from jarai_async._client import JaraiClient
from jarai_async._downloads import files
from jarai_async._downloads.file_names import file_name, safe_name, unique_names
from jarai_async._errors import DownloadError, JaraiError
from jarai_async._events import DeliverablesReady, Downloaded
from jarai_async._http.retry import Retrier
from jarai_async._ratelimit.meter import Meter

MANIFEST = "manifest.json"


@frozen
class Shelf:
    """Where the files of all productions go, and how patiently and how many at a time they are fetched."""

    client: JaraiClient
    folder: Path | None
    retrier: Retrier
    places: asyncio.Semaphore


class Collector:
    """Collects for one request. `tell` takes the kind and the fields of an event."""

    __slots__ = ("_meter", "_reference", "_request", "_shelf", "_tell", "deliverables", "files", "listed")

    def __init__(
        self,
        shelf: Shelf,
        request: ProductionRequest,
        reference: str,
        meter: Meter,
        tell: Callable[..., None],
    ) -> None:
        self.deliverables: tuple[Deliverable, ...] = ()
        self.files: dict[Path, Deliverable] = {}
        self.listed = False  # and told so, by an earlier process
        self._shelf = shelf
        self._request = request
        self._reference = reference
        self._meter = meter
        self._tell = tell

    async def collect(self, production: Production, *, final: bool) -> JaraiError | None:
        """List the deliverables and fetch each file that is not there yet; give what went wrong."""
        call = endpoints.deliverables(production.id)
        client = self._shelf.client
        # What is paid for outlasts an outage; what is for review must not keep the next change waiting.
        retrier = self._shelf.retrier if final else client.downloader.retrier
        try:
            found = await client._sender.execute(call, self._meter, retrier)
            self.deliverables = tuple(found)
            if not (final and self.listed):
                self._tell(DeliverablesReady, deliverables=self.deliverables, final=final)
            if self._shelf.folder is not None:
                await self._fetch_into(self._shelf.folder / folder_name(self._reference, production), retrier)
        except JaraiError as error:
            return error
        return None

    async def _fetch_into(self, folder: Path, retrier: Retrier) -> None:
        names = unique_names([MANIFEST, *map(file_name, self.deliverables)])[1:]
        targets = {folder / name: one for name, one in zip(names, self.deliverables, strict=True)}
        wanted = [path for path, one in targets.items() if not _is_the_same(self.files.get(path), one)]
        self.files = {path: one for path, one in self.files.items() if path in targets and path not in wanted}
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._fetch(path, targets[path], retrier)) for path in wanted]
        errors = [error for task in tasks if (error := task.result())]
        await files.write_text(folder / MANIFEST, self._manifest(targets))
        if errors:
            message = f"{len(errors)} of {len(targets)} files could not be fetched; the first: "
            raise DownloadError(message + errors[0].message, status=errors[0].status)

    async def _fetch(self, path: Path, deliverable: Deliverable, retrier: Retrier) -> JaraiError | None:
        shelf = self._shelf
        try:
            await shelf.client.downloader.download(
                deliverable, path, self._meter, retrier=retrier, slot=shelf.places
            )
        except JaraiError as error:
            return error
        self.files[path] = deliverable
        self._tell(Downloaded, deliverable=deliverable, path=path)
        return None

    def _manifest(self, targets: dict[Path, Deliverable]) -> str:
        """Say what is here: without signed URLs, which are secrets."""
        files = [
            {"file": path.name, "complete": path in self.files, "type": one.type, "platform": one.platform}
            for path, one in targets.items()
        ]
        production = self.deliverables[0].production_id if self.deliverables else None
        facts: dict[str, Any] = {
            "reference": self._reference,
            "productionId": production,
            "accountId": self._request.account_id,
            "topic": self._request.topic,
            "files": files,
        }
        return json.dumps(facts, indent=2) + "\n"


def folder_name(reference: str, production: Production) -> str:
    """Name a production's folder: readable, and distinct even where references are not."""
    return f"{safe_name(reference)}-{production.id[:8]}"


def _is_the_same(before: Deliverable | None, now: Deliverable) -> bool:
    """Whether a file fetched for review is still current: only a checksum can tell."""
    return before is not None and now.content_md5 is not None and before.content_md5 == now.content_md5
