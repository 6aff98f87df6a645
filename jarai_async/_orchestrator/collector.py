"""Collects what a production made: the list, every file, and a manifest of them, in one folder."""

import asyncio
import json
from pathlib import Path
from typing import Any

from jarai_async._api import endpoints
from jarai_async._api.models import Deliverable, Production
from jarai_async._downloads.file_names import file_name, safe_name, unique_names
from jarai_async._errors import DownloadError, JaraiError
from jarai_async._events import DeliverablesReady, Downloaded
from jarai_async._http.retry import Retrier
from jarai_async._orchestrator.state import JobState

MANIFEST = "manifest.json"


class Collector:
    """Collects the deliverables of one job."""

    __slots__ = ("_context", "_state")

    def __init__(self, state: JobState) -> None:
        self._state = state
        self._context = state.context

    async def collect(self, production: Production, *, final: bool) -> JaraiError | None:
        """List the deliverables and download each file that is not there yet; return what went wrong."""
        state, context = self._state, self._context
        # Final files are tried through an outage; files for review must not delay the next change.
        retrier = context.final_retrier if final else context.engine.downloader.retrier
        try:
            call = endpoints.deliverables(production.id)
            listed = await context.engine.sender.execute(call, state.log, retrier)
            state.deliverables = tuple(listed)
            if not (final and state.final_list_published):
                state.emit(DeliverablesReady, deliverables=state.deliverables, final=final)
            if context.folder is not None:
                folder = context.folder / folder_name(state.reference, production)
                await self._download_into(folder, retrier)
        except JaraiError as error:
            return error
        return None

    async def _download_into(self, folder: Path, retrier: Retrier) -> None:
        state = self._state
        names = unique_names([MANIFEST, *map(file_name, state.deliverables)])[1:]
        targets = {folder / name: file for name, file in zip(names, state.deliverables, strict=True)}
        missing = [path for path, file in targets.items() if not _is_current(state.files.get(path), file)]
        state.files = {p: file for p, file in state.files.items() if p in targets and p not in missing}
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._download(path, targets[path], retrier)) for path in missing]
        errors = [error for task in tasks if (error := task.result())]
        await self._context.engine.downloader.disk.write_text(folder / MANIFEST, self._manifest(targets))
        if errors:
            message = f"{len(errors)} of {len(targets)} files could not be downloaded; the first: "
            raise DownloadError(message + errors[0].message, status=errors[0].status)

    async def _download(self, path: Path, deliverable: Deliverable, retrier: Retrier) -> JaraiError | None:
        state, context = self._state, self._context
        try:
            await context.engine.downloader.download(
                deliverable, path, state.log, retrier=retrier, slot=context.download_slots
            )
        except JaraiError as error:
            return error
        state.files[path] = deliverable
        state.emit(Downloaded, deliverable=deliverable, path=path)
        return None

    def _manifest(self, targets: dict[Path, Deliverable]) -> str:
        """Describe the folder, without signed URLs, which are secrets."""
        state = self._state
        files = [
            {
                "file": path.name,
                "complete": path in state.files,
                "type": file.type,
                "platform": file.platform,
            }
            for path, file in targets.items()
        ]
        facts: dict[str, Any] = {
            "reference": state.reference,
            "productionId": state.deliverables[0].production_id if state.deliverables else None,
            "accountId": state.request.account_id,
            "topic": state.request.topic,
            "files": files,
        }
        return json.dumps(facts, indent=2) + "\n"


def folder_name(reference: str, production: Production) -> str:
    """Name the folder of a production: readable, and distinct even where references are not."""
    return f"{safe_name(reference)}-{production.id[:8]}"


def _is_current(before: Deliverable | None, now: Deliverable) -> bool:
    """Whether a file that was downloaded for review is still current: only a checksum can tell."""
    return before is not None and now.content_md5 is not None and before.content_md5 == now.content_md5
