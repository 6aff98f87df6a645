"""Collects what a production made: the list, every file, and a manifest of them, in one folder."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve

from jarai_async._api import endpoints
from jarai_async._api.models import Deliverable, Production
from jarai_async._downloads.blob_storage import MAX_WAIT, is_replaced
from jarai_async._downloads.checksums import from_list
from jarai_async._downloads.file_names import file_name, folder_name, unique_names
from jarai_async._downloads.folder import MANIFEST
from jarai_async._errors import ApiError, DownloadError, FileWriteError, InvalidResponseError, JaraiError
from jarai_async._events import DeliverablesReady, Downloaded, Outcome, SavedFile
from jarai_async._http.retry import Retrier
from jarai_async._orchestrator.state import JobState
from jarai_async._urls import is_http_url, percent_encoded, url_parts

_NOT_YET = (404, 409, 425)  # inferred: the list may lag behind the status
_DELAYS_WHILE_LAGGING = (5, 15, 40, 60)  # seconds; after them an empty list, or a file without URL, counts


class Collector:
    """Collects the deliverables of one job."""

    __slots__ = ("_context", "_state")

    def __init__(self, state: JobState) -> None:
        self._state = state
        self._context = state.context

    async def forget_missing_files(self) -> None:
        """Forget the files that are not on the disk any more, or not whole."""
        files = self._state.files
        if not files:
            return  # without a pause: a job that is stopped during one has no outcome
        whole = await self._context.folder.whole(files)
        self._state.files = {path: saved for path, saved in files.items() if path in whole}

    async def collect(self, production: Production, *, final: bool) -> JaraiError | None:
        """List the deliverables and download each file that is not there yet; return what went wrong."""
        state, context = self._state, self._context
        known = state.files  # also those that are missing: they keep their names
        await self.forget_missing_files()
        # Final files are tried through an outage; files for review must not delay the next change.
        retrier = context.final_retrier if final else context.engine.downloader.retrier
        try:
            state.deliverables = tuple(await self._list(production, retrier, final=final))
            if not (final and state.final_list_published):
                state.emit(DeliverablesReady, deliverables=state.deliverables, final=final)
            if context.folder.location is not None:
                name = folder_name(state.reference, production.id)
                await context.folder.prepare(name, production.id)
                targets = _targets(context.folder.place(name), state.deliverables, known)
                await self._download_into(name, production, targets, retrier, final=final)
        except JaraiError as error:
            return error
        return None

    async def collected(self, outcome: Outcome, saved: Mapping[Path, SavedFile]) -> Outcome | None:
        """Return a recorded outcome with those of its files that are on the disk, whole.

        None if a file, or the manifest, is missing in the folder that the files are downloaded to.
        """
        production, folder = outcome.production, self._context.folder
        whole = await folder.whole({path: file for path, file in saved.items() if path in outcome.files})
        if production is not None and folder.location is not None:
            name = folder_name(self._state.reference, production.id)
            try:
                manifest = await folder.manifest(name)
            except FileWriteError:  # collecting it again says why
                return None
            own = [path for path in whole if path.parent == folder.place(name)]
            if not manifest or len(own) != len(outcome.deliverables):
                return None
        return evolve(outcome, files={path: outcome.files[path] for path in whole})

    async def _list(self, production: Production, retrier: Retrier, *, final: bool) -> Sequence[Deliverable]:
        """List the deliverables. At the end wait for two minutes for a list that lags behind the status.

        It waits longer if the API names a longer time, up to five minutes for each request.
        """
        engine, log = self._context.engine, self._state.log
        call = endpoints.deliverables(production.id)
        for delay in _DELAYS_WHILE_LAGGING if final else ():
            reason: JaraiError = InvalidResponseError("the list of deliverables is not complete yet")
            try:
                listed = await engine.sender.execute(call, log, retrier)
                if listed and all(map(_has_url, listed)):
                    return listed
            except ApiError as error:
                if error.status not in _NOT_YET:
                    raise
                reason = error
            wait = min(reason.retry_after or 0.0, MAX_WAIT)
            await engine.sender.pause(max(delay, wait), reason, log)
        return await engine.sender.execute(call, log, retrier)

    async def _download_into(
        self,
        name: str,
        production: Production,
        targets: dict[Path, Deliverable],
        retrier: Retrier,
        *,
        final: bool,
    ) -> None:
        state = self._state
        state.files = {
            path: saved
            for path, saved in state.files.items()
            if path in targets and _is_current(saved, targets[path])
        }
        missing = [path for path in targets if path not in state.files]
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._download(path, targets[path], retrier, final=final))
                for path in missing
            ]
        errors = [error for task in tasks if (error := task.result())]
        await self._context.folder.write_manifest(name, self._manifest(production, targets))
        if errors:
            message = f"{len(errors)} of {len(targets)} files could not be downloaded; the first: "
            raise DownloadError(message + errors[0].message, status=errors[0].status)

    async def _download(
        self, path: Path, deliverable: Deliverable, retrier: Retrier, *, final: bool
    ) -> JaraiError | None:
        state, context = self._state, self._context
        try:
            saved = await context.folder.download(
                deliverable, path, state.log, retrier=retrier, slot=context.download_slots
            )
        except JaraiError as error:
            return error
        state.files[path] = evolve(saved, final=final)
        state.emit(Downloaded, path=path, saved=state.files[path])
        return None

    def _manifest(self, production: Production, targets: dict[Path, Deliverable]) -> str:
        """Describe the folder, without signed URLs, which are secrets."""
        state = self._state
        facts: dict[str, Any] = {
            "reference": state.reference,
            "productionId": production.id,
            "accountId": state.request.account_id,
            "topic": state.request.topic,
            "files": [_entry(path, file, state.files.get(path)) for path, file in targets.items()],
        }
        return json.dumps(facts, indent=2) + "\n"


def _has_url(file: Deliverable) -> bool:
    return is_http_url(percent_encoded(file.url), https_only=False)


def _identity(file: Deliverable) -> tuple[str | None, ...]:
    """What stays the same of a file: its id, although another field cannot be read, or else what it is."""
    return (file.type, file.platform, file.file_name) if file.id is None else (file.id,)


def _targets(
    folder: Path, deliverables: Sequence[Deliverable], saved: Mapping[Path, SavedFile]
) -> dict[Path, Deliverable]:
    """Name the files. One that was saved, and can be recognised, keeps its name.

    Twins, of which the list says the same, get the same names in every list, whatever its order.
    """
    listed = [*map(_identity, deliverables)]
    own = {path.name: _identity(file.deliverable) for path, file in saved.items() if path.parent == folder}
    known = [*own.values()]
    kept = {key: name for name, key in own.items() if known.count(key) == listed.count(key) == 1}
    paths_of_twins = [
        url_parts(file.url).path if listed.count(_identity(file)) > 1 else "" for file in deliverables
    ]
    order = sorted(range(len(listed)), key=lambda n: (listed[n] not in kept, paths_of_twins[n]))  # kept first
    names = [kept.get(listed[n]) or file_name(deliverables[n]) for n in order]
    paths = [folder / name for name in unique_names([MANIFEST, *names])[1:]]
    return {path: deliverables[n] for n, path in sorted(zip(order, paths, strict=True))}


def _entry(path: Path, file: Deliverable, saved: SavedFile | None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "file": path.name,
        "complete": saved is not None,
        "type": file.type,
        "platform": file.platform,
    }
    if saved is not None:
        entry |= {"size": saved.size, "md5": saved.md5, "verifiedBy": saved.verified_by}
        if saved.content_encoding is not None:
            entry["contentEncoding"] = saved.content_encoding
    return entry


def _is_current(saved: SavedFile, listed: Deliverable) -> bool:
    """Whether a file is still the listed one. Of a file for review only a checksum can tell."""
    if saved.final:
        before = saved.deliverable
        return _identity(before) == _identity(listed) and not is_replaced(before, listed)
    return saved.md5 in {checksum.digest.hex() for checksum in from_list(listed)}
